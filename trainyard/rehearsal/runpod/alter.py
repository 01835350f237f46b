"""Changes to a right answer that clients have met: nothing in it, things twice, things nobody knew, things untrue."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from typing import Any

from trainyard.rehearsal.runpod.rest import Reply

Pod = dict[str, Any]


def alter(how: str, reply: Reply) -> Reply:
    """Return a changed copy of a listing or of one pod; other answers stay."""
    body = reply.body
    if reply.status >= 300 or not isinstance(body, dict):
        return reply
    if "pods" not in body:
        return Reply(reply.status, EACH[how](copy.deepcopy(body)), None, reply.headers) if how in EACH and "id" in body else reply
    pods: list[Pod] = copy.deepcopy(body["pods"])
    changed = {**body, "pods": [EACH[how](pod) for pod in pods]} if how in EACH else WHOLE[how](body, pods) if how in WHOLE else body
    return Reply(reply.status, changed, None, reply.headers)


def _env(pod: Pod, **changes: str | None) -> Pod:
    return {**pod, "env": {key: value for key, value in {**pod["env"], **changes}.items() if value is not None}}


WHOLE: Mapping[str, Callable[[Pod, list[Pod]], Pod]] = {
    "empty": lambda body, pods: {**body, "pods": []},
    "misses one": lambda body, pods: {**body, "pods": pods[:-1]},
    "null": lambda body, pods: {**body, "pods": None},
    "empty with error": lambda body, pods: {"pods": [], "errors": [{"message": "upstream timed out"}]},
    "twice": lambda body, pods: {**body, "pods": pods + pods},
    "ids crosswise": lambda body, pods: {**body, "pods": [{**pod, "id": pods[i - 1]["id"]} for i, pod in enumerate(pods)]},
}
"""What happens to a listing as a whole."""
EACH: Mapping[str, Callable[[Pod], Pod]] = {
    "without ids": lambda pod: {key: value for key, value in pod.items() if key != "id"},
    "unknown status": lambda pod: {**pod, "status": "MIGRATING"},
    "status null": lambda pod: {**pod, "status": None},
    "status number": lambda pod: {**pod, "status": 7},
    "exited": lambda pod: {**pod, "status": "EXITED"},
    "terminated": lambda pod: {**pod, "status": "TERMINATED"},
    "unknown fields": lambda pod: {**pod, "deadline": None, "labels": {"a": "b"}},
    "null fields": lambda pod: {**pod, "runtime": None, "ssh": None, "mounts": None, "actions": None, "gpu": None},
    "wrong types": lambda pod: {**pod, "runtime": 1, "ssh": [], "mounts": "x", "gpu": [], "env": [], "dataCenterId": {}, "createdAt": 5},
    "id number": lambda pod: {**pod, "id": 12345},
    "id upper case": lambda pod: {**pod, "id": pod["id"].upper()},
    "id with slash": lambda pod: {**pod, "id": f"{pod['id']}/x"},
    "another pod": lambda pod: {**pod, "id": "another", "name": "another", "env": {}},
    "name null": lambda pod: {**pod, "name": None},
    "name upper case": lambda pod: {**pod, "name": pod["name"].upper()},
    "name cut": lambda pod: {**pod, "name": pod["name"][:20]},
    "env null": lambda pod: {**pod, "env": None},
    "no marks": lambda pod: {**pod, "env": None, "name": "pod"},
    "price null": lambda pod: {**pod, "cost": None},
    "price absent": lambda pod: {key: value for key, value in pod.items() if key != "cost"},
    "price zero": lambda pod: {**pod, "cost": 0},
    "price negative": lambda pod: {**pod, "cost": -pod["cost"]},
    "price text": lambda pod: {**pod, "cost": str(pod["cost"])},
    "price NaN": lambda pod: {**pod, "cost": float("nan")},
    "price endless": lambda pod: {**pod, "cost": float("inf")},
    "price x10": lambda pod: {**pod, "cost": pod["cost"] * 10},
    "end missing": lambda pod: _env(pod, TRAINYARD_END=None),
    "end unreadable": lambda pod: _env(pod, TRAINYARD_END="tomorrow"),
    "end far": lambda pod: _env(pod, TRAINYARD_END="2999-01-01T00:00:00Z"),
    "created never": lambda pod: {**pod, "createdAt": "0001-01-01T00:00:00+14:00"},
    "created unreadable": lambda pod: {**pod, "createdAt": "yesterday"},
}
"""What happens to each pod in an answer, be it a listing or one pod."""
