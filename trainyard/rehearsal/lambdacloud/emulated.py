"""Lambda Cloud as the kit takes it: an instance is a VM, here a local pod that plays what cloud-init would do with its user data.

Not played: the user ``ubuntu`` and its sudo (who logs in is the pod's own user, told with its port in the address), cloud-init's
other stages, a reboot, and the distance that Lambda wants between requests (the client's tests have that).
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Callable
from typing import Any

from trainyard.clouds.lambdacloud.answers import pod_info
from trainyard.jsontext import parse_json
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
from trainyard.rehearsal.lambdacloud import filesystems
from trainyard.rehearsal.lambdacloud.stock import REGIONS, TYPES, region, type_of

CAPACITY = "instance-operations/launch/insufficient-capacity"
INVALID = "global/invalid-parameters"
LEAVING = 0.5
"""Seconds for which an ended instance is still shown as terminating."""
_STATUS: dict[Phase, str] = {
    "PROVISIONING": "booting", "STARTING": "booting", "RUNNING": "active", "EXITED": "preempted", "ERROR": "unhealthy",
    "TERMINATED": "terminating",
}  # fmt: skip
_CODES = {400: INVALID, 404: "global/object-does-not-exist", 429: "global/too-many-requests", 503: "provider/internal-unavailable"}
_TAG = re.compile(r"[a-z][a-z0-9-:]+")
_START = ': "${TMPDIR:=/tmp}"; export TMPDIR\n'
"""A machine of one's own has /run; here a pod keeps to its own temporary folder."""


def client_env(address: str, key: str) -> dict[str, str]:
    """Return the variables that lead a client here."""
    return {"LAMBDA_API_KEY": key, "LAMBDA_API_URL": f"{address}/api/v1", "LAMBDA_SETTLE_SECONDS": "2", "LAMBDA_POST_SECONDS": "20"}


def error_reply(error: ErrorAnswer) -> Reply:
    """Return an error in Lambda's form."""
    code = error.code or _CODES.get(error.status, "global/internal-error")
    return Reply(error.status, {"error": {"code": code, "message": error.detail, "suggestion": "Try again later."}})


def show(fleet: Fleet, record: PodRecord) -> dict[str, Any]:
    """Return an instance as the API shows it."""
    request, kind, leaving = record["request"], type_of(record["request"]["instance_type_name"]), bool(record.get("deleting"))
    assert kind is not None  # it was launched
    actions = ("migrate", "rebuild", "restart", "cold_reboot", "terminate")
    shown: dict[str, Any] = {
        "id": record["id"], "name": record["name"], "status": "terminating" if leaving else _STATUS[record["status"]],
        "ssh_key_names": request["ssh_key_names"], "file_system_names": filesystems.names_of(fleet, request),
        "region": region(record["place"]),
        "instance_type": {**kind.shown(), "price_cents_per_hour": round(record["price"] * 100)}, "is_reserved": False,
        "actions": {action: {"available": not leaving} for action in actions}, "tags": _tags(fleet, record),
    }  # fmt: skip
    port = fleet.port(record)
    return shown | ({"ip": f"{record['user']}@127.0.0.1:{port}", "private_ip": "10.0.2.100"} if port else {})


def _tags(fleet: Fleet, record: PodRecord) -> list[dict[str, str]]:
    # On a machine without namespaces a pod has another folder than it asks for, and what is mounted has one of this machine anywhere.
    system = filesystems.mounted_by(record["request"])
    volume = str(fleet.machines.volume(system)) if system else None
    really = {"trainyard-workspace": record.get("workspace"), "trainyard-volume": volume}
    tags: list[dict[str, str]] = record["request"].get("tags", [])
    return [{**tag, "value": really.get(tag["key"]) or tag["value"]} for tag in tags]


def listing(fleet: Fleet, request: Request) -> Reply:
    """GET /instances: those that have just been ended, too."""
    return Reply(200, {"data": [show(fleet, record) for record in (*fleet.all(), *_leaving(fleet))]})


def one(fleet: Fleet, request: Request) -> Reply:
    """GET /instances/ID."""
    record = next((r for r in _leaving(fleet) if r["id"] == request.id), None) or fleet.existing(request.id)
    return Reply(200, {"data": show(fleet, record)})


def _leaving(fleet: Fleet) -> list[PodRecord]:
    return [record for record in gone(fleet.ledger.root) if record.get("ended", 0.0) > fleet.now() - LEAVING]


