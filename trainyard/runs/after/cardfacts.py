"""What is known of a result for its model card: from its record, its own report, the adapter's settings, and the Hub for its base."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from trainyard import __version__
from trainyard.errors import TrainyardError, UserError
from trainyard.jsontext import parse_json
from trainyard.recipes import basemodel
from trainyard.recipes.basemodel import MADE
from trainyard.recipes.contract import load_recipe
from trainyard.recipes.fit.hub import ask
from trainyard.recipes.summaries import NO_DATA, Values
from trainyard.runs.after.card import BaseLicence, CardFacts, told_values
from trainyard.runs.context import CommandContext
from trainyard.runs.records.progress import loss_curve, number_of
from trainyard.runs.records.record import RunRecord
from trainyard.runs.records.stores import store_of
from trainyard.runs.records.summary import cost
from trainyard.runs.verbs.past import SeenAttempt, seen
from trainyard.storage.client import StoreSettings
from trainyard.storage.hub import CARD
from trainyard.storage.inventory import split_key
from trainyard.storage.manifest import Manifest, ResultKey, sha256
from trainyard.storage.seal import read, read_result

_REPORT, _ADAPTER, _BASE = "result.json", "adapter_config.json", "base/config.json"
_NAME = re.compile(r"[A-Za-z0-9][\w.-]*/[\w.-]+|[A-Za-z0-9][\w.-]*")
_LICENCE = re.compile(r"[a-z0-9][a-z0-9.+-]*")
_ROWS = {"rows": "rows", "rows_dropped": "dropped", "rows_cut": "cut", "rows_flawed": "flawed", "rows_not_learnt": "not_learnt"}
_MADE_OF = ("merge", "gguf")
"""Recipes that learn nothing: they write another run's result in another form."""
_SETTINGS = "\n## Settings"
_NOT_TOLD = ("seconds", "rows", "rows_read", *_ROWS)


@dataclass(frozen=True, slots=True)
class _Learnt:
    """The run that has learnt: the result's own, or the training whose adapter it has merged."""

    key: ResultKey
    record: RunRecord
    metrics: bytes
    report: Mapping[str, Any]


def facts_of(
    context: CommandContext, repo: str, manifest: Manifest, paths: Mapping[str, Path], attempt: SeenAttempt | None,
    report: Mapping[str, Any],
) -> CardFacts:  # fmt: skip
    """Return what a card of these files tells; without the attempt's record less of it."""
    adapter, record = _json(paths.get(_ADAPTER)), attempt.record if attempt else None
    own = _Learnt(attempt.key, attempt.record, _metrics(attempt), report) if attempt else None
    training = _training_of(context, record)
    learnt = training or own
    report = _flat({**(training.report if training else {}), **report})
    metrics = learnt.metrics if learnt else b""
    called = str((record.values.get("base_model") if record else None) or adapter.get("base_model_name_or_path") or "")
    spent = sum(cost(each.record) for each in (training, own) if each is not None)
    return CardFacts(
        repo=repo, run=str(manifest.key), recipe=record.recipe if record else "", manifest_sha256=sha256(manifest.encode()),
        base=_on_the_hub(called), base_called=_shown(called), base_revision=_text(adapter.get("revision") or report.get("base_revision")),
        is_adapter=_ADAPTER in paths, base_beside=_BASE in paths, training=str(training.key) if training else None,
        values=_values(context, learnt.record) if learnt else {}, data=learnt.record.data if learnt else NO_DATA,
        rows={**{word: int(report[name]) for name, word in _ROWS.items() if number_of(report.get(name))}, **_held_back(metrics)},
        losses=loss_curve(metrics), evals=loss_curve(metrics, "eval_loss"),
        figures={name: value for name, each in report.items() if name not in _NOT_TOLD and (value := number_of(each)) is not None},
        hardware=_hardware(learnt.record if learnt else None, report), seconds=learnt.record.job_seconds if learnt else None,
        cost=spent if own else None, versions={"trainyard": __version__, **(learnt.record.versions if learnt else {})},
        gguf=next((name for name in sorted(paths) if name.endswith(".gguf")), None), page=_page(record, paths.get(CARD)),
        started_from=learnt.record.init_from.run if learnt and learnt.record.init_from else None,
    )  # fmt: skip


def report_of(manifest: Manifest, store: StoreSettings | None, home: Path | None) -> Mapping[str, Any]:
    """Return what a training has reported of itself, proven by the manifest; empty where it has reported nothing."""
    entry = next((each for each in manifest.files if each.path == _REPORT), None)
    if entry is None:
        return {}
    body: bytes | None = None
    with contextlib.suppress(OSError):
        body = (home / _REPORT).read_bytes() if home else read(store, manifest.key.prefix + _REPORT) if store else None
    return _object(body) if body is not None and sha256(body) == entry.sha256 else {}


