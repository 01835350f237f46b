"""Changes to a right answer that clients have met: nothing in it, things twice, things nobody knew, things untrue.

Each is said in the names of ``PodFields``, so that it fits every cloud; what a cloud does not show stays unchanged.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Collection, Mapping
from typing import Any

from trainyard.rehearsal.kit.cloud import PodFields, Reply

Json = dict[str, Any]
Change = Callable[[Json, PodFields], Json]


def alter(how: str, reply: Reply, fields: PodFields, own: Mapping[str, Change], living: Collection[str] | None = None) -> Reply:
    """Return a changed copy of a listing or of one pod; other answers stay. ``own``: the cloud's own changes of a pod.

    ``living``: the only pods that are changed, where a cloud goes on listing those that have ended.
    """
    each = {how: _only(living, change) for how, change in {**EACH, **own}.items()}
    body = copy.deepcopy(reply.body)
    pods = listed(body, fields)
    if reply.status >= 300 or not isinstance(body, dict | list):
        return reply
    if pods is None:
        pod = value(body, fields.single) if fields.single and isinstance(body, dict) else body
        if how not in each or not isinstance(body, dict) or not isinstance(pod, dict) or value(pod, fields.id) is None:
            return reply
        changed = each[how](pod, fields)
        return Reply(reply.status, _placed(body, fields.single, changed), reply.headers)
    if how in each:
        return Reply(reply.status, with_pods(body, fields, [each[how](pod, fields) for pod in pods]), reply.headers)
    return Reply(reply.status, WHOLE[how](body, fields, pods) if how in WHOLE else body, reply.headers)


def _only(living: Collection[str] | None, change: Change) -> Change:
    if living is None:
        return change
    return lambda pod, fields: change(pod, fields) if str(value(pod, fields.id)) in living else pod


def listed(body: Any, fields: PodFields) -> list[Json] | None:
    """Return the pods of a listing; None for any other answer."""
    pods = body if not fields.listing else value(body, fields.listing) if isinstance(body, dict) else None
    return pods if isinstance(pods, list) else None


def with_pods(body: Any, fields: PodFields, pods: list[Json] | None) -> Any:
    """Return a listing with other pods in it."""
    return _placed(body, fields.listing, pods)


def _placed(body: Any, path: str, new: Any) -> Any:
    """Return a body with something else at a dotted path; an empty one is the body itself."""
    first, _, rest = path.partition(".")
    return {**body, first: _placed(body.get(first) or {}, rest, new)} if path else new


def value(pod: Json, path: str) -> Any:
    """Return what stands at a dotted path, None where there is nothing."""
    place: Any = pod
    for name in path.split("."):
        place = place.get(name) if isinstance(place, dict) else None
    return place


def _put(path: str, make: Callable[[Any], Any]) -> Callable[[Json], Json]:
    """Return a change of what stands at a dotted path; a pod that has nothing there stays as it is."""

    def change(pod: Json) -> Json:
        *outer, last = path.split(".")
        place: Any = pod
        for name in outer:
            place = place.get(name) if isinstance(place, dict) else None
        if path and isinstance(place, dict) and last in place:
            place[last] = make(place[last])
        return pod

    return change


def _set(field: str, make: Callable[[Any], Any]) -> Change:
    return lambda pod, fields: _put(getattr(fields, field), make)(pod)


def _without(path: str, pod: Json) -> Json:
    *outer, last = path.split(".")
    place: Any = pod
    for name in outer:
        place = place.get(name) if isinstance(place, dict) else None
    if isinstance(place, dict):
        place.pop(last, None)
    return pod


def _number(change: Callable[[float], float]) -> Callable[[Any], Any]:
    return lambda price: change(price) if isinstance(price, int | float) else price


def _end(new: str | None) -> Change:
    def change(variables: Any) -> Any:
        kept = {k: v for k, v in variables.items() if k != "TRAINYARD_END"} if isinstance(variables, dict) else variables
        return kept if new is None or not isinstance(kept, dict) else {**kept, "TRAINYARD_END": new}

    return _set("env", change)


def _another(pod: Json, fields: PodFields) -> Json:
    identity = pod.get(fields.id)
    pod = {**pod, fields.id: -1 if isinstance(identity, int) else "another"}
    return _set("env", lambda _: {})(_set("name", lambda _: "another")(pod, fields), fields)


def _crosswise(body: Any, fields: PodFields, pods: list[Json]) -> Any:
    return with_pods(body, fields, [{**pod, fields.id: pods[i - 1][fields.id]} for i, pod in enumerate(pods)])


_TIMED_OUT = {"message": "upstream timed out"}
WHOLE: Mapping[str, Callable[[Any, PodFields, list[Json]], Any]] = {
    "empty": lambda body, fields, pods: with_pods(body, fields, []),
    "misses one": lambda body, fields, pods: with_pods(body, fields, pods[:-1]),
    "null": lambda body, fields, pods: with_pods(body, fields, None),
    "empty with error": lambda body, fields, pods: _placed({}, fields.listing or "errors", []) | {"errors": [_TIMED_OUT]},
    "twice": lambda body, fields, pods: with_pods(body, fields, pods + copy.deepcopy(pods)),
    "ids crosswise": _crosswise,
}
"""What happens to a listing as a whole."""
EACH: Mapping[str, Change] = {
    "without ids": lambda pod, fields: _without(fields.id, pod),
    "unknown status": _set("status", lambda _: "MIGRATING"),
    "status null": _set("status", lambda _: None),
    "status number": _set("status", lambda _: 7),
    "unknown fields": lambda pod, fields: {**pod, "deadline": None, "labels_of_tomorrow": {"a": "b"}},
    "null fields": lambda pod, fields: {**pod, **dict.fromkeys(fields.may_be_null)},
    "id number": _set("id", lambda _: 12345),
    "id upper case": _set("id", lambda text: text.upper() if isinstance(text, str) else text),
    "id with slash": _set("id", lambda text: f"{text}/x"),
    "another pod": _another,
    "name null": _set("name", lambda _: None),
    "name upper case": _set("name", lambda text: text.upper()),
    "name cut": _set("name", lambda text: text[:20]),
    "env null": _set("env", lambda _: None),
    "no marks": lambda pod, fields: _set("env", lambda _: None)(_set("name", lambda _: "pod")(pod, fields), fields),
    "price null": _set("price", lambda _: None),
    "price absent": lambda pod, fields: _without(fields.price, pod),
    "price zero": _set("price", lambda _: 0),
    "price negative": _set("price", _number(lambda dollars: -dollars)),
    "price text": _set("price", str),
    "price NaN": _set("price", lambda _: float("nan")),
    "price endless": _set("price", lambda _: float("inf")),
    "price x10": _set("price", _number(lambda dollars: dollars * 10)),
    "end missing": _end(None),
    "end unreadable": _end("tomorrow"),
    "end far": _end("2999-01-01T00:00:00Z"),
    "created never": _set("created", lambda _: "0001-01-01T00:00:00+14:00"),
    "created unreadable": _set("created", lambda _: "yesterday"),
}
"""What happens to each pod in an answer, be it a listing or one pod."""
