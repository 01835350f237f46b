"""Leave with a run's pod what it needs to commit alone, should no controller come back; see pod/alone.py and storage/podplan.py."""

from __future__ import annotations

import contextlib
import json
import secrets
import threading
import time
import zlib
from collections.abc import Iterable, Mapping
from typing import Any

from trainyard.clock import parse_time
from trainyard.errors import PodFailed, StoreError, TrainyardError
from trainyard.files import write_new
from trainyard.jsontext import parse_json
from trainyard.pod.podprogram import pod_program
from trainyard.recipes.declaration import Declaration
from trainyard.remote.protocol import Transport
from trainyard.runs.context import CommandContext
from trainyard.runs.life.judge import declared_anywhere
from trainyard.runs.records.pod import ReachablePod, pod_of
from trainyard.runs.records.record import RunFolder, RunRecord
from trainyard.runs.records.stores import store_of
from trainyard.storage.client import StoreSettings
from trainyard.storage.commit import Committed, default_logs
from trainyard.storage.deliver import Progress
from trainyard.storage.manifest import ResultKey
from trainyard.storage.podcommit import seal_pod_commit
from trainyard.storage.podorders import NO_PYTHON
from trainyard.storage.podplan import PodOrder, open_plan, secret_of
from trainyard.storage.signing import LONGEST
from trainyard.storage.stores import can_sign

AGAIN = 60.0
"""Seconds until a plan that did not reach the pod is sent once more."""
_SLACK = 5.0
"""A plan whose URLs die so shortly (s) before the end of the lease is as good as another: they live whole seconds."""
_NO_LISTENER = 3


class LonePlan:
    """The plan of one run on its pod: sent by a thread when a training runs, and again when it would die before the lease."""

    def __init__(self, context: CommandContext, record: RunRecord, folder: RunFolder, pod: ReachablePod) -> None:
        self.context, self.record, self.folder, self.pod = context, record, folder, pod
        self.thread: threading.Thread | None = None
        # A pod that reaches no store commits nothing alone.
        self.due = 0.0 if record.commit_alone_minutes and record.bucket and pod.sender is None else None
        self.warned = self.unsaved = self.sent = False
        self.sent_for = record.pod.end

    def tick(self) -> None:
        """Send the plan when it is due; a training never waits for it."""
        if self.unsaved:
            self.unsaved = False
            self.folder.save(self.record)
        if self.thread is not None and self.thread.is_alive():
            return
        if self.sent and self.record.pod.end != self.sent_for:
            self.due = 0.0  # the lease was moved
        if self.due is None or time.time() < self.due:
            return
        self.due = time.time() + AGAIN
        self.thread = threading.Thread(target=self._send, daemon=True)
        self.thread.start()

    def _send(self) -> None:
        try:
            settings = store_of(self.context, self.record.bucket)
            if settings is None or can_sign(settings) is not None:
                self.due = None
                return
            self.sent_for = self.record.pod.end
            with self.pod.connect() as transport:
                until = leave_plan(settings, self.record, self.folder, self.pod, transport)
        except PodFailed as error:
            self.due = None
            why = f"the pod cannot commit alone: {error.message}"
            self.context.ui.warn(f"{why}. What it leaves waits for somebody to come back, no longer than its lease")
            return
        except (OSError, TrainyardError) as error:
            if not self.warned:
                self.warned = True
                self.context.ui.warn(f"the pod has no plan yet to commit alone with: {error}")
            return
        end = parse_time(self.sent_for)
        # Half of their life before the URLs die they are renewed.
        self.due = None if end is not None and until >= end.timestamp() - _SLACK else time.time() + max(AGAIN, (until - time.time()) / 2)
        self.sent, self.unsaved = True, not self.record.commits_alone
        self.record.commits_alone = True


def leave_plan(settings: StoreSettings, record: RunRecord, folder: RunFolder, pod: ReachablePod, transport: Transport) -> float:
    """Leave a plan with the pod's watchdog unless it holds one that is good to the end; return until when its URLs live (epoch).

    Raises PodFailed when it takes none, StoreError or Unreachable for trouble that may pass.
    """
    where = ResultKey(record.user, record.label, record.attempt)
    secret = {"secret": secret_for(settings, record, folder)}
    held = _tell(transport, pod, secret)
    end = parse_time(record.pod.end)
    last = end.timestamp() if end is not None else None
    until = held.get("until")
    if isinstance(until, (int, float)) and last is not None and until >= last - _SLACK:
        return float(until)
    order = order_for(where, secret["secret"], record, pod, declared_anywhere(folder, record, pod, transport))
    # Beyond a week URLs are renewed on the way, and a bucket's rule may abort an upload of that age.
    upload = held.get("upload") if last is not None and last - time.time() < LONGEST else None
    plan, good = open_plan(settings, order, last, int(held.get("disk") or 0), str(upload) if upload else None)
    _tell(transport, pod, {**secret, "plan": plan, "until": good})
    return good


