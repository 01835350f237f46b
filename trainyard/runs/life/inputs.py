"""What a pod fetches from buckets before its job starts. Nothing is started before all of it is there and proven."""

from __future__ import annotations

import time
from collections.abc import Callable

from trainyard.remote.protocol import Transport
from trainyard.runs.context import CommandContext
from trainyard.runs.planning.bucketdata import pod_targets
from trainyard.runs.records.pod import ReachablePod
from trainyard.runs.records.record import RunRecord
from trainyard.runs.ui import Ui
from trainyard.sizes import human_size
from trainyard.storage.deliver import OnProgress, Progress
from trainyard.storage.podfetch import fetch_to_pod

_LINE_EVERY = 10.0


def from_buckets(record: RunRecord) -> bool:
    """Tell whether anything of a run comes out of a bucket."""
    return record.data.kind == "s3"


def bring(context: CommandContext, record: RunRecord, pod: ReachablePod, transport: Transport) -> None:
    """Let the pod fetch the run's data; what is there is not fetched again."""
    store = record.bucket.store if record.bucket else None
    settings, targets = pod_targets(context, store, record.data.files)
    volume = record.pod.volume_path if record.bucket and record.bucket.bucket == settings.bucket else None
    began = time.monotonic()
    done = fetch_to_pod(settings, transport, pod.path("input"), targets, on_progress=lines(context.ui), volume=volume)
    how = {"store": "by the pod itself", "volume": "from the mounted bucket", "ssh": "over SSH"}[done.road]
    taken = f"{human_size(done.moved)} in {time.monotonic() - began:.1f} s" if done.moved else "nothing was left to fetch"
    context.ui.say(f"           data of {settings.url}: {taken}, {how}")


def lines(ui: Ui, now: Callable[[], float] = time.monotonic) -> OnProgress:
    """Return what tells of a long transfer every ten seconds."""
    last, before = now(), 0

    def tell(progress: Progress) -> None:
        nonlocal last, before
        if now() - last < _LINE_EVERY:
            return
        speed = (progress.done - before) / (now() - last)
        last, before = now(), progress.done
        ui.say(f"           {human_size(progress.done)} of {human_size(progress.total)}, {human_size(int(speed))}/s: {progress.text}")

    return tell
