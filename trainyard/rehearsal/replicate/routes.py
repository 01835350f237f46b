"""Replicate's API: the account, hardware, versions, trainings and predictions."""

from __future__ import annotations

import re
import secrets
from functools import partial
from typing import Any

from trainyard.clock import format_time, parse_time
from trainyard.clouds.replicate.answers import parse_hardware
from trainyard.clouds.replicate.hardware import RATES
from trainyard.rehearsal.kit import Fleet, HttpProblem, NewPod, PodRecord, Reply, Request, Route
from trainyard.rehearsal.kit.ledger import Phase, gone

PAGE = 100
INPUTS = ("pod", "hardware", "command", "env", "secrets")
_REDACTED = "This value was redacted after being sent to the model."
_COUNTS = (1, 2, 4, 8)
_WORDS: dict[Phase, str] = {
    "PROVISIONING": "starting", "STARTING": "starting", "RUNNING": "processing", "ERROR": "failed", "TERMINATED": "canceled",
}  # fmt: skip
_DURATION = re.compile(r"(?:(\d+)h)?(?:(\d+)m)?(?:(\d+)s?)?")


def show(fleet: Fleet, record: PodRecord) -> dict[str, Any]:
    """Return a training or a prediction as the API shows it."""
    asked, ended = record["request"], record.get("ended")
    kind, word = asked["kind"], _word(fleet, record)
    api = f"{fleet.machines.address}/v1/{kind}/{record['id']}"
    log = fleet.log(record)
    moments = {"started_at": record["started"], "completed_at": ended}
    shown = {
        "id": record["id"], "model": asked["model"], "version": asked["version"], "status": word, "source": "api",
        "input": {**asked["input"], "secrets": _REDACTED}, "logs": "".join(f"{line}\n" for line in log),
        "error": (log or ["the model could not be started"])[-1] if word == "failed" else None,
        "created_at": format_time(fleet.clock(record["created"])),
        **{name: format_time(fleet.clock(moment)) for name, moment in moments.items() if moment is not None},
        "urls": {"web": f"https://replicate.com/p/{record['id']}", "get": api, "cancel": f"{api}/cancel"}, "metrics": {},
    }  # fmt: skip
    if kind == "trainings":
        return shown | ({"output": {"weights": "https://replicate.delivery/note.json"}} if word == "succeeded" else {})
    return shown | {"output": "ended" if word == "succeeded" else None, "data_removed": False}


def seconds_of(text: str) -> float | None:
    """Return what a duration of the API's says (``1h30m``, ``90``); None for none."""
    match = _DURATION.fullmatch(text)
    hours, minutes, seconds = (int(part or 0) for part in match.groups()) if match and text else (0, 0, 0)
    return hours * 3600.0 + minutes * 60 + seconds or None


def new_id() -> str:
    """Return an id as Replicate makes them."""
    return "".join(secrets.choice("abcdefghijklmnopqrstuvwxyz234567") for _ in range(26))


def _word(fleet: Fleet, record: PodRecord) -> str:
    code = record.get("exit_code")
    died = record["status"] == "EXITED" or (bool(record.get("deleting")) and record["status"] != "TERMINATED")
    if code is None:
        return "failed" if died else _WORDS[record["status"]]
    deadline = record["request"]["deadline"]
    over = deadline is not None and fleet.now() >= record["created"] + deadline
    return "succeeded" if code == 0 else "canceled" if over and code == 137 else "failed"


def _create(kind: str, fleet: Fleet, request: Request) -> Reply:
    body = request.json()
    body = body if isinstance(body, dict) else {}
    needed = ("destination", "input") if kind == "trainings" else ("version", "input")
    lacking = [name for name in needed if not body.get(name)]
    lacking += [f"input.{name}" for name in INPUTS if not isinstance((body.get("input") or {}).get(name), str)]
    extra = set(body) - {*needed, "webhook", "webhook_events_filter", *(("stream",) if kind == "predictions" else ())}
    said = parse_hardware(body["input"]["hardware"]) if not lacking else None
    if lacking or extra or said is None:
        raise HttpProblem(422, f"- {', '.join([*lacking, *sorted(extra)]) or 'input.hardware'}: is required, or not allowed")
    model, _, version = str(body["version"]).rpartition(":") if kind == "predictions" else ("/".join(request.ids[:2]), "", request.ids[2])
    rate = next(rate for rate in RATES if rate.shown == said.gpu)
    deadline = seconds_of(request.headers.get("cancel-after", ""))
    kept = {**body, "kind": kind, "model": model or "of/its-version", "version": version, "deadline": deadline}
    new = NewPod(kept, name=body["input"]["pod"], price=said.count * (rate.per_second or 0.0) * 3600)
    return Reply(201, show(fleet, fleet.create(new)))


