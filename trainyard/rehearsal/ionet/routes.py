"""io.net's API for one of its services: what is free, deployments, what they consist of, logs."""

from __future__ import annotations

import uuid
from functools import partial
from typing import Any

from trainyard.clock import format_time
from trainyard.clouds.ionet.services import IonetService
from trainyard.jsontext import parse_json
from trainyard.rehearsal.ionet.stock import PLACES, TYPES, HardwareType, place_of, type_of
from trainyard.rehearsal.kit import Fleet, HttpProblem, NewPod, PodRecord, Reply, Request, Route
from trainyard.rehearsal.kit.ledger import Phase, gone

LEAVING = 0.5
"""Seconds for which a deployment that is to end is shown as such; from then on it is history, and is listed as that for good."""
PAGE = 100
STATUSES = ("running", "completed", "failed", "deployment requested", "termination requested", "destroyed")
_STATUS: dict[Phase, str] = {
    "PROVISIONING": "deployment requested", "STARTING": "deployment requested", "RUNNING": "running", "EXITED": "completed",
    "ERROR": "failed", "TERMINATED": "termination requested",
}  # fmt: skip


def row(service: IonetService, fleet: Fleet, record: PodRecord) -> dict[str, Any]:
    """Return a deployment as a list shows it: without price, creation and variables."""
    asked, kind = record["request"], _kind(record)
    served, remaining = _minutes(fleet, record)
    return {
        "id": record["id"], "status": _word(fleet, record), "name": record["name"],
        "completed_percent": round(100 * served / max(1, served + remaining), 1), "hardware_quantity": asked[service.gpus],
        "brand_name": kind.brand, "hardware_name": kind.name, "compute_minutes_served": served, "compute_minutes_remaining": remaining,
    }  # fmt: skip


def alone(service: IonetService, fleet: Fleet, record: PodRecord) -> dict[str, Any]:
    """Return a deployment as it is shown alone: without its name."""
    asked, kind, ended = record["request"], _kind(record), record.get("ended")
    shown = {name: value for name, value in row(service, fleet, record).items() if name not in ("name", "hardware_quantity")}
    place, config = place_of(asked["location_ids"][0]), asked.get("container_config", {})
    own: dict[str, Any] = {"ssh_keys": asked.get("ssh_keys") or {}, "github_ids": []}
    if not service.ssh:
        plain = {key: config.get(key) for key in ("entrypoint", "env_variables", "traffic_port")}
        secret = sorted(config.get("secret_env_variables", {}))
        own = {"container_config": {**plain, "image_url": record["image"], "secret_env_keys": secret}}
    moments = {"created_at": record["created"], "started_at": record["started"], "finished_at": ended}
    return {
        **shown, **{name: None if moment is None else format_time(fleet.clock(moment)) for name, moment in moments.items()},
        "amount_paid": round(record["price"] * asked["duration_hours"], 6), "total_gpus": asked[service.gpus],
        service.gpus: asked[service.gpus], f"total_{service.units}": 1, "hardware_id": kind.id,
        "locations": [place.shown()] if place else [], **own,
    }  # fmt: skip


def routes(service: IonetService) -> tuple[Route, ...]:
    """Return the routes of a service."""
    api = f"/enterprise/v1/io-cloud/{service.path}"
    handlers = (
        ("GET", "/deployments", "list", _listing),
        ("POST", "/deploy", "create", _create),
        ("GET", "/deployment/*", "get", _one),
        ("POST", "/deployment/*/extend", "extend", _extend),
        ("GET", f"/deployment/*/{service.units}", "units", _units),
        ("GET", f"/hardware/{service.most.replace('_', '-')}", "catalog", _hardware),
        ("GET", f"/{service.room}", "room", _rooms),
        ("GET", "/price", "price", _price),
    )
    return (
        *(Route(method, f"{api}{path}", call, partial(handle, service)) for method, path, call, handle in handlers),
        Route("DELETE", f"{api}/deployment/*", "delete", _delete),
        Route("GET", f"{api}/deployment/*/log/*", "log", _log),
    )


