"""io.net's two services as the kit takes them.

Not played: a container that is started anew when its command has ended (its deployment is then completed here), the end of what was
paid for, an account that renews by itself, what comes back as credits, a user that is not root, private images.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from trainyard.clouds.ionet import answers, services
from trainyard.clouds.ionet.services import IonetService
from trainyard.clouds.marker import compact_time
from trainyard.rehearsal.ionet.routes import routes, row
from trainyard.rehearsal.ionet.stock import type_of
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
    reply,
)
from trainyard.rehearsal.kit.cloud import Refusal

REFUSALS: Mapping[Refusal, ErrorAnswer] = {
    "no capacity": ErrorAnswer(400, "Not enough hardware is available"),
    "no balance": ErrorAnswer(402, "Insufficient IO Credits"),
    "forbidden": ErrorAnswer(403, "Forbidden"),
    "unauthorized": ErrorAnswer(401, "Invalid API key"),
    "not found": ErrorAnswer(404, "Deployment not found"),
}
"""Their numbers are made up but for 404 and 422: no others are documented."""
TRAPS = (
    reply("create-400-after", "create", "a no that has made a deployment", status=400, after=True),
    reply("room-500", "room", "transient upstream failure", status=500),
    reply("extend-reset-after", "extend", "the hours are bought, the answer never comes", drop=True, after=True),
)
"""Its own."""


def client_env(address: str, key: str) -> Mapping[str, str]:
    """Return the variables that lead a client here."""
    return {"IOCLOUD_API_KEY": key, "IOCLOUD_API_URL": address, "IOCLOUD_SETTLE_SECONDS": "2", "IOCLOUD_POST_SECONDS": "20"}


def error_reply(error: ErrorAnswer) -> Reply:
    """Return an error in FastAPI's form."""
    if error.status == 422:
        wrong = [{"loc": ["body", *name.split(".")], "msg": error.detail, "type": "value_error"} for name in error.errors or ("body",)]
        return Reply(422, {"detail": wrong})
    return Reply(error.status, {"detail": error.detail})


def container(machines: Machines, record: PodRecord) -> Container:
    """Return what io.net puts into a container (variables, secret ones, the command) or into a machine: the keys that may log in."""
    request, kind = record["request"], type_of(record["request"]["hardware_id"])
    config = request.get("container_config")
    count: int = request["gpus_per_vm"] if config is None else request["gpus_per_container"]
    gpu = GpuFacts(f"{kind.brand} {kind.name}", kind.memory_gb, count) if kind else None
    if config is None:
        return Container(env={"TMPDIR": "/tmp"}, public_key="\n".join((request.get("ssh_keys") or {}).values()), gpu=gpu)
    env = {**config.get("env_variables", {}), **config.get("secret_env_variables", {})}
    return Container(env=env, job=(*config.get("entrypoint", ()), *config.get("args", ())), gpu=gpu)


def _renamed(end: str | None) -> Callable[[dict[str, Any], PodFields], dict[str, Any]]:
    """Return a change of the end that stands in a deployment's name; None: the name without its times."""

    def rename(shown: str) -> str:
        bought = answers.parse_bought(shown)
        if bought is None or bought.end is None:
            return shown
        return bought.name if end is None else f"{bought.name}-{compact_time(bought.stop)}-{end}-{bought.hours}h"

    return partial(_with_names, rename)


def _with_names(rename: Callable[[str], str], pod: dict[str, Any], _: PodFields) -> dict[str, Any]:
    """Return a deployment with other names, wherever it is shown."""
    named: dict[str, Any] = {"name": rename(pod["name"])} if "name" in pod else {}
    if "ssh_keys" in pod:
        named["ssh_keys"] = {rename(name): key for name, key in pod["ssh_keys"].items()}
    if variables := (pod.get("container_config") or {}).get("env_variables"):
        changed = {name: rename(value) if name == answers.NAME_MARK else value for name, value in variables.items()}
        named["container_config"] = {**pod["container_config"], "env_variables": changed}
    return {**pod, **named}


def _with(**changes: Any) -> Callable[[dict[str, Any], PodFields], dict[str, Any]]:
    return lambda pod, _: {**pod, **changes}


def _emulated(service: IonetService) -> EmulatedCloud:
    return EmulatedCloud(
        name=service.name,
        title=service.title,
        real=("io.solutions", "io.net"),
        addresses=("IOCLOUD_API_URL",),
        client_env=client_env,
        routes=routes(service),
        error_reply=error_reply,
        refusals={**REFUSALS, "rule broken": ErrorAnswer(422, "Input is not allowed", errors=(service.gpus,))},
        show=partial(row, service),
        read=answers.pod_info,
        fields=PodFields(
            listing="data.deployments", single="data", price="amount_paid", created="created_at", env="container_config.env_variables",
            may_be_null=("started_at", "finished_at"),
        ),
        deleted=(200, {"status": "termination requested", "deployment_id": str(uuid.UUID(int=0))}),
        container=container,
        new_id=lambda: str(uuid.uuid4()),
        key_prefix="io-v2-",
        key_header="X-API-KEY",
        starts_images=service is services.CONTAINERS,
        bills_ended=True,  # what was paid ahead comes back when a deployment is destroyed, and no sooner as far as anybody knows
        faults=(*FAULTS, *TRAPS),
        changes={
            "no marks": partial(_with_names, lambda _: "pod"),
            "end missing": _renamed(None),
            "end unreadable": _renamed("000000"),
            "end far": _renamed("zzzzzz"),
            "exited": _with(status="completed"),
            "terminated": _with(status="destroyed"),
            "wrong types": _with(hardware_name=5, locations={}, amount_paid=[], compute_minutes_served="x", hardware_quantity="x"),
        },
        hidden=("IOCLOUD_",),
    )  # fmt: skip


CONTAINERS, MACHINES = _emulated(services.CONTAINERS), _emulated(services.MACHINES)