def licence_of(context: CommandContext, base: str | None, asked: str | None) -> tuple[BaseLicence | None, str]:
    """Return the licence that is asked for, else that of the base as the Hub says it; else why it is not known.

    Raises UserError for what is no licence's id.
    """
    if asked is not None:
        if not _LICENCE.fullmatch(asked):
            hint = "Take an id of the Hub's list: https://huggingface.co/docs/hub/repositories-licenses"
            raise UserError(f"--license {asked}: is no id of a licence like apache-2.0, mit, llama3.2, other", hint=hint)
        return BaseLicence(id=asked), ""
    if base is None:
        return None, "its base is on no hub"
    try:
        answer = ask(base, context.env)
    except UserError as error:
        return None, error.message
    if not answer.licence:
        return None, answer.unknown or f"the page of {base} names none"
    return BaseLicence(id=answer.licence, name=answer.licence_name, link=answer.licence_link), ""


def _training_of(context: CommandContext, record: RunRecord | None) -> _Learnt | None:
    """Return the training whose result a merge or a GGUF was made of, None where there is none or it is not known any more."""
    if record is None or record.recipe not in _MADE_OF or record.data.reference is None:
        return None
    at = split_key(record.data.reference.partition("://")[2].partition("/")[2])
    if at is None:
        return None
    with contextlib.suppress(TrainyardError), seen(context, str(at[1]), record.environment) as attempt:
        if attempt.record.recipe in _MADE_OF:
            return _training_of(context, attempt.record)
        store = attempt.store or store_of(context, attempt.record.bucket)
        result = read_result(store, attempt.key) if store else None
        report = report_of(result.manifest, store, None) if result else {}
        return _Learnt(attempt.key, attempt.record, _metrics(attempt), report)
    return None


def _metrics(attempt: SeenAttempt) -> bytes:
    with contextlib.suppress(OSError):
        return attempt.folder.metrics.read_bytes()
    return b""


def _values(context: CommandContext, record: RunRecord) -> Values:
    try:
        recipe = load_recipe(context.places.root, record.recipe)
    except UserError:  # its recipe is gone here: of texts nothing is known
        return told_values(record.values, {})
    return told_values(record.values, {variable.name: variable.choices for variable in recipe.variables})


def _page(record: RunRecord | None, path: Path | None) -> str:
    """Return what a training has written of its result, without title and settings; empty where the card says it itself."""
    if path is None or record is None or record.recipe in ("lora", *_MADE_OF):
        return ""
    with contextlib.suppress(OSError):
        text = path.read_text(encoding="utf-8", errors="replace")
        text = text.partition(_SETTINGS)[0] if record.recipe == "summarizer" else text
        return re.sub(r"\A# .*\n+", "", text).strip()
    return ""


def _flat(report: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return a report with what it tells of summaries among its figures."""
    rouge = report.get("rouge")
    return {**report, **(rouge if isinstance(rouge, dict) else {})}


def _held_back(metrics: bytes) -> Mapping[str, int]:
    for line in metrics.splitlines():
        data = _object(line).get("data")
        if isinstance(data, dict) and number_of(data.get("held_back")):
            return {"held_back": int(data["held_back"])}
    return {}


def _hardware(record: RunRecord | None, report: Mapping[str, Any]) -> str | None:
    pod = record.pod if record else None
    name = _text(report.get("device_name")) or (pod.gpu if pod else None)
    if name is None:
        return "CPU" if report.get("device") == "cpu" else None
    count = (pod.gpu_count if pod else None) or 1
    return f"{count} x {name}" if count > 1 else name


def base_of(record: RunRecord | None) -> str | None:
    """Return the base of a run where it is one of the Hub."""
    return _on_the_hub(str(record.values.get("base_model") or "")) if record else None


def _on_the_hub(base: str) -> str | None:
    """Return a base's name where it is one of the Hub: not made on the spot, no folder."""
    is_name = bool(_NAME.fullmatch(base)) and not basemodel.is_path(base) and base not in MADE
    return base if is_name and not Path(base).exists() else None


def _shown(base: str) -> str:
    return base.rstrip("/").rpartition("/")[2] if basemodel.is_path(base) else base


def _text(value: object) -> str | None:
    return value if isinstance(value, str) and value else None


def _json(path: Path | None) -> Mapping[str, Any]:
    with contextlib.suppress(OSError):
        return _object(path.read_bytes()) if path else {}
    return {}


def _object(body: bytes) -> Mapping[str, Any]:
    with contextlib.suppress(ValueError):
        document = parse_json(body)
        return document if isinstance(document, dict) else {}
    return {}