def _create(service: IonetService, fleet: Fleet, request: Request) -> Reply:
    body = request.json()
    _check(service, body)
    kind, place = type_of(body["hardware_id"]), place_of(body["location_ids"][0])
    if kind is None or place is None or body[service.gpus] > kind.most:
        raise HttpProblem(400, "Such hardware is not to be had there")
    if not _free(fleet, kind, place.id):
        raise fleet.cloud.refuse("no capacity")
    image = (body.get("registry_config") or {}).get("image_url", "Ubuntu")
    price = round(kind.price * place.factor * body[service.gpus], 6)
    record = fleet.create(NewPod(body, name=body["resource_private_name"], price=price, place=place.iso2, image=image))
    return Reply(200, {"status": "deployment requested", "deployment_id": record["id"]})


def _listing(service: IonetService, fleet: Fleet, request: Request) -> Reply:
    status, number = request.param("status"), int(request.param("page") or 0)
    size = fleet.page(min(PAGE, int(request.param("page_size") or 10)))
    rows = [row(service, fleet, record) for record in (*fleet.all(), *gone(fleet.ledger.root))]
    rows = [one for one in rows if status in (None, one["status"])]
    page = rows[number * size : (number + 1) * size]
    return Reply(200, {"data": {"deployments": page, "total": len(rows), "statuses": list(STATUSES)}})


def _one(service: IonetService, fleet: Fleet, request: Request) -> Reply:
    return Reply(200, {"data": alone(service, fleet, _any(fleet, request.id))})


def _extend(service: IonetService, fleet: Fleet, request: Request) -> Reply:
    record, hours = fleet.existing(request.id), request.json().get("duration_hours")
    if not isinstance(hours, int) or hours <= 0:
        raise HttpProblem(422, "Input should be greater than 0", errors=("duration_hours",))
    fleet.update(request.id, {"duration_hours": record["request"]["duration_hours"] + hours}, restart=False)
    return Reply(200, {"data": alone(service, fleet, record)})


def _units(service: IonetService, fleet: Fleet, request: Request) -> Reply:
    return Reply(200, {"data": {"total": 1, "workers": [_unit(service, fleet, _any(fleet, request.id))]}})


def _hardware(service: IonetService, fleet: Fleet, request: Request) -> Reply:
    rows = [
        {service.most: kind.most, "available": 8 * sum(_free(fleet, kind, place) for place in kind.places), "hardware_id": kind.id,
         "hardware_name": kind.name, "brand_name": kind.brand}
        for kind in TYPES
    ]  # fmt: skip
    return Reply(200, {"data": {"hardware": rows, "total": len(rows)}})


def _rooms(service: IonetService, fleet: Fleet, request: Request) -> Reply:
    kind = type_of(int(request.param("hardware_id") or 0))
    free = [{**place.shown(), "available_replicas": 8 if kind and _free(fleet, kind, place.id) else 0} for place in PLACES]
    return Reply(200, {"data": free})


def _price(service: IonetService, fleet: Fleet, request: Request) -> Reply:
    (location,) = parse_json(request.param("location_ids") or "[]")
    kind, place = type_of(int(request.param("hardware_id") or 0)), place_of(location)
    count, hours = int(request.param(service.gpus) or 1), int(request.param("duration_hours") or 1)
    if kind is None or place is None:
        raise HttpProblem(404, "Hardware not found")
    total = kind.price * place.factor * count * hours
    fees = {f"{fee}{unit}": 0 for fee in ("ionet_fee", "currency_conversion_fee") for unit in ("", "_percent")} | {"discount": 0}
    return Reply(200, {"data": {
        "replica_count": 1, service.gpus: count, "available_replica_count": [8], **fees, "total_cost_usdc": round(total, 6),
    }})  # fmt: skip


