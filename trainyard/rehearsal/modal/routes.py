"""What Modal's server does for each call that the SDK makes of it.

A sandbox with a GPU is made by the older calls (SandboxCreate), and listed and named by the newer ones (SandboxListV2), as the SDK does
it. The calls come from the gateway as JSON, in the fields' names of the protocol: ``POST /SandboxCreate``, and where a call is about
one sandbox its id stands in the path. Tags are an object here, and a list on the wire.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
import secrets
import threading
import time
from collections.abc import Mapping
from typing import Any

from trainyard.clouds.modal.prices import GpuRate, hourly, rate_of
from trainyard.rehearsal.kit import Fleet, HttpProblem, NewPod, PodRecord, Reply, Request, Route
from trainyard.rehearsal.kit.ledger import gone

Json = dict[str, Any]
LONGEST = 24 * 3600
PAGE = 100
TIMEOUT = "its timeout"
"""Why a sandbox was ended that has lived as long as it may."""
_KEEPING = threading.Lock()
"""Taken for a change of the account's things: the SDK makes several at once."""
_DIGITS = "abcdefghijklmnopqrstuvwxyz0123456789"
_FROM = re.compile(r"^FROM (\S+)", re.MULTILINE)
_UNPRICED = 2.5
"""Dollars an hour of a GPU whose price nobody has said."""


def new_id(prefix: str = "sb") -> str:
    """Return an id as Modal makes them: a kind, and 22 letters."""
    return f"{prefix}-{''.join(secrets.choice(_DIGITS) for _ in range(22))}"


def id_of(prefix: str, name: str) -> str:
    """Return the id of a thing that is found by its name: always the same."""
    return f"{prefix}-{hashlib.sha256(name.encode()).hexdigest()[:22]}"


def show(fleet: Fleet, record: PodRecord) -> Json:
    """Return a sandbox as a list tells it; ``status`` is on no wire."""
    request = record["request"]
    return {
        "id": record["id"], "name": record["name"], "created_at": fleet.clock(request["at"]), "app_id": request["app_id"],
        "tags": request["tags"], "timeout_secs": request["timeout_secs"], "status": record["status"],
        "metadata": {"app_id": request["app_id"]},
    }  # fmt: skip


def result_of(record: PodRecord) -> Json | None:
    """Return how a sandbox has ended, None while it has not."""
    if "exit_code" in record:
        code = record["exit_code"]
        return {"status": "GENERIC_STATUS_FAILURE" if code else "GENERIC_STATUS_SUCCESS", "exitcode": code}
    if record.get("deleting") == TIMEOUT:
        return {"status": "GENERIC_STATUS_TIMEOUT"}
    if record.get("deleting") or record["status"] in ("EXITED", "ERROR"):
        return {"status": "GENERIC_STATUS_TERMINATED"}
    return None


def end_what_is_over(fleet: Fleet) -> None:
    """End every sandbox that has lived as long as it may, as Modal does by itself."""
    for record in fleet.all():
        if result_of(record) is None and fleet.now() >= record["created"] + record["request"]["timeout_secs"]:
            fleet.delete(record["id"], TIMEOUT)


def _app(fleet: Fleet, request: Request) -> Reply:
    body = request.json()
    name = body.get("app_name") or "app"
    return Reply(200, {"app_id": id_of("ap", name), "handle_metadata": {"app_id": id_of("ap", name), "description": name}})


def _environment(fleet: Fleet, request: Request) -> Reply:
    name = request.json().get("deployment_name") or "main"
    return Reply(200, {"environment_id": id_of("en", name), "metadata": {"name": name, "settings": {"image_builder_version": "2024.10"}}})


def _keep(fleet: Fleet, kind: str, thing: object) -> str:
    """Keep a thing of the account; return its id."""
    name = new_id(kind)
    with _KEEPING:
        account = fleet.ledger.account()
        account.setdefault(kind, {})[name] = thing
        fleet.ledger.save_account(account)
    return name