def hand_over(context: CommandContext, record: RunRecord, folder: RunFolder) -> bool:
    """Give a run's pod now what it commits alone with; False where its bucket, or the lack of one, allows no plan.

    Raises what leave_plan() does.
    """
    settings = store_of(context, record.bucket) if record.commit_alone_minutes else None
    if settings is None or can_sign(settings) is not None:
        return False
    pod = pod_of(context, record)
    if pod.sender is not None:
        return False
    with pod.connect() as transport:
        leave_plan(settings, record, folder, pod, transport)
    return True


def renew(context: CommandContext, record: RunRecord, folder: RunFolder) -> None:
    """Renew the plan of a run that nobody drives, after its lease was moved; trouble is told: the pod goes on with the plan it has."""
    if not record.commits_alone:
        return
    try:
        settings, pod = store_of(context, record.bucket), pod_of(context, record)
        if settings is not None:
            with pod.connect() as transport:
                leave_plan(settings, record, folder, pod, transport)
    except (OSError, TrainyardError) as error:
        context.ui.warn(f"what the pod commits alone with is not good for the longer lease yet: {error}\nAgain: invoke attach {record.id}")


def claim(context: CommandContext, record: RunRecord, folder: RunFolder, pod: ReachablePod, transport: Transport) -> None:
    """Make the run's secret the first that the watchdog hears, before anything of the training runs.

    That it is not the first, or that there is no such watchdog, is told when the plan is sent.
    """
    with contextlib.suppress(OSError, TrainyardError):
        settings = store_of(context, record.bucket) if record.commit_alone_minutes else None
        if settings is not None and can_sign(settings) is None:
            _tell(transport, pod, {"secret": secret_for(settings, record, folder)})


def seal(context: CommandContext, settings: StoreSettings, where: ResultKey, token: str | None) -> Committed | None:
    """Make a result of what an attempt's pod has committed alone; None where it has not. Raises StoreError for what cannot be trusted."""
    shown, one_at_a_time = "", threading.Lock()

    def show(progress: Progress) -> None:
        nonlocal shown
        with one_at_a_time:  # several threads send
            if progress.text and progress.text != shown:
                if not shown:
                    context.ui.say(f"seal       {where}: its pod has committed it alone; the first machine with the bucket seals it")
                shown = progress.text
                context.ui.say(f"           {progress.text}")

    return seal_pod_commit(settings, where, token, on_progress=show)


def seal_all(context: CommandContext, settings: StoreSettings, attempts: Iterable[ResultKey]) -> int:
    """Seal attempts that the bucket shows as committed by their pods alone, and return how many were.

    What cannot be trusted is told, and keeps no other from it.
    """
    sealed = 0
    for where in attempts:
        try:
            done = seal(context, settings, where, None)
        except StoreError as error:
            context.ui.warn(str(error))
            continue
        if done is not None:
            sealed += 1
            what = "kept (no success)" if done.ending else "committed"
            context.ui.say(f"sealed     {where}: {what}, {done.files} files, {done.bytes:,} bytes in {done.s3_url}")
    return sealed


def secret_for(settings: StoreSettings, record: RunRecord, folder: RunFolder) -> str:
    """Return the secret of a run's plan. Keys of a session are others tomorrow: then one is drawn, and lies in the run's folder."""
    if settings.session_token is None:
        return secret_of(settings, ResultKey(record.user, record.label, record.attempt), record.token)
    path = folder.path / "lone-secret"
    if not path.exists():
        write_new(path, secrets.token_hex(32), durable=True, mode=0o600)
    return path.read_text(encoding="ascii")


def order_for(where: ResultKey, secret: str, record: RunRecord, pod: ReachablePod, said: Declaration) -> PodOrder:
    """Return what a run's pod is to commit, by the rules of its recipe."""
    output = pod.path("output")
    return PodOrder(
        where, record.token, secret, output, said.outputs, said.excludes, said.checkpoints, said.checkpoint_mark, said.exit_codes,
        said.stopped, default_logs(output), 60 * record.commit_alone_minutes,
    )  # fmt: skip


def _tell(transport: Transport, pod: ReachablePod, message: Mapping[str, Any]) -> Mapping[str, Any]:
    program = pod_program("tell")
    command = program.command(pod.lease_id, pod.id, options="-I -S")
    done = transport.exec(command, program.source + zlib.compress(json.dumps(message).encode(), 6), timeout=60)
    if done.rc in (_NO_LISTENER, NO_PYTHON):
        raise PodFailed("it has no python3" if done.rc == NO_PYTHON else "its watchdog takes no plan")
    try:
        said = parse_json(done.stdout)
    except ValueError:
        said = None
    if not isinstance(said, dict):
        raise PodFailed(f"its watchdog answered {done.stdout[:80]!r} ({done.error_text})")
    if said.get("error") == "another":
        raise PodFailed("its watchdog holds the secret of another controller, or of something on the pod")
    if "error" in said:
        raise PodFailed(f"its watchdog refused: {said['error']}")
    return said
