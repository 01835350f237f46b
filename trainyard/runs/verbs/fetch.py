"""Bring a result home from the bucket of a stack, with or without a ledger on this machine."""

from __future__ import annotations

import contextlib
import shlex
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from trainyard.errors import StoreError, UserError
from trainyard.leases.environmentid import default_bucket, known_environment_id
from trainyard.runs.context import CommandContext
from trainyard.runs.records.identity import LAST
from trainyard.runs.records.record import RunRecord
from trainyard.runs.records.stores import store_of
from trainyard.runs.records.summary import place_of
from trainyard.runs.ui import Listener
from trainyard.settings import reader
from trainyard.settings.clouds import entry
from trainyard.settings.table import NO_BUCKET
from trainyard.settings.user import user_name
from trainyard.stacks import facade
from trainyard.storage.bucket import listing
from trainyard.storage.client import StoreSettings
from trainyard.storage.deliver import OnProgress, Progress
from trainyard.storage.download import Downloaded, download
from trainyard.storage.find import Listed, below_bucket, list_results, lone_commits
from trainyard.storage.inventory import split_key
from trainyard.storage.manifest import DAMAGED, ResultKey
from trainyard.storage.markers import ATTEMPTS, claim_of
from trainyard.storage.stores import store_settings

_SHOWN = 3
"""Of how many later attempts a person is told."""


def bucket_of(context: CommandContext, stack: str) -> StoreSettings:
    """Return the settings of a stack's bucket: from its outputs, else from its settings and the environment.

    Raises UserError when the stack has none.
    """
    outputs = facade.outputs(context.stack(stack))
    settings = reader.partly(context.places.root, stack, "store", "bucket", "env_id")
    kind = outputs.get("store") or settings.store
    name = outputs.get("bucket") or settings.bucket
    if name is None:  # no state here: the default name follows from the environment's id
        env_id = settings.env_id or known_environment_id(context.places, stack)
        name = None if env_id is None else default_bucket(env_id)
    store = None
    if name is not None:
        store = store_settings(context.env, None if kind is None else str(kind), str(name), context.places)
    if store is None:
        if name is None and kind in (None, "local") and reader.cloud_of(context.places.root, stack) == "local":
            raise UserError(f"stack '{stack}' has no bucket yet", hint=f"Its first run makes it, and so does: invoke up --stack {stack}")
        row = entry(reader.cloud_of(context.places.root, stack))
        raise _no_bucket(stack, str(outputs.get("bucket") or settings.bucket or NO_BUCKET), ssh=row is None or row.ssh)
    return store


def meant(context: CommandContext, reference: str, stack: str | None) -> str:
    """Return the name of the run that ``last`` stands for: begun here, else what the bucket has newest of this user's; others as they are.

    Raises UserError where there is none, and what asking a bucket raises.
    """
    named = context.named(reference, stack)
    if named != LAST:
        return named
    store, user = _of_stack(context, stack or "local")
    for item in sorted(listing(store, f"{ATTEMPTS}{user}/"), key=lambda item: item.modified, reverse=True):
        parts = split_key(item.key)
        claim = claim_of(store, parts[1]) if parts else None
        if parts and claim is not None and not claim.gone:  # a claim is written anew when a person deletes what it stands for
            return f"{parts[1].user}/{parts[1].run}"
    where = f"on stack '{stack}'" if stack else "here"
    raise UserError(f"no run was begun {where}, and {store.url} knows none of {user}", hint="See what there is: invoke runs")


def _no_bucket(stack: str, named: str, *, ssh: bool) -> UserError:
    """Return why nothing can be asked: no keys are set here of a bucket that has a name, or there is none."""
    keys = "AWS_*, R2_* or RUNPOD_S3_*"
    if named != NO_BUCKET:
        return UserError(
            f"the results of stack '{stack}' are in bucket '{named}', and no keys of its store are set here",
            hint=f"Put them into .env beside Pulumi.yaml, or export them: {keys}.",
        )
    when = f"the keys of a store are set ({keys}) and trainyard:bucket is not {NO_BUCKET}"
    so = "Its results come home over SSH, into out/<user>/<run>/." if ssh else "Its cloud has no SSH: without one nothing runs there."
    hint = f"{so} It has one when {when}."
    return UserError(f"stack '{stack}' has no bucket", hint=hint)


def _own(context: CommandContext, reference: str) -> tuple[StoreSettings, str] | None:
    """Return bucket and user of a run that is known here, None when it is not; raises UserError when it has no bucket."""
    try:
        folder = context.folder(reference)
        record = folder.load()
    except UserError:
        return None
    bucket = store_of(context, record.bucket)
    if bucket is None:
        here = record.result.local_path if record.result else None
        where = f"its result lies in {here}" if here else f"it has no result here (it is: {record.phase})"
        raise UserError(f"run {record.id} of stack '{record.environment}' has no bucket: {where}")
    if record.result is not None and record.result.owed:
        from trainyard.runs.life.finish import push_owed  # SSH's libraries take a fifth of a second, that few downloads need pay

        push_owed(context, folder)
    elif record.result is not None and record.result.s3_url is None and record.result.local_path:
        why = f"the result of {record.id} is not in its bucket ({record.result.road_why}): it lies in {record.result.local_path}"
        raise UserError(why, hint="Copy it from there; it is whole, with its manifest.")
    if record.result is None:
        _refuse_without(context, record, bucket)
    return bucket, record.user


