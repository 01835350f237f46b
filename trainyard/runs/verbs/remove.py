"""`invoke remove`: the record and the ledger's row of a run that has ended; its result only where a person says so."""

from __future__ import annotations

import contextlib
import shutil
import uuid

from trainyard.errors import RefusedError, UserError
from trainyard.runs.context import CommandContext
from trainyard.runs.life.roads import is_owed
from trainyard.runs.records.acts import record_act
from trainyard.runs.records.delivery import is_under_way
from trainyard.runs.records.mirror import beside
from trainyard.runs.records.notes import note_removed
from trainyard.runs.records.record import RunFolder, RunRecord
from trainyard.runs.verbs.delete import delete

_ASIDE = "removed-"


def remove(context: CommandContext, reference: str, *, result: bool, yes: bool) -> int:
    """Remove what is known here of an attempt that has ended; return 0, or 7 when something of its result stays.

    Raises RefusedError when it has not ended, its result is only here or on its way, or the name was not typed.
    """
    folder = context.folder(reference)
    with folder.driving():
        record = folder.load()
        _refuse(record, folder)
        if result and (code := _remove_result(context, record, yes=yes)):
            return code
        with beside(context, record):  # the machines that share its bucket learn of it, too
            note_removed(context, record)
            record_act(context, "remove", _name(record), of=record.environment)
        _forget(context, folder)
    context.ui.say(f"removed: the record of {_name(record)}; what it has cost still counts towards limits")
    _say_what_stays(context, record, result=result)
    return 0


def _refuse(record: RunRecord, folder: RunFolder) -> None:
    nothing = "nothing was removed"
    if not record.reached("ended"):
        raise RefusedError(f"{_name(record)} is not over ({record.phase}); {nothing}", hint=f"End it: invoke cancel {record.id}")
    if is_owed(record):
        raise RefusedError(f"the result of {_name(record)} is still owed to its bucket; {nothing}", hint="First: invoke recover")
    if is_under_way(folder):
        raise RefusedError(f"the result of {_name(record)} is being delivered; {nothing}", hint="Try again when it has arrived.")


def _remove_result(context: CommandContext, record: RunRecord, *, yes: bool) -> int:
    """Delete its result from its bucket, the name typed; one that came home is a folder of the person's own."""
    if record.bucket is None:
        where = record.result.local_path if record.result else None
        raise UserError(
            f"{_name(record)} has no bucket; nothing was removed",
            hint=f"Its result is the folder {where}: remove that yourself, and the record without --result." if where else None,
        )
    return delete(context, record.environment, _name(record), dry_run=False, yes=yes)


def _forget(context: CommandContext, folder: RunFolder) -> None:
    """Remove the folder, which is out of the way in one step: what is cut off in here leaves no half run."""
    home = context.places.home
    aside = home / f"{_ASIDE}{uuid.uuid4().hex}"
    folder.path.rename(aside)
    with contextlib.suppress(OSError):
        folder.path.parent.rmdir()  # when it was the run's only attempt
    for left in home.glob(f"{_ASIDE}*"):
        shutil.rmtree(left, ignore_errors=True)


def _say_what_stays(context: CommandContext, record: RunRecord, *, result: bool) -> None:
    home = record.id.home(context.places.root / "out")
    if home.is_dir():
        context.ui.say(f"its files at home stay: {home}")
    url = record.result.s3_url if record.result else None
    if url and not result:
        context.ui.say(f"its result stays: {url}; to remove that, too: invoke store.delete {_name(record)} --stack {record.environment}")


def _name(record: RunRecord) -> str:
    return f"{record.id}/{record.attempt}"
