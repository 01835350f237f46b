"""What goes into the bucket while the training runs: files of the result that are final, and complete checkpoints.

By the same bound requests and with the same proof as a commit, gently: few threads, the lowest priority on the pod. Nothing
of it counts as a result. The commit looks at every file again, sends what has changed since, and removes what it does not
name; so this may stop at any point, and whoever comes next goes on with what the bucket has.
"""

from __future__ import annotations

import posixpath
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from trainyard.errors import StoreError
from trainyard.remote.protocol import Transport
from trainyard.storage import checkpointcommit, mounted, podside
from trainyard.storage.canary import probed
from trainyard.storage.client import StoreSettings
from trainyard.storage.deliver import DeliveryPatience, OfPod, Progress, deliver
from trainyard.storage.manifest import PART_SIZE, ResultKey, entry_of
from trainyard.storage.markers import refuse_foreign
from trainyard.storage.objects import UploadTarget

LEAST = 1 << 20
"""Smaller files go at the end: they are quick, and often written again."""
MOST = 2 << 30
"""What one look hashes, about: so much is lost when the training ends meanwhile."""
AFTER = {"whole": 2.0, "quiet": 10.0, "again": 300.0, "unmarked": 30.0}
"""Seconds of rest before something counts as final: a file of safetensors whose header is content, any other, one that
went ahead and was changed again, a checkpoint that no mark calls complete."""
SENDERS = 2
NICE = 19
PATIENCE = DeliveryPatience(rounds=2, tries=4)


class CutShort(Exception):
    """The training has ended, and the commit must not wait."""


@dataclass(frozen=True, slots=True)
class CheckpointRule:
    """How a recipe's checkpoints are known, how many are kept in the bucket, and the seconds from one to the next."""

    pattern: str
    mark: str | None
    keep: int
    every: float


@dataclass(frozen=True, slots=True)
class Training:
    """A training that runs: where its output lies and what of it is the result of which attempt."""

    where: ResultKey
    token: str
    output_dir: str
    outputs: Sequence[str]
    excludes: Sequence[str] = ()
    checkpoints: CheckpointRule | None = None


