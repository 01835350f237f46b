"""Build a data set by recipe dataset: read, clean, find what is said twice, choose, split, count, report.

Reads config.json, data.json and the files under INPUT_DIR; writes under OUTPUT_DIR rows.jsonl and eval.jsonl (what trainings
read), dropped.jsonl (every row that is not among them, with the reason), report.json and report.html. The same sources,
settings and seed give the same bytes. Rows wait in a database on disk (OUTPUT_DIR/tmp): memory stays flat.

Exit codes: 0 done, 75 stopped on request, 2 settings or data are wrong, 1 the build failed.
"""

from __future__ import annotations

import json
import os
import sqlite3
import sys
import time
import traceback
from collections.abc import Iterable
from typing import Any

import choosing
import forms
import likeness
import pairs
import report
import rows
from columns import WrongSetting
from sources import Maker, Refused, read
from spool import Example, Spool
from telemetry import Status, Stop
from tokens import NoTokenizer, TokenCounter

RUN_DIR = os.path.dirname(os.path.abspath(__file__))
INPUT_DIR = os.environ.get("INPUT_DIR") or os.path.join(RUN_DIR, "input")
OUTPUT_DIR = os.environ.get("OUTPUT_DIR") or os.path.join(RUN_DIR, "output")
_BATCH, _BATCH_CHARS, _SECONDS = 256, 1 << 20, 10.0


class Refusal(Exception):
    """Settings or data are wrong: said without a traceback. Exit code 2."""


def main() -> int:
    """Build; return the exit code."""
    os.makedirs(OUTPUT_DIR, exist_ok=True)
    status = Status(OUTPUT_DIR)
    Stop(status, "build")
    try:
        build(status)
        return 0
    except (Refusal, rows.RowError, WrongSetting, NoTokenizer) as error:
        message, code = str(error), 2
        if isinstance(error, rows.RowError) and error.hint:
            message += f"\n{error.hint}"
    except sqlite3.OperationalError as error:
        message, code = f"the rows cannot be kept on disk: {error}", 1
    except Exception as error:  # the traceback goes to the log, the line to status.json
        message, code = f"{type(error).__name__}: {error}", 1
        traceback.print_exc()
    status.write("failed", message[:2000])
    print(f"build: {message}", file=sys.stderr, flush=True)
    return code


def build(status: Status) -> None:
    """The story of a build."""
    with open(os.path.join(RUN_DIR, "config.json"), encoding="utf-8") as file:
        config = json.load(file)
    maker, tally = Maker(config), report.Tally()
    base, began = config["base_model"], time.monotonic()
    counter = TokenCounter(base, config["chat_template"], config["max_seq_length"]) if base else None
    spool = Spool(os.path.join(OUTPUT_DIR, "tmp"))
    status.write("running", "reading the sources")
    with open(_partial("dropped.jsonl"), "w", encoding="utf-8") as dropped:
        progress = Progress()
        take(spool, maker, tally, config, dropped, progress)
        refuse_mixed(spool)
        say(f"{tally.rows:,} rows read, {spool.count:,} left, in {time.monotonic() - began:.0f} s; looking for what is said twice")
        likeness.drop_same(spool)
        likeness.drop_alike(spool, config["likeness"], config["near_duplicates"] == "drop", progress)
        choosing.choose(spool, config)
        sampled = count(spool, counter, config, progress) if counter else False
        if not spool.kept():
            reasons = ", ".join(f"{many:,} {reason}" for reason, many in {**tally.dropped, **spool.reasons()}.items())
            raise Refusal(f"no row is left of {tally.rows:,}: {reasons}")
        groups = choosing.split(spool, config["eval_share"], config["split_by"] == "time")
        for line in spool.dropped():
            _write(dropped, line)
    found = report.gather(spool, tally, maker, counter, config, groups, sampled)
    leave(spool, found, counter)
    spool.close()
    tell(found, time.monotonic() - began)
    status.write("done", "done")


class Progress:
    """Say how far the build is, not more often than a person wants to know."""

    def __init__(self) -> None:
        self._said = time.monotonic()

    def __call__(self, text: str) -> None:
        if time.monotonic() - self._said > _SECONDS:
            self._said = time.monotonic()
            say(text)


