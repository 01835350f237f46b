"""Lambda Cloud behind the Cloud protocol. Its machines are VMs; a key of the account is the only one it knows, so no machine
can end itself (that key never goes there): the lease's end is kept by who holds the key, reaper and controller."""

from __future__ import annotations

import builtins
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime

from trainyard import __version__
from trainyard.clock import format_time
from trainyard.clouds.http import Api, Pace, check_address
from trainyard.clouds.intervals import Intervals
from trainyard.clouds.keys import account_keys, refuse_key_in
from trainyard.clouds.lambdacloud import answers, catalog
from trainyard.clouds.lambdacloud.volumes import MOUNT, LambdaVolumes
from trainyard.clouds.offers import no_region
from trainyard.clouds.protocol import Account, Capabilities, CostItem, Offer, OfferQuery, PodInfo, PodSpec
from trainyard.clouds.rehearsal import is_rehearsal
from trainyard.clouds.values import json_object, mapping, path_id, seconds_of, text
from trainyard.clouds.vm import WORKSPACE, AccountKey, forget, host_key_mark, key_name, refuse_containers, register, user_data
from trainyard.errors import CloudError, CloudRefused, CloudUnknown, UserError
from trainyard.secret import Secret

URL = "https://cloud.lambda.ai/api/v1"
LAUNCH = "/instance-operations/launch"
PACE = {f"POST {LAUNCH}": 12.5, "": 1.05}
"""Seconds between two requests: launches, all others."""
POST_TIMEOUT = 120.0
SETTLE = 90.0
LONGEST_NAME = 64


