"""What Lambda's answers mean: JSON to our types, error codes to the tree; its messages may change, its codes decide. Makes no request."""

from __future__ import annotations

import re
from collections.abc import Mapping

import httpx

from trainyard.clock import parse_time
from trainyard.clouds.marker import parse_name
from trainyard.clouds.protocol import PodInfo, PodStatus, SshAddress
from trainyard.clouds.values import json_object, mapping, number, price_of, text
from trainyard.clouds.vm import WORKSPACE
from trainyard.errors import CloudError, CloudRefused, CloudUnknown, NoCapacity

TAG = "trainyard-"
"""How the keys of our tags begin; what a pod's environment tells elsewhere stands in them."""
GONE = "terminated"
NO_CAPACITY = "instance-operations/launch/insufficient-capacity"
ABSENT = "global/object-does-not-exist"
_HINTS = {
    "global/invalid-api-key": "Check LAMBDA_API_KEY.",
    "global/quota-exceeded": "The account's quota is used up: end an instance, or ask Lambda for a larger one.",
    "global/account-inactive": "Lambda's dashboard says what the account lacks.",
    "global/invalid-address": "The account's billing address is not accepted; see Lambda's dashboard.",
}
_UPSTREAM = ("provider/", "global/internal-error")
"""What went wrong behind Lambda's own door: nobody knows how far it came."""
_STATUS: Mapping[str, PodStatus] = {
    "booting": "starting",
    "active": "running",
    "unhealthy": "running",
    "preempted": "exited",
    "terminating": "terminating",
    GONE: "terminating",
}
_ADDRESS = re.compile(r"(?:([^@\s]+)@)?([^:@\s]+)(?::(\d+))?")


def error_code(response: httpx.Response) -> str | None:
    """Return the code of Lambda's own error, None for anything else (a proxy's page)."""
    return text(mapping((json_object(response) or {}).get("error")).get("code"))


def told_gone(response: httpx.Response) -> bool:
    """Tell whether Lambda itself says that there is no such thing."""
    return response.status_code == 404 and error_code(response) == ABSENT


def create_error(response: httpx.Response) -> CloudError:
    """Return what an answer without an instance to a launch means for the next step."""
    code = error_code(response)
    if code == NO_CAPACITY:
        return NoCapacity(f"Lambda: {say(response)}")
    if response.status_code == 429:  # turned away at the door, whoever keeps it
        return CloudRefused(f"Lambda: {say(response)}", hint="Nothing was created; try again in a minute.")
    if code is None or code.startswith(_UPSTREAM) or not 400 <= response.status_code < 500:
        return CloudUnknown(f"Lambda answered HTTP {response.status_code} to the launch: {say(response)}")
    return CloudRefused(f"Lambda: {say(response)}", hint=_HINTS.get(code))


def refusal(response: httpx.Response, what: str) -> CloudError:
    """Return the error for an answer to anything but a launch."""
    code, status = error_code(response), response.status_code
    if code is not None and 400 <= status < 500 and status != 409 and not code.startswith(_UPSTREAM):
        return CloudRefused(f"Lambda refuses to {what}: {say(response)}", hint=_HINTS.get(code))
    return CloudUnknown(f"Lambda gave no usable answer when asked to {what}: HTTP {status}: {say(response)}")


def say(response: httpx.Response) -> str:
    """Return what an answer says in a line: Lambda's own words and their code, else the start of its text."""
    error = mapping((json_object(response) or {}).get("error"))
    if text(error.get("code")) is None:
        return f"not Lambda's own answer: {response.text[:120]!r}"
    return " ".join(filter(None, (text(error.get("message")), text(error.get("suggestion")), f"({error['code']})")))


def pod_info(instance: Mapping[str, object]) -> PodInfo:
    """Return one instance as the protocol knows it; only a missing id is an error."""
    if not text(instance.get("id")):
        raise CloudUnknown("Lambda listed an instance without an id")
    tags = _tags(instance)
    raw, name = str(instance.get("status") or ""), tags.get("name") or str(instance.get("name") or "")
    parsed, kind = parse_name(name), mapping(instance.get("instance_type"))
    fence = tags.get("fence") or (parsed.fence_id if parsed else None)
    lease = tags.get("lease") or (parsed.lease_id if parsed else None)
    end = parse_time(tags.get("end"))
    gpus = int(number(mapping(kind.get("specs")).get("gpus")) or 0)
    return PodInfo(
        id=str(instance["id"]),
        name=str(parsed or name),
        status=_STATUS.get(raw, "unknown"),
        raw_status=raw,
        price_per_hour=hourly(kind),
        created=parse_time(tags.get("created")),
        fence_id=fence,
        lease_id=lease,
        stop=parse_time(tags.get("stop")),
        end=end,
        end_unreadable=(fence is not None or lease is not None) and end is None,
        ssh=ssh_address(text(instance.get("ip"))) if raw in ("active", "unhealthy") else None,
        gpu=text(kind.get("gpu_description")) if gpus else None,
        gpu_count=gpus,
        region=text(mapping(instance.get("region")).get("name")),
        workspace=tags.get("workspace") or WORKSPACE,
        host_key=tags.get("host-key"),
        volume=tags.get("volume"),
    )


def ssh_address(ip: str | None) -> SshAddress | None:
    """Return where sshd answers: user ubuntu, port 22. A rehearsal's machines share one address: there it tells user and port, too."""
    match = _ADDRESS.fullmatch(ip or "")
    return SshAddress(match[2], int(match[3] or 22), match[1] or "ubuntu") if match else None


def hourly(instance_type: Mapping[str, object]) -> float | None:
    """Return the dollars an hour of a type of instance."""
    cents = price_of(instance_type.get("price_cents_per_hour"))
    return None if cents is None else cents / 100


def _tags(instance: Mapping[str, object]) -> dict[str, str]:
    listed = instance.get("tags")
    tags = [mapping(tag) for tag in listed] if isinstance(listed, list) else []
    return {str(tag.get("key")).removeprefix(TAG): str(tag.get("value")) for tag in tags if str(tag.get("key")).startswith(TAG)}
