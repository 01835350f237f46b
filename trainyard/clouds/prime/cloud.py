"""Prime Intellect behind the Cloud protocol: a broker, whose machines stand at other providers.

Its create request takes no command, no user data and no host key: the watchdog is started over SSH as soon as that answers, and
the machine's own host key is recorded then. A list tells a pod's name and nothing else of ours, so all marks are in it. No key
but the account's is known, so no machine can end itself.
"""

from __future__ import annotations

import builtins
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime

import httpx

from trainyard import __version__
from trainyard.clouds.http import Api, Pace, check_address
from trainyard.clouds.keys import account_keys, refuse_key_in
from trainyard.clouds.pages import Page, read_all
from trainyard.clouds.prime import answers, catalog
from trainyard.clouds.protocol import Account, Capabilities, CostItem, Offer, OfferQuery, PodInfo, PodSpec
from trainyard.clouds.rehearsal import is_rehearsal
from trainyard.clouds.values import json_object, mapping, number, path_id, price_of, seconds_of, text
from trainyard.clouds.vm import AccountKey, forget, key_name, refuse_containers, register
from trainyard.errors import CloudError, CloudRefused, CloudUnknown, NoCapacity, UserError
from trainyard.secret import Secret

URL = "https://api.primeintellect.ai"
POST_TIMEOUT = 120.0
SETTLE = 90.0
PAGE = 100


