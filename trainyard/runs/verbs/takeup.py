"""A run that only its bucket knows, whose pod has gone: a record of it is made here, and the road of who comes back does the rest."""

from __future__ import annotations

from collections.abc import Iterator

from trainyard.config import stack_names
from trainyard.errors import CloudError, EngineError, RefusedError, StoreError, TrainyardError, UserError
from trainyard.runs.context import CommandContext
from trainyard.runs.records.foreign import take_over
from trainyard.runs.records.identity import RunId
from trainyard.runs.records.record import RunFolder, RunRecord
from trainyard.runs.records.summary import RunSummary
from trainyard.runs.verbs.atwork import AttemptAtWork, at_work, record_in
from trainyard.runs.verbs.fetch import bucket_of
from trainyard.runs.verbs.known import KnownRun, gave_up
from trainyard.runs.verbs.through import cancel_told, through
from trainyard.settings.user import user_name
from trainyard.storage import asked, markers
from trainyard.storage.client import StoreSettings
from trainyard.storage.manifest import ResultKey


def buckets(context: CommandContext) -> Iterator[StoreSettings]:
    """Yield the bucket of each stack of this repository, once; a stack without one, or without its keys here, is left out."""
    return (store for _, store in _buckets_of_stacks(context))


def _buckets_of_stacks(context: CommandContext) -> Iterator[tuple[str, StoreSettings]]:
    seen: set[str] = set()
    for stack in stack_names(context.places.root):
        try:
            store = bucket_of(context, stack)
        except (UserError, EngineError):
            continue
        if store.url not in seen:
            seen.add(store.url)
            yield stack, store


def take_up(context: CommandContext, store: StoreSettings, key: ResultKey, record: RunRecord | None = None) -> RunFolder | None:
    """Return the folder of a record that was made here of the bucket's; None where one is here, it is over, or its pod may be there."""
    folder = RunFolder(RunId(key.user, key.run, key.attempt).folder(context.places.runs))
    if folder.path.exists():
        return None
    if record is None and (body := asked.record(store, key)) is not None:
        record = record_in(body, key)
    if record is None or record.ended is not None or record.pod.pod_id is None or not _is_gone(context, record.pod.pod_id, record):
        return None
    folder.path.mkdir(parents=True)
    take_over(record)
    if not record.reached("started"):
        record.phase, record.starting = "started", True  # its pod has been and gone: whatever came of it, nothing is rented for it
    folder.save(record)
    return folder


def take_up_named(context: CommandContext, reference: str) -> RunFolder:
    """Return the folder of a run that a person means and that is not known here, made of what a bucket of this repository has.

    Raises UserError where no bucket knows it or it is over, RefusedError (3) where it may be at work elsewhere.
    """
    user, _, label = reference.strip("/").rpartition("/")
    for stack, store in _buckets_of_stacks(context) if user and "/" not in user else ():
        numbers = markers.attempts(store, user, label)
        if not numbers:
            continue
        key = ResultKey(user, label, numbers[-1])
        if (living := at_work(context, store, key)) is not None:
            raise RefusedError(str(living), hint=living.ways("attach"))
        if (folder := take_up(context, store, key)) is not None:
            return folder
        raise UserError(
            f"run {key} is over, or {store.url} holds no record of it", hint=f"See what there is: invoke results --stack {stack}"
        )
    raise UserError(f"no bucket of this repository's stacks knows '{reference}'")


def living_named(context: CommandContext, reference: str) -> AttemptAtWork | None:
    """Return the newest attempt of a run that a person means, where it may be at work and a bucket alone tells; None: none tells so."""
    user, _, label = reference.strip("/").rpartition("/")
    user = user or user_name(context.env)
    for _, store in _buckets_of_stacks(context) if "/" not in user else ():
        try:
            numbers = markers.attempts(store, user, label)
            living = at_work(context, store, ResultKey(user, label, numbers[-1])) if numbers else None
        except StoreError:
            continue  # whoever ends something waits for no store
        if living is not None:
            return living
    return None


def folder_of(context: CommandContext, known: KnownRun) -> RunFolder | None:
    """Return the folder by which the story of a run is finished here, None where there is nothing to finish, or nothing to do it with."""
    if known.folder is None:
        if known.standing != "over" or known.store is None:
            return None
        return take_up(context, known.store, known.key, known.record)
    return None if known.record is None or known.record.ended is not None else known.folder


def left_to_its_pod(context: CommandContext, folder: RunFolder) -> RunSummary:
    """Go on with a run as far as to a training that runs and needs nobody here, or to its end; raises what through() does.

    One that somebody has cancelled is brought to its end: who left the word may be gone.

    Raises KeyboardInterrupt where its start was told to go: the signal was for its caller as a whole; its teardown came first.
    """
    try:
        summary = through(context, folder, cancel_told(folder), detach=True)
    except TrainyardError as error:
        if isinstance(error.__context__, KeyboardInterrupt):  # the caller as a whole is to go; what becomes of this run is told
            context.ui.fail(str(error))
            raise error.__context__ from error
        raise
    if gave_up(folder.load()):
        raise KeyboardInterrupt
    return summary


def _is_gone(context: CommandContext, pod_id: str, record: RunRecord) -> bool:
    try:
        pod = context.cloud_of(record).get(pod_id)
        # A container whose command has ended has nothing more to do, and may cost money until somebody ends it.
        return pod is None or (record.container is not None and pod.status in ("exited", "error"))
    except (CloudError, UserError, StoreError):
        return False
