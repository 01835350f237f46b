"""Vast.ai's API: searches, instances over pages, labels, logs that lie in a store, the bill."""

from __future__ import annotations

import base64
import json
import time
from typing import Any

from trainyard.jsontext import parse_json
from trainyard.rehearsal.kit import Fleet, HttpProblem, NewPod, PodRecord, Reply, Request, Route
from trainyard.rehearsal.vast.stock import ASKS, HOURS_A_MONTH, ask_of, search

PAGE = 25
LONGEST_START = 4048
"""Characters that ``onstart`` may have."""
LONGEST_LABEL = 1024
UPLOAD = 0.3
"""Seconds until a log lies in the store."""
_WORDS = {"PROVISIONING": None, "STARTING": "loading", "RUNNING": "running", "EXITED": "exited", "ERROR": "created"}
_BALANCE = 25.0


def show(fleet: Fleet, record: PodRecord) -> dict[str, Any]:
    """Return an instance."""
    asked, stopped, port = record["request"], record["status"] == "EXITED", fleet.port(record)
    ask = ask_of(asked["ask"]) or ASKS[0]
    state = "stopped" if stopped else "running"
    failed = "OCI runtime create failed: exec failed" if record["status"] == "ERROR" else None
    return {
        "id": int(record["id"]), "label": asked["label"], "actual_status": _WORDS.get(record["status"]), "cur_state": state,
        "next_state": state, "intended_status": state, "status_msg": failed or next(reversed(record["system"]), None),
        "image_uuid": record["image"], "image_runtype": "ssh ssh_direc ssh_proxy", "image_args": [],
        "extra_env": [[key, value] for key, value in asked["env"].items()], "onstart": asked.get("onstart"),
        "ssh_host": "127.0.0.1", "ssh_idx": "5", "ssh_port": port or 10000 + int(record["id"]) % 10000, "machine_dir_ssh_port": 21000,
        "public_ipaddr": "127.0.0.1 \n", "local_ipaddrs": "10.0.0.5 \n", "direct_port_count": 4,
        "ports": {"22/tcp": [{"HostIp": "0.0.0.0", "HostPort": str(port)}]} if port else {} if record["status"] == "RUNNING" else None,
        "machine_id": ask.id % 1000, "host_id": ask.id % 100, "is_bid": record["spot"], "min_bid": ask.least_bid,
        "dph_base": ask.base, "dph_total": record["price"], "storage_cost": ask.storage, "storage_total_cost": asked["storage"],
        "start_date": fleet.clock(record["created"]), "end_date": fleet.clock(record["created"]) + ask.days * 86400,
        "duration": ask.days * 86400, "uptime_mins": None, "gpu_name": ask.gpu, "gpu_ram": ask.ram, "num_gpus": ask.count,
        "disk_space": float(asked["disk"]), "verification": "verified" if ask.verified else "unverified", "geolocation": ask.place,
        "static_ip": True, "rentable": False, "cpu_arch": "amd64", "external": False,
    }  # fmt: skip


def _search(fleet: Fleet, request: Request) -> Reply:
    sold_out, asked = fleet.sold_out(), request.json()
    if not isinstance(asked, dict):
        raise HttpProblem(400, "Invalid json body", "invalid_request")
    rows = search(asked, _taken(fleet), fleet.clock())
    return Reply(200, {"offers": [row for row in rows if not sold_out & {"*", row["gpu_name"], row["geolocation"]}]})


def _names(fleet: Fleet, request: Request) -> Reply:
    counts = {ask.gpu: sum(other.gpu == ask.gpu for other in ASKS) for ask in ASKS}
    return Reply(200, {"success": True, "gpus": [{"gpu_name": gpu, "total": count, "available": count} for gpu, count in counts.items()]})


