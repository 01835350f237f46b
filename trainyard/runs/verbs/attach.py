"""Come back to runs: attach to one, recover all that nobody drives, cancel."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from trainyard.errors import Busy, Detached, RefusedError, StillThere, StoreError, TrainyardError, UserError
from trainyard.runs.context import CommandContext
from trainyard.runs.life.drive import drive, readable_record
from trainyard.runs.life.trouble import untouched
from trainyard.runs.records.acts import record_act
from trainyard.runs.records.identity import LOST_RECORD
from trainyard.runs.records.notes import CANCEL, note
from trainyard.runs.records.record import RunFolder, RunRecord, all_folders, is_driven
from trainyard.runs.records.reservations import release_ended
from trainyard.runs.records.summary import RunSummary
from trainyard.runs.signals import how, leaving
from trainyard.runs.verbs.latebills import fill_in
from trainyard.runs.verbs.through import go_on, through

_POLL = 2.0


def attach(context: CommandContext, reference: str) -> RunSummary:
    """Drive the run to its end, or watch while another controller does and take over when that one dies."""
    folder = _folder(context, reference)
    _say_rents(context, readable_record(folder))
    while True:
        try:
            return through(context, folder)
        except Busy as busy:
            context.ui.say(f"attach     {busy.message}; watching")
            from trainyard.runs.life import follow

            try:
                with leaving():
                    follow.watch_files(context, folder, poll=_POLL)
            except KeyboardInterrupt as left:
                raise Detached(f"{how(left)}: watching is over; {busy.message}, which goes on with it") from None


def _folder(context: CommandContext, reference: str) -> RunFolder:
    """Return the folder of a run that is known here, or that a bucket knows and whose pod has gone."""
    try:
        return context.folder(reference)
    except UserError:
        from trainyard.runs.verbs.takeup import take_up_named

        with contextlib.suppress(UserError):
            return take_up_named(context, reference)
        raise


def recover(context: CommandContext) -> list[RunSummary]:
    """Drive every run that is not ended and that no living process drives; return their summaries.

    A run that cannot be finished does not keep the others from it; when all were tried the error is raised that
    matters most: something may still cost money. A record that cannot be read is such an error.
    """
    summaries, failed = list[RunSummary](), list[TrainyardError]()
    driven, sealed, released = False, seal_of_pods(context)[0], release_ended(context)
    fill_in(context)
    folders = all_folders(context.places.runs)
    if not folders:
        # Runs may have been recorded here: then their pods go on, and only the cloud knows of them.
        if not (sealed or released):
            context.ui.warn(f"nothing to recover: no run is recorded here\n{LOST_RECORD}")
        return []
    for folder in folders:
        try:
            record = readable_record(folder)
            if record.reached("ended"):
                summaries += _after_its_end(context, record, folder)
                continue
            context.ui.say(f"recover    {record.id} (was: {record.phase})")
            _say_rents(context, record)
            summaries.append(through(context, folder))
        except Busy as busy:
            driven = True
            context.ui.say(f"           left alone: {busy.message}")
        except Detached:
            raise
        except TrainyardError as error:
            failed.append(error)
    if failed:
        worst = next((error for error in failed if isinstance(error, StillThere)), failed[0])
        for other in failed:
            if other is not worst:
                context.ui.fail(str(other))
        raise worst
    if not (summaries or driven or sealed or released):
        context.ui.say("nothing to recover: every run has ended")
    return summaries


def _after_its_end(context: CommandContext, record: RunRecord, folder: RunFolder) -> Iterator[RunSummary]:
    """Do what is still due for a run that has ended: its result into the bucket, its next attempt after a lost pod."""
    if record.result and record.result.owed:
        from trainyard.runs.life import finish

        yield finish.push_owed(context, folder)
    if (following := go_on(context, folder)) is not None:
        yield through(context, following)


def seal_of_pods(context: CommandContext) -> tuple[int, list[RunFolder]]:
    """Seal what pods have committed alone, of whichever machine their runs were; no record here is needed for it.

    Returns how much that was, and the folders of those whose story is to be finished here, as nobody else has.
    """
    from trainyard.runs.life import alone
    from trainyard.runs.verbs.takeup import buckets, take_up
    from trainyard.storage.find import list_results

    sealed, folders = 0, []
    for bucket in buckets(context):
        if not bucket.presign:
            continue
        try:
            keys = [one.key for one in list_results(bucket) if one.pod_committed]
            sealed += alone.seal_all(context, bucket, keys)
            folders += [folder for key in keys if (folder := take_up(context, bucket, key)) is not None]
        except TrainyardError as error:
            if isinstance(error, StoreError) and error.code == "NoSuchBucket":
                continue  # no run has made it yet
            context.ui.warn(f"whether pods have committed alone cannot be asked of {bucket.url}: {error.message}")
    return sealed, folders


def _say_rents(context: CommandContext, record: RunRecord) -> None:
    """Say that going on with a run means money: its controller has died before a pod of it was up."""
    if not (record.reached("up") or record.judged or is_driven(context.folder(str(record.id)))):
        context.ui.warn(
            f"{record.id} had no pod that was up: one is rented now (what a killed command left is found), and it trains from its start.\n"
            f"Not wanted? Ctrl-C before it trains ends the pod; invoke cancel {record.id} gives the run up."
        )


def _ended(context: CommandContext, record: RunRecord) -> TrainyardError:
    """Return why a run that is over here cannot be cancelled; a later attempt of its name may be at work elsewhere."""
    from trainyard.runs.records.stores import store_of
    from trainyard.runs.verbs.atwork import at_work
    from trainyard.storage.manifest import ResultKey
    from trainyard.storage.markers import attempts

    over = f"run {record.id} has ended already"
    try:
        store = store_of(context, record.bucket)
        later = [number for number in attempts(store, record.user, record.label) if number > record.attempt] if store else []
        candidates = (at_work(context, store, ResultKey(record.user, record.label, number)) for number in reversed(later)) if store else ()
        living = next((one for one in candidates if one), None)
    except (StoreError, UserError) as error:
        return UserError(over, hint=f"Whether a later attempt of it is at work elsewhere is not known: {error.message}")
    if living is None:
        return UserError(over)
    return RefusedError(f"attempt {record.attempt}, the newest that is known here, has ended; {living}", hint=living.ways("cancel"))


def _folder_here(context: CommandContext, reference: str) -> RunFolder:
    """Return the folder of a run that is known here; where a bucket alone knows it at work, that and the ways to end it are told."""
    try:
        return context.folder(reference)
    except UserError as unknown:
        from trainyard.runs.verbs.takeup import living_named

        if (living := living_named(context, reference)) is None:
            raise
        raise RefusedError(f"{living}; it has no record here", hint=living.ways("cancel")) from unknown


def cancel(context: CommandContext, reference: str, *, now: bool = False) -> RunSummary | None:
    """End a run: stop its training (which saves), commit what it left, end the pod.

    With ``now`` nothing is saved. Where another controller drives the run, only the training is stopped and
    that controller finishes the story; None is returned then. Raises RefusedError for a run that may be at work and has no record here.
    """
    folder = _folder_here(context, reference)
    record = readable_record(folder)
    if record.reached("ended"):
        raise _ended(context, record)
    try:
        folder.cancel(now=now)
    except OSError as error:
        if not now:  # only the mark tells whoever follows the training that it is to save and stop
            raise untouched(context, record, folder, error) from error
    note(context, record, CANCEL, now=now)
    record_act(context, "cancel", f"{record.id}/{record.attempt}", now=now)
    try:
        return drive(context, folder, "now" if now else "saving")
    except Busy as busy:
        if not folder.cancelled:
            raise untouched(context, record, folder, busy) from busy
        saved = "its training is done, and what it left is saved first" if record.reached("trained") else "the training is told to stop"
        sentence = "nothing more is saved" if now else saved if record.reached("started") else "it is told"
        context.ui.say(f"cancel     {sentence}; {busy.message}, which ends the pod and finishes the story")
        return None
