"""The summary of a run: what happened, what it cost by stage, where the result is and its hash."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from trainyard import __version__
from trainyard.clock import format_time
from trainyard.recipes.summaries import CodeSummary, DataSummary
from trainyard.runs.records import pods, stagecost
from trainyard.runs.records.bills import RunBill, bill_of
from trainyard.runs.records.delivery import DeliveryState, line_of, read_state
from trainyard.runs.records.parts import JobKeys, RunBucket, RunResult, StartedFrom
from trainyard.runs.records.pods import PodCost
from trainyard.runs.records.progress import Metrics, of_all
from trainyard.runs.records.record import RunFolder, RunRecord, write_json
from trainyard.runs.records.stagecost import StageCost
from trainyard.runs.records.storagecost import StorageCost, storage_cost
from trainyard.storage.ending import Ending


def cost(record: RunRecord, now: float | None = None) -> float:
    """Return the dollars of every pod of the run, each from its accept to its proven end (or to now)."""
    if record.pods:
        return pods.cost(record, now or time.time())
    began = record.pod.created_epoch
    if began is None:
        return 0.0
    return record.per_hour * max(0.0, (record.ended or now or time.time()) - began) / 3600


def stages_of(record: RunRecord) -> Mapping[str, float]:
    """Return the dollars of each stage of a run so far; they make up its cost."""
    until = record.ended or time.time()
    return stagecost.as_costs(stagecost.by_stage(record, cost(record, until), until))


def stopped(record: RunRecord) -> bool:
    """Tell whether the training was told to stop and saved: neither a success nor a failure."""
    return record.result is not None and record.error is None and not record.training_success


def succeeded(record: RunRecord) -> bool:
    """Tell whether the training succeeded, its result is safe and its pod has ended."""
    return bool(record.training_success and record.result and record.phase == "ended")


def verdict(*, success: bool, cancelled: bool, stopped: bool) -> str:
    """Return in one word how an ended attempt went. A training that was done before the cancel reached it has succeeded."""
    return "succeeded" if success else "cancelled" if cancelled else "stopped" if stopped else "failed"


def began_at(record: RunRecord) -> float:
    """Return the moment before which figures are those of an earlier attempt (epoch seconds), 0 where there is none."""
    return (record.pod.created_epoch or 0.0) if record.resumed_from else 0.0


def read_metrics(record: RunRecord, folder: RunFolder) -> Metrics:
    """Return what metrics.jsonl at the controller adds up to."""
    metrics = Metrics(began_at(record))
    if folder.metrics.is_file():
        for line in folder.metrics.read_bytes().splitlines():
            metrics.take(line)
    return metrics


@dataclass(frozen=True, slots=True, kw_only=True)
class RunSummary:
    """What happened, as ``run-summary.json`` holds it: the fields' names are a format that scripts read.

    Money is in dollars, sizes are bytes, moments are UTC text.
    """

    run: str
    user: str
    label: str
    attempt: int
    token: str
    stack: str
    recipe: str
    success: bool
    exit_status: int
    """What the command exits with."""
    training_success: bool
    """The training's own verdict; ``success`` also needs its result to be safe."""
    cancelled: bool
    stopped: bool
    exit_code: int | None
    """What the training exited with."""
    error: str | None
    bucket: RunBucket | None
    s3_url: str | None
    s3_key: str | None
    logs_url: str | None
    local_path: str | None
    manifest_sha256: str | None
    files: int | None
    bytes: int | None
    left_out: Sequence[tuple[str, int]]
    not_carried: Sequence[tuple[str, str]]
    road: str | None
    road_why: str | None
    kept: Ending | None
    resumed_from: StartedFrom | None
    """The checkpoint of an earlier attempt that this one went on from."""
    init_from: StartedFrom | None
    spent_before: float
    """What the attempts had cost that this one goes on from; ``cost`` is without it."""
    checkpoint: str | None
    """The newest checkpoint to go on from."""
    resume: str | None
    """The command that goes on from it; None for a success, and where there is none."""
    final_loss: float | None
    first_loss: float | None
    steps_done: int
    steps_planned: int
    tokens: int
    rows: Mapping[str, Any] | None
    started_at: str | None
    pod_created_at: str | None
    ended_at: str | None
    seconds_by_stage: Mapping[str, float]
    """As its controllers measured them."""
    cost_by_stage: Mapping[str, float]
    """They make up ``cost``."""
    cost: float
    billed: RunBill | None
    """What the cloud bills for the same; None where it has sent no bill yet."""
    price_per_hour: float
    gpu: str | None
    gpu_count: int | None
    pod_id: str | None
    pods: Sequence[PodCost]
    ends_itself: bool | None
    ends_itself_proof: str | None
    simulated: bool
    api_address: str | None
    data: DataSummary
    code: CodeSummary | None
    pod_secrets: Sequence[str]
    job_keys: JobKeys | None
    """Which keys of the bucket the job was given."""
    git_commit: str | None
    versions: Mapping[str, str]
    bundle_sha256: str
    engine: str | None
    isolation: str | None
    stages: Sequence[StageCost] = ()
    """What was paid for, stage by stage."""
    deliver: str | None = None
    """Where the result goes after the run."""
    delivery: DeliveryState | None = None
    """How far that has come."""
    storage: StorageCost | None = None
    """What its result and data cost in their bucket, beside ``cost``; None: nothing of it lies in one."""

    @property
    def place(self) -> str:
        """The folder into which the closing lines fetch the result: one an attempt, so that no two of them are mixed."""
        return place_of(self.label, self.attempt)


