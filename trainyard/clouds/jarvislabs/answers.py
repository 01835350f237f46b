"""What JarvisLabs' answers mean: JSON to our types, errors to the tree. Makes no request.

Success is a member ``success`` or ``sucess``, true or ``"true"``; numbers may be texts, or ``""``; a missing instance is a 404, a
success that is false, or a success without an instance.
"""

from __future__ import annotations

import shlex
from collections.abc import Mapping

import httpx

from trainyard.clouds.marker import parse_name, parse_short_name
from trainyard.clouds.protocol import PodInfo, PodStatus, SshAddress
from trainyard.clouds.values import json_object, mapping, number, text
from trainyard.errors import CloudError, CloudRefused, CloudUnknown, NoCapacity

WORKSPACE = "/home/workspace"
"""The disk that is paid for is mounted at /home."""
_STATUS: Mapping[str, PodStatus] = {
    "Creating": "starting",
    "Resuming": "starting",
    "Running": "running",
    "Paused": "exited",
    "Failed": "error",
    "Destroying": "terminating",
}
_TAKES_A_WORD = "BbcDEeFIiJLlmOoPpQRSWw"
"""Options of ssh that have an argument."""


def success(body: Mapping[str, object]) -> bool | None:
    """Return whether an answer says that it went well; None where it does not say."""
    value = next((body[name] for name in ("success", "sucess") if name in body), None)
    if isinstance(value, str):
        return {"true": True, "false": False}.get(value.lower())
    return value if isinstance(value, bool) else None


def own_error(response: httpx.Response) -> str | None:
    """Return what the API itself says is wrong, in any of its shapes; None for anything else (a proxy's page)."""
    body = json_object(response) or {}
    detail = body.get("detail")
    if isinstance(detail, list) and detail:
        return "; ".join(f"{'.'.join(map(str, _list(mapping(e).get('loc'))))}: {mapping(e).get('msg')}" for e in detail)
    places = (body.get("message"), body.get("error"), mapping(detail).get("message"), detail)
    return next((words for one in places if (words := text(one))), None)


def told_gone(response: httpx.Response) -> bool:
    """Tell whether the API itself says that there is no such instance."""
    body = json_object(response)
    if body is None:
        return False
    if response.status_code == 404:
        return own_error(response) is not None
    well = success(body)
    return response.status_code == 200 and (well is False or (well is True and not body.get("instance")))


def create_error(response: httpx.Response) -> CloudError:
    """Return what an answer without a machine's id to a create means for the next step."""
    code, words = response.status_code, own_error(response)
    if code == 429:  # turned away at the door, whoever keeps it
        return CloudRefused(f"JarvisLabs: {say(response)}", hint="Nothing was created; try again in a minute.")
    if words is None or not 400 <= code < 500 or code in (408, 499):
        # A success that is false may come after the deed, too.
        return CloudUnknown(f"JarvisLabs answered HTTP {code} to the create request, without a machine's id: {say(response)}")
    if code == 401:
        return CloudRefused(f"JarvisLabs: {words}", hint="Check JL_API_KEY.")
    if code in (402, 403):
        return CloudRefused(f"JarvisLabs: {words}", hint="Check the account's balance, and the rights of its key.")
    if code in (404, 405, 422):
        return CloudRefused(f"JarvisLabs does not understand the request: {words}")
    # No code tells "none left" from anything else; another offer may be in another region.
    return NoCapacity(f"JarvisLabs: {words}")


def refusal(response: httpx.Response, what: str) -> CloudError:
    """Return the error for an answer to anything but a create."""
    code = response.status_code
    if own_error(response) is not None and code in (400, 401, 402, 403, 405, 422):
        hint = "Check JL_API_KEY and its rights." if code in (401, 403) else None
        return CloudRefused(f"JarvisLabs refuses to {what}: HTTP {code}: {say(response)}", hint=hint)
    return CloudUnknown(f"JarvisLabs gave no usable answer when asked to {what}: HTTP {code}: {say(response)}")


def say(response: httpx.Response) -> str:
    """Return what an answer says in a line."""
    return own_error(response) or f"not its own answer: {response.text[:120]!r}"


def machine_id(row: Mapping[str, object]) -> str | None:
    """Return an instance's id; None where there is none."""
    value = row.get("machine_id")
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else text(value)


def is_vm(row: Mapping[str, object]) -> bool:
    """Tell a virtual machine from a container."""
    return row.get("framework") == "vm"


def pod_info(row: Mapping[str, object], price: float | None = None) -> PodInfo:
    """Return one instance, whose price it does not tell itself; only a missing id is an error. All its marks are in its name."""
    pod_id = machine_id(row)
    if pod_id is None:
        raise CloudUnknown("JarvisLabs listed an instance without an id")
    name, stop, end = parse_short_name(str(row.get("instance_name") or ""))
    raw, parsed = str(row.get("status") or ""), parse_name(name)
    status = _STATUS.get(raw, "unknown")
    return PodInfo(
        id=pod_id,
        name=name,
        status=status,
        raw_status=raw,
        price_per_hour=price,
        created=None,
        fence_id=parsed.fence_id if parsed else None,
        lease_id=parsed.lease_id if parsed else None,
        stop=stop,
        end=end,
        end_unreadable=parsed is not None and end is None,
        # While it does not run, that of its last run may be shown, which is another machine's by now.
        ssh=_address(row) if status == "running" else None,
        gpu=text(row.get("gpu_type")),
        gpu_count=int(numeral(row.get("num_gpus")) or 0),
        region=text(row.get("region")),
        # A rehearsal's pod has another folder, and tells it.
        workspace=text(row.get("workspace")) or WORKSPACE,
    )


def ssh_address(command: object) -> SshAddress | None:
    """Return where an ``ssh`` command of any form leads, as root and to port 22 where it does not say; None for what is none."""
    try:
        words = shlex.split(command) if isinstance(command, str) else []
    except ValueError:
        return None
    host, user, port = "", "", 22
    rest = iter(words[1:] if words[:1] == ["ssh"] else [])
    for word in rest:
        if not word.startswith("-"):
            login, at, host = word.rpartition("@")
            user = login if at else user
            break
        if len(word) > 1 and word[1] in _TAKES_A_WORD:
            value = word[2:] or next(rest, "")
            user = value if word[1] == "l" else user
            if word[1] == "p":
                if not (value.isascii() and value.isdigit()):
                    return None
                port = int(value)
    return SshAddress(host, port, user or "root") if host and 0 < port < 65536 else None


def numeral(value: object) -> float | None:
    """Return a number that is one, or a text of one; an empty text is none."""
    if isinstance(value, str):
        try:
            value = float(value)
        except ValueError:
            return None
    return number(value)


def told_text(value: object) -> str | None:
    """Return a text that says something; the words None and null do not."""
    words = (text(value) or "").strip()
    return words if words.lower() not in ("", "none", "null") else None


def _address(row: Mapping[str, object]) -> SshAddress | None:
    if address := ssh_address(row.get("ssh_str")):
        return address
    ip = text(row.get("public_ip"))
    return SshAddress(ip, 22, "ubuntu") if ip and is_vm(row) else None


def _list(value: object) -> list[object]:
    return value if isinstance(value, list) else []
