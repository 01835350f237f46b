"""Two runs held against each other: what they were made of, and what came of it."""

from __future__ import annotations

import difflib
import textwrap
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from trainyard.errors import TrainyardError
from trainyard.pod.files import printable
from trainyard.recipes.bundled import BOUND_BY, hashes_in
from trainyard.recipes.declaration import DECLARED
from trainyard.recipes.summaries import DataFile
from trainyard.runs.context import CommandContext
from trainyard.runs.records import snapshot as snapshots
from trainyard.runs.records.progress import duration
from trainyard.runs.records.runrows import state_of
from trainyard.runs.records.summary import RunSummary, summarize
from trainyard.runs.verbs.past import SeenAttempt, all_seen
from trainyard.runs.verbs.show import WIDTH, list_in_words
from trainyard.sizes import human_size

_OF_VALUES = ("config.json", *BOUND_BY, DECLARED)
"""Files of a bundle that only say again what values, data and versions do."""
_LARGEST = 500_000
"""Bytes of a file whose lines are compared."""
_SHOWN = 200
"""Lines of code that are printed; --json has all."""
_DIGITS = 16


@dataclass(frozen=True, slots=True, kw_only=True)
class ChangedFile:
    """A file of data or code that is not the same in both: the sha256 that it has in each, None where it is not there."""

    path: str
    before: str | None
    after: str | None
    diff: tuple[str, ...] = ()
    """Its lines as a unified diff; empty for data, and for what is no text, or too big."""


Pair = tuple[object, object]
"""What the first run has, and what the second."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RunDiff:
    """What differs between two attempts; ``outcome`` has what came of them, equal or not."""

    runs: tuple[str, str]
    asked: Mapping[str, Pair]
    """Recipe, stack, cloud, GPU, hours, budget."""
    values: Mapping[str, Pair]
    settings: Mapping[str, Pair]
    versions: Mapping[str, Pair]
    data: tuple[ChangedFile, ...]
    code: tuple[ChangedFile, ...]
    code_problem: str | None
    """Why the code could not be compared."""
    outcome: Mapping[str, Pair]


def diff(context: CommandContext, before: str, after: str, stack: str | None) -> RunDiff:
    """Return what differs between two attempts; raises UserError for one that is nowhere."""
    with all_seen(context, [before, after], stack) as (one, other):
        a, b = one.record, other.record
        first, second = summarize(a, one.folder), summarize(b, other.folder)
        code, problem = _code(context, one, other)
        return RunDiff(
            runs=(str(one.key), str(other.key)), asked=_changed(_asked(one, first), _asked(other, second)),
            values=_changed(_comparable(a.values), _comparable(b.values)), versions=_changed(first.versions, second.versions),
            settings=_changed(snapshots.settings_of(one.folder.snapshot), snapshots.settings_of(other.folder.snapshot)),
            data=tuple(_data(a.data.files, b.data.files)), code=code, code_problem=problem,
            outcome=_pairs(_outcome(one, first), _outcome(other, second)),
        )  # fmt: skip


def _asked(attempt: SeenAttempt, summary: RunSummary) -> dict[str, object]:
    record = attempt.record
    gpu = f"{summary.gpu_count}x {summary.gpu}" if summary.gpu else None
    return {
        "recipe": record.recipe, "stack": record.environment, "cloud": record.cloud, "gpu": gpu, "hours": record.hours,
        "budget": record.budget, "commit": record.git_commit, "went on from": record.resumed_from and record.resumed_from.run,
    }  # fmt: skip


def _comparable(values: Mapping[str, object]) -> dict[str, object]:
    """Return values of which a file counts by its name: its bytes are compared with the code, and its folder is only where it lay."""
    return {name: Path(value).name if isinstance(value, str) and value.startswith("/") else value for name, value in values.items()}


def _outcome(attempt: SeenAttempt, summary: RunSummary) -> dict[str, object]:
    train = next((stage.seconds for stage in summary.stages if stage.name == "train"), None)
    return {
        "state": state_of(attempt.record), "steps": summary.steps_done, "first loss": summary.first_loss, "loss": summary.final_loss,
        "training": train, "cost": summary.cost, "files": summary.files, "bytes": summary.bytes, "manifest": summary.manifest_sha256,
    }  # fmt: skip


def _pairs(before: Mapping[str, object], after: Mapping[str, object]) -> dict[str, Pair]:
    return {name: (before.get(name), after.get(name)) for name in dict.fromkeys([*before, *after])}


def _changed(before: Mapping[str, object], after: Mapping[str, object]) -> dict[str, Pair]:
    return {name: pair for name, pair in _pairs(before, after).items() if pair[0] != pair[1]}


def _data(before: Iterable[DataFile], after: Iterable[DataFile]) -> Iterator[ChangedFile]:
    old = {file.dest: file.sha256 or file.etag for file in before}
    new = {file.dest: file.sha256 or file.etag for file in after}
    for path in sorted(old.keys() | new.keys()):
        if old.get(path) != new.get(path):
            yield ChangedFile(path=path, before=old.get(path), after=new.get(path))


def _code(context: CommandContext, one: SeenAttempt, other: SeenAttempt) -> tuple[tuple[ChangedFile, ...], str | None]:
    """Return the files of both bundles that differ: the person's code, and what the recipe was rendered to."""
    if one.record.bundle_sha256 == other.record.bundle_sha256:
        return (), None
    try:
        with one.bundle(context) as before, other.bundle(context) as after:
            return tuple(_changed_files(before, after)), None
    except TrainyardError as error:
        return (), error.message