def place_of(label: str, attempt: int) -> str:
    """Return the folder of a checkout into which a result is fetched unless another one is named."""
    return f"out/downloads/{label}" + (f".{attempt}" if attempt > 1 else "")


def summarize(record: RunRecord, folder: RunFolder) -> RunSummary:
    """Return the summary of a run, whatever it has come to."""
    metrics, now = read_metrics(record, folder), record.ended or time.time()
    stages = stagecost.by_stage(record, cost(record, now), now)
    pod, result = record.pod, record.result or RunResult()
    success = succeeded(record)
    return RunSummary(
        run=str(record.id),
        stack=record.environment,
        success=success,
        exit_status=0 if success else record.error_code or 1,
        training_success=bool(record.training_success),
        stopped=stopped(record),
        **_fields(record, _OF_RECORD),
        **_fields(pod, _OF_POD),
        **_fields(result, _OF_RESULT),
        final_loss=metrics.loss,
        first_loss=metrics.first_loss,
        steps_done=metrics.step,
        steps_planned=metrics.total,
        tokens=metrics.tokens,
        rows=metrics.data,
        started_at=format_time(record.created),
        pod_created_at=format_time(pod.created_epoch),
        ended_at=format_time(record.ended),
        seconds_by_stage=record.stages,
        cost_by_stage=stagecost.as_costs(stages),
        stages=stages,
        cost=round(cost(record), 6),
        billed=bill_of(record),
        price_per_hour=pod.price,
        pods=pods.costs(record, record.ended or time.time()),
        versions={"trainyard": __version__, **record.versions},
        resume=None if success else resume_command(record),
        delivery=read_state(folder),
        storage=_storage(record),
    )


def _storage(record: RunRecord) -> StorageCost | None:
    result = record.result
    if record.bucket is None or result is None or not result.s3_key:
        return None
    kept = (record.data.bytes if record.data.stored else 0) + (record.code.bytes if record.code and record.code.stored else 0)
    return storage_cost(record.bucket, result.bytes, data_bytes=kept)


_OF_RECORD = (
    "user", "label", "attempt", "token", "recipe", "cancelled", "exit_code", "error", "bucket", "data", "code", "pod_secrets", "job_keys",
    "git_commit", "bundle_sha256", "engine", "resumed_from", "init_from", "spent_before", "checkpoint", "deliver",
)  # fmt: skip
_OF_POD = ("gpu", "gpu_count", "pod_id", "ends_itself", "ends_itself_proof", "simulated", "api_address", "isolation")
_OF_RESULT = (
    "s3_url", "s3_key", "logs_url", "local_path", "manifest_sha256", "files", "bytes", "left_out", "not_carried", "road",
    "road_why", "kept",
)  # fmt: skip


def resume_command(record: RunRecord) -> str | None:
    """Return the command that goes on from an attempt's newest checkpoint, None where it has none, or has not ended."""
    if record.checkpoint is None or not record.reached("ended"):
        return None
    return f"invoke resume {record.id}" + (f" --stack {record.environment}" if record.environment != "local" else "")


def _fields(of: object, names: Sequence[str]) -> dict[str, Any]:
    """Return what stands in the summary under the same name."""
    return {name: getattr(of, name) for name in names}


def write_summary(record: RunRecord, folder: RunFolder) -> None:
    """Write the summary into the run's folder."""
    write_json(folder.summary, asdict(summarize(record, folder)))


def last_lines(summary: RunSummary, sync_command: str | None, rehearsal: Path | None = None) -> list[str]:
    """Return the closing lines a person reads: verdict, figures, where the result is and how to fetch it (from a rehearsal: nohow)."""
    word = verdict(success=summary.success, cancelled=summary.cancelled, stopped=summary.stopped)
    attempt = f" (attempt {summary.attempt})" if summary.attempt > 1 else ""
    lines = [f"run {summary.run}{attempt} {word}: {', '.join(_figures(summary))}"]
    if summary.resumed_from:
        lines.append(f"it went on from {summary.resumed_from.path.rpartition('/')[2]} of {summary.resumed_from.run}")
    if summary.api_address:
        lines.append(f"the cloud's API was asked at {summary.api_address}, which is not the cloud's own address")
    if summary.ends_itself is False:
        lines.append(f"its pod could have been ended only from outside: {summary.ends_itself_proof}")
    if summary.error and summary.error != word:
        lines.append(f"error: {summary.error}")
    lines += _rows(summary.rows)
    if summary.kept:
        lines.append(_no_success_line(summary.kept, summary.files))
    left = _by_folder(summary.left_out)
    lines += [f"left out: {folder} ({count} files, {size:,} bytes)" for folder, count, size in left[:10]]
    lines += [f"left out: {len(left) - 10} more places (run-summary.json names them)"] if len(left) > 10 else []
    lines += [f"NOT in the result: {path}: {why}" for path, why in summary.not_carried[:10]]
    if summary.road_why:
        lines.append(f"road of the result: {summary.road} ({summary.road_why})")
    if summary.resume:
        lines.append(f"go on from {summary.checkpoint}: {summary.resume}")
    closing = [*_place(summary, sync_command, rehearsal), *_delivery(summary), *_deletion(summary)]
    return [*lines, *closing, *_bill(summary), *stagecost.lines(summary.stages)]


