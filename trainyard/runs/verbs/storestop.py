"""Stop the local S3 server, and say which runs need it: their pods and controllers cannot reach the bucket until it is there again."""

from __future__ import annotations

from collections.abc import Iterator

from trainyard.errors import UserError
from trainyard.runs.context import CommandContext
from trainyard.runs.records.record import RunRecord, all_folders
from trainyard.storage import local

_NAMED = 3


def stop(context: CommandContext) -> bool:
    """Stop the server; return False when it did not run. It serves every repository of this user: only this one's runs are known."""
    needed = [f"{record.id}/{record.attempt}" for record in _needing(context)]
    stopped = local.stop(context.places)
    if stopped and needed:
        more = f" and {len(needed) - _NAMED} more" if len(needed) > _NAMED else ""
        context.ui.warn(
            f"not over, and without their bucket now: {', '.join(needed[:_NAMED])}{more}\n"
            "Start it again: invoke store.start; so does each command that needs it"
        )
    return stopped


def _needing(context: CommandContext) -> Iterator[RunRecord]:
    """Yield the runs of this repository that have something to bring to the server yet."""
    for folder in all_folders(context.places.runs):
        try:
            record = folder.load()
        except UserError:
            continue  # what it needs cannot be told; whoever reads its record says so
        owed = record.result is not None and record.result.owed
        if record.bucket is not None and record.bucket.store == "local" and (owed or not record.reached("ended")):
            yield record
