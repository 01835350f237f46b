"""What a rehearsal of a RunPod stack needs beside pods: its template, its network volume, and one that plays its bucket."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

from trainyard.clouds import gpus
from trainyard.rehearsal.kit import Emulator, Furnishing
from trainyard.rehearsal.runpod import stock
from trainyard.rehearsal.runpod.s3 import start_s3
from trainyard.settings.table import NO_BUCKET, StackSettings
from trainyard.storage import local
from trainyard.storage.bucket import exists
from trainyard.storage.client import StoreSettings, s3, with_bucket

_ENDPOINT = re.compile(r"s3api-([a-z0-9-]+)\.runpod\.io")


@contextmanager
def furnish(room: Furnishing) -> Iterator[None]:
    """Furnish the account; while the block lasts, a network volume is a bucket where the stack keeps its results on one."""
    settings = room.settings
    center = _center(settings, room.env)
    if settings.volume:
        add_volume(room.emulator, settings.volume, center)
    if template := settings.template or room.env.get("RUNPOD_TEMPLATE_ID"):
        add_template(room.emulator, str(template), f"image-of-template/{template}")
    bucket = _volume_as_bucket(settings, room.env)
    if bucket is None:
        yield
        return
    store = _volume_store(local.ensure(room.places), bucket)
    add_volume(room.emulator, bucket, center, folder=store.data_dir / bucket if store.data_dir else None)
    room.store = {"store": "runpod", "bucket": bucket}
    endpoint = start_s3(urlsplit(store.endpoint or "").port or 0, bucket)
    room.variables |= {
        "RUNPOD_S3_ACCESS_KEY": store.access_key.reveal(),
        "RUNPOD_S3_SECRET_KEY": store.secret_key.reveal(),
        "RUNPOD_S3_ENDPOINT": endpoint.endpoint,
    }
    try:
        yield
    finally:
        endpoint.shutdown()
        endpoint.server_close()


def add_volume(emulator: Emulator, volume_id: str, center: str, *, folder: Path | None = None) -> str:
    """Give the account a network volume of this id in a data center; ``folder`` is what it holds (default: a new one)."""
    ledger = emulator.fleet.ledger
    entry = {"id": volume_id, "name": volume_id, "size": 100, "dataCenter": center, "type": "STANDARD"}
    others = [volume for volume in ledger.account().get("volumes", []) if volume["id"] != volume_id]
    ledger.save_account({**ledger.account(), "volumes": [*others, entry]})
    if folder is not None:
        emulator.fleet.machines.put_volume(volume_id, folder)
    return volume_id


def add_template(emulator: Emulator, template_id: str, image: str) -> None:
    """Give the account a pod template of this id."""
    account = emulator.fleet.ledger.account()
    emulator.fleet.ledger.save_account({**account, "templates": {**account.get("templates", {}), template_id: {"image": image}}})


def _volume_as_bucket(settings: StackSettings, env: Mapping[str, str]) -> str | None:
    """Return the network volume that the stack keeps its results in, None for every other store."""
    store, bucket = settings.store, settings.bucket or env.get("RUNPOD_S3_BUCKET")
    if bucket == NO_BUCKET or (store != "runpod" and (store is not None or not env.get("RUNPOD_S3_ACCESS_KEY"))):
        return None
    return str(bucket or settings.volume or "rehearsal")


def _center(settings: StackSettings, env: Mapping[str, str]) -> str:
    """Return the data center of the stack's volume: as its S3 endpoint says, else one where the stack's GPUs stand."""
    named = _ENDPOINT.search(env.get("RUNPOD_S3_ENDPOINT", ""))
    if named and named[1].upper() in stock.CENTERS:
        return named[1].upper()
    rented = [(kind.id,) for kind in stock.TYPES]
    places = [center for name in settings.gpu for index in gpus.match(str(name), rented) for center in stock.TYPES[index].centers]
    return next((center for center in places if center not in stock.OLD_DRIVERS), "EU-RO-1")


def _volume_store(store: StoreSettings, bucket: str) -> StoreSettings:
    """Return the bucket of the local S3 server that plays a network volume, made if it is not there."""
    volume_store = with_bucket(store, bucket)
    if not exists(volume_store):
        s3(volume_store).create_bucket(Bucket=bucket)  # without versions: RunPod has none
    return volume_store