@dataclass(slots=True)
class Ahead:
    """One attempt's way into the bucket while it trains. ``stop`` may be called from any thread."""

    settings: StoreSettings
    transport: Transport
    training: Training
    volume: str | None = None
    """Where the bucket is mounted on the pod, of a store that signs no URLs: checkpoints are copied there, files only by the commit."""
    part_size: int = PART_SIZE
    patience: DeliveryPatience = PATIENCE
    known: dict[str, Mapping[str, Any]] = field(default_factory=dict)
    """What was hashed, for the commit; the bucket need not hold it."""
    sent: dict[str, list[int]] = field(default_factory=dict)
    """Fingerprints of what the bucket holds, proven, by path."""
    look_seconds: float = 0.0
    saving: dict[str, Mapping[str, Any]] = field(default_factory=dict)
    """The files of the checkpoint that was hashed last, for a commit that keeps it."""
    saved: str | None = None
    """The checkpoint that was committed last."""
    unpruned: str | None = None
    """Why older checkpoints could not be removed: the newest one is safe all the same."""
    _stopped: threading.Event = field(default_factory=threading.Event)

    def scanned(self) -> podside.ScannedFiles:
        """Return what was hashed, of the result and of the newest checkpoint, for the commit that follows."""
        return {**self.known, **self.saving}

    def stop(self) -> None:
        """Let the present step end as soon as it can, by CutShort or by the error of a link that is closed."""
        self._stopped.set()

    def begin(self) -> None:
        """Look whose the attempt is; raises ForeignResult when it is another run's."""
        self.settings = probed(self.settings)
        refuse_foreign(self.settings, self.training.where, self.training.token)

    def send_files(self) -> str | None:
        """Look once and send what is final; returns the path of the newest complete checkpoint on the pod.

        Raises ForeignResult, StoreError, Unreachable, CutShort; what has arrived is gone on with by the next look.
        """
        rule, done = self.training.checkpoints, {path: entry["fingerprint"] for path, entry in self.known.items()}
        began = time.monotonic()
        outputs = self.training.outputs if self.volume is None else ()
        look = podside.look(
            self._pod(), outputs, self.training.excludes, done, checkpoints=(rule.pattern, rule.mark) if rule else None,
            md5=self._md5, part_size=self.part_size, least=LEAST, most=MOST, after=AFTER, nice=NICE,
        )  # fmt: skip
        self.look_seconds = time.monotonic() - began
        self._check()
        now = look["now"]
        self.known = {path: entry for path, entry in self.known.items() if path in now} | {entry["path"]: entry for entry in look["files"]}
        fresh = [
            entry for path, entry in self.known.items()
            if now[path] == entry["fingerprint"] and self.sent.get(path) != entry["fingerprint"]
        ]  # fmt: skip
        if fresh:
            refuse_foreign(self.settings, self.training.where, self.training.token)
            prefix = self.training.where.prefix
            self._deliver(self._pod(), [UploadTarget(entry_of(e), e["source"], prefix + e["path"], tuple(e.get("md5", ()))) for e in fresh])
            self.sent |= {entry["path"]: entry["fingerprint"] for entry in fresh}
        return str(look["checkpoint"]) if look["checkpoint"] else None

    def save_checkpoint(self, path: str) -> int | None:
        """Commit a checkpoint and remove older ones; returns its bytes, None when the training removed or changed it meanwhile.

        Raises StoreError, Unreachable, CutShort.
        """
        rule, place = self.training.checkpoints, posixpath.join(self.training.output_dir, path)
        assert rule is not None
        one = checkpointcommit.OneCheckpoint(self.training.where, self.training.token, path, checkpointcommit.name_of(path, rule.pattern))
        try:
            scan = checkpointcommit.scan(self.transport, place, md5=self._md5, part_size=self.part_size, nice=NICE)
            self._check()
            if scan is None:
                return None
            self.saving = {(path if scan["single"] else f"{path}/{entry['path']}"): entry for entry in scan["files"]}
            pod = podside.FinishedPod(self.transport, place)
            self._deliver(pod, checkpointcommit.targets(one, scan))
        except StoreError as error:
            checkpointcommit.drop(self.settings, one)
            if error.code == "Changed" or self._is_gone(place):
                return None
            raise
        size = checkpointcommit.seal(self.settings, one, scan)
        self.saved = path
        try:
            checkpointcommit.prune(self.settings, one, rule.keep)
        except StoreError as error:
            self.unpruned = error.message
        return size

    @property
    def _md5(self) -> bool:
        return self.settings.checksums == "none" and self.volume is None  # a mounted bucket's ETags say nothing

    def _pod(self) -> podside.FinishedPod:
        return podside.FinishedPod(self.transport, self.training.output_dir.rstrip("/"))

    def _deliver(self, pod: podside.FinishedPod, targets: Sequence[UploadTarget]) -> None:
        patience = replace(self.patience, pause=self._pause)
        if self.volume is None:
            deliver(self.settings, OfPod(pod, threads=SENDERS, nice=NICE), targets, self._look_up, patience)
        else:
            # The training may need as much again for its next checkpoint, on the same volume.
            spare = sum(target.entry.size for target in targets)
            mounted.deliver(self.settings, pod, targets, self.volume, self._look_up, patience, spare=spare, nice=NICE)
        self._check()

    def _look_up(self, _: Progress) -> None:
        self._check()

    def _pause(self, seconds: float) -> None:
        self._stopped.wait(seconds)
        self._check()

    def _check(self) -> None:
        if self._stopped.is_set():
            raise CutShort

    def _is_gone(self, place: str) -> bool:
        return podside.kind_of(self.transport, place) == "nothing"
