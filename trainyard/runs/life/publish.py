"""Tell the run's bucket what was asked of it and how it stands, so that another machine can go on from it.

Whatever goes wrong here is said, and costs nobody a training. What speaks S3 is imported in the thread that does.
"""

from __future__ import annotations

import json
import threading
from dataclasses import replace

from trainyard.errors import TrainyardError
from trainyard.runs.context import CommandContext
from trainyard.runs.records.record import RunFolder, RunRecord, as_json


def publish(
    context: CommandContext, record: RunRecord, folder: RunFolder, after: threading.Thread | None = None, *, bundle: bool = False
) -> threading.Thread:
    """Write the record as it is now, and the first time the bundle, in a thread that is returned: a pod may cost money meanwhile."""
    body = _body(record)

    def work() -> None:
        if after is not None:
            after.join()
        _write(context, record, folder, body, bundle=bundle)

    thread = threading.Thread(target=work, name="publish", daemon=True)
    thread.start()
    return thread


def publish_now(context: CommandContext, record: RunRecord, folder: RunFolder) -> None:
    """Write how the attempt stands, and return when that is done."""
    _write(context, record, folder, _body(record), bundle=False)


def newest_checkpoint(context: CommandContext, record: RunRecord) -> str | None:
    """Return the name of the newest checkpoint that an ended attempt can be gone on from; None for none, or where nobody tells."""
    from trainyard.runs.records.stores import store_of
    from trainyard.storage import checkpoints

    kept = record.result.kept if record.result else None
    if kept is not None and kept.checkpoints:
        return kept.checkpoints[0].rpartition("/")[2]
    try:
        settings = store_of(context, record.bucket)
        places = checkpoints.places(settings, record.user, record.label) if settings and record.begun else []
    except (OSError, TrainyardError) as error:
        context.ui.warn(f"which checkpoints {record.id} has cannot be asked: {error}")
        return None
    return next((place.name for place in places if place.key.attempt <= record.attempt), None)


def _body(record: RunRecord) -> bytes:
    return json.dumps(as_json(record), indent=1).encode()


def _write(context: CommandContext, record: RunRecord, folder: RunFolder, body: bytes, *, bundle: bool) -> None:
    from trainyard.runs.records.stores import store_of
    from trainyard.storage import asked
    from trainyard.storage.manifest import ResultKey

    where = ResultKey(record.user, record.label, record.attempt)
    try:
        settings = store_of(context, record.bucket)
        if settings is None:
            return
        if bundle and folder.bundle.is_dir():
            asked.put_bundle(settings, where, folder.bundle)
            if folder.snapshot.is_dir():
                asked.put_snapshot(settings, where, folder.snapshot)
            if record.data.kind in ("file", "folder") and record.data.stored is None:
                body = _with_data(context, record)
        asked.put_record(settings, where, body)
    except (OSError, TrainyardError) as error:
        context.ui.warn(f"what {record.id} is could not be told to its bucket, so only this machine can resume it: {error}")


def _with_data(context: CommandContext, record: RunRecord) -> bytes:
    """Bring little data, which the pod gets over SSH, into the bucket, too, and return the record that says so."""
    from trainyard.runs.planning import datastore

    store = datastore.store_for(context, record.bucket, context.settings(record.environment), context.cloud_of(record))
    if store is not None:
        record.data = replace(record.data, in_bucket=datastore.bring_quietly(store, datastore.of_data(record.data.files)))
    return _body(record)
