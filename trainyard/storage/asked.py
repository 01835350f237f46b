"""What was asked of a run, kept in the bucket beside its logs: its record and its bundle, for who goes on from it elsewhere.

logs/<user>/<run>/<attempt>/run.json        the record; it holds no secret
logs/<user>/<run>/<attempt>/bundle.tar.gz   the bundle, proven by the sha256 that the record names
logs/<user>/<run>/<attempt>/snapshot.tar.gz what it was made of: commits, patches, settings, the recipe's templates
"""

from __future__ import annotations

import gzip
import hashlib
import io
import tarfile
from pathlib import Path

from trainyard.config import attempt_number
from trainyard.errors import StoreError
from trainyard.storage import bucket
from trainyard.storage.answers import store_errors
from trainyard.storage.client import StoreSettings, s3
from trainyard.storage.manifest import LOGS, ResultKey
from trainyard.storage.seal import put_proven, read
from trainyard.tars import unpack

RECORD, BUNDLE, SNAPSHOT = "run.json", "bundle.tar.gz", "snapshot.tar.gz"


def put_record(settings: StoreSettings, where: ResultKey, body: bytes) -> None:
    """Write (anew) what is known of an attempt."""
    put_proven(settings, where.logs + RECORD, body)


def put_bundle(settings: StoreSettings, where: ResultKey, folder: Path) -> None:
    """Write an attempt's bundle, once; who reads it proves it."""
    _put_folder(settings, where.logs + BUNDLE, folder)


def put_snapshot(settings: StoreSettings, where: ResultKey, folder: Path) -> None:
    """Write what an attempt was made of, once."""
    _put_folder(settings, where.logs + SNAPSHOT, folder)


def _put_folder(settings: StoreSettings, key: str, folder: Path) -> None:
    packed = io.BytesIO()
    # Equal bundles give equal bytes: no time and no owner of this machine is in them.
    with gzip.GzipFile(fileobj=packed, mode="wb", mtime=0, compresslevel=6) as zipped, tarfile.open(fileobj=zipped, mode="w") as tar:
        for path in sorted(path for path in folder.rglob("*") if path.is_file() or (path.is_dir() and not any(path.iterdir()))):
            tar.add(path, path.relative_to(folder).as_posix(), recursive=False, filter=_plain)
    with store_errors(f"write {settings.url}/{key}"):
        s3(settings).put_object(Bucket=settings.bucket, Key=key, Body=packed.getvalue())


def record(settings: StoreSettings, where: ResultKey) -> bytes | None:
    """Return the record of an attempt that the bucket holds, None where it holds none."""
    return read(settings, where.logs + RECORD)


def records(settings: StoreSettings, user: str, run: str) -> dict[int, bytes]:
    """Return the record of each attempt of a run that the bucket holds."""
    base = f"{LOGS}{user}/{run}/"
    numbers = [number for name in bucket.folders(settings, base) if (number := attempt_number(name))]
    bodies = {number: read(settings, f"{base}{number}/{RECORD}") for number in numbers}
    return {number: body for number, body in sorted(bodies.items()) if body is not None}


def fetch_bundle(settings: StoreSettings, where: ResultKey, dest: Path, listing: str, sha256: str) -> None:
    """Unpack an attempt's bundle into an empty folder; ``listing`` is the name of its list of hashes, ``sha256`` that list's.

    Raises StoreError where it is missing, or not the one that the attempt had.
    """
    if not _fetch_folder(settings, where.logs + BUNDLE, dest):
        raise StoreError(f"{settings.url}/{where.logs}{BUNDLE} is missing: what {where} ran is not to be had here")
    if not is_bundle(dest, listing, sha256):
        raise StoreError(f"{settings.url}/{where.logs}{BUNDLE} is not the bundle that {where} ran")


def fetch_snapshot(settings: StoreSettings, where: ResultKey, dest: Path) -> bool:
    """Unpack what an attempt was made of into an empty folder; False where the bucket holds nothing of that. Raises StoreError."""
    return _fetch_folder(settings, where.logs + SNAPSHOT, dest)


def _fetch_folder(settings: StoreSettings, key: str, dest: Path) -> bool:
    body = read(settings, key)
    if body is None:
        return False
    try:
        with tarfile.open(fileobj=io.BytesIO(body), mode="r:gz") as tar:
            unpack(tar, dest)
    except (tarfile.TarError, OSError, EOFError) as error:
        raise StoreError(f"{settings.url}/{key} cannot be unpacked: {error}") from None
    return True


def is_bundle(folder: Path, listing: str, sha256: str) -> bool:
    """Tell whether a folder holds a bundle whole: its list has this hash, and each file is the one that the list names."""
    try:
        text = (folder / listing).read_bytes()
        if hashlib.sha256(text).hexdigest() != sha256:
            return False
        lines = [line.partition("  ") for line in text.decode().splitlines()]
        return all(hashlib.sha256((folder / name).read_bytes()).hexdigest() == digest for digest, _, name in lines if digest[:1] != "\\")
    except (OSError, UnicodeDecodeError):
        return False


def _plain(item: tarfile.TarInfo) -> tarfile.TarInfo:
    item.mtime, item.uid, item.gid, item.uname, item.gname = 0, 0, 0, "", ""
    item.mode = 0o755 if item.isdir() or item.mode & 0o100 else 0o644
    return item
