"""Data that lie in a bucket: listed and checked from here, fetched by the pod."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import BinaryIO, cast

from trainyard.errors import UserError
from trainyard.recipes.data import BucketFile
from trainyard.recipes.summaries import DataFile
from trainyard.runs.context import CommandContext
from trainyard.storage.answers import store_errors
from trainyard.storage.bucket import Item, listing
from trainyard.storage.client import StoreSettings, s3
from trainyard.storage.podtargets import PodTarget, StoredObject, target_of_object
from trainyard.storage.stores import store_settings


def resolver(context: CommandContext, store: str | None) -> Callable[[str], Sequence[BucketFile]]:
    """Return what lists the files behind an ``s3://bucket/key`` reference with the credentials of the stack's store."""

    def resolve(reference: str) -> list[BucketFile]:
        bucket, prefix = split(reference)
        settings = _store(context, store, bucket, reference)
        base = "" if not prefix else prefix.rstrip("/") + "/"
        objects = []
        for item in listing(settings, prefix):
            if item.key == prefix and not prefix.endswith("/"):
                objects.append(_remote(settings, item, item.key.rpartition("/")[2]))
            elif item.key.startswith(base) and not item.key.endswith("/"):
                objects.append(_remote(settings, item, item.key[len(base) :]))
        return objects

    return resolve


def pod_targets(context: CommandContext, store: str | None, files: Sequence[DataFile]) -> tuple[StoreSettings, list[PodTarget]]:
    """Return the store of a record's data, and its files as the pod shall have them below ``input/``."""
    keys = [split(item.src) for item in files]
    settings = _store(context, store, keys[0][0], files[0].src)
    targets = [
        target_of_object(StoredObject(key), item.dest, item.bytes, item.sha256) for (_, key), item in zip(keys, files, strict=True)
    ]  # fmt: skip
    return settings, targets


def split(reference: str) -> tuple[str, str]:
    """Return bucket and key of ``s3://bucket/key``; raises UserError when there is no bucket."""
    bucket, _, key = reference.removeprefix("s3://").partition("/")
    if not bucket:
        raise UserError(f"--data {reference}: write s3://bucket/key")
    return bucket, key


def _store(context: CommandContext, store: str | None, bucket: str, reference: str) -> StoreSettings:
    settings = store_settings(context.env, store, bucket, context.places)
    if settings is None:
        raise UserError(f"--data {reference}: no credentials of a store are set", hint="Put them into .env: AWS_*, R2_* or RUNPOD_S3_*.")
    return settings


def _remote(settings: StoreSettings, item: Item, name: str) -> BucketFile:
    def read() -> BinaryIO:
        with store_errors(f"read {settings.url}/{item.key}"):
            return cast(BinaryIO, s3(settings).get_object(Bucket=settings.bucket, Key=item.key)["Body"])

    return BucketFile(f"{settings.url}/{item.key}", name, item.size, read)
