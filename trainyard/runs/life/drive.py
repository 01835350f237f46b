"""Drive a run from wherever it is to its end: up, start, follow, commit, destroy, summary.

Every step can be repeated: a controller killed at any instant is continued by the next one, which reads the record
and goes on. A pod is ended because of a Verdict, never because of an exception: from "started" on the trouble of a
controller is told and leaves the run as it is.

What speaks SSH and S3 is imported where it is used: 1 s of imports then passes while the engine rents the pod.
"""

from __future__ import annotations

import contextlib
import threading
import time
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Literal

from trainyard.errors import CloudError, Detached, EngineError, StillThere, TrainyardError, Unreachable, UserError
from trainyard.faults import readable
from trainyard.retries import LINK
from trainyard.runs.context import CommandContext
from trainyard.runs.life import announcing, looking, teardown, trouble
from trainyard.runs.life.closing import close
from trainyard.runs.life.rent import created_of, isolation_of, refuse_replaced, remember_lost, remember_pod, rent
from trainyard.runs.life.verdict import Verdict
from trainyard.runs.records.keepsake import Keepsake
from trainyard.runs.records.mirror import beside
from trainyard.runs.records.notes import RENTED, cancelled_elsewhere, note
from trainyard.runs.records.parts import NO_POD
from trainyard.runs.records.record import Phase, RunFolder, RunRecord
from trainyard.runs.records.summary import RunSummary, summarize
from trainyard.runs.signals import how, leaving
from trainyard.runs.trackers.start import tracked

if TYPE_CHECKING:
    from trainyard.storage.podside import ScannedFiles

_ASKED = 5
"""How often a pod is asked whether it has a job whose start was not answered."""


def drive(
    context: CommandContext, folder: RunFolder, cancel: Literal["now", "saving"] | None = None, *, detach: bool = False
) -> RunSummary:
    """Drive one attempt to its end and return its summary, which tells a failed training, too.

    ``cancel`` is a person's word that it shall end: ``now`` without saving anything. ``detach``: no further than to a
    training that runs; the summary then has no ``ended_at``.

    Raises Detached when a person leaves while the training runs, Busy when another controller drives it, StillThere
    or DiskFull when trouble here has left it as it is or the end of its pod could not be proved.
    """
    kept = Keepsake()
    while True:
        with contextlib.ExitStack() as held:
            try:
                held.enter_context(folder.driving())
                record = readable_record(folder)
            except (OSError, StillThere) as error:
                if kept.put_back(context, folder, error):
                    continue  # whoever deletes it was not done yet
                if isinstance(error, StillThere):
                    raise
                raise trouble.untouched(context, readable_record(folder), folder, error) from error
            held.enter_context(beside(context, record))
            held.enter_context(tracked(context, record, folder))
            held.enter_context(leaving())
            try:
                kept.take(context, record, folder)
                if cancel and not record.judged:
                    _cancel(context, record, folder, cancel)
                return _through(context, record, folder, kept, detach=detach and not cancel)
            except KeyboardInterrupt as left:
                raise _leave_word(context, record, folder, left) from None
            except (StillThere, Detached):
                raise  # it tells all there is to know
            except BaseException as error:
                if not kept.put_back(context, folder, error):
                    reported = trouble.untouched(context, record, folder, error)
                    raise reported from None if reported is error else error


def readable_record(folder: RunFolder) -> RunRecord:
    """Return a run's record; raises StillThere when it cannot be read: what it has rented may be there."""
    try:
        return folder.load()
    except UserError as error:
        raise StillThere(error.message, hint=error.hint) from None


def _cancel(context: CommandContext, record: RunRecord, folder: RunFolder, how: Literal["now", "saving"]) -> None:
    record.cancelled = True
    if how == "now" or not record.begun:
        _take(context, record, folder, Verdict("person", "cancelled", 1))


