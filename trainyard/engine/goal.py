"""What the program asks for one resource, and the old state it continues."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from trainyard.engine import urn as urns
from trainyard.engine.hook import EngineError
from trainyard.engine.kinds import Properties
from trainyard.engine.operation import Operation
from trainyard.engine.state import Resource


@dataclass(frozen=True, slots=True)
class Alias:
    """Another name a resource had: a whole URN, or the parts that differ."""

    urn: str = ""
    name: str = ""
    type: str = ""
    stack: str = ""
    project: str = ""
    parent: str = ""
    no_parent: bool = False


@dataclass(slots=True)
class Goal:
    """One registration."""

    type: str
    name: str
    custom: bool
    parent: str = ""
    inputs: Properties = field(default_factory=dict)
    dependencies: list[str] = field(default_factory=list)
    property_dependencies: dict[str, list[str]] = field(default_factory=dict)
    provider: str = ""
    protect: bool | None = None
    retain_on_delete: bool | None = None
    deleted_with: str = ""
    replace_with: list[str] = field(default_factory=list)
    delete_before_replace: bool | None = None
    ignore_changes: list[str] = field(default_factory=list)
    replace_on_changes: list[str] = field(default_factory=list)
    additional_secret_outputs: list[str] = field(default_factory=list)
    hide_diff: list[Any] = field(default_factory=list)
    aliases: list[Alias] = field(default_factory=list)
    custom_timeouts: dict[str, float] = field(default_factory=dict)
    source_position: str = ""
    stack_trace: list[Any] = field(default_factory=list)


def new_state(goal: Goal, urn: str, old: Resource | None) -> Resource:
    """Return the state that the goal would have, without id and outputs."""
    return Resource(
        urn=urn,
        type=goal.type,
        custom=goal.custom,
        inputs=dict(goal.inputs),
        parent=goal.parent,
        protect=bool(goal.protect),
        dependencies=goal.dependencies,
        provider=goal.provider,
        property_dependencies=goal.property_dependencies,
        additional_secret_outputs=goal.additional_secret_outputs,
        custom_timeouts=goal.custom_timeouts,
        retain_on_delete=bool(goal.retain_on_delete),
        deleted_with=goal.deleted_with,
        replace_with=goal.replace_with,
        created=old.created if old else "",
        modified=old.modified if old else "",
        source_position=goal.source_position,
        stack_trace=goal.stack_trace,
        ignore_changes=goal.ignore_changes,
        replace_on_changes=goal.replace_on_changes,
        hide_diff=goal.hide_diff,
    )


def claim_urn(op: Operation, goal_parent: str, kind: str, name: str) -> str:
    """Return the URN of a new registration; each may be registered once."""
    urn = urns.make(op.stack, op.project.name, goal_parent, kind, name)
    if urn in op.seen.urns:
        raise EngineError(f"two resources have the same type and name: {urn}")
    if urn in op.state.renamed:
        raise EngineError(f"{urn} was already claimed as the old name of {op.state.renamed[urn]}")
    op.seen.urns.add(urn)
    return urn


def find_old(op: Operation, urn: str, goal: Goal) -> Resource | None:
    """Return the old state of a resource, under its URN or one of its old names (which is then taken)."""
    for candidate in [urn, *_alias_urns(op, urn, goal)]:
        old = op.olds.get(candidate)
        if old is None:
            continue
        if candidate != urn:
            taken_by = op.state.renamed.get(candidate, candidate if candidate in op.seen.urns else "")
            if taken_by:
                raise EngineError(f"{urn} has the alias {candidate}, which {taken_by} has already")
            op.state.renamed[candidate] = urn
            op.seen.renamed_from[urn] = candidate
            op.providers.rename(candidate, urn)
        return old
    return None


def _alias_urns(op: Operation, urn: str, goal: Goal) -> list[str]:
    """Return the old URNs a resource may have: its own aliases, and those its parent's old name gives."""
    own = [_collapse(op, goal, alias) for alias in goal.aliases]
    result = list(own)
    old_parent = op.seen.renamed_from.get(goal.parent, "")
    if old_parent:
        parent_name = urns.name_of(goal.parent)
        result.append(_inherited(op, goal.type, goal.name, parent_name, old_parent))
        result += [_inherited(op, urns.type_of(u), urns.name_of(u), parent_name, old_parent) for u in own]
    return [candidate for index, candidate in enumerate(result) if candidate != urn and candidate not in result[:index]]


def _collapse(op: Operation, goal: Goal, alias: Alias) -> str:
    if alias.urn:
        return alias.urn
    parent = op.seen.renamed_from.get(alias.parent, alias.parent) if alias.parent else goal.parent
    if alias.no_parent:
        parent = ""
    return urns.make(alias.stack or op.stack, alias.project or op.project.name, parent, alias.type or goal.type, alias.name or goal.name)


def _inherited(op: Operation, kind: str, name: str, parent_name: str, old_parent: str) -> str:
    """Return the old name of a child; a name that begins with the parent's follows it."""
    if name.startswith(parent_name):
        name = urns.name_of(old_parent) + name[len(parent_name) :]
    return urns.make(op.stack, op.project.name, old_parent, kind, name)
