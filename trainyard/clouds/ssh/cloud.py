"""The cloud of one's own machines: each is asked over SSH, all of them at once, and its own word is the truth of it.

A pod is a lease on GPUs of a machine: what the local cloud is here, it is there, with the same guardians, its own SSH server
on a loopback port, and the same end. That port is reached through the machine's own sshd, as the user's ssh logs in to it.
"""

from __future__ import annotations

import builtins
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any, TypeVar

from trainyard.clock import format_time, parse_time
from trainyard.clouds import gpus
from trainyard.clouds.local.cloud import holder_text
from trainyard.clouds.protocol import Capabilities, CostItem, Offer, OfferQuery, PodInfo, PodSpec, SshAddress
from trainyard.clouds.ssh import joined
from trainyard.clouds.ssh.asking import LONG, ask, plain
from trainyard.errors import CloudError, CloudUnknown, NoCapacity
from trainyard.settings.hosts import OwnHost

T = TypeVar("T")
_AT = "@"
"""Between a pod's name and its machine's in an id."""
MOST_AT_ONCE = 16


class OwnMachines:
    """Pods on the machines of ``hosts``."""

    name = "ssh"
    address: str | None = None
    capabilities = Capabilities(
        self_terminate=True,
        deadline=True,
        change_markers=True,
        settle=30.0,  # a login that hangs may yet begin what it was sent for
        listings=1,
        post_timeout=LONG,
    )

    def __init__(self, hosts: Sequence[OwnHost], *, simulated: bool = False) -> None:
        self.hosts = list(hosts)
        self.simulated = simulated

    def offers(self, query: OfferQuery) -> list[Offer]:
        """Return what is free on the machines that answer. Raises NoCapacity, naming who has them, when all that fit are leased."""
        if query.spot or query.tier:
            return []
        hosts = [host for host in self.hosts if host.is_in(query.regions) and not host.draining]
        hosts = [host for host in hosts if query.max_price is None or host.price <= query.max_price]
        looked = _together(hosts, lambda host: _tried(lambda: ask(host, "look")))
        seen = {host.name: have for host, have in zip(hosts, looked, strict=True) if not isinstance(have, CloudError)}
        if hosts and not seen:
            raise next(have for have in looked if isinstance(have, CloudError))
        if not query.gpus:
            return [Offer(f"{host.name}:cpu", self.name, None, 0, host.price, host.name) for host in hosts if host.name in seen]
        fitting = {host.name: _fitting(host, seen[host.name], query) for host in hosts if host.name in seen}
        cheapest = sorted((host for host in hosts if host.name in seen), key=lambda host: host.price)
        offers = [offer for word in range(len(query.gpus)) for host in cheapest for offer in fitting[host.name].offers[word]]
        if not offers and (held := [text for fit in fitting.values() for text in fit.held]):
            raise NoCapacity(f"all GPUs that fit are leased: {'; '.join(held)}")
        return list({offer.id: offer for offer in offers}.values())

    def create(self, spec: PodSpec, offer: Offer) -> PodInfo:
        """Lease GPUs of the offer's machine and start the pod there; returns when its SSH port is open."""
        host = self._host(offer.region or "")
        details = {**plain(spec), "stop": format_time(spec.stop), "end": format_time(spec.end)}
        asked = {"spec": details, "offer": plain(offer), "now": datetime.now(UTC).timestamp()}
        if host.joined is not None:
            joined.note(host.joined, spec.name, spec.end)
        return _info(host, ask(host, "create", asked, timeout=LONG))

    def get(self, pod_id: str) -> PodInfo | None:
        """Return the pod; None when its machine says that it is not there."""
        name, host = self._place(pod_id)
        try:
            pod = ask(host, "get", {"pod": name})
        except CloudUnknown:
            if host.joined is None or joined.may_have(host.joined, name):
                raise
            return None
        return None if pod is None else _info(host, pod)

    def list(self) -> list[PodInfo]:
        """Return the pods of all machines. One that cannot be asked makes the list an error: what is on it is not known.

        Of one that has joined it is known what may be there, and that is listed.
        """
        looked: builtins.list[Any] = _together(self.hosts, lambda host: _tried(lambda: self._pods(host)))
        silent = [have for have in looked if isinstance(have, CloudError)]
        if silent:
            hint = "A machine that is off for longer: take it out of 'hosts' for that time; its leases end by themselves."
            raise CloudUnknown("; ".join(error.message for error in silent), hint=f"{silent[0].hint}\n{hint}" if silent[0].hint else hint)
        return [pod for pods in looked for pod in pods]

    def _pods(self, host: OwnHost) -> builtins.list[PodInfo]:
        try:
            return [_info(host, pod) for pod in ask(host, "list")]
        except CloudUnknown:
            if host.joined is None:
                raise
            return [replace(pod, id=f"{pod.name}{_AT}{host.name}") for pod in joined.noted_pods(host)]

    def terminate(self, pod_id: str) -> None:
        """End a pod with every process of it, and remove its folder and its locks; the machine itself is left as it is."""
        name, host = self._place(pod_id)
        ask(host, "end", {"pod": name}, timeout=LONG)
        if host.joined is not None:
            joined.forget(host.joined, name)

    def change_markers(self, pod_id: str, stop: datetime | None, end: datetime | None) -> None:
        """Change stop and end; the pod's guardian keeps them at once, and the locks of its GPUs say them."""
        name, host = self._place(pod_id)
        if host.joined is not None:
            joined.note(host.joined, name, end)
        ask(host, "change", {"pod": name, "stop": format_time(stop), "end": format_time(end)})

    def costs(self) -> builtins.list[CostItem]:
        """Return every pod with its price, nothing where the settings say none."""
        return [CostItem("pod", pod.id, pod.name, pod.price_per_hour or 0.0, pod.lease_id is not None) for pod in self.list()]

    def boot_problem(self, pod_id: str) -> None:
        """Know of none: what fails here fails in create."""

    def account(self) -> None:
        """Return nothing: one's own machines send no bill."""

    def disks_per_hour(self, disk_gb: int, *, gpu: bool, volume: bool) -> float:
        """Return nothing: the disk is one's own."""
        return 0.0

    def billed(self, pod_id: str) -> None:
        """Return nothing: one's own machines send no bill."""

    def now(self) -> datetime:
        """Return this machine's clock; a machine whose own is another takes no lease."""
        return datetime.now(UTC)

    def _place(self, pod_id: str) -> tuple[str, OwnHost]:
        name, _, host = pod_id.rpartition(_AT)
        return name or pod_id, self._host(host)

    def _host(self, name: str) -> OwnHost:
        for host in self.hosts:
            if host.name == name:
                return host
        known = ", ".join(host.name for host in self.hosts)
        raise CloudUnknown(f"'{name}' is none of the hosts that are named here ({known})", hint="Name it again in trainyard:hosts.")


