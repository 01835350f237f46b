"""What a record holds beside plain figures: the pod, every pod that was paid, the bucket, the result.

All are read from JSON and written to it under the names of their fields; those names are a format that other versions
read, too: add fields with a default, rename none.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from trainyard.errors import EngineError
from trainyard.runs.records import codec
from trainyard.storage.ending import Ending


@dataclass(frozen=True, slots=True, kw_only=True)
class RunPod:
    """The pod that a run is on, as its stack's outputs tell it; nothing of it is known before the pod is rented.

    Moments are UTC text as the provider writes them, ``created_epoch`` is epoch seconds, money is in dollars.
    """

    pod_id: str | None = None
    pod_name: str | None = None
    lease_id: str | None = None
    fence_id: str | None = None
    stop: str | None = None
    end: str | None = None
    price_per_hour: float | None = None
    gpu: str | None = None
    gpu_count: int | None = None
    pod_region: str | None = None
    offer: str | None = None
    created_at: str | None = None
    created_epoch: float | None = None
    """When it was rented, as this machine's clock and the cloud's can both be true."""
    host: str | None = None
    port: int | None = None
    user: str | None = None
    login_command: tuple[str, ...] | None = None
    """The command that leads to a pod without an sshd of its own; None: it has one."""
    send_command: tuple[str, ...] | None = None
    """The command that leads to a machine that sends the pod's files, where the pod itself reaches no store."""
    through: str | None = None
    """The machine whose sshd leads to the pod's own, as an address; None: it is dialled directly."""
    meeting: int | None = None
    """The port at which pods that train with it meet it; None: there are none."""
    workspace: str | None = None
    host_key: str | None = None
    ssh_key_file: str | None = None
    """A person's own key with which the run was adopted; None: the environment's."""
    volume_path: str | None = None
    api_address: str | None = None
    simulated: bool = False
    isolation: str | None = None
    ends_itself: bool | None = None
    """Whether its watchdog has proved that it can end the pod; None before it was asked."""
    ends_itself_proof: str | None = None

    @property
    def price(self) -> float:
        """Dollars an hour; 0 where the cloud has told none."""
        return self.price_per_hour or 0.0

    @classmethod
    def of_outputs(cls, outputs: Mapping[str, Any]) -> RunPod:
        """Return the pod that a stack's outputs tell; raises EngineError where they are not as the program exports them."""
        try:
            return codec.read(cls, outputs)
        except ValueError as error:
            raise EngineError(f"the outputs of the run's stack are not those of a pod: {error}") from None


NO_POD = RunPod()
"""Nothing is known of a pod yet."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ReckonedTraining:
    """What was reckoned of a training before its pod was rented: what it takes is held against that."""

    flops_per_token: float
    gpu_bytes: float
    """Without CUDA's own."""
    experts: bool
    kind: str
    """What of its settings memory depends on beside sizes, in words."""


@dataclass(frozen=True, slots=True)
class PaidPod:
    """One pod that was accepted for a run, booted or not. Times are epoch seconds, money is in dollars."""

    pod_id: str
    price_per_hour: float | None
    accepted: float
    gpu: str | None = None
    gpu_count: int = 0
    region: str | None = None
    offer: str | None = None
    deleted: float | None = None
    """When the engine had deleted it, or it had ended itself; no proof yet."""
    ended: float | None = None
    """When it ended, by the proof of its absence."""
    by_itself: bool = False
    """It said that it would end itself at ``deleted``; how soon it could, only the cloud's bill tells."""
    billed: float | None = None
    """What the cloud bills for it, as of ``bill_time``; None: it has told nothing yet."""
    bill_time: float | None = None
    seen: float | None = None
    """When the cloud has last shown it alive to somebody who was about to end it; kept only where that was in doubt."""

    def cost(self, now: float, disks_per_hour: float = 0.0) -> float:
        """Return the dollars from accept to end (to now, while it has none), with disks that are billed beside its price."""
        until = self.ended or self.deleted or now
        price = self.price_per_hour + disks_per_hour if self.price_per_hour else 0.0
        return price * max(0.0, until - self.accepted) / 3600


@dataclass(frozen=True, slots=True, kw_only=True)
class RunContainer:
    """A run whose cloud has no SSH: its container is made of a bundle in the bucket, and works by URLs that were signed before."""

    bundle: str | None = None
    """The bundle's sha256; None: nothing is in the bucket yet."""
    until: float | None = None
    """Until when its URLs live, as epoch seconds."""


@dataclass(frozen=True, slots=True)
class RunBucket:
    """The bucket that a run's result goes to, as the environment's outputs tell it."""

    bucket: str
    store: str | None = None
    endpoint: str | None = None
    region: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class JobKeys:
    """Which keys of the bucket a job gets (`pod_store`); the keys themselves are nowhere here."""

    access: str
    """read or attempt."""
    prefix: str
    """Below which it may read."""
    role: str | None = None
    own: bool = False
    """The person's own keys, which do not end."""
    user: str | None = None
    """The store's user or key that was made for it and is still there."""
    end: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class StartedFrom:
    """What of an earlier attempt a training began with: a checkpoint, or a finished adapter."""

    run: str
    """The attempt: user/label/number."""
    path: str
    """Its place in that attempt's output folder, like ``checkpoints/checkpoint-10``."""
    manifest_sha256: str
    """Of the manifest that proves its files."""
    prefix: str = ""
    """The folder of the bucket where it lies; '' for one that only lies at home."""
    home: str | None = None
    """The folder at home where it lies."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RunResult:
    """Where the result of a run is, and what is in it. Sizes are bytes."""

    s3_url: str | None = None
    s3_key: str | None = None
    logs_url: str | None = None
    local_path: str | None = None
    """The folder at home, where it came over SSH."""
    manifest_sha256: str | None = None
    files: int | None = None
    bytes: int | None = None
    left_out: tuple[tuple[str, int], ...] = ()
    """Path and size of what the recipe leaves out."""
    not_carried: tuple[tuple[str, str], ...] = ()
    """Path of what should be in it and is not, and why."""
    kept: Ending | None = None
    """How the training ended when this is no success."""
    road: str | None = None
    road_why: str | None = None
    owed: bool = False
    """It came home and is not in its bucket yet."""
