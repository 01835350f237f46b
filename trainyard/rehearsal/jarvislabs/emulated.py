"""JarvisLabs as the kit takes it: an instance is a container, here a local pod with a host key of its own.

Each region is an address of its own (here a folder of one address): a machine is made and ended at its region's alone, everything
is read at one. Of what its clients have met, played always: a row that does not show at once, ``misc/status`` that knows nothing
until then, ``sucess`` and ``"true"``, empty texts for numbers, an address of an instance that does not run. Not played: virtual
machines, filesystems, a workspace below /home.
"""

from __future__ import annotations

import random
import re
from collections.abc import Callable
from typing import Any

from trainyard.clock import parse_time
from trainyard.clouds.jarvislabs.answers import pod_info
from trainyard.clouds.marker import parse_short_name, short_name
from trainyard.rehearsal.jarvislabs.stock import HOME, REGIONS, TYPES, type_of
from trainyard.rehearsal.kit import (
    FAULTS,
    Container,
    EmulatedCloud,
    ErrorAnswer,
    Fleet,
    GpuFacts,
    HttpProblem,
    Machines,
    NewPod,
    PodFields,
    PodRecord,
    Reply,
    Request,
    Route,
    reply,
)
from trainyard.rehearsal.kit.ledger import Phase, gone

LEAVING, UNSEEN = 0.5, 0.5
"""Seconds for which an ended instance is still shown, and a new one is not yet."""
MOST_KEYS = 10
_STATUS: dict[Phase, str] = {
    "PROVISIONING": "Creating", "STARTING": "Creating", "RUNNING": "Running", "EXITED": "Paused", "ERROR": "Failed",
    "TERMINATED": "Destroying",
}  # fmt: skip
_NEEDED = ("gpu_type", "num_gpus", "hdd", "region", "name", "duration")
_NAME = re.compile(r"[A-Za-z0-9 _-]{1,40}")


def client_env(address: str, key: str) -> dict[str, str]:
    """Return the variables that lead a client here."""
    return {"JL_API_KEY": key, "JARVISLABS_API_URL": address, "JARVISLABS_SETTLE_SECONDS": "2", "JARVISLABS_POST_SECONDS": "20"}


def error_reply(error: ErrorAnswer) -> Reply:
    """Return an error in one of the API's forms."""
    if error.status == 422:
        places = [{"loc": ["body", place], "msg": error.detail, "type": "value_error"} for place in error.errors or ("name",)]
        return Reply(422, {"detail": places})
    return Reply(error.status, {"message" if error.status == 400 else "detail": error.detail})


def show(fleet: Fleet, record: PodRecord) -> dict[str, Any]:
    """Return an instance as the API shows it; one that does not run shows the address of its last run."""
    request, leaving = record["request"], bool(record.get("deleting"))
    port = fleet.port(record) or (record["port"] if record["status"] == "EXITED" else None)
    login = f"ssh -o StrictHostKeyChecking=no -p {port} {record.get('user', 'root')}@127.0.0.1" if port else None
    hours = (fleet.now() - record["created"]) / 3600
    return {
        "machine_id": int(record["id"]), "status": "Destroying" if leaving else _STATUS[record["status"]],
        "instance_name": record["name"], "framework": request["template"], "gpu_type": request["gpu_type"],
        "num_gpus": request["num_gpus"], "hdd": f"{request['hdd']}GB", "ram": "", "cores": 16, "cost": round(record["price"] * hours, 4),
        "duration": "0", "frequency": "hour", "ssh_str": login, "url": None, "vs_url": None, "endpoints": [], "public_ip": None,
        "private_ip": None, "vpc_id": None, "fs_id": None, "is_spot": record["spot"], "is_reserved": False, "region": record["place"],
        "http_ports": request.get("http_ports", ""), "disk_type": request.get("disk_type", "ssd"), "v_size": None,
        # A pod of this machine has a folder of its own, and /home is this machine's.
        **({"workspace": record["workspace"]} if "workspace" in record else {}),
    }  # fmt: skip


def listing(fleet: Fleet, request: Request) -> Reply:
    """GET users/fetch: those that have just been ended, too."""
    return Reply(200, {"success": "true", "instances": [show(fleet, record) for record in (*fleet.all(), *_leaving(fleet))]})


def one(fleet: Fleet, request: Request) -> Reply:
    """GET users/fetch/ID: a missing one is a success that is false."""
    record = next((r for r in _leaving(fleet) if r["id"] == request.id), None) or fleet.get(request.id)
    if record is None or _unseen(fleet, record):
        return Reply(200, {"success": False, "message": "Instance not found"})
    return Reply(200, {"success": True, "instance": show(fleet, record)})


