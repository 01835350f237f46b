"""Beside a training that runs: what is final of its result, and its checkpoints, go into the bucket.

A thread with a connection of its own. Its trouble is told once and touches neither the training nor who follows it: the
commit sends at the end what did not go ahead.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Iterator

from trainyard.errors import ForeignResult, HostKeyChanged, PodCannotUpload, StoreError, TrainyardError, Unreachable
from trainyard.faults import readable
from trainyard.remote.protocol import Transport
from trainyard.remote.reconnect import Reconnecting
from trainyard.retries import Backoff
from trainyard.runs.context import CommandContext
from trainyard.runs.life.judge import declared_anywhere
from trainyard.runs.records.notes import note
from trainyard.runs.records.pod import ReachablePod
from trainyard.runs.records.record import RunFolder, RunRecord
from trainyard.runs.records.stores import store_of
from trainyard.storage.ahead import Ahead, CheckpointRule, CutShort, Training
from trainyard.storage.client import StoreSettings
from trainyard.storage.manifest import ResultKey
from trainyard.storage.podside import ScannedFiles

SOONEST, LATEST = 3.0, 20.0
"""Seconds from one look to the next: a fifth of the training's time so far, within these."""
_AFTER_TROUBLE = Backoff(20.0, 300.0)
_WAIT = 0.2
_PATIENCE = 5.0
_DROPPED = 60.0
"""Seconds until another checkpoint is tried when one was removed while it went up."""
_SHARE, _LONGEST = 10.0, 120.0
"""A look at an output of very many files takes a while: so many times as long passes before the next one, at most so long."""


@contextlib.contextmanager
def beside(context: CommandContext, record: RunRecord, folder: RunFolder, pod: ReachablePod) -> Iterator[Companion]:
    """Let things go ahead as long as the block runs; ``end()`` inside of it gives what the commit should know."""
    companion = Companion(context, record, folder, pod)
    companion.begin()
    try:
        yield companion
    finally:
        companion.stop()


class Companion:
    """The thread beside one training."""

    def __init__(self, context: CommandContext, record: RunRecord, folder: RunFolder, pod: ReachablePod) -> None:
        self.context, self.record, self.folder, self.pod = context, record, folder, pod
        self.began = self.saved_at = time.monotonic()
        self.troubles, self.unpruned = 0, False
        self.ahead: Ahead | None = None
        self._stopped = threading.Event()
        self._transport = Reconnecting(pod.connect_sender, name=f"pod {pod.id}")
        self._thread = threading.Thread(target=self._run, name="ahead", daemon=True)

    def begin(self) -> None:
        """Start the thread where there is a bucket that the pod can send to by itself."""
        try:
            settings = store_of(self.context, self.record.bucket)
        except (OSError, TrainyardError):
            return  # the commit says what is wrong with it, if it still is then
        if settings is not None and (settings.presign or self.record.pod.volume_path):
            self.settings = settings
            self._thread.start()

    def stop(self) -> None:
        """Stop as soon as it can be, without waiting."""
        self._stopped.set()
        if self.ahead is not None:
            self.ahead.stop()
        self._transport.close()

    def end(self) -> ScannedFiles:
        """Stop, wait for the last request to the store (it must not come after the commit's), and return what was hashed."""
        self.stop()
        patience = _PATIENCE
        while self._thread.is_alive() and not self.folder.cancelled_now:
            self._thread.join(_WAIT)
            patience -= _WAIT
            if -_WAIT < patience <= 0:
                self.context.ui.say("           waiting for the store's answer to the last request of what went ahead")
        return self.ahead.scanned() if self.ahead else {}

    def _run(self) -> None:
        try:
            with contextlib.suppress(CutShort):
                self._begin_with(self.settings, self._transport)
                while not self._stopped.wait(self._pause()):
                    self._step()
        except (ForeignResult, PodCannotUpload) as error:
            self._tell(error)
        except HostKeyChanged:
            return  # whoever follows says it
        except Exception as error:
            if not self._stopped.is_set():
                self._tell(readable(error, lambda: self.context.places.logs))

    def _begin_with(self, settings: StoreSettings, transport: Transport) -> None:
        """Wait until pod and store can be asked what the result is, and whose."""
        while not self._stopped.wait(self._pause()):
            try:
                said = declared_anywhere(self.folder, self.record, self.pod, transport)
                rule = None
                if said.checkpoints and self.record.keep_checkpoints:
                    every = self.record.checkpoint_minutes * 60
                    rule = CheckpointRule(said.checkpoints, said.checkpoint_mark, self.record.keep_checkpoints, every)
                where = ResultKey(self.record.user, self.record.label, self.record.attempt)
                training = Training(where, self.record.token, self.pod.path("output"), said.outputs, said.excludes, rule)
                ahead = Ahead(settings, transport, training, None if settings.presign else self.record.pod.volume_path)
                ahead.begin()
                self.ahead = ahead
                return
            except (ForeignResult, HostKeyChanged):
                raise  # nothing will go ahead of this run
            except (StoreError, Unreachable) as error:
                self._trouble(error)

    def _step(self) -> None:
        assert self.ahead is not None
        try:
            checkpoint = self.ahead.send_files()
            rule = self.ahead.training.checkpoints
            if rule and checkpoint and checkpoint != self.ahead.saved and time.monotonic() - self.saved_at >= rule.every:
                self._save(self.ahead, checkpoint)
            self.troubles = 0
        except (ForeignResult, HostKeyChanged):
            raise
        except (StoreError, Unreachable) as error:
            self._trouble(error)

    def _save(self, ahead: Ahead, checkpoint: str) -> None:
        began = time.monotonic()
        size = ahead.save_checkpoint(checkpoint)
        if size is None:  # the training was faster: the wire is not all its checkpoints'
            every = self.record.checkpoint_minutes * 60
            self.saved_at = began - every + min(every, _DROPPED)
            return
        self.saved_at = began
        note(self.context, self.record, "checkpoint", path=checkpoint, bytes=size)
        if ahead.unpruned and not self.unpruned:
            self.unpruned = True
            self.context.ui.warn(f"older checkpoints of the run stay in the bucket: {ahead.unpruned}")

    def _trouble(self, error: TrainyardError) -> None:
        if self._stopped.is_set():
            raise CutShort
        if isinstance(error, PodCannotUpload) and not error.passing:
            raise error  # it has no Python: the result comes home over SSH
        changed = isinstance(error, StoreError) and error.code == "Changed"
        if isinstance(error, Unreachable) or changed:
            return  # a lost link is told by whoever follows; a file that is still being written is no trouble
        if not self.troubles:
            self._tell(error)
        self.troubles += 1

    def _tell(self, error: TrainyardError) -> None:
        self.context.ui.warn(f"nothing goes into the bucket ahead, the training is not touched by it: {error.message}")

    def _pause(self) -> float:
        if self.troubles:
            return _AFTER_TROUBLE.pause(self.troubles)
        usual = min(LATEST, max(SOONEST, (time.monotonic() - self.began) / 5))
        return max(usual, min(_LONGEST, _SHARE * self.ahead.look_seconds)) if self.ahead else usual
