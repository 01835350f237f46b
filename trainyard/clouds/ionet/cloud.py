"""io.net behind the Cloud protocol: its containers and its machines, one account and one API in two sets of words.

Time is paid ahead by the whole hour, and what is left when a deployment is destroyed comes back as credits. That it ends when
its time is over is written nowhere in words, so nothing relies on it. A list tells a name, a status and minutes: all marks are
in the name, and price and creation are told of a deployment alone.
"""

from __future__ import annotations

import builtins
from collections import deque
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta

import httpx

from trainyard import __version__
from trainyard.clouds import bootlog
from trainyard.clouds.http import Api, Pace, check_address
from trainyard.clouds.ionet import answers, catalog
from trainyard.clouds.ionet.request import create_body
from trainyard.clouds.ionet.services import IonetService
from trainyard.clouds.keys import account_keys, refuse_key_in
from trainyard.clouds.offers import affordable
from trainyard.clouds.pages import Page, read_all
from trainyard.clouds.protocol import Account, Capabilities, CostItem, Offer, OfferQuery, PodInfo, PodSpec
from trainyard.clouds.rehearsal import is_rehearsal
from trainyard.clouds.values import json_object, mapping, number, path_id, price_of, seconds_of, text
from trainyard.clouds.vm import ssh_address
from trainyard.errors import CloudError, CloudRefused, CloudUnknown, NoCapacity, UserError
from trainyard.secret import Secret

URL = "https://api.io.solutions"
POST_TIMEOUT = 90.0
SETTLE = 60.0
PAGE = 100
TOGETHER = 8
"""Questions at once; no limit is documented, and one that says 429 is obeyed."""
LOG_IDLE = 2.0
LOG_LINES = 1000