def _create(fleet: Fleet, request: Request) -> Reply:
    body, ask = request.json(), ask_of(request.id)
    _check(body)
    if ask is None or str(ask.id) in _taken(fleet):
        msg = f"error 404/3603: no_such_ask Instance type by id {request.id} is not available."
        raise HttpProblem(404, msg, "invalid_args")
    if fleet.sold_out() & {"*", ask.gpu, ask.place}:
        raise fleet.cloud.refuse("no capacity")
    disk, price = float(body.get("disk", 8.0)), body.get("price")
    if price is not None and not 0.001 <= price <= 128.0:
        raise HttpProblem(400, "error 400/3514: Invalid price", "invalid_price")
    storage = ask.storage * disk / HOURS_A_MONTH
    keep = {name: body[name] for name in ("image", "onstart", "runtype", "image_login") if name in body}
    label, env = str(body.get("label") or ""), dict(body.get("env") or {})
    kept = {**keep, "ask": str(ask.id), "label": label, "env": env, "disk": disk, "storage": storage}
    total = round((price if price is not None else ask.base) + storage, 6)
    first = label.split(" ")[0]
    record = fleet.create(NewPod(kept, first, total, ask.place, body["image"], gpu=True, spot=price is not None))
    late = fleet.faults.met("reply", "contract")
    if late or (price is not None and price < ask.least_bid):
        # What others have met: the error says no, and the instance is there, stopped.
        fleet.act(record["id"], "stop")
        answer = {"success": False, "error": "bid_too_low", "msg": "error 400/3515: bid is below the least one"}
        return Reply(400, {**answer, "new_contract": int(record["id"])})
    return Reply(200, {"success": True, "new_contract": int(record["id"]), "instance_api_key": record["key"]})


def _check(body: Any) -> None:
    if not isinstance(body, dict) or not isinstance(body.get("image"), str) or not body["image"]:
        raise HttpProblem(400, "error 400/3467: Invalid args: 'image' is required", "invalid_args")
    if not isinstance(body.get("env", {}), dict):
        raise HttpProblem(400, "error 400/3467: Invalid args: 'env' must be an object", "invalid_args")
    for name, most in (("onstart", LONGEST_START), ("label", LONGEST_LABEL)):
        if len(str(body.get(name) or "")) > most:
            raise HttpProblem(400, f"error 400/3467: Invalid args: '{name}' is longer than {most}", "invalid_args")


def _list(fleet: Fleet, request: Request) -> Reply:
    limit = min(PAGE, int(request.param("limit") or PAGE)) or 5
    after, only = _after(request.param("after_token")), parse_json(request.param("select_filters") or "{}").get("id", {}).get("eq")
    records = [record for record in sorted(fleet.all(), key=lambda record: int(record["id"])) if only in (None, int(record["id"]))]
    left = [record for record in records if int(record["id"]) > after]
    page, more = left[:limit], len(left) > limit
    token = base64.b64encode(json.dumps({"values": {"id": int(page[-1]["id"])}}).encode()).decode() if more else None
    body = {
        "success": True, "instances_found": len(page), "total_instances": len(records), "label_counts": {}, "next_token": token,
        "instances": [show(fleet, record) for record in page],
    }  # fmt: skip
    return Reply(200, body)


def _after(token: str | None) -> int:
    try:
        return int(parse_json(base64.b64decode(token))["values"]["id"]) if token else 0
    except (ValueError, KeyError, TypeError):
        raise HttpProblem(400, "Invalid pagination token", "invalid_token") from None


def _get(fleet: Fleet, request: Request) -> Reply:
    record = fleet.get(request.id)
    if record is None:
        return Reply(200, {"instances": None})
    row = show(fleet, record)
    # As the specification has it: alone an instance shows numbers of ports, and in a list where they are mapped to.
    return Reply(200, {"instances": {**row, "ports": [22] if row["ports"] else []}})


def _manage(fleet: Fleet, request: Request) -> Reply:
    record, body = fleet.existing(request.id), request.json()
    if not isinstance(body, dict) or not body.keys() & {"label", "state"}:
        raise HttpProblem(400, "error 400: nothing to do", "invalid_args")
    if "label" in body:
        if len(str(body["label"])) > LONGEST_LABEL:
            raise HttpProblem(400, "error 400: label is too long", "invalid_args")
        fleet.update(record["id"], {"label": str(body["label"])}, restart=False)
    if body.get("state") == "stopped":
        fleet.act(record["id"], "stop")
    elif body.get("state") == "running":
        fleet.act(record["id"], "start")
    return Reply(200, {"success": True})


