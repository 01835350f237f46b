"""From a verdict to a result: judge the training, commit what it left where it can be found again."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from trainyard.errors import PodCannotUpload, StoreError, TrainingFailed, Unreachable
from trainyard.recipes.contract import Recipe, load_recipe
from trainyard.remote.jobs import OUT_OF_MEMORY
from trainyard.remote.protocol import Transport
from trainyard.runs.context import Context
from trainyard.runs.pod import Pod
from trainyard.runs.record import Record, RunFolder
from trainyard.storage import commit as storage_commit
from trainyard.storage import direct
from trainyard.storage.client import StoreSettings, store_settings, sync_command
from trainyard.storage.deliver import Progress
from trainyard.storage.manifest import ResultKey

_LOG_TAIL = 64 * 1024


def commit(context: Context, record: Record, folder: RunFolder, pod: Pod) -> None:
    """Judge the training and bring its result to safety; sets ``training_success`` and ``result``.

    Raises TrainingFailed with the log's own words and a remedy where one is known, StoreError or Unreachable
    when a result could not be saved (the caller keeps the pod then).
    """
    chosen = load_recipe(context.places.root, record.recipe)
    record.cancelled = record.cancelled or folder.cancelled
    _judge(record, folder, chosen, record.exit_code in chosen.verdict.stopped)
    where = "to the bucket" if record.bucket else "to this machine (no bucket is set)"
    with pod.connect() as transport, context.ui.stage("result", where):
        _save(context, record, chosen, transport, pod)
        folder.save(record)


def store_of(context: Context, bucket: dict[str, Any] | None) -> StoreSettings | None:
    """Return the settings of the store that holds a run's result, None without a bucket."""
    if not bucket:
        return None
    return store_settings(context.env, bucket.get("store"), bucket.get("bucket"), context.places)


def sync_line(context: Context, record: Record) -> str | None:
    """Return the exact ``aws s3 sync`` command for a run's result."""
    settings = store_of(context, record.bucket)
    key = (record.result or {}).get("s3_key")
    return sync_command(settings, key, f"./{record.label}") if settings and key else None


def _judge(record: Record, folder: RunFolder, chosen: Recipe, stopped: bool) -> None:
    # run.sh checks the expected artefacts itself and tells by its exit code when one is missing.
    record.training_success = record.exit_code in chosen.verdict.exit_codes
    if not record.training_success and not stopped:
        why = ": out of memory" if OUT_OF_MEMORY in _tail(folder.log) else ""
        raise TrainingFailed(f"the training exited {record.exit_code}{why}", hint=remedy(chosen, folder.log))


def remedy(chosen: Recipe, log: Path) -> str:
    """Return the last lines of a log, and what to do where the recipe knows the failure."""
    text = _tail(log)
    lines = ["  " + line for line in text.splitlines()[-10:]]
    lines += [known.remedy for known in chosen.known_failures if known.pattern.search(text)]
    return "\n".join(lines)


def _tail(log: Path) -> str:
    return log.read_bytes()[-_LOG_TAIL:].decode("utf-8", "replace") if log.is_file() else ""


def _save(context: Context, record: Record, chosen: Recipe, transport: Transport, pod: Pod) -> None:
    outputs, excludes = [output.pattern for output in chosen.outputs], list(chosen.excludes)
    settings = store_of(context, record.bucket)
    problem: str | None = None
    if settings is not None:
        key = ResultKey(record.user, record.label, record.attempt)
        try:
            done = storage_commit.commit(
                settings, transport, key, pod.path("output"), outputs, excludes, on_progress=_shown(context),
                volume=record.pod.get("volume_path"),
            )  # fmt: skip
        except PodCannotUpload as error:
            problem = error.message
        except StoreError as error:
            problem = f"the store failed: {error}"
        else:
            record.result = {
                "s3_url": done.s3_url, "s3_key": done.s3_key, "manifest_sha256": done.manifest_sha256, "files": done.files,
                "bytes": done.bytes, "left_out": [list(item) for item in done.left_out],
            }  # fmt: skip
            return
    context.ui.warn(problem or "no bucket is set: the result is fetched over SSH before the pod is ended")
    _fetch(context, record, transport, pod, outputs, excludes, problem)


def _fetch(
    context: Context, record: Record, transport: Transport, pod: Pod, outputs: list[str], excludes: list[str], problem: str | None
) -> None:
    home = context.places.root / "out" / record.user / record.label
    key = ResultKey(record.user, record.label, record.attempt)
    try:
        got = direct.fetch(transport, key, pod.path("output"), outputs, excludes, home, on_progress=_shown(context))
    except (StoreError, Unreachable, OSError) as error:
        both = f"{problem}; and over SSH: {error}" if problem else str(error)
        raise StoreError(both) from None
    record.result = {
        "local_path": str(got.path), "manifest_sha256": got.manifest_sha256, "files": got.files, "bytes": got.bytes,
        "left_out": [list(item) for item in got.left_out],
    }  # fmt: skip


def _shown(context: Context) -> Any:
    last = ""

    def show(progress: Progress) -> None:
        nonlocal last
        if progress.text and progress.text != last:
            last = progress.text
            context.ui.say(f"           {progress.text}")

    return show
