"""Decide what to do with a registration: nothing, create, update or replace. Same answers as the CLI gives.

One registration at a time is planned (under the operation's planning lock), as in the CLI; steps then run
side by side.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from typing import Literal

from trainyard.engine import paths
from trainyard.engine import urn as urns
from trainyard.engine.codec import plain
from trainyard.engine.goal import Goal, claim_urn, find_old, new_state
from trainyard.engine.hook import EngineError
from trainyard.engine.kinds import UNKNOWN
from trainyard.engine.operation import Operation
from trainyard.engine.provider import Checked, DiffAnswer, Provider
from trainyard.engine.state import Resource
from trainyard.engine.values import changed_keys, equal

Action = Literal["same", "create", "update", "replace", "recreate"]


@dataclass(frozen=True, slots=True)
class Plan:
    """What is to be done, in this order: delete ``doomed``, then (for a replace that deletes first) old, then act."""

    action: Action
    new: Resource
    old: Resource | None
    provider: Provider | None
    goal: Goal
    keys: list[str] = field(default_factory=list)
    delete_first: bool = False
    doomed: list[Resource] = field(default_factory=list)


def make_plan(op: Operation, goal: Goal) -> Plan:
    """Plan one registration."""
    if goal.parent and goal.parent not in op.seen.urns:
        raise EngineError(f"the parent {goal.parent} of {goal.name} is not registered")
    urn = claim_urn(op, goal.parent, goal.type, goal.name)
    old = find_old(op, urn, goal)
    new = new_state(goal, urn, old)
    provider = op.providers.of(new)
    recreating = id(old) in op.seen.deleted_states  # by state: another of this name may be gone while this one stands
    fresh = old is None or recreating or old.external or old.taint
    _check_inputs(op, provider, new, goal, None if fresh else old)
    op.seen.operated.add(urn)
    if old is not None and recreating:
        op.seen.replaced.add(urn)
        return Plan("recreate", new, old, provider, goal)
    if old is None:
        return Plan("create", new, None, provider, goal)
    if old.external:
        return Plan("replace", new, old, provider, goal)
    return _plan_change(op, provider, old, new, goal)


def _check_inputs(op: Operation, provider: Provider | None, new: Resource, goal: Goal, old: Resource | None) -> None:
    inputs = dict(goal.inputs)
    if old is not None and goal.ignore_changes:
        inputs, wrong = paths.ignore(old.inputs, inputs, goal.ignore_changes)
        if wrong:
            op.events.diagnostic("info", f"cannot ignore changes in added or removed elements of {', '.join(wrong)}", new.urn)
    if provider is None:
        new.inputs = inputs
        return
    answer = provider.check(new.urn, old.inputs if old else None, inputs, os.urandom(32))
    _refuse_failures(op, new, answer)
    new.inputs = answer.inputs


def _refuse_failures(op: Operation, new: Resource, answer: Checked) -> None:
    for prop, reason in answer.failures:
        op.events.diagnostic("error", f"'{prop}': {reason}" if prop else reason, new.urn)
    if answer.failures:
        raise EngineError(f"the inputs of {new.urn} are wrong")


def _plan_change(op: Operation, provider: Provider | None, old: Resource, new: Resource, goal: Goal) -> Plan:
    difference = _compare(op, provider, old, new, goal)
    if difference.unavailable:
        op.events.diagnostic("warning", "its provider has settings that are not known during a preview: changes may differ", new.urn)
    difference = _with_replace_on_changes(difference, goal, bool(old.init_errors))
    keys = _shown_keys(difference, old, new)
    if not difference.changes and not old.pending_replacement:
        action: Action = "update" if old.init_errors else "same"
        return Plan(action, new, old, provider, goal, keys)
    if not difference.replaces and not old.pending_replacement:
        return Plan("update", new, old, provider, goal, keys)
    return _plan_replace(op, provider, old, new, goal, difference, keys)


def _plan_replace(op: Operation, provider: Provider | None, old: Resource, new: Resource, goal: Goal, difference: DiffAnswer,
                  keys: list[str]) -> Plan:  # fmt: skip
    if new.protect and old.protect:
        op.events.diagnostic("error", "it is protected and cannot be replaced: take 'protect' off first", new.urn)
        op.failed = True
        if not op.preview:
            raise EngineError(f"{new.urn} is protected")
    op.seen.replaced.add(new.urn)
    if provider is not None and not old.taint:  # defaults are not taken over from what goes away
        answer = provider.check(new.urn, None, dict(goal.inputs), os.urandom(32))
        _refuse_failures(op, new, answer)
        new.inputs = answer.inputs
    delete_first = difference.delete_before_replace if goal.delete_before_replace is None else goal.delete_before_replace
    if not (delete_first or old.pending_replacement):
        return Plan("replace", new, old, provider, goal, keys)
    doomed = _doomed(op, old)
    for resource in doomed:
        if resource.protect and not resource.delete:
            raise EngineError(f"{old.urn} cannot be replaced: {resource.urn}, which must go first, is protected")
    for resource in [*doomed, old]:
        op.seen.deleted_states.add(id(resource))
    return Plan("replace", new, old, provider, goal, keys, delete_first=True, doomed=doomed)


def _compare(op: Operation, provider: Provider | None, old: Resource, new: Resource, goal: Goal) -> DiffAnswer:
    if old.taint:
        return DiffAnswer(True, ["id"])
    if any(urn in op.seen.replaced for urn in new.replace_with):
        return DiffAnswer(True, ["replaceWith"])
    if new.deleted_with and new.deleted_with in op.seen.replaced:
        return DiffAnswer(True, ["deletedWith"])
    if _provider_changed(op, old, new):
        return DiffAnswer(True, ["provider"])
    if provider is None:
        return DiffAnswer(not equal(old.inputs, new.inputs))
    return compare_resource(provider, new.urn, old, new.inputs, goal.ignore_changes)


def compare_resource(provider: Provider, urn: str, old: Resource, inputs: dict[str, object], ignore: list[str]) -> DiffAnswer:
    """Ask the provider for the difference; where it cannot tell, compare the inputs."""
    answer = provider.diff(urn, old.id, old.inputs, old.outputs, inputs, ignore)
    if answer.changes is not None:
        return answer
    kept, _ = paths.ignore(old.inputs, inputs, ignore)
    detailed = paths.differences(plain(old.inputs), plain(kept))
    keys = sorted({str(path[0]) for path in map(paths.parse, detailed) if path})
    return DiffAnswer(bool(keys), answer.replace_keys, keys, detailed or answer.detailed, answer.delete_before_replace)


def _provider_changed(op: Operation, old: Resource, new: Resource) -> bool:
    if old.provider == new.provider:
        return False
    if not old.provider or not new.provider:
        return True
    old_urn, old_id = urns.split_reference(old.provider)
    new_urn, _ = urns.split_reference(new.provider)
    if op.state.renamed.get(old_urn) == new_urn:
        return False
    before = next((r for r in op.state.olds if r.urn == old_urn and r.id == old_id), op.olds.get(old_urn))
    after = op.registered.get(new_urn)
    if before is None or after is None:
        raise EngineError(f"the provider of {new.urn} is not in state")
    from trainyard.engine.providers import settings_of  # providers imports operation, which imports this late

    answer = op.providers.get(new.provider, new.urn).diff_config(
        new_urn, settings_of(before.inputs), before.outputs, settings_of(after.inputs), []
    )  # fmt: skip
    return answer.replaces


def _with_replace_on_changes(difference: DiffAnswer, goal: Goal, init_errors: bool) -> DiffAnswer:
    if not goal.replace_on_changes or (difference.changes is not True and not init_errors):
        return difference
    names = []
    for text in goal.replace_on_changes:
        path = paths.parse(text)
        if path is None:
            raise EngineError(f"replace_on_changes of {goal.name}: '{text}' is no path of a property")
        names.append(path)

    def hit(text: str) -> bool:
        path = paths.parse(text)
        return path is not None and any(paths.contains(want, path) for want in names)

    replace_keys = {*difference.replace_keys, *(key for key in difference.changed_keys if hit(key))}
    detailed = None
    if difference.detailed is not None:
        detailed = {
            path: kind if kind.endswith("REPLACE") or not hit(path) else f"{kind}_REPLACE" for path, kind in difference.detailed.items()
        }
    changes = difference.changes
    if init_errors and hit("#initerror"):
        replace_keys.add("#initerror")
        changes = True
    return DiffAnswer(changes, sorted(replace_keys), difference.changed_keys, detailed, difference.delete_before_replace)


def _shown_keys(difference: DiffAnswer, old: Resource, new: Resource) -> list[str]:
    keys = {*difference.replace_keys, *difference.changed_keys, *(difference.detailed or {})}
    return sorted(keys or set(changed_keys(old.inputs, new.inputs)))


def _doomed(op: Operation, root: Resource) -> list[Resource]:
    """Return what must be deleted before ``root`` can be, last first: what a new ``root`` would replace."""
    replaced = {root.urn}
    reached = {root.urn}
    result: list[Resource] = []
    olds = op.state.olds
    for resource in olds[olds.index(root) + 1 :]:
        needs = resource.needs() - {resource.parent}
        if op.is_operated(resource.urn) or not (needs & reached):
            continue
        reached.add(resource.urn)
        if _must_go(op, resource, replaced):
            replaced.add(resource.urn)
            result.append(resource)
    for resource in olds:
        cascades = resource.deleted_with == root.urn or root.urn in resource.replace_with
        if cascades and resource not in result and resource is not root and not op.is_operated(resource.urn):
            result.append(resource)
    return [r for r in reversed(result) if id(r) not in op.seen.deleted_states]


def _must_go(op: Operation, resource: Resource, replaced: set[str]) -> bool:
    """Say whether a resource would be replaced when those it gets values from are."""
    if not resource.custom or resource.external:
        return False
    if resource.provider and urns.split_reference(resource.provider)[0] in replaced:
        return True
    if resource.deleted_with in replaced:
        return True
    inputs = dict(resource.inputs)
    changing = [key for key in inputs if any(urn in replaced for urn in resource.property_dependencies.get(key, []))]
    if not changing:
        return False
    inputs.update(dict.fromkeys(changing, UNKNOWN))
    provider: Provider
    if resource.is_provider:
        op.providers.same(resource, resource.inputs)
        provider = op.providers
    else:
        provider = op.providers.get(resource.provider, resource.urn)
    answer = compare_resource(provider, resource.urn, resource, inputs, resource.ignore_changes)
    goal = Goal(resource.type, resource.name, True, replace_on_changes=resource.replace_on_changes)
    return _with_replace_on_changes(answer, goal, False).replaces