def _delete(fleet: Fleet, request: Request) -> Reply:
    if not fleet.delete(request.id, f"destroyed by {request.who}"):
        _any(fleet, request.id)
    return Reply(200, {"status": "termination requested", "deployment_id": request.id})


def _log(fleet: Fleet, request: Request) -> Reply:
    lines = fleet.log(fleet.existing(request.id)) if request.param("stream") != "stderr" else []
    return Reply(200, content_type="text/plain", chunks=["".join(f"{line}\n" for line in lines).encode()])


def _check(service: IonetService, body: Any) -> None:
    """Refuse what the specification does not allow, as FastAPI does."""
    own = {"vms_qty": int} if service.ssh else {"container_config": dict, "registry_config": dict}
    needed = {"resource_private_name": str, service.gpus: int, "hardware_id": int, "location_ids": list, "duration_hours": int, **own}
    body = body if isinstance(body, dict) else {}
    if wrong := [name for name, kind in needed.items() if not isinstance(body.get(name), kind)]:
        raise HttpProblem(422, "Field required", errors=wrong)
    extra = set(body) - {*needed, "node_pool_id", "ssh_keys", "github_ids", "vm_image_type", "network_services"}
    if extra or len(body["location_ids"]) != 1 or not 1 <= body[service.gpus] <= 8 or body["duration_hours"] < 1:
        raise HttpProblem(422, "Input is not allowed", errors=sorted(extra) or ("location_ids",))
    for part, fields in (("container_config", ("replica_count", "traffic_port")), ("registry_config", ("image_url",))):
        if part in own and (lacking := [name for name in fields if name not in body[part]]):
            raise HttpProblem(422, "Field required", errors=tuple(f"{part}.{name}" for name in lacking))


def _any(fleet: Fleet, pod_id: str) -> PodRecord:
    """Return a deployment, of today or of history."""
    return next((record for record in gone(fleet.ledger.root) if record["id"] == pod_id), None) or fleet.existing(pod_id)


def _word(fleet: Fleet, record: PodRecord) -> str:
    ended = record.get("ended")
    return "destroyed" if ended is not None and fleet.now() - ended > LEAVING else _STATUS[record["status"]]


def _minutes(fleet: Fleet, record: PodRecord) -> tuple[int, int]:
    """Return the minutes that were served and those that are paid for and left."""
    bought, started = 60 * record["request"]["duration_hours"], record["started"]
    until = record.get("ended") or fleet.now()
    served = 0 if started is None else min(bought, int(max(0.0, until - started) // 60))
    return served, bought - served


def _unit(service: IonetService, fleet: Fleet, record: PodRecord) -> dict[str, Any]:
    """Return the one container or machine of a deployment."""
    asked, kind, port = record["request"], _kind(record), fleet.port(record)
    created = format_time(fleet.clock(record["created"]))
    running, events = record["status"] == "RUNNING", [{"time": created, "message": line} for line in record["system"]]
    own: dict[str, Any] = {
        "network_services": {}, "ssh_access": f"ssh {record['user']}@127.0.0.1 -p {port}" if running and port else "",
    } if service.ssh else {"public_url": f"https://{record['id']}.example" if running else None}  # fmt: skip
    return {
        "device_id": str(uuid.uuid5(uuid.NAMESPACE_OID, record["id"])), f"{service.unit}_id": f"{service.unit}-{record['id'][:8]}",
        "hardware": kind.name, "brand_name": kind.brand, "created_at": created, "uptime_percent": 100.0 if running else 0.0,
        service.gpus: asked[service.gpus], "status": "running" if running else "pending", f"{service.unit}_events": events, **own,
    }  # fmt: skip


def _kind(record: PodRecord) -> HardwareType:
    kind = type_of(record["request"]["hardware_id"])
    assert kind is not None  # it was deployed
    return kind


def _free(fleet: Fleet, kind: HardwareType, place: int) -> bool:
    return place in kind.places and not {"*", kind.name, str(kind.id)} & fleet.sold_out()
