"""What every cloud can be asked, and how it must answer.

The errors are the contract that guarantee G1 rests on: NoCapacity and CloudRefused mean that nothing was
created; CloudUnknown means that something may have been. An adapter that is not sure raises CloudUnknown.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Literal, Protocol

from trainyard.settings.table import DEFAULTS

PodStatus = Literal["accepted", "starting", "running", "exited", "error", "terminating", "unknown"]
"""accepted: asked for, no machine yet. starting: a machine fetches the image. unknown: a word of the cloud that is new."""

SETTING, VALUE = "setting", "value"
"""Facts of an error: the setting that has asked for what a cloud has not, and which of its values it is."""


@dataclass(frozen=True, slots=True)
class Capabilities:
    """How a cloud behaves where clouds differ."""

    self_terminate: bool
    """A pod can end itself."""
    deadline: bool
    """The cloud itself ends a pod at its time."""
    change_markers: bool
    """Stop and end of a pod that runs can be changed without a restart."""
    settle: float
    """Seconds after which a create that was accepted must show in a listing."""
    listings: int
    """How many empty listings in turn prove absence."""
    post_timeout: float
    """Longest time (s) a create request may take before its outcome counts as unknown."""
    queues: bool = False
    """A pod may wait long for its machine; its lease's hours begin when it starts, and the cloud then tells stop and end anew."""
    whole_hours: bool = False
    """It sells whole hours: the lease of a pod that runs is moved by such alone."""
    ssh: bool = True
    """Its pods are reached by SSH; where they are not, the run is the container's command and the bucket the only road."""
    finished_free: bool = False
    """A pod whose command has ended is on no list and costs nothing, whether or not anybody has asked to end it."""

    def over(self, pod: PodInfo | None) -> bool:
        """Tell whether nothing of a pod is left to pay for, by what the cloud says of it by its id."""
        return pod is None or (self.finished_free and pod.status == "exited")


@dataclass(frozen=True, slots=True)
class OfferQuery:
    """What is wanted; an empty ``gpus`` means a pod without GPU."""

    gpus: tuple[str, ...] = ()
    gpu_count: int = DEFAULTS.gpu_count
    max_price: float | None = None
    regions: tuple[str, ...] = ()
    spot: bool = False
    tier: str | None = None
    """The cloud's class of machines, e.g. SECURE or COMMUNITY on RunPod."""
    min_cuda: str | None = None
    """Lowest CUDA version (``13.0``) that the machine's driver must carry."""
    min_vram_gb: float | None = None
    """Least memory (GB) of each GPU, as its maker states it."""
    volume: str | None = None
    """Network volume that the pod mounts: only where it lies can the pod be rented."""
    disk_gb: int = DEFAULTS.disk_gb
    """Disk of the pod; where it is part of an offer's price, it is in that price."""
    reliability: float | None = None
    """Least reliability (0 to 1) of a host; None: what the cloud's adapter takes for enough."""
    inet_down: float | None = None
    """Least speed (Mbit/s) at which a host downloads; None: the same."""
    options: Mapping[str, str] = field(default_factory=dict)
    """Settings that mean something to this cloud alone."""
    hours: float | None = None
    """How long the pod must be to be had; None: not known."""


@dataclass(frozen=True, slots=True)
class Offer:
    """Something the cloud can rent now; ``price_per_hour`` in dollars for the whole pod."""

    id: str
    cloud: str
    gpu: str | None
    gpu_count: int
    price_per_hour: float
    region: str | None = None
    spot: bool = False
    tier: str | None = None
    prepaid: float | None = None
    """Dollars that are paid at once, for all of the time that was asked for; what is left at the end comes back as the cloud's credits."""
    gb_in: float | None = None
    gb_out: float | None = None
    """Dollars for a GB that comes to the pod, and for one that leaves it; None: nothing is taken, or nobody tells."""


@dataclass(frozen=True, slots=True)
class PodSpec:
    """One pod to create. ``env`` must never hold an account key or a bucket key (G3)."""

    name: str
    fence_id: str
    lease_id: str
    stop: datetime | None
    end: datetime | None
    image: str | None = None
    template: str | None = None
    disk_gb: int = DEFAULTS.disk_gb
    volume: str | None = None
    ports: tuple[str, ...] = DEFAULTS.ports
    env: Mapping[str, str] = field(default_factory=dict)
    public_key: str = ""
    host_key: str = field(default="", repr=False)
    """Private ed25519 host key as OpenSSH PEM, for this pod alone."""
    boot: tuple[str, ...] = ()
    """Command run inside the pod from its first second (the watchdog); empty: the image's own entrypoint does it."""
    registry: str | None = None
    options: Mapping[str, str] = field(default_factory=dict)
    """Settings that mean something to this cloud alone."""
    command: tuple[str, ...] = ()
    """On clouds without SSH, instead of ``boot``: all that the container runs, from its first second to its end."""
    secret_env: Mapping[str, str] = field(default_factory=dict, repr=False)
    """Variables beside ``env`` that are secrets: they go where the cloud keeps such, never into a name, a label or a log."""


