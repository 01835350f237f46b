"""From a verdict to a result: judge the training, commit what it left where it can be found again."""

from __future__ import annotations

import contextlib
from dataclasses import replace

from trainyard.clock import parse_time
from trainyard.errors import ForeignResult, StoreError, TrainyardError, UserError
from trainyard.jsontext import parse_json
from trainyard.remote.reconnect import Reconnecting
from trainyard.runs.context import CommandContext
from trainyard.runs.life import alone
from trainyard.runs.life.heartbeat import beating
from trainyard.runs.life.judge import declared_anywhere, declared_of, judge, keep, last_words, told_by_pod
from trainyard.runs.life.roads import DeliveryRoad, GivenUp, ResultSelection, is_owed, run_result, settle
from trainyard.runs.life.verdict import Verdict
from trainyard.runs.records.home import STATUS
from trainyard.runs.records.pod import ReachablePod
from trainyard.runs.records.pods import note_gone
from trainyard.runs.records.record import RunFolder, RunRecord
from trainyard.runs.records.stores import store_of
from trainyard.runs.records.summary import RunSummary, summarize
from trainyard.storage import commit as storage_commit
from trainyard.storage.client import StoreSettings, sync_command
from trainyard.storage.manifest import ResultKey
from trainyard.storage.markers import refuse_foreign
from trainyard.storage.podside import ScannedFiles
from trainyard.storage.seal import read, token_of


def commit(context: CommandContext, record: RunRecord, folder: RunFolder, pod: ReachablePod, known: ScannedFiles) -> Verdict:
    """Judge the training and bring what it left to safety; sets ``training_success`` and ``result``, returns its verdict.

    ``known`` are files that went ahead while it trained. What a failure or a stop left is kept as no success. Whatever it
    raises, the run has no verdict yet: the caller leaves the pod as it is.
    """
    record.cancelled = record.cancelled or folder.cancelled
    with beating(pod, at_once=True), Reconnecting(pod.connect_sender, name=f"pod {pod.id}") as transport:
        way = DeliveryRoad(context, record, folder, pod, transport, known)
        try:
            said = way.linked(lambda: declared_anywhere(folder, record, pod, transport))
            if not (record.cancelled or record.stop_reason):
                record.stop_reason = told_by_pod(record, said, pod, transport)
            verdict = judge(record, folder, said)
            how = keep(record, folder, said)
            what = f"no success ({how.why}): what there is is kept," if how else ""
            where = "to the bucket" if record.bucket else "to this machine (no bucket is set)"
            with context.ui.stage("result", f"{what} {where}".strip()):
                record.result = way.save(ResultSelection(said.outputs, said.excludes, how))
        except GivenUp:
            return Verdict("person", "cancelled", 1)
        folder.save(record)
    return verdict


def find_result(context: CommandContext, record: RunRecord, folder: RunFolder) -> Verdict | None:
    """Return the verdict on a run whose result is in its bucket already; sets ``result``.

    A controller died after it wrote it, or the pod has committed alone: that is sealed now.
    """
    settings, key = store_of(context, record.bucket), ResultKey(record.user, record.label, record.attempt)
    if settings is None:
        return None
    try:
        refuse_foreign(settings, key, record.token)
    except ForeignResult as error:
        _tell_own_tar(context, record, settings, error)
        return None
    lone = alone.seal(context, settings, key, record.token)
    done = lone or storage_commit.committed(settings, key, record.token)
    if done is None:
        return None
    note_gone(record, parse_time(done.pod_time))
    take_logs(settings, key, folder)
    if record.job_seconds is None:
        record.job_seconds = _ran(record, folder)
    record.training_success, record.result = done.ending is None, replace(run_result(done), road="bucket")
    if done.ending is None:
        return Verdict("training")
    record.exit_code = done.ending.exit_code if record.exit_code is None else record.exit_code
    verdict = Verdict("training", f"the training was no success: {done.ending.why}", 1)
    with contextlib.suppress(UserError):  # an adopted run has no bundle at home, and its pod is gone
        said = declared_of(folder)
        judged = judge(record, folder, said)
        if record.exit_code is None:  # it is its pod's word that counts: it knows whether it told the training to stop
            verdict = Verdict("training", "\n".join([f"the training {done.ending.why}", *last_words(said, folder.log)]), 1)
        elif not record.training_success:
            verdict = judged
    record.training_success = False  # its exit code alone makes no success of what was not whole
    return verdict


def _ran(record: RunRecord, folder: RunFolder) -> float | None:
    """Return how long a training ran that nobody saw end, by when its own status says that it was over; None where nobody can tell."""
    with contextlib.suppress(OSError, ValueError, LookupError, TypeError, AttributeError):
        said = parse_json((folder.path / STATUS).read_bytes())
        over = float(said["time"])
        if said["state"] in ("done", "stopped", "failed") and record.training_began is not None and over >= record.training_began:
            return over - record.training_began
    return None


def _tell_own_tar(context: CommandContext, record: RunRecord, settings: StoreSettings, why: ForeignResult) -> None:
    """Say where the only copy of a result is that its pod has committed alone, where another run's stands in its place."""
    key = ResultKey(record.user, record.label, record.attempt)
    if token_of(read(settings, key.pod_committed) or b"") == record.token:
        what = f"what the pod of {record.id} has committed alone stays a plain tar, {settings.url}/{key.pod_tar}: {why.message}"
        context.ui.warn(f"{what}\nCopy it with: {sync_command(settings, key.prefix, 'DIR')}")


def take_logs(settings: StoreSettings, key: ResultKey, folder: RunFolder) -> None:
    """Copy the log and what a training says of itself from the bucket, where the copy here ends before; it only tells more."""
    for path in (folder.log, folder.metrics, folder.path / STATUS):
        with contextlib.suppress(TrainyardError, OSError):
            body = read(settings, key.logs + path.name)
            if body is not None and (not path.is_file() or path.stat().st_size < len(body) or path.name == STATUS):
                path.write_bytes(body)


def push_owed(context: CommandContext, folder: RunFolder) -> RunSummary:
    """Bring a result that only came home into its bucket, now that its pod is gone; raises StoreError when it still does not go."""
    from trainyard.runs.life.closing import write_out  # which loads this module when a training is over

    with folder.driving():
        record = folder.load()
        if settle(context, record, folder):
            write_out(context, record, folder)
        if is_owed(record):
            home = record.result.local_path if record.result else None
            hint = "Bring it there with: invoke recover"
            raise StoreError(f"the result of {record.id} lies in {home} and is not in its bucket yet", hint=hint)
    return summarize(record, folder)


def sync_line(context: CommandContext, summary: RunSummary) -> str | None:
    """Return the exact ``aws s3 sync`` command for a run's result."""
    try:
        settings = store_of(context, summary.bucket)
    except (OSError, TrainyardError):
        return None  # a run that is over is not spoiled by keys that are half set now, nor by a folder that cannot be read
    key = summary.s3_key
    return sync_command(settings, key, summary.place) if settings and key else None
