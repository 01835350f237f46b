"""The cloud on this machine: pods are process trees with their own SSH server, files and end.

No root, no Docker. Two isolation levels with the same promises: ``namespace`` (the pod is a pid and mount namespace whose
first process is its supervisor) and, where namespaces are refused, ``process`` (a subreaper and a supervisor adopt
and kill whatever leaves the tree). Environment:

``TRAINYARD_LOCAL_ISOLATION``   ``namespace`` or ``process`` forces an isolation level; without it the first that works serves.
``TRAINYARD_LOCAL_PRICE``  dollars per hour that these pods are said to cost, to exercise cost and budget (0).
``TRAINYARD_LOCAL_MEMORY`` gigabytes that a pod's programs may use together; without it the machine's own are the limit.
"""

from __future__ import annotations

import builtins
import contextlib
import os
import signal
import time
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from trainyard.clock import format_time
from trainyard.clouds.local import ending, gpulocks, hardware, launch, limits, registry, request
from trainyard.clouds.marker import is_id, parse_name
from trainyard.clouds.protocol import Capabilities, CostItem, Offer, OfferQuery, PodInfo, PodSpec, PodStatus, SshAddress
from trainyard.errors import CloudRefused, CloudUnknown, NoCapacity
from trainyard.processes import boot_id
from trainyard.sizes import human_size

OVERDUE = 15.0
"""Seconds after its end when a pod whose supervisor does not act is ended by whoever lists it."""
PENDING = 1.0
"""Age (s) at which a pod whose creator died before its start is started by whoever lists it."""


