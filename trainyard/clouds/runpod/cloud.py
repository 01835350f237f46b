"""RunPod behind the Cloud protocol (REST v2; issue 5). What it cannot do: a deadline at the cloud, and changing marks
without a restart; so the watchdog and the reaper carry the lease's end."""

from __future__ import annotations

import builtins
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime

import httpx

from trainyard import __version__
from trainyard.clouds.bootlog import boot_problem
from trainyard.clouds.http import Api, Pace, check_address
from trainyard.clouds.keys import account_keys, refuse_key_in
from trainyard.clouds.offers import check_gpus, no_region
from trainyard.clouds.protocol import Account, Capabilities, CostItem, Offer, OfferQuery, PodInfo, PodSpec
from trainyard.clouds.rehearsal import is_rehearsal
from trainyard.clouds.rendering import BID
from trainyard.clouds.runpod import answers, catalog
from trainyard.clouds.runpod.graphql import GraphQlClient
from trainyard.clouds.runpod.request import disks, rest_body, spot_input
from trainyard.clouds.runpod.volumes import RunPodVolumes, month_of
from trainyard.clouds.values import json_object, number, path_id, seconds_of
from trainyard.errors import CloudError, CloudRefused, CloudUnknown, UserError
from trainyard.jsontext import parse_json, uncollected
from trainyard.secret import Secret

REST = "https://api.runpod.io/v2"
GRAPHQL = "https://api.runpod.io/graphql"
POST_TIMEOUT = 90.0
SETTLE = 60.0
LOG_IDLE = 3.0
DEFAULT_IMAGE = "runpod/pytorch:1.0.2-cu1281-torch280-ubuntu2404"
"""RunPod's own image, for whoever has not built the trainer image; the start arguments bring the watchdog."""


