"""What became of every row: report.json for programs, report.html for a person, dropped.jsonl row by row."""

from __future__ import annotations

import html
import json
import math
from collections import Counter
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Any

import plots
from choosing import tags as tags_of
from spool import Spool
from tokens import QUANTILES, TokenCounter

FLAWED = "flawed"
_TAGS, _SOURCES, _BINS, _EXAMPLES, _SHOWN, _PLACES = 30, 200, 36, 3, 600, 20
_HEAD = "<!doctype html><html lang=en><meta charset=utf-8><meta name=viewport content='width=device-width'><title>Data set</title>"
_STYLE = """
:root{color-scheme:light dark}body{font:15px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem}
table{border-collapse:collapse;margin:.5rem 0}
td,th{border-bottom:1px solid #8884;padding:.2rem .8rem .2rem 0;text-align:left;vertical-align:top}
td.n{text-align:right}svg{width:100%;height:auto;font:12px system-ui,sans-serif}svg text{fill:currentColor}svg rect{fill:#3b82f6}
svg line{stroke:#ef4444}pre{white-space:pre-wrap;background:#8881;padding:.6rem}h2{margin-top:2rem}.note{opacity:.75}
"""


class Tally:
    """What is counted while the sources are read; the first places of each reason are kept."""

    def __init__(self) -> None:
        self.rows = 0
        self.dropped: Counter[str] = Counter()
        self.places: dict[str, list[str]] = {}
        self.by_source: Counter[str] = Counter()
        self.flaws: list[str] = []

    def flaw(self, place: str, said: str) -> None:
        """Count a row that is dropped because it cannot be read or learnt."""
        self.drop(place, FLAWED)
        if len(self.flaws) < _PLACES:
            self.flaws.append(f"{place}: {said}")

    def drop(self, place: str, reason: str) -> None:
        """Count a row that is dropped."""
        self.dropped[reason] += 1
        places = self.places.setdefault(reason, [])
        if len(places) < _PLACES:
            places.append(place)


def gather(
    spool: Spool, tally: Tally, maker: Any, counter: TokenCounter | None, config: Mapping[str, Any], groups: int, sampled: bool
) -> dict[str, Any]:
    """Return report.json."""
    for line in spool.dropped():
        tally.drop(line["place"], line["reason"])
    held = spool.one("SELECT COUNT(*) FROM meta WHERE reason IS NULL AND held = 1")
    train = spool.kept() - held
    sources = dict(tally.by_source.most_common(_SOURCES))
    return {
        "rows_read": tally.rows, "rows_kept": train + held, "rows_train": train, "rows_eval": held, "groups": groups,
        "dropped": dict(tally.dropped.most_common()), "places": tally.places, "flaws": tally.flaws,
        "sources": sources, "sources_left_out_here": len(tally.by_source) - len(sources),
        "forms": dict(spool.select("SELECT form, COUNT(*) FROM meta WHERE reason IS NULL GROUP BY form ORDER BY form")),
        "cleaned": dict(maker.cleaner.counts), "unused_columns": dict(maker.unused), "times": _times(spool, maker.odd_times),
        "tags": dict(tags_of(spool).most_common(_TAGS)), "chars": _chars(spool),
        "tokens": {**counter.report(), "sampled": sampled} if counter else None,
        "training": _training(config, train, counter), "settings": dict(config),
    }  # fmt: skip


def _times(spool: Spool, odd: int) -> dict[str, Any]:
    first, last, known = next(iter(spool.select("SELECT MIN(at), MAX(at), COUNT(at) FROM meta WHERE reason IS NULL")))
    found: dict[str, Any] = {"rows_with_time": known, "times_not_understood": odd, "first": _day(first), "last": _day(last), "bins": []}
    if known and last > first:
        wide = (last - first) / _BINS
        query = "SELECT CAST((at - ?) / ? AS INTEGER) AS bin, COUNT(*) FROM meta WHERE reason IS NULL AND at IS NOT NULL GROUP BY bin"
        counts = Counter({min(_BINS - 1, place): 0 for place in range(_BINS)})
        for place, many in spool.select(query, first, wide):
            counts[min(_BINS - 1, place)] += many
        found["bins"] = [[_day(first + place * wide), counts[place]] for place in range(_BINS)]
    return found


def _day(at: float | None) -> str | None:
    return None if at is None else datetime.fromtimestamp(at, UTC).date().isoformat()


def _chars(spool: Spool) -> dict[str, Any]:
    """Return how long the rows are, in characters: quantiles, and counts in bins that double every two."""
    count = spool.kept()
    if not count:
        return {}
    query = "SELECT size FROM meta WHERE reason IS NULL ORDER BY size LIMIT 1 OFFSET ?"
    found = {f"{share:.0%}": spool.one(query, max(0, math.ceil(share * count) - 1)) for share in QUANTILES}
    bins: Counter[int] = Counter()
    for size, many in spool.select("SELECT size, COUNT(*) FROM meta WHERE reason IS NULL GROUP BY size"):
        bins[round(2 * math.log2(max(1, size)))] += many
    found["bins"] = [[str(round(2 ** (place / 2))), bins[place]] for place in range(min(bins), max(bins) + 1)]
    return found