def _changed_files(before: Path, after: Path) -> Iterator[ChangedFile]:
    old, new = hashes_in(before), hashes_in(after)
    for path in sorted((old.keys() | new.keys()) - set(_OF_VALUES)):
        if old.get(path) != new.get(path):
            lines = _unified(path, before / path if path in old else None, after / path if path in new else None)
            yield ChangedFile(path=path, before=old.get(path), after=new.get(path), diff=lines)


def _unified(path: str, before: Path | None, after: Path | None) -> tuple[str, ...]:
    texts = [_text(before), _text(after)]
    if any(text is None for text in texts):
        return ()
    old, new = (text.splitlines() for text in texts if text is not None)
    names = (f"a/{path}" if before else "/dev/null", f"b/{path}" if after else "/dev/null")
    return tuple(difflib.unified_diff(old, new, *names, lineterm=""))


def _text(path: Path | None) -> str | None:
    """Return a file's text, that of none for one that is not there; None for what is no text, or too big."""
    if path is None:
        return ""
    if path.stat().st_size > _LARGEST:
        return None
    content = path.read_bytes()
    try:
        return None if b"\0" in content else content.decode()
    except UnicodeDecodeError:
        return None


def lines(seen: RunDiff) -> list[str]:
    """Return what differs for a person, on 80 columns; lines of code are as long as they are."""
    out = [f"{seen.runs[0]} -> {seen.runs[1]}"]
    sections = {"asked": seen.asked, "values": seen.values, "settings": seen.settings, "versions": seen.versions}
    for title, pairs in sections.items():
        out += _section(title, (f"{name}: {_word(name, pair[0])} -> {_word(name, pair[1])}" for name, pair in sorted(pairs.items())))
    out += _section("data", (f"{file.path}: {_digest(file.before)} -> {_digest(file.after)}" for file in seen.data))
    out += _section("outcome", (_outcome_line(name, pair) for name, pair in seen.outcome.items() if pair != (None, None)))
    if seen.code_problem:
        return [*out, *_section("code", [f"cannot be compared: {seen.code_problem}"])]
    if not seen.code:
        return [*out, "code       the same"]
    out += _section("code", (f"{_word_of(file)} {file.path}" for file in seen.code))
    code = [printable(line.expandtabs()) for file in seen.code for line in file.diff]
    more = [f"... {len(code) - _SHOWN} lines more; with --json all of them are told"] if len(code) > _SHOWN else []
    return [*out, *code[:_SHOWN], *more]


def _section(title: str, content: Iterable[str]) -> list[str]:
    texts = list(content) or ["the same"]
    wrapped = []
    for number, text in enumerate(texts):
        head = f"{title if number == 0 else '':<11}"
        wrapped += textwrap.wrap(
            printable(text), WIDTH, initial_indent=head, subsequent_indent=" " * 13, break_long_words=False, break_on_hyphens=False
        )  # fmt: skip
    return wrapped


def _outcome_line(name: str, pair: Pair) -> str:
    before, after = (_word(name, value) for value in pair)
    return f"{name}: {before}" if before == after else f"{name}: {before} -> {after}"


def _word(name: str, value: object) -> str:
    if value is None:
        return "none"
    if isinstance(value, float):
        forms = {"cost": f"${value:.4f}", "training": duration(value)}
        return forms.get(name, f"{value:.6g}")
    if name == "bytes" and isinstance(value, int):
        return human_size(value)
    if isinstance(value, list):
        return list_in_words(value)
    return _digest(str(value)) if name == "manifest" else str(value)


def _word_of(file: ChangedFile) -> str:
    return "added" if file.before is None else "removed" if file.after is None else "changed"


def _digest(text: str | None) -> str:
    return (text or "none")[:_DIGITS]