def _listing(kind: str, fleet: Fleet, request: Request) -> Reply:
    after, begin = parse_time(request.param("created_after")), int(request.param("cursor") or 0)
    records = [record for record in (*fleet.all(), *gone(fleet.ledger.root)) if record["request"]["kind"] == kind]
    records.sort(key=lambda record: -record["created"])
    records = [record for record in records if after is None or fleet.clock(record["created"]) >= after.timestamp()]
    size = fleet.page(PAGE)
    more = f"{fleet.machines.address}/v1/{kind}?cursor={begin + size}" if begin + size < len(records) else None
    return Reply(200, {"next": more, "previous": None, "results": [show(fleet, record) for record in records[begin : begin + size]]})


def _one(kind: str, fleet: Fleet, request: Request) -> Reply:
    return Reply(200, show(fleet, _any(kind, fleet, request.id)))


def _cancel(kind: str, fleet: Fleet, request: Request) -> Reply:
    record = _any(kind, fleet, request.id)
    fleet.delete(record["id"], f"cancelled by {request.who}")
    return Reply(200, show(fleet, _any(kind, fleet, request.id)))


def _any(kind: str, fleet: Fleet, pod_id: str) -> PodRecord:
    """Return a job, of today or of history."""
    record = next((one for one in gone(fleet.ledger.root) if one["id"] == pod_id), None) or fleet.existing(pod_id)
    if record["request"]["kind"] != kind:
        raise fleet.cloud.refuse("not found")
    return record


def _version(fleet: Fleet, request: Request) -> Reply:
    wrapper = {"type": "object", "properties": {name: {"type": "string"} for name in INPUTS}}
    schema = {"components": {"schemas": {"Input": wrapper, "TrainingInput": wrapper}}}
    return Reply(200, {"id": request.ids[2], "created_at": "2026-11-01T00:00:00Z", "cog_version": "0.16.0", "openapi_schema": schema})


def _hardware(fleet: Fleet, request: Request) -> Reply:
    counted = ((rate, count) for rate in RATES if rate.per_second for count in _COUNTS)
    rows = [
        {"name": f"{count}x Nvidia {rate.shown} GPU" if count > 1 else f"Nvidia {rate.shown} GPU",
         "sku": f"gpu-{rate.id.lower()}" + (f"-{count}x" if count > 1 else "")}
        for rate, count in counted
    ]  # fmt: skip
    return Reply(200, [{"name": "CPU", "sku": "cpu"}, *rows])


def _account(fleet: Fleet, request: Request) -> Reply:
    return Reply(200, {"type": "user", "username": "rehearsal", "name": "A rehearsal"})


def _jobs(kind: str) -> tuple[Route, ...]:
    handlers = (("GET", "", "list", _listing), ("GET", "/*", "get", _one), ("POST", "/*/cancel", "delete", _cancel))
    return tuple(Route(method, f"/v1/{kind}{path}", call, partial(handle, kind)) for method, path, call, handle in handlers)


ROUTES = (
    Route("GET", "/v1/account", "account", _account),
    Route("GET", "/v1/hardware", "catalog", _hardware),
    Route("GET", "/v1/models/*/*/versions/*", "version", _version),
    Route("POST", "/v1/models/*/*/versions/*/trainings", "create", partial(_create, "trainings")),
    Route("POST", "/v1/predictions", "create", partial(_create, "predictions")),
    *_jobs("trainings"),
    *_jobs("predictions"),
)
