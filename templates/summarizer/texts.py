"""The rows of a run become samples: which are trained, which are held back, and what became of every one."""

from __future__ import annotations

import hashlib
import io
import os
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import articles
import numpy
import rows
import torch
from session import Refused, RowReport, read_json

Sample = tuple[Any, Any]
"""Token ids of a text and of its summary."""
Item = tuple[Any, Any, int]
"""The same with the sample's number."""


class Held(NamedTuple):
    """A row that is held back."""

    place: str
    text: str
    summary: str


class Samples(torch.utils.data.Dataset):
    """Token ids of texts and summaries; 4 bytes a token."""

    def __init__(self) -> None:
        self._items: list[Sample] = []
        self.places: list[str] = []
        self.rows: list[Held] = []
        """What the samples were made of, where a person's words are needed, too."""

    def __len__(self) -> int:
        return len(self._items)

    def __getitem__(self, index: int) -> Item:
        return (*self._items[index], index)

    def add(self, sample: Sample, place: str) -> None:
        """Add the sample of a row."""
        self._items.append(sample)
        self.places.append(place)


class Report(RowReport):
    """What became of every row. ``kinds``: cut, dropped (there are enough without it), cut_summaries, held_back, flawed."""

    def as_json(self) -> dict[str, Any]:
        """Return what data-report.json holds."""
        kinds = {name: self.kinds[name] for name in ("cut", "cut_summaries", "dropped", "held_back", "flawed")}
        return {
            "rows": self.rows, **kinds, "tokens": self.tokens, "learnt_tokens": self.learnt, "forms": {articles.FORM: self.rows},
            "places": self.places, "reasons": self.reasons, "unused_columns": dict(self.unused),
        }  # fmt: skip

    def lines(self, config: dict[str, Any]) -> Iterator[str]:
        """Yield what a person should know."""
        yield f"{self.rows} rows, {self.tokens} tokens of texts, {self.learnt} of summaries"
        said = {
            "held_back": "rows are held back, to judge by",
            "dropped": f"rows are left out, as max_train_samples {config['max_train_samples']} says",
            "cut": f"texts are longer than max_source_length {config['max_source_length']} and cut at their end",
            "cut_summaries": f"summaries are longer than max_target_length {config['max_target_length']} and cut at their end",
            "flawed": "flawed rows are skipped, as on_bad_row says",
        }
        for kind, text in said.items():
            if self.kinds[kind]:
                more = ", ..." if self.kinds[kind] > 3 else ""
                yield f"{self.kinds[kind]} of {self.rows} {text} ({', '.join(self.places[kind][:3])}{more})"
        yield from self.reasons
        if self.unused:
            yield f"columns that are not used: {', '.join(sorted(self.unused))}"


def read(run_dir: str, input_dir: str, config: dict[str, Any], report: Report | None = None) -> Iterator[tuple[str, articles.Article]]:
    """Yield (place, row) of the run's data, in the order of data.json; flawed rows go to the report.

    Raises Refused with file:line where a file cannot be read on.
    """
    data = read_json(run_dir, "data.json")
    ignored = config["ignore_columns"]
    try:
        names = rows.hub_files(input_dir, data["hub"].get("split")) if data["hub"] else [item["dest"] for item in data["files"]]
        for name in names:
            with io.BufferedReader(io.FileIO(os.path.join(input_dir, name)), 1 << 17) as stream:
                for line, row in rows.read_rows(stream, name, lambda fields: articles.understand_article(fields, config, ignored)):
                    if not isinstance(row, rows.RowError):
                        yield f"{name}:{line}", row
                    elif report is not None:
                        report.rows += 1
                        report.note("flawed", f"{name}:{line}", row.message)
    except rows.RowError as error:
        raise Refused(str(error)) from None


