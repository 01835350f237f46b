"""The keys of the bucket that a job gets: issued as it starts, taken away when its pod is gone. They are never written down here."""

from __future__ import annotations

import time
from dataclasses import replace

from trainyard.clock import format_time
from trainyard.errors import TrainyardError
from trainyard.runs.context import CommandContext
from trainyard.runs.records.record import RunFolder, RunRecord
from trainyard.secret import Secret


def issue(context: CommandContext, record: RunRecord, folder: RunFolder) -> dict[str, Secret]:
    """Return the variables with which a job speaks S3, nothing where it gets no keys; raises StoreError when the store gives none."""
    if record.job_keys is None:
        return {}
    from trainyard.runs.records.stores import store_of
    from trainyard.storage import podkeys

    settings = store_of(context, record.bucket, record.pod.end)
    if settings is None:
        return {}

    withdraw(context, record)  # those of a start that was interrupted
    now, asked = time.time(), record.job_keys
    until = settings.urls_until or now + record.hours * 3600
    scope = podkeys.KeyScope(asked.prefix, f"jobs/{record.user}/{record.label}/{record.attempt}/" if asked.access == "attempt" else "")
    keys = podkeys.issue(settings, scope, until, now, role=asked.role, own=asked.own)
    record.job_keys = replace(asked, user=keys.user, end=format_time(keys.end) if keys.end else None)
    folder.save(record)
    if keys.end is not None and keys.end < until - 60:
        context.ui.warn(f"the job's keys of the bucket end at {record.job_keys.end}, before its lease: the role allows no longer ones")
    if keys.scope != scope:
        context.ui.warn(f"a key of this store has one prefix: the job reads and writes below {scope.write}, and cannot read {scope.read}")
    places = {"TRAINYARD_STORE_READ": keys.scope.read, "TRAINYARD_STORE_WRITE": keys.scope.write}
    return {**keys.env, **{name: Secret(f"{settings.url}/{prefix}") for name, prefix in places.items() if prefix}}


def withdraw(context: CommandContext, record: RunRecord) -> None:
    """Take the key of a job away where the store can; trouble is told, and the key then ends with the lease at the latest."""
    if record.job_keys is None or record.job_keys.user is None:
        return
    from trainyard.runs.records.stores import store_of
    from trainyard.storage import podkeys

    try:
        settings = store_of(context, record.bucket)
        if settings is not None:
            podkeys.withdraw(settings, record.job_keys.user)
            record.job_keys = replace(record.job_keys, user=None)
    except TrainyardError as error:
        context.ui.warn(f"the key of the job stays until {record.job_keys.end}: {error.message}")