def _kept(fleet: Fleet, kind: str, name: str) -> Any:
    things = fleet.ledger.account().get(kind, {})
    if name not in things:
        raise HttpProblem(404, f"{name} not found", "NOT_FOUND")
    return things[name]


def _token(fleet: Fleet, request: Request) -> Reply:
    """Return a token that nobody checks, with the hour at which it is over: newer calls of the SDK carry one."""
    payload = base64.urlsafe_b64encode(json.dumps({"exp": fleet.now() + 1200}).encode()).decode().rstrip("=")
    return Reply(200, {"token": f"rehearsal.{payload}."})


def _secret(fleet: Fleet, request: Request) -> Reply:
    variables = request.json().get("env_dict", {})
    return Reply(200, {"secret_id": _keep(fleet, "st", variables), "metadata": {"keys": list(variables)}})


def _image(fleet: Fleet, request: Request) -> Reply:
    image = request.json()["image"]
    if bases := image.get("base_images"):
        source = _kept(fleet, "im", bases[0]["image_id"])
    else:
        base = _FROM.search("\n".join(image.get("dockerfile_commands", [])))
        if base is None:
            raise HttpProblem(400, "the image has no base", "INVALID_ARGUMENT")
        source = base[1]
    if login := image.get("image_registry_config", {}).get("secret_id"):
        _kept(fleet, "st", login)
    return Reply(200, {"image_id": _keep(fleet, "im", source), "result": {"status": "GENERIC_STATUS_SUCCESS"}})


def _create(fleet: Fleet, request: Request) -> Reply:
    body = request.json()
    definition: Json = body["definition"]
    variables: dict[str, str] = {}
    for secret in definition.get("secret_ids", []):
        variables |= _kept(fleet, "st", secret)
    image, name, lives = _kept(fleet, "im", definition["image_id"]), definition.get("name", ""), definition.get("timeout_secs", 0)
    if not 1 <= lives <= LONGEST:
        raise HttpProblem(400, f"timeout must be between 1 and {LONGEST} seconds", "INVALID_ARGUMENT")
    gpu = definition.get("resources", {}).get("gpu_config", {})
    rate, count = rate_of(gpu.get("gpu_type", "")), gpu.get("count", 1)
    if rate is None or count > rate.most:
        raise HttpProblem(400, f"no GPU {gpu.get('gpu_type')!r}:{count}", "INVALID_ARGUMENT")
    if name and any(r["name"] == name and result_of(r) is None for r in fleet.all()):
        raise HttpProblem(409, f"a sandbox called '{name}' is running in this App", "ALREADY_EXISTS")
    if {"*", rate.id} & fleet.sold_out():
        raise fleet.cloud.refuse("no capacity")
    # The SDK asks for the next page by this moment: no two have the same.
    at = max([fleet.now(), *(r["request"]["at"] + 0.0001 for r in fleet.all())])
    kept = {
        "at": at, "app_id": body.get("app_id", ""), "tags": _tags(body), "timeout_secs": lives, "env": variables, "gpu": rate.id,
        "count": count, "command": definition.get("entrypoint_args", []),
    }  # fmt: skip
    record = fleet.create(NewPod(kept, name=name, price=_price(rate, count), image=image))
    return Reply(200, {"sandbox_id": record["id"], "metadata": {"app_id": kept["app_id"]}})


def _tags(body: Json) -> dict[str, str]:
    return {tag["tag_name"]: tag.get("tag_value", "") for tag in body.get("tags", [])}


def _price(rate: GpuRate, count: int) -> float:
    price = hourly(rate, count, {})
    return price if price is not None else _UNPRICED * count


def _known(fleet: Fleet, sandbox: str) -> PodRecord:
    """Return a sandbox, one that is over too: Modal remembers them."""
    record = fleet.get(sandbox) or next((record for record in gone(fleet.ledger.root) if record["id"] == sandbox), None)
    if record is None:
        raise fleet.cloud.refuse("not found")
    return record


