"""An emulator of Nimbus: its routes and its JSON, in front of real pods on this machine."""

from __future__ import annotations

import secrets
from typing import Any

from trainyard.rehearsal.kit import (
    Container,
    EmulatedCloud,
    ErrorAnswer,
    Fleet,
    GpuFacts,
    Machines,
    NewPod,
    PodFields,
    PodRecord,
    Reply,
    Request,
    Route,
)  # fmt: skip

TYPES = {"g1": ("RTX 4090", 24, 0.40), "g2": ("H100 SXM", 80, 2.20)}
WORDS = {"PROVISIONING": "new", "STARTING": "booting", "RUNNING": "up", "EXITED": "off", "ERROR": "failed"}


def show(fleet: Fleet, record: PodRecord) -> dict[str, Any]:
    """Return a pod as the API shows it."""
    return {
        "id": record["id"], "name": record["name"], "status": WORDS[record["status"]], "price": record["price"],
        "created": record["created"], "env": record["request"]["env"],
        "host": "127.0.0.1", "port": fleet.port(record), "user": record.get("user"),
    }  # fmt: skip


def create(fleet: Fleet, request: Request) -> Reply:
    body = request.json()
    if {"*", body["type"]} & fleet.sold_out():
        raise fleet.cloud.refuse("no capacity")
    return Reply(201, show(fleet, fleet.create(NewPod(body, body["name"], TYPES[body["type"]][2]))))


def delete(fleet: Fleet, request: Request) -> Reply:
    if not fleet.delete(request.id, "asked by the API"):
        raise fleet.cloud.refuse("not found")
    return Reply(204)


def types(fleet: Fleet, request: Request) -> Reply:
    free = fleet.sold_out()
    rows = [{"id": kind, "gpu": gpu, "gpus": 1, "price": price, "free": not {"*", kind} & free} for kind, (gpu, _, price) in TYPES.items()]
    return Reply(200, {"types": rows})


def container(machines: Machines, record: PodRecord) -> Container:
    """Return what Nimbus puts into a pod."""
    asked, (gpu, memory, _) = record["request"], TYPES[record["request"]["type"]]
    own = {"NIMBUS_POD": record["id"], "NIMBUS_POD_KEY": record["key"], "NIMBUS_URL": f"{machines.address}/v1"}
    ssh = {name: asked["ssh"][name] for name in ("public_key", "host_key")}
    return Container(env={**asked["env"], **own}, boot=tuple(asked["start"]), gpu=GpuFacts(gpu, memory), **ssh)


EMULATED = EmulatedCloud(
    name="nimbus", title="Nimbus", real=("nimbus.example",), addresses=("NIMBUS_API_URL",),
    client_env=lambda address, key: {"NIMBUS_API_KEY": key, "NIMBUS_API_URL": f"{address}/v1"},
    routes=(
        Route("GET", "/v1/pods", "list", lambda fleet, request: Reply(200, {"pods": [show(fleet, pod) for pod in fleet.all()]})),
        Route("GET", "/v1/pods/*", "get", lambda fleet, request: Reply(200, show(fleet, fleet.existing(request.id))), pods="own"),
        Route("POST", "/v1/pods", "create", create),
        Route("DELETE", "/v1/pods/*", "delete", delete, pods="own"),
        Route("GET", "/v1/types", "catalog", types),
    ),
    error_reply=lambda error: Reply(error.status, {"error": {"code": error.code or "failed", "message": error.detail}}),
    refusals={
        "no capacity": ErrorAnswer(409, "sold out", "no_capacity"),
        "rule broken": ErrorAnswer(422, "no such type", "invalid"),
        "no balance": ErrorAnswer(402, "the account is empty", "no_money"),
        "forbidden": ErrorAnswer(403, "not yours", "forbidden"),
        "unauthorized": ErrorAnswer(401, "no such key", "unauthorized"),
        "not found": ErrorAnswer(404, "no such pod", "not_found"),
    },
    show=show, fields=PodFields(listing="pods", price="price", created="created", env="env", may_be_null=("port", "host")),
    bills_ended=True,
    deleted=(204, None), container=container, new_id=lambda: f"n{secrets.token_hex(6)}", pod_key=lambda pod: f"pod-{secrets.token_hex(8)}",
)  # fmt: skip
