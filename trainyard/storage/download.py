"""Take a result home: which one is meant, whether it counts, and which of its files are fetched."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from trainyard.errors import ForeignResult, StoreError, UserError
from trainyard.storage.client import StoreSettings, sync_command
from trainyard.storage.deliver import OnProgress, silent
from trainyard.storage.ending import Ending
from trainyard.storage.fetch import fetch_files
from trainyard.storage.find import Listed, ResultReference, find, list_results, unproved
from trainyard.storage.manifest import DAMAGED, KEPT, MANIFEST, MODEL_FOLDER, SUCCESS, Manifest, ManifestEntry, ResultKey, decode
from trainyard.storage.markers import Claim, refuse_unclaimed, stranger
from trainyard.storage.seal import read_each, read_result

__all__ = ["Downloaded", "download", "list_results"]


@dataclass(frozen=True, slots=True)
class Downloaded:
    """What was fetched, and what of the result was not (files beside the model)."""

    key: ResultKey
    dest: Path
    files: int
    bytes: int
    reused: int
    manifest_sha256: str | None
    beside: tuple[str, ...] = ()
    ending: Ending | None = None
    """How the training ended when this is no success."""
    newer: tuple[Listed, ...] = ()
    """Later attempts of the same name, none of them a success: where a name was asked for, the newest success is taken."""
    paths: tuple[Path, ...] = ()
    """The files as they lie here."""
    claim: Claim | None = None
    """Who began the attempt, where its bucket says it."""


def download(
    settings: StoreSettings,
    reference: str,
    dest: Path,
    *,
    user: str | None = None,
    whole: bool = False,
    uncommitted: bool = False,
    on_progress: OnProgress = silent,
) -> Downloaded:
    """Fetch a result into ``dest`` as ``aws s3 sync`` of its model folder would, each file verified by sha256.

    ``whole`` keeps the tree of the result and takes the files beside the model too, and so does what was kept of a
    training that was no success: its checkpoint lies beside the model. A file that is there already
    with the right hash is kept. Raises UserError for an unknown reference, and, before anything is fetched, for a place that
    something else has, a file with other bytes included; StoreError for a result without ``_SUCCESS``, and, with the code
    DAMAGED and the attempt as its fact ``result``, where the store holds other bytes than the manifest's; ForeignResult for one
    of another run than the one that claimed the attempt.
    """
    result = find(settings, reference, user=user, uncommitted=uncommitted)
    try:
        return _fetch(settings, reference, result, dest, whole=whole, uncommitted=uncommitted, on_progress=on_progress)
    except StoreError as error:
        error.facts["result"] = str(result.key)
        raise


def _fetch(
    settings: StoreSettings, reference: str, result: ResultReference, dest: Path, *, whole: bool, uncommitted: bool, on_progress: OnProgress
) -> Downloaded:
    manifest, digest, ending = _manifest(settings, result.key, uncommitted)
    base = "" if (whole or ending) and not result.path else result.path or MODEL_FOLDER
    files, base = _below(manifest, base)
    if not manifest.files:
        why = f" ({ending.why})" if ending else ""
        raise UserError(f"the training of {result.key} left no output{why}", hint=f"Its logs: {settings.url}/{result.key.logs}")
    if not files:
        raise UserError(f"'{reference}': the result {result.key} has no '{result.path}'", hint=_names(manifest))
    selection = [(entry, entry.path[len(base) :]) for entry in files]
    got = fetch_files(settings, result.key.prefix, selection, dest, on_progress)
    names = {entry.path for entry in files}
    beside = tuple(entry.path for entry in manifest.files if entry.path not in names)
    return Downloaded(
        result.key,
        dest,
        len(files),
        sum(e.size for e in files),
        got,
        digest,
        beside,
        ending,
        result.newer,
        tuple(dest / name for _, name in selection),
    )


def _manifest(settings: StoreSettings, key: ResultKey, uncommitted: bool) -> tuple[Manifest, str | None, Ending | None]:
    result = read_result(settings, key)
    if result is not None:
        if not uncommitted:
            refuse_unclaimed(settings, key, result.manifest)
        return result.manifest, result.manifest_sha256, result.ending
    success, kept, body = read_each(settings, (key.success, key.kept, key.manifest))
    marker = SUCCESS if success is not None else KEPT if kept is not None else None
    if not uncommitted and (problem := stranger(settings, key, success or kept or b"")):
        raise ForeignResult(f"{settings.url}/{key.prefix}{marker}: {problem}")
    if not uncommitted and marker is None:
        raise StoreError(
            f"the result {key} was never committed (no {SUCCESS}): it may be incomplete",
            hint=unproved(settings, key),
        )
    manifest = decode(body, f"{settings.url}/{key.manifest}") if body is not None else None
    if not uncommitted and manifest is not None:
        raise StoreError(
            f"the result {key} was committed ({marker} says so), but its {MANIFEST} is another one now: somebody has changed the bucket",
            hint="Without proof it can be taken as it is with --partial.",
            code=DAMAGED,
        )
    if manifest is None and marker is not None:
        raise StoreError(
            f"the result {key} was committed ({marker} says so), but its {MANIFEST} is missing now: somebody has changed the bucket",
            hint=f"Its objects can be copied, unproved, with: {sync_command(settings, key.prefix, 'DIR')}",
            code=DAMAGED,
        )
    if manifest is None:
        raise StoreError(
            f"the result {key} has no manifest, so nothing about it can be proven",
            hint=f"Its objects can be copied with: {sync_command(settings, key.prefix, 'DIR')}",
        )
    return manifest, None, None


def _below(manifest: Manifest, base: str) -> tuple[list[ManifestEntry], str]:
    """Return the files below a folder (or the one file of that name), and the part of their path to cut off."""
    one = [entry for entry in manifest.files if entry.path == base.rstrip("/")]
    if one:
        return one, base[: base.rstrip("/").rfind("/") + 1]
    folder = base.rstrip("/") + "/" if base else ""
    files = [entry for entry in manifest.files if entry.path.startswith(folder)]
    if not files and base == MODEL_FOLDER:
        return list(manifest.files), ""  # a result without a model folder is taken as it is
    return files, folder


def _names(manifest: Manifest) -> str:
    names = sorted({entry.path.split("/")[0] + ("/" if "/" in entry.path else "") for entry in manifest.files})
    return f"It holds: {', '.join(names)}."