def _wait(fleet: Fleet, request: Request) -> Reply:
    deadline = time.monotonic() + min(10.0, request.json().get("timeout", 0.0))
    while True:
        record = _known(fleet, request.id)
        result = result_of(record)
        if result is not None or time.monotonic() >= deadline:
            shown = {"metadata": {"app_id": record["request"]["app_id"]}}
            return Reply(200, shown if result is None else {**shown, "result": result})
        time.sleep(0.1)


def _terminate(fleet: Fleet, request: Request) -> Reply:
    record = _known(fleet, request.id)
    fleet.delete(request.id, "terminated")
    status, body = fleet.cloud.deleted
    return Reply(status, {**body, **({"existing_result": result} if (result := result_of(record)) and "exit_code" in record else {})})


def _list(fleet: Fleet, request: Request) -> Reply:
    body = request.json()
    before, tags = body.get("before_timestamp") or float("inf"), _tags(body)
    newest = sorted((r for r in fleet.all() if result_of(r) is None), key=lambda r: -r["request"]["at"])
    shown = [show(fleet, record) for record in newest if not body.get("app_id") or record["request"]["app_id"] == body["app_id"]]
    fit = [row for row in shown if row["created_at"] < before and tags.items() <= row["tags"].items()]
    return Reply(200, {"sandboxes": fit[: fleet.page(PAGE)]})


def _tags_get(fleet: Fleet, request: Request) -> Reply:
    return Reply(200, {"tags": _known(fleet, request.id)["request"]["tags"]})


def _from_name(fleet: Fleet, request: Request) -> Reply:
    body = request.json()
    records = [*fleet.all(), *(gone(fleet.ledger.root) if body.get("include_terminated") else ())]
    fit = [r for r in records if r["name"] == body.get("sandbox_name") and (body.get("include_terminated") or result_of(r) is None)]
    if not fit:
        raise fleet.cloud.refuse("not found")
    newest: Mapping[str, Any] = max(fit, key=lambda r: r["created"])
    return Reply(200, {"sandbox_id": newest["id"], "metadata": {"app_id": newest["request"]["app_id"]}})


def _task(fleet: Fleet, request: Request) -> Reply:
    """Return the task's id, which Modal has when it has found a machine."""
    record = _known(fleet, request.id)
    if record["boot"].get("stuck") == "PROVISIONING":
        return Reply(200, {})
    return Reply(200, {"task_id": f"ta-{request.id[3:]}"})


def _logs(fleet: Fleet, request: Request) -> Reply:
    body = request.json()
    sandbox = body.get("sandbox_id") or f"sb-{body.get('task_id', '')[3:]}"
    record = _known(fleet, sandbox)
    lines = fleet.log(record)[-int(body.get("limit", 100)) :]
    items = [{"data": f"{line}\n", "timestamp": record["created"]} for line in lines]
    return Reply(200, {"batches": [{"task_id": f"ta-{sandbox[3:]}", "items": items}]})


ROUTES = (
    Route("POST", "/AppGetOrCreate", "app", _app),
    Route("POST", "/EnvironmentGetOrCreate", "environment", _environment),
    Route("POST", "/SecretGetOrCreate", "secret", _secret),
    Route("POST", "/ImageGetOrCreate", "image", _image),
    Route("POST", "/SandboxCreate", "create", _create),
    Route("POST", "/SandboxGetTaskId/*", "task", _task),
    Route("POST", "/SandboxWait/*", "get", _wait),
    Route("POST", "/SandboxTerminate/*", "delete", _terminate),
    Route("POST", "/SandboxListV2", "list", _list),
    Route("POST", "/SandboxListV2/more", "list on", _list),
    Route("POST", "/SandboxTagsGet/*", "tags", _tags_get),
    Route("POST", "/SandboxGetFromNameV2", "name", _from_name),
    Route("POST", "/AuthTokenGet", "token", _token),
    Route("POST", "/AppFetchLogs", "log", _logs),
)
