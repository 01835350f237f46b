"""What a stop reaches: engine and plugins end with the verb that started them, however early it comes."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from tests.e2e.yard import Yard


def at_work(yard: Yard, word: str) -> list[str]:
    """Return the command lines of the processes of a yard that have a word in them."""
    lines = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and int(entry.name) != os.getpid():
            try:
                ours = str(yard.base).encode() in (entry / "environ").read_bytes()
                line = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
            except OSError:
                continue
            lines += [line] if ours and word in line else []
    return lines


@pytest.mark.parametrize("moment", ["the engine has just been started", "it plans its many pods"])
def test_a_preview_that_a_script_ends_leaves_no_engine_and_no_plugin(yard: Yard, moment: str) -> None:
    settings = "config:\n  trainyard:cloud: local\n  trainyard:bucket: none\n  trainyard:pods: 100\n  trainyard:hours: 1\n"
    (yard.root / "Pulumi.local.yaml").write_text(settings)
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)  # as behind a script's `&`
    try:
        verb = yard.start("preview", "--stack", "local")
    finally:
        signal.signal(signal.SIGINT, before)
    if moment == "it plans its many pods":
        assert any("pod-" in line for line in yard.output(verb))
    yard.wait_for(lambda: at_work(yard, "trainyard.engine"))

    verb.send_signal(signal.SIGTERM)

    said = yard.output(verb).read()
    assert verb.wait() == 130 and said.rstrip().endswith("interrupted"), said
    assert "preview of stack" not in said, "it was carried on to its end"
    yard.wait_for(lambda: not at_work(yard, "trainyard."), 10)
