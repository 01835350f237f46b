"""End what a run rented, shielded from signals, and say "destroyed" only on a proof of absence."""

from __future__ import annotations

import contextlib
import math
import os
import signal
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType

from trainyard import yamlfile
from trainyard.clock import REAL, Clock
from trainyard.clouds.absence import LEAVE, KnownPod, PodLeft, Proof, prove, unasked
from trainyard.clouds.listing import complete_list, listing_pause
from trainyard.config import PROJECT
from trainyard.errors import DiskFull, EngineError, StillThere, TrainyardError
from trainyard.faults import readable
from trainyard.leases.sweep import close_all
from trainyard.runs.context import CommandContext
from trainyard.runs.records.pods import Deletions, leases_of, note_alive, note_deleted, note_ended, take_known, unproved_pods
from trainyard.runs.records.record import RunFolder, RunRecord, all_folders
from trainyard.runs.records.stackresources import leases_in
from trainyard.runs.signals import departs_in_time, handled
from trainyard.stacks import facade
from trainyard.stacks.model import Event, Stack

ATTEMPTS = 4
_PAUSE = 5.0
"""Seconds between the first two tries at most: less with a cloud that needs less between two answers that must agree."""
PATIENCE = 120.0
"""Seconds in which a pod may go after the engine has done what it could; each try has them."""
WHOLE = 600.0
"""Seconds for all tries: a pod that takes every request to end and lives on is told by then."""


@contextmanager
def shielded(
    what_is_left: Callable[[], str], say: Callable[[str], None], doing: str = "the teardown", *, code: int = StillThere.exit_code
) -> Iterator[None]:
    """Keep Ctrl-C, SIGTERM and SIGHUP from cutting a teardown; the second one says what is still there and leaves with ``code``.

    Where a signal ends the process in time anyway (departing()), the first one only begins that.
    """
    seen = 0

    def on_signal(number: int, frame: FrameType | None) -> None:
        nonlocal seen
        seen += 1
        if seen == 1 and departs_in_time():
            return  # it is told there how long this may go on
        if seen == 1:
            say(f"{signal.Signals(number).name}: {doing} goes on; once more to leave it (the pod may then go on billing)")
        else:
            say(what_is_left())
            os._exit(code)

    with handled((signal.SIGINT, signal.SIGTERM, signal.SIGHUP), on_signal):
        yield


def destroy_run(context: CommandContext, record: RunRecord, folder: RunFolder, *, clock: Clock = REAL) -> None:
    """Destroy the attempt's stack, prove that its pods are gone, archive the checkpoint, remove the stack.

    Where the state is lost (or was never on this machine) the pods are ended through the cloud, by id and lease.
    Raises StillThere with pod, price and the command to retry when their end cannot be proved, EngineError when it is
    proved and only the stack could not be removed. The proven ends are noted in ``record.pods``.
    """
    stack = context.run_stack(record, folder)
    here = folder.config.is_file() and _exists(stack)
    if not here and not record.pod.lease_id and not record.pods:
        _need_word_of_a_lost_state(context, record, folder)
        return
    shield = shielded(lambda: left_behind(record), context.ui.fail)
    with shield, folder.leasing(), context.ui.stage("destroy", "the run's stack"), folder.stage(record, "destroy"):
        outcome = _destroy(context, record, folder, stack if here else None, clock)
        note_ended(record, outcome.proof, record.pod.end, lambda pod_id: _billed(context, record, pod_id))
        if not outcome.proof.proved:
            raise StillThere("\n".join(filter(None, (str(outcome.proof), _words(outcome.problem)))), hint=_again(record)) from None
        if outcome.problem:
            raise _stays(record, outcome.problem) from outcome.problem
        if here and (problem := _removed(context, stack, folder)):
            raise _stays(record, problem) from problem


def _billed(context: CommandContext, record: RunRecord, pod_id: str) -> float | None:
    try:
        return context.cloud_of(record).billed(pod_id)
    except TrainyardError as error:
        context.ui.warn(f"the cloud's bill for pod {pod_id} is not known, and the run may have cost more than is told: {error.message}")
        return None


def _removed(context: CommandContext, stack: Stack, folder: RunFolder) -> TrainyardError | None:
    """Archive and remove the stack; return why not, None when it is gone."""
    try:
        facade.archive(stack, folder.path / "checkpoint.json")
        facade.remove(stack)
    except (OSError, TrainyardError) as error:
        return _as_error(context, error)
    return None


def _stays(record: RunRecord, problem: TrainyardError) -> EngineError:
    return EngineError(
        f"no pod of run {record.id} is left (proved by the cloud), but its stack could not be removed:\n{problem.message}",
        hint="Nothing of it costs money. Try again with: invoke recover",
    )


def _as_error(context: CommandContext, error: BaseException) -> TrainyardError:
    return readable(error, lambda: context.places.logs)


def _words(problem: TrainyardError | None) -> str:
    return problem.message if problem is not None else ""


def left_behind(record: RunRecord) -> str:
    """Say what may still run, what it costs and how to end it."""
    pods = "\n".join(str(left) for left in unasked(unproved_pods(record), "may still be there").unknown if left.id)
    return f"{pods or 'what the run has rented may still be there'}\n{_again(record)}"


@dataclass(frozen=True, slots=True)
class _TryResult:
    """What came of one try: what the cloud proves, and why the engine failed."""

    proof: Proof
    problem: TrainyardError | None
    apart: float = math.inf
    """Seconds that this cloud needs between two looks; without end where it cannot be asked."""


