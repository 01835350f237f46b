"""Data through the bucket of a real stack: many files, and a killed controller."""

from __future__ import annotations

import hashlib
import os
import signal
import time
from pathlib import Path

from tests.e2e.yard import Yard

SHOW = "find . -type f -print0 | LC_ALL=C sort -z | xargs -0 sha256sum >$OUTPUT_DIR/model/seen"


def folder_of_files(base: Path, number: int) -> tuple[Path, str]:
    """Return a folder and what sha256sum says of its files."""
    top, lines = base / "set", []
    for index in range(number):
        path = top / f"{index % 100:02d}" / f"{index:05d} '$x' é.txt"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(body := os.urandom(100))
        lines.append((f"./{path.relative_to(top)}", hashlib.sha256(body).hexdigest()))
    (top / "big.bin").write_bytes(body := os.urandom(1 << 20) * 40)
    lines.append(("./big.bin", hashlib.sha256(body).hexdigest()))
    return top, "".join(f"{digest}  {name}\n" for name, digest in sorted(lines, key=lambda one: one[0].encode()))


def test_many_files_arrive_though_the_controller_is_killed_while_they_are_on_their_way(yard: Yard) -> None:
    top, listing = folder_of_files(yard.base, 1_000)
    script = yard.base / "show.sh"
    script.write_text(f"#!/bin/sh\nmkdir -p $OUTPUT_DIR/model && cd $INPUT_DIR && {SHOW}\n")
    words = ("train", "--stack", "local", "--recipe", "command", "--set", f"script={script}", "--data", str(top))
    first = yard.start(*words, "--name", "first")
    said = []
    for line in yard.output(first):
        said.append(line)
        if line.startswith("start "):
            break
    time.sleep(1.5)  # the pod is being looked at, or fetches already: from wherever it was the next controller goes on
    os.kill(first.pid, signal.SIGKILL)
    assert any(line.startswith("data ") and " sent to s3://" in line for line in said), said
    yard.invoke("attach", "first").expect()
    assert yard.record("first")["data"]["stored"]
    (model,) = yard.base.glob("o/store/data/*/models/tester/first/1/model/seen")
    assert model.read_text() == listing
