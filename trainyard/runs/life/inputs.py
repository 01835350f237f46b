"""What a pod fetches from buckets before its job starts. Nothing is started before all of it is there and proven."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from trainyard.errors import StoreError, UserError
from trainyard.remote.protocol import Transport
from trainyard.runs.context import CommandContext
from trainyard.runs.planning import datastore
from trainyard.runs.planning.bucketdata import pod_targets
from trainyard.runs.records.pod import ReachablePod
from trainyard.runs.records.record import RunFolder, RunRecord
from trainyard.runs.records.stores import store_of
from trainyard.sizes import human_size
from trainyard.storage import dataset
from trainyard.storage.canary import probed
from trainyard.storage.client import StoreSettings
from trainyard.storage.datasend import index_of
from trainyard.storage.dataset import LocalSource
from trainyard.storage.podfetch import fetch_to_pod
from trainyard.storage.podtargets import PodTarget

_ROADS = {"store": "by the pod itself", "volume": "from the mounted bucket", "ssh": "over SSH"}
_SENT_AGAIN = ("NoSuchKey", "404", "Damaged")
"""What the bucket lacks, or holds wrongly, this machine may still have."""


def from_buckets(record: RunRecord) -> bool:
    """Tell whether anything of a run comes out of a bucket."""
    return (
        record.data.kind in ("s3", "url") or record.data.stored is not None or (record.code is not None and record.code.stored is not None)
    )


FetchTargets = Callable[[str, StoreSettings | None, Sequence[PodTarget], str], Mapping[str, str]]
"""Brings files to a folder of the pod's workspace: what they are in words, their store (None: the web), files, folder; sha256 of each."""


def bring(context: CommandContext, record: RunRecord, folder: RunFolder, pod: ReachablePod, transport: Transport) -> None:
    """Let the pod fetch the run's data, and its code if that is big; what is there is not fetched again.

    Raises StoreError when the bucket has not got it (any more) and neither has this machine, PodFailed when the pod's disk
    is full, Unreachable when the link is lost.
    """
    bring_by(context, record, folder, _Fetch(context, record, pod, transport).targets)


def bring_by(context: CommandContext, record: RunRecord, folder: RunFolder, fetch: FetchTargets) -> None:
    """Do the same by another way to the pod."""
    if record.data.kind in ("s3", "url"):
        hashes = _in_place(context, record, fetch)
        files = tuple(replace(item, sha256=hashes.get(item.dest, item.sha256)) for item in record.data.files)
        if files != record.data.files:  # what nobody had read before is known now: whoever resumes gets these bytes or none
            record.data = replace(record.data, files=files)
            folder.save(record)
    if record.data.stored is not None:
        _stored(context, record, fetch, "data", record.data.stored, "input", lambda: datastore.of_data(record.data.files))
    if record.code is not None and record.code.stored is not None:
        _stored(context, record, fetch, "code", record.code.stored, "run/code", lambda: datastore.of_folder(folder.bundle / "code"))


def _stored(
    context: CommandContext, record: RunRecord, fetch: FetchTargets, what: str, digest: str, below: str,
    files: Callable[[], list[LocalSource]],
) -> None:  # fmt: skip
    """Fetch what an index in the run's bucket names; what is not there any more is sent once more, if it is still here."""
    store = store_of(context, record.bucket)
    if store is None:
        raise UserError(f"the {what} of {record.id} are in a bucket, and no keys of its store are set", hint="Put them into .env.")
    store = probed(store)
    try:
        fetch(what, store, dataset.pod_targets(index_of(store, digest)), below)
    except StoreError as error:
        if error.code not in _SENT_AGAIN:
            raise
        context.ui.warn(f"{error.message}\nIt is sent once more from this machine, if it is here.")
        try:
            datastore.send_again(context, store, files())
        except UserError:
            raise error from None
        fetch(what, store, dataset.pod_targets(index_of(store, digest)), below)


def _in_place(context: CommandContext, record: RunRecord, fetch: FetchTargets) -> Mapping[str, str]:
    """Fetch data from where they lie; what was overwritten since it was looked at is taken by its version, or refused."""
    store, files = record.bucket.store if record.bucket else None, record.data.files
    try:
        return fetch("data", *pod_targets(context, store, files), "input")
    except StoreError as error:
        if error.code not in ("412", "PreconditionFailed") or not all(item.version for item in files):
            raise
        context.ui.warn(f"{error.message}\nThe version that was looked at is taken.")
        return fetch("data", *pod_targets(context, store, files, versions=True), "input")


@dataclass(frozen=True, slots=True)
class _Fetch:
    """A pod that fetches for a run, told over SSH."""

    context: CommandContext
    record: RunRecord
    pod: ReachablePod
    transport: Transport

    def targets(self, what: str, store: StoreSettings | None, targets: Sequence[PodTarget], below: str) -> dict[str, str]:
        """Fetch files to a folder of the workspace and say how; return the sha256 of each."""
        began, ui, own = time.monotonic(), self.context.ui, self.record.bucket
        done = fetch_to_pod(
            store, self.transport, self.pod.path(*below.split("/")), targets, on_progress=datastore.transfer_lines(ui),
            volume=self.record.pod.volume_path if store and own and own.bucket == store.bucket else None,
        )  # fmt: skip
        took = f"{human_size(done.moved)} in {time.monotonic() - began:.1f} s, {_ROADS[done.road]}" if done.moved else "all of it was there"
        ui.say(f"           {what} from {store.url if store else 'the web'}: {took}")
        return done.sha256
