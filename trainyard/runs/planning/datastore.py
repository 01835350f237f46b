"""A person's files on their way into the bucket: once, before anything is rented."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from urllib.parse import urlsplit

from trainyard.clouds.protocol import Cloud
from trainyard.errors import UserError
from trainyard.files import sha256_of
from trainyard.network import LOOPBACK
from trainyard.recipes.code import Code
from trainyard.recipes.summaries import DataFile
from trainyard.runs.context import CommandContext
from trainyard.runs.planning.route import expire_days
from trainyard.runs.records.parts import RunBucket
from trainyard.runs.records.stores import store_of
from trainyard.runs.ui import Listener
from trainyard.settings.table import StackSettings
from trainyard.sizes import human_size
from trainyard.storage import datasend
from trainyard.storage.canary import probed
from trainyard.storage.client import StoreSettings
from trainyard.storage.dataset import LocalSource, lay_out
from trainyard.storage.deliver import OnProgress, Progress
from trainyard.storage.manifest import DATA

_LINE_EVERY = 10.0


def store_for(context: CommandContext, bucket: RunBucket | None, settings: StackSettings, cloud: Cloud) -> StoreSettings | None:
    """Return the store that files may pass through on their way to a cloud's pods, None where they go over SSH.

    A pod must be able to read from it; and from a stack whose pods are on this machine nothing leaves it.
    """
    store = store_of(context, bucket)
    store = store and probed(store)
    if store is None or not (store.presign or settings.volume == store.bucket):
        return None
    here = store.kind == "local" or (urlsplit(store.endpoint or "").hostname or "") in LOOPBACK
    return None if (cloud.name == "local" or cloud.simulated) and not here else store


def of_data(files: Sequence[DataFile]) -> list[LocalSource]:
    """Return a run's data as they lie on this machine."""
    return [LocalSource(file.dest, Path(file.src), file.bytes, file.sha256 or "") for file in files]


def of_code(code: Code) -> list[LocalSource]:
    """Return a person's code as it lies on this machine."""
    return [LocalSource(file.name, file.source, file.size, file.sha256, file.executable) for file in code.files]


def of_folder(folder: Path) -> list[LocalSource]:
    """Return the files of a folder, hashed; raises UserError for one that cannot be read."""
    try:
        files = [path for path in folder.rglob("*") if path.is_file()]
        return [LocalSource(p.relative_to(folder).as_posix(), p, p.stat().st_size, sha256_of(p), os.access(p, os.X_OK)) for p in files]
    except OSError as error:
        raise UserError(f"{folder}: cannot be read: {error.strerror or error}") from None


def bring(context: CommandContext, store: StoreSettings, what: str, files: Sequence[LocalSource], settings: StackSettings) -> str:
    """Bring files into the bucket and say what travelled; return the sha256 of their index, by which a pod finds them.

    Raises StoreError when the store fails, UserError when a file has changed since it was looked at.
    """
    laid_out = lay_out(files, md5=store.checksums in ("none", "probe"))
    began = time.monotonic()
    done = datasend.send(store, laid_out, time.time(), keep_days=expire_days(settings), on_progress=transfer_lines(context.ui))
    there = f"{store.url}/{DATA}"
    if done.sent == 0:
        context.ui.say(f"{what:<10} all {human_size(done.size)} are in {there} already: nothing was sent")
    else:
        rest = f", the rest of {human_size(done.size)} was there" if done.sent < done.size else ""
        context.ui.say(f"{what:<10} {human_size(done.sent)} sent to {there} in {time.monotonic() - began:.1f} s{rest}")
    return laid_out.dataset.sha256


def bring_quietly(store: StoreSettings, files: Sequence[LocalSource]) -> str:
    """Bring little data into the bucket and return the sha256 of their index; raises as bring() does."""
    laid_out = lay_out(files, md5=store.checksums in ("none", "probe"))
    datasend.send(store, laid_out, time.time())
    return laid_out.dataset.sha256


def keep(context: CommandContext, bucket: RunBucket, digest: str, settings: StackSettings) -> None:
    """See to it that data which an earlier run has brought are there, and stay; raises StoreError when they are not."""
    store = store_of(context, bucket)
    if store is None:
        raise UserError(f"the data are in bucket {bucket.bucket}, and no keys of its store are set", hint="Put them into .env.")
    dataset = datasend.keep(store, digest, time.time(), expire_days(settings))
    context.ui.say(f"data       {human_size(dataset.size)} are in {store.url}/{DATA} already: nothing was sent")


def send_again(context: CommandContext, store: StoreSettings, files: Sequence[LocalSource]) -> None:
    """Bring files into the bucket whatever lies there: it is gone meanwhile, or not what its name says.

    Raises StoreError and UserError as bring() does.
    """
    laid_out = lay_out(files, md5=store.checksums in ("none", "probe"))
    datasend.send(store, laid_out, time.time(), again=True, on_progress=transfer_lines(context.ui))


def transfer_lines(ui: Listener, now: Callable[[], float] = time.monotonic) -> OnProgress:
    """Return what tells of a long transfer every ten seconds."""
    last, before = now(), 0

    def tell(progress: Progress) -> None:
        nonlocal last, before
        took = now() - last  # asked once: several threads may send
        if took < _LINE_EVERY:
            return
        speed = max(0, progress.done - before) / took
        last, before = last + took, progress.done
        ui.say(f"           {human_size(progress.done)} of {human_size(progress.total)}, {human_size(int(speed))}/s: {progress.text}")

    return tell