def launch(fleet: Fleet, request: Request) -> Reply:
    """POST /instance-operations/launch."""
    body = request.json()
    _check(body)
    names = {key["name"] for key in _keys(fleet)}
    kind = type_of(body["instance_type_name"])
    if kind is None or body["region_name"] not in REGIONS or not set(body["ssh_key_names"]) <= names:
        raise HttpProblem(404, "a resource of the launch does not exist")
    filesystems.check_mounts(fleet, body)
    out = fleet.sold_out()
    if body["region_name"] not in kind.regions or {"*", kind.name, body["region_name"]} & out:
        raise fleet.cloud.refuse("no capacity")
    record = fleet.create(
        NewPod(body, name=body.get("name", ""), price=kind.cents / 100, place=body["region_name"], image="Lambda Stack", gpu=kind.gpus > 0)
    )
    return Reply(200, {"data": {"instance_ids": [record["id"]]}})


def _check(body: Any) -> None:
    """Refuse what the specification does not allow."""
    texts = ("region_name", "instance_type_name")
    if not isinstance(body, dict) or not all(isinstance(body.get(name), str) for name in texts):
        raise HttpProblem(400, f"{', '.join(texts)} are required", INVALID)
    if not isinstance(body.get("ssh_key_names"), list) or len(body["ssh_key_names"]) != 1:
        raise HttpProblem(400, "exactly one SSH key must be specified", INVALID)
    if len(body.get("name", "")) > 64 or len(body.get("user_data", "")) > 1_000_000 or body.get("quantity", 1) != 1:
        raise HttpProblem(400, "name, user_data or quantity is too large", INVALID)
    for tag in body.get("tags", []):
        if not _TAG.fullmatch(tag["key"]) or len(tag["key"]) > 55 or len(tag["value"]) > 128:
            raise HttpProblem(400, f"invalid tag {tag['key']!r}", INVALID)


def terminate(fleet: Fleet, request: Request) -> Reply:
    """POST /instance-operations/terminate: all of them, or none."""
    ids = request.json()["instance_ids"]
    records = [fleet.existing(pod_id) for pod_id in ids]
    for record in records:
        fleet.delete(record["id"], f"terminated by {request.who}")
    ended = [record for record in gone(fleet.ledger.root) if record["id"] in ids]
    return Reply(200, {"data": {"terminated_instances": [show(fleet, record) for record in ended]}})


def types(fleet: Fleet, request: Request) -> Reply:
    """GET /instance-types."""
    out = fleet.sold_out()
    rooms = {kind: [] if {"*", kind.name} & out else [place for place in kind.regions if place not in out] for kind in TYPES}
    rows = {k.name: {"instance_type": k.shown(), "regions_with_capacity_available": [region(r) for r in at]} for k, at in rooms.items()}
    return Reply(200, {"data": rows})


def add_key(fleet: Fleet, request: Request) -> Reply:
    """POST /ssh-keys."""
    body = request.json()
    key = {"id": secrets.token_hex(16), "name": body["name"], "public_key": body["public_key"]}
    if any(known["name"] == key["name"] for known in _keys(fleet)):
        raise HttpProblem(400, "a key of this name exists", "global/duplicate")
    fleet.ledger.save_account({**fleet.ledger.account(), "keys": [*_keys(fleet), key]})
    return Reply(200, {"data": key})


def remove_key(fleet: Fleet, request: Request) -> Reply:
    """DELETE /ssh-keys/ID."""
    kept = [key for key in _keys(fleet) if key["id"] != request.id]
    if len(kept) == len(_keys(fleet)):
        raise fleet.cloud.refuse("not found")
    fleet.ledger.save_account({**fleet.ledger.account(), "keys": kept})
    return Reply(200, {"data": {}})


def _keys(fleet: Fleet) -> list[dict[str, str]]:
    keys: list[dict[str, str]] = fleet.ledger.account().get("keys", [])
    return keys


def container(machines: Machines, record: PodRecord) -> Container:
    """Return what cloud-init makes of a launch: keys, the logins' variables, what runs at each boot."""
    request = record["request"]
    config: dict[str, Any] = parse_json(request.get("user_data", "").partition("\n")[2] or "{}")
    written = "".join(file["content"] for file in config.get("write_files", []) if file["path"] == "/etc/environment")
    pairs = (line.partition("=") for line in written.splitlines())
    env = {name: value.removeprefix('"').removesuffix('"') for name, _, value in pairs if name != "WORKSPACE"}
    # A machine's workspace is the one that the pod has.
    boot = "".join(command[2].replace("workspace=${1:-/workspace}\n", "workspace=$WORKSPACE\n") for command in config.get("bootcmd", []))
    kind, system = type_of(request["instance_type_name"]), filesystems.mounted_by(request)
    return Container(
        env=env,
        public_key="\n".join(config.get("ssh_authorized_keys", [])),
        host_key=config.get("ssh_keys", {}).get("ed25519_private", ""),
        boot=("sh", "-c", f"{_START}({boot})\nexec sleep infinity"),
        gpu=GpuFacts(kind.gpu, kind.memory_gb, kind.gpus) if kind and kind.gpus else None,
        volume=str(machines.volume(system)) if system else None,
    )