def _figures(summary: RunSummary) -> Iterator[str]:
    """Give the figures of the first closing line."""
    if summary.steps_done or summary.steps_planned:
        yield f"{of_all(summary.steps_done, summary.steps_planned)} steps"
    if summary.final_loss is not None:
        yield f"loss {summary.first_loss:.4f} -> {summary.final_loss:.4f}"
    yield f"${summary.cost:.2f}"
    if summary.engine:
        yield f"engine {summary.engine}"
    if summary.isolation:
        yield f"isolation {summary.isolation}"
    if summary.simulated:
        yield "SIMULATED cloud"


def _place(summary: RunSummary, sync_command: str | None, rehearsal: Path | None) -> list[str]:
    """Return where the result is, and the commands that fetch it."""
    if summary.s3_url and not summary.files:
        return [*([] if summary.kept else ["it left no output; its logs are kept"]), f"S3 Location: {summary.logs_url}"]
    if summary.s3_url and rehearsal:
        ends = f"(a rehearsal's bucket: its server ends with the rehearsal, its objects stay as files below {rehearsal})"
        return [f"S3 Location: {summary.s3_url}", ends]
    if summary.s3_url:
        fetch = [f"invoke download {summary.run}/{summary.attempt} {summary.place}", *([sync_command] if sync_command else [])]
        kept = summary.storage.text() if summary.storage else ""
        return [f"S3 Location: {summary.s3_url}", *([f"storage: {kept}"] if kept else []), *fetch]
    return [f"Result: {summary.local_path}"] if summary.local_path else []


def _delivery(summary: RunSummary) -> list[str]:
    """Return what becomes of the result after the run."""
    if summary.delivery is None:
        return []
    return [line_of(f"{summary.run}/{summary.attempt}", summary.delivery, under_way=True)]


def _deletion(summary: RunSummary) -> list[str]:
    """Return what has become of a person's files: where the pods are this machine's, they never left it."""
    gone = summary.data.deleted
    if gone is None or summary.isolation or summary.simulated or not (summary.code or summary.data.kind in ("file", "folder")):
        return []
    proved = gone.pods and all(pod.gone_at for pod in gone.pods)
    pods = f"what was sent is gone with {'its pod' if len(gone.pods) == 1 else f'its {len(gone.pods)} pods'}" if proved else ""
    until = f", until {gone.gone_by[:10]} at the latest" if gone.gone_by else ", until a person removes them"
    kept = f"a copy is in {gone.bucket}{until}" if gone.bucket else ""
    return ["; ".join(filter(None, [pods, kept]))] if pods or kept else []


def _bill(summary: RunSummary) -> list[str]:
    """Return the line that says that the cloud bills something else than what was reckoned."""
    return [f"the bill is another: {summary.billed}"] if summary.billed and summary.billed.differs else []


def _no_success_line(kept: Ending, files: int | None) -> str:
    """Return the line that says that what is found at the place below is no success."""
    checkpoints = ", ".join(kept.checkpoints) or "no complete checkpoint"
    what = f"{files} files, {checkpoints}" if files else "it left no output; its logs"
    return f"kept, NOT a success: {kept.why}; {what}"


def _rows(data: Mapping[str, Any] | None) -> list[str]:
    """Return the line about rows that did not reach the loss as they were given, none when all did."""
    words = {"cut": "cut", "dropped": "dropped", "flawed": "skipped as flawed", "not_learnt": "not learnt (weight 0)"}
    parts = [f"{data[name]} {word}" for name, word in words.items() if data.get(name)] if data else []
    return [f"rows: {data.get('rows', '?')} read, {', '.join(parts)}; data-report.json names them"] if data and parts else []


def _by_folder(left_out: Sequence[tuple[str, int]]) -> list[tuple[str, int, int]]:
    """Return (folder or file, how many, bytes): a hundred checkpoint files are one line to a person."""
    sums: dict[str, tuple[int, int]] = {}
    for path, size in left_out:
        folder = "/".join(path.split("/")[:2]) if "/" in path else path
        count, total = sums.get(folder, (0, 0))
        sums[folder] = (count + 1, total + size)
    return [(folder, count, size) for folder, (count, size) in sorted(sums.items())]
