"""Replicate as the kit takes it: its words, what runs in a job, its own traps.

A job is the shipped wrapper (docker/replicate), called as cog calls it. Not played: hardware that is not what the request says,
the time a private model waits idle, data that are removed after an hour, a webhook.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from trainyard.clouds.replicate.answers import parse_hardware, pod_info
from trainyard.clouds.replicate.hardware import RATES
from trainyard.jsontext import parse_json
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
from trainyard.rehearsal.replicate import cogplay
from trainyard.rehearsal.replicate.routes import ROUTES, new_id, show
from trainyard.shipped import shipped

TRAPS = (
    reply("create-another-job", "create", "201 with a job that was not asked for", status=201,
          body={"id": "another", "status": "starting", "input": {"pod": "another"}}),
    reply("version-of-others", "version", "a version of a model that is no wrapper", status=200,
          body={"openapi_schema": {"components": {"schemas": {"Input": {"properties": {"prompt": {}}}}}}}),
    reply("version-gone", "version", "the version was deleted", refusal="not found"),
    reply("list-without-next", "list", "a page that does not say whether there are more", body={"results": []}),
    reply("list-in-a-circle", "list", "a page that leads to itself", body={"results": [], "next": "https://api.replicate.com/v1/x?cursor=0"}),
)  # fmt: skip
"""What only Replicate does."""
CANNOT_HAPPEN = ("create-dearer", "sold-out")
"""No answer tells a price or what is left."""


def client_env(address: str, key: str) -> Mapping[str, str]:
    """Return the variables that lead a client here."""
    return {
        "REPLICATE_API_TOKEN": key, "REPLICATE_BASE_URL": address, "REPLICATE_SETTLE_SECONDS": "2", "REPLICATE_POST_SECONDS": "20",
    }  # fmt: skip


def error_reply(error: ErrorAnswer) -> Reply:
    """Return an error in Replicate's form."""
    return Reply(error.status, {"title": error.detail, "detail": error.detail, "status": error.status})


def container(machines: Machines, record: PodRecord) -> Container:
    """Return what runs in a job: cog, played, which calls the wrapper; a deadline ends it from outside."""
    asked = record["request"]
    said = parse_hardware(asked["input"]["hardware"])
    rate = next((rate for rate in RATES if said and rate.shown == said.gpu), None)
    request = {"kind": asked["kind"], "input": asked["input"]}
    files = {
        "home/replicate/run.py": shipped("docker/replicate/run.py").read_bytes(),
        "home/replicate/cogplay.py": Path(cogplay.__file__).read_bytes(),
        "home/replicate/request.json": json.dumps(request).encode(),
    }
    limit = f"timeout -s KILL {max(1, math.ceil(asked['deadline']))} " if asked["deadline"] else ""
    gpu = GpuFacts(f"NVIDIA {rate.shown.partition(' ')[0]}", rate.vram_gb, said.count) if rate and said else None
    start = f'exec {limit}python3 "$HOME/replicate/cogplay.py" "$HOME/replicate"'
    return Container(env={"PYTHONUNBUFFERED": "1"}, job=("sh", "-c", start), gpu=gpu, files=files)


def _marks(change: Callable[[dict[str, Any]], dict[str, Any]], **inputs: Any) -> Callable[[dict[str, Any], PodFields], dict[str, Any]]:
    """Return a change of what stands in a job's variables, and of its other inputs."""

    def changed(job: dict[str, Any], _: PodFields) -> dict[str, Any]:
        shown = job.get("input") or {}
        env = parse_json(shown.get("env") or "{}")
        return {**job, "input": {**shown, "env": json.dumps(change(env)), **inputs}}

    return changed


def _another(job: dict[str, Any], fields: PodFields) -> dict[str, Any]:
    return {**_marks(lambda _: {}, pod="another")(job, fields), "id": "another"}


def _end(new: str | None) -> Callable[[dict[str, Any], PodFields], dict[str, Any]]:
    return _marks(lambda env: {key: value for key, value in {**env, "TRAINYARD_END": new}.items() if value is not None})


def _with(job: dict[str, Any], _: PodFields, **changes: Any) -> dict[str, Any]:
    return {**job, **changes}


REPLICATE = EmulatedCloud(
    name="replicate",
    title="Replicate",
    real=("replicate.com",),
    addresses=("REPLICATE_BASE_URL",),
    client_env=client_env,
    routes=ROUTES,
    error_reply=error_reply,
    refusals={
        "no capacity": ErrorAnswer(400, "No hardware is available"),
        "rule broken": ErrorAnswer(422, "- input: command is required"),
        "no balance": ErrorAnswer(402, "Insufficient credit"),
        "forbidden": ErrorAnswer(403, "You do not have permission to perform this action"),
        "unauthorized": ErrorAnswer(401, "Invalid token"),
        "not found": ErrorAnswer(404, "The requested resource does not exist"),
    },
    show=show,
    read=pod_info,
    fields=PodFields(listing="results", name="input.pod", created="created_at", may_be_null=("error", "logs", "metrics", "output")),
    deleted=(200, {"id": "", "status": "canceled"}),
    container=container,
    new_id=new_id,
    key_prefix="r8_",
    forgets_ended=True,
    limits=(Window("minute", 60, 3000),),
    faults=(*(fault for fault in FAULTS if fault.name not in CANNOT_HAPPEN), *TRAPS),
    changes={
        "no marks": _marks(lambda _: {}, pod="pod"),
        "another pod": _another,
        "env null": _marks(lambda _: {}, env=None),
        "end missing": _end(None),
        "end unreadable": _end("tomorrow"),
        "end far": _end("2999-01-01T00:00:00Z"),
        "exited": partial(_with, status="succeeded"),
        "terminated": partial(_with, status="canceled"),
        "wrong types": partial(_with, input=[], created_at=5, logs={}, error=7, model=[]),
    },
    hidden=("REPLICATE_",),
)
