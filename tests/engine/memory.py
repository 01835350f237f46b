"""Operations without processes: the planner and the steps against a provider in memory. For tests of thousands of graphs."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.engine.bench import SALT
from trainyard.engine import urn as urns
from trainyard.engine.codec import plain
from trainyard.engine.deletes import delete_everything, delete_unseen
from trainyard.engine.events import Events
from trainyard.engine.goal import Goal
from trainyard.engine.kinds import Properties
from trainyard.engine.operation import Kind, Operation, Stopped
from trainyard.engine.project import Project, StackConfig
from trainyard.engine.provider import Checked, DiffAnswer, ProviderError, ResourceOutcome
from trainyard.engine.providers import Plugins, Providers
from trainyard.engine.secrets import Crypter
from trainyard.engine.spawn import PluginSource
from trainyard.engine.state import Resource, StackState
from trainyard.engine.steps import register
from trainyard.engine.values import Wire

CRYPTER = Crypter("x", SALT)


@dataclass
class Cloud:
    """What exists: id -> inputs; and which of the next calls fail (and whether the thing exists all the same)."""

    things: dict[str, Properties] = field(default_factory=dict)
    faults: dict[int, str] = field(default_factory=dict)
    made: int = 0
    calls: list[str] = field(default_factory=list)
    condemned: Callable[[], set[str]] = set  # what was replaced and waits for its delete
    strict: bool = False  # nothing may be deleted while another uses it (a replacement that deletes first does that by design)

    def lives_in(self, identity: str) -> set[str]:
        """Return a thing and all that goes with it."""
        found = {identity}
        for _ in list(self.things):
            found |= {name for name, thing in list(self.things.items()) if thing.get("home") in found}
        return found


class MemoryProvider:
    """A provider over a Cloud. ``gpu`` and ``seat...`` replace and delete first, ``zone`` replaces and creates first, all else updates.

    With a thing goes all that lives in it: whose input ``home`` is its id. What is seated on it must go before.
    """

    adopts_pending = True

    def __init__(self, cloud: Cloud) -> None:
        self.cloud = cloud

    def check_config(self, urn: str, olds: Properties, news: Properties) -> Checked:
        return Checked(news)

    def diff_config(self, urn: str, old_inputs: Properties, old_outputs: Properties, news: Properties, ignore: list[str]) -> DiffAnswer:
        return DiffAnswer(False)

    def configure(self, urn: str, identity: str, inputs: Properties) -> None:
        pass

    def check(self, urn: str, olds: Properties | None, news: Properties, seed: bytes) -> Checked:
        name = (olds or {}).get("cloudName") or f"{urns.name_of(urn)}-{seed.hex()[:8]}"
        return Checked({"cloudName": name, **news})

    def diff(
        self, urn: str, identity: str, old_inputs: Properties, old_outputs: Properties, news: Properties, ignore: list[str]
    ) -> DiffAnswer:
        olds, wanted = plain(old_inputs), plain(news)
        keys = sorted(k for k in {*olds, *wanted} if k not in ignore and olds.get(k) != wanted.get(k))
        first = [k for k in keys if k == "gpu" or k.startswith("seat")]
        replaces = [*first, *(k for k in keys if k in ("zone", "cloudName"))]
        return DiffAnswer(bool(keys), replaces, keys, delete_before_replace=bool(first))

    def create(self, urn: str, inputs: Properties, timeout: float, preview: bool) -> ResourceOutcome:
        clear = plain(inputs)
        identity = clear["cloudName"]
        fault = self._fault("create", urn)
        if fault == "before":
            raise ProviderError("refused")
        assert identity not in self.cloud.things, f"{identity} is created twice"
        self.cloud.made += 1
        self.cloud.things[identity] = clear
        if fault == "after":
            raise ProviderError("the connection was lost", maybe=True)
        return ResourceOutcome(identity, {**inputs, "ip": f"ip-{identity}"}, reasons=["not ready"] if fault == "init" else [])

    def update(self, urn: str, identity: str, old_inputs: Properties, old_outputs: Properties, inputs: Properties, timeout: float,
               ignore: list[str], preview: bool) -> ResourceOutcome:  # fmt: skip
        fault = self._fault("update", urn)
        if fault == "before":
            raise ProviderError("refused")
        assert identity in self.cloud.things, f"{identity} is updated and is not there"
        self.cloud.things[identity] = plain(inputs)
        if fault == "after":
            raise ProviderError("the connection was lost", maybe=True)
        return ResourceOutcome(identity, {**inputs, "ip": f"ip-{identity}"}, reasons=["not ready"] if fault == "init" else [])

    def read(self, urn: str, identity: str, inputs: Properties, outputs: Properties, timeout: float) -> ResourceOutcome:
        identity = identity or plain(inputs)["cloudName"]
        if identity not in self.cloud.things:
            return ResourceOutcome("", {})
        return ResourceOutcome(identity, {**inputs, "ip": f"ip-{identity}"}, inputs)

    def delete(self, urn: str, identity: str, inputs: Properties, outputs: Properties, timeout: float) -> None:
        fault = self._fault("delete", urn)
        if fault == "before":
            raise ProviderError("refused")
        going = self.cloud.lives_in(identity)
        others = [(n, thing) for n, thing in list(self.cloud.things.items()) if n not in going and "home" not in thing]
        needed = [n for n, thing in others if f"ip-{identity}" in str(thing)]
        assert not (needed and self.cloud.strict), f"{identity} is deleted while {needed} still use it"
        seated = {n for n, thing in others if any(k.startswith("seat") and v == f"ip-{identity}" for k, v in thing.items())}
        condemned = self.cloud.condemned()
        assert seated <= condemned or identity in condemned, f"{identity} is deleted under {seated}"
        for name in going:
            self.cloud.things.pop(name, None)
        if fault == "after":
            raise ProviderError("the connection was lost", maybe=True)

    def invoke(self, token: str, arguments: Properties, preview: bool) -> tuple[Properties, list[tuple[str, str]]]:
        return {}, []

    def cancel(self) -> None:
        pass

    def close(self) -> None:
        pass

    def _fault(self, verb: str, urn: str) -> str:
        self.cloud.calls.append(f"{verb} {urns.name_of(urn)}")
        return self.cloud.faults.pop(len(self.cloud.calls), "")


class _MemoryPlugins(Plugins):
    def __init__(self, cloud: Cloud) -> None:
        self._cloud = cloud

    def open(self, package: str, version: str) -> MemoryProvider:
        return MemoryProvider(self._cloud)


Program = Callable[[Callable[[Goal], Resource]], None]


def operation(cloud: Cloud, deployment: dict[str, Any], kind: Kind, save: Callable[[dict[str, Any]], None]) -> Operation:
    """Return an operation on a deployment."""
    here = Path("/")
    project = Project("px", here, here)
    wire = Wire(here)
    events = Events(io.StringIO(), machine=True, preview=kind == "preview", hide=wire.hide)
    state = StackState(deployment, CRYPTER, wire, lambda text: save(json.loads(text)))
    op = Operation(
        kind, "dev", project, StackConfig({}, frozenset()), state, events, wire, PluginSource(project, {}), "", 4, preview=kind == "preview"
    )
    op.providers = Providers(op, _MemoryPlugins(cloud))
    cloud.condemned = lambda: {resource.id for resource in op.state.olds if resource.delete}
    return op


def up(cloud: Cloud, deployment: dict[str, Any], program: Program, save: Callable[[dict[str, Any]], None] | None = None) -> dict[str, Any]:
    """Run a program and return the deployment it leaves; errors are in the cloud's faults, not raised."""
    written: list[dict[str, Any]] = [deployment]
    op = operation(cloud, deployment, "up", save or written.append)
    from trainyard.engine.adopt import settle_pending

    try:
        if settle_pending(op):
            stack = register(op, Goal(urns.STACK_TYPE, "px-dev", False))
            default = register(op, Goal(urns.provider_type("toy"), "default", True))

            def add(goal: Goal) -> Resource:
                goal.parent = goal.parent or stack.urn
                goal.provider = goal.provider or (urns.reference(default.urn, default.id) if goal.custom else "")
                return register(op, goal)

            program(add)
            if not op.failed:
                delete_unseen(op)
    except Stopped:
        pass
    op.state.write()
    return _deployment(op.state.encoded())


def _deployment(encoded: bytes) -> dict[str, Any]:
    deployment: dict[str, Any] = json.loads(encoded)
    return deployment


def destroy(cloud: Cloud, deployment: dict[str, Any], save: Callable[[dict[str, Any]], None] | None = None) -> dict[str, Any]:
    """Destroy a stack and return the deployment that is left."""
    op = operation(cloud, deployment, "destroy", save or (lambda latest: None))
    from trainyard.engine.adopt import settle_pending

    settle_pending(op)
    cloud.strict = True
    delete_everything(op)
    cloud.strict = False
    op.state.write()
    return _deployment(op.state.encoded())
