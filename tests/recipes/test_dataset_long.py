"""data.build over much: 200 000 rows, and 1 GB, in a process that may have 300 MB. `invoke recipes.long` runs it."""

from __future__ import annotations

import json
import random
import resource
import subprocess
import time
from collections import Counter
from pathlib import Path

import pytest

from tests.recipes.conftest import ROOT
from tests.recipes.dataset import command, surroundings

MEMORY = 300 << 20


def write(path: Path, rows: int) -> Counter[str]:
    """Write rows of about 700 characters of which some say the same as one before, or nearly; return how many of each there are."""
    draw = random.Random(7)
    words = ["".join(draw.choices("abcdefghijklmnopqrstuvwxyz", k=draw.randint(3, 12))) for _ in range(20_000)]
    kinds: Counter[str] = Counter()
    before: list[str] = []
    with path.open("w") as file:
        for number in range(rows):
            kind = draw.choices(("new", "same", "near"), (90, 5, 5))[0] if len(before) == 1000 else "new"
            text = draw.choice(before) if kind != "new" else " ".join(draw.choices(words, k=80))
            if kind == "new":
                before[:] = [*before[-999:], text] if number % 50 == 0 or len(before) < 1000 else before
            kinds[kind] += 1
            file.write(json.dumps({"text": text + f" and {number}" if kind == "near" else text, "timestamp": 1.6e9 + number}) + "\n")
    return kinds


def limited() -> None:
    """Let this process have no more memory than that."""
    resource.setrlimit(resource.RLIMIT_DATA, (MEMORY, MEMORY))


@pytest.mark.long
@pytest.mark.timeout(3 * 3600)
@pytest.mark.parametrize("rows", [200_000, 1_450_000], ids=["200k", "1GB"])
def test_memory_stays_flat_whatever_the_size_and_every_row_is_accounted_for(tmp_path: Path, rows: int) -> None:
    source = tmp_path / "source.jsonl"
    kinds = write(source, rows)
    words, began = command(str(source), "--to", str(tmp_path / "rows.jsonl")), time.monotonic()
    process = subprocess.Popen(
        words, cwd=ROOT, env=surroundings(tmp_path), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, preexec_fn=limited
    )
    told, _ = process.communicate()
    used, size = resource.getrusage(resource.RUSAGE_CHILDREN), source.stat().st_size / 1e9
    spent, peak = used.ru_utime + used.ru_stime, used.ru_maxrss / 1024
    print(f"\n{rows:,} rows, {size:.2f} GB: {time.monotonic() - began:.0f} s, {spent:.0f} s of a CPU, {peak:.0f} MB at most")
    assert process.returncode == 0, told
    report = json.loads((tmp_path / "rows.report.json").read_text())
    dropped = report["dropped"]
    assert report["rows_read"] == rows == report["rows_kept"] + sum(dropped.values())
    assert set(dropped) == {"duplicate", "nearly a duplicate"} and sum(dropped.values()) == rows - kinds["new"]