def _destroy(context: CommandContext, record: RunRecord, folder: RunFolder, stack: Stack | None, clock: Clock) -> _TryResult:
    until = clock.now() + WHOLE
    outcome = _destroy_once(context, record, folder, stack, until, clock)
    for attempt in range(1, ATTEMPTS):
        if outcome.proof.proved and (not outcome.problem or isinstance(outcome.problem, DiskFull)):
            break
        pause = min(_PAUSE, outcome.apart) * attempt
        # The engine waits LEAVE for a pod that does not go: a try that might end after all time is not begun.
        if clock.now() + pause + LEAVE > until:
            break
        said = _words(outcome.problem) if outcome.proof.proved else str(outcome.proof)
        context.ui.warn(f"{said}; trying again in {pause:.1f} s")
        clock.pause(pause)
        outcome = _destroy_once(context, record, folder, stack, until, clock)
    return outcome


def _destroy_once(
    context: CommandContext, record: RunRecord, folder: RunFolder, stack: Stack | None, until: float, clock: Clock
) -> _TryResult:
    """Try once. What the engine does not end is ended through the cloud: the pod costs money, the state does not."""
    leases = _leases(context, record, stack)
    with contextlib.suppress(TrainyardError):  # without its key nothing is ended either, and that is told
        note_alive(record, context.cloud_of(record), clock.now())
    problem = _by_engine(context, record, folder, stack) if stack is not None else None
    try:
        cloud = context.cloud_of(record)
    except TrainyardError as error:
        return _TryResult(unasked(unproved_pods(record), error.message), problem)
    ids, trusted = unproved_pods(record), clock.now()
    if problem or stack is None:
        troubles: list[Exception] = []
        memory = close_all(context.places.intents, leases, cloud.capabilities, say=context.ui.say, on_trouble=troubles.append)
        problem = problem or next((_as_error(context, error) for error in troubles), None)
        ids += [KnownPod(pod_id) for pod_id in memory.ids if pod_id not in {pod.id for pod in ids}]
        trusted = max(trusted, memory.trusted_from if leases and not record.reached("started") else 0.0)
    apart = listing_pause(cloud.capabilities)
    if not ids and not leases:
        return _TryResult(Proof(), problem, apart)
    left = max(0.0, min(PATIENCE, until - clock.now()))
    proof = prove(
        cloud, ids, lambda pod: pod.lease_id in leases, trusted_from=trusted, patience=left, time=clock.now, sleep=clock.pause,
    )  # fmt: skip
    return _TryResult(proof, problem, apart)


def _need_word_of_a_lost_state(context: CommandContext, record: RunRecord, folder: RunFolder) -> None:
    """Raise StillThere where an up had begun, its state is lost, and the account has a pod of its environment that no run explains."""
    if not context.ledger().events(record.id, kind="up"):
        return  # nothing was ever brought up
    others = {str(other.pod.lease_id) for other in _readable(context) if other.id != record.id}
    try:
        fence = yamlfile.load_map(folder.config).get("config", {})
        fence_id = fence.get(f"{PROJECT}:fence_id") if isinstance(fence, dict) else None
        cloud = context.cloud_of(record)
        pods = complete_list(cloud, cloud.list, lambda pod: pod.id)
    except TrainyardError as error:
        said = f"the state of run {record.id} is lost, and what it may have rented is not known: {error.message}"
        raise StillThere(said, hint=f"See: invoke reap --stack {record.environment} --dry-run") from None
    left = [pod for pod in pods if pod.lease_id and pod.lease_id not in others and fence_id in (None, pod.fence_id)]
    if left:
        lines = "\n".join(f"  {PodLeft(pod.id, pod.price_per_hour, pod.end, pod.raw_status)}" for pod in left)
        raise StillThere(
            f"the state of run {record.id} is lost; no run here explains these pods of its environment:\n{lines}",
            hint=f"End one: invoke end {left[0].id} --stack {record.environment}",
        )


def _readable(context: CommandContext) -> Iterator[RunRecord]:
    for folder in all_folders(context.places.runs):
        with contextlib.suppress(TrainyardError):
            yield folder.load()


def _leases(context: CommandContext, record: RunRecord, stack: Stack | None) -> set[str]:
    """Return the leases of the run, as its record and its state know them."""
    lease_ids = leases_of(record)
    resources: Sequence[Event] = []
    with contextlib.suppress(OSError, TrainyardError):  # the engine says what is wrong with them
        resources = facade.readable_resources(stack) if stack is not None else []
        take_known(record, resources, context.places.intents)
    return lease_ids | {lease.lease_id for lease in leases_in(resources, replaced=True) if lease.lease_id}


def _by_engine(context: CommandContext, record: RunRecord, folder: RunFolder, stack: Stack) -> TrainyardError | None:
    """Destroy with the engine; return why it failed, None when it did not."""
    events = Deletions(context.ui.engine_event)
    try:
        outcome = facade.operate(stack, "destroy", events)
    except Exception as error:  # a full disk and a fault of ours must not keep the pod alive either
        return _as_error(context, error)
    finally:
        note_deleted(record, events.at, [])
        with contextlib.suppress(OSError):  # a full disk must not keep the teardown from going on
            folder.save(record)
    return None if outcome.ok else outcome.error("")


def _exists(stack: Stack) -> bool:
    """Tell whether the stack is there; where its backend cannot be asked it may be: the engine's destroy then says why."""
    try:
        return facade.exists(stack)
    except (OSError, TrainyardError):
        return True


def _again(record: RunRecord) -> str:
    first = next(iter(unproved_pods(record)), None)
    other = f"; without this machine's state: invoke end {first.id} --stack {record.environment}" if first else ""
    return f"End it with: invoke cancel {record.id} --now{other}"
