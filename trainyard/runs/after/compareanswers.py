"""Answers of a run's model beside those of its base or of another run: scores, times, a judge's verdicts, a page."""

from __future__ import annotations

import json
import statistics
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from trainyard.errors import UserError
from trainyard.files import write_atomic
from trainyard.recipes import rouge
from trainyard.runs.after import comparisonpage
from trainyard.runs.after.ask import need_tokens
from trainyard.runs.after.judge import Judge, judged, tally
from trainyard.runs.after.prompts import Prompt, load_prompts
from trainyard.runs.after.sides import BASE, Side, sides_of
from trainyard.runs.context import CommandContext

REPORT, PAGE, ANSWERS = "report.json", "report.html", "answers.jsonl"
_DECIMALS = 4


@dataclass(frozen=True, slots=True)
class ComparisonWish:
    """What is to be compared, and how."""

    prompts: Path
    against: str | None = BASE
    """``base``, another run, or None: nothing."""
    tokens: int = 256
    judge: Judge | None = None
    to: Path | None = None
    """Folder of the report; None: one below out/."""


def compare_answers(context: CommandContext, reference: str, stack: str | None, wish: ComparisonWish) -> tuple[Path, dict[str, Any]]:
    """Ask, score, have judged and write the report; return its folder and what it says.

    Raises UserError for wrong input, before any model is loaded, and what fetch() and the programs do.
    """
    prompts = load_prompts(wish.prompts)
    need_tokens(wish.tokens)
    if wish.judge is not None:
        wish.judge.key(context.env)
        if wish.against is None:
            raise UserError("--judge judges two answers: name what the run is compared with (--against base, or another run)")
    sides = sides_of(context, reference, stack, wish.against)
    folder = wish.to or context.places.root / "out" / "compared" / _folder_name(sides[0].name, wish.against)
    folder.mkdir(parents=True, exist_ok=True)
    answers = {}
    for side in sides:
        context.ui.say(f"answers    {side.name}: {len(prompts)} prompts")
        answers[side.name] = side.answers([each.messages for each in prompts], wish.tokens)
    rows = [_row(prompt, {name: said[at] for name, said in answers.items()}) for at, prompt in enumerate(prompts)]
    _keep(folder, rows)
    verdicts = _judged(context, wish.judge, prompts, rows, sides) if wish.judge is not None else None
    report = {
        "prompts": wish.prompts.name, "count": len(prompts), "tokens": wish.tokens,
        "sides": {side.name: _figures(side, rows) for side in sides}, "judge": verdicts, "rows": rows,
    }  # fmt: skip
    write_atomic(folder / REPORT, json.dumps(report, indent=1, ensure_ascii=False) + "\n", durable=False)
    write_atomic(folder / PAGE, comparisonpage.page(report), durable=False)
    return folder, report


def _folder_name(run: str, against: str | None) -> str:
    return f"{run} {against or 'alone'}".replace("/", "-").replace(" ", "-")


def _row(prompt: Prompt, answered: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    answers = dict[str, dict[str, Any]]()
    for name, said in answered.items():
        text = str(said["text"])
        scores = None if prompt.reference is None else {"exact": exact(prompt.reference, text), **rouge.score(prompt.reference, text)}
        answers[name] = {**said, "scores": None if scores is None else _rounded(scores)}
    return {"place": prompt.place, "messages": prompt.messages, "reference": prompt.reference, "answers": answers}


def exact(reference: str, text: str) -> float:
    """Return 1 for an answer that is the reference but for case, blanks and the way its letters are encoded, else 0."""
    first, second = (" ".join(unicodedata.normalize("NFKC", each).casefold().split()) for each in (reference, text))
    return float(first == second)


def _rounded(figures: Mapping[str, float]) -> dict[str, float]:
    return {name: round(value, _DECIMALS) for name, value in figures.items()}


def _figures(side: Side, rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return what is told of one side."""
    said = [row["answers"][side.name] for row in rows]
    scored = [each["scores"] for each in said if each["scores"] is not None]
    seconds, tokens = sum(each["seconds"] for each in said), sum(each["tokens"] for each in said)
    return {
        "tokens": tokens, "cut_by_length": sum(each["finish"] == "length" for each in said),
        "median_seconds": round(statistics.median(each["seconds"] for each in said), 3),
        "median_first_token_seconds": round(statistics.median(each["first"] for each in said), 3),
        "tokens_per_second": round(tokens / seconds, 2) if seconds else None,
        "dollars": None if side.per_hour is None else round(side.per_hour * seconds / 3600, 6), "scored": len(scored),
        "scores": _rounded({key: statistics.fmean(each[key] for each in scored) for key in scored[0]}) if scored else None,
    }  # fmt: skip


def _keep(folder: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """Keep the answers before anybody judges them."""
    write_atomic(folder / ANSWERS, "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), durable=False)


def _judged(
    context: CommandContext, judge: Judge, prompts: Sequence[Prompt], rows: Sequence[dict[str, Any]], sides: Sequence[Side]
) -> dict[str, Any]:
    first, second = (side.name for side in sides)
    context.ui.say(f"judge      {judge.model}: {2 * len(rows)} questions, each pair in both orders")
    pairs = [(prompt, row["answers"][first]["text"], row["answers"][second]["text"]) for prompt, row in zip(prompts, rows, strict=True)]
    verdicts = judged(judge, context.env, pairs)
    for row, (verdict, said) in zip(rows, verdicts, strict=True):
        row["verdict"], row["said"] = verdict, said
    return {**asdict(judge), "of": first, "against": second, **tally([verdict for verdict, _ in verdicts])}


def lines(folder: Path, report: Mapping[str, Any]) -> list[str]:
    """Return what a person reads of a comparison."""
    text = []
    for name, side in report["sides"].items():
        scores = "".join(f", {key} {value:.3f}" for key, value in (side["scores"] or {}).items())
        text.append(f"{name}: {side['tokens_per_second'] or 0:g} tokens/s, median {side['median_seconds']:g} s{_money(side)}{scores}")
    if judge := report["judge"]:
        rates = [f"{name} {one['share']:.0%} ({one['from']:.0%} to {one['to']:.0%})" for name, one in judge["rates"].items() if one]
        said = ", ".join(rates) or "no clear verdict"
        text.append(f"judge      {judge['of']} against {judge['against']}: {said}; of {judge['clear']} clear verdicts")
        text.append(f"           {judge['split']} turned with the order (counted as ties), {judge['unclear']} were no verdict (left out)")
    return [*text, f"report     {folder / PAGE}"]


def _money(side: Mapping[str, Any]) -> str:
    return "" if side["dollars"] is None else f", ${side['dollars']:.4f}"