def status(fleet: Fleet, request: Request) -> Reply:
    """GET misc/status at the region's address: how far the making of an instance is."""
    record = fleet.get(request.param("machine_id") or "")
    if record is None or _unseen(fleet, record) or record["place"] != request.ids[0]:
        raise HttpProblem(404, "No status found")
    state = _STATUS[record["status"]]
    return Reply(200, {"status": state, "error": "no more disk on this host" if state == "Failed" else "None", "code": "null"})


def create(fleet: Fleet, request: Request) -> Reply:
    """POST templates/TEMPLATE/create at the region's address."""
    (region, template), body = request.ids, request.json()
    if not isinstance(body, dict) or (lacking := [name for name in _NEEDED if name not in body]):
        raise HttpProblem(422, "field required", errors=lacking if isinstance(body, dict) else ("body",))
    if not _NAME.fullmatch(body["name"]) or not body["name"].strip():
        raise HttpProblem(422, "is no name", errors=("name",))
    if body["region"] != region or region not in REGIONS:
        raise HttpProblem(404, "This region is not served here")
    if template != "pytorch":
        raise HttpProblem(404, "Template not found")
    kind, spot = type_of(body["gpu_type"], region), bool(body.get("is_spot"))
    if kind is None or body["num_gpus"] > kind.free or {"*", kind.gpu, region} & fleet.sold_out() or (spot and kind.spot is None):
        raise fleet.cloud.refuse("no capacity")
    if region == "europe-01" and body["num_gpus"] != 1:
        raise HttpProblem(422, "supports only 1 GPU per instance", errors=("num_gpus",))
    price = (kind.spot if spot and kind.spot else kind.price) * body["num_gpus"]
    kept = {**body, "template": template, "logins": [key["ssh_key"] for key in _keys(fleet)]}
    record = fleet.create(NewPod(kept, name=body["name"], price=round(price, 6), place=region, image=template, spot=spot))
    return Reply(200, {"machine_id": int(record["id"])})


def destroy(fleet: Fleet, request: Request) -> Reply:
    """POST misc/destroy?machine_id= at the region's address: any other does not know the instance."""
    record = fleet.get(request.param("machine_id") or "")
    if record is None or record["place"] != request.ids[0] or not fleet.delete(record["id"], f"destroyed by {request.who}"):
        raise fleet.cloud.refuse("not found")
    return Reply(*fleet.cloud.deleted)


def stock(fleet: Fleet, request: Request) -> Reply:
    """GET misc/server_meta."""
    out = fleet.sold_out()
    rows = [kind.shown(sold_out=bool({"*", kind.gpu, kind.region} & out)) for kind in TYPES]
    return Reply(200, {"server_meta": rows, "cpu_meta": {"combinations": []}})


def add_key(fleet: Fleet, request: Request) -> Reply:
    """POST ssh/: tells no id."""
    body, keys = request.json(), _keys(fleet)
    if len(keys) >= MOST_KEYS:
        raise HttpProblem(400, "Maximum number of SSH keys reached")
    number = max((int(key["key_id"]) for key in keys), default=100) + 1
    key = {"ssh_key": body["ssh_key"], "key_name": body["key_name"], "key_id": str(number), "user_id": "rehearsal"}
    fleet.ledger.save_account({**fleet.ledger.account(), "keys": [*keys, key]})
    return Reply(200, {"sucess": "true"})


def remove_key(fleet: Fleet, request: Request) -> Reply:
    """DELETE ssh/ID."""
    kept = [key for key in _keys(fleet) if key["key_id"] != request.id]
    if len(kept) == len(_keys(fleet)):
        raise HttpProblem(404, "SSH key not found")
    fleet.ledger.save_account({**fleet.ledger.account(), "keys": kept})
    return Reply(200, {"success": True})


def currency(fleet: Fleet, request: Request) -> Reply:
    """GET misc/: true for an account in rupees."""
    return Reply(200, {"success": bool(fleet.ledger.account().get("rupees"))})


def balance(fleet: Fleet, request: Request) -> Reply:
    """GET users/balance."""
    spent = sum(stretch.cost(fleet.now()) for stretch in fleet.ledger.paid())
    return Reply(200, {"balance": f"{fleet.ledger.account().get('balance', 100.0) - spent:.4f}", "grants": ""})


def _keys(fleet: Fleet) -> list[dict[str, str]]:
    keys: list[dict[str, str]] = fleet.ledger.account().get("keys", [])
    return keys


