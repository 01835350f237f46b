"""What a cloud without SSH asks of a run before anything is rented: a bucket that signs, and a lease that signed URLs outlive."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from trainyard.clouds.protocol import Cloud
from trainyard.config import Places
from trainyard.errors import RefusedError
from trainyard.network import LOOPBACK
from trainyard.runs.context import CommandContext
from trainyard.runs.records.parts import RunBucket, RunContainer
from trainyard.settings.clouds import entry
from trainyard.settings.table import StackSettings

if TYPE_CHECKING:
    from trainyard.storage.client import StoreSettings

BOOT_SLACK = 2 * 3600
"""Seconds that a container may take from its bundle to its lease: URLs live so much longer than the lease."""
LONGEST_HOURS = (7 * 24 * 3600 - BOOT_SLACK) / 3600
"""A signed URL lives 7 days at most (version 4 of the signature)."""


def container_of(cloud: str) -> RunContainer | None:
    """Return what a record begins with on a cloud without SSH, None on every other."""
    row = entry(cloud)
    return None if row is None or row.ssh else RunContainer()


def refuse(context: CommandContext, cloud: Cloud, settings: StackSettings, hours: float) -> None:
    """Raise RefusedError for a run that a cloud without SSH cannot do as it is asked for; asks neither cloud nor store."""
    if cloud.capabilities.ssh:
        return
    whole = hours + settings.rescue_minutes / 60
    if whole > LONGEST_HOURS:
        raise RefusedError(
            f"a lease of {whole:g} h is longer than a container of {cloud.name} can live by: it works with signed URLs, and a store lets "
            f"those live 7 days, of which {BOOT_SLACK / 3600:g} h are for its boot; nothing was rented",
            hint=f"At most {LONGEST_HOURS - settings.rescue_minutes / 60:g} hours; then go on from its checkpoint: invoke resume RUN",
        )
    if settings.volume:
        raise RefusedError(f"`volume` means nothing to a container of {cloud.name}", hint="Take it out of the stack's settings.")
    refuse_bucket(context.env, context.places, cloud.name, settings, emulated=_emulated(cloud))


def unkept(cloud: Cloud, settings: StackSettings) -> str | None:
    """Return that no pod of this cloud is kept for a look, where the settings ask for that; None where nothing is amiss."""
    if settings.keep_on_failure is None or cloud.capabilities.ssh:
        return None
    return f"keep_on_failure: no pod of {cloud.name} is kept for a look: it has no SSH, and ends with its command"


def refuse_bucket(env: Mapping[str, str], places: Places, cloud: str, settings: StackSettings, *, emulated: bool) -> None:
    """Raise RefusedError where settings and keys name no bucket that containers without SSH can work by; asks no store."""
    if settings.has_bucket and settings.store == "local":
        if not emulated:
            raise _unreachable(cloud)
        return
    from trainyard.storage.stores import can_sign, store_settings

    store = store_settings(env, settings.store, settings.bucket, places)
    if store is None:
        unset = "" if settings.has_bucket else "Take `trainyard:bucket: none` out of the stack's settings. "
        raise RefusedError(
            f"pods of {cloud} have no SSH: bundle, log and result of a run go through a bucket, and none is set; nothing was rented",
            hint=f"{unset}Put the keys of a store into .env beside Pulumi.yaml, or export them: docs/stores.md.",
        )
    if why := can_sign(store):
        raise _unsigned(cloud, why)
    if _is_here(store) and not emulated:
        raise _unreachable(cloud)


def refuse_store(context: CommandContext, bucket: RunBucket | None) -> StoreSettings:
    """Return the store of a run without SSH; raises RefusedError where its container could not read and write there by itself."""
    from trainyard.runs.records.stores import store_of
    from trainyard.storage.canary import probed
    from trainyard.storage.stores import can_sign

    settings = store_of(context, bucket)
    why = can_sign(settings)
    if settings is None or why is not None:
        raise _unsigned("this cloud", str(why))
    return probed(settings)


def look_at_store(context: CommandContext, bucket: RunBucket | None, cloud: Cloud) -> None:
    """Raise RefusedError where a cloud has no SSH and its containers could not work by the bucket, or not reach it."""
    if cloud.capabilities.ssh:
        return
    settings = refuse_store(context, bucket)
    if _is_here(settings) and not _emulated(cloud):
        raise _unreachable(cloud.name)


def _emulated(cloud: Cloud) -> bool:
    return cloud.simulated or cloud.name == "local"


def _is_here(store: StoreSettings) -> bool:
    return store.kind == "local" or (urlsplit(store.endpoint or "").hostname or "") in LOOPBACK


def _unsigned(cloud: str, why: str) -> RefusedError:
    return RefusedError(
        f"pods of {cloud} have no SSH and work by signed URLs of the run's bucket: {why}; nothing was rented",
        hint="Which stores sign, and what their keys must be allowed to do: docs/stores.md.",
    )


def _unreachable(cloud: str) -> RefusedError:
    return RefusedError(
        f"the bucket lies on this machine, which a container of {cloud} does not reach; nothing was rented",
        hint="Set the keys of a store on the Internet (docs/stores.md), and `trainyard:store` where several are set.",
    )
