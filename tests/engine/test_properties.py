"""Random graphs of resources, random edits, random faults and crashes: whatever happened, the next run converges.

The provider in memory checks on the way that nothing is created twice, or deleted while another still uses it.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from tests.engine.memory import Cloud, Program, destroy, up
from trainyard.engine.backend import new_deployment
from trainyard.engine.goal import Goal
from trainyard.engine.state import Resource

EMPTY = new_deployment("v1:Ex50mTIAaVs=:v1:P17SO/lFaK2kLHjo:gr/VSicyJ1aS+JJK7CH51WjYl5O4Gw==")
BOUNDED = settings(
    max_examples=60, deadline=None, phases=[Phase.generate], suppress_health_check=[HealthCheck.too_slow]
)  # no shrinking: minutes


@dataclass(frozen=True)
class Node:
    """One resource of a random program: which earlier ones it uses, by value or by order only."""

    name: str
    label: int
    gpu: int
    zone: int
    uses: tuple[int, ...]
    after: tuple[int, ...]
    deleted_with: int | None
    component: bool


class Crash(BaseException):
    """The process is gone."""


@st.composite
def programs(draw: st.DrawFn) -> list[Node]:
    names = draw(st.lists(st.sampled_from("abcdefgh"), unique=True, max_size=7))
    small = st.integers(0, 1)
    nodes = []
    for index, name in enumerate(names):
        earlier = st.lists(st.integers(0, index - 1), max_size=2, unique=True) if index else st.just([])
        with_ = draw(st.one_of(st.none(), st.integers(0, index - 1))) if index and draw(st.integers(0, 3)) == 0 else None
        component = draw(st.integers(0, 5)) == 0
        nodes.append(Node(name, draw(small), draw(small), draw(small), tuple(draw(earlier)), tuple(draw(earlier)), with_, component))
    return nodes


def program(nodes: list[Node]) -> Program:
    def run(add: Callable[[Goal], Resource]) -> None:
        made: list[Resource] = []
        for node in nodes:
            if node.component:
                made.append(add(Goal("px:index:Box", node.name, False)))
                continue
            goal = Goal("toy:index:Pod", node.name, True, inputs={"label": node.label, "gpu": node.gpu, "zone": node.zone})
            for use in node.uses:
                if made[use].custom:
                    goal.inputs[f"host{use}"] = made[use].outputs["ip"]
                    goal.property_dependencies[f"host{use}"] = [made[use].urn]
            goal.dependencies = sorted({made[i].urn for i in (*node.uses, *node.after)})
            if node.deleted_with is not None and made[node.deleted_with].custom:
                goal.deleted_with = made[node.deleted_with].urn
            made.append(add(goal))

    return run


def shape(cloud: Cloud, deployment: dict[str, Any]) -> list[Any]:
    """Return what there is, without the random names."""
    rows = []
    for resource in deployment.get("resources") or []:
        if resource["custom"] and resource["type"] == "toy:index:Pod":
            assert resource["id"] in cloud.things, f"{resource['urn']} is in state and not in the cloud"
            inputs = {k: v for k, v in cloud.things[resource["id"]].items() if k != "cloudName"}
            hosts = sorted(k for k in inputs if k.startswith("host"))
            values = [(k, inputs[k]) for k in ("label", "gpu", "zone")]
            rows.append(
                [resource["urn"].rpartition("::")[2], values, hosts, bool(resource.get("delete")), bool(resource.get("pendingReplacement"))]
            )
    return sorted(rows)


def check_order(deployment: dict[str, Any]) -> None:
    """What a resource needs stands before it in the file: the CLI refuses anything else."""
    seen: set[str] = set()
    for resource in deployment.get("resources") or []:
        needs = {*resource.get("dependencies", []), *(d for deps in (resource.get("propertyDependencies") or {}).values() for d in deps)}
        needs |= {resource[k] for k in ("parent", "deletedWith") if resource.get(k)}
        needs |= {resource["provider"].rpartition("::")[0]} if resource.get("provider") else set()
        assert resource.get("delete") or needs <= seen, f"{resource['urn']} stands before {needs - seen}"
        seen.add(resource["urn"])


def owned(cloud: Cloud, deployment: dict[str, Any]) -> None:
    """Nothing is in the cloud that the state does not know, but for what is deleted with another."""
    known = {resource.get("id") for resource in deployment.get("resources") or []}
    assert set(cloud.things) <= known, f"{set(cloud.things) - known} is in the cloud and not in state"


@given(st.lists(programs(), min_size=1, max_size=4))
@BOUNDED
def test_an_up_equals_a_destroy_and_an_up(edits: list[list[Node]]) -> None:
    edits = [[Node(n.name, n.label, n.gpu, n.zone, n.uses, n.after, None, n.component) for n in nodes] for nodes in edits]
    cloud, deployment = Cloud(), EMPTY
    for nodes in edits:
        deployment = up(cloud, deployment, program(nodes))
        check_order(deployment)
        owned(cloud, deployment)
    fresh = Cloud()
    assert shape(cloud, deployment) == shape(fresh, up(fresh, EMPTY, program(edits[-1])))
    assert not destroy(cloud, deployment).get("resources")
    assert cloud.things == {}


@given(programs(), programs(), st.data())
@BOUNDED
def test_after_any_failure_the_next_up_converges(first: list[Node], second: list[Node], data: st.DataObject) -> None:
    second = [Node(n.name, n.label, n.gpu, n.zone, n.uses, n.after, None, n.component) for n in second]
    first = [Node(n.name, n.label, n.gpu, n.zone, n.uses, n.after, None, n.component) for n in first]
    cloud = Cloud()
    deployment = up(cloud, EMPTY, program(first))
    verbs = st.sampled_from(["create", "update", "delete"])
    kinds = st.sampled_from(["before", "after", "init"])
    for _ in range(data.draw(st.integers(1, 3))):
        cloud.faults[data.draw(verbs), data.draw(st.sampled_from("abcdefgh"))] = data.draw(kinds)
    deployment = up(cloud, deployment, program(second))
    check_order(deployment)
    cloud.faults.clear()
    deployment = up(cloud, deployment, program(second))
    fresh = Cloud()
    assert shape(cloud, deployment) == shape(fresh, up(fresh, EMPTY, program(second)))
    owned(cloud, deployment)
    assert not destroy(cloud, deployment).get("resources")
    assert cloud.things == {}


@given(programs(), programs(), st.integers(1, 40), st.booleans())
@BOUNDED
def test_after_a_crash_at_any_write_nothing_is_lost(first: list[Node], second: list[Node], at: int, destroyed: bool) -> None:
    second = [Node(n.name, n.label, n.gpu, n.zone, n.uses, n.after, None, n.component) for n in second]
    cloud = Cloud()
    disk = up(cloud, EMPTY, program([Node(n.name, n.label, n.gpu, n.zone, n.uses, n.after, None, n.component) for n in first]))
    writes = 0

    def save(deployment: dict[str, Any]) -> None:
        nonlocal disk, writes
        writes += 1
        if writes >= at:
            raise Crash
        disk = json.loads(json.dumps(deployment))

    with contextlib.suppress(Crash):
        up(cloud, disk, program(second), save)
    check_order(disk)
    if destroyed:
        disk = destroy(cloud, disk)
    else:
        disk = up(cloud, disk, program(second))
        fresh = Cloud()
        assert shape(cloud, disk) == shape(fresh, up(fresh, EMPTY, program(second)))
        owned(cloud, disk)
        disk = destroy(cloud, disk)
    assert not disk.get("resources")
    assert cloud.things == {}


@given(programs())
@BOUNDED
def test_what_is_deleted_with_another_is_not_deleted_itself(nodes: list[Node]) -> None:
    cloud = Cloud()
    deployment = up(cloud, EMPTY, program(nodes))
    cloud.calls.clear()
    cloud.things = {name: {} for name in cloud.things}  # what it uses is of no matter here
    assert not destroy(cloud, deployment).get("resources")
    made = {node.name: node for node in nodes if not node.component}
    spared = {n.name for n in made.values() if n.deleted_with is not None and not nodes[n.deleted_with].component}
    assert sorted(cloud.calls) == sorted(f"delete {name}" for name in made if name not in spared)