def _training(config: Mapping[str, Any], train: int, counter: TokenCounter | None) -> dict[str, Any]:
    """Return the steps of the training that comes, as recipe lora counts them."""
    size, pieces, epochs = (config[name] for name in ("per_device_train_batch_size", "gradient_accumulation_steps", "num_train_epochs"))
    an_epoch = math.ceil(math.ceil(train / size) / pieces)
    found = {"steps": math.ceil(epochs * an_epoch), "steps_an_epoch": an_epoch, "rows_a_step": size * pieces, "epochs": epochs}
    if counter and counter.rows:
        found["tokens_an_epoch"] = round(counter.kept / counter.rows * train)
    return found


def page(report: Mapping[str, Any], counter: TokenCounter | None, examples: Iterable[str]) -> str:
    """Return report.html: one file, nothing is loaded."""
    reasons = list(report["dropped"].items())
    places = "".join(
        f"<tr><td class=n>{count:,}</td><td>{_text(reason)}</td><td>{_text(', '.join(report['places'].get(reason, [])[:5]))}"
        f"{' …' if count > 5 else ''}</td></tr>"
        for reason, count in reasons
    )
    parts = [
        f"<h1>Data set: {report['rows_train']:,} rows, {report['rows_eval']:,} held back</h1>",
        f"<p>{report['rows_read']:,} rows were read, {sum(report['dropped'].values()):,} dropped. {_steps(report['training'])}</p>",
        "<h2>Dropped</h2>", plots.bars(reasons) if reasons else "<p>No row was dropped.</p>",
        f"<table><tr><th>rows<th>reason<th>the first of them</tr>{places}</table>" if reasons else "",
        f"<pre>{_text(chr(10).join(report['flaws']))}</pre>" if report["flaws"] else "",
        "<p class=note>Every one of them stands in dropped.jsonl.</p>" if reasons else "",
        "<h2>Tokens</h2>", _tokens(report["tokens"], counter),
        "<h2>Length in characters</h2>", _bins(report["chars"]),
        "<h2>Time</h2>", _bins(report["times"]),
        "<h2>Tags</h2>", plots.bars(list(report["tags"].items())) if report["tags"] else "<p>No row has a tag.</p>",
        "<h2>Forms and sources</h2>", _table(report["forms"]), _table(report["sources"]),
        "<h2>Cleaned</h2>", _table(report["cleaned"]) or "<p>Nothing.</p>",
        "<h2>Columns that are not used</h2>" if report["unused_columns"] else "", _table(report["unused_columns"]),
        "<h2>Some rows</h2>", *(f"<pre>{_text(body[:_SHOWN])}{'…' if len(body) > _SHOWN else ''}</pre>" for body in examples),
        "<h2>Settings</h2>", _table({name: json.dumps(value, ensure_ascii=False) for name, value in report["settings"].items()}),
    ]  # fmt: skip
    return f"{_HEAD}<style>{_STYLE}</style><body>{''.join(parts)}</body></html>\n"


def _steps(training: Mapping[str, Any]) -> str:
    return f"A training over {training['epochs']:g} epochs takes {training['steps']:,} steps of {training['rows_a_step']} rows."


def _tokens(found: Mapping[str, Any] | None, counter: TokenCounter | None) -> str:
    if found is None or counter is None or not counter.lengths:
        return "<p>Not counted: name a base_model, a folder with tokenizer.json or a model of the Hub.</p>"
    most, limit = max(counter.lengths), found["max_seq_length"]
    wide = max(1, math.ceil((most + 1) / _BINS))
    counts = Counter(size // wide for size in counter.lengths)
    bins = [(str(place * wide), counts[place]) for place in range(math.ceil((most + 1) / wide))]
    lengths = {f"tokens, {share}": size for share, size in found["lengths"].items()}
    return plots.columns(bins, limit / wide, f"cut at {limit}") + _table(
        _worded({n: v for n, v in found.items() if n != "lengths"} | lengths)
    )


def _bins(known: Mapping[str, Any]) -> str:
    drawn = plots.columns([(name, count) for name, count in known["bins"]]) if known.get("bins") else ""
    return drawn + _table(_worded({name: value for name, value in known.items() if name != "bins"}))


def _table(known: Mapping[str, Any]) -> str:
    rows = "".join(f"<tr><td>{_text(name)}</td><td class=n>{_text(value)}</td></tr>" for name, value in known.items())
    return f"<table>{rows}</table>" if rows else ""


def _worded(known: Mapping[str, Any]) -> dict[str, Any]:
    """Return what is known under names for a person: no underscores, shares as per cent."""
    shares = {name: f"{value:.1%}" for name, value in known.items() if name.startswith("share_")}
    return {name.replace("_", " "): value for name, value in {**known, **shares}.items()}


def _text(value: Any) -> str:
    if isinstance(value, bool) or value is None:
        return "unknown" if value is None else "yes" if value else "no"
    return html.escape(f"{value:,}" if isinstance(value, int) else str(value))


def examples(spool: Spool) -> list[str]:
    """Return some rows that are kept, drawn by the seed."""
    query = "SELECT body FROM meta JOIN bodies USING (id) WHERE reason IS NULL ORDER BY second LIMIT ?"
    return [body for (body,) in spool.select(query, _EXAMPLES)]