def _leaving(fleet: Fleet) -> list[PodRecord]:
    return [record for record in gone(fleet.ledger.root) if record.get("ended", 0.0) > fleet.now() - LEAVING]


def _unseen(fleet: Fleet, record: PodRecord) -> bool:
    return record["created"] > fleet.now() - UNSEEN


def container(machines: Machines, record: PodRecord) -> Container:
    """Return what JarvisLabs puts into a container: the account's keys as they were at its creation, GPUs, and nothing of ours."""
    request, kind = record["request"], type_of(record["request"]["gpu_type"], record["place"])
    gpu = GpuFacts(kind.gpu, kind.memory_gb, request["num_gpus"]) if kind else None
    return Container(env={"TMPDIR": "/tmp"}, public_key="\n".join(request["logins"]), gpu=gpu)


def _timed(end: str | None) -> Callable[[dict[str, Any], PodFields], dict[str, Any]]:
    """Return a change of the end that stands in an instance's name."""

    def change(pod: dict[str, Any], fields: PodFields) -> dict[str, Any]:
        name, _, moment = parse_short_name(str(pod.get("instance_name")))
        return pod if moment is None else {**pod, "instance_name": short_name(name, None, parse_time(end))}

    return change


JARVISLABS = EmulatedCloud(
    name="jarvislabs",
    title="JarvisLabs",
    real=("jarvislabs.net", "jarvislabs.ai"),
    addresses=("JARVISLABS_API_URL",),
    client_env=client_env,
    routes=(
        Route("GET", f"/{HOME}/users/fetch", "list", listing),
        Route("GET", f"/{HOME}/users/fetch/*", "get", one),
        Route("POST", "/*/templates/*/create", "create", create),
        Route("POST", "/*/misc/destroy", "delete", destroy),
        Route("GET", "/*/misc/status", "status", status),
        Route("GET", f"/{HOME}/misc/server_meta", "catalog", stock),
        Route("GET", f"/{HOME}/misc", "currency", currency),
        Route("GET", f"/{HOME}/users/balance", "balance", balance),
        Route("GET", f"/{HOME}/filesystem/list", "filesystems", lambda fleet, request: Reply(200, [])),
        Route("GET", f"/{HOME}/ssh", "keys", lambda fleet, request: Reply(200, _keys(fleet))),
        Route("POST", f"/{HOME}/ssh", "add key", add_key),
        Route("DELETE", f"/{HOME}/ssh/*", "remove key", remove_key),
    ),
    error_reply=error_reply,
    refusals={
        "no capacity": ErrorAnswer(400, "No GPUs of this type are free"),
        "rule broken": ErrorAnswer(422, "is not allowed", errors=("hdd",)),
        "no balance": ErrorAnswer(402, "Insufficient balance"),
        "forbidden": ErrorAnswer(403, "You may not do this"),
        "unauthorized": ErrorAnswer(401, "Invalid token"),
        "not found": ErrorAnswer(404, "Instance not found"),
    },
    show=show,
    read=pod_info,
    fields=PodFields(
        listing="instances", single="instance", id="machine_id", name="instance_name", status="status",
        may_be_null=("ssh_str", "public_ip", "endpoints", "gpu_type", "is_spot", "region"),
    ),
    deleted=(200, {"sucess": "true"}),
    container=container,
    new_id=lambda: str(random.SystemRandom().randrange(10**5, 10**9)),
    key_prefix="jl_",
    faults=(
        *(fault for fault in FAULTS if fault.kind != "price"),  # no answer about an instance tells its price
        reply("create-false-after", "create", "a success that is false, and the machine is made", status=200,
              body={"success": "false", "message": "could not be made"}, after=True),
        reply("delete-false-after", "delete", "an error is told, and the instance goes all the same", status=200,
              body={"success": "false", "error": "could not be destroyed"}, after=True),
        reply("currency-500", "currency", "transient upstream failure", status=500),
        reply("key-reset-after", "add key", "the key is stored, the answer never comes", drop=True, after=True),
    ),
    changes={
        "no marks": lambda pod, _: {**pod, "instance_name": "pod"},
        "end missing": _timed(None),
        "end unreadable": _timed(None),
        "end far": _timed("2053-01-01T00:00:00Z"),
        "exited": lambda pod, _: {**pod, "status": "Paused"},
        "terminated": lambda pod, _: {**pod, "status": "Destroying"},
        "wrong types": lambda pod, _: {**pod, "ssh_str": 5, "public_ip": {}, "num_gpus": "x", "gpu_type": [], "region": 5},
    },
    hidden=("JL_", "JARVISLABS_"),
)  # fmt: skip
