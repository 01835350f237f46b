"""What Prime Intellect's answers mean: JSON to our types, errors to the tree. Makes no request."""

from __future__ import annotations

from collections.abc import Mapping

import httpx

from trainyard.clock import parse_iso
from trainyard.clouds.marker import parse_name, parse_timed_name
from trainyard.clouds.protocol import PodInfo, PodStatus
from trainyard.clouds.values import fastapi_detail, json_object, mapping, number, price_of, text
from trainyard.clouds.vm import WORKSPACE, ssh_address
from trainyard.errors import CloudError, CloudRefused, CloudUnknown, NoCapacity

GONE = "TERMINATED"
_STATUS: Mapping[str, PodStatus] = {
    "PROVISIONING": "accepted",
    "PENDING": "starting",
    "ACTIVE": "running",
    "STOPPED": "exited",
    "ERROR": "error",
    "DELETING": "terminating",
    GONE: "terminating",
}
_NOT_NOW = (408, 409, 423, 425, 429)


def own_error(response: httpx.Response) -> str | None:
    """Return what the API itself says is wrong, in both of its shapes; None for anything else (a proxy's page)."""
    body = json_object(response) or {}
    errors = body.get("errors")
    if isinstance(errors, list) and errors:
        return "; ".join(f"{mapping(e).get('param')}: {mapping(e).get('details')}" for e in errors)
    return fastapi_detail(body)


def told_gone(response: httpx.Response) -> bool:
    """Tell whether the API itself says that there is no such thing."""
    return response.status_code == 404 and own_error(response) is not None


def create_error(response: httpx.Response) -> CloudError:
    """Return what an answer without a pod to a create means for the next step."""
    code, detail = response.status_code, own_error(response)
    if code == 429:  # turned away at the door, whoever keeps it
        return CloudRefused(f"Prime Intellect: {say(response)}", hint="Nothing was created; try again in a minute.")
    if detail is None or not 400 <= code < 500 or code in (408, 499):
        return CloudUnknown(f"Prime Intellect answered HTTP {code} to the create request: {say(response)}")
    if code in (401, 403):
        return CloudRefused(f"Prime Intellect: {detail}", hint="Check PRIME_API_KEY and, where it is set, PRIME_TEAM_ID.")
    if code == 402:
        return CloudRefused(f"Prime Intellect: {detail}", hint="The wallet does not cover this pod: add funds, or rent for less.")
    if code == 422:
        return CloudRefused(f"Prime Intellect does not understand the request: {detail}")
    # No code tells a broker's "no longer to be had" from anything else; another offer may be at another provider.
    return NoCapacity(f"Prime Intellect: {detail}")


def refusal(response: httpx.Response, what: str) -> CloudError:
    """Return the error for an answer to anything but a create."""
    code = response.status_code
    if own_error(response) is not None and 400 <= code < 500 and code not in _NOT_NOW:
        hint = "Check PRIME_API_KEY and its rights." if code in (401, 403) else None
        return CloudRefused(f"Prime Intellect refuses to {what}: HTTP {code}: {say(response)}", hint=hint)
    return CloudUnknown(f"Prime Intellect gave no usable answer when asked to {what}: HTTP {code}: {say(response)}")


def say(response: httpx.Response) -> str:
    """Return what an answer says in a line."""
    return own_error(response) or f"not its own answer: {response.text[:120]!r}"


def pod_info(pod: Mapping[str, object]) -> PodInfo:
    """Return one pod as the protocol knows it; only a missing id is an error. All its marks are in its name."""
    if not text(pod.get("id")):
        raise CloudUnknown("Prime Intellect listed a pod without an id")
    name, stop, end = parse_timed_name(str(pod.get("name") or ""))
    raw, parsed, install = str(pod.get("status") or ""), parse_name(name), str(pod.get("installationStatus") or "")
    status = _STATUS.get(raw, "unknown")
    if status == "running" and install != "FINISHED":
        # Active is the machine; what makes its SSH usable is installed after that.
        status = "error" if install in ("ERROR", "TERMINATED") else "starting"
    return PodInfo(
        id=str(pod["id"]),
        name=str(parsed or name),
        status=status,
        raw_status=f"{raw}, installation {install}" if raw == "ACTIVE" and install != "FINISHED" else raw,
        price_per_hour=price_of(pod.get("priceHr")),
        created=parse_iso(pod.get("createdAt")),
        fence_id=parsed.fence_id if parsed else None,
        lease_id=parsed.lease_id if parsed else None,
        stop=stop,
        end=end,
        end_unreadable=parsed is not None and end is None,
        ssh=ssh_address(pod.get("sshConnection")) if status == "running" else None,
        gpu=text(pod.get("gpuName")),
        gpu_count=int(number(pod.get("gpuCount")) or 0),
        workspace=_workspace(pod),
    )


def _workspace(pod: Mapping[str, object]) -> str:
    """Return where work is done: where an attached disk is mounted, else a folder of the machine's own disk."""
    attached = _list(pod.get("attachedResources"))
    return next((path for one in attached if (path := text(mapping(one).get("mountPath")))), WORKSPACE)


def hourly_now(pod: Mapping[str, object]) -> float | None:
    """Return what a pod costs an hour in its state: being provisioned, stopped (where that has a price of its own), running."""
    full, status = price_of(pod.get("priceHr")), str(pod.get("status"))
    if status == "PROVISIONING":
        return 0.0 if "provisioningPriceHr" not in pod else _or(price_of(pod.get("provisioningPriceHr")), full)
    return _or(price_of(pod.get("stoppedPriceHr")), full) if status == "STOPPED" else full


def _or(value: float | None, other: float | None) -> float | None:
    return other if value is None else value


def _list(value: object) -> list[object]:
    return value if isinstance(value, list) else []
