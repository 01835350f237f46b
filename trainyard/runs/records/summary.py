"""The summary of a run: what happened, what it cost by stage, where the result is and its hash."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any

from trainyard import __version__
from trainyard.clock import format_time
from trainyard.runs.records import pods
from trainyard.runs.records.progress import Metrics
from trainyard.runs.records.record import RunFolder, RunRecord, write_json


def cost(record: RunRecord, now: float | None = None) -> float:
    """Return the dollars of every pod of the run, each from its accept to its proven end (or to now)."""
    if record.pods:
        return pods.cost(record, now or time.time())
    price = float(record.pod.get("price_per_hour") or 0.0)
    began = _rented(record)
    if began is None:
        return 0.0
    return price * max(0.0, (record.ended or now or time.time()) - began) / 3600


def stopped(record: RunRecord) -> bool:
    """Tell whether the training was told to stop and saved: neither a success nor a failure."""
    return record.result is not None and record.error is None and not record.training_success


def verdict(*, success: bool, cancelled: bool, stopped: bool) -> str:
    """Return in one word how an ended attempt went. A training that was done before the cancel reached it has succeeded."""
    return "succeeded" if success else "cancelled" if cancelled else "stopped" if stopped else "failed"


def read_metrics(folder: RunFolder) -> Metrics:
    """Return what metrics.jsonl at the controller adds up to."""
    metrics = Metrics()
    if folder.metrics.is_file():
        for line in folder.metrics.read_bytes().splitlines():
            metrics.take(line)
    return metrics


def summarize(record: RunRecord, folder: RunFolder) -> dict[str, Any]:
    """Return the summary, as ``run-summary.json`` holds it."""
    metrics = read_metrics(folder)
    price = float(record.pod.get("price_per_hour") or 0.0)
    result = record.result or {}
    success = bool(record.training_success and record.result and record.phase == "ended")
    return {
        "run": str(record.id),
        "user": record.user,
        "label": record.label,
        "attempt": record.attempt,
        "token": record.token,
        "stack": record.environment,
        "recipe": record.recipe,
        "success": success,
        "exit_status": 0 if success else record.error_code or 1,
        "training_success": bool(record.training_success),
        "cancelled": record.cancelled,
        "stopped": stopped(record),
        "exit_code": record.exit_code,
        "error": record.error,
        "bucket": record.bucket,
        "s3_url": result.get("s3_url"),
        "s3_key": result.get("s3_key"),
        "logs_url": result.get("logs_url"),
        "local_path": result.get("local_path"),
        "manifest_sha256": result.get("manifest_sha256"),
        "files": result.get("files"),
        "bytes": result.get("bytes"),
        "left_out": result.get("left_out", []),
        "not_carried": result.get("not_carried", []),
        "road": result.get("road"),
        "road_why": result.get("road_why"),
        "kept": result.get("kept"),
        "final_loss": metrics.loss,
        "first_loss": metrics.first_loss,
        "steps_done": metrics.step,
        "steps_planned": metrics.total,
        "tokens": metrics.tokens,
        "rows": metrics.data,
        "started_at": format_time(record.created),
        "pod_created_at": format_time(_rented(record)),
        "ended_at": format_time(record.ended),
        "seconds_by_stage": record.stages,
        "cost_by_stage": {name: round(price * seconds / 3600, 6) for name, seconds in record.stages.items()},
        "cost": round(cost(record), 6),
        "price_per_hour": price,
        "gpu": record.pod.get("gpu"),
        "gpu_count": record.pod.get("gpu_count"),
        "pod_id": record.pod.get("pod_id"),
        "pods": pods.rows(record, record.ended or time.time()),
        "ends_itself": record.pod.get("ends_itself"),
        "ends_itself_proof": record.pod.get("ends_itself_proof"),
        "simulated": bool(record.pod.get("simulated")),
        "api_address": record.pod.get("api_address"),
        "data": record.data,
        "code": record.code or None,
        "pod_secrets": record.pod_secrets,
        "git_commit": record.git_commit,
        "versions": {"trainyard": __version__, **record.versions},
        "bundle_sha256": record.bundle_sha256,
        "engine": record.engine,
        "isolation": record.pod.get("isolation"),
    }


def write_summary(record: RunRecord, folder: RunFolder) -> dict[str, Any]:
    """Write and return the summary."""
    summary = summarize(record, folder)
    write_json(folder.summary, summary)
    return summary


def last_lines(summary: Mapping[str, Any], sync_command: str | None) -> list[str]:
    """Return the closing lines a person reads: verdict, figures, where the result is and how to fetch it."""
    word = verdict(success=summary["success"], cancelled=summary["cancelled"], stopped=summary["stopped"])
    figures = [
        f"{summary['steps_done']}/{summary['steps_planned']} steps" if summary["steps_done"] or summary["steps_planned"] else "",
        f"loss {summary['first_loss']:.4f} -> {summary['final_loss']:.4f}" if summary["final_loss"] is not None else "",
        f"${summary['cost']:.2f}",
        f"engine {summary['engine']}",
        f"isolation {summary['isolation']}" if summary["isolation"] else "",
        "SIMULATED cloud" if summary["simulated"] else "",
    ]
    attempt = f" (attempt {summary['attempt']})" if summary["attempt"] > 1 else ""
    lines = [f"run {summary['run']}{attempt} {word}: {', '.join(filter(None, figures))}"]
    if summary["api_address"]:
        lines.append(f"the cloud's API was asked at {summary['api_address']}, which is not the cloud's own address")
    if summary["ends_itself"] is False:
        lines.append(f"its pod could have been ended only from outside: {summary['ends_itself_proof']}")
    if summary["error"]:
        lines.append(f"error: {summary['error']}")
    lines += _rows(summary["rows"])
    if summary["kept"]:
        lines.append(_kept(summary["kept"], summary["files"]))
    left = _by_folder(summary["left_out"])
    lines += [f"left out: {folder} ({count} files, {size:,} bytes)" for folder, count, size in left[:10]]
    lines += [f"left out: {len(left) - 10} more places (run-summary.json names them)"] if len(left) > 10 else []
    lines += [f"NOT in the result: {path}: {why}" for path, why in summary["not_carried"][:10]]
    if summary["road_why"]:
        lines.append(f"road of the result: {summary['road']} ({summary['road_why']})")
    if summary["s3_url"] and not summary["files"]:
        lines += [] if summary["kept"] else ["it left no output; its logs are kept"]
        lines.append(f"S3 Location: {summary['logs_url']}")
    elif summary["s3_url"]:
        lines.append(f"S3 Location: {summary['s3_url']}")
        if summary["simulated"]:
            lines.append("(a rehearsal's bucket: its server ends with the rehearsal, its objects stay as files in .trainyard/rehearsal)")
        else:
            lines.append(f"invoke download {summary['run']}/{summary['attempt']} ./{summary['label']}")
            lines += [sync_command] if sync_command else []
    elif summary["local_path"]:
        lines.append(f"Result: {summary['local_path']}")
    return lines


def _kept(kept: Mapping[str, Any], files: int) -> str:
    """Return the line that says that what is found at the place below is no success."""
    checkpoints = ", ".join(kept["checkpoints"]) or "no complete checkpoint"
    what = f"{files} files, {checkpoints}" if files else "it left no output; its logs"
    return f"kept, NOT a success: {kept['why']}; {what}"


def _rows(data: Mapping[str, Any] | None) -> list[str]:
    """Return the line about rows that did not reach the loss as they were given, none when all did."""
    words = {"cut": "cut", "dropped": "dropped", "flawed": "skipped as flawed", "not_learnt": "not learnt (weight 0)"}
    told = [f"{data[name]} {word}" for name, word in words.items() if data.get(name)] if data else []
    return [f"rows: {data.get('rows', '?')} read, {', '.join(told)}; data-report.json names them"] if data and told else []


def _by_folder(left_out: Sequence[Sequence[Any]]) -> list[tuple[str, int, int]]:
    """Return (folder or file, how many, bytes): a hundred checkpoint files are one line to a person."""
    sums: dict[str, tuple[int, int]] = {}
    for path, size in left_out:
        folder = "/".join(path.split("/")[:2]) if "/" in path else path
        count, total = sums.get(folder, (0, 0))
        sums[folder] = (count + 1, total + size)
    return [(folder, count, size) for folder, (count, size) in sorted(sums.items())]


def _rented(record: RunRecord) -> float | None:
    began = record.pod.get("created_epoch")
    return float(began) if began is not None else None
