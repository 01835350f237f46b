"""From a verdict to a result: judge the training, commit what it left where it can be found again."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from trainyard.errors import ForeignResult, PodCannotUpload, StoreError, TrainyardError, Unreachable, UserError
from trainyard.recipes.declared import Declared
from trainyard.remote.protocol import Transport
from trainyard.runs.context import Context
from trainyard.runs.judge import declared_anywhere, declared_of, judge, keep
from trainyard.runs.pod import Pod
from trainyard.runs.record import Record, RunFolder
from trainyard.runs.verdict import Verdict
from trainyard.storage import commit as storage_commit
from trainyard.storage import direct
from trainyard.storage.client import StoreSettings, store_settings, sync_command
from trainyard.storage.deliver import Progress
from trainyard.storage.manifest import Keep, LeftOut, ResultKey
from trainyard.storage.markers import refuse_foreign


def commit(context: Context, record: Record, folder: RunFolder, pod: Pod) -> Verdict:
    """Judge the training and bring what it left to safety; sets ``training_success`` and ``result``, returns its verdict.

    What a failure or a stop left is kept as no success. Whatever it raises, the run has no verdict yet: the caller
    leaves the pod as it is.
    """
    record.cancelled = record.cancelled or folder.cancelled
    with pod.connect() as transport:
        said = declared_anywhere(folder, record, pod, transport)
        verdict = judge(record, folder, said)
        how = keep(record, folder, said)
        what = f"no success ({how.why}): what there is is kept," if how else ""
        where = "to the bucket" if record.bucket else "to this machine (no bucket is set)"
        with context.ui.stage("result", f"{what} {where}".strip()):
            _save(context, record, said, how, transport, pod)
        folder.save(record)
    return verdict


def found(context: Context, record: Record, folder: RunFolder) -> Verdict | None:
    """Return the verdict on a run whose result is in its bucket already (a controller died after it wrote it); sets ``result``."""
    settings, key = store_of(context, record.bucket), ResultKey(record.user, record.label, record.attempt)
    if settings is None:
        return None
    try:
        refuse_foreign(settings, key, record.token)
    except ForeignResult:
        return None
    done = storage_commit.committed(settings, key, record.token)
    if done is None:
        return None
    record.training_success, record.result = done.ending is None, _told(context, done)
    if done.ending is None:
        return Verdict("training")
    record.exit_code = done.ending.exit_code if record.exit_code is None else record.exit_code
    try:
        return judge(record, folder, declared_of(folder))
    except UserError:  # an adopted run has no bundle at home, and its pod is gone
        return Verdict("training", f"the training was no success: {done.ending.why}", 1)


def store_of(context: Context, bucket: dict[str, Any] | None) -> StoreSettings | None:
    """Return the settings of the store that holds a run's result, None without a bucket."""
    if not bucket:
        return None
    return store_settings(context.env, bucket.get("store"), bucket.get("bucket"), context.places)


def sync_line(context: Context, summary: Mapping[str, Any]) -> str | None:
    """Return the exact ``aws s3 sync`` command for a run's result."""
    try:
        settings = store_of(context, summary["bucket"])
    except TrainyardError:
        return None  # a run that is over is not spoiled by keys that are half set now
    key = summary["s3_key"]
    return sync_command(settings, key, f"./{summary['label']}") if settings and key else None


def _save(context: Context, record: Record, said: Declared, how: Keep | None, transport: Transport, pod: Pod) -> None:
    outputs, excludes = list(said.outputs), list(said.excludes)
    settings = store_of(context, record.bucket)
    problem: str | None = None
    if settings is not None:
        key = ResultKey(record.user, record.label, record.attempt)
        try:
            done = storage_commit.commit(
                settings, transport, key, pod.path("output"), outputs, excludes, token=record.token, keep=how,
                on_progress=_shown(context), volume=record.pod.get("volume_path"),
            )  # fmt: skip
        except (PodCannotUpload, ForeignResult) as error:
            problem = error.message
        except StoreError as error:
            problem = f"the store failed: {error}"
        else:
            record.result = _told(context, done)
            return
    context.ui.warn(problem or "no bucket is set: the result is fetched over SSH before the pod is ended")
    _fetch(context, record, transport, pod, outputs, excludes, how, problem)


def _told(context: Context, done: storage_commit.Committed | direct.Fetched) -> dict[str, Any]:
    places = {"local_path": str(done.path)} if isinstance(done, direct.Fetched) else {
        "s3_url": done.s3_url, "s3_key": done.s3_key, "logs_url": done.logs_url,
    }  # fmt: skip
    return places | {
        "manifest_sha256": done.manifest_sha256, "files": done.files, "bytes": done.bytes,
        **_not_taken(context, done.left_out), "kept": asdict(done.ending) if done.ending else None,
    }  # fmt: skip


def _fetch(
    context: Context, record: Record, transport: Transport, pod: Pod, outputs: list[str], excludes: list[str], how: Keep | None,
    problem: str | None,
) -> None:  # fmt: skip
    home = record.id.home(context.places.root / "out")
    if how:
        outputs = [*outputs, "status.json"]  # what a bucket holds among the logs
    key = ResultKey(record.user, record.label, record.attempt)
    try:
        got = direct.fetch(
            transport, key, pod.path("output"), outputs, excludes, home, token=record.token, keep=how, on_progress=_shown(context)
        )
    except (StoreError, Unreachable, OSError) as error:
        both = f"{problem}; and over SSH: {error}" if problem else str(error)
        raise StoreError(both) from error
    record.result = _told(context, got)


def _not_taken(context: Context, left_out: Sequence[LeftOut]) -> dict[str, Any]:
    """Return what is not in the result, and warn of what should be: it goes with the pod."""
    lost = [entry for entry in left_out if entry.wanted]
    for entry in lost[:10]:
        context.ui.warn(f"not in the result: {entry.path}: {entry.why}")
    if len(lost) > 10:
        context.ui.warn(f"not in the result: {len(lost) - 10} more (run-summary.json names them)")
    return {
        "left_out": [[entry.path, entry.size] for entry in left_out if not entry.wanted],
        "not_carried": [[entry.path, entry.why] for entry in lost],
    }


def _shown(context: Context) -> Any:
    last = ""

    def show(progress: Progress) -> None:
        nonlocal last
        if progress.text and progress.text != last:
            last = progress.text
            context.ui.say(f"           {progress.text}")

    return show
