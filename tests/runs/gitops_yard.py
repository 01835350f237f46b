"""A real git repository around a played road: files of runs/ are committed, and syncs are real."""

from __future__ import annotations

import shutil
import subprocess
import time
from pathlib import Path

import pytest

from tests.runs.road import STACK, Road
from trainyard.stacks.model import Operation, Stack

WAITS = "while [ ! -e $HOME/go ]; do sleep 0.02; done; mkdir -p $OUTPUT_DIR/model; echo m >$OUTPUT_DIR/model/m.txt"


class GitRoad(Road):
    """A road whose checkout is a git repository."""

    def __init__(self, base: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        super().__init__(base, monkeypatch)
        self.engine.trouble = self._emptied

    def _emptied(self, stack: Stack, operation: Operation) -> None:
        """Let nothing of a pod outlive it: the next one is another machine."""
        if operation == "destroy" and "." in stack.name:
            self.lose_pod()
            shutil.rmtree(self.workspace)
            self.armed()

    @property
    def root(self) -> Path:
        """The checkout."""
        return self.settings.parent

    def git(self, *words: str, at: Path | None = None) -> str:
        """Run git as a person with a name."""
        who = (
            "-c",
            "user.name=Ann",
            "-c",
            "user.email=ann@example.org",
            "-c",
            "init.defaultBranch=main",
            "-c",
            "protocol.file.allow=always",
        )
        done = subprocess.run(["git", *who, *words], cwd=at or self.root, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    def begin(self) -> None:
        """Make the repository."""
        self.git("init", "-q")
        (self.root / ".gitignore").write_text(".trainyard/\nout/\n.env\n")
        (self.root / "train.sh").write_text(f"#!/bin/sh\n{WAITS}\n")
        self.commit("begin")

    def commit(self, subject: str = "a change") -> str:
        """Commit all there is; return the commit's first twelve digits."""
        self.git("add", "-A")
        self.git("commit", "-q", "--allow-empty", "-m", subject)
        return self.git("rev-parse", "HEAD")[:12]

    def let_train(self) -> None:
        """Let the training on the pod come to its end, and wait for that."""
        (self.workspace / "go").touch()
        deadline = time.monotonic() + 60
        while not (self.workspace / "job" / "exit").exists():
            assert time.monotonic() < deadline, "the training does not end"
            time.sleep(0.05)

    def write(self, name: str, *more: str) -> Path:
        """Write a run file that trains train.sh."""
        path = self.root / "runs" / name
        path.parent.mkdir(exist_ok=True)
        path.write_text("\n".join([f"stack: {STACK}", "recipe: command", "values: {script: train.sh}", *more, ""]))
        return path
