"""Drive a run from wherever it is to its end: up, start, follow, commit, destroy, summary.

Every step can be repeated: a controller killed at any instant is continued by the next one, which
reads the record and goes on.

What speaks SSH and S3 is imported where it is used: 1 s of imports then passes while the engine rents the pod.
"""

from __future__ import annotations

import contextlib
import importlib
import threading
import time
from typing import TYPE_CHECKING, Any

from trainyard.errors import EngineError, StillThere, StoreError, TrainyardError, Unreachable, disk_full
from trainyard.runs import teardown
from trainyard.runs.context import Context
from trainyard.runs.ledger import Ledger
from trainyard.runs.made import LEASE, POD, made
from trainyard.runs.record import Phase, Record, RunFolder
from trainyard.runs.rent import rent
from trainyard.runs.summary import cost, write_summary

if TYPE_CHECKING:
    from trainyard.runs.pod import Pod


class Detached(Exception):
    """The person left after the training of the run (its name is the argument) had started: it goes on."""


def drive(context: Context, folder: RunFolder) -> dict[str, Any]:
    """Drive one attempt to its end and return its summary.

    Raises Detached after a Ctrl-C while the training runs, Busy when another controller drives it, StillThere
    when the end of the pod could not be proved. A failed training is told by the summary.
    """
    with folder.driving():
        record = folder.load()
        try:
            _train(context, record, folder)
        except KeyboardInterrupt:
            # By the record, not by the line that was reached: the signal may come a moment before follow() listens.
            if record.reached("started"):
                raise Detached(str(record.id)) from None
            _failed(context, record, folder, "interrupted by Ctrl-C before the training had started", 130)
        except TrainyardError as error:
            _failed(context, record, folder, str(error), error.exit_code)
        except OSError as error:
            full = disk_full(error)
            if full is None:
                raise
            if record.reached("started") and not record.reached("committed"):
                raise full from None  # the training needs no disk of ours: it goes on, attach finishes the story
            _failed(context, record, folder, str(full), full.exit_code)
        except BaseException as error:
            # A fault of ours must not leave a pod behind either; it is raised again when the pod is gone.
            _failed(context, record, folder, f"{type(error).__name__}: {error}", 1)
            _end(context, record, folder)
            raise
        return _end(context, record, folder)


def _train(context: Context, record: Record, folder: RunFolder) -> None:
    if record.error is not None or record.reached("committed"):
        return
    if not record.reached("up"):
        _note(context, record, "up")
        threading.Thread(target=_preload, daemon=True).start()
        rent(context, record, folder)
        record.pod["created_epoch"] = _created(record)
        record.pod["rung"] = _rung(context, record)
        folder.save(record)
        _note(context, record, "rented", pod=record.pod.get("pod_id"), price_per_hour=record.pod.get("price_per_hour"))
    from trainyard.runs import follow, start
    from trainyard.runs.pod import pod_of

    pod = pod_of(context, record)
    if not record.reached("started"):
        if folder.cancelled:
            raise follow.Cancelled("cancelled before the training started")
        with folder.stage(record, "start"):
            start.start(context, record, folder, pod)
        _advance(context, record, folder, "started")
        if folder.cancelled and not folder.cancelled_now:
            # Whoever cancelled since the look above found no training to stop.
            follow.stop(pod)
    if not record.reached("trained"):
        with folder.stage(record, "train"):
            follow.follow(context, record, folder, pod)
        _advance(context, record, folder, "trained", exit_code=record.exit_code)
    _commit(context, record, folder, pod)


def _commit(context: Context, record: Record, folder: RunFolder, pod: Pod) -> None:
    from trainyard.runs import finish

    with teardown.shielded(lambda: teardown.left_behind(record), context.ui.fail):
        try:
            with folder.stage(record, "commit"):
                finish.commit(context, record, folder, pod)
        except (StoreError, Unreachable) as error:
            if not record.training_success or pod.gone():
                raise
            # G2: a finished training is not thrown away. The pod stays until its end, and we say so loudly.
            record.error = None
            folder.save(record)
            raise StillThere(
                f"the result could not be brought to safety: {error}\n"
                f"The pod {pod.id} is kept until the end of its lease ({record.pod.get('end')}) so that nothing is lost.",
                hint=f"Try again with: invoke attach {record.id}",
            ) from None
    _advance(context, record, folder, "committed", s3_key=(record.result or {}).get("s3_key"))


def _end(context: Context, record: Record, folder: RunFolder) -> dict[str, Any]:
    from trainyard.runs.home import bring_home

    record.cancelled = record.cancelled or folder.cancelled
    if not record.reached("ended"):
        teardown.destroy_run(context, record, folder)
        record.ended = time.time()
        _advance(context, record, folder, "ended", cost=cost(record))
    Ledger(context.places.ledger).set_cost(record.id, record.created, cost(record))
    summary = write_summary(record, folder)
    bring_home(context, record, folder)
    return summary


def _failed(context: Context, record: Record, folder: RunFolder, text: str, code: int) -> None:
    if code == StillThere.exit_code and record.training_success:
        raise StillThere(text)
    record.error, record.error_code = text, code
    record.training_success = bool(record.training_success)
    context.ui.fail(text)
    if not record.pod:
        _remember_pod(context, record, folder)
    with contextlib.suppress(OSError):  # a full disk must not keep the teardown from being tried
        folder.save(record)
        _note(context, record, "failed", error=text)


def _remember_pod(context: Context, record: Record, folder: RunFolder) -> None:
    """Take what a failed up has left in the state, so that the teardown can name it and prove it gone."""
    from trainyard.stacks import facade

    resources = facade.resources(context.run_stack(record, folder))
    for lease in made(resources, LEASE, replaced=True):
        record.pod["lease_id"] = lease.outputs.get("lease_id")
    for pod in made(resources, POD, replaced=True):
        price = pod.outputs.get("price_per_hour")
        record.pod |= {"pod_id": pod.id, "price_per_hour": price, "created_epoch": record.created}


def _advance(context: Context, record: Record, folder: RunFolder, phase: Phase, **data: Any) -> None:
    record.phase = phase
    folder.save(record)
    _note(context, record, phase, **data)


def _note(context: Context, record: Record, kind: str, **data: Any) -> None:
    Ledger(context.places.ledger).add(record.id, kind, **data)


def _rung(context: Context, record: Record) -> str | None:
    """Return how the local cloud contains this pod ("namespace" or "process"); None on other clouds."""
    cloud = context.cloud(record.environment)
    pod = cloud.get(str(record.pod["pod_id"])) if cloud.name == "local" else None
    return pod.raw_status.partition("(")[2].rstrip(")") or None if pod else None


def _preload() -> None:
    for name in ("start", "follow", "finish"):
        importlib.import_module(f"trainyard.runs.{name}")


def _created(record: Record) -> float:
    from trainyard.clouds.marker import parse_time

    moment = parse_time(str(record.pod.get("created_at")))
    if moment is None:
        raise EngineError(f"the pod's creation time '{record.pod.get('created_at')}' is not a time")
    # The cloud's clock may be wrong; the pod was rented after the run was prepared, and before now.
    return min(time.time(), max(record.created, moment.timestamp()))