@dataclass(frozen=True, slots=True)
class SshAddress:
    """Where sshd of a pod answers."""

    host: str
    port: int
    user: str = "root"
    command: tuple[str, ...] = ()
    """Where none does: the program of this machine, with its arguments, that passes a line on to a shell on the pod."""
    sending: tuple[str, ...] = ()
    """Where the pod itself reaches no store: the command that leads to a machine that does, and sees the pod's files where they are."""
    through: str | None = None
    """The machine whose own sshd leads there, as SshLogin.url; None: it is dialled directly."""


@dataclass(frozen=True, slots=True)
class PodInfo:
    """One pod as the cloud lists it. ``fence_id`` and ``lease_id`` are None on a pod that is not ours."""

    id: str
    name: str
    status: PodStatus
    raw_status: str
    price_per_hour: float | None
    created: datetime | None
    fence_id: str | None = None
    lease_id: str | None = None
    stop: datetime | None = None
    end: datetime | None = None
    end_unreadable: bool = False
    """Ours by its marker, but its end cannot be read."""
    ssh: SshAddress | None = None
    gpu: str | None = None
    gpu_count: int = 0
    region: str | None = None
    workspace: str = "/workspace"
    host_key: str | None = None
    """Public host key (``ssh-ed25519 AAAA...``) where the pod's marker carries it."""
    volume: str | None = None
    """Where its network volume is mounted; None without one."""
    finished: datetime | None = None
    """When its command has ended, by the clock that ``created`` is of; None where the cloud does not tell."""

    @property
    def lived(self) -> float | None:
        """Seconds from its creation to the end of its command; None where the cloud does not tell."""
        return max(0.0, (self.finished - self.created).total_seconds()) if self.created and self.finished else None


@dataclass(frozen=True, slots=True)
class CostItem:
    """Anything of the account that costs money now, for ``invoke audit``."""

    kind: Literal["pod", "stopped pod", "volume", "disk", "ssh key"]
    id: str
    name: str
    per_hour: float | None
    """Dollars; None where the cloud does not tell them."""
    ours: bool
    size_gb: float | None = None
    """Of a volume, as far as the cloud tells it."""


@dataclass(frozen=True, slots=True)
class Account:
    """What the cloud says of the account's money, in dollars."""

    balance: float
    per_hour: float
    """What is being spent now; 0 where the cloud does not say."""
    billed: float | None
    """Billed for pods in the last 30 days; None where the cloud does not say."""


class Cloud(Protocol):
    """A provider of GPU pods."""

    name: str
    capabilities: Capabilities
    simulated: bool
    """True where an emulator answers; every summary then says so."""
    address: str | None
    """Where the API is asked, when that is not the cloud's own address; every summary says it."""

    def offers(self, query: OfferQuery) -> list[Offer]:
        """Return what can be rented now, in the query's order of preference, none above its max_price."""
        ...

    def create(self, spec: PodSpec, offer: Offer) -> PodInfo:
        """Create one pod; never repeats the request blindly.

        Raises NoCapacity or CloudRefused when nothing was created, CloudUnknown otherwise.
        """
        ...

    def get(self, pod_id: str) -> PodInfo | None:
        """Return the pod; None only on the cloud's positive word that it does not exist."""
        ...

    def costs(self) -> list[CostItem]:
        """Return everything of the account that costs money now."""
        ...

    def disks_per_hour(self, disk_gb: int, *, gpu: bool, volume: bool) -> float:
        """Return the dollars an hour that a pod's own disks are billed beside its price; ``volume``: it mounts a network volume."""
        ...

    def account(self) -> Account | None:
        """Return balance and bill; None where the cloud tells neither."""
        ...

    def billed(self, pod_id: str) -> float | None:
        """Return the dollars on the bill for one pod, gone or not; None where the cloud sends no bill. It may lag behind."""
        ...

    def list(self) -> list[PodInfo]:
        """Return every pod of the account, foreign and stopped ones too. Raises CloudError rather than a partial list."""
        ...

    def terminate(self, pod_id: str) -> None:
        """Ask the cloud to end the pod; one that is already gone is success. Proof is the caller's job, by list()."""
        ...

    def change_markers(self, pod_id: str, stop: datetime | None, end: datetime | None) -> None:
        """Change stop and end without a restart; CloudRefused where the cloud cannot (see capabilities)."""
        ...

    def boot_problem(self, pod_id: str) -> str | None:
        """Return why a pod cannot boot (a failed pull, a restart loop) where the cloud's logs tell; None otherwise."""
        ...

    def now(self) -> datetime:
        """Return the cloud's clock in UTC (its Date header; this machine's where it gives none)."""
        ...