def take(spool: Spool, maker: Maker, tally: report.Tally, config: dict[str, Any], dropped: Any, progress: Progress) -> None:
    """Take the examples of all sources into the spool. Raises Refusal where flawed rows are to stop the build."""
    waiting: list[tuple[str, Example, str]] = []
    chars = 0
    for place, found in read(RUN_DIR, INPUT_DIR, maker, config["chunk_chars"]):
        tally.rows += 1
        tally.by_source[place.rpartition(":")[0]] += 1
        if isinstance(found, Refused):
            if found.flawed:
                tally.flaw(place, found.reason)
                _write(dropped, {"place": place, "reason": report.FLAWED, "flaw": found.reason})
            else:
                tally.drop(place, found.reason)
                _write(dropped, {"place": place, "reason": found.reason})
            continue
        waiting.append((place, found, likeness.squashed(found.text)))
        chars += len(found.text)
        if len(waiting) >= _BATCH or chars > _BATCH_CHARS:
            keep(spool, waiting, config["seed"])
            waiting, chars = [], 0
            progress(f"{tally.rows:,} rows read")
    keep(spool, waiting, config["seed"])
    if flawed := tally.dropped[report.FLAWED]:
        flaws = tally.flaws
        more = [f"... and {flawed - len(flaws):,} more, in dropped.jsonl"] if flawed > len(flaws) else []
        if config["on_bad_row"] == "stop":
            lines = "\n".join([*flaws, *more, "To build without them: --set on_bad_row=skip"])
            raise Refusal(f"{flawed:,} of {tally.rows:,} rows cannot be learnt:\n{lines}")
        say(f"{flawed:,} of {tally.rows:,} rows are flawed and dropped:\n" + "\n".join([*flaws, *more]))


def refuse_mixed(spool: Spool) -> None:
    """Raise Refusal where rows of preferences stand beside others: no training reads both."""
    query = "SELECT form = ? AS kind, COUNT(*), MIN(id), place FROM meta GROUP BY kind ORDER BY kind"
    found = list(spool.select(query, pairs.FORM))
    if len(found) > 1:
        (_, others, _, one), (_, many, _, two) = found
        raise Refusal(
            f"{many:,} rows (the first: {two}) say which of two answers is better, {others:,} (the first: {one}) do not, and no training"
            " reads both: build each from files of their own"
        )


def keep(spool: Spool, waiting: list[tuple[str, Example, str]], seed: int) -> None:
    """Put rows into the spool, with what they are compared by."""
    signatures = likeness.signatures([text for _, _, text in waiting], seed)
    for (place, example, text), signature in zip(waiting, signatures, strict=True):
        spool.add(place, example, likeness.digests(text, example.prompt, seed), signature)


def count(spool: Spool, counter: TokenCounter, config: dict[str, Any], progress: Progress) -> bool:
    """Count the tokens of the rows that stay, or of a sample; drop those that the base cannot carry. Return whether it was a sample."""
    most, kept = config["count_rows"], spool.kept()
    last = spool.one("SELECT MAX(second) FROM (SELECT second FROM meta WHERE reason IS NULL ORDER BY second LIMIT ?)", most)
    flaws: list[tuple[int, str]] = []
    query = "SELECT id, form, body FROM meta JOIN bodies USING (id) WHERE reason IS NULL AND second <= ? ORDER BY id"
    for number, form, body in spool.select(query, last):
        progress(f"the tokens of {counter.rows:,} rows are counted")
        try:
            counter.add(form, json.loads(body))
        except forms.RowFlaw as error:
            flaws.append((number, str(error)))
    spool.drop_flawed("the base cannot carry it", flaws)
    return bool(kept > most)


def leave(spool: Spool, found: dict[str, Any], counter: TokenCounter | None) -> None:
    """Write everything, and let it appear as a whole."""
    for name, held in (("rows.jsonl", False), ("eval.jsonl", True)):
        _lines(name, spool.bodies(held))
    with open(_partial("report.json"), "w", encoding="utf-8") as file:
        json.dump(found, file, indent=2, ensure_ascii=False, allow_nan=False)
    with open(_partial("report.html"), "w", encoding="utf-8") as file:
        file.write(report.page(found, counter, report.examples(spool)))
    for name in ("eval.jsonl", "dropped.jsonl", "report.json", "report.html", "rows.jsonl"):
        os.replace(_partial(name), os.path.join(OUTPUT_DIR, name))


def tell(found: dict[str, Any], seconds: float) -> None:
    """Say what a person wants to know first."""
    for reason, many in found["dropped"].items():
        say(f"dropped {many:,}: {reason}")
    tokens, training = found["tokens"], found["training"]
    if tokens:
        sample = " in a sample" if tokens["sampled"] else ""
        say(f"tokens: {tokens['tokens']:,}{sample}; {tokens['share_of_rows_cut']:.1%} of the rows are cut at {tokens['max_seq_length']}")
    say(f"{found['rows_train']:,} rows, {found['rows_eval']:,} held back; {training['epochs']:g} epochs are {training['steps']:,} steps")
    say(f"done in {seconds:.0f} s")


def say(text: str) -> None:
    print(f"build: {text}", flush=True)


def _partial(name: str) -> str:
    return os.path.join(OUTPUT_DIR, "tmp", name)


def _lines(name: str, bodies: Iterable[str]) -> None:
    with open(_partial(name), "w", encoding="utf-8") as file:
        file.writelines(f"{body}\n" for body in bodies)


def _write(file: Any, line: dict[str, Any]) -> None:
    file.write(json.dumps(line, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    sys.exit(main())
