"""Destroy an environment: with the engine, through the cloud where the engine fails; "destroyed" only on a proof of absence."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from trainyard.clouds.absence import KnownPod, PodLeft, Proof, prove, unasked
from trainyard.clouds.protocol import PodInfo
from trainyard.errors import StillThere, TrainyardError
from trainyard.faults import readable
from trainyard.leases.sweep import close_all
from trainyard.runs.context import CommandContext
from trainyard.runs.life.teardown import shielded
from trainyard.runs.planning import declaredpods
from trainyard.runs.records import pods
from trainyard.runs.records.notes import note_proof
from trainyard.runs.records.record import RunRecord
from trainyard.runs.records.stackresources import leases_in, pods_in
from trainyard.stacks import facade
from trainyard.stacks.model import Event, OnEvent, OperationOutcome, Stack


@dataclass(slots=True)
class EnvironmentPods:
    """What state and records name of an environment: leases, the fences among them, and pods."""

    leases: set[str] = field(default_factory=set)
    fences: set[str] = field(default_factory=set)
    pods: dict[str, KnownPod] = field(default_factory=dict)

    @property
    def nothing(self) -> bool:
        """Tell whether nothing is named, so that nothing can be proved."""
        return not self.leases and not self.pods

    def has(self, pod: PodInfo) -> bool:
        """Tell whether a pod belongs."""
        return pod.lease_id in self.leases or pod.fence_id in self.fences


def destroy(context: CommandContext, stack: Stack, runs: Iterable[RunRecord], on_event: OnEvent) -> OperationOutcome:
    """Destroy, shielded from signals; ``runs``: those that were alive.

    Raises StillThere, with pods, prices and what to do next, unless the cloud proves that nothing is left; an error of
    the failure's kind when that is proved and only the state could not be brought to an end.
    """
    resources = facade.readable_resources(stack)
    named = _pods_named(resources, runs)
    unknown = named.nothing and not _exists(stack)
    begun_before = named.nothing and not unknown and _take_from_last(context, stack, named)
    if unknown:
        # Before the engine leaves an empty state, which would tell the next destroy that there was nothing.
        _refuse_beside(stack, _account_pods(context, stack))
    if not named.nothing:
        _remember_names(context, stack, named)
    late = declaredpods.outlived(context, stack, resources)
    with shielded(lambda: f"stack '{stack.name}' is not destroyed; {_again(stack)}", context.ui.fail):
        done = _by_engine(stack, on_event)
        if named.nothing:
            if not unknown and done.error is None:
                # The lease is in a state before a pod is asked for: an empty one has made none.
                _warn_of_others(context, stack, _account_pods(context, stack))
            elif not unknown:
                _refuse_beside(stack, _account_pods(context, stack))
            return _outcome(stack, done if done.error is None else _by_engine(stack, on_event))
        proof = _prove(context, stack, named, engine_failed=done.error is not None)
        note_proof(context, proof)
        if done.error is not None and proof.proved:
            # The state still names what is gone, and an up would believe it.
            done = _by_engine(stack, on_event)
    if not proof.proved:
        said = "\n".join([f"stack '{stack.name}' is not destroyed", str(proof), *([str(done.error)] if done.error else [])])
        raise StillThere(said, hint=_again(stack))
    declaredpods.settle(context, stack, resources, proof, late)
    if begun_before:
        _warn_of_others(context, stack, _of_ours(context, stack))
    return _outcome(stack, done)


@dataclass(frozen=True, slots=True)
class _EngineResult:
    """What the engine did."""

    outcome: OperationOutcome | None
    error: TrainyardError | None


def _by_engine(stack: Stack, on_event: OnEvent) -> _EngineResult:
    try:
        outcome = facade.operate(stack, "destroy", on_event)
    except TrainyardError as error:
        # A state that cannot be read must not keep its pods alive.
        return _EngineResult(None, error)
    return _EngineResult(outcome, None if outcome.ok else outcome.error(f"(engine {outcome.engine}) "))


def _outcome(stack: Stack, done: _EngineResult) -> OperationOutcome:
    """Return what a good destroy did; raises the engine's error, with what was proved, for another."""
    if done.error is None and done.outcome is not None:
        return done.outcome
    assert done.error is not None
    said = f"destroy of stack '{stack.name}' failed, though no pod that it names is left (the cloud's proof): {done.error.message}"
    raise type(done.error)(said, hint=done.error.hint or _again(stack), facts=done.error.facts)


