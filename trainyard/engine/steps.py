"""Carry out what was planned for a registration, and record each call before and after it is made."""

from __future__ import annotations

import threading

from trainyard.engine.events import Op
from trainyard.engine.goal import Goal, claim_urn
from trainyard.engine.hook import EngineError, RefusedError, exact_time, kind_of
from trainyard.engine.kinds import UNKNOWN_TEXT, Properties, SecretValue
from trainyard.engine.operation import Operation, Stopped
from trainyard.engine.plan import Plan, make_plan
from trainyard.engine.provider import ProviderError, ResourceOutcome
from trainyard.engine.state import Resource
from trainyard.engine.values import equal


def register(op: Operation, goal: Goal) -> Resource:
    """Bring one resource to its goal and return its state; raises Stopped after an error was reported."""
    try:
        with op.planning:
            op.check_running()
            plan = make_plan(op, goal)
            if plan.doomed or plan.delete_first:
                for resource in [*plan.doomed, plan.old] if plan.old else plan.doomed:
                    op.deletions[id(resource)] = threading.Event()
        return _carry_out(op, plan)
    except RefusedError:
        raise
    except EngineError as error:
        op.fail(str(error), getattr(error, "urn", ""), kind=kind_of(error))
        raise Stopped from None


def read(op: Operation, goal: Goal, identity: str) -> Resource:
    """Read a resource that is not ours (``.get()``)."""
    try:
        with op.planning:
            op.check_running()
            urn = claim_urn(op, goal.parent, goal.type, goal.name)
            old = op.olds.get(urn)
            op.seen.operated.add(urn)
        new = Resource(urn, goal.type, True, identity, dict(goal.inputs), parent=goal.parent, external=True, provider=goal.provider)
        new.dependencies, new.additional_secret_outputs = goal.dependencies, goal.additional_secret_outputs
        new.source_position, new.stack_trace = goal.source_position, goal.stack_trace
        _read(op, new, old)
    except EngineError as error:
        op.fail(str(error), kind=kind_of(error))
        raise Stopped from None
    op.registered[urn] = new
    return new


def _read(op: Operation, new: Resource, old: Resource | None) -> None:
    with op.step("read", new):
        if new.id != UNKNOWN_TEXT:
            answer = op.providers.get(new.provider, new.urn).read(new.urn, new.id, new.inputs, new.inputs, 0)
            if not answer.id:
                raise EngineError(f"the resource '{new.id}' to read does not exist")
            new.id, new.outputs, new.init_errors = answer.id, answer.outputs, answer.reasons
        if old is not None:
            new.created, new.modified = old.created, old.modified
        if old is None or not (equal(old.inputs, new.inputs) and equal(old.outputs, new.outputs)):
            new.modified = exact_time()
        _seal_outputs(op, new)
        if old is not None and not old.external and old.id != new.id:
            old.delete = True  # ours is let go: it is deleted after the program
            op.state.record(new)
        else:
            op.state.record(new, [old] if old else [])
    if new.init_errors:
        raise EngineError(f"{new.urn} is not as it should be: {'; '.join(new.init_errors)}")


def _carry_out(op: Operation, plan: Plan) -> Resource:
    new, old = plan.new, plan.old
    if plan.action == "same" and old is not None:
        _same(op, plan, old)
    elif plan.action == "update" and old is not None:
        _update(op, plan, old)
    elif plan.action == "create":
        _create(op, plan, "create")
    elif plan.action == "recreate" and old is not None:
        gone = op.deletions.get(id(old))
        if gone is not None:  # another thread deletes it right now
            while not gone.wait(0.5):
                op.check_running()
        op.check_running()
        _create(op, plan, "create-replacement", gone_after=[old])
    elif old is not None:
        _replace(op, plan, old)
    op.registered[new.urn] = new
    return new


def _same(op: Operation, plan: Plan, old: Resource) -> None:
    new = plan.new
    new.id, new.outputs = old.id, old.outputs
    if new.is_provider:
        op.providers.same(new, old.inputs)
    _seal_outputs(op, new)
    op.events.step("same", new.urn, "done", parent=new.parent)
    op.state.record(new, [old], write=_worth_writing(old, new))


