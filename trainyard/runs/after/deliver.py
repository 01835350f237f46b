"""Bring a result to where a person wants it after a run: a folder of this machine, or the Hugging Face Hub.

`invoke deliver` does it at once; a run with ``--deliver`` starts the same command in a process of its own when its pod is gone
(life/delivering.py). What becomes of it changes nothing of the run.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from trainyard.errors import StoreError, TrainyardError, UserError
from trainyard.runs.after.cardfacts import base_of, licence_of
from trainyard.runs.after.tohub import HubWish, send, staged
from trainyard.runs.context import CommandContext
from trainyard.runs.life.roads import is_owed
from trainyard.runs.planning.deliverymeans import need_means
from trainyard.runs.records.acts import record_act
from trainyard.runs.records.delivery import FORMS, DeliveryTarget, delivering, now_state, target_of, write_state
from trainyard.runs.records.record import RunFolder, RunRecord
from trainyard.runs.records.stores import store_of
from trainyard.runs.records.summary import place_of, write_summary
from trainyard.runs.verbs.fetch import bucket_of, damage_told, meant, progress_of
from trainyard.runs.verbs.past import SeenAttempt, seen
from trainyard.runs.verbs.results import chosen_result
from trainyard.storage.client import StoreSettings
from trainyard.storage.download import download
from trainyard.storage.manifest import ResultKey


def deliver(context: CommandContext, reference: str, to: str | None, stack: str | None) -> int:
    """Deliver a result to ``to``, else where its run was told to; return 0. Safe to call again: it goes on where it was.

    Raises UserError, StoreError or DiskFull; what is known of the run here tells it, too.
    """
    reference = meant(context, reference, stack)
    known = _known(context, reference) if stack is None else None
    said = to or (known[1].deliver if known else None)
    if said is None:
        raise UserError(f"where shall {reference} go?", hint=f"Say --to: {FORMS}.")
    target = target_of(said, Path.cwd())
    need_means(context.env, target)
    if known is None:
        stack = stack or "local"
        store = bucket_of(context, stack)
        key = chosen_result(context, store, stack, reference).key
        record_act(context, "deliver", str(key), to=said)
        _say_done(context, _carry(context, stack, store, key, None, target))
        return 0
    folder, record = known
    with delivering(folder), _noted(context, folder, record, target) as done:
        key = ResultKey(record.user, record.label, record.attempt)
        record_act(context, "deliver", str(key), to=said)
        done.append(_carry(context, record.environment, store_of(context, record.bucket), key, record, target))
    _say_done(context, done[0])
    return 0


def _known(context: CommandContext, reference: str) -> tuple[RunFolder, RunRecord] | None:
    try:
        folder = context.folder(reference)
        return folder, folder.load()
    except UserError:
        return None


def _say_done(context: CommandContext, where: str) -> None:
    context.ui.say(f"delivered to {where}")


@contextmanager
def _noted(context: CommandContext, folder: RunFolder, record: RunRecord, target: DeliveryTarget) -> Iterator[list[str]]:
    """Note in the run's folder what becomes of a delivery."""
    from trainyard.runs.records.home import bring_home

    done: list[str] = []
    write_state(folder, now_state(target, "begun"))
    try:
        yield done
    except TrainyardError as error:
        write_state(folder, now_state(target, "failed", error=error.message))
        raise
    else:
        write_state(folder, now_state(target, "done", where=done[0]))
    finally:
        with contextlib.suppress(OSError, TrainyardError):  # the summary tells it, too, where it can be written
            write_summary(record, folder)
            bring_home(context, record, folder)


def _carry(
    context: CommandContext, stack: str, store: StoreSettings | None, key: ResultKey, record: RunRecord | None, target: DeliveryTarget
) -> str:
    """Deliver and return where it is now."""
    home = at_home(record)
    if home is None and store is None:
        raise UserError(f"the result of {key} is in no bucket and not at home: there is nothing to deliver")
    if target.kind == "local":
        if home is not None:
            return f"{home} (it came home over SSH)"
        assert store is not None
        dest = Path(target.place or place_of(key.run, key.attempt))
        with damage_told(store, stack):
            got = download(store, str(key), dest if dest.is_absolute() else context.places.root / dest, on_progress=progress_of(context))
        context.ui.say(f"{got.files} files, {got.bytes:,} bytes ({got.reused} were here already), sha256 of each proved")
        return str(got.dest)
    if record is not None and not record.training_success:
        raise UserError(f"{key} does not go to the Hub: it is no success", hint=f"To this machine: invoke deliver {key} --to local")
    with staged(context, stack, store, key, home) as result, ExitStack() as opened:
        attempt = _attempt(context, key, stack, opened)
        licence, _ = licence_of(context, base_of(attempt.record if attempt else None), None)
        done = send(context, result, attempt, HubWish(repo=target.place, licence=licence))
        return f"{done.url} (revision {done.revision[:12]})"


def _attempt(context: CommandContext, key: ResultKey, stack: str, opened: ExitStack) -> SeenAttempt | None:
    """Return what is known of an attempt, None where neither this machine nor its bucket knows more than its files."""
    with contextlib.suppress(UserError, StoreError):
        return opened.enter_context(seen(context, str(key), stack))
    return None


def at_home(record: RunRecord | None) -> Path | None:
    """Return where a result lies that came home over SSH and is in no bucket, None for others."""
    if record is None or record.result is None or record.result.local_path is None:
        return None
    if is_owed(record) or record.result.s3_url is None:
        return Path(record.result.local_path)
    return None
