"""Wait for a pod to boot: until its own SSH server answers, under one deadline for each phase.

A boot failure ends nothing: what to do with a pod that does not come up is decided by whoever asked for it, and its
lease ends it in any case.
"""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from trainyard import openssh
from trainyard.clouds.protocol import Cloud, PodInfo, SshAddress
from trainyard.errors import BootFailed, CloudError
from trainyard.leases.world import OperationWorld
from trainyard.remote import hostkey
from trainyard.retries import Backoff

BootPhase = Literal["accepted", "image", "ssh"]
Door = Literal["no address", "silent", "stranger", "open"]
"""What is found at a pod's address: nothing that greets, a server with another host key, the pod's own server."""
_HINTS: dict[BootPhase, str] = {
    "accepted": "The cloud has taken the request but starts nothing; another offer or region may be faster.",
    "image": "The image is still being fetched; a large one needs more time: set image_gb or boot_image_minutes.",
    "ssh": "The container runs but does not answer; look at the pod's log.",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class BootLimits:
    """Minutes that each phase of a boot may take."""

    accepted: float
    image: float | None
    """None: what an image of ``image_gb`` may take."""
    ssh: float
    image_gb: float | None = None

    def minutes(self) -> Mapping[BootPhase, float]:
        """Return the minutes of each phase."""
        return {"accepted": self.accepted, "image": image_minutes(self.image_gb) if self.image is None else self.image, "ssh": self.ssh}


@dataclass(frozen=True, slots=True)
class _BootWait:
    phase: BootPhase
    until: float
    last: str
    door: Door = "no address"
    denials: int = 0
    """Looks in turn at which the cloud did not show the pod."""
    denied_from: float = 0.0
    """From then on the cloud's word that there is no such pod is believed, also of one that was never seen."""


def wait(world: OperationWorld, cloud: Cloud, pod_id: str, limits: BootLimits) -> PodInfo:
    """Return the pod once its SSH server has greeted. Raises BootFailed naming the phase and the cloud's last word."""
    info = _wait(world, cloud, pod_id, limits, door_of, lambda: False)
    assert info is not None
    return info


def wait_for(world: OperationWorld, cloud: Cloud, pod_id: str, limits: BootLimits, arrived: Callable[[], bool]) -> None:
    """Return once a pod without SSH has shown by another way that its container runs; raises as wait() does."""
    try:
        _wait(world, cloud, pod_id, limits, lambda _: "silent", arrived)
    except BootFailed:
        if not arrived():  # one that has done its work in a moment is gone by now
            raise


def _wait(
    world: OperationWorld,
    cloud: Cloud,
    pod_id: str,
    limits: BootLimits,
    door_at: Callable[[PodInfo], Door],
    arrived: Callable[[], bool],
) -> PodInfo | None:
    minutes, begun = limits.minutes(), world.time()
    denied_from = begun + cloud.capabilities.settle + _MARGIN
    boot = _BootWait("accepted", begun + 60 * minutes["accepted"], _UNSEEN, denied_from=denied_from)
    pauses, look = Backoff(0.02, 3.0, 1.5).pauses(), world.time() + LOOK_EVERY
    while True:
        # An operation whose command was killed must not hold its stack's lock for a whole boot.
        world.asked_for("the pod had an address")
        if arrived():
            return None
        if world.time() >= look:
            look = world.time() + LOOK_EVERY
            problem = _problem(world, cloud, pod_id)
            if problem is not None:
                raise boot_failure(pod_id, boot.phase, problem)
        info = _ask(world, cloud, pod_id, boot)
        boot = replace(boot, denials=0 if info is not None else boot.denials + 1)
        if info is not None:
            door = door_at(info)
            if door == "open":
                return info
            boot = _moved(world, cloud, boot, info, minutes, door)
            if info.end is not None and world.time() >= info.end.timestamp():
                # No watchdog runs on it yet, so nobody but those who asked for it would end it.
                raise boot_failure(pod_id, boot.phase, f"{boot.last}; its lease is over", lease_over=True)
        if world.time() >= boot.until:
            problem = _problem(world, cloud, pod_id)
            # Not the host's fault: what the logs tell of the image, a cloud that we do not reach, a server that is there.
            blamed = problem is None and info is not None and boot.door == "no address"
            raise boot_failure(pod_id, boot.phase, problem or boot.last, after=minutes[boot.phase], hosts_fault=blamed)
        queued = cloud.capabilities.queues and boot.phase == "accepted" and world.time() - begun > QUEUED
        world.sleep(QUEUE_LOOK if queued else next(pauses))


def boot_failure(
    pod_id: str,
    phase: BootPhase,
    last: str,
    *,
    after: float | None = None,
    hosts_fault: bool = False,
    lease_over: bool = False,
    hint: str = "",
) -> BootFailed:
    """Return the error of a pod that did not come up. ``hosts_fault``: the machine, and not the image, may be to blame."""
    when = f"not past phase '{phase}' after {after:.0f} minutes" if after is not None else f"failed in phase '{phase}'"
    facts = {"pod": pod_id, "phase": phase, "hosts_fault": hosts_fault, "lease_over": lease_over}
    return BootFailed(f"pod {pod_id}: {when} ({last})", hint=hint or _HINTS[phase], facts=facts)


def image_minutes(image_gb: float | None) -> float:
    """Return how long an image may take to arrive: 10 minutes, more when it is larger than 16 GB."""
    return 10.0 + 0.5 * max(0.0, (image_gb or 0.0) - 16.0)


QUEUED, QUEUE_LOOK = 60.0, 20.0
"""Seconds after which a pod is taken to stand in a cluster's queue, and then between two looks: each is work for the one machine
that all its users share, and hours may pass."""
LOOK_EVERY = 15.0
"""Seconds between two looks into the cloud's logs: a pull that fails is not waited for until its deadline."""

_KINDS = ("ssh-ed25519", "ecdsa-sha2-nistp256", "rsa-sha2-256")
"""Of host keys, in order of preference."""
_UNSEEN = "not seen yet"
_MARGIN = 5.0
_DENIALS = 2
"""So often a pod that was seen must be denied in turn: one untrue 404 must not cost it its boot."""
_NEXT: dict[BootPhase, str] = {"accepted": "the cloud", "image": "the image", "ssh": "its SSH server"}


def door_of(info: PodInfo) -> Door:
    """Say what is found at a pod's address. A recycled one may still lead to another machine: nothing is sent there."""
    if info.ssh is None:
        return "no address"
    if info.ssh.command:
        return "open" if passes(info.ssh.command) else "silent"
    # What leads through another machine costs a login there each time: the key alone is asked for, it says the same and more.
    if (info.ssh.through is None or info.host_key is None) and not greets(info.ssh):
        return "silent"
    own = True if info.host_key is None else hostkey.shows(info.ssh.host, info.ssh.port, info.host_key, through=info.ssh.through)
    return "silent" if own is None else "open" if own else "stranger"


def recorded_key(world: OperationWorld, info: PodInfo) -> str:
    """Return the host key that a pod with an open door shows, where none of ours could be brought to it; raises BootFailed for none."""
    assert info.ssh is not None  # its door is open
    for pause in (1.0, 2.0, 4.0, 8.0, 0.0):
        for kind in _KINDS:
            if seen := hostkey.shown(info.ssh.host, info.ssh.port, through=info.ssh.through, kinds=(kind,)):
                world.info(f"pod {info.id}: its host key is recorded at this first contact, and refused when it changes")
                return seen
        world.sleep(pause)
    raise boot_failure(info.id, "ssh", "its SSH server shows no host key")


def passes(command: Sequence[str], timeout: float = 60.0) -> bool:
    """Tell whether a command that leads to a pod runs a line there."""
    try:
        done = subprocess.run([*command, "true"], stdin=subprocess.DEVNULL, capture_output=True, timeout=timeout, check=False)
        return done.returncode == 0
    except (OSError, subprocess.TimeoutExpired):
        return False


def greets(address: SshAddress, timeout: float = 5.0) -> bool:
    """Tell whether an SSH server answers at an address (a port mapping may exist long before it)."""
    try:
        with openssh.open_socket(address.host, address.port, timeout, through=address.through) as connection:
            connection.settimeout(timeout)
            greeting = b""
            while len(greeting) < 4:
                piece = connection.recv(64)
                if not piece:
                    return False
                greeting += piece
            return greeting.startswith(b"SSH-")
    except OSError:
        return False


def _ask(world: OperationWorld, cloud: Cloud, pod_id: str, boot: _BootWait) -> PodInfo | None:
    """Return the pod, None while the cloud does not show it; raises BootFailed for one that ended."""
    try:
        info = cloud.get(pod_id)
    except CloudError as error:
        # An API that stutters is no boot failure; the phase's deadline is.
        world.log(f"pod {pod_id}: {error}", "debug")
        return None
    if info is None and boot.last != _UNSEEN and boot.denials + 1 >= _DENIALS:
        raise boot_failure(pod_id, boot.phase, f"it was {boot.last}, now the cloud says that there is no such pod")
    if info is None and boot.last == _UNSEEN and world.time() >= boot.denied_from:
        # An earlier operation ended it and could not write that down.
        raise boot_failure(
            pod_id, "accepted", "the cloud says that there is no such pod", hint="Run refresh, then up rents another one."
        )  # fmt: skip
    if info is not None and info.status in ("exited", "error", "terminating"):
        raise boot_failure(pod_id, boot.phase, info.raw_status, hosts_fault=info.status == "error")
    return info


def _problem(world: OperationWorld, cloud: Cloud, pod_id: str) -> str | None:
    try:
        return cloud.boot_problem(pod_id)
    except CloudError as error:
        world.log(f"pod {pod_id}: {error}", "debug")
        return None


def _moved(
    world: OperationWorld, cloud: Cloud, boot: _BootWait, info: PodInfo, minutes: Mapping[BootPhase, float], door: Door
) -> _BootWait:
    """Return the boot's state after a look; phases only go forward."""
    phase, last = _phase(info), info.raw_status
    if door == "stranger" and info.ssh is not None:
        last += f"; {info.ssh.host}:{info.ssh.port} shows another host key than the pod's"
    if phase == boot.phase == "accepted" and "(" in last and _reason(last) != _reason(boot.last):
        world.info(f"pod {info.id}: {last}")
    if phase == boot.phase or phase == "accepted" or boot.phase == "ssh":
        return replace(boot, last=last, door=door)
    world.info(f"pod {info.id}: {info.raw_status}, waiting for {_next(phase, cloud)}")
    return replace(boot, phase=phase, until=world.time() + 60 * minutes[phase], last=last, door=door)


def _next(phase: BootPhase, cloud: Cloud) -> str:
    return "its container's first words, in the bucket" if phase == "ssh" and not cloud.capabilities.ssh else _NEXT[phase]


def _reason(raw_status: str) -> str:
    """Return why a pod waits, without when it may start: that changes with each look."""
    return raw_status.partition(";")[0]


def _phase(info: PodInfo) -> BootPhase:
    if info.ssh or info.status == "running":
        return "ssh"
    return "image" if info.status == "starting" else "accepted"