def _retag(value: str | None) -> Callable[[dict[str, Any], PodFields], dict[str, Any]]:
    """Return a change of the tag that tells the end."""

    def change(pod: dict[str, Any], fields: PodFields) -> dict[str, Any]:
        others = [tag for tag in pod.get("tags", []) if tag["key"] != "trainyard-end"]
        return {**pod, "tags": others + ([] if value is None else [{"key": "trainyard-end", "value": value}])}

    return change


API = "/api/v1"
LAMBDA = EmulatedCloud(
    name="lambda",
    title="Lambda Cloud",
    real=("lambda.ai", "lambdalabs.com"),
    addresses=("LAMBDA_API_URL",),
    client_env=client_env,
    base=API,
    routes=(
        Route("GET", f"{API}/instances", "list", listing),
        Route("GET", f"{API}/instances/*", "get", one),
        Route("POST", f"{API}/instance-operations/launch", "create", launch),
        Route("POST", f"{API}/instance-operations/terminate", "delete", terminate),
        Route("GET", f"{API}/instance-types", "catalog", types),
        Route("GET", f"{API}/regions", "regions", lambda fleet, request: Reply(200, {"data": [region(name) for name in REGIONS]})),
        Route("GET", f"{API}/file-systems", "volumes", filesystems.listing),
        Route("POST", f"{API}/filesystems", "create", filesystems.create),
        Route("DELETE", f"{API}/filesystems/*", "delete", filesystems.delete),
        Route("GET", f"{API}/ssh-keys", "keys", lambda fleet, request: Reply(200, {"data": _keys(fleet)})),
        Route("POST", f"{API}/ssh-keys", "add key", add_key),
        Route("DELETE", f"{API}/ssh-keys/*", "remove key", remove_key),
    ),
    error_reply=error_reply,
    refusals={
        "no capacity": ErrorAnswer(400, "Not enough capacity to fulfill launch request.", CAPACITY),
        "rule broken": ErrorAnswer(400, "Invalid request data.", INVALID),
        "no balance": ErrorAnswer(403, "Your account is inactive.", "global/account-inactive"),
        "forbidden": ErrorAnswer(403, "You may not do this.", "global/forbidden"),
        "unauthorized": ErrorAnswer(401, "API key was invalid, expired, or deleted.", "global/invalid-api-key"),
        "not found": ErrorAnswer(404, "Specified instance does not exist.", "global/object-does-not-exist"),
    },
    show=show,
    read=pod_info,
    fields=PodFields(listing="data", single="data", price="instance_type.price_cents_per_hour", may_be_null=("ip", "private_ip", "tags")),
    deleted=(200, {"data": {"terminated_instances": []}}),
    container=container,
    new_id=lambda: secrets.token_hex(16),
    key_prefix="secret_",
    faults=(
        *FAULTS,
        reply("launch-quota", "create", "the quota is used up", status=400,
              body={"error": {"code": "global/quota-exceeded", "message": "Quota exceeded.", "suggestion": "Contact Support."}}),
        reply("launch-provider-after", "create", "an upstream error after the deed", status=503, after=True),
        reply("key-500", "add key", "transient upstream failure", status=500),
        reply("key-reset-after", "add key", "the key is stored, the answer never comes", drop=True, after=True),
    ),
    changes={
        "no marks": lambda pod, _: {**pod, "name": "pod", "tags": []},
        "end missing": _retag(None),
        "end unreadable": _retag("tomorrow"),
        "end far": _retag("2999-01-01T00:00:00Z"),
        "exited": lambda pod, _: {**pod, "status": "preempted"},
        "terminated": lambda pod, _: {**pod, "status": "terminated"},
        "wrong types": lambda pod, _: {**pod, "ip": 1, "tags": "x", "instance_type": [], "region": 5},
    },
    hidden=("LAMBDA_API_",),
)  # fmt: skip