def encode(run_dir: str, input_dir: str, config: dict[str, Any], tokenizer: Any) -> tuple[Samples, Samples, Report]:
    """Return the samples that are trained, those held back, and what became of every row. Raises Refused where rows cannot be trained."""
    report, found = Report(), (Samples(), Samples())
    chosen = choose([_drawn(row, config["seed"]) for _, row in read(run_dir, input_dir, config)], config)
    for number, (place, row) in enumerate(read(run_dir, input_dir, config, report)):
        report.rows += 1
        report.unused.update(row.unused)
        if chosen[number] == DROPPED:
            report.note("dropped", place)
            continue
        sample = _sample(row, tokenizer, config, place, report)
        found[chosen[number]].add(sample, place)
        if chosen[number] == HELD:
            found[HELD].rows.append(Held(place, row.text, row.summary))
            report.note("held_back", place)
    _refuse_flawed(report, config)
    for line in report.lines(config):
        print(f"train: {line}", flush=True)
    return (*found, report)


TRAINED, HELD, DROPPED = 0, 1, 2


def choose(draws: Sequence[int], config: dict[str, Any]) -> list[int]:
    """Return of each row whether it is trained, held back or left out. Rows that are equal are drawn together."""
    if not draws:
        return []
    order = sorted(range(len(draws)), key=lambda number: (draws[number], number))
    chosen = [TRAINED] * len(draws)
    wanted = min(max(1, round(config["eval_fraction"] * len(draws))), config["max_eval_samples"]) if config["eval_fraction"] else 0
    at = 0
    while at < len(order) and (at < wanted or (at and wanted and draws[order[at]] == draws[order[at - 1]])):
        chosen[order[at]] = HELD
        at += 1
    if at == len(order):
        raise Refused(f"eval_fraction {config['eval_fraction']:g} holds back every row, for there are {at}: set it to 0, or give more rows")
    if config["max_train_samples"]:
        for number in order[at + config["max_train_samples"] :]:
            chosen[number] = DROPPED
    return chosen


def _drawn(row: articles.Article, seed: int) -> int:
    """Return the row's place in an order that its content and the seed give, whatever file and line it stands in."""
    text = f"{seed}\0{row.text}\0{row.summary}".encode()
    return int.from_bytes(hashlib.blake2b(text, digest_size=8).digest(), "big")


def _sample(row: articles.Article, tokenizer: Any, config: dict[str, Any], place: str, report: Report) -> Sample:
    text = tokenizer((config["source_prefix"] or "") + row.text, truncation=True, max_length=config["max_source_length"] + 1)["input_ids"]
    summary = tokenizer(text_target=row.summary, truncation=True, max_length=config["max_target_length"] + 1)["input_ids"]
    for kind, ids, limit in (("cut", text, config["max_source_length"]), ("cut_summaries", summary, config["max_target_length"])):
        if len(ids) > limit:
            report.note(kind, place)
            del ids[-2 if ids[-1] == tokenizer.eos_token_id else -1]  # what ends it stays
    report.tokens += len(text)
    report.learnt += len(summary)
    return numpy.asarray(text, numpy.int32), numpy.asarray(summary, numpy.int32)


def _refuse_flawed(report: Report, config: dict[str, Any]) -> None:
    flawed = report.kinds["flawed"]
    if flawed and config["on_bad_row"] == "stop":
        more = flawed - len(report.reasons)
        lines = [*report.reasons, *([f"... and {more} more"] if more else []), "To train without them: --set on_bad_row=skip"]
        raise Refused(f"{flawed} of {report.rows} rows cannot be trained:\n" + "\n".join(lines))
    if flawed == report.rows:
        raise Refused("no row is left to learn from: every one is flawed")


def collate(pad_id: int) -> Callable[[list[Item]], dict[str, Any]]:
    """Return the function that makes a batch: padded on the right, labels -100 where nothing is learnt."""

    def batch(items: list[Item]) -> dict[str, Any]:
        texts, labels = (_padded([item[part] for item in items], fill) for part, fill in ((0, pad_id), (1, -100)))
        lengths = torch.tensor([[len(text)] for text, _, _ in items])
        told = {"rows": torch.tensor([number for _, _, number in items]), "tokens": lengths.sum()[None]}
        return {"input_ids": texts, "attention_mask": (torch.arange(texts.shape[1]) < lengths).long(), "labels": labels, **told}

    return batch


def _padded(ids: Sequence[Any], fill: int) -> Any:
    padded = torch.full((len(ids), max(map(len, ids))), fill, dtype=torch.long)
    for number, row in enumerate(ids):
        padded[number, : len(row)] = torch.from_numpy(row.astype(numpy.int64))
    return padded