class _Fit:
    """What of a machine fits a query: its offers, one list for each word of the query, and who has what is not free."""

    def __init__(self, words: int) -> None:
        self.offers: list[list[Offer]] = [[] for _ in range(words)]
        self.held: list[str] = []


def _fitting(host: OwnHost, have: Sequence[Mapping[str, Any]], query: OfferQuery) -> _Fit:
    fit = _Fit(len(query.gpus))
    large = [gpu for gpu in have if gpus.has_memory(gpu["vram_gb"] or None, query.min_vram_gb)]
    for number, word in enumerate(query.gpus):
        named = [large[index] for index in gpus.match(word, [(gpu["name"],) for gpu in large])]
        for kind in dict.fromkeys(gpu["name"] for gpu in named):
            alike = [gpu for gpu in named if gpu["name"] == kind]
            if sum(gpu["holder"] is None for gpu in alike) >= query.gpu_count:
                offer = Offer(f"{host.name}:{kind}", "ssh", kind, query.gpu_count, host.price, host.name)
                fit.offers[number].append(offer)
            elif len(alike) >= query.gpu_count:
                held = [(gpu["index"], gpu["holder"]) for gpu in alike if gpu["holder"] is not None]
                fit.held += [f"{host.name} GPU {index} by {holder_text(holder)}" for index, holder in held]
    fit.held = list(dict.fromkeys(fit.held))
    return fit


def _info(host: OwnHost, said: Mapping[str, Any]) -> PodInfo:
    door = said.get("ssh")
    times = {key: parse_time(said[key]) for key in ("created", "stop", "end")}
    pod = PodInfo(**{**said, **times, "ssh": None})
    way = SshAddress(door["host"], door["port"], door["user"], through=host.login.url) if door else None
    return replace(pod, id=f"{pod.name}{_AT}{host.name}", ssh=way, region=host.name)


def _together(hosts: Sequence[OwnHost], do: Callable[[OwnHost], T]) -> list[T]:
    with ThreadPoolExecutor(min(MOST_AT_ONCE, max(1, len(hosts)))) as pool:
        return list(pool.map(do, hosts))


def _tried(do: Callable[[], T]) -> T | CloudError:
    try:
        return do()
    except CloudError as error:
        return error
