"""`invoke store.delete`: the only way to remove a result, all of a run, or data from a stack's bucket."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence

from trainyard.clock import format_time
from trainyard.config import attempt_number
from trainyard.errors import RefusedError, StoreError, TrainyardError, UserError, in_short
from trainyard.ledger.rows import RESULT_DELETED
from trainyard.pod.files import printable
from trainyard.runs.context import CommandContext
from trainyard.runs.life.roads import is_owed
from trainyard.runs.records.acts import record_act
from trainyard.runs.records.identity import RunId
from trainyard.runs.records.needs import needed_of
from trainyard.runs.records.record import RunFolder, all_folders
from trainyard.runs.verbs.fetch import bucket_of
from trainyard.runs.verbs.results import stored_attempts
from trainyard.sizes import human_size
from trainyard.storage import deletion
from trainyard.storage.client import StoreSettings
from trainyard.storage.datasend import index_of
from trainyard.storage.deletion import Deletion
from trainyard.storage.find import below_bucket
from trainyard.storage.inventory import StoredAttempt, split_key
from trainyard.storage.manifest import CHECKPOINTS, LOGS, MODELS, ResultKey
from trainyard.storage.markers import ATTEMPTS
from trainyard.storage.sweeper import LONG_AGO
from trainyard.storage.versions import keeps_versions

_DATA = "data/"
_NOTHING = "nothing was deleted"
_OVER = ("success", "kept", "deleted")


def delete(context: CommandContext, stack: str, reference: str, *, dry_run: bool, yes: bool) -> int:
    """Delete what a reference names, having shown it; return 0, or 7 when something of it stays.

    Raises RefusedError for a run that may be at work, and when a person has not typed the name.
    """
    store = bucket_of(context, stack)
    name, parts = _parts(context, store, stack, reference)
    _refuse_used(context, store, parts)
    if not parts:
        context.ui.say(f"{store.url}: {name} is deleted already")
        return 0
    context.ui.say("\n".join([f"{store.url}: to be deleted for good", *_lines(parts)]))
    if dry_run:
        return 0
    if not yes and context.ui.answer_to(f"Type {name} to delete it: ") != name:
        raise RefusedError(_NOTHING, hint="Type the name as it is shown, at a terminal, or say --yes; --dry-run only looks")
    record_act(context, "delete", name, stack=stack, bucket=store.url)
    left = [line for part in parts for line in deletion.delete(store, part, format_time(time.time()))]
    for line in left:
        context.ui.fail(f"stays: {line}")
    if left:
        context.ui.fail("The same command goes on with it.")
        return StoreError.exit_code
    if keeps_versions(store) is None:
        context.ui.warn("this key may not ask whether the bucket keeps versions (s3:GetBucketVersioning): older ones may stay, and cost")
    claims = [part.attempt.key for part in parts if part.attempt]
    _note(context, claims)
    context.ui.say(f"deleted: {name}" + ("; its claim stays, so that its number is never used again" if claims else ""))
    return 0


def _note(context: CommandContext, attempts: Sequence[ResultKey]) -> None:
    """Have ``invoke runs`` say it; the bucket tells the truth to whoever asks it, with or without a ledger."""
    try:
        for key in attempts:
            context.ledger().add(RunId(key.user, key.run, key.attempt), RESULT_DELETED)
    except (OSError, TrainyardError) as error:
        context.ui.warn(f"invoke runs goes on showing it: {in_short(error)}")


def _parts(context: CommandContext, store: StoreSettings, stack: str, reference: str) -> tuple[str, Sequence[Deletion]]:
    """Return the name to be typed, and what goes."""
    text = below_bucket(store, reference).strip("/")
    root = text.partition("/")[0] + "/"
    inside = split_key(text)
    if root in (LOGS, CHECKPOINTS) or (root == _DATA and text + "/" != _DATA):
        if root != _DATA and inside is None:
            raise UserError(f"'{reference}' is not those of one attempt", hint=f"Write {root}<user>/<run>/<attempt>")
        part = deletion.below(store, text)
        if not part.versions and not part.uploads:
            raise UserError(f"there is no {text} in {store.url}")
        if inside:
            _refuse_living(context, stored_attempts(context, store, stack, str(inside[1])))
        return text, [part, *(deletion.below(store, key) for key in _chunks(store, text))]
    words = text.removeprefix(MODELS).removeprefix(ATTEMPTS).split("/")
    if len(words) > 3 or (len(words) == 3 and attempt_number(words[2]) is None):
        raise UserError(
            f"'{reference}' is not all of an attempt", hint="A result is deleted as a whole: <user>/<run>/<attempt>, or <user>/<run>"
        )
    attempts = stored_attempts(context, store, stack, text)
    _refuse_living(context, attempts)
    context.ui.say(f"{store.url}: listing all versions and open uploads of {', '.join(str(one.key) for one in attempts)}")
    parts = [deletion.of_attempt(store, one) for one in attempts]
    name = f"{attempts[0].key.user}/{attempts[0].key.run}"
    return (str(attempts[0].key) if len(words) == 3 else name), [part for part in parts if not _is_gone(part)]


def _is_gone(part: Deletion) -> bool:
    return not part.versions and not part.uploads and part.attempt is not None and part.attempt.kind == "deleted"


def _lines(parts: Sequence[Deletion]) -> Iterator[str]:
    for part in parts:
        old = f", {part.old} of them old versions" if part.old else ""
        kind = f"  {part.attempt.kind}" if part.attempt else ""
        yield f"  {printable(part.what)}{kind}  {human_size(part.bytes)}  {len(part.versions)} objects{old}"
        if part.attempt and part.attempt.claim:
            yield f"    {part.attempt.claim}"
        if part.uploads:
            yield f"    and {len(part.uploads)} open uploads"
    yield f"  in all {human_size(sum(part.bytes for part in parts))}"


def _refuse_living(context: CommandContext, attempts: Sequence[StoredAttempt]) -> None:
    """Raise RefusedError when an attempt may be at work: by its record here, else by its claim."""
    for one in attempts:
        folder = RunFolder(RunId(one.key.user, one.key.run, one.key.attempt).folder(context.places.runs))
        record = folder.load() if folder.path.is_dir() else None
        if record is not None and (one.claim is None or record.token == one.claim.token):
            if not record.reached("ended"):
                raise RefusedError(
                    f"{one.key} is not over ({record.phase}); nothing was deleted", hint=f"End it: invoke cancel {record.id}"
                )
            if is_owed(record):
                raise RefusedError(
                    f"the result of {one.key} is still owed to the bucket; nothing was deleted", hint="First: invoke recover"
                )
        elif one.kind not in _OVER and max(one.when, one.newest) > time.time() - LONG_AGO:
            whose = str(one.claim) if one.claim else f"written to on {format_time(one.newest)}"
            until = format_time(max(one.when, one.newest) + LONG_AGO)
            raise RefusedError(
                f"{one.key} ({one.kind}, {whose}) may be at work; {_NOTHING}",
                hint=f"End it where it was started; without that machine it can be deleted after {until}, when any lease is over.",
            )


def _chunks(store: StoreSettings, text: str) -> list[str]:
    """Return the keys of the chunks that go with an index of data; none for anything else."""
    if not text.startswith(_DATA) or "/" in text.removeprefix(_DATA):
        return []
    try:
        return list(dict.fromkeys(chunk.key for chunk in index_of(store, text.removeprefix(_DATA)).chunks))
    except StoreError:
        return []


def _refuse_used(context: CommandContext, store: StoreSettings, parts: Sequence[Deletion]) -> None:
    """Raise RefusedError when a run of this repository that is not over needs any of what would be deleted."""
    keys = {version.key for part in parts for version in part.versions}
    for folder in all_folders(context.places.runs) if keys else ():
        record = folder.load()
        if used := needed_of(record, store, keys):
            raise RefusedError(
                f"{record.id} is not over and needs {printable(used)}; {_NOTHING}", hint=f"End it: invoke cancel {record.id}"
            )