@dataclass(slots=True)
class IonetCloud:
    """One service of one account at io.net."""

    service: IonetService
    key: Secret
    url: str = URL
    env: Mapping[str, str] = field(default_factory=dict, repr=False)
    pace: Pace = field(default_factory=Pace)
    settle: float = SETTLE
    post_timeout: float = POST_TIMEOUT
    name: str = field(init=False)
    capabilities: Capabilities = field(init=False)
    simulated: bool = field(init=False)
    address: str | None = field(init=False)
    _api: Api = field(init=False, repr=False)
    _seen: dict[str, PodInfo] = field(default_factory=dict, repr=False)
    """Deployments as they were shown alone: what a list does not tell of them stays true."""

    def __post_init__(self) -> None:
        self.name = self.service.name
        self.simulated = is_rehearsal(self.key.reveal())
        self.address = self.url if self.url != URL else None
        # A machine's watchdog hears of no longer lease: nothing of the cloud's can be read there.
        self.capabilities = Capabilities(
            self_terminate=False, deadline=False, change_markers=not self.service.ssh, settle=self.settle, listings=2,
            post_timeout=self.post_timeout, ssh=self.service.ssh, whole_hours=True,
        )  # fmt: skip
        headers = {"X-API-KEY": self.key.reveal(), "User-Agent": f"trainyard/{__version__}"}
        self._api = Api("io.net", f"{self.url}/enterprise/v1/io-cloud/{self.service.path}", headers, self.env, self.pace)

    @classmethod
    def from_env(cls, service: IonetService, env: Mapping[str, str]) -> IonetCloud:
        """Return a service of the account named by IOCLOUD_API_KEY; IOCLOUD_API_URL stands in for the real address."""
        (key,) = account_keys(service.name, env)
        settle, post = (
            seconds_of(env, name, usual) for name, usual in (("IOCLOUD_SETTLE_SECONDS", SETTLE), ("IOCLOUD_POST_SECONDS", POST_TIMEOUT))
        )
        url = check_address("IOCLOUD_API_URL", env.get("IOCLOUD_API_URL") or URL)
        return cls(service, key, url, dict(env), settle=settle, post_timeout=post)

    def offers(self, query: OfferQuery) -> builtins.list[Offer]:
        """Return what is free, in the query's order of preference, cheapest first within each GPU: a price for each location."""
        if not query.gpus:
            raise UserError("io.net rents nothing without a GPU", hint="Say which in trainyard:gpu.")
        hours = catalog.whole_hours(timedelta(hours=query.hours or 0))
        rows = self._data(f"/hardware/{self.service.most.replace('_', '-')}", {}, "hardware", "list its hardware")
        kinds = builtins.list(catalog.hardware_for(query, rows, self.service.most))

        def free(kind: tuple[int, str, int]) -> builtins.list[tuple[int, catalog.FreePlace]]:
            rank, gpu, hardware = kind
            return [(rank, place) for place in catalog.places(query, gpu, hardware, self._rooms(hardware, query.gpu_count))]

        def priced(ranked: tuple[int, catalog.FreePlace]) -> tuple[int, Offer | None]:
            return ranked[0], self._offer(ranked[1], hours)

        with ThreadPoolExecutor(TOGETHER) as pool:
            there = [ranked for some in pool.map(free, kinds) for ranked in some]
            offers = [(rank, offer) for rank, offer in pool.map(priced, there) if offer is not None and affordable(query, offer)]
        return [offer for _, offer in sorted(offers, key=lambda one: (one[0], one[1].price_per_hour))]

    def create(self, spec: PodSpec, offer: Offer) -> PodInfo:
        """Create one deployment, with at most one request that may have been accepted."""
        begun = self.pace.now()
        if spec.end is None:
            raise CloudRefused("io.net sells hours: a pod without an end cannot be paid for. Nothing was sent")
        try:
            choice = catalog.parse_choice(offer.id)
            rooms = [room for room in self._rooms(choice.hardware, choice.count) if room.get("id") == choice.location]
            hours = catalog.whole_hours(spec.end - (self._api.now() or datetime.now(UTC)))
            body = create_body(self.service, spec, choice, hours)
        except (UserError, CloudUnknown) as error:
            raise CloudRefused(f"no pod was asked for: {error.message}", hint=error.hint) from None
        refuse_key_in(body, self.key)
        if sum(number(room.get("available_replicas")) or 0 for room in rooms) < 1:
            raise NoCapacity(f"io.net has no {offer.gpu} left in {offer.region}")
        left = self.post_timeout - (self.pace.now() - begun)
        if left < self.post_timeout / 3:
            raise CloudRefused("io.net was too slow to say what it has; no pod was asked for")
        response = self._api.create("/deploy", body, limit=left)
        answer = json_object(response) or {}
        new_id = text(answer.get("deployment_id")) or text(mapping(answer.get("data")).get("deployment_id"))
        if not response.is_success or new_id is None:
            raise answers.create_error(response)
        return self._new(new_id, spec, offer)

    def rendered(self, query: OfferQuery, spec: PodSpec, offer: Offer, now: datetime) -> dict[str, object]:
        """Return the body of the deploy request."""
        hours = catalog.whole_hours((spec.end or now) - now)
        return create_body(self.service, spec, catalog.parse_choice(offer.id), hours)

    def get(self, pod_id: str) -> PodInfo | None:
        """Return the deployment; None only when the API itself says that there is none, or that it is over."""
        info = self._deployment_info(pod_id)
        if info is not None and self.service.ssh and info.status == "running":
            with suppress(CloudError):
                doors = [ssh_address(unit.get("ssh_access")) for unit in self._units(pod_id)]
                info = replace(info, ssh=next((door for door in doors if door), None))
        return info

    def list(self) -> builtins.list[PodInfo]:
        """Return every deployment that is not over, of all pages; of ours with price and creation, as far as they show alone."""
        rows = [row for row in self._rows() if not answers.over(row)]
        self._look_at(info.id for info in map(answers.pod_info, rows) if info.lease_id is not None)
        return [self._listed(row) for row in rows]

    def terminate(self, pod_id: str) -> None:
        """Ask for the deployment's end; one that is already over is success."""
        response = self._api.delete(_path(pod_id))
        if response.is_success or answers.told_gone(response):
            return
        with suppress(CloudError):
            if self.get(pod_id) is None:  # what is over by itself need not let itself be destroyed
                return
        raise answers.refusal(response, f"destroy deployment {pod_id}")

    def change_markers(self, pod_id: str, stop: datetime | None, end: datetime | None) -> None:
        """Buy as many hours as stop and end move by; CloudRefused where those are not the same whole hours, and nothing is bought."""
        info = self.get(pod_id) if self.capabilities.change_markers else None
        if info is None or stop is None or end is None or info.stop is None or info.end is None:
            raise CloudRefused(f"io.net cannot change the lease of {pod_id}: its times stand in its name")
        added = end - info.end
        if added != stop - info.stop or added % timedelta(hours=1) or added < timedelta():
            raise CloudRefused("io.net sells whole hours: a lease is moved by 1 h, 2 h, ...; nothing was bought")
        if not added:
            return
        hours = added // timedelta(hours=1)
        response = self._api.create(f"{_path(pod_id)}/extend", {"duration_hours": hours}, limit=self.post_timeout)
        if not response.is_success:
            raise answers.refusal(response, f"extend deployment {pod_id}")
        after = self.get(pod_id)
        if after is None or after.end != end:
            raise CloudUnknown(f"io.net took the request to extend {pod_id} by {hours} h and does not show it")

    def costs(self) -> builtins.list[CostItem]:
        """Return every deployment that is not over; what has ended before its time still holds what was paid for it."""
        rows = [row for row in self._rows() if not answers.over(row)]
        self._look_at(info.id for info in map(answers.pod_info, rows))
        return [_cost(self._listed(row)) for row in rows]

    def disks_per_hour(self, disk_gb: int, *, gpu: bool, volume: bool) -> float:
        """Return 0: a disk has no price of its own."""
        return 0.0

    def account(self) -> Account | None:
        """Return None: this API does not tell the balance."""
        return None

    def billed(self, pod_id: str) -> float | None:
        """Return None: what was paid ahead is told, and not what came back."""
        return None

    def boot_problem(self, pod_id: str) -> str | None:
        """Return why it does not boot, of its events and, of a container, its log; of one that has ended, its last line."""
        deployment = self._deployment(pod_id)
        if deployment is None:
            return None
        units = self._units(pod_id)
        events = [line for unit in units for line in self._events(unit)]
        lines = [] if self.service.ssh else [line for unit in units for line in self._log(pod_id, str(unit.get("container_id")))]
        if problem := bootlog.boot_problem(events, lines):
            return problem
        last = next((line for line in reversed(lines) if line.strip()), None)
        return f"its command has ended: {last[:300]}" if last and deployment.get("status") in ("completed", "failed") else None

    def now(self) -> datetime:
        """Return the API's clock."""
        if self._api.now() is None:
            self._page("0", "1")
        return self._api.now() or datetime.now(UTC)

    def close(self) -> None:
        """Close the connections."""
        self._api.close()

    def _new(self, pod_id: str, spec: PodSpec, offer: Offer) -> PodInfo:
        """Return a deployment just made; one that does not show yet is known by what was asked for."""
        info = None
        with suppress(CloudError):
            info = self.get(pod_id)
        if info is not None and (info.name not in ("", spec.name) or info.lease_id not in (None, spec.lease_id)):
            raise CloudUnknown(f"io.net answered the create request with another deployment ({pod_id}, '{info.name}')")
        if info is not None and info.lease_id is not None:
            return info
        return PodInfo(
            pod_id, spec.name, "accepted", "", offer.price_per_hour, self._api.now() or datetime.now(UTC), fence_id=spec.fence_id,
            lease_id=spec.lease_id, stop=spec.stop, end=spec.end, gpu=offer.gpu, gpu_count=offer.gpu_count, region=offer.region,
        )  # fmt: skip

    def _offer(self, place: catalog.FreePlace, hours: int) -> Offer | None:
        choice = place.choice
        asked = {
            "location_ids": f"[{choice.location}]", "hardware_id": str(choice.hardware), "duration_hours": str(hours),
            self.service.gpus: str(choice.count), "replica_count": "1", **self.service.price,
        }  # fmt: skip
        response = self._api.read("/price", asked)
        total = price_of(mapping((json_object(response) or {}).get("data")).get("total_cost_usdc"))
        if response.status_code != 200 or total is None:
            raise answers.refusal(response, "tell a price")
        hourly = round(total / hours, 6)
        return Offer(str(choice), self.name, place.gpu, choice.count, hourly, place.region, prepaid=total) if total else None

    def _rooms(self, hardware: int, count: int) -> builtins.list[catalog.Row]:
        asked = {"hardware_id": str(hardware), "hardware_qty": str(count)}
        return self._data(f"/{self.service.room}", asked, "", "say where it is free")

    def _listed(self, row: catalog.Row) -> PodInfo:
        info = answers.pod_info(row)
        known = self._seen.get(info.id)
        return replace(info, price_per_hour=known.price_per_hour, created=known.created, region=known.region) if known else info

    def _look_at(self, ids: Iterable[str]) -> None:
        """Let deployments be shown alone that never were: a list has neither price nor creation. What fails is asked for again."""

        def look(pod_id: str) -> None:
            with suppress(CloudError):
                self._deployment_info(pod_id)

        if unseen := [pod_id for pod_id in ids if pod_id not in self._seen]:
            with ThreadPoolExecutor(TOGETHER) as pool:
                builtins.list(pool.map(look, unseen))

    def _rows(self) -> builtins.list[catalog.Row]:
        """Return every deployment there ever was, or raise."""
        number_of_page = -1

        def page(offset: int) -> Page:
            nonlocal number_of_page
            number_of_page = number_of_page + 1 if offset else 0
            return self._page(str(number_of_page), str(PAGE))

        return read_all("io.net was asked to list deployments", page)

    def _page(self, page: str, size: str) -> Page:
        response = self._api.read("/deployments", {"page": page, "page_size": size}, urgent=True)
        data = mapping((json_object(response) or {}).get("data"))
        rows, total = data.get("deployments"), number(data.get("total"))
        if response.status_code != 200 or total is None or not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
            raise answers.refusal(response, "list deployments")
        return rows, int(total)

    def _deployment_info(self, pod_id: str) -> PodInfo | None:
        """Return a deployment without its address, None for one that is over; what it shows is kept."""
        deployment = self._deployment(pod_id)
        if deployment is None or answers.over(deployment):
            return None
        self._seen[pod_id] = answers.pod_info(deployment)
        return self._seen[pod_id]

    def _deployment(self, pod_id: str) -> catalog.Row | None:
        response = self._api.read(_path(pod_id), urgent=True)
        if answers.told_gone(response):
            return None
        deployment = mapping((json_object(response) or {}).get("data"))
        if response.status_code != 200 or deployment.get("id") != pod_id:
            raise answers.refusal(response, f"show deployment {pod_id}")
        return deployment

    def _units(self, pod_id: str) -> builtins.list[catalog.Row]:
        """Return the containers or machines of a deployment: one, as it was asked for."""
        return self._data(f"{_path(pod_id)}/{self.service.units}", {}, "workers", f"show what deployment {pod_id} consists of")

    def _events(self, unit: catalog.Row) -> builtins.list[str]:
        events = unit.get(f"{self.service.unit}_events")
        return [str(mapping(event).get("message")) for event in events] if isinstance(events, list) else []

    def _log(self, pod_id: str, container: str) -> builtins.list[str]:
        """Return the last lines of a container: its streams never end, so they count as read after a silent moment."""
        lines: deque[str] = deque(maxlen=LOG_LINES)
        for stream in ("stdout", "stderr"):
            path = f"{_path(pod_id)}/log/{path_id('io.net', container)}"
            try:
                with self._api.stream(path, {"stream": stream}, idle=LOG_IDLE) as response:
                    if response.status_code != 200:
                        response.read()
                        raise answers.refusal(response, f"show the log of {pod_id}")
                    lines.extend(response.iter_lines())
            except httpx.ReadTimeout:
                continue
            except httpx.HTTPError as error:
                raise CloudUnknown(f"io.net's log of {pod_id} broke off: {error}") from None
        return builtins.list(lines)

    def _data(self, path: str, params: Mapping[str, str], key: str, what: str) -> builtins.list[catalog.Row]:
        """Return a list of objects, or raise; ``key``: where in ``data`` it stands, empty where that is the list."""
        response = self._api.read(path, params)
        data = (json_object(response) or {}).get("data")
        entries = mapping(data).get(key) if key else data
        if response.status_code != 200 or not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
            raise answers.refusal(response, what)
        return entries


def _cost(info: PodInfo) -> CostItem:
    stopped = info.status in ("exited", "error")
    return CostItem("stopped pod" if stopped else "pod", info.id, info.name, info.price_per_hour, info.lease_id is not None)


def _path(pod_id: str) -> str:
    return "/deployment/" + path_id("io.net", pod_id)