@dataclass(slots=True)
class LambdaCloud:
    """One account at Lambda."""

    key: Secret
    url: str = URL
    env: Mapping[str, str] = field(default_factory=dict, repr=False)
    pace: Pace = field(default_factory=Pace)
    settle: float = SETTLE
    post_timeout: float = POST_TIMEOUT
    intervals: Mapping[str, float] = field(default_factory=lambda: PACE)
    name: str = "lambda"
    capabilities: Capabilities = field(init=False)
    simulated: bool = field(init=False)
    address: str | None = field(init=False)
    _api: Api = field(init=False, repr=False)

    def __post_init__(self) -> None:
        self.simulated = is_rehearsal(self.key.reveal())
        self.address = self.url if self.url != URL else None
        self.capabilities = Capabilities(
            self_terminate=False, deadline=False, change_markers=False,
            settle=self.settle, listings=2, post_timeout=self.post_timeout,
        )  # fmt: skip
        headers = {"Authorization": f"Bearer {self.key.reveal()}", "User-Agent": f"trainyard/{__version__}"}
        self._api = Api("Lambda", self.url, headers, self.env, self.pace, intervals=Intervals(self.intervals))

    @classmethod
    def from_env(cls, env: Mapping[str, str]) -> LambdaCloud:
        """Return the account named by LAMBDA_API_KEY; LAMBDA_API_URL stands in for the real address."""
        (key,) = account_keys("lambda", env)
        url = check_address("LAMBDA_API_URL", env.get("LAMBDA_API_URL") or URL)
        settle, post = (
            seconds_of(env, name, usual) for name, usual in (("LAMBDA_SETTLE_SECONDS", SETTLE), ("LAMBDA_POST_SECONDS", POST_TIMEOUT))
        )
        # An emulator has no limit to keep, and a rehearsal is not to take longer for it.
        pace = {} if is_rehearsal(key.reveal()) and url != URL else PACE
        return cls(key, url, dict(env), settle=settle, post_timeout=post, intervals=pace)

    def offers(self, query: OfferQuery) -> builtins.list[Offer]:
        """Return the types of instances for which there is room, in the query's order of preference."""
        if query.spot:
            raise UserError("Lambda rents no spot machines")
        types = self._data("/instance-types", "list types of instances")
        if not isinstance(types, dict):
            raise CloudUnknown("Lambda's list of types of instances is none")
        regions = self._regions(query.regions)
        return catalog.offers(query, [mapping(item) for item in types.values()], self._with_volume(query.volume, regions))

    def create(self, spec: PodSpec, offer: Offer) -> PodInfo:
        """Launch one instance, with at most one request that Lambda may have accepted."""
        begun = self.pace.now()
        body = _body(spec, offer, datetime.now(UTC))
        refuse_key_in(body, self.key)
        body["ssh_key_names"] = [register(self, spec).name]
        left = self.post_timeout - (self.pace.now() - begun)
        if left < self.post_timeout / 3:
            raise CloudRefused("Lambda was too slow to register an SSH key; no instance was asked for")
        response = self._api.create(LAUNCH, body, limit=left)
        ids = mapping((json_object(response) or {}).get("data")).get("instance_ids")
        if response.status_code != 200 and not isinstance(ids, list):
            refused = answers.create_error(response)
            if not isinstance(refused, CloudUnknown):
                with suppress(CloudError):
                    forget(self, spec.name)
            raise refused
        if not isinstance(ids, list) or len(ids) != 1 or not text(ids[0]):
            raise CloudUnknown("Lambda accepted the launch without telling one instance's id")
        return self._launched(ids[0], spec, offer, body["tags"])

    def rendered(self, query: OfferQuery, spec: PodSpec, offer: Offer, now: datetime) -> dict[str, object]:
        """Return the body of the launch request; its key is registered before, by that name."""
        return _body(spec, offer, now)

    def get(self, pod_id: str) -> PodInfo | None:
        """Return the instance; None only when Lambda itself says that there is none, or that it is terminated."""
        response = self._api.read(_path(pod_id), urgent=True)
        if answers.told_gone(response):
            return None
        instance = mapping((json_object(response) or {}).get("data"))
        if response.status_code != 200 or instance.get("id") != pod_id:
            raise answers.refusal(response, f"show instance {pod_id}")
        return None if instance.get("status") == answers.GONE else answers.pod_info(instance)

    def list(self) -> builtins.list[PodInfo]:
        """Return every instance of the account; Lambda's list has no pages."""
        instances = {str(one.get("id")): one for one in self._entries("/instances", "list instances")}
        return [answers.pod_info(instance) for instance in instances.values() if instance.get("status") != answers.GONE]

    def terminate(self, pod_id: str) -> None:
        """Ask Lambda to end the instance, and remove the key that was registered for it."""
        path_id("Lambda", pod_id)
        response = self._api.ask("/instance-operations/terminate", {"instance_ids": [pod_id]}, urgent=True)
        if answers.told_gone(response):
            return
        ended = mapping((json_object(response) or {}).get("data")).get("terminated_instances")
        instance = next((mapping(one) for one in ended if mapping(one).get("id") == pod_id), None) if isinstance(ended, list) else None
        if response.status_code != 200 or instance is None:
            raise answers.refusal(response, f"end instance {pod_id}")
        with suppress(CloudError):  # it opens nothing any more; the reaper removes what stays
            forget(self, answers.pod_info(instance).name)

    def change_markers(self, pod_id: str, stop: datetime | None, end: datetime | None) -> None:
        """Refuse: Lambda's tags are set at the launch."""
        raise CloudRefused("Lambda cannot change a running machine's lease: its tags and its watchdog's times are set at the launch")

    def costs(self) -> builtins.list[CostItem]:
        """Return the instances with their prices, file systems (theirs are not told) and the SSH keys of ours, which cost nothing."""
        items = []
        for pod in self.list():
            stopped = pod.status == "exited"  # preempted: whether it is billed Lambda does not say
            price = None if stopped else pod.price_per_hour
            items.append(CostItem("stopped pod" if stopped else "pod", pod.id, pod.name, price, pod.lease_id is not None))
        items += [
            CostItem("volume", one.id, one.name, None, one.name.startswith("trainyard"), one.size_gb) for one in self.volumes().list()
        ]
        return items + [CostItem("ssh key", key.id, key.name, 0.0, True) for key in self.ssh_keys() if key.ours]

    def volumes(self) -> LambdaVolumes:
        """Return the account's file systems."""
        return LambdaVolumes(self._api, self.post_timeout, self._entries)

    def disks_per_hour(self, disk_gb: int, *, gpu: bool, volume: bool) -> float:
        """Return 0: a type's disk is in its price."""
        return 0.0

    def account(self) -> Account | None:
        """Return None: Lambda's API tells neither balance nor bill."""
        return None

    def billed(self, pod_id: str) -> float | None:
        """Return None: Lambda's API sends no bill."""
        return None

    def boot_problem(self, pod_id: str) -> str | None:
        """Return None: Lambda shows no log of a boot."""
        return None

    def now(self) -> datetime:
        """Return Lambda's clock."""
        if self._api.now() is None:
            self._entries("/instances", "list instances")
        return self._api.now() or datetime.now(UTC)

    def ssh_keys(self) -> builtins.list[AccountKey]:
        """Return every SSH key of the account."""
        entries = self._entries("/ssh-keys", "list SSH keys")
        return [AccountKey(str(e.get("id")), str(e.get("name")), str(e.get("public_key"))) for e in entries]

    def add_ssh_key(self, name: str, public_key: str) -> AccountKey:
        """Register a key."""
        response = self._api.create("/ssh-keys", {"name": name, "public_key": public_key}, limit=self.post_timeout / 2)
        key = mapping((json_object(response) or {}).get("data"))
        if response.status_code != 200 or not text(key.get("id")):
            raise answers.refusal(response, "register an SSH key")
        return AccountKey(str(key["id"]), name, public_key)

    def remove_ssh_key(self, key_id: str) -> None:
        """Remove a key."""
        response = self._api.delete("/ssh-keys/" + path_id("Lambda", key_id))
        if response.status_code != 200 and not (response.status_code == 404 and answers.error_code(response)):
            raise answers.refusal(response, f"remove SSH key {key_id}")

    def close(self) -> None:
        """Close the connections."""
        self._api.close()

    def _launched(self, pod_id: str, spec: PodSpec, offer: Offer, tags: object) -> PodInfo:
        """Return an instance just made; one that cannot be read yet is known by its id."""
        try:
            info = self.get(pod_id)
        except CloudError:
            info = None
        if info is None:
            booting = {"id": pod_id, "status": "booting", "tags": tags, "region": {"name": offer.region}}
            return replace(answers.pod_info(booting), gpu=offer.gpu, gpu_count=offer.gpu_count)
        if info.name != spec.name or info.lease_id != spec.lease_id:
            raise CloudUnknown(f"Lambda answered the launch with another instance ({info.id}, '{info.name}')")
        return info

    def _regions(self, regions: tuple[str, ...]) -> frozenset[str] | None:
        """Return the regions that names stand for: ``us-west-1``, ``us-west`` or ``us``; None for all."""
        if not regions:
            return None
        known = [str(region.get("name")) for region in self._entries("/regions", "list regions")]
        allowed: set[str] = set()
        for region in (name.lower() for name in regions):
            hits = {name for name in known if name == region or name.startswith(f"{region}-")}
            if not hits:
                raise no_region("Lambda", region, known)
            allowed |= hits
        return frozenset(allowed)

    def _with_volume(self, volume: str | None, allowed: frozenset[str] | None) -> frozenset[str] | None:
        """Return the region of a file system: nowhere else can a machine mount it."""
        if volume is None:
            return allowed
        known = {one.id: one.place for one in self.volumes().list()}
        if volume not in known:
            raise UserError(f"Lambda has no file system '{volume}'", hint=f"Ids of this account's: {', '.join(sorted(known)) or 'none'}.")
        if allowed is not None and known[volume] not in allowed:
            raise UserError(f"file system '{volume}' lies in {known[volume]}, which 'regions' leaves out")
        return frozenset({known[volume]})

    def _data(self, path: str, what: str) -> object:
        response = self._api.read(path, urgent=path == "/instances")
        body = json_object(response)
        if response.status_code != 200 or body is None or "data" not in body or "error" in body:
            raise answers.refusal(response, what)
        return body["data"]

    def _entries(self, path: str, what: str) -> builtins.list[Mapping[str, object]]:
        """Return a list of objects, complete, or raise."""
        data = self._data(path, what)
        if not isinstance(data, list) or not all(isinstance(entry, dict) for entry in data):
            raise CloudUnknown(f"Lambda's answer to '{what}' is no list")
        return data


