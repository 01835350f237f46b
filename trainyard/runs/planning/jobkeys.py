"""Which keys of the bucket a job gets, as the settings ask for it, and whether the store has such keys: before anything is rented."""

from __future__ import annotations

import contextlib

from trainyard.errors import TrainyardError, UserError
from trainyard.runs.context import CommandContext
from trainyard.runs.records.parts import JobKeys, RunBucket
from trainyard.settings.table import StackSettings


def asked(settings: StackSettings) -> JobKeys | None:
    """Return what the settings ask for, None where a job gets no keys."""
    if settings.pod_store == "none":
        return None
    return JobKeys(
        access=settings.pod_store, prefix=settings.pod_store_prefix, role=settings.store_role,
        own=settings.i_know_that_pods_can_steal_my_store_keys,
    )  # fmt: skip


def words(context: CommandContext, keys: JobKeys, settings: StackSettings) -> str:
    """Return in words what a job gets, as it stands beside the estimate."""
    if keys.own:
        return "the job gets YOUR OWN keys of the store, which do not end: whoever has the pod can use all they open"
    own = "read and write below a prefix of its own"
    if keys.access != "attempt":
        below = f"read below {keys.prefix}"
    elif _has_one_prefix(context, settings):
        below = f"{own}, and nowhere else: a key of this store has one prefix"
    else:
        below = f"read below {keys.prefix} and {own}"
    return f"the job gets keys of the bucket that end with its lease: {below} (pod_store)"


def _has_one_prefix(context: CommandContext, settings: StackSettings) -> bool:
    """Tell it of the store that settings and keys name; the bucket itself may not be there yet."""
    if settings.store == "local":
        return False
    from trainyard.storage import podkeys
    from trainyard.storage.stores import store_settings

    with contextlib.suppress(TrainyardError):  # what is wrong with it is told where it is used
        store = store_settings(context.env, settings.store, settings.bucket, context.places)
        return store is not None and podkeys.has_one_prefix(store)
    return False


def refuse_impossible(context: CommandContext, keys: JobKeys | None, bucket: RunBucket | None) -> None:
    """Raise RefusedError where the store has no such keys, UserError where there is no bucket or a setting is missing."""
    if keys is None:
        return
    from trainyard.runs.records.stores import store_of

    settings = store_of(context, bucket)
    if settings is None:
        raise UserError("pod_store: there is no bucket whose keys a job could get", hint="Name a store, or leave pod_store out.")
    from trainyard.storage import podkeys

    podkeys.refuse_impossible(settings, keys.role, own=keys.own)
