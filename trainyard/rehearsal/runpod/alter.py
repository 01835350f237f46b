"""Changes to a right answer that clients have met: nothing in it, things twice, things nobody knew."""

from __future__ import annotations

import copy
from typing import Any

from trainyard.rehearsal.runpod.rest import Reply


def alter(how: str, reply: Reply) -> Reply:
    """Return a changed copy of a listing; other answers stay."""
    if not isinstance(reply.body, dict) or "pods" not in reply.body:
        return reply
    pods: list[dict[str, Any]] = copy.deepcopy(reply.body["pods"])
    if how == "empty":
        pods = []
    elif how == "misses one":
        pods = pods[:-1]
    elif how == "without ids":
        pods = [{key: value for key, value in pod.items() if key != "id"} for pod in pods]
    elif how == "null":
        return Reply(reply.status, {**reply.body, "pods": None}, None, reply.headers)
    elif how == "empty with error":
        return Reply(reply.status, {"pods": [], "errors": [{"message": "upstream timed out"}]}, None, reply.headers)
    elif how == "twice":
        pods = pods + pods
    elif how == "unknown status":
        pods = [{**pod, "status": "MIGRATING"} for pod in pods]
    elif how == "unknown fields":
        pods = [{**pod, "deadline": None, "labels": {"a": "b"}} for pod in pods]
    elif how == "null fields":
        pods = [{**pod, "runtime": None, "ssh": None, "mounts": None, "actions": None, "gpu": None} for pod in pods]
    return Reply(reply.status, {**reply.body, "pods": pods}, None, reply.headers)
