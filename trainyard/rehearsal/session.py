"""A rehearsal of a stack: the whole story against an emulator, in a world of its own.

Own checkout folder (links to the program, a copy of the settings), own state, own bucket on the local S3 server (as a
network volume behind RunPod's S3 where the stack keeps its results on one), own ledger, a throw-away key. Nothing of it
is reached by a run that was not started as a rehearsal.
"""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from trainyard import config
from trainyard.clouds import gpus
from trainyard.config import Places, settings_file
from trainyard.errors import UserError
from trainyard.rehearsal.runpod import refuse_beside_the_real, start, stock
from trainyard.rehearsal.runpod.s3 import start_s3
from trainyard.settings import reader
from trainyard.settings.clouds import emulated
from trainyard.settings.table import NO_BUCKET, StackSettings
from trainyard.storage import local
from trainyard.storage.bucket import exists
from trainyard.storage.client import StoreSettings, s3, with_bucket
from trainyard.storage.stores import store_settings

_LINKED = ("infra", "playbooks", "templates", "tasks.py", "Pulumi.yaml")
_OWN_STORE = re.compile(r"^\s*trainyard:(store|bucket|disk_gb)\s*:.*\n?", re.MULTILINE)
# What the rented pod would have need not be free on this machine.
_LOCAL_STORE = "  trainyard:store: local\n  trainyard:disk_gb: 10\n"
_VOLUME_STORE = "  trainyard:store: runpod\n  trainyard:bucket: {bucket}\n  trainyard:disk_gb: 10\n"
_ENDPOINT = re.compile(r"s3api-([a-z0-9-]+)\.runpod\.io")


@dataclass(frozen=True, slots=True)
class World:
    """Where a rehearsal lives and with which environment its verbs run."""

    root: Path
    env: Mapping[str, str]
    otherwise: str | None = None
    """What the real run would do in another way, for a person; None where nothing of that kind is known."""


@contextmanager
def rehearsal(stack: str, places: Places, env: Mapping[str, str]) -> Iterator[World]:
    """Run the emulator of a stack's cloud while the block lasts; its pods are ended at the end.

    Raises UserError for a stack without emulator, RefusedError beside a real base URL.
    """
    if stack not in emulated():
        raise UserError(f"there is no emulator for stack '{stack}'", hint=f"Stacks that can be rehearsed: {', '.join(emulated())}.")
    refuse_beside_the_real(env)
    base = places.home / "rehearsal" / stack
    root, own = base / "checkout", _own_places(base / "checkout", base)
    settings = reader.load(places.root, stack)
    bucket, center = _volume_as_bucket(settings, env), _center(settings, env)
    endpoint = None
    emulator = start(base / "cloud", env=env)
    try:
        if settings.volume:
            emulator.add_volume(settings.volume, center)
        if template := settings.template or env.get("RUNPOD_TEMPLATE_ID"):
            emulator.add_template(str(template), f"image-of-template/{template}")
        if bucket is None:
            _checkout(root, stack, places, _LOCAL_STORE)
        else:
            _checkout(root, stack, places, _VOLUME_STORE.format(bucket=bucket))
            store = _volume_store(local.ensure(config.places(root, own)), bucket)
            emulator.add_volume(bucket, center, folder=store.data_dir / bucket if store.data_dir else None)
            endpoint = start_s3(urlsplit(store.endpoint or "").port or 0, bucket)
            own |= {
                "RUNPOD_S3_ACCESS_KEY": store.access_key.reveal(),
                "RUNPOD_S3_SECRET_KEY": store.secret_key.reveal(),
                "RUNPOD_S3_ENDPOINT": endpoint.endpoint,
            }
        envs = _share_environments(places, base / "cloud" / "machines")
        _share_environments(places, base / "outside" / "cloud")
        yield World(root, {**_without_stores(env), **emulator.env, **own, "TRAINYARD_ENVS": str(envs)}, other_road(settings, env, places))
    finally:
        emulator.stop(end_pods=True)
        if endpoint is not None:
            endpoint.shutdown()
            endpoint.server_close()
        local.stop(config.places(root, own))


def _own_places(root: Path, base: Path) -> dict[str, str]:
    return {"TRAINYARD_PROJECT_DIR": str(root), "TRAINYARD_HOME": str(root / ".trainyard"), "TRAINYARD_LOCAL_ROOT": str(base / "outside")}


def _without_stores(env: Mapping[str, str]) -> dict[str, str]:
    """Return the environment without any store's keys and without a ledger elsewhere: a rehearsal's results and costs stay here."""
    away = ("RUNPOD_S3_", "RUNPOD_API_", "AWS_", "R2_", "TRAINYARD_LEDGER")
    return {key: value for key, value in env.items() if not key.startswith(away)}


def _volume_as_bucket(settings: StackSettings, env: Mapping[str, str]) -> str | None:
    """Return the network volume that the stack keeps its results in, None for every other store."""
    store, bucket = settings.store, settings.bucket or env.get("RUNPOD_S3_BUCKET")
    if bucket == NO_BUCKET or (store != "runpod" and (store is not None or not env.get("RUNPOD_S3_ACCESS_KEY"))):
        return None
    return str(bucket or settings.volume or "rehearsal")


def other_road(settings: StackSettings, env: Mapping[str, str], places: Places) -> str | None:
    """Say that the real run's result would not take the road by the bucket that a rehearsal's takes; None where it would."""
    if settings.bucket not in (None, NO_BUCKET) or settings.store == "local":
        return None
    if settings.bucket == NO_BUCKET:
        why = "its settings say 'bucket: none'"
    elif store_settings(env, settings.store, None, places) is None:
        why = "no store's keys are set"
    else:
        return None
    return f"the result goes to a bucket on this machine; the real run has none ({why}) and brings its result home over SSH"


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


def _checkout(root: Path, stack: str, places: Places, store: str) -> None:
    root.mkdir(parents=True, exist_ok=True)
    for name in _LINKED:
        link = root / name
        link.unlink(missing_ok=True)
        if (places.root / name).exists():  # a repository of one's own need not have them all
            link.symlink_to(places.root / name)
    text = _OWN_STORE.sub("", settings_file(places.root, stack).read_text(encoding="utf-8"))
    (root / f"Pulumi.{stack}.yaml").write_text(text.rstrip("\n") + "\n" + store, encoding="utf-8")


def _share_environments(places: Places, cloud: Path) -> Path:
    """Let a local cloud see the Python environments of this machine's own one (some GB each); return where."""
    shared, link = places.cloud / "envs", cloud / "envs"
    shared.mkdir(parents=True, exist_ok=True)
    cloud.mkdir(parents=True, exist_ok=True)
    if not link.is_symlink():
        if link.is_dir():
            shutil.rmtree(link)
        os.symlink(shared, link)
    return link
