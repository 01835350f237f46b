"""A command in the tests' own process: each start of Python with all that a verb loads takes half a second."""

from __future__ import annotations

import io
import os
import signal
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from unittest.mock import patch

import pytest

from trainyard.cli import commandline
from trainyard.phrasing import typed


class Here:
    """Runs command lines to their end, and says how they ended and what they printed."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> None:
        self._monkeypatch, self._capfd = monkeypatch, capfd

    def run(self, cwd: Path, *words: str, name: str = "invoke", env: Mapping[str, str] | None = None) -> tuple[int, str, str]:
        """Return exit code, stdout and stderr of ``name words...`` in a folder, with this environment (None: the tests' own)."""
        with self._monkeypatch.context() as patched, patch.dict(os.environ, env or {}, clear=env is not None):
            patched.chdir(cwd)
            patched.setattr(sys, "argv", [name, *words])  # what stands behind `--` is read there
            patched.setattr(sys, "stdin", io.StringIO())
            patched.setattr(sys, "path", list(sys.path))  # Invoke puts in front where it has found tasks.py
            patched.setattr(commandline, "_lingers", lambda: False)  # other tests' threads do not end this process
            with pytest.raises(SystemExit) as left:
                commandline.main(words, name=name)
        out = self._capfd.readouterr()
        assert isinstance(left.value.code, int)
        return left.value.code, out.out, out.err


@pytest.fixture
def here(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Iterator[Here]:
    """What runs commands in this process; signals and words are afterwards as they were."""
    kept = signal.getsignal(signal.SIGINT)
    yield Here(monkeypatch, capfd)
    typed("invoke")
    signal.signal(signal.SIGINT, kept)