def _refuse_without(context: CommandContext, record: RunRecord, bucket: StoreSettings) -> None:
    """Raise UserError for a run that has no result yet, or never will; an earlier attempt's is told and left to be taken."""
    over = record.reached("ended")
    state = "nothing of it was kept" if over else f"it is not over (it is: {record.phase}), and its result comes with its end"
    attempt = f"attempt {record.attempt} of {record.id}"
    there = [one for one in list_results(bucket, record.user) if one.key.run == record.label]
    if any(one.pod_committed for one in there):
        return None
    if there:
        return context.ui.warn(f"{attempt} has no result: {state}")
    next_ = f"See its log: invoke logs {record.id}" if over else f"Follow it: invoke attach {record.id}"
    raise UserError(f"{attempt} has no result: {state}", hint=next_)


@contextmanager
def damage_told(store: StoreSettings, stack: str) -> Iterator[None]:
    """Add to the error of a damaged result what a person can do about it."""
    try:
        yield
    except StoreError as error:
        if error.code == DAMAGED and "result" in error.facts:
            user, run, number = str(error.facts["result"]).split("/")
            steps = next_steps(store, stack, ResultKey(user, run, int(number)))
            error.hint = "\n".join([*([error.hint] if error.hint else []), *steps])
        raise


def next_steps(store: StoreSettings, stack: str, key: ResultKey) -> list[str]:
    """Return what can be done about a damaged result: look at all of it, take the newest other success of its run."""
    at = [] if stack == "local" else ["--stack", stack]
    lines = [f"What of it is damaged: {shlex.join(['invoke', 'results.verify', str(key), '--deep', *at])}"]
    others: list[Listed] = []
    with contextlib.suppress(StoreError):  # this only adds to what is told anyway
        others = list_results(store, key.user, key.run)
    if whole := [one.key for one in others if one.committed and one.key != key]:
        other = max(whole, key=lambda one: one.attempt)
        words = ["invoke", "download", str(other), place_of(other.run, other.attempt), *at]
        lines.append(f"Attempt {other.attempt} is a success, too: {shlex.join(words)}")
    return lines


def _stack_of(context: CommandContext, reference: str) -> str:
    """Return the stack of a run that is known here, else the one that is asked where none is named."""
    try:
        return context.folder(reference).load().environment
    except UserError:
        return "local"


def _of_stack(context: CommandContext, stack: str) -> tuple[StoreSettings, str]:
    user = user_name(context.env, reader.partly(context.places.root, stack, "user").user)
    return bucket_of(context, stack), user


def fetch(
    context: CommandContext, stack: str | None, reference: str, dest: Path, *, partial: bool = False, whole: bool = False
) -> Downloaded:
    """Fetch a result into a folder; without ``stack`` the run's own record says where it lies. Raises what download() does."""
    reference = meant(context, reference, stack)
    own = _own(context, reference) if stack is None else None
    bucket, user = own or _of_stack(context, stack or "local")
    names = below_bucket(bucket, reference).strip("/").split("/")
    # <run>, <user>/<run>[/...], models/<user>/<run>[/...]
    run = names[min(len(names) - 1, 2 if names[0] == "models" else 1)]
    if lone := lone_commits(bucket, run):
        from trainyard.runs.life import alone

        alone.seal_all(context, bucket, lone)
    with damage_told(bucket, stack or _stack_of(context, reference)):
        got = download(bucket, reference, dest, user=user, uncommitted=partial, whole=whole, on_progress=progress_of(context))
    return replace(got, claim=claim_of(bucket, got.key))


def tell(ui: Listener, got: Downloaded, stack: str | None) -> None:
    """Say what was fetched, what was proved of it, and what else there is."""
    proved = (
        f"sha256 of every file proved against manifest {got.manifest_sha256[:12]}" if got.manifest_sha256 else "NOT proved: not committed"
    )
    ui.say(f"taken      attempt {got.key.attempt} of {got.key.user}/{got.key.run}" + (f", {got.claim}" if got.claim else ""))
    ui.say(f"{got.dest}: {got.files} files, {got.bytes:,} bytes of {got.key} ({got.reused} were here already); {proved}")
    if got.ending:
        ui.warn(str(got.ending))
    for one in got.newer[-_SHOWN:]:
        ui.warn(_newer(one, got.dest, stack))
    if got.beside:
        ui.say(f"beside the model, not fetched (--whole takes them, too): {', '.join(got.beside)}")


def progress_of(context: CommandContext) -> OnProgress:
    """Return what tells a person how far a download is, every tenth."""
    last = 0.0

    def show(progress: Progress) -> None:
        nonlocal last
        if progress.text:
            context.ui.say(f"download   {progress.text}")
        share = progress.done / progress.total if progress.total else 1.0
        if share - last >= 0.1:
            last = share
            context.ui.say(f"download   {share:4.0%} of {progress.total:,} bytes")

    return show


def _newer(one: Listed, dest: Path, stack: str | None) -> str:
    """Return what is said of a later attempt than the one that was taken, with the command that takes it."""
    key = one.key
    what = "is no success; what was kept of it" if one.kept else "is not committed (at work, or cut off); what there is of it"
    place = dest.with_name(f"{dest.name}.{key.attempt}") if dest.name not in ("", "..") else dest / str(key.attempt)
    words = ["invoke", "download", f"{key.user}/{key.run}/{key.attempt}", str(place), *(["--stack", stack] if stack else [])]
    return f"attempt {key.attempt} is newer and {what}: {shlex.join([*words, *([] if one.kept else ['--partial'])])}"