def _delete(fleet: Fleet, request: Request) -> Reply:
    who = "its own key" if request.who == request.id else request.who
    if not fleet.delete(request.id, f"deleted by {who}"):
        raise fleet.cloud.refuse("not found")
    return Reply(*fleet.cloud.deleted)


def _request_logs(fleet: Fleet, request: Request) -> Reply:
    record, asked = fleet.get(request.id), request.json() or {}
    if record is None:
        raise HttpProblem(404, "Invalid instance id.", "invalid_id")
    kind = "daemon" if asked.get("daemon_logs") == "true" else "container"
    there = int(1000 * (time.time() + UPLOAD))
    url = f"{fleet.machines.address}/instance_logs/{record['id']}-{kind}-{there}.log"
    return Reply(200, {"success": True, "result_url": url, "msg": "log requested"})


def _stored_log(fleet: Fleet, request: Request) -> Reply:
    pod_id, _, rest = request.id.removesuffix(".log").partition("-")
    kind, _, there = rest.partition("-")
    record = fleet.get(pod_id)
    if record is None or not there.isdigit() or 1000 * time.time() < int(there):
        return Reply(403, "<Error><Code>AccessDenied</Code></Error>", content_type="application/xml")
    lines = record["system"] if kind == "daemon" else fleet.log(record)
    return Reply(200, "\n".join(lines) + "\n", content_type="text/plain")


def _user(fleet: Fleet, request: Request) -> Reply:
    spent = sum(paid.cost(fleet.now()) for paid in fleet.ledger.paid())
    balance = fleet.ledger.account().get("balance", _BALANCE) - spent
    return Reply(200, {"id": 1, "key_id": 2, "email": "rehearsal@example.org", "balance": balance, "ssh_key": "", "sid": "x"})


def _charges(fleet: Fleet, request: Request) -> Reply:
    days = parse_json(request.param("select_filters") or "{}").get("day", {})
    if not {"gte", "lte"} <= days.keys():
        raise HttpProblem(400, "Must provide both 'day' gte and lte filters for instance charges")
    amounts: dict[str, float] = {}
    for paid in fleet.ledger.paid():
        amounts[paid.pod] = amounts.get(paid.pod, 0.0) + paid.cost(fleet.now())
    results = [
        {"type": "instance", "source": f"instance-{pod}", "description": f"Instance {pod} Charges", "amount": round(amount, 3),
         "start": 0, "end": 0, "metadata": {}, "items": []}
        for pod, amount in sorted(amounts.items())
    ]  # fmt: skip
    limit, begin = int(request.param("limit") or 100), int(request.param("after_token") or 0)
    page, more = results[begin : begin + limit], len(results) > begin + limit
    token = str(begin + limit) if more else None
    return Reply(200, {"success": True, "count": len(page), "total": len(results), "next_token": token, "results": page})


def _taken(fleet: Fleet) -> set[str]:
    """Return the offers that are rented: a search does not show them, and a create finds them gone."""
    return {record["request"]["ask"] for record in fleet.all()}


ROUTES = (
    Route("POST", "/api/v0/bundles", "catalog", _search),
    Route("GET", "/api/v0/metrics/gpu/current", "names", _names),
    Route("PUT", "/api/v0/asks/*", "create", _create),
    Route("GET", "/api/v1/instances", "list", _list),
    Route("GET", "/api/v0/instances/*", "get", _get, pods="own"),
    Route("PUT", "/api/v0/instances/*", "manage", _manage, pods="own"),
    Route("DELETE", "/api/v0/instances/*", "delete", _delete, pods="own"),
    Route("PUT", "/api/v0/instances/request_logs/*", "log", _request_logs),
    Route("GET", "/instance_logs/*", "stored log", _stored_log, keyless=True),
    Route("GET", "/api/v0/users/current", "balance", _user),
    Route("GET", "/api/v0/charges", "bill", _charges),
    Route("GET", "/api/v0/volumes", "volumes", lambda fleet, request: Reply(200, {"volumes": []})),
)