def _pods_named(resources: Sequence[Event], runs: Iterable[RunRecord]) -> EnvironmentPods:
    """Return what the state names (where it is damaged: its last good version), and what live runs have rented."""
    result = EnvironmentPods()
    for lease in leases_in(resources, replaced=True):
        result.leases |= {id for id in (lease.fence_id, lease.lease_id) if id}
        result.fences |= {lease.fence_id} if lease.fence_id else set()
    result.pods = {pod.id: KnownPod(pod.id, pod.price_per_hour) for pod in pods_in(resources, replaced=True) if pod.id}
    for record in runs:
        result.leases |= {record.pod.lease_id} if record.pod.lease_id else set()
        result.pods |= {pod.id: pod for pod in pods.unproved_pods(record)}
    return result


def _prove(context: CommandContext, stack: Stack, named: EnvironmentPods, *, engine_failed: bool) -> Proof:
    known, trusted = dict(named.pods), time.time()
    try:
        cloud = context.cloud(stack.name)
    except TrainyardError as error:
        return unasked(known.values(), f"{error.message}; whether anything is left is not known")
    if engine_failed:
        context.ui.warn(f"the engine could not destroy '{stack.name}'; ending its pods through the cloud")
        root, say = context.places.intents, context.ui.say
        memory = close_all(root, named.leases, cloud.capabilities, fences=named.fences, say=say, on_trouble=partial(_tell, context))
        trusted = memory.trusted_from
        known |= {pod_id: KnownPod(pod_id) for pod_id in memory.ids if pod_id not in known}
    return prove(cloud, known.values(), named.has, trusted_from=trusted)


def _tell(context: CommandContext, error: Exception) -> None:
    context.ui.warn(f"what is on record of a lease here cannot be used: {readable(error, lambda: context.places.logs)}")


def _take_from_last(context: CommandContext, stack: Stack, named: EnvironmentPods) -> bool:
    """Take what the last destroy from here has named: one that was killed may have left a state without a word."""
    try:
        ids = _names_file(context, stack).read_text(encoding="utf-8").split()
    except (OSError, UnicodeDecodeError):
        return False
    named.leases |= set(ids)
    named.fences |= set(ids)  # ids are random: a lease's is no fence's
    return bool(ids)


def _remember_names(context: CommandContext, stack: Stack, named: EnvironmentPods) -> None:
    path = _names_file(context, stack)
    with contextlib.suppress(OSError):  # a full disk must not keep pods alive; without the file the next destroy knows less
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("".join(f"{lease}\n" for lease in sorted(named.leases)), encoding="utf-8")


def _names_file(context: CommandContext, stack: Stack) -> Path:
    return context.places.home / "settings" / f"{stack.name}.destroyed"


def _exists(stack: Stack) -> bool:
    """Tell whether there is a state: one that is empty knows of all that was made under it, a lost one says nothing."""
    try:
        return facade.exists(stack)
    except TrainyardError:
        return False


def _account_pods(context: CommandContext, stack: Stack) -> list[PodLeft]:
    """Return the account's pods of ours; raises StillThere when the cloud does not tell: no state names anything."""
    try:
        return _of_ours(context, stack)
    except TrainyardError as error:
        raise StillThere(
            f"the state of stack '{stack.name}' names nothing, and the cloud does not tell which pods there are: {error.message}",
            hint=_see(stack),
        ) from None


def _refuse_beside(stack: Stack, ours: Sequence[PodLeft]) -> None:
    """Raise StillThere for pods that may be of this stack, whose state is lost or cannot be read."""
    if ours:
        end = f"End one: invoke end {ours[0].id} --stack {stack.name}"
        hint = f"They may be of a state that is lost, or a colleague's. {_see(stack)}\n{end}"
        raise StillThere(f"the state of stack '{stack.name}' names no pod, these are Trainyard's:\n{_listed(ours)}", hint=hint)


def _warn_of_others(context: CommandContext, stack: Stack, others: Sequence[PodLeft]) -> None:
    if others:
        context.ui.warn(f"pods of Trainyard's that are not of this stack:\n{_listed(others)}\n{_see(stack)}")


def _of_ours(context: CommandContext, stack: Stack) -> list[PodLeft]:
    pods = [pod for pod in context.cloud(stack.name).list() if pod.lease_id is not None or pod.end_unreadable]
    return [PodLeft(pod.id, pod.price_per_hour, pod.end, pod.raw_status) for pod in pods]


def _listed(pods: Sequence[PodLeft]) -> str:
    return "\n".join(f"  {pod}" for pod in pods)


def _see(stack: Stack) -> str:
    return f"See whose they are: invoke reap --stack {stack.name} --dry-run"


def _again(stack: Stack) -> str:
    return f"Try again with: invoke destroy --stack {stack.name}"
