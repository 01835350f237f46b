"""What Vast.ai's answers mean: JSON to our types, errors to the tree. Makes no request."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime

import httpx

from trainyard.clock import parse_time
from trainyard.clouds.marker import HOST_KEY_MARK, parse_label
from trainyard.clouds.protocol import PodInfo, PodStatus, SshAddress
from trainyard.clouds.values import json_object, mapping, number, price_of, text
from trainyard.errors import CloudError, CloudRefused, CloudUnknown, NoCapacity

NAME_MARK = "TRAINYARD_POD_NAME"
OUTBID = "outbid"
"""What we call an interruptible instance that was paused: the cloud has no word for it."""
_GONE = ("no_such_instance", "not_found")
_NO_OFFER = ("no_such_ask", "invalid_price")
_STATUS: Mapping[str, PodStatus] = {
    "": "accepted", "created": "starting", "loading": "starting", "running": "running", "exited": "exited", "stopped": "exited",
}  # fmt: skip
"""``unknown`` and ``offline`` are not here: the host is not heard of, and what runs on it may run on."""


def problem(response: httpx.Response) -> Mapping[str, object] | None:
    """Return the API's own word, None for anything else (a proxy's page, plain text): what it is short of differs by endpoint."""
    body = json_object(response)
    return body if body is not None and {"success", "error", "msg", "detail", "message"} & body.keys() else None


def code_of(response: httpx.Response) -> str:
    """Return the error's code, empty where the answer has none."""
    return text((problem(response) or {}).get("error")) or ""


def told_gone(response: httpx.Response) -> bool:
    """Tell whether Vast.ai itself says that there is no such instance, by code (a wrong key is answered with 404, too) or by ``null``."""
    body = json_object(response) or {}
    denied = (
        response.status_code == 200 and body.get("instances", body) is None and body.get("success") is not False and not body.get("error")
    )
    return denied or (response.status_code in (200, 404) and code_of(response) in _GONE)


def quota_spent(response: httpx.Response) -> bool:
    """Tell of a 429 that no waiting mends: the day's searches are used up."""
    return response.status_code == 429 and code_of(response) == "search_quota_exceeded"


def contract(response: httpx.Response) -> str | None:
    """Return the id of the instance that a create has made. An error may carry one: then the instance exists all the same."""
    instance = number((json_object(response) or {}).get("new_contract"))
    return str(int(instance)) if instance else None


def create_error(response: httpx.Response) -> CloudError:
    """Return what an answer to a create that made no instance means for the next step."""
    code, body, error = response.status_code, problem(response), code_of(response)
    detail = f"Vast.ai: {say(response)}"
    if code == 429 and "<" not in response.text[:1]:
        return CloudRefused(detail, hint="Nothing was created; try again in a minute.")  # often as plain text
    if body is None or code >= 500 or code in (408, 499):
        return CloudUnknown(f"Vast.ai gave no usable answer to the create request: {say(response)}")
    if code == 401 or error == "auth_error":
        return CloudRefused(detail, hint="Check VAST_API_KEY and its rights.")
    if error in _NO_OFFER or code in (403, 404, 410):
        return NoCapacity(detail)
    if 400 <= code < 500:
        return CloudRefused(detail)
    return CloudUnknown(f"Vast.ai accepted the create request without telling the instance's id ({say(response)})")


def refusal(response: httpx.Response, what: str) -> CloudError:
    """Return the error for an answer to anything but a create."""
    code, own = response.status_code, problem(response) is not None
    if own and (code in (401, 403) or code_of(response) == "auth_error"):
        return CloudRefused(f"Vast.ai refuses to {what}: {say(response)}", hint="Check VAST_API_KEY and its rights.")
    if quota_spent(response):
        return CloudRefused(f"Vast.ai refuses to {what}: {say(response)}", hint="Its quota of searches is for a day.")
    if own and 400 <= code < 500 and code not in (408, 409, 423, 425, 429):
        return CloudRefused(f"Vast.ai refuses to {what}: {say(response)}")
    return CloudUnknown(f"Vast.ai gave no usable answer when asked to {what}: {say(response)}")