def _through(context: CommandContext, record: RunRecord, folder: RunFolder, kept: Keepsake, *, detach: bool) -> RunSummary:
    if not record.judged:
        threading.Thread(target=_preload, daemon=True).start()
        verdict = None if record.reached("started") else _begin(context, record, folder)
        if verdict is None and detach and not record.reached("trained"):
            from trainyard.runs.life import detaching

            if detaching.leave(context, record, folder):
                return replace(summarize(record, folder), exit_status=0)
        _take(context, record, folder, verdict or _train(context, record, folder, kept))
    if not record.reached("ended") and looking.is_kept(context, record, folder, waits=not detach):
        return replace(summarize(record, folder), exit_status=0)
    return close(context, record, folder)


def _begin(context: CommandContext, record: RunRecord, folder: RunFolder) -> Verdict | None:
    """Rent and start; return why it failed, None when the training has been started.

    Nothing of value is on the pod before: any failure may end it, a fault of ours too.
    """
    if record.starting:
        answer = _ask_the_pod(context, record, folder)
        if isinstance(answer, Verdict):
            return answer
        if answer:
            _advance(context, record, folder, "started")
            return None
    try:
        publishing = None if record.reached("up") else _rent(context, record, folder)
        if folder.cancelled:
            return Verdict("person", "cancelled before the training started", 1)
        _start(context, record, folder, publishing)
    except KeyboardInterrupt as left:
        return Verdict("person", f"interrupted by {how(left)} before the training had started", 130)
    except BaseException as error:
        failed = readable(error, lambda: context.places.logs)
        begun = record.starting and _has_begun(context, record, folder, error)
        if isinstance(begun, Verdict):
            return begun
        if begun:
            context.ui.warn(f"{failed.message}\nThe training has begun all the same: going on with it")
            _advance(context, record, folder, "started")
            return None
        # Whether something still stands there is for the teardown to say, which comes now.
        return Verdict("start", str(failed), CloudError.exit_code if isinstance(failed, StillThere) else failed.exit_code)
    _advance(context, record, folder, "started")
    announcing.started(context, record)
    return None


def _rent(context: CommandContext, record: RunRecord, folder: RunFolder) -> threading.Thread:
    from trainyard.runs.life.publish import publish

    refuse_replaced(context, record)
    note(context, record, "up")
    first = publish(context, record, folder, bundle=True)
    if record.container is not None:
        from trainyard.runs.life import container

        container.prepare(context, record, folder)
    rent(context, record, folder)
    record.pod = replace(record.pod, created_epoch=created_of(record), isolation=isolation_of(context, record))
    folder.save(record)
    note(context, record, RENTED, pod=record.pod.pod_id, price_per_hour=record.pod.price_per_hour)
    return publish(context, record, folder, after=first)


def _start(context: CommandContext, record: RunRecord, folder: RunFolder, publishing: threading.Thread | None) -> None:
    from trainyard.runs.life.joblink import link_of
    from trainyard.runs.life.publish import publish

    link = link_of(context, record, folder)
    record.starting = True
    folder.save(record)
    publish(context, record, folder, after=publishing)  # from here on nobody may begin it anew
    with folder.stage(record, "start"):
        link.start()


def _has_begun(context: CommandContext, record: RunRecord, folder: RunFolder, error: BaseException) -> Verdict | bool:
    """Tell whether the job runs though its start has failed: its answer may have been lost, and this machine asleep for hours.

    A verdict where it failed for want of a link, and the cloud says that nothing runs there any more. Raises the error itself where
    the start was sent and the pod does not tell.
    """
    from trainyard.runs.life.start import Unclear

    for attempt in range(1, _ASKED + 1):
        try:
            answer = _ask_the_pod(context, record, folder)
            return answer is True if not isinstance(error, Unreachable | Unclear) else answer
        except Exception:
            if not isinstance(error, Unclear):
                return False
            time.sleep(LINK.pause(attempt))
    raise error


def _ask_the_pod(context: CommandContext, record: RunRecord, folder: RunFolder) -> Verdict | bool:
    """Return whether the controller that died at the start had started the job, which may have trained for hours since."""
    from trainyard.runs.life import follow
    from trainyard.runs.life.joblink import link_of

    link = link_of(context, record, folder)
    try:
        return link.status().state != "absent"
    except TrainyardError:
        over = follow.ended_from_outside(context, record, link.pod)
        if over is None:
            raise
        return over