def _path(pod_id: str) -> str:
    return "/instances/" + path_id("Lambda", pod_id)


def _tags(spec: PodSpec, now: datetime) -> builtins.list[dict[str, str]]:
    """Return the marks; when it was made Lambda does not tell, so that is one of them."""
    marks = {
        "name": spec.name, "fence": spec.fence_id, "lease": spec.lease_id, "workspace": WORKSPACE, "created": format_time(now),
        "volume": MOUNT if spec.volume else "",
        "stop": format_time(spec.stop) or "", "end": format_time(spec.end) or "", "host-key": host_key_mark(spec),
    }  # fmt: skip
    return [{"key": answers.TAG + key, "value": value} for key, value in marks.items() if value]


def _body(spec: PodSpec, offer: Offer, now: datetime) -> dict[str, object]:
    refuse_containers("Lambda", spec)
    try:
        kind, region = catalog.choice(offer.id)
    except UserError as error:
        raise CloudRefused(error.message) from None
    body: dict[str, object] = {
        "region_name": region, "instance_type_name": kind, "ssh_key_names": [key_name(spec)],
        "name": spec.name[:LONGEST_NAME], "tags": _tags(spec, now), "user_data": user_data(spec),
    }  # fmt: skip
    if spec.volume:
        body["file_system_mounts"] = [{"mount_point": MOUNT, "file_system_id": spec.volume}]
    return body
