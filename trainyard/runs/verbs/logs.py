"""The log of a run's training, from here or from its pod."""

from __future__ import annotations

import time
from typing import BinaryIO

from trainyard.runs.context import CommandContext
from trainyard.runs.records.record import RunFolder, RunRecord, is_driven

_POLL = 0.3


def print_log(context: CommandContext, reference: str, *, follow: bool, out: BinaryIO) -> int:
    """Copy a run's log to a stream, byte for byte; with ``follow`` until the training has ended.

    While a controller drives the run its copy is read; with none (detached, killed) the pod itself is asked.
    """
    folder = context.folder(reference)
    record = folder.load()
    if record.reached("started") and not record.reached("trained") and record.error is None and not is_driven(folder):
        return _from_pod(context, record, folder, follow, out)
    offset = _copy(folder, 0, out)
    while follow and not record.reached("trained") and record.error is None:
        time.sleep(_POLL)
        offset = _copy(folder, offset, out)
        record = folder.load()
    _copy(folder, offset, out)
    return 0


def _from_pod(context: CommandContext, record: RunRecord, folder: RunFolder, follow: bool, out: BinaryIO) -> int:
    from trainyard.runs.life.joblink import JobReader, link_of

    def write(data: bytes) -> None:
        out.write(data)
        out.flush()

    with link_of(context, record, folder).session() as session:
        if follow:
            session.follow({"log": JobReader(write)})
        else:
            session.copy("log", write)
    return 0


def _copy(folder: RunFolder, offset: int, out: BinaryIO) -> int:
    if not folder.log.is_file():
        return offset
    with folder.log.open("rb") as log:
        log.seek(offset)
        while piece := log.read(1 << 20):
            out.write(piece)
            offset += len(piece)
    out.flush()
    return offset
