"""The rows of a run become samples, and a report of every row that is cut, dropped, skipped or not learnt."""

from __future__ import annotations

import io
import json
import os
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import forms
import heldout
import numpy
import preferences
import rows
import torch
from chat import Encoder, Sample
from ranks import NOTHING
from session import RowReport

Item = tuple[Any, Any, int]
"""A sample's token ids, where its loss counts, and its number."""


class BadRows(Exception):
    """Rows cannot be trained, and on_bad_row says to stop."""


class Report(RowReport):
    """What became of every row. ``kinds``: cut, dropped (nothing is left of the answer), not_learnt (weight 0), flawed."""

    def __init__(self) -> None:
        super().__init__()
        self.samples = 0
        self.forms: Counter[str] = Counter()

    def as_json(self) -> dict[str, Any]:
        """Return what data-report.json holds."""
        kinds = {name: self.kinds[name] for name in ("cut", "dropped", "not_learnt", "flawed")}
        return {
            "rows": self.rows, **kinds, "samples": self.samples, "tokens": self.tokens, "learnt_tokens": self.learnt,
            "forms": dict(self.forms), "places": self.places, "reasons": self.reasons, "unused_columns": dict(self.unused),
        }  # fmt: skip

    def lines(self, limit: int) -> Iterator[str]:
        """Yield what a person should know."""
        yield f"{self.rows} rows {dict(self.forms)} give {self.samples} samples, {self.tokens} tokens, {self.learnt} learnt"
        said = {
            "cut": f"rows are longer than max_seq_length {limit} and cut: the end of their answer is not learnt",
            "dropped": f"rows are dropped: max_seq_length {limit} leaves nothing of their answer",
            "not_learnt": "rows are not learnt, as their weight 0 says",
            "flawed": "flawed rows are skipped, as on_bad_row says",
        }
        for kind, text in said.items():
            if self.kinds[kind]:
                more = ", ..." if self.kinds[kind] > 3 else ""
                yield f"{self.kinds[kind]} of {self.rows} {text} ({', '.join(self.places[kind][:3])}{more})"
        yield from self.reasons
        if self.unused:
            yield f"columns that are not used: {', '.join(sorted(self.unused))}"


class Samples(torch.utils.data.Dataset):
    """Token ids of all samples, and where the loss counts; 5 bytes a token."""

    def __init__(self, report: Report) -> None:
        self._items: list[tuple[Any, Any]] = []
        self.places: list[str] = []
        self.report = report

    def __len__(self) -> int:
        return len(self._items)

    def __getitem__(self, index: int) -> Item:
        if index == NOTHING:
            return self._items[0][0][:1], numpy.zeros(1, bool), NOTHING
        return (*self._items[index], index)

    def split(self, fraction: float, seed: int) -> tuple[Samples, Samples]:
        """Return the samples that are trained, and those of the rows that are held back."""
        rows: dict[str, list[int]] = {}
        for number, place in enumerate(self.places):
            rows.setdefault(place, []).append(number)
        held = heldout.chosen(rows, [ids.tobytes() + mask.tobytes() for ids, mask in self._items], fraction, seed)
        if len(held) == len(self):
            raise BadRows(f"eval_fraction {fraction:g} holds back every row, for there are {len(rows)}: set it to 0, or give more rows")
        return self._part(lambda number: number not in held), self._part(lambda number: number in held)

    def _part(self, wanted: Callable[[int], bool]) -> Samples:
        part = Samples(self.report)
        numbers = [number for number in range(len(self)) if wanted(number)]
        part._items, part.places = [self._items[number] for number in numbers], [self.places[number] for number in numbers]
        return part

    def add(self, found: Sequence[Sample], limit: int, place: str, form: str, pair: bool = False) -> None:
        """Keep the samples of a row, cut to the limit; a row of which nothing is left to learn is counted and dropped.

        Of a ``pair`` both are kept, or none.
        """
        kept = [(numpy.asarray(ids[:limit], numpy.int32), numpy.asarray(mask[:limit], bool)) for ids, mask in found]
        kept = [(ids, mask) for ids, mask in kept if mask[1:].any()]
        if not kept or (pair and len(kept) < len(found)):
            self.report.note("dropped" if found else "not_learnt", place)
            return
        if any(len(ids) > limit for ids, _ in found):
            self.report.note("cut", place)
        self.report.forms[form] += 1
        self.report.samples += len(kept)
        self.report.tokens += sum(len(ids) for ids, _ in kept)
        self.report.learnt += sum(int(mask.sum()) for _, mask in kept)
        self._items += kept
        self.places += [place] * len(kept)


