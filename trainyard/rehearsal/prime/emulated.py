"""Prime Intellect as the kit takes it: a pod is a machine at some provider, here a local pod with a host key of its own.

Nothing of ours is put into it but the login's key and the request's variables: the watchdog comes over SSH, as at the real one.
Not played: the providers' differences, a login that is not root's with sudo, and an installation that takes minutes.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable
from typing import Any

from trainyard.clock import format_time
from trainyard.clouds.marker import compact_time, parse_timed_name
from trainyard.clouds.prime.answers import pod_info
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
from trainyard.rehearsal.prime.stock import TYPES, BrokeredType

LEAVING = 0.5
"""Seconds for which an ended pod is still shown as being deleted."""
_STATUS: dict[Phase, str] = {
    "PROVISIONING": "PROVISIONING", "STARTING": "PENDING", "RUNNING": "ACTIVE", "EXITED": "STOPPED", "ERROR": "ERROR",
    "TERMINATED": "DELETING",
}  # fmt: skip
_NEEDED = ("cloudId", "gpuType", "socket", "gpuCount")


def client_env(address: str, key: str) -> dict[str, str]:
    """Return the variables that lead a client here."""
    return {"PRIME_API_KEY": key, "PRIME_API_BASE_URL": address, "PRIME_SETTLE_SECONDS": "2", "PRIME_POST_SECONDS": "20"}


def error_reply(error: ErrorAnswer) -> Reply:
    """Return an error in one of the API's two forms."""
    if error.status == 422:
        return Reply(422, {"errors": [{"param": param, "details": error.detail} for param in error.errors or ("body",)]})
    return Reply(error.status, {"detail": error.detail})


def show(fleet: Fleet, record: PodRecord) -> dict[str, Any]:
    """Return a pod as the API shows it: active before its installation is finished, its address a list with nothing in it at first."""
    pod, leaving, port = record["request"]["pod"], bool(record.get("deleting")), fleet.port(record)
    running = record["status"] == "RUNNING" and not leaving
    login = f"{record['user']}@127.0.0.1 -p {port}" if running and port else None
    created = format_time(fleet.clock(record["created"]))
    # On a machine without namespaces a pod has another folder than a provider's machine would: told as a disk's is.
    folder = record.get("workspace", "/workspace")
    disks = [{"resourceType": "DISK", "id": "d1", "mountPath": folder}] if folder != "/workspace" else []
    return {
        "id": record["id"], "userId": "rehearsal", "teamId": (record["request"].get("team") or {}).get("teamId"), "walletId": None,
        "name": record["name"], "type": "HOSTED", "providerType": record["request"]["provider"]["type"],
        "status": "DELETING" if leaving else _STATUS[record["status"]],
        "installationStatus": "FINISHED" if login else "ACTIVE" if running else "PENDING", "installationFailure": None,
        "installationProgress": None, "createdAt": created, "updatedAt": created, "terminatedAt": None, "gpuName": pod["gpuType"],
        "gpuCount": pod["gpuCount"], "socket": pod["socket"], "priceHr": record["price"],
        "stoppedPriceHr": None, "provisioningPriceHr": 0.0,
        "environmentType": pod.get("image", "ubuntu_22_cuda_12"), "customTemplateId": pod.get("customTemplateId"), "primePortMapping": [],
        # One machine's address is a text here and a list there.
        "sshConnection": None if not running else [login] if login is None or record["id"][0] in "0123456789" else login,
        "ip": "127.0.0.1" if login else None, "isSpot": record["spot"] or None, "autoRestart": False,
        "attachedResources": disks,
    }  # fmt: skip


def page(entries: list[Any], request: Request) -> Reply:
    """Return a page of a list."""
    offset, limit = int(request.param("offset") or 0), int(request.param("limit") or 100)
    return Reply(200, {"total_count": len(entries), "offset": offset, "limit": limit, "data": entries[offset : offset + limit]})


def listing(fleet: Fleet, request: Request) -> Reply:
    """GET /pods/: those that have just been ended, too."""
    return page([show(fleet, record) for record in (*fleet.all(), *_leaving(fleet))], request)


def one(fleet: Fleet, request: Request) -> Reply:
    """GET /pods/ID."""
    record = next((r for r in _leaving(fleet) if r["id"] == request.id), None) or fleet.existing(request.id)
    return Reply(200, show(fleet, record))