def _train(context: CommandContext, record: RunRecord, folder: RunFolder, kept: Keepsake) -> Verdict:
    """Follow the training and bring its result to safety; return whose word ends the run."""
    from trainyard.runs.life import follow, group
    from trainyard.runs.life.joblink import link_of

    try:
        link = link_of(context, record, folder)
    except EngineError:
        if (gone := follow.gone_with_its_key(context, record)) is None:
            raise
        return _cut_off(context, record, folder, gone)
    kept.take(context, record, folder)  # once more: before, there was no pod, or no training
    known: ScannedFiles = {}
    if not record.reached("trained"):
        with folder.stage(record, "train"), link.ahead() as companion:
            over = follow.follow(context, record, folder, link)
            known = {} if over is not None else companion.end()
        if over is not None:
            return _cut_off(context, record, folder, over)
        _advance(context, record, folder, "trained", exit_code=record.exit_code)
    leaves, doing = (lambda: str(trouble.detached(record, folder, "told twice"))), "the way of the result to safety"
    with teardown.shielded(leaves, context.ui.fail, doing, code=Detached.exit_code):
        try:
            with folder.stage(record, "commit"):
                group.collect(context, record, folder)
                return group.blamed(context, record, folder, link.commit(known))
        except Exception:
            over = follow.ended_from_outside(context, record, link.pod)
            if over is None:
                raise
            return _cut_off(context, record, folder, over)


def _cut_off(context: CommandContext, record: RunRecord, folder: RunFolder, over: Verdict) -> Verdict:
    """Return the verdict on a run whose pod has gone: one that lost its controller after the commit has succeeded all the same."""
    from trainyard.runs.life import finish

    record.cancelled = record.cancelled or folder.cancelled or cancelled_elsewhere(context, record)
    if over.by == "person":
        return over
    try:
        return finish.find_result(context, record, folder) or over
    except TrainyardError as error:
        raise StillThere(
            f"{over.error}, and whether the result of {record.id} has reached its bucket cannot be asked: {error.message}",
            hint=f"Ask again with: invoke attach {record.id}\nGive it up with: invoke cancel {record.id} --now",
        ) from None


def _take(context: CommandContext, record: RunRecord, folder: RunFolder, verdict: Verdict) -> None:
    """Write the verdict down: from here on the pod may be ended, by whoever drives the run next."""
    record.cancelled = record.cancelled or folder.cancelled
    if verdict.error is None:
        record.phase = "committed"
    else:
        record.error, record.error_code, record.lost = verdict.error, verdict.code, verdict.lost or record.lost
        record.training_success = bool(record.training_success)
        if record.lost:
            remember_lost(context, record)
        context.ui.fail(verdict.error.partition("\n")[0])  # with the log's last lines it ends the summary
    try:
        if record.pod == NO_POD:
            remember_pod(context, record, folder)
        folder.save(record)
    except (OSError, TrainyardError) as error:
        # It is known all the same: a pod with nothing left to save must not go on billing because of our disk.
        context.ui.warn(f"the verdict on {record.id} could not be written down: {readable(error, lambda: context.places.logs)}")
    details = {"s3_key": record.result and record.result.s3_key} if verdict.error is None else {"by": verdict.by, "error": verdict.error}
    note(context, record, "committed" if verdict.error is None else "failed", **details)


def _leave_word(context: CommandContext, record: RunRecord, folder: RunFolder, left: KeyboardInterrupt) -> BaseException:
    """Return what a person who leaves is told."""
    if record.reached("ended"):
        return left
    if record.begun and not record.judged:
        return trouble.detached(record, folder, how(left))
    return trouble.untouched(context, record, folder, TrainyardError(f"interrupted by {how(left)}"))


def _advance(context: CommandContext, record: RunRecord, folder: RunFolder, phase: Phase, **data: Any) -> None:
    record.phase = phase
    if phase == "started":
        record.training_began = time.time()
    folder.save(record)
    note(context, record, phase, **data)


def _preload() -> None:
    with contextlib.suppress(Exception):  # who needs it says what is wrong with it
        from trainyard.runs.life import ahead, finish, follow, start  # noqa: F401
        from trainyard.runs.records import home  # noqa: F401
