"""Put on the pod what a training goes on from, before it is started: a checkpoint where it lay in the output, an adapter beside it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from trainyard.errors import StoreError
from trainyard.remote.protocol import Transport, expect, quote
from trainyard.remote.transfer import put_file
from trainyard.runs.context import CommandContext
from trainyard.runs.planning.datastore import transfer_lines
from trainyard.runs.records.parts import StartedFrom
from trainyard.runs.records.pod import ReachablePod
from trainyard.runs.records.record import RunFolder, RunRecord
from trainyard.runs.records.startedfrom import place_of, started_from
from trainyard.runs.records.stores import store_of
from trainyard.storage import adapters, checkpoints
from trainyard.storage.checkpoints import Checkpoint, StoredFile
from trainyard.storage.client import StoreSettings
from trainyard.storage.markers import claim_of
from trainyard.storage.podfetch import fetch_to_pod
from trainyard.storage.podtargets import target_of

INIT = "init"
"""Folder of the workspace where the adapter lies that a training starts from."""


def job_env(record: RunRecord, pod: ReachablePod) -> dict[str, str]:
    """Return what tells the training where that lies."""
    env = {"TRAINYARD_RESUME": pod.path("output", record.resumed_from.path)} if record.resumed_from else {}
    return env | ({"TRAINYARD_INIT": pod.path(INIT)} if record.init_from else {})


SendFiles = Callable[[str, tuple[StoredFile, ...]], None]
"""Brings files to a folder of the pod's workspace."""


def restore(context: CommandContext, record: RunRecord, folder: RunFolder, pod: ReachablePod, transport: Transport) -> None:
    """Bring checkpoint and adapter; what is there already is not sent again.

    A checkpoint that proves to be damaged is told, and the one before it is taken; ``record.resumed_from`` says which.
    Raises StoreError when none is left, or the store does not answer.
    """
    settings = store_of(context, record.bucket)

    def send(below: str, files: tuple[StoredFile, ...]) -> None:
        _send(context, record, pod.path(below), files, transport, settings)

    def drop(below: str) -> None:
        where = quote(pod.path(below))
        expect(transport.exec(f"rm -rf -- {where}", timeout=60), f"{where} cannot be removed")

    restore_by(context, record, folder, settings, send, drop)


def restore_by(
    context: CommandContext, record: RunRecord, folder: RunFolder, settings: StoreSettings | None, send: SendFiles,
    drop: Callable[[str], None],
) -> None:  # fmt: skip
    """Do the same by another way to the pod; ``drop`` removes what a damaged checkpoint has left there."""
    if record.resumed_from is not None:
        _checkpoint(context, record, folder, settings, send, drop)
    elif record.init_from is not None and settings is not None:
        files = adapters.files_of(settings, record.init_from.prefix, record.init_from.manifest_sha256)
        context.ui.say(f"           the adapter of {record.init_from.run}: {len(files)} files")
        send(INIT, files)


def _checkpoint(
    context: CommandContext, record: RunRecord, folder: RunFolder, settings: StoreSettings | None, send: SendFiles,
    drop: Callable[[str], None],
) -> None:  # fmt: skip
    tried: set[str] = set()
    while True:
        source = record.resumed_from
        assert source is not None
        try:
            checkpoint = checkpoints.load(place_of(source), settings)
            if checkpoint.manifest_sha256 != source.manifest_sha256:
                raise StoreError(f"{checkpoint.place}: it is not the one any more that was chosen")
            context.ui.say(f"           {checkpoint.place}: {len(checkpoint.files)} files")
            send("output", checkpoint.files)
            return
        except StoreError as error:
            # A store that refuses says nothing about the checkpoint: whoever comes next goes on from it.
            if not checkpoints.is_its_fault(error):
                raise
            drop(f"output/{source.path}")  # nothing of it may be taken for a checkpoint
            tried.add(place_of(source).id)
            before = _before(record, source, tried, settings)
            if before is None:
                raise StoreError(f"no checkpoint is left to go on from: {error.message}", hint=error.hint) from None
            context.ui.warn(f"not taken: {error.message}; going on from {before.place}, which is before it")
            record.resumed_from = started_from(before)
            folder.save(record)


def _before(record: RunRecord, source: StartedFrom, tried: set[str], settings: StoreSettings | None) -> Checkpoint | None:
    """Return the newest checkpoint that is proven, of those that are older than the source."""
    if settings is None:
        return None
    places = checkpoints.places(settings, record.user, record.label)
    newest, ids = place_of(source), [place.id for place in places]
    first = ids.index(newest.id) + 1 if newest.id in ids else 0
    for place in places[first:]:
        if place.key.attempt > newest.key.attempt or place.id in tried:
            continue
        try:
            claim = claim_of(settings, place.key)
            return checkpoints.load(place, settings, claim.token if claim else None)
        except StoreError as error:
            if not checkpoints.is_its_fault(error):
                raise
    return None


def _send(
    context: CommandContext,
    record: RunRecord,
    dest: str,
    files: tuple[StoredFile, ...],
    transport: Transport,
    settings: StoreSettings | None,
) -> None:
    here = [file for file in files if file.source.startswith("/")]
    for file in here:
        put_file(transport, Path(file.source), f"{dest}/{file.path}", sha256=file.entry.sha256)
    if settings is not None and not here:
        targets = [target_of(file.entry, file.source, file.path) for file in files]
        volume = record.pod.volume_path if not settings.presign else None
        fetch_to_pod(settings, transport, dest, targets, on_progress=transfer_lines(context.ui), volume=volume)