def _leaving(fleet: Fleet) -> list[PodRecord]:
    return [record for record in gone(fleet.ledger.root) if record.get("ended", 0.0) > fleet.now() - LEAVING]


def create(fleet: Fleet, request: Request) -> Reply:
    """POST /pods/: provider, id, socket and count must all be one offer's."""
    body = request.json()
    pod, provider = (body.get("pod") or {}, (body.get("provider") or {}).get("type")) if isinstance(body, dict) else ({}, None)
    if lacking := [f"pod.{name}" for name in _NEEDED if name not in pod] + ([] if provider else ["provider.type"]):
        raise HttpProblem(422, "Field required", errors=lacking)
    asked = tuple(pod[name] for name in _NEEDED)
    kind = next((k for k in TYPES if (k.cloud_id, k.gpu, k.socket, k.count) == asked and k.provider == provider), None)
    if kind is None:
        raise HttpProblem(404, "This configuration does not exist")
    if _out(fleet, kind):
        raise fleet.cloud.refuse("no capacity")
    key = next((key for key in _keys(fleet) if key["id"] == pod.get("sshKeyId")), None)
    if key is None and pod.get("sshKeyId") is not None:
        raise HttpProblem(404, "SSH key not found")
    disk = (pod.get("diskSize") or 0) * (kind.disk or 0.0)
    gpu = kind.gpu != "CPU_NODE"
    kept = {**body, "login": key["publicKey"] if key else ""}
    new = NewPod(
        kept, name=pod.get("name", ""), price=round(kind.price + disk, 6), place=kind.place[2], image="ubuntu", gpu=gpu, spot=kind.spot
    )
    return Reply(200, show(fleet, fleet.create(new)))


def delete(fleet: Fleet, request: Request) -> Reply:
    """DELETE /pods/ID."""
    if not fleet.delete(request.id, f"deleted by {request.who}"):
        raise fleet.cloud.refuse("not found")
    return Reply(*fleet.cloud.deleted)


def availability(fleet: Fleet, request: Request) -> Reply:
    """GET /availability/gpus."""
    size, number = int(request.param("page_size") or 100), int(request.param("page") or 1)
    count, cloud = request.param("gpu_count"), request.param("cloud_id")
    rows = [kind.shown(sold_out=_out(fleet, kind)) for kind in TYPES if count in (None, str(kind.count)) and cloud in (None, kind.cloud_id)]
    return Reply(200, {"items": rows[(number - 1) * size : number * size], "totalCount": len(rows)})


def _out(fleet: Fleet, kind: BrokeredType) -> bool:
    return bool({"*", kind.gpu, kind.cloud_id, kind.provider, *kind.place} & fleet.sold_out())


def history(fleet: Fleet, request: Request) -> Reply:
    """GET /pods/history: what was billed for each pod that is over."""
    paid: dict[str, float] = {}
    for stretch in fleet.ledger.paid():
        paid[stretch.pod] = paid.get(stretch.pod, 0.0) + stretch.cost(fleet.now())
    rows = []
    for record in gone(fleet.ledger.root):
        pod = record["request"]["pod"]
        rows.append({
            "id": record["id"], "name": record["name"], "providerType": record["request"]["provider"]["type"], "type": "Instance",
            "createdAt": format_time(record["created"]), "terminatedAt": format_time(record["ended"]), "gpuName": pod["gpuType"],
            "gpuCount": pod["gpuCount"], "socket": pod["socket"], "priceHr": record["price"], "userId": "rehearsal",
            "totalBilledPrice": round(paid.get(record["id"], 0.0), 6),
        })  # fmt: skip
    return page(rows, request)


def add_key(fleet: Fleet, request: Request) -> Reply:
    """POST /ssh_keys/."""
    body = request.json()
    key = {
        "id": str(uuid.uuid4()), "userId": "rehearsal", "name": body["name"], "publicKey": body["publicKey"], "isPrimary": False,
        "isUserKey": True,
    }  # fmt: skip
    fleet.ledger.save_account({**fleet.ledger.account(), "keys": [*_keys(fleet), key]})
    return Reply(200, key)


