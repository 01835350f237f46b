"""End what a run rented, shielded from signals, and say "destroyed" only when the cloud's own list agrees."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

from trainyard.clouds.protocol import Cloud, PodInfo
from trainyard.errors import CloudError, StillThere, TrainyardError
from trainyard.runs.context import Context
from trainyard.runs.record import Record, RunFolder
from trainyard.runs.trouble import end_command, standing
from trainyard.stacks import facade
from trainyard.stacks.model import Stack

ATTEMPTS = 4
_PAUSE = 5.0


@contextmanager
def shielded(what_is_left: Callable[[], str], say: Callable[[str], None], doing: str = "the teardown") -> Iterator[None]:
    """Keep Ctrl-C, SIGTERM and SIGHUP from cutting a teardown; the second one says what is still there and leaves."""
    seen = 0

    def on_signal(number: int, frame: FrameType | None) -> None:
        nonlocal seen
        seen += 1
        if seen == 1:
            say(f"{signal.Signals(number).name}: {doing} goes on; once more to leave it (the pod may then go on billing)")
        else:
            say(what_is_left())
            os._exit(StillThere.exit_code)

    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    before = {number: signal.signal(number, on_signal) for number in numbers}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def destroy_run(context: Context, record: Record, folder: RunFolder, *, sleep: Callable[[float], None] = time.sleep) -> None:
    """Destroy the attempt's stack, prove absence by the cloud's list, archive the checkpoint, remove the stack.

    Where the state is lost (or was never on this machine) the pod is ended through the cloud, by its lease id.
    Raises StillThere with the pod's id, its price and the command to retry when its end cannot be proved.
    """
    stack = context.run_stack(record, folder)
    here = folder.config.is_file() and _exists(stack)
    if not here and not record.pod.get("lease_id"):
        return  # nothing was ever brought up
    shield = shielded(lambda: left_behind(record), context.ui.fail)
    with shield, context.ui.stage("destroy", "the run's stack"), folder.stage(record, "destroy"):
        problem = ""
        for attempt in range(ATTEMPTS):
            if attempt:
                context.ui.warn(f"{problem}; trying again in {_PAUSE * attempt:.0f} s")
                sleep(_PAUSE * attempt)
            problem = _destroy_once(context, record, stack if here else None)
            if not problem:
                break
        if problem:
            raise StillThere(f"{left_behind(record)}\n{problem}")
        if here:
            facade.archive(stack, folder.path / "checkpoint.json")
            facade.remove(stack)


def left_behind(record: Record) -> str:
    """Say what may still run, what it costs and how to end it."""
    again = f"try again with: invoke attach {record.id}"
    return f"{standing(record)} may still be there; {again}" + (f" (or: {end_command(record)})" if record.pod.get("pod_id") else "")


def leased(cloud: Cloud, lease_id: str) -> list[PodInfo]:
    """Return the pods the cloud lists for a lease."""
    return [pod for pod in cloud.list() if pod.lease_id == lease_id]


def _destroy_once(context: Context, record: Record, stack: Stack | None) -> str:
    """Try once; return why the end is not proved, an empty text when it is.

    What the cloud still lists under the lease is ended through the cloud, also when the engine fails (a full
    disk, a lost passphrase): the pod costs money, the state does not.
    """
    problem = _by_engine(context, stack) if stack is not None else ""
    lease_id = str(record.pod.get("lease_id") or "")
    if not lease_id:
        return problem
    cloud = context.cloud_of(record)
    try:
        for pod in leased(cloud, lease_id):
            cloud.terminate(pod.id)
        there = leased(cloud, lease_id)
    except CloudError as error:
        return f"{problem}\nthe cloud did not answer: {error.message}".strip()
    if there:
        return f"{problem}\nthe cloud still lists {', '.join(pod.id for pod in there)}".strip()
    return f"{problem}\n(the cloud lists no pod of this lease any more)" if problem else ""


def _by_engine(context: Context, stack: Stack) -> str:
    try:
        outcome = facade.operate(stack, "destroy", context.ui.engine_event)
    except TrainyardError as error:
        return str(error)
    return "" if outcome.ok else outcome.reason()


def _exists(stack: Stack) -> bool:
    """Tell whether the stack is there; where its backend cannot be asked it may be: the engine's destroy then says why."""
    try:
        return facade.exists(stack)
    except TrainyardError:
        return True