class LocalCloud:
    """Pods on this machine; all that is known of them lies under ``root`` (a local disk)."""

    name = "local"
    simulated = False
    address: str | None = None
    capabilities = Capabilities(
        self_terminate=True,
        deadline=True,
        change_markers=True,
        settle=0.0,
        listings=1,
        post_timeout=2.0,  # the caller is the request: when it is dead nothing more can come
    )

    def __init__(self, root: Path) -> None:
        self.root = Path(os.path.realpath(root))
        self.registry = registry.PodRegistry(self.root)

    def offers(self, query: OfferQuery) -> list[Offer]:
        """Return this machine as a CPU offer, or its free GPUs where the query names any."""
        if not query.gpus:
            return hardware.offers(query, [], set())
        have = self.gpus()
        return hardware.offers(query, have, {gpu.index for gpu in have if gpu.index in self._used_gpus() or self.holder(gpu) is not None})

    def create(
        self,
        spec: PodSpec,
        offer: Offer,
        *,
        files: Mapping[str, bytes] | None = None,
        boot_restart: bool = False,
        rootfs: Path | None = None,
    ) -> PodInfo:
        """Create the pod, or adopt the one of this name; return when its SSH port is open.

        ``files`` are laid out before it starts: paths begin with ``home/``, ``workspace/`` or ``bin/`` (first in PATH).
        ``boot_restart`` starts ``spec.boot`` again after each exit, as clouds do with an image's entrypoint.
        The pod sees the folder ``rootfs``, wherever it lies, at its own path and may not change it.
        """
        state = request.state_of(self.registry, spec, offer, boot_restart=boot_restart, rootfs=rootfs)
        content = request.content_of(spec, files or {})
        self.registry.make()
        folder = self.registry.pod(spec.name)
        for _ in range(20):
            with _choosing(offer):
                claimed = self._claim(state, content, offer)
                answer = launch.start(folder)
            if "port" in answer:
                info = self._info(spec.name, registry.read(folder, "state.json"), answer, "running")
                return info
            if "error" in answer:
                self.terminate(spec.name)
                refusal = NoCapacity if answer.get("taken") else CloudRefused
                raise refusal(f"the local pod did not start: {answer['error']}")
            if claimed:
                raise CloudRefused(f"the local pod {spec.name} was ended while it started")
            # A pod of this name is on its way out: make room, then claim anew.
            ending.end_pod(self.registry, spec.name, "died")
        raise CloudUnknown(f"the local pod {spec.name} is made and ended again and again by others")

    def get(self, pod_id: str) -> PodInfo | None:
        """Return the pod, None when it does not exist (any more)."""
        return self._look(pod_id) if registry.NAME.match(pod_id) else None

    def list(self) -> list[PodInfo]:
        """Return every pod; finishes what crashed callers left half done."""
        for folder in registry.trashed(self.registry):
            ending.finish(self.registry, folder, "terminated")
        registry.sweep_claims(self.registry)
        return [info for name in registry.names(self.registry) if (info := self._look(name)) is not None]

    def terminate(self, pod_id: str) -> None:
        """End the pod with every process in it; returns when nothing of it runs. Many files are removed behind it."""
        if registry.NAME.match(pod_id):
            ending.end_pod(self.registry, pod_id, "terminated")

    def change_markers(self, pod_id: str, stop: datetime | None, end: datetime | None) -> None:
        """Change stop and end; the supervisor keeps the new end at once."""
        folder = self.registry.pod(pod_id)
        if not registry.change(folder, **request.times(stop, end)):
            raise CloudRefused(f"there is no local pod {pod_id}")
        fd = ending.signal_holder(folder / "alive", signal.SIGHUP)
        if fd >= 0:
            os.close(fd)
        elif (end is None or end > self.now()) and self.get(pod_id) is None:
            # An end that has come meanwhile was kept: being gone is what was asked for.
            raise CloudRefused(f"the local pod {pod_id} has ended")

    def boot_problem(self, pod_id: str) -> None:
        """Know of none: what fails here fails in create."""

    def logs(self, pod_id: str) -> Iterator[bytes]:
        """Return what the pod's boot command has said so far."""
        folder = self.registry.pod(pod_id)
        with contextlib.suppress(FileNotFoundError), open(folder / "log", "rb") as file:
            while data := file.read(65536):
                yield data

    def exit_code(self, pod_id: str) -> int | None:
        """Return the exit code of a boot command that is not started again; None while it runs."""
        code = (registry.read(self.registry.pod(pod_id), "exit") or {}).get("code")
        return code if isinstance(code, int) else None

    def costs(self) -> builtins.list[CostItem]:
        """Return every pod with its price, and what ended ones still take from the disk: nothing else is here."""
        pods = [CostItem("pod", pod.id, pod.name, pod.price_per_hour or 0.0, pod.lease_id is not None) for pod in self.list()]
        left = [(folder.name.rpartition("~")[0], registry.size_of(folder)) for folder in registry.trashed(self.registry)]
        return pods + [CostItem("disk", name, f"{human_size(size)} of an ended pod, being removed", 0.0, ours=True) for name, size in left]

    def account(self) -> None:
        """Return nothing: this machine sends no bill."""

    def disks_per_hour(self, disk_gb: int, *, gpu: bool, volume: bool) -> float:
        """Return nothing: this machine's disk is no rented one."""
        return 0.0

    def billed(self, pod_id: str) -> None:
        """Return nothing: this machine sends no bill."""

    def now(self) -> datetime:
        """Return this machine's clock."""
        return datetime.now(UTC)

    def ended(self, pod_id: str) -> dict[str, Any] | None:
        """Return the record of a pod's end (``reason``, ``created``, ``ended``), None while there is none."""
        return registry.read(self.registry.ended, f"{pod_id}.json") if registry.NAME.match(pod_id) else None

    def doctor(self) -> builtins.list[tuple[str, bool, str]]:
        """Say which isolation level serves here and why, and what serves SSH."""
        forced = request.forced_isolation()
        why = launch.probe() if forced != "process" else "TRAINYARD_LOCAL_ISOLATION=process"
        sshd = launch.find_sshd()
        if not why:
            isolation = ("local pods", True, "isolation 'namespace': own processes, /root, /workspace and /tmp; killed by the kernel")
        elif forced == "namespace":
            isolation = ("local pods", False, f"isolation 'namespace' is forced but refused here: {why}")
        else:
            isolation = (
                "local pods",
                True,
                f"isolation 'process': kept together by a subreaper, HOME and WORKSPACE redirected ({why})",
            )
        server = f"OpenSSH ({sshd})" if sshd and not why else "asyncssh" + ("" if sshd else " (no sshd is installed)")
        gpus_here = hardware.gpus()
        names = ", ".join(gpu.name for gpu in gpus_here) or "none"
        if not launch.has_pidfd():
            isolation = ("local pods", False, "this kernel is too old to end pods safely: Linux 5.3 or newer is needed")
        serves = server.startswith("OpenSSH") or bool(launch.asyncssh_server())
        return [
            isolation,
            ("local ssh server", serves, server if serves else "none: install openssh-server or asyncssh"),
            ("local memory", True, limits.explain(hardware.memory())),
            ("local gpus", True, names),
        ]

    def _claim(self, state: dict[str, Any], content: Mapping[str, bytes], offer: Offer) -> bool:
        if not offer.gpu:
            return registry.claim(self.registry, state, content)
        used = self._used_gpus(without=state["name"])
        fitting = [gpu for gpu in self.gpus() if gpu.name == offer.gpu]
        held = {gpu.index: holder for gpu in fitting if (holder := self.holder(gpu)) is not None}
        mine = [gpu for gpu in fitting if gpu.index not in used and gpu.index not in held][: offer.gpu_count]
        if len(mine) < offer.gpu_count and not registry.read(self.registry.pod(state["name"]), "state.json"):
            raise NoCapacity(f"{offer.gpu_count} x {offer.gpu} wanted, {len(mine)} free on this machine{_held_by(held)}")
        # nvidia-smi counts in the order of the bus, CUDA by itself in another.
        indices = ",".join(str(gpu.index) for gpu in mine)
        env = {"CUDA_DEVICE_ORDER": "PCI_BUS_ID", "CUDA_VISIBLE_DEVICES": indices, **state["env"]}
        locks = [gpulocks.lock_path(gpu.uuid or f"index-{gpu.index}") for gpu in mine]
        gpu_state = {"gpu_indices": [gpu.index for gpu in mine], "gpu_locks": locks, "env": env}
        return registry.claim(self.registry, {**state, **gpu_state}, content)

    def gpus(self) -> builtins.list[hardware.GpuDevice]:
        """Return the GPUs that pods may have."""
        return hardware.gpus()

    def holder(self, gpu: hardware.GpuDevice) -> dict[str, Any] | None:
        """Return what is said of the pod that has a GPU, of whichever user; None for one that is free."""
        return gpulocks.holder(gpulocks.lock_path(gpu.uuid or f"index-{gpu.index}"))

    def _used_gpus(self, without: str = "") -> set[int]:
        used: set[int] = set()
        for name in registry.names(self.registry):
            state = registry.read(self.registry.pods / name, "state.json") if name != without else None
            used |= set((state or {}).get("gpu_indices", ()))
        return used

    def _look(self, name: str) -> PodInfo | None:
        """Return one pod as files and kernel say, after ending or starting what a crash left behind."""
        folder = self.registry.pods / name
        # In this order: a supervisor locks before it publishes, so a port without a holder means death.
        address = registry.read(folder, "port")
        alive = registry.holder(folder / "alive")
        subreaper = registry.holder(folder / "subreaper")
        state = registry.read(folder, "state.json")
        if not folder.exists():
            return None
        end = (state or {}).get("end")
        over = end is not None and time.time() > end
        if alive:
            if end is not None and time.time() > end + OVERDUE:
                return self._sweep(name, "end of the lease, kept from outside")
            return self._info(name, state, address, "running" if address else "starting")
        if subreaper:
            return self._info(name, state, address, "terminating" if address else "starting")
        if address is not None or state is None:
            return self._sweep(name, "the supervisor was killed" if state is None or self._same_boot(state) else "reboot")
        if over or not self._same_boot(state):
            return self._sweep(name, "end of the lease" if over else "reboot")
        if time.time() - state["created"] > PENDING:
            answer = launch.start(folder)
            if "error" in answer:
                return self._sweep(name, f"it did not start: {answer['error']}")
            address = answer if "port" in answer else None
        return self._info(name, state, address, "running" if address else "starting")

    def _sweep(self, name: str, reason: str) -> PodInfo | None:
        ending.end_pod(self.registry, name, reason)
        return None

    def _same_boot(self, state: Mapping[str, Any]) -> bool:
        return bool(state.get("boot_id") == boot_id())

    def _info(self, name: str, state: Mapping[str, Any] | None, address: Mapping[str, Any] | None, status: PodStatus) -> PodInfo:
        state = state or {}
        ids = parse_name(name)
        fence, lease = (ids.fence_id, ids.lease_id) if ids else (state.get("fence_id"), state.get("lease_id"))
        return PodInfo(
            id=name,
            name=name,
            status=status,
            raw_status=f"{status} ({registry.isolation_of(address)})" if address else status,
            price_per_hour=state.get("price"),
            created=_moment(state.get("created")),
            fence_id=fence if is_id(fence or "") else None,
            lease_id=lease if is_id(lease or "") else None,
            stop=_moment(state.get("stop")),
            end=_moment(state.get("end")),
            end_unreadable=not state,
            ssh=SshAddress("127.0.0.1", address["port"], address["user"]) if address else None,
            gpu=state.get("gpu"),
            gpu_count=state.get("gpu_count", 0),
            region=state.get("region"),
            workspace=address["workspace"] if address else "/workspace",
            host_key=state.get("host_key") or None,
            volume=state.get("volume"),
        )


@contextlib.contextmanager
def _choosing(offer: Offer) -> Iterator[None]:
    if not offer.gpu:
        yield
        return
    try:
        with gpulocks.choosing():
            yield
    except TimeoutError as error:
        raise NoCapacity(f"no GPU can be taken on this machine: {error}") from None


def _held_by(held: Mapping[int, Mapping[str, Any]]) -> str:
    """Say who has the GPUs, as the end of a sentence."""
    return "".join(f"; GPU {index} is held by {holder_text(said)}" for index, said in sorted(held.items()))


def holder_text(said: Mapping[str, Any]) -> str:
    """Say whose pod has a GPU and until when. It was written by another user: what is no such text is not shown."""
    user, pod, end = said.get("user"), said.get("pod"), said.get("end")
    whose = f"{user if isinstance(user, str) and registry.NAME.match(user) else 'somebody'}"
    named = f" ({pod})" if isinstance(pod, str) and registry.NAME.match(pod) else ""
    until = f" until {format_time(_moment(float(end)))}" if isinstance(end, (int, float)) and 0 < end < 1e11 else ""
    return f"{whose}{named}{until}"


def _moment(seconds: float | None) -> datetime | None:
    return datetime.fromtimestamp(seconds, UTC) if seconds is not None else None