@dataclass(slots=True)
class RunPodCloud:
    """One account at RunPod."""

    key: Secret
    url: str = REST
    graphql_url: str = GRAPHQL
    env: Mapping[str, str] = field(default_factory=dict, repr=False)
    pace: Pace = field(default_factory=Pace)
    settle: float = SETTLE
    post_timeout: float = POST_TIMEOUT
    name: str = "runpod"
    capabilities: Capabilities = field(init=False)
    simulated: bool = field(init=False)
    """True when the key is a rehearsal's; a proxy in front of the real API rents real pods."""
    address: str | None = field(init=False)
    _api: Api = field(init=False, repr=False)
    _graphql: GraphQlClient = field(init=False, repr=False)

    def __post_init__(self) -> None:
        self.simulated = is_rehearsal(self.key.reveal())
        self.address = self.url if self.url != REST else self.graphql_url if self.graphql_url != GRAPHQL else None
        self.capabilities = Capabilities(
            self_terminate=True, deadline=False, change_markers=False,
            settle=self.settle, listings=2, post_timeout=self.post_timeout,
        )  # fmt: skip
        headers = {"Authorization": f"Bearer {self.key.reveal()}", "User-Agent": f"trainyard/{__version__}"}
        self._api = Api("RunPod", self.url, headers, self.env, self.pace)
        self._graphql = GraphQlClient(Api("RunPod", self.graphql_url, headers, self.env, self.pace, breaker=self._api.breaker))

    @classmethod
    def from_env(cls, env: Mapping[str, str]) -> RunPodCloud:
        """Return the account named by RUNPOD_API_KEY; RUNPOD_API_URL and RUNPOD_GRAPHQL_URL stand in for the real addresses."""
        (key,) = account_keys("runpod", env)
        url = check_address("RUNPOD_API_URL", env.get("RUNPOD_API_URL") or REST)
        other = env.get("RUNPOD_GRAPHQL_URL") or (GRAPHQL if url == REST else url.removesuffix("/v2") + "/graphql")
        return cls(
            key,
            url,
            check_address("RUNPOD_GRAPHQL_URL", other),
            dict(env),
            settle=seconds_of(env, "RUNPOD_SETTLE_SECONDS", SETTLE),
            post_timeout=seconds_of(env, "RUNPOD_POST_SECONDS", POST_TIMEOUT),
        )

    def offers(self, query: OfferQuery) -> builtins.list[Offer]:
        """Return what the catalog says can be rented, in the query's order of preference."""
        centers = self._data_centers(query.regions)
        if query.volume:
            centers = self._center_of(query.volume, centers)
        if not query.gpus:
            if query.spot:
                raise UserError("RunPod has no spot pods without a GPU")
            entries = self._catalog("/catalog/cpus", "cpus", {"vcpuCount": "4"})
            return catalog.cpu_offers(query, entries, centers)
        matching: builtins.list[Offer] = []
        for tier in catalog.tiers(query):
            cuda = {"minCudaVersion": query.min_cuda} if query.min_cuda else {}
            entries = self._catalog("/catalog/gpus", "gpus", {"count": str(query.gpu_count), "cloud": tier, **cuda})
            check_gpus(query.gpus, catalog.names(entries))
            matching += catalog.gpu_offers(query, tier, entries, centers)
        return self._graphql.spot_offers(query, matching) if query.spot else matching

    def create(self, spec: PodSpec, offer: Offer) -> PodInfo:
        """Create one pod, with at most one request that RunPod may have accepted."""
        try:
            body = self._body(spec, offer)
        except UserError as error:
            # Whoever asks must know that nothing was sent.
            raise CloudRefused(error.message, hint=error.hint) from None
        refuse_key_in(body, self.key)
        if offer.spot:
            return self._info_of(self._graphql.create_spot(body, limit=self.post_timeout))
        response = self._api.create("/pods", body, limit=self.post_timeout)
        if response.status_code not in (200, 201, 202):
            raise answers.create_error(response)
        pod = json_object(response)
        if pod is None or not pod.get("id"):
            raise CloudUnknown("RunPod accepted the create request without telling the pod's id")
        info = answers.pod_info(pod)
        if info.name not in ("", spec.name) or info.lease_id not in (None, spec.lease_id):
            # Whose pod that is is not known: it is never taken for ours, or it would be ended for ours.
            raise CloudUnknown(f"RunPod answered the create request with another pod ({info.id}, '{info.name}')")
        return info

    def rendered(self, query: OfferQuery, spec: PodSpec, offer: Offer, now: datetime) -> dict[str, object]:
        """Return the body of the create request: of REST, of a spot pod the input of GraphQL's mutation, whose bid is the price then."""
        return self._body(spec, offer) | ({"bidPerGpu": BID} if offer.spot else {})

    def _body(self, spec: PodSpec, offer: Offer) -> dict[str, object]:
        if not spec.image and not spec.template:
            spec = replace(spec, image=DEFAULT_IMAGE)
        addresses = {"RUNPOD_API_URL": self.url, "RUNPOD_GRAPHQL_URL": self.graphql_url}
        return spot_input(spec, offer, addresses) if offer.spot else rest_body(spec, offer, addresses)

    def get(self, pod_id: str) -> PodInfo | None:
        """Return the pod; None only when RunPod itself says that there is none."""
        response = self._api.read(f"/pods/{path_id('RunPod', pod_id)}", urgent=True)
        if answers.told_gone(response):
            return None
        body = json_object(response)
        if response.status_code != 200 or body is None or body.get("id") != pod_id:
            raise answers.refusal(response, f"show pod {pod_id}")
        return None if body.get("status") == answers.GONE else answers.pod_info(body)

    def list(self) -> builtins.list[PodInfo]:
        """Return every pod of the account, those of clusters too."""
        pods = {str(pod.get("id")): pod for pod in self._pods()}
        with uncollected():
            return [answers.pod_info(pod) for pod in pods.values() if pod.get("status") != answers.GONE]

    def terminate(self, pod_id: str) -> None:
        """Ask RunPod to end the pod: REST, and GraphQL when REST gives no answer."""
        try:
            response = self._api.delete(f"/pods/{path_id('RunPod', pod_id)}")
        except CloudUnknown as error:
            self._terminate_otherwise(pod_id, error)
            return
        if response.status_code in (200, 202, 204) or answers.told_gone(response):
            return
        refused = answers.refusal(response, f"end pod {pod_id}")
        if isinstance(refused, CloudUnknown):
            self._terminate_otherwise(pod_id, refused)
            return
        raise refused

    def change_markers(self, pod_id: str, stop: datetime | None, end: datetime | None) -> None:
        """Refuse: RunPod restarts the container when its variables change."""
        raise CloudRefused("RunPod cannot change a running pod's lease: a changed variable restarts the container and ends the training")

    def costs(self) -> builtins.list[CostItem]:
        """Return pods, stopped pods, their disks and all network volumes, in dollars per hour."""
        items = [item for pod in self._pods() for item in _pod_costs(pod)]
        for volume in self._entries("/network-volumes", "networkVolumes", {}):
            month, name = month_of(volume), str(volume.get("name"))
            hourly = None if month is None else month / catalog.HOURS_A_MONTH
            items.append(CostItem("volume", str(volume.get("id")), name, hourly, name.startswith("trainyard"), number(volume.get("size"))))
        return items

    def volumes(self) -> RunPodVolumes:
        """Return the account's network volumes."""
        return RunPodVolumes(self._api, self.post_timeout, lambda path, key: self._entries(path, key, {}), self._pods)

    def disks_per_hour(self, disk_gb: int, *, gpu: bool, volume: bool) -> float:
        """Return the dollars an hour of a pod's own disks: billed beside its price."""
        return sum(disks(disk_gb, gpu=gpu, volume=volume)) * catalog.DISK_MONTH / catalog.HOURS_A_MONTH

    def now(self) -> datetime:
        """Return RunPod's clock."""
        if self._api.now() is None:
            self._pods()
        return self._api.now() or datetime.now(UTC)

    def account(self) -> Account:
        """Return the balance (only GraphQL tells it) and the bill of the last 30 days."""
        balance, per_hour = self._graphql.balance()
        return Account(balance, per_hour, self._bill({}))

    def billed(self, pod_id: str) -> float:
        """Return the dollars on the bill of the last 30 days for one pod."""
        return self._bill({"podId": pod_id})

    def boot_problem(self, pod_id: str) -> str | None:
        """Return the name of what keeps a pod from booting (a failed pull, a wrong platform, a restart loop), as its logs tell it."""
        return boot_problem(self._text_lines(pod_id, "system"), self._text_lines(pod_id, "container"))

    def close(self) -> None:
        """Close the connections."""
        self._api.close()
        self._graphql.api.close()

    def _bill(self, params: Mapping[str, str]) -> float:
        response = self._api.read("/billing/pods", params)
        metadata = (json_object(response) or {}).get("metadata")
        totals = metadata.get("totals") if isinstance(metadata, dict) else None
        billed = number(totals.get("totalAmount")) if isinstance(totals, dict) else None
        if response.status_code != 200 or billed is None:
            raise answers.refusal(response, "show the bill")
        return billed

    def _info_of(self, pod_id: str) -> PodInfo:
        """Return a pod just made by its id; one that cannot be read yet is known by its id at least."""
        try:
            info = self.get(pod_id)
        except CloudError:
            info = None
        return info or answers.pod_info({"id": pod_id, "status": "PROVISIONING"})

    def _terminate_otherwise(self, pod_id: str, error: CloudUnknown) -> None:
        try:
            self._graphql.terminate(pod_id)
        except CloudError:
            raise error from None

    def _pods(self) -> builtins.list[Mapping[str, object]]:
        return self._entries("/pods", "pods", {"includeClusterPods": "true"}, urgent=True)

    def _catalog(self, path: str, key: str, params: Mapping[str, str]) -> builtins.list[Mapping[str, object]]:
        return self._entries(path, key, {"include": "AVAILABILITY", "product": "POD", **params})

    def _entries(self, path: str, key: str, params: Mapping[str, str], *, urgent: bool = False) -> builtins.list[Mapping[str, object]]:
        """Return a list of objects, complete, or raise."""
        response = self._api.read(path, params, urgent=urgent)
        body = json_object(response)
        entries = body.get(key) if body is not None else None
        clean = body is not None and not body.get("errors") and not body.get("error")
        if response.status_code != 200 or not clean or not isinstance(entries, list) or not all(isinstance(e, dict) for e in entries):
            raise answers.refusal(response, f"list {key}")
        return entries

    def _data_centers(self, regions: tuple[str, ...]) -> frozenset[str] | None:
        """Return the data centers that region names stand for: ``EU-RO-1``, ``EU`` or ``EUROPE``; None for all."""
        if not regions:
            return None
        known = {str(e.get("id")): str(e.get("region")) for e in self._entries("/catalog/datacenters", "dataCenters", {})}
        allowed = set()
        for region in (r.upper() for r in regions):
            hits = {center for center, part in known.items() if region in (center, part) or center.startswith(f"{region}-")}
            if not hits:
                raise no_region("RunPod", region, known, "data center or region")
            allowed |= hits
        return frozenset(allowed)

    def _center_of(self, volume: str, allowed: frozenset[str] | None) -> frozenset[str]:
        """Return the data center of a network volume: nowhere else can a pod mount it."""
        known = {str(e.get("id")): str(e.get("dataCenter")) for e in self._entries("/network-volumes", "networkVolumes", {})}
        if volume not in known:
            hint = f"Volumes of this account: {', '.join(sorted(known)) or 'none'}."
            raise UserError(f"RunPod has no network volume '{volume}'", hint=hint)
        if allowed is not None and known[volume] not in allowed:
            raise UserError(f"network volume '{volume}' lies in {known[volume]}, which 'regions' leaves out")
        return frozenset({known[volume]})

    def _text_lines(self, pod_id: str, source: str) -> builtins.list[str]:
        return [line.decode(errors="replace").rstrip("\n") for line in self._log_lines(pod_id, source)]

    def _log_lines(self, pod_id: str, source: str) -> Iterator[bytes]:
        """Yield the last 5000 lines; RunPod's stream never ends, so it counts as read after a silent moment."""
        params = {"source": source, "tail": "5000"}
        try:
            with self._api.stream(f"/pods/{path_id('RunPod', pod_id)}/logs", params, idle=LOG_IDLE) as response:
                if response.status_code != 200:
                    response.read()
                    raise answers.refusal(response, f"show the log of pod {pod_id}")
                for line in response.iter_lines():
                    if line.startswith("data:"):
                        yield _log_line(line.removeprefix("data:"))
        except httpx.ReadTimeout:
            return
        except httpx.HTTPError as error:
            raise CloudUnknown(f"RunPod's log broke off: {error}") from None


def _log_line(data: str) -> bytes:
    try:
        line = parse_json(data)["line"]
    except (ValueError, KeyError, TypeError):
        line = data.strip()
    return str(line).encode() + b"\n"


def _pod_costs(pod: Mapping[str, object]) -> Iterator[CostItem]:
    info = answers.pod_info(pod)
    ours = info.lease_id is not None
    if info.raw_status == answers.GONE:
        return
    stopped = info.status == "exited"
    yield CostItem("stopped pod" if stopped else "pod", info.id, info.name, info.price_per_hour, ours)
    mounts = pod.get("mounts")
    persistent = mounts.get("persistent") if isinstance(mounts, dict) else None
    size = (number(persistent.get("size")) or 0.0) if isinstance(persistent, dict) else 0.0
    monthly = size * catalog.STOPPED_DISK_MONTH if stopped else (size + (number(pod.get("disk")) or 0.0)) * catalog.DISK_MONTH
    if monthly:
        yield CostItem("disk", info.id, f"{info.name} (disk)", monthly / catalog.HOURS_A_MONTH, ours)


def _path(pod_id: str) -> str:
    return "/pods/" + path_id("RunPod", pod_id)
