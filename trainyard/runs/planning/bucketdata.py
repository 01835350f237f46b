"""Data that lie in a bucket: listed and checked from here, fetched by the pod through signed URLs, file by file."""

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
from trainyard.storage.stores import store_settings

URL_SECONDS = 6 * 3600
"""Life of a signed URL: long enough for a slow pod to fetch, short enough to be worth nothing afterwards."""


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


def signed_urls(context: CommandContext, store: str | None, files: Sequence[DataFile]) -> dict[str, str]:
    """Return a signed URL for each file of a record's data, by its name under ``input/``."""
    urls = {}
    for item in files:
        bucket, key = split(item.src)
        client = s3(_store(context, store, bucket, item.src))
        urls[item.dest] = client.generate_presigned_url("get_object", Params={"Bucket": bucket, "Key": key}, ExpiresIn=URL_SECONDS)
    return urls


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
    if not settings.presign:
        raise UserError(f"--data {reference}: this store signs no URLs for a pod; download the data first and give the folder")
    return settings


def _remote(settings: StoreSettings, item: Item, name: str) -> BucketFile:
    def read() -> BinaryIO:
        with store_errors(f"read {settings.url}/{item.key}"):
            return cast(BinaryIO, s3(settings).get_object(Bucket=settings.bucket, Key=item.key)["Body"])

    return BucketFile(f"{settings.url}/{item.key}", name, item.size, read)
