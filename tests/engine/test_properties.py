"""Random graphs of resources, random edits, random faults and crashes: whatever happened, the next run converges.

Graphs have components with children, values and order between resources, replacements that create or delete first,
``deletedWith``, ``protect`` and renamed or moved resources with and without aliases. The provider in memory checks
on the way that nothing is created twice, or deleted while another still uses it. ``TRAINYARD_TEST_SEED`` draws the
same graphs again.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st

from tests.engine.bench import misplaced
from tests.engine.memory import Cloud, Program, destroy, up
from trainyard.engine.backend import new_deployment
from trainyard.engine.goal import Alias, Goal
from trainyard.engine.state import Resource

EMPTY = new_deployment("v1:Ex50mTIAaVs=:v1:P17SO/lFaK2kLHjo:gr/VSicyJ1aS+JJK7CH51WjYl5O4Gw==")
BOUNDED = settings(
    max_examples=60, deadline=None, phases=[Phase.generate], suppress_health_check=[HealthCheck.too_slow]
)  # no shrinking: minutes
SEEDED = seed(int(os.environ["TRAINYARD_TEST_SEED"]))


@dataclass(frozen=True)
class Node:
    """One resource of a random program: under which name and parent, and which earlier ones it uses, by value or by order only."""

    base: str
    suffix: int
    label: int
    gpu: int
    zone: int
    uses: tuple[int, ...]
    after: tuple[int, ...]
    deleted_with: int | None
    component: bool
    parent: int | None
    alias: bool
    protect: bool
    delete_first: bool | None

    @property
    def name(self) -> str:
        return f"{self.base}{self.suffix}"


class Crash(BaseException):
    """The process is gone."""


@st.composite
def programs(draw: st.DrawFn) -> list[Node]:
    bases = draw(st.lists(st.sampled_from("abcdefgh"), unique=True, max_size=7))
    small = st.integers(0, 1)
    nodes: list[Node] = []
    for index, base in enumerate(bases):
        earlier = st.lists(st.integers(0, index - 1), max_size=2, unique=True) if index else st.just([])
        boxes = [number for number, node in enumerate(nodes) if node.component]
        with_ = draw(st.one_of(st.none(), st.integers(0, index - 1))) if index and draw(st.integers(0, 3)) == 0 else None
        parent = draw(st.sampled_from([None, *boxes])) if boxes else None
        first = draw(st.sampled_from([None, None, True, False]))
        nodes.append(
            Node(base, draw(small), draw(small), draw(small), draw(small), tuple(draw(earlier)), tuple(draw(earlier)), with_,
                 draw(st.integers(0, 3)) == 0, parent, draw(st.booleans()), draw(st.integers(0, 5)) == 0, first)
        )  # fmt: skip
    return nodes


def free(nodes: list[Node]) -> list[Node]:
    """Return the program with nothing protected."""
    return [replace(node, protect=False) for node in nodes]


class Author:
    """Writes programs; knows under which URNs each resource stood before, for the aliases."""

    def __init__(self) -> None:
        self.known: dict[str, list[str]] = {}

    def program(self, nodes: list[Node]) -> Program:
        def run(add: Callable[[Goal], Resource]) -> None:
            made: list[Resource] = []
            for node in nodes:
                goal = _goal(node, made)
                if node.alias:
                    goal.aliases = [Alias(urn=urn) for urn in self.known.get(node.base, [])]
                self.known.setdefault(node.base, [])
                made.append(add(goal))
                if made[-1].urn not in self.known[node.base]:
                    self.known[node.base].append(made[-1].urn)

        return run


def _goal(node: Node, made: list[Resource]) -> Goal:
    parent = made[node.parent].urn if node.parent is not None else ""
    if node.component:
        return Goal("px:index:Box", node.name, False, parent)
    goal = Goal("toy:index:Pod", node.name, True, parent, {"label": node.label, "gpu": node.gpu, "zone": node.zone})
    goal.protect, goal.delete_before_replace = node.protect, node.delete_first
    kind = "seat" if node.label else "host"
    values = {f"{kind}{use}": (made[use], "ip") for use in node.uses if made[use].custom}
    if node.deleted_with is not None and made[node.deleted_with].custom:
        goal.deleted_with = made[node.deleted_with].urn
        values["home"] = (made[node.deleted_with], "cloudName")
    for key, (used, output) in values.items():
        goal.inputs[key] = used.outputs[output]
        goal.property_dependencies[key] = [used.urn]
    goal.dependencies = sorted({made[i].urn for i in (*node.uses, *node.after)} | {used.urn for used, _ in values.values()})
    return goal


def shape(cloud: Cloud, deployment: dict[str, Any]) -> list[Any]:
    """Return what there is, without the random parts of names; what the state says must be in the cloud.

    The suffix goes too: what was renamed keeps its name in the cloud.
    """
    rows = []
    for resource in deployment.get("resources") or []:
        kept = {key: resource.get(key) for key in ("urn", "parent", "deletedWith", "protect", "delete", "pendingReplacement")}
        if resource["type"] == "toy:index:Pod":
            assert resource["id"] in cloud.things, f"{resource['urn']} is in state and not in the cloud"
            assert cloud.things[resource["id"]] == resource["inputs"], resource["urn"]
        kept["inputs"] = resource.get("inputs")
        kept["needs"] = [sorted(resource.get("dependencies") or []), sorted((resource.get("propertyDependencies") or {}).items())]
        rows.append(re.sub(r"\b([a-h])[01]-[0-9a-f]{8}\b", r"\1", json.dumps(kept, sort_keys=True)))
    assert not deployment.get("pending_operations")
    return sorted(rows)


def check_order(deployment: dict[str, Any]) -> None:
    """The file holds together (the CLI refuses one that does not)."""
    assert misplaced(deployment) == []


def owned(cloud: Cloud, deployment: dict[str, Any], *, failed: bool = False) -> None:
    """Nothing is in the cloud that the state does not know. After a failure: nor looks for, nor deletes with what it knows."""
    known = {str(resource.get("id")) for resource in deployment.get("resources") or []}
    if failed:
        known |= {item["resource"]["inputs"].get("cloudName") for item in deployment.get("pending_operations") or []}
        known = {name for identity in known & cloud.things.keys() for name in cloud.lives_in(identity)}
    assert set(cloud.things) <= known, f"{set(cloud.things) - known} is in the cloud and not in state"


def converged(cloud: Cloud, deployment: dict[str, Any], nodes: list[Node]) -> None:
    """The stack is as if it had been made afresh, and a destroy leaves nothing."""
    owned(cloud, deployment)
    check_order(deployment)
    fresh = Cloud()
    assert shape(cloud, deployment) == shape(fresh, up(fresh, EMPTY, Author().program(nodes)))
    assert not destroy(cloud, deployment).get("resources")
    assert cloud.things == {}


@given(st.lists(programs(), min_size=1, max_size=4))
@SEEDED
@BOUNDED
def test_an_up_equals_a_destroy_and_an_up(edits: list[list[Node]]) -> None:
    cloud, deployment, author = Cloud(), EMPTY, Author()
    for nodes in map(free, edits):
        deployment = up(cloud, deployment, author.program(nodes))
        check_order(deployment)
        owned(cloud, deployment)
    converged(cloud, deployment, free(edits[-1]))


@given(programs(), programs())
@SEEDED
@BOUNDED
def test_what_is_protected_stays_until_it_is_no_more_protected(first: list[Node], second: list[Node]) -> None:
    cloud, author = Cloud(), Author()
    deployment = up(cloud, EMPTY, author.program(first))
    protected = {r["id"] for r in deployment.get("resources") or [] if r.get("protect")}
    deployment = up(cloud, deployment, author.program(second))
    check_order(deployment)
    owned(cloud, deployment)
    still = {r["id"] for r in deployment.get("resources") or [] if r.get("protect")}
    assert protected & still <= set(cloud.things)
    freed = {r["id"] for r in deployment.get("resources") or [] if not r.get("protect") and r["type"] == "toy:index:Pod"}
    deployment = destroy(cloud, deployment)
    left = deployment.get("resources") or []
    assert {r["id"] for r in left if r.get("protect")} == still and still <= set(cloud.things)
    needs = {urn for r in left for urn in (*r.get("dependencies", []), r.get("parent", ""), r.get("deletedWith", ""))}
    assert {r["urn"] for r in left if r.get("id") in freed} <= needs, "what nothing protected needs is gone"
    deployment = up(cloud, deployment, author.program(free(first)))
    deployment = up(cloud, deployment, author.program(free(second)))
    if not any(r.get("protect") for r in deployment.get("resources") or []):
        converged(cloud, deployment, free(second))


@given(programs(), programs(), st.dictionaries(st.integers(1, 6), st.sampled_from(["before", "after", "init"]), min_size=1, max_size=3))
@SEEDED
@BOUNDED
def test_after_any_failure_the_next_up_converges(first: list[Node], second: list[Node], faults: dict[int, str]) -> None:
    cloud, author = Cloud(), Author()
    deployment = up(cloud, EMPTY, author.program(free(first)))
    cloud.calls.clear()
    cloud.faults = faults
    deployment = up(cloud, deployment, author.program(free(second)))
    check_order(deployment)
    owned(cloud, deployment, failed=True)
    cloud.faults = {}
    deployment = up(cloud, deployment, author.program(free(second)))
    converged(cloud, deployment, free(second))


@given(programs(), programs(), st.integers(1, 16), st.booleans())
@SEEDED
@BOUNDED
def test_after_a_crash_at_any_write_nothing_is_lost(first: list[Node], second: list[Node], at: int, destroyed: bool) -> None:
    cloud, author = Cloud(), Author()
    disk = up(cloud, EMPTY, author.program(free(first)))
    writes = 0

    def save(deployment: dict[str, Any]) -> None:
        nonlocal disk, writes
        writes += 1
        if writes >= at:
            raise Crash
        disk = json.loads(json.dumps(deployment))

    with contextlib.suppress(Crash):
        up(cloud, disk, author.program(free(second)), save)
    check_order(disk)
    owned(cloud, disk, failed=True)
    if destroyed:
        assert not destroy(cloud, disk).get("resources")
        assert cloud.things == {}
    else:
        converged(cloud, up(cloud, disk, author.program(free(second))), free(second))


@given(programs(), programs())
@SEEDED
@BOUNDED
def test_renaming_and_moving_with_aliases_calls_no_provider(nodes: list[Node], other: list[Node]) -> None:
    where = {node.base: node for node in other}
    renamed = [replace(node, suffix=1 - node.suffix if node.base in where else node.suffix, alias=True) for node in free(nodes)]
    boxes = [index for index, node in enumerate(renamed) if node.component]
    moved = [replace(n, parent=boxes[0] if n.base in where and boxes and boxes[0] < i else n.parent) for i, n in enumerate(renamed)]
    cloud, author = Cloud(), Author()
    deployment = up(cloud, EMPTY, author.program(free(nodes)))
    cloud.calls.clear()
    deployment = up(cloud, deployment, author.program(moved))
    assert cloud.calls == []
    converged(cloud, deployment, moved)


@given(programs())
@SEEDED
@BOUNDED
def test_what_is_deleted_with_another_is_not_deleted_itself(nodes: list[Node]) -> None:
    nodes, cloud = free(nodes), Cloud()
    deployment = up(cloud, EMPTY, Author().program(nodes))
    cloud.calls.clear()
    assert not destroy(cloud, deployment).get("resources")
    made = {node.name: node for node in nodes if not node.component}
    spared = {n.name for n in made.values() if n.deleted_with is not None and not nodes[n.deleted_with].component}
    assert sorted(cloud.calls) == sorted(f"delete {name}" for name in made if name not in spared)


@pytest.fixture(autouse=True)
def _say_the_seed() -> None:
    print(f"TRAINYARD_TEST_SEED={os.environ['TRAINYARD_TEST_SEED']}")
