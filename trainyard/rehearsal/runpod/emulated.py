"""RunPod as the kit takes it: its words, what it puts into a pod, its own traps."""

from __future__ import annotations

import base64
import secrets
from collections.abc import Mapping
from typing import Any

from trainyard.clouds.runpod.answers import pod_info
from trainyard.rehearsal.kit import (
    FAULTS,
    Container,
    EmulatedCloud,
    ErrorAnswer,
    Fault,
    Fleet,
    GpuFacts,
    Machines,
    PodFields,
    PodRecord,
    Window,
    image_command,
    moved,
    reply,
)
from trainyard.rehearsal.runpod import graphql, stock
from trainyard.rehearsal.runpod.furnish import furnish
from trainyard.rehearsal.runpod.rest import ROUTES, Rest, error_reply

_LETTERS = "abcdefghijklmnopqrstuvwxyz0123456789"
CAPACITY = "There are no longer any instances available with the requested specifications. Please refresh and try again."
TRAPS = (
    reply("create-v1-answer", "create", "the retired API v1 answers", status=400, body={"error": "imageName is required", "status": 400}),
    reply("list-v1-array", "list", "API v1 answers with a bare array", status=200, body=[]),
    Fault("pod-rest-down", "key", "", "REST fails from inside the pod, GraphQL works", {"status": 500, "spares": "graphql"}),
    reply("graphql-500", "graphql", "transient upstream failure", status=500),
    reply("graphql-null", "graphql", "HTTP 200 with a null result", status=200, body={"data": None}),
    reply("graphql-error", "graphql", "HTTP 200 with an error inside", status=200,
          body={"errors": [{"message": "Something went wrong. Please try again later or contact support."}], "data": None}),
    reply("lie-graphql", "graphql", "whatever a test says", status=500),
)  # fmt: skip


def client_env(address: str, key: str) -> dict[str, str]:
    """Return the variables that lead a RunPod client here.

    Nothing made here shows late unless a fault says so: a client need not wait as long as it must at the real cloud.
    """
    return {
        "RUNPOD_API_KEY": key, "RUNPOD_API_URL": f"{address}/v2", "RUNPOD_GRAPHQL_URL": f"{address}/graphql",
        "RUNPOD_SETTLE_SECONDS": "2", "RUNPOD_POST_SECONDS": "20",
    }  # fmt: skip


def container(machines: Machines, record: PodRecord) -> Container:
    """Return what RunPod puts into a pod: the request's variables, keys and start arguments, its own variables, the GPUs."""
    request: Mapping[str, Any] = record["request"]
    asked: Mapping[str, str] = request.get("env", {})
    networks: list[Mapping[str, str]] = request.get("mounts", {}).get("network", [])
    own = {
        "RUNPOD_POD_ID": record["id"],
        "RUNPOD_POD_HOSTNAME": f"{record['id']}-64411eb2",
        "RUNPOD_DC_ID": record["place"],
        "RUNPOD_GPU_COUNT": str(request.get("gpu", {}).get("count", 0)),
        "RUNPOD_PUBLIC_IP": "127.0.0.1",
        "RUNPOD_API_KEY": record["key"],
    }
    env = {key: value for key, value in asked.items() if key != "SSH_HOST_ED25519_KEY"}
    for mount in networks:
        env = {key: moved(value, mount["path"], str(machines.volume(mount["volumeId"]))) for key, value in env.items()}
    # The caller's own variables win over the reserved ones nowhere: a fault takes the key away to show what then happens.
    addresses = {"RUNPOD_API_URL": f"{machines.address}/v2", "RUNPOD_GRAPHQL_URL": f"{machines.address}/graphql"}
    return Container(
        env={**addresses, **env, **{key: value for key, value in own.items() if value}},
        public_key=asked.get("PUBLIC_KEY", ""),
        host_key=base64.b64decode(asked.get("SSH_HOST_ED25519_KEY", "")).decode(),
        boot=image_command(request.get("image"), request.get("args", "")),
        gpu=_gpu(request.get("gpu"), record["place"]),
        volume=next((str(machines.volume(mount["volumeId"])) for mount in networks), None),
    )


def _gpu(asked: Mapping[str, Any] | None, center: str) -> GpuFacts | None:
    kind = stock.gpu(asked["id"]) if asked else None
    return GpuFacts(asked["id"], kind.memory if kind else 24, asked.get("count", 1), stock.cuda(center)) if asked else None


def _show(fleet: Fleet, record: PodRecord) -> dict[str, Any]:
    return Rest(fleet).show(record)


RUNPOD = EmulatedCloud(
    name="runpod",
    title="RunPod",
    real=("runpod.io", "runpod.ai", "runpod.net"),
    addresses=("RUNPOD_API_URL", "RUNPOD_GRAPHQL_URL", "RUNPOD_API_BASE_URL"),
    client_env=client_env,
    base="/v2",
    routes=(*ROUTES, graphql.ROUTE),
    error_reply=error_reply,
    refusals={
        "no capacity": ErrorAnswer(400, CAPACITY),
        "rule broken": ErrorAnswer(400, "mounts: one kind only"),
        "no balance": ErrorAnswer(402, "insufficient balance"),
        "forbidden": ErrorAnswer(403, "access denied"),
        "unauthorized": ErrorAnswer(401, "invalid bearer token"),
        "not found": ErrorAnswer(404, "pod not found"),
    },
    show=_show,
    read=pod_info,
    fields=PodFields(
        listing="pods", price="cost", created="createdAt", env="env", may_be_null=("runtime", "ssh", "mounts", "actions", "gpu")
    ),
    deleted=(204, None),
    container=container,
    new_id=lambda: "".join(secrets.choice(_LETTERS) for _ in range(14)),
    pod_key=lambda pod_id: f"rpa_pod_{pod_id}_{secrets.token_hex(12)}",
    key_prefix="rpa_",
    limits=(Window("minute", 60, 60), Window("hour", 3600, 3000), Window("day", 86400, 50000)),
    limit_headers=True,
    faults=(*FAULTS, *TRAPS),
    changes={
        "exited": lambda pod, _: {**pod, "status": "EXITED"},
        "terminated": lambda pod, _: {**pod, "status": "TERMINATED"},
        "wrong types": lambda pod, _: {
            **pod, "runtime": 1, "ssh": [], "mounts": "x", "gpu": [], "env": [], "dataCenterId": {}, "createdAt": 5,
        },
    },
    furnish=furnish,
    starts_images=True,
    hidden=("RUNPOD_S3_",),
)  # fmt: skip
