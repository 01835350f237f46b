"""What a run leaves at home: ``out/<user>/<run>/``, after failure and cancel too."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import BinaryIO

from trainyard.errors import TrainyardError
from trainyard.files import sha256_of
from trainyard.remote.protocol import Transport, quote, with_values
from trainyard.runs.context import CommandContext
from trainyard.runs.records.record import RunFolder, RunRecord
from trainyard.shellscript import load
from trainyard.storage.manifest import MANIFEST, decode

REPORTS = ("result.json", "data-report.json")
"""What a training says of itself at its end."""
STATUS = "status.json"
"""What run.sh or the training said last of how it stands; beside the log only."""
HOME_FILES = ("run-summary.json", "train.log", "metrics.jsonl", "checkpoint.json", *REPORTS)
PICTURE = "metrics.png"
"""The curves of a run, where matplotlib is installed."""
COPIES = (*HOME_FILES, "config.json", "scripts", PICTURE)
"""Names at the top of ``out/<user>/<run>/`` that are only copies of ours."""
_LARGEST_REPORT = 1 << 20


def take_reports(transport: Transport, output: str, folder: RunFolder) -> None:
    """Copy the small reports of a training beside its log; one that cannot be had now is in the result all the same."""
    command = with_values(load(__package__, "reports"), output=output, reports=" ".join((*REPORTS, STATUS)), most=_LARGEST_REPORT)
    with contextlib.suppress(TrainyardError, OSError, ValueError):
        listing = transport.exec(command, timeout=30).stdout
        while listing:
            head, _, listing = listing.partition(b"\n")
            name, size = head.decode().split(" ")
            if name not in (*REPORTS, STATUS) or len(listing) < int(size):
                return
            (folder.path / name).write_bytes(listing[: int(size)])
            listing = listing[int(size) :]


def mend_copies(transport: Transport, copies: Mapping[str, Path]) -> list[str]:
    """Fetch anew each file of a pod whose copy here is another one (something else has written to it); return their names.

    What cannot be asked or fetched now stays as it is.
    """
    mended = []
    for path, here in copies.items():
        new = here.with_name(f".{here.name}.new")
        with contextlib.suppress(TrainyardError, OSError):
            digest = transport.exec(f"[ ! -f {quote(path)} ] || sha256sum <{quote(path)}", timeout=600).stdout[:64].decode()
            if not digest or digest == sha256_of(here):
                continue
            with new.open("wb") as file:
                done = transport.exec(f"cat {quote(path)}", on_stdout=partial(_put, file))
            if done.rc == 0:
                new.replace(here)
                mended.append(here.name)
        with contextlib.suppress(OSError):
            new.unlink(missing_ok=True)
    return mended


def _put(file: BinaryIO, data: bytes) -> None:
    file.write(data)


def bring_home(context: CommandContext, record: RunRecord, folder: RunFolder) -> Path:
    """Copy what a person looks at into ``out/<user>/<run>/``, after failure and cancel too; never over a file of the result."""
    home = record.id.home(context.places.root / "out")
    home.mkdir(parents=True, exist_ok=True)
    taken = _of_result(home)
    sources = [(folder.path / name, name) for name in HOME_FILES] + [(folder.bundle / "config.json", "config.json")]
    for source, name in sources:
        if source.is_file() and name not in taken:
            shutil.copy2(source, home / name)
    if folder.bundle.is_dir() and "scripts" not in taken:
        shutil.copytree(folder.bundle, home / "scripts", dirs_exist_ok=True)
    return home


def _of_result(home: Path) -> set[str]:
    """Return the names at the top of a result that came home over SSH."""
    path = home / MANIFEST
    if not path.is_file():
        return set()
    return {entry.path.partition("/")[0] for entry in decode(path.read_bytes(), str(path)).files}
