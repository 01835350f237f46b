"""Destroy an environment: with the engine, through the cloud where the engine fails; "destroyed" only on a proof of absence."""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from trainyard.clouds.absence import Known, Left, Proof, prove, unasked
from trainyard.clouds.protocol import PodInfo
from trainyard.errors import StillThere, TrainyardError
from trainyard.provider import intents
from trainyard.provider.sweep import remember
from trainyard.runs import declared, pods
from trainyard.runs.context import Context
from trainyard.runs.made import LEASE, POD, made
from trainyard.runs.record import Record
from trainyard.runs.teardown import shielded
from trainyard.stacks import facade
from trainyard.stacks.model import Event, OnEvent, Outcome, Stack


@dataclass(slots=True)
class Named:
    """What state and records name of an environment: leases, the fences among them, and pods."""

    leases: set[str] = field(default_factory=set)
    fences: set[str] = field(default_factory=set)
    pods: dict[str, Known] = field(default_factory=dict)

    def has(self, pod: PodInfo) -> bool:
        """Tell whether a pod belongs."""
        return pod.lease_id in self.leases or pod.fence_id in self.fences


def destroy(context: Context, stack: Stack, runs: Iterable[Record], on_event: OnEvent) -> Outcome:
    """Destroy, shielded from signals; ``runs``: those that were alive.

    Raises StillThere, with pods, prices and what to do next, unless the cloud proves that nothing is left; an error of
    the failure's kind when that is proved and only the state could not be brought to an end.
    """
    resources = facade.readable_resources(stack)
    named, mark = _named(resources, runs), context.places.home / "settings" / f"{stack.name}.destroyed"
    with shielded(lambda: f"stack '{stack.name}' is not destroyed; {_again(stack)}", context.ui.fail):
        done = _by_engine(stack, on_event)
        if not named.leases and not named.pods:
            _need_word_of_what_no_state_knows(context, stack, done, mark)
            return _outcome(stack, done if done.error is None else _by_engine(stack, on_event))
        proof = _prove(context, stack, named, engine_failed=done.error is not None)
        if done.error is not None and proof.proved:
            # The state still names what is gone, and an up would believe it.
            done = _by_engine(stack, on_event)
    if not proof.proved:
        said = "\n".join([f"stack '{stack.name}' is not destroyed", str(proof), *([str(done.error)] if done.error else [])])
        raise StillThere(said, hint=_again(stack))
    declared.settle(context, stack, resources, proof)
    outcome = _outcome(stack, done)
    mark.parent.mkdir(parents=True, exist_ok=True)
    mark.write_text("".join(f"{lease}\n" for lease in sorted(named.leases)))
    return outcome


@dataclass(frozen=True, slots=True)
class _Done:
    """What the engine did."""

    outcome: Outcome | None
    error: TrainyardError | None


def _by_engine(stack: Stack, on_event: OnEvent) -> _Done:
    try:
        outcome = facade.operate(stack, "destroy", on_event)
    except TrainyardError as error:
        # A state that cannot be read must not keep its pods alive.
        return _Done(None, error)
    return _Done(outcome, None if outcome.ok else outcome.error(f"(engine {outcome.engine}) "))


def _outcome(stack: Stack, done: _Done) -> Outcome:
    """Return what a good destroy did; raises the engine's error, with what was proved, for another."""
    if done.error is None and done.outcome is not None:
        return done.outcome
    assert done.error is not None
    said = f"destroy of stack '{stack.name}' failed, though no pod that it names is left (the cloud's proof): {done.error.message}"
    raise type(done.error)(said, hint=done.error.hint or _again(stack), facts=done.error.facts)


def _named(resources: Sequence[Event], runs: Iterable[Record]) -> Named:
    """Return what the state names (where it is damaged: its last good version), and what live runs have rented."""
    found = Named()
    for lease in made(resources, LEASE, replaced=True):
        found.leases |= {str(lease.outputs[key]) for key in ("fence_id", "lease_id") if lease.outputs.get(key)}
        found.fences |= {str(lease.outputs[key]) for key in ("fence_id",) if lease.outputs.get(key)}
    for pod in made(resources, POD, replaced=True):
        if pod.id:
            found.pods[pod.id] = Known(pod.id, pod.outputs.get("price_per_hour"))
    for record in runs:
        found.leases |= {str(record.pod["lease_id"])} if record.pod.get("lease_id") else set()
        found.pods |= {pod.id: pod for pod in pods.known(record)}
    return found


def _prove(context: Context, stack: Stack, named: Named, *, engine_failed: bool) -> Proof:
    known, trusted = dict(named.pods), time.time()
    try:
        cloud = context.cloud(stack.name)
    except TrainyardError as error:
        return unasked(known.values(), f"{error.message}; whether anything is left is not known")
    if engine_failed:
        context.ui.warn(f"the engine could not destroy '{stack.name}'; ending its pods through the cloud")
        for lease in sorted(named.leases):
            # Nothing is rented under it from here on, whoever may still be at it.
            intents.close(context.places.intents, lease, time.time())
            told = remember(
                context.places.intents, lease, cloud.capabilities, is_fence=lease in named.fences, time=time.time, sleep=time.sleep,
                say=context.ui.say,
            )  # fmt: skip
            trusted = max(trusted, told.trusted_from)
            known |= {pod_id: Known(pod_id) for pod_id in told.ids if pod_id not in known}
    return prove(cloud, known.values(), named.has, trusted_from=trusted)


def _need_word_of_what_no_state_knows(context: Context, stack: Stack, done: _Done, mark: Path) -> None:
    """Without a lease in the state a destroy proves nothing: raise StillThere for pods of ours that the account has.

    Where the last destroy from here was proved, such pods are somebody else's.
    """
    see = f"See whose they are: invoke reap --stack {stack.name} --dry-run"
    try:
        cloud = context.cloud(stack.name)
        ours = [pod for pod in cloud.list() if pod.lease_id is not None or pod.end_unreadable]
    except TrainyardError as error:
        raise StillThere(
            f"the state of stack '{stack.name}' names nothing, and the cloud does not tell which pods there are: {error.message}", hint=see
        ) from None
    if not ours:
        return
    listed = "\n".join(f"  {Left(pod.id, pod.price_per_hour, pod.end, pod.raw_status)}" for pod in ours)
    said = f"the state of stack '{stack.name}' names no pod, {cloud.name} lists these of Trainyard's:\n{listed}"
    if mark.is_file() and done.error is None:
        context.ui.warn(f"{said}\nThey are not of this stack, whose last destroy was proved. {see}")
        return
    hint = f"They may be of a state that is lost, or a colleague's. {see}\nEnd one: invoke end {ours[0].id} --stack {stack.name}"
    raise StillThere(said, hint=hint)


def _again(stack: Stack) -> str:
    return f"Try again with: invoke destroy --stack {stack.name}"
