"""Data that lie in a bucket: listed and checked from here, fetched by the pod through signed URLs, file by file."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, BinaryIO, cast

from botocore.exceptions import BotoCoreError, ClientError

from trainyard.errors import UserError
from trainyard.recipes.data import RemoteFile
from trainyard.runs.context import Context
from trainyard.storage.client import StoreSettings, s3, store_settings

URL_SECONDS = 6 * 3600
"""Life of a signed URL: long enough for a slow pod to fetch, short enough to be worth nothing afterwards."""


def resolver(context: Context, store: str | None) -> Callable[[str], Sequence[RemoteFile]]:
    """Return what lists the files behind an ``s3://bucket/key`` reference with the credentials of the stack's store."""

    def resolve(reference: str) -> list[RemoteFile]:
        bucket, prefix = split(reference)
        settings = _store(context, store, bucket, reference)
        client = s3(settings)
        try:
            pages = client.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix)
            found = [item for page in pages for item in page.get("Contents", []) if not item["Key"].endswith("/")]
        except (ClientError, BotoCoreError) as error:
            raise UserError(f"--data {reference}: {error}") from None
        base = "" if not prefix else prefix.rstrip("/") + "/"
        chosen = [item for item in found if item["Key"] == prefix or item["Key"].startswith(base)]
        return [_remote(client, bucket, item, base) for item in chosen]

    return resolve


def signed_urls(context: Context, store: str | None, files: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    """Return a signed URL for each file of a record's data, by its name under ``input/``."""
    urls = {}
    for item in files:
        bucket, key = split(str(item["src"]))
        client = s3(_store(context, store, bucket, str(item["src"])))
        urls[str(item["dest"])] = client.generate_presigned_url("get_object", Params={"Bucket": bucket, "Key": key}, ExpiresIn=URL_SECONDS)
    return urls


def split(reference: str) -> tuple[str, str]:
    """Return bucket and key of ``s3://bucket/key``; raises UserError when there is no bucket."""
    bucket, _, key = reference.removeprefix("s3://").partition("/")
    if not bucket:
        raise UserError(f"--data {reference}: write s3://bucket/key")
    return bucket, key


def _store(context: Context, store: str | None, bucket: str, reference: str) -> StoreSettings:
    settings = store_settings(context.env, store, bucket, context.places)
    if settings is None:
        raise UserError(f"--data {reference}: no credentials of a store are set", hint="See README, 'Settings and keys'.")
    if not settings.presign:
        raise UserError(f"--data {reference}: this store signs no URLs for a pod; download the data first and give the folder")
    return settings


def _remote(client: Any, bucket: str, item: Mapping[str, Any], base: str) -> RemoteFile:
    key = str(item["Key"])
    name = key[len(base) :] if base and key.startswith(base) else key.rpartition("/")[2]

    def read() -> BinaryIO:
        return cast(BinaryIO, client.get_object(Bucket=bucket, Key=key)["Body"])

    return RemoteFile(f"s3://{bucket}/{key}", name, int(item["Size"]), read)