def remove_key(fleet: Fleet, request: Request) -> Reply:
    """DELETE /ssh_keys/ID."""
    kept = [key for key in _keys(fleet) if key["id"] != request.id]
    if len(kept) == len(_keys(fleet)):
        raise HttpProblem(404, "SSH key not found")
    fleet.ledger.save_account({**fleet.ledger.account(), "keys": kept})
    return Reply(200, {})


def _keys(fleet: Fleet) -> list[dict[str, Any]]:
    keys: list[dict[str, Any]] = fleet.ledger.account().get("keys", [])
    return keys


def container(machines: Machines, record: PodRecord) -> Container:
    """Return what a provider puts into a machine: the key that may log in (kept with the request), the variables, the GPUs."""
    pod, kind = record["request"]["pod"], next(k for k in TYPES if k.cloud_id == record["request"]["pod"]["cloudId"])
    return Container(
        env={"TMPDIR": "/tmp", **{pair["key"]: pair["value"] for pair in pod.get("envVars") or []}},
        public_key=record["request"].get("login", ""),
        gpu=GpuFacts(kind.gpu, kind.memory_gb, kind.count) if record["gpu"] else None,
    )


def _timed(end: str | None) -> Callable[[dict[str, Any], PodFields], dict[str, Any]]:
    """Return a change of the end that stands in a pod's name; None: the name without its times."""

    def change(pod: dict[str, Any], fields: PodFields) -> dict[str, Any]:
        name, stop, moment = parse_timed_name(str(pod.get("name")))
        return pod if moment is None else {**pod, "name": name if end is None else f"{name}-{compact_time(stop)}-{end}"}

    return change


API = "/api/v1"
PRIME = EmulatedCloud(
    name="prime",
    title="Prime Intellect",
    real=("primeintellect.ai",),
    addresses=("PRIME_API_BASE_URL", "PRIME_BASE_URL"),
    client_env=client_env,
    routes=(
        Route("GET", f"{API}/pods/history", "history", history),
        Route("GET", f"{API}/pods", "list", listing),
        Route("POST", f"{API}/pods", "create", create),
        Route("GET", f"{API}/pods/*", "get", one),
        Route("DELETE", f"{API}/pods/*", "delete", delete),
        Route("GET", f"{API}/availability/gpus", "catalog", availability),
        Route("GET", f"{API}/disks", "disks", lambda fleet, request: page([], request)),
        Route("GET", f"{API}/ssh_keys", "keys", lambda fleet, request: page(_keys(fleet), request)),
        Route("POST", f"{API}/ssh_keys", "add key", add_key),
        Route("DELETE", f"{API}/ssh_keys/*", "remove key", remove_key),
    ),
    error_reply=error_reply,
    refusals={
        "no capacity": ErrorAnswer(400, "No machines are left for this configuration"),
        "rule broken": ErrorAnswer(422, "is not allowed", errors=("pod.diskSize",)),
        "no balance": ErrorAnswer(402, "Insufficient funds"),
        "forbidden": ErrorAnswer(403, "You may not do this"),
        "unauthorized": ErrorAnswer(401, "Not authenticated"),
        "not found": ErrorAnswer(404, "Pod not found"),
    },
    show=show,
    read=pod_info,
    fields=PodFields(listing="data", price="priceHr", created="createdAt", may_be_null=("sshConnection", "ip", "isSpot")),
    deleted=(200, {"status": "DELETING"}),
    container=container,
    new_id=lambda: str(uuid.uuid4()),
    key_prefix="pit_",
    faults=(
        *FAULTS,
        reply("create-400-after", "create", "a broker's no, and the provider made the machine", status=400, after=True),
        reply("history-500", "history", "transient upstream failure", status=500),
    ),
    changes={
        "no marks": lambda pod, _: {**pod, "name": "pod"},
        "end missing": _timed(None),
        "end unreadable": _timed("000000"),
        "end far": _timed("zzzzzz"),
        "exited": lambda pod, _: {**pod, "status": "STOPPED"},
        "terminated": lambda pod, _: {**pod, "status": "TERMINATED"},
        "wrong types": lambda pod, _: {**pod, "sshConnection": 5, "ip": {}, "priceHr": [], "gpuCount": "x", "createdAt": 5},
    },
    hidden=("PRIME_",),
)  # fmt: skip
