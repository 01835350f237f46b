"""Vast.ai as the kit takes it: its words, what it puts into an instance, its own traps."""

from __future__ import annotations

import base64
import secrets
from collections.abc import Callable, Mapping
from typing import Any

from trainyard.clouds.vast.answers import pod_info
from trainyard.pod.boot import boot_command, starts_watchdog_itself
from trainyard.rehearsal.kit import (
    FAULTS,
    Container,
    EmulatedCloud,
    ErrorAnswer,
    GpuFacts,
    Machines,
    PodFields,
    PodRecord,
    Reply,
    Window,
    reply,
)
from trainyard.rehearsal.vast.routes import ROUTES, show
from trainyard.rehearsal.vast.stock import ask_of

HASTE = 50.0
"""By what the emulator's intervals between requests are shorter than the real ones."""
INTERVALS = {"create": 4.5, "delete": 3.0, "get": 2.0, "manage": 1.0, "list": 1.0, "names": 3.0}
"""The real ones, in seconds."""
_IN_TEXT = ("create", "delete", "manage")
"""Endpoints that turn a request away with plain text; the others do it with JSON."""
_FREQUENT = "API requests too frequent"
_CODES = {401: "auth_error", 403: "not_authorized", 404: "not_found"}
TRAPS = (
    reply("create-makes-one-all-the-same", "contract", "an error body that carries a contract: the instance exists"),
    reply("create-410", "create", "the offer cannot start at once", status=410,
          body={"success": False, "error": "no_such_ask", "msg": "error 410/3907: no_such_ask Instance type is no longer available."}),
    reply("create-too-frequent", "create", "429 as plain text", status=429, raw=f"{_FREQUENT}: endpoint threshold=4.5"),
    reply("list-too-frequent", "list", "429 as plain text", status=429, raw=_FREQUENT),
    reply("delete-too-frequent", "delete", "429 as plain text", status=429, raw=_FREQUENT),
    reply("delete-no-such-instance", "delete", "another word for gone, and the instance lives on", status=404,
          body={"success": False, "error": "no_such_instance"}),
    reply("get-key-404", "get", "a wrong key is answered with 404", status=404,
          body={"success": False, "error": "auth_error", "msg": "Invalid user key"}),
    reply("search-quota", "catalog", "the day's searches are used up", status=429,
          body={"success": False, "error": "search_quota_exceeded", "msg": "Daily search quota exceeded"}),
)  # fmt: skip
"""What only Vast.ai does."""


def client_env(address: str, key: str) -> dict[str, str]:
    """Return the variables that lead a client of Vast.ai here, at the emulator's pace."""
    return {
        "VAST_API_KEY": key, "VAST_URL": address, "VAST_SETTLE_SECONDS": "2", "VAST_POST_SECONDS": "20", "VAST_HASTE": f"{HASTE:g}",
    }  # fmt: skip


def container(machines: Machines, record: PodRecord) -> Container:
    """Return what Vast.ai puts into an instance: the request's variables, its own, and the start script beside its own entrypoint."""
    request: Mapping[str, Any] = record["request"]
    asked: Mapping[str, str] = request["env"]
    ask = ask_of(request["ask"])
    env = {key: value for key, value in asked.items() if not key.startswith("-p ") and key != "SSH_HOST_ED25519_KEY"}
    own = {
        "CONTAINER_ID": record["id"], "VAST_CONTAINERLABEL": f"C.{record['id']}", "CONTAINER_API_KEY": record["key"],
        "PUBLIC_IPADDR": "127.0.0.1", "GPU_COUNT": str(ask.count if ask else 0),
    }  # fmt: skip
    # Our image has the watchdog in a file that its start names; a local pod has not.
    baked = boot_command()[2] if starts_watchdog_itself(request["image"]) else ""
    # The emulator may have come back at another address than the one that the request was sent to.
    return Container(
        env={**env, "VAST_URL": machines.address, **{key: value for key, value in own.items() if value}},
        public_key=asked.get("PUBLIC_KEY", ""),
        host_key=base64.b64decode(asked.get("SSH_HOST_ED25519_KEY", "")).decode(),
        boot=("sh", "-c", f"{baked}{request.get('onstart') or ':'}\nexec sleep infinity"),
        gpu=GpuFacts(f"NVIDIA {ask.gpu}", ask.ram / 1024, ask.count, _version(ask.cuda)) if ask else None,
    )