def say(response: httpx.Response) -> str:
    """Return what an answer says in a line. What may hold a key (an answer of success) is never quoted."""
    body = problem(response)
    if body is None:
        kind = response.headers.get("Content-Type", "no content type").partition(";")[0]
        return f"HTTP {response.status_code}, not Vast.ai's own answer ({kind}): {response.text[:120] if response.is_error else ''!r}"
    words = [text(body.get(key)) for key in ("error", "msg", "message", "detail")]
    return f"HTTP {response.status_code}: " + (": ".join(word for word in words if word) or "no reason given")


def variables(row: Mapping[str, object]) -> dict[str, str]:
    """Return an instance's variables: Vast.ai lists them as pairs."""
    pairs = row.get("extra_env")
    rows = pairs if isinstance(pairs, list) else list(mapping(pairs).items())
    return {str(pair[0]): str(pair[1]) for pair in rows if isinstance(pair, list | tuple) and len(pair) == 2}


def pod_info(row: Mapping[str, object]) -> PodInfo:
    """Return one instance as the protocol knows it; only a missing id is an error."""
    instance = number(row.get("id"))
    if not instance:
        raise CloudUnknown("Vast.ai listed an instance without an id")
    env, shown = variables(row), str(row.get("label") or "")
    label = parse_label(shown)
    fence = env.get("TRAINYARD_FENCE_ID") or (label.name.fence_id if label else None)
    lease = env.get("TRAINYARD_LEASE_ID") or (label.name.lease_id if label else None)
    # A label may be moved to another lease by hand: then what the instance was made with holds. Stop and end move with the label.
    moved = label is not None and label.name.lease_id == lease
    stop = label.stop if label and moved else parse_time(env.get("TRAINYARD_STOP"))
    end = (label.end if label and moved else None) or parse_time(env.get("TRAINYARD_END"))
    status, raw = status_of(row)
    started = number(row.get("start_date"))
    return PodInfo(
        id=str(int(instance)),
        name=str(label.name) if label and moved else env.get(NAME_MARK) or shown,
        status=status,
        raw_status=raw,
        price_per_hour=price_of(row.get("dph_total")),
        created=datetime.fromtimestamp(started, UTC) if started else None,
        fence_id=fence,
        lease_id=lease,
        stop=stop,
        end=end,
        end_unreadable=(fence is not None or lease is not None) and end is None,
        ssh=ssh_address(row) if status == "running" else None,
        gpu=text(row.get("gpu_name")),
        gpu_count=int(number(row.get("num_gpus")) or 0),
        region=text(row.get("geolocation")),
        workspace=env.get("WORKSPACE") or "/workspace",
        host_key=env.get(HOST_KEY_MARK),
    )


def status_of(row: Mapping[str, object]) -> tuple[PodStatus, str]:
    """Return an instance's status, and the cloud's word for it: it has none for paused (outbid, no balance), all states are stopped."""
    actual = str(row.get("actual_status") or "")
    paused = all(row.get(state) == "stopped" for state in ("cur_state", "intended_status", "next_state"))
    if paused:
        return "exited", OUTBID if row.get("is_bid") is True else "stopped"
    return _STATUS.get(actual, "unknown"), actual or "being provisioned"


def ssh_address(row: Mapping[str, object]) -> SshAddress | None:
    """Return where sshd answers: directly; by the proxy, which is slow, only where a machine has no ports of its own."""
    host = (text(row.get("public_ipaddr")) or "").strip()
    mapped = mapping(row.get("ports")).get("22/tcp")
    port = text(mapping(mapped[0]).get("HostPort")) if isinstance(mapped, list) and mapped else None
    if host and port and port.isdigit():
        return SshAddress(host, int(port))
    return None if number(row.get("direct_port_count")) else proxy_address(row)


def proxy_address(row: Mapping[str, object]) -> SshAddress | None:
    """Return where Vast.ai's own proxy leads to an instance's sshd."""
    host, port = (text(row.get("ssh_host")) or "").strip(), number(row.get("ssh_port"))
    return SshAddress(host, int(port)) if host and port else None