@dataclass(slots=True)
class PrimeCloud:
    """One account at Prime Intellect."""

    key: Secret
    url: str = URL
    team: str | None = None
    env: Mapping[str, str] = field(default_factory=dict, repr=False)
    pace: Pace = field(default_factory=Pace)
    settle: float = SETTLE
    post_timeout: float = POST_TIMEOUT
    name: str = "prime"
    capabilities: Capabilities = field(init=False)
    simulated: bool = field(init=False)
    address: str | None = field(init=False)
    _api: Api = field(init=False, repr=False)
    _names: dict[str, str] = field(default_factory=dict, repr=False)
    """Names of pods as they were seen: by them their keys are removed."""

    def __post_init__(self) -> None:
        self.simulated = is_rehearsal(self.key.reveal())
        self.address = self.url if self.url != URL else None
        self.capabilities = Capabilities(
            self_terminate=False, deadline=False, change_markers=False,
            settle=self.settle, listings=2, post_timeout=self.post_timeout,
        )  # fmt: skip
        headers = {"Authorization": f"Bearer {self.key.reveal()}", "User-Agent": f"trainyard/{__version__}"}
        self._api = Api("Prime Intellect", self.url + "/api/v1", headers, self.env, self.pace)

    @classmethod
    def from_env(cls, env: Mapping[str, str]) -> PrimeCloud:
        """Return the account named by PRIME_API_KEY, for the team of PRIME_TEAM_ID; PRIME_API_BASE_URL stands in for the real address."""
        (key,) = account_keys("prime", env)
        url = check_address("PRIME_API_BASE_URL", env.get("PRIME_API_BASE_URL") or env.get("PRIME_BASE_URL") or URL).removesuffix("/api/v1")
        settle, post = (
            seconds_of(env, name, usual) for name, usual in (("PRIME_SETTLE_SECONDS", SETTLE), ("PRIME_POST_SECONDS", POST_TIMEOUT))
        )
        return cls(key, url, env.get("PRIME_TEAM_ID") or None, dict(env), settle=settle, post_timeout=post)

    def offers(self, query: OfferQuery) -> builtins.list[Offer]:
        """Return what can be rented by the hour, in the query's order of preference."""
        return catalog.offers(query, self._availability({"gpu_count": str(query.gpu_count)} if query.gpus else {}))

    def create(self, spec: PodSpec, offer: Offer) -> PodInfo:
        """Create one pod, with at most one request that may have been accepted."""
        begun = self.pace.now()
        refuse_containers("Prime Intellect", spec)
        body = catalog.create_body(spec, *self._still_there(offer), team=self.team)
        refuse_key_in(body, self.key)
        pod = mapping(body["pod"])
        body["pod"] = {**pod, "sshKeyId": register(self, spec).id} if spec.public_key else pod
        left = self.post_timeout - (self.pace.now() - begun)
        if left < self.post_timeout / 3:
            raise CloudRefused("Prime Intellect was too slow to say what it has; no pod was asked for")
        response = self._api.create("/pods/", body, limit=left)
        if response.status_code not in (200, 201, 202):
            raise self._refused(response, spec)
        answer = json_object(response)
        if answer is None or not text(answer.get("id")):
            raise CloudUnknown("Prime Intellect accepted the create request without telling the pod's id")
        info = self._seen(answer)
        if info.name not in ("", spec.name) or info.lease_id not in (None, spec.lease_id):
            raise CloudUnknown(f"Prime Intellect answered the create request with another pod ({info.id}, '{info.name}')")
        return info

    def rendered(self, query: OfferQuery, spec: PodSpec, offer: Offer, now: datetime) -> dict[str, object]:
        """Return the body of the create request; the id of its key is not known before that is registered."""
        refuse_containers("Prime Intellect", spec)
        body = catalog.create_body(spec, *self._still_there(offer), team=self.team)
        return {**body, "pod": {**mapping(body["pod"]), "sshKeyId": key_name(spec)}}

    def get(self, pod_id: str) -> PodInfo | None:
        """Return the pod; None only when the API itself says that there is none, or that it is terminated."""
        pod = self._pod(pod_id)
        return None if pod is None or pod.get("status") == answers.GONE else self._seen(pod)

    def list(self) -> builtins.list[PodInfo]:
        """Return every pod of the account, of all pages."""
        return [self._seen(pod) for pod in self._pages("/pods/", "list pods", urgent=True) if pod.get("status") != answers.GONE]

    def terminate(self, pod_id: str) -> None:
        """Ask for the pod's end, and remove the key that was registered for it."""
        if pod_id not in self._names:  # who ends a pod need not have seen it, and afterwards nobody tells its name
            with suppress(CloudError):
                self.get(pod_id)
        response = self._api.delete(_path(pod_id))
        if response.status_code not in (200, 202, 204):
            if answers.told_gone(response):
                return
            raise answers.refusal(response, f"end pod {pod_id}")
        with suppress(CloudError):  # it opens nothing any more; the reaper removes what stays
            forget(self, self._names.get(pod_id, ""))

    def change_markers(self, pod_id: str, stop: datetime | None, end: datetime | None) -> None:
        """Refuse: a pod's name, which bears them, cannot be changed."""
        raise CloudRefused("Prime Intellect cannot change a running pod's lease: its times stand in its name, which cannot be changed")

    def costs(self) -> builtins.list[CostItem]:
        """Return pods, stopped pods, disks that outlive pods, and the SSH keys of ours, which cost nothing."""
        items = []
        for pod in self._pages("/pods/", "list pods"):
            info = self._seen(pod)
            if pod.get("status") != answers.GONE:
                price, ours = answers.hourly_now(pod), info.lease_id is not None
                items.append(CostItem("stopped pod" if info.status == "exited" else "pod", info.id, info.name, price, ours))
        for disk in self._pages("/disks/", "list disks"):
            if disk.get("status") != answers.GONE:
                items.append(CostItem("volume", str(disk.get("id")), str(disk.get("name")), price_of(disk.get("priceHr")), False))
        return items + [CostItem("ssh key", key.id, key.name, 0.0, True) for key in self.ssh_keys() if key.ours]

    def disks_per_hour(self, disk_gb: int, *, gpu: bool, volume: bool) -> float:
        """Return 0: an offer's price has its disk in it."""
        return 0.0

    def account(self) -> Account | None:
        """Return None: the Compute API does not tell the wallet's balance."""
        return None

    def billed(self, pod_id: str) -> float | None:
        """Return the dollars that the history tells for one pod; None before it does."""
        rows = [row for row in self._pages("/pods/history", "show the history") if row.get("id") == pod_id]
        sums = [dollars for row in rows if (dollars := number(row.get("totalBilledPrice"))) is not None]
        return sum(sums) if sums else None

    def boot_problem(self, pod_id: str) -> str | None:
        """Return why the installation failed, where it did."""
        pod = self._pod(pod_id)
        return text(pod.get("installationFailure")) if pod is not None else None

    def now(self) -> datetime:
        """Return the API's clock."""
        if self._api.now() is None:
            self._page("/pods/", "list pods", {"limit": "1"}, urgent=True)
        return self._api.now() or datetime.now(UTC)

    def ssh_keys(self) -> builtins.list[AccountKey]:
        """Return every SSH key of the account."""
        entries = self._pages("/ssh_keys/", "list SSH keys")
        return [AccountKey(str(e.get("id")), str(e.get("name")), str(e.get("publicKey"))) for e in entries]

    def add_ssh_key(self, name: str, public_key: str) -> AccountKey:
        """Register a key."""
        response = self._api.create("/ssh_keys/", {"name": name, "publicKey": public_key}, limit=self.post_timeout / 2)
        key = json_object(response) or {}
        if response.status_code not in (200, 201) or not text(key.get("id")):
            raise answers.refusal(response, "register an SSH key")
        return AccountKey(str(key["id"]), name, public_key)

    def remove_ssh_key(self, key_id: str) -> None:
        """Remove a key."""
        response = self._api.delete("/ssh_keys/" + path_id("Prime Intellect", key_id))
        if response.status_code not in (200, 204) and not answers.told_gone(response):
            raise answers.refusal(response, f"remove SSH key {key_id}")

    def close(self) -> None:
        """Close the connections."""
        self._api.close()

    def _still_there(self, offer: Offer) -> tuple[catalog.BrokeredChoice, catalog.Entry]:
        """Return an offer's entry as it is now. Until the create request is sent, whatever goes wrong has made nothing."""
        try:
            choice = catalog.parse_choice(offer.id)
            entries = self._availability({"cloud_id": choice.cloud_id})
        except (UserError, CloudUnknown) as error:
            raise CloudRefused(f"no pod was asked for: {error.message}", hint=error.hint) from None
        entry = next((one for one in entries if choice.is_of(one) and one.get("stockStatus") != "Unavailable"), None)
        if entry is None:
            raise NoCapacity(f"Prime Intellect no longer offers {choice.gpu} at {choice.provider} ({choice.cloud_id})")
        return choice, entry

    def _refused(self, response: httpx.Response, spec: PodSpec) -> CloudError:
        """Return the error of a create request, its key removed. A no of a broker's is believed when its list shows no such pod."""
        error = answers.create_error(response)
        if isinstance(error, CloudUnknown):
            return error
        try:
            namesake = next((pod for pod in self.list() if pod.name == spec.name), None)
        except CloudError as unread:
            # A key that opens nothing has made nothing; of any other no the list is the witness.
            return error if response.status_code == 401 else CloudUnknown(f"{error.message}; {unread.message}")
        if namesake is not None:
            return CloudUnknown(f"{error.message}; its pod {namesake.id} is there all the same")
        with suppress(CloudError):
            forget(self, spec.name)
        return error

    def _seen(self, pod: Mapping[str, object]) -> PodInfo:
        info = answers.pod_info(pod)
        self._names[info.id] = info.name
        return info

    def _pod(self, pod_id: str) -> Mapping[str, object] | None:
        response = self._api.read(_path(pod_id), urgent=True)
        if answers.told_gone(response):
            return None
        body = json_object(response)
        if response.status_code != 200 or body is None or body.get("id") != pod_id:
            raise answers.refusal(response, f"show pod {pod_id}")
        return body

    def _availability(self, params: Mapping[str, str]) -> builtins.list[catalog.Entry]:
        """Return what the broker offers, page by page; what moves between two pages is asked for again when it is rented."""
        entries: builtins.list[catalog.Entry] = []
        for page in range(1, 101):
            asked = {**params, "page": str(page), "page_size": str(PAGE)}
            items, total = self._page("/availability/gpus", "list what there is", asked, items="items", total="totalCount")
            entries += items
            if not items or len(entries) >= total:
                break
        return entries

    def _pages(self, path: str, what: str, *, urgent: bool = False) -> builtins.list[Mapping[str, object]]:
        """Return all of a list, or raise."""

        def page(offset: int) -> Page:
            return self._page(path, what, {"offset": str(offset), "limit": str(PAGE)}, urgent=urgent)

        return read_all(f"Prime Intellect was asked to {what}", page)

    def _page(
        self, path: str, what: str, params: Mapping[str, str], *, urgent: bool = False, items: str = "data", total: str = "total_count"
    ) -> tuple[builtins.list[Mapping[str, object]], int]:
        response = self._api.read(path, params, urgent=urgent)
        body = json_object(response) or {}
        entries, count = body.get(items), number(body.get(total))
        if response.status_code != 200 or not isinstance(entries, list) or count is None or not all(isinstance(e, dict) for e in entries):
            raise answers.refusal(response, what)
        return entries, int(count)


def _path(pod_id: str) -> str:
    return "/pods/" + path_id("Prime Intellect", pod_id)