def error_reply(answer: ErrorAnswer) -> Reply:
    """Return an error in Vast.ai's form."""
    if answer.status == 429:
        said = f"{_FREQUENT}: endpoint threshold={INTERVALS[answer.code]}" if answer.code in INTERVALS else _FREQUENT
        return Reply(429, said, content_type="text/plain") if answer.code in _IN_TEXT else Reply(429, {"detail": said})
    return Reply(answer.status, {"success": False, "error": answer.code or _CODES.get(answer.status, "error"), "msg": answer.detail})


def _version(cuda: float) -> tuple[int, int]:
    major, _, minor = f"{cuda:.1f}".partition(".")
    return int(major), int(minor)


def _marks(end: str | None) -> Callable[[dict[str, Any], PodFields], dict[str, Any]]:
    """Return a change of what says when an instance ends, in its variables and in its label."""

    def change(row: dict[str, Any], _: PodFields) -> dict[str, Any]:
        pairs = [[key, value] for key, value in row["extra_env"] if key != "TRAINYARD_END"]
        name, stop, *_rest = [*str(row["label"]).split(), "", ""]
        label = " ".join((name, stop, end) if end else (name,))
        return {**row, "extra_env": pairs + ([["TRAINYARD_END", end]] if end else []), "label": label}

    return change


def _with(**changes: Any) -> Callable[[dict[str, Any], PodFields], dict[str, Any]]:
    return lambda row, _: {**row, **changes}


_PAUSED = {"actual_status": "exited", "cur_state": "stopped", "next_state": "stopped", "intended_status": "stopped", "ports": None}
VAST = EmulatedCloud(
    name="vast",
    title="Vast.ai",
    real=("vast.ai",),
    addresses=("VAST_URL",),
    client_env=client_env,
    routes=ROUTES,
    error_reply=error_reply,
    refusals={
        "no capacity": ErrorAnswer(410, "error 410/3907: no_such_ask Instance type is no longer available.", "no_such_ask"),
        "rule broken": ErrorAnswer(400, "error 400/3467: Invalid args", "invalid_args"),
        "no balance": ErrorAnswer(400, "error 400/3612: Your account lacks credit", "insufficient_credit"),
        "forbidden": ErrorAnswer(403, "error 403/3586: Hosts can only rent their own machines.", "invalid_args"),
        "unauthorized": ErrorAnswer(401, "Invalid user key", "auth_error"),
        "not found": ErrorAnswer(404, "Instance not found", "not_found"),
    },
    show=show,
    read=pod_info,
    fields=PodFields(
        listing="instances", single="instances", name="label", status="actual_status", price="dph_total", created="start_date",
        env="extra_env", may_be_null=("status_msg", "uptime_mins"),
    ),
    deleted=(200, {"success": True}),
    container=container,
    new_id=lambda: str(10_000_000 + secrets.randbelow(89_999_999)),
    pod_key=lambda pod_id: f"{pod_id}-{secrets.token_hex(24)}",
    limits=tuple(Window(call, seconds / HASTE, 1, call) for call, seconds in INTERVALS.items()),
    faults=(*FAULTS, *TRAPS),
    changes={
        "exited": _with(actual_status="exited", ports=None),
        "offline": _with(actual_status="offline", ports=None),
        "outbid": _with(**_PAUSED, is_bid=True),
        "wrong types": _with(ports=1, extra_env="x", num_gpus=[], geolocation={}, public_ipaddr=5, ssh_port="x", status_msg=[]),
        "end missing": _marks(None),
        "end unreadable": _marks("tomorrow"),
        "end far": _marks("2999-01-01T00:00:00Z"),
    },
    hidden=("VAST_",),
)  # fmt: skip