def _create(op: Operation, plan: Plan, kind: Op, gone_after: list[Resource] | None = None, marks: Resource | None = None) -> None:
    """Create; ``gone_after`` are old states that end with it, ``marks`` is the one to be deleted later."""
    new, provider = plan.new, plan.provider
    with op.step(kind, new, plan.keys):
        if provider is None or new.is_provider:
            if provider is not None:
                _take(new, provider.create(new.urn, new.inputs, 0, op.preview))
            new.created = new.modified = exact_time()
            _seal_outputs(op, new)
            if marks is not None:
                marks.delete = True
            op.state.record(new, gone_after or [])
            return
        op.state.begin(new, "creating")
        try:
            outcome = provider.create(new.urn, new.inputs, new.custom_timeouts.get("create", 0), op.preview)
        except ProviderError as error:
            op.state.end(new, keep=error.maybe)
            raise
        except BaseException:
            op.state.end(new, keep=True)
            raise
        _take(new, outcome)
        new.created = new.modified = exact_time()
        _seal_outputs(op, new)
        if marks is not None:
            marks.delete = True
        op.state.end(new, new=new, gone=gone_after or [])
        if outcome.reasons:
            raise _not_ready(new)


def _update(op: Operation, plan: Plan, old: Resource) -> None:
    new, provider = plan.new, plan.provider
    new.id = old.id
    with op.step("update", new, plan.keys):
        if provider is None:
            op.state.record(new, [old])
            return
        if not new.is_provider:
            op.state.begin(new, "updating")
        try:
            timeout = new.custom_timeouts.get("update", 0)
            ignore = plan.goal.ignore_changes
            outcome = provider.update(new.urn, old.id, old.inputs, old.outputs, new.inputs, timeout, ignore, op.preview)
        except BaseException:
            op.state.end(new)  # the old state stands: the next run sees the difference again
            raise
        _take(new, outcome)
        new.modified = exact_time()
        if outcome.reasons:
            new.inputs = old.inputs  # the next run must see the difference again
        _seal_outputs(op, new)
        op.state.end(new, new=new, gone=[old])
        if outcome.reasons:
            raise _not_ready(new)


def _replace(op: Operation, plan: Plan, old: Resource) -> None:
    if not plan.delete_first:
        return _create(op, plan, "create-replacement", marks=old)
    from trainyard.engine.deletes import delete_one  # deletes needs the planner's states, the planner's steps need one delete

    try:
        for resource in [*plan.doomed, old]:
            if not resource.pending_replacement:
                delete_one(op, resource, pending_replacement=not resource.delete)
            op.deletions[id(resource)].set()
        op.check_running()
    except (EngineError, Stopped):
        op.stopping.set()
        raise
    _create(op, plan, "create-replacement", gone_after=[old])


def _take(new: Resource, outcome: ResourceOutcome) -> None:
    new.id, new.outputs, new.init_errors = outcome.id, outcome.outputs, outcome.reasons


def _not_ready(new: Resource) -> EngineError:
    return EngineError(f"{new.urn} exists but is not ready: {'; '.join(new.init_errors)}")


def _seal_outputs(op: Operation, new: Resource) -> None:
    """Make outputs secret that are named so, or that repeat a secret input."""
    outputs: Properties = new.outputs
    for key in outputs:
        secret = key in new.additional_secret_outputs or isinstance(new.inputs.get(key), SecretValue)
        if secret and not isinstance(outputs[key], SecretValue):
            outputs = {**outputs, key: op.wire.seal(outputs[key])}
    new.outputs = outputs


def _worth_writing(old: Resource, new: Resource) -> bool:
    """Say whether an unchanged resource differs in what matters (source lines and init errors do not)."""
    fields = (
        "urn",
        "type",
        "custom",
        "custom_timeouts",
        "retain_on_delete",
        "provider",
        "parent",
        "deleted_with",
        "replace_with",
        "protect",
    )
    if any(getattr(old, name) != getattr(new, name) for name in fields):
        return True
    if sorted(old.dependencies) != sorted(new.dependencies):
        return True
    return not (equal(old.inputs, new.inputs) and equal(old.outputs, new.outputs))