def read(
    run_dir: str, input_dir: str, config: dict[str, Any], report: Report | None = None, held: bool = False
) -> Iterator[tuple[str, forms.Row | preferences.Pair]]:
    """Yield (place, row) of the run's data, in the order of data.json, or of its eval_file; flawed rows go to the report.

    Raises rows.RowError with file:line where a file cannot be read on.
    """

    def one(fields: Any) -> forms.Row:
        return forms.understand(fields, config["ignore_columns"])

    judge = (lambda fields: preferences.understand_pair(fields, one)) if config["method"] == "dpo" else one
    for folder, name in [(run_dir, config["eval_file"])] if held else files(run_dir, input_dir):
        with io.BufferedReader(io.FileIO(os.path.join(folder, name)), 1 << 17) as stream:
            for line, row in rows.read_rows(stream, name, judge):
                if not isinstance(row, rows.RowError):
                    yield f"{name}:{line}", row
                elif report is not None:
                    report.rows += 1
                    report.note("flawed", f"{name}:{line}", row.message)


def files(run_dir: str, input_dir: str) -> list[tuple[str, str]]:
    """Return (folder, name) of each file of the run's data."""
    with open(os.path.join(run_dir, "data.json"), encoding="utf-8") as file:
        data = json.load(file)
    names = rows.hub_files(input_dir, data["hub"].get("split")) if data["hub"] else [item["dest"] for item in data["files"]]
    if data["hub"]:
        print(f"train: data {', '.join(names) or 'none'}", flush=True)
    return [(input_dir, name) for name in names]


def encode(run_dir: str, input_dir: str, config: dict[str, Any], encoder: Encoder, held: bool = False) -> Samples:
    """Return the Samples of all rows, or of those of its eval_file; says what became of them. Raises BadRows where on_bad_row says stop."""
    report = Report()
    samples, limit = Samples(report), config["max_seq_length"]
    for place, row in read(run_dir, input_dir, config, report, held):
        report.rows += 1
        report.unused.update(row.unused)
        try:
            if isinstance(row, preferences.Pair):
                samples.add(encoder.pair(row.chosen, row.rejected), limit, place, row.form, pair=True)
            else:
                samples.add(encoder.samples(row), limit, place, row.form)
        except forms.RowFlaw as error:
            report.note("flawed", place, str(error))
    if report.kinds["flawed"] and config["on_bad_row"] == "stop":
        more = report.kinds["flawed"] - len(report.reasons)
        lines = [*report.reasons, *([f"... and {more} more"] if more else []), "To train without them: --set on_bad_row=skip"]
        raise BadRows(f"{report.kinds['flawed']} of {report.rows} rows cannot be trained:\n" + "\n".join(lines))
    for line in report.lines(limit):
        print(f"train: {line}", flush=True)
    if not len(samples):
        raise BadRows("no row is left to learn from: every one is flawed, of weight 0, or max_seq_length cuts off its answer")
    return samples


def collate(pad_id: int) -> Callable[[Sequence[Item]], dict[str, Any]]:
    """Return the function that makes a batch: padded on the right, labels -100 where nothing is learnt."""

    def batch(items: Sequence[Item]) -> dict[str, Any]:
        width = max(len(ids) for ids, _, _ in items)
        ids = torch.full((len(items), width), pad_id, dtype=torch.long)
        seen = torch.zeros((len(items), width), dtype=torch.long)
        labels = torch.full((len(items), width), -100, dtype=torch.long)
        for number, (row, mask, _) in enumerate(items):
            values = torch.from_numpy(row.astype(numpy.int64))
            ids[number, : len(row)] = values
            seen[number, : len(row)] = 1
            labels[number, : len(row)][torch.from_numpy(mask)] = values[torch.from_numpy(mask)]
        tokens = sum(len(ids) for ids, _, number in items if number != NOTHING)
        told = {"rows": torch.tensor([number for _, _, number in items]), "tokens": torch.tensor([tokens])}
        return {"input_ids": ids, "attention_mask": seen, "labels": labels, **told}

    return batch
