"""Data that lie elsewhere: listed from here, and bound to the bytes that were seen; the pod fetches them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import BinaryIO, cast

from trainyard.errors import StoreError, UserError
from trainyard.recipes.data import BucketFile
from trainyard.recipes.summaries import DataFile
from trainyard.runs.context import CommandContext
from trainyard.runs.planning import webdata
from trainyard.storage.answers import store_errors
from trainyard.storage.bucket import Item, listing
from trainyard.storage.client import StoreSettings, s3
from trainyard.storage.deliver import each
from trainyard.storage.groups import GCS
from trainyard.storage.podtargets import PodTarget, StoredObject, bound_to, target_of_object
from trainyard.storage.stores import google_settings, store_settings

MOST_VERSIONS = 1000
"""Of so many objects the version is asked for, one by one, so that those that are overwritten later can still be had."""


def resolver(context: CommandContext, store: str | None) -> Callable[[str], Sequence[BucketFile]]:
    """Return what lists the files behind an ``s3://``, ``gs://`` or ``https://`` reference.

    For s3:// it has the keys of the stack's store, for gs:// the HMAC keys of GCS_*.
    """

    def resolve(reference: str) -> list[BucketFile]:
        if reference.startswith("https://"):
            return [webdata.look(reference)]
        scheme, bucket, prefix = split(reference)
        settings = _store(context, store, scheme, bucket)
        base = "" if not prefix else prefix.rstrip("/") + "/"
        objects: list[tuple[Item, str]] = []
        for item in _listed(settings, prefix, reference):
            if item.key == prefix and not prefix.endswith("/"):
                objects.append((item, item.key.rpartition("/")[2]))
            elif item.key.startswith(base) and not item.key.endswith("/"):
                objects.append((item, item.key[len(base) :]))
        files = [_remote(settings, scheme, item, name) for item, name in objects]
        return each(lambda file: _with_version(settings, file), files) if len(files) <= MOST_VERSIONS else files

    return resolve


def _listed(settings: StoreSettings, prefix: str, reference: str) -> list[Item]:
    """Return what lies there. A bucket that is not there is a slip in the reference: no `up` makes it."""
    try:
        return list(listing(settings, prefix))
    except StoreError as error:
        if error.code != "NoSuchBucket":
            raise
        where = "s3:// is read from the stack's own store. " if reference.startswith("s3://") else ""
        raise UserError(
            f"--data {reference}: there is no bucket '{settings.bucket}' in its store", hint=f"{where}Look at its name."
        ) from error


def pod_targets(
    context: CommandContext, store: str | None, files: Sequence[DataFile], *, versions: bool = False
) -> tuple[StoreSettings | None, list[PodTarget]]:
    """Return the store of a record's data (None: the web), and its files as the pod shall have them below ``input/``.

    Each is bound to the bytes that were seen; with ``versions`` by the version that they were.
    """
    if files[0].src.startswith("https://"):
        return None, [target_of_object(StoredObject(item.src), item.dest, item.bytes, item.sha256) for item in files]
    places = [split(item.src) for item in files]
    targets = []
    for (_, _, key), item in zip(places, files, strict=True):
        source = StoredObject(key, version=item.version) if versions else StoredObject(key, item.etag)
        targets.append(target_of_object(source, item.dest, item.bytes, item.sha256))
    return _store(context, store, places[0][0], places[0][1]), targets


def split(reference: str) -> tuple[str, str, str]:
    """Return scheme, bucket and key of ``s3://bucket/key``; raises UserError when there is no bucket."""
    scheme, _, rest = reference.partition("://")
    bucket, _, key = rest.partition("/")
    if not bucket:
        raise UserError(f"--data {reference}: write {scheme}://bucket/key")
    return scheme, bucket, key


def _store(context: CommandContext, store: str | None, scheme: str, bucket: str) -> StoreSettings:
    if scheme == "gs":
        settings, names = google_settings(context.env, bucket), f"{' and '.join(GCS)}, HMAC keys of Google Cloud Storage"
    else:
        settings, names = store_settings(context.env, store, bucket, context.places), "AWS_*, R2_* or RUNPOD_S3_*"
    if settings is None:
        raise UserError(f"--data {scheme}://{bucket}: no credentials of its store are set", hint=f"Put them into .env: {names}.")
    return settings


def _remote(settings: StoreSettings, scheme: str, item: Item, name: str) -> BucketFile:
    source = StoredObject(item.key, item.etag)

    def read() -> BinaryIO:
        with store_errors(f"read {settings.url}/{item.key}"):
            return cast(BinaryIO, s3(settings).get_object(**bound_to(settings, source))["Body"])

    return BucketFile(f"{scheme}://{settings.bucket}/{item.key}", name, item.size, read, etag=item.etag)


def _with_version(settings: StoreSettings, file: BucketFile) -> BucketFile:
    key = split(file.url)[2]
    with store_errors(f"look at {file.url}", 403, 404) as refusal:
        head = s3(settings).head_object(Bucket=settings.bucket, Key=key)
        if head.get("ETag") == file.etag:
            return replace(file, version=str(head.get("VersionId") or "").replace("null", ""))
    if refusal.status == 403:
        return file  # a key that may read, and not look at versions
    raise UserError(f"--data {file.url}: was changed while it was looked at", hint="Run it again when nothing writes to it any more.")
