"""The process of one operation (``python -m trainyard.web.operation ID``): a verb, what it printed, and how it ended, in the ledger."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from typing import IO

from trainyard.config import find_root
from trainyard.ledger.operations import OperationRows
from trainyard.processes import start_mark
from trainyard.runs.context import open_context
from trainyard.runs.ui import Ui
from trainyard.secret import hide

_OUTPUT, _SAID = 1 << 20, 1 << 14
"""Bytes of what it prints that are kept: of its output the whole or none, of what it says the end."""


def main(operation_id: str) -> int:
    """Do what the ledger says under this id, once; its exit code is the verb's."""
    rows = OperationRows(open_context(find_root(), Ui(json=True), os.environ).ledger().database)
    operation = rows.get(operation_id)
    if operation is None or operation.process is not None:
        return 2
    rows.change(operation_id, process=f"{os.getpid()} {start_mark(os.getpid())}")
    with tempfile.TemporaryFile() as output, tempfile.TemporaryFile() as said:
        words = [sys.executable, "-m", "trainyard", *operation.words]
        code = subprocess.run(words, stdin=subprocess.DEVNULL, stdout=output, stderr=said, check=False).returncode
        state = "done" if code == 0 else "failed"
        rows.change(operation_id, state=state, ended=time.time(), exit_code=code, output=_whole(output), said=_end(said))
    return code


def _whole(file: IO[bytes]) -> str | None:
    size = file.seek(0, os.SEEK_END)
    file.seek(0)
    return hide(file.read().decode(errors="replace")) if size <= _OUTPUT else None


def _end(file: IO[bytes]) -> str:
    file.seek(max(0, file.seek(0, os.SEEK_END) - _SAID))
    return hide(file.read().decode(errors="replace"))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
