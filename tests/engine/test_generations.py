"""Several states of one name: what was replaced stays in the file until it is deleted, beside its successor.

Each graph is the least one in which an engine that goes by names takes one for the other; random graphs found them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tests.engine.memory import Cloud, Program, destroy, up
from tests.engine.test_properties import EMPTY, owned
from trainyard.engine.goal import Alias, Goal
from trainyard.engine.state import Resource

Add = Callable[[Goal], Resource]


def _pod(name: str, *, home: Resource | None = None, seat: Resource | None = None, old: str = "", **options: Any) -> Goal:
    """Return the goal of a pod: ``home`` is what it goes with, a change of ``seat`` replaces it and deletes first."""
    inputs: dict[str, Any] = {key: options.pop(key) for key in ("label", "gpu", "zone") if key in options}
    goal = Goal("toy:index:Pod", name, True, inputs=inputs, aliases=[Alias(name=old)] if old else [], **options)
    for key, used, output in (("home", home, "cloudName"), ("seat", seat, "ip")):
        if used is not None:
            goal.inputs[key] = used.outputs[output]
            goal.property_dependencies[key] = [used.urn]
            goal.dependencies.append(used.urn)
    goal.deleted_with = home.urn if home is not None else ""
    return goal


def _ids(deployment: dict[str, Any], name: str) -> dict[bool, str]:
    """Return the ids that stand under a name: of what waits for its delete (True) and of what serves."""
    return {bool(r.get("delete")): r["id"] for r in deployment["resources"] if r["urn"].endswith(f"::{name}")}


def _with_a_failing_delete(cloud: Cloud, deployment: dict[str, Any], program: Program, call: int) -> dict[str, Any]:
    """Run a program whose provider call of this number fails."""
    cloud.calls.clear()
    cloud.faults = {call: "before"}
    deployment = up(cloud, deployment, program)
    assert cloud.calls[call - 1].startswith("delete") and not cloud.faults
    return deployment


def test_deleting_what_was_replaced_costs_its_successor_no_place_in_the_state() -> None:
    cloud = Cloud()

    def first(add: Add) -> None:
        seat = add(_pod("seat"))
        add(_pod("user", seat=seat))

    def second(add: Add) -> None:
        add(_pod("user", delete_before_replace=False))
        add(_pod("seat"))

    def third(add: Add) -> None:  # must delete the old user, which sat there; the CLI's state has two users then, and it refuses it
        add(_pod("seat", gpu=2))
        add(_pod("user", delete_before_replace=False))

    deployment = _with_a_failing_delete(cloud, up(cloud, EMPTY, first), second, 2)
    serves = _ids(deployment, "user")[False]
    cloud.calls.clear()
    deployment = up(cloud, deployment, third)
    assert cloud.calls == ["delete user", "delete seat", "create seat"]
    assert _ids(deployment, "user") == {False: serves}
    owned(cloud, deployment)
    assert not destroy(cloud, deployment).get("resources") and cloud.things == {}


def test_a_destroy_spares_the_renamed_and_replaced_thing_in_which_a_protected_one_lives() -> None:
    cloud = Cloud()

    def first(add: Add) -> None:
        add(_pod("lodger", home=add(_pod("house")), protect=True))

    def second(add: Add) -> None:
        add(_pod("villa", old="house", zone=2))

    deployment = up(cloud, up(cloud, EMPTY, first), second)
    things = dict(cloud.things)
    assert set(_ids(deployment, "villa")) == {True, False}, "the old one is written under its new name, as by the CLI"
    deployment = destroy(cloud, deployment)
    assert cloud.things == things, "the CLI deletes the house, and with it the protected lodger"
    owned(cloud, deployment)


def test_what_lives_in_the_successor_does_not_go_with_what_was_replaced() -> None:
    cloud = Cloud()

    def first(add: Add) -> None:
        add(_pod("lodger", home=add(_pod("house"))))

    def second(add: Add) -> None:
        add(_pod("lodger", home=add(_pod("house", zone=2))))

    def third(add: Add) -> None:
        add(_pod("house", zone=2))

    deployment = _with_a_failing_delete(cloud, up(cloud, EMPTY, first), second, 3)
    cloud.calls.clear()
    deployment = up(cloud, deployment, third)
    assert sorted(cloud.calls) == ["delete house", "delete lodger"], "the CLI forgets the lodger, which lives on in the new house"
    owned(cloud, deployment)


def test_a_run_that_ends_between_a_moved_component_and_its_child_costs_the_child_nothing() -> None:
    cloud = Cloud()

    def program(moved: bool, **inputs: Any) -> Program:
        def run(add: Add) -> None:
            outer = add(Goal("px:index:Box", "outer", False))
            inner = Goal("px:index:Box", "inner", False, outer.urn if moved else "", aliases=[Alias(no_parent=True)] if moved else [])
            add(_pod("child", parent=add(inner).urn, **inputs))

        return run

    deployment = up(cloud, EMPTY, program(False))
    cloud.calls.clear()
    cloud.faults = {1: "before"}
    deployment = up(cloud, deployment, program(True, label=1))
    deployment = up(cloud, deployment, program(True, label=1))
    assert cloud.calls == ["update child", "update child"]
    owned(cloud, deployment)
