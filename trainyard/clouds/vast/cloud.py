"""Vast.ai behind the Cloud protocol (REST). What it cannot do: a deadline at the cloud; so the watchdog and the reaper carry the
lease's end. An instance is always destroyed and never stopped: a stopped one pays for its disk."""

from __future__ import annotations

import builtins
import contextlib
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta

import httpx

from trainyard import __version__
from trainyard.clouds import bootlog
from trainyard.clouds.http import Api, Pace, check_address
from trainyard.clouds.intervals import Intervals
from trainyard.clouds.keys import account_keys
from trainyard.clouds.marker import Label, parse_name
from trainyard.clouds.offers import check_gpus
from trainyard.clouds.protocol import Account, Capabilities, CostItem, Offer, OfferQuery, PodInfo, PodSpec, SshAddress
from trainyard.clouds.rehearsal import is_rehearsal
from trainyard.clouds.values import json_object, number, price_of, seconds_of, text
from trainyard.clouds.vast import answers, offers
from trainyard.clouds.vast.request import ask_of, create_body
from trainyard.errors import CloudError, CloudRefused, CloudUnknown, UnwantedPod, UserError
from trainyard.secret import Secret

ADDRESS = "https://console.vast.ai"
POST_TIMEOUT = 90.0
SETTLE = 60.0
PORT_TIME = 60.0
"""Seconds after which a port that a running instance does not show is waited for no more."""
PAGE = 25
"""Instances of a page: more are never sent."""
MOST_PAGES = 400
INTERVALS = {
    r"PUT /api/v0/asks/": 4.5, r"DELETE /api/v0/instances/": 3.0, r"GET /api/v0/instances/": 2.0, r"PUT /api/v0/instances/": 1.0,
    r"GET /api/v1/instances": 1.0, r"GET /api/v0/charges": 1.0, r"GET /api/v0/metrics/": 3.0, r"GET /api/v0/volumes": 5.5,
}  # fmt: skip
"""Seconds that Vast.ai wants between two requests to an endpoint, as its specification says them."""
LOG_TRIES = 10
BILL_DAYS = 30


@dataclass(slots=True)
class VastCloud:
    """One account at Vast.ai."""

    key: Secret
    url: str = ADDRESS
    env: Mapping[str, str] = field(default_factory=dict, repr=False)
    pace: Pace = field(default_factory=Pace)
    settle: float = SETTLE
    post_timeout: float = POST_TIMEOUT
    haste: float = 1.0
    """By what the cloud's intervals are divided: an emulator's are shorter."""
    name: str = "vast"
    capabilities: Capabilities = field(init=False)
    simulated: bool = field(init=False)
    address: str | None = field(init=False)
    _api: Api = field(init=False, repr=False)
    _without_port: dict[str, float] = field(default_factory=dict, repr=False)
    """When instances were first seen to run without a port."""

    def __post_init__(self) -> None:
        self.simulated = is_rehearsal(self.key.reveal())
        self.address = self.url if self.url != ADDRESS else None
        self.capabilities = Capabilities(
            self_terminate=True, deadline=False, change_markers=True,
            settle=self.settle, listings=2, post_timeout=self.post_timeout,
        )  # fmt: skip
        headers = {"Authorization": f"Bearer {self.key.reveal()}", "User-Agent": f"trainyard/{__version__}"}
        intervals = Intervals({kind: seconds / self.haste for kind, seconds in INTERVALS.items()})
        self._api = Api("Vast.ai", self.url, headers, self.env, self.pace, intervals=intervals, final=answers.quota_spent)

    @classmethod
    def from_env(cls, env: Mapping[str, str]) -> VastCloud:
        """Return the account named by VAST_API_KEY; VAST_URL stands in for the real address."""
        (key,) = account_keys("vast", env)
        return cls(
            key,
            check_address("VAST_URL", env.get("VAST_URL") or ADDRESS),
            dict(env),
            settle=seconds_of(env, "VAST_SETTLE_SECONDS", SETTLE),
            post_timeout=seconds_of(env, "VAST_POST_SECONDS", POST_TIMEOUT),
            haste=max(1.0, seconds_of(env, "VAST_HASTE", 1.0)),
        )

    def offers(self, query: OfferQuery) -> builtins.list[Offer]:
        """Return what the marketplace has, in the query's order of preference, each at its price with the disk."""
        if not query.gpus:
            raise UserError("Vast.ai rents no machine without a GPU", hint="Say which in trainyard:gpu.")
        catalog = self._entries(self._api.read("/api/v0/metrics/gpu/current/", {"verified": "all"}), "gpus", "list its GPUs")
        known = [name for entry in catalog if (name := text(entry.get("gpu_name")))]
        check_gpus(query.gpus, [(name,) for name in known])
        names = offers.names_of(query, known)
        if not names:
            return []
        answer = self._api.ask("/api/v0/bundles/", offers.search_body(query, names))
        return offers.sort_offers(query, self._entries(answer, "offers", "search its offers"))

    def create(self, spec: PodSpec, offer: Offer) -> PodInfo:
        """Create one instance, with at most one request that Vast.ai may have accepted."""
        try:
            ask, body = ask_of(offer)[0], create_body(spec, offer, self.url)
        except UserError as error:
            # Whoever asks must know that nothing was sent.
            raise CloudRefused(error.message, hint=error.hint) from None
        if self.key.reveal() in json.dumps(body):
            raise CloudRefused("the create request holds the account's own key, which never goes to a pod; nothing was sent")
        response = self._api.create(f"/api/v0/asks/{ask}/", body, limit=self.post_timeout, method="PUT")
        instance = answers.contract(response)
        accepted = response.is_success and (json_object(response) or {}).get("success") is not False
        if instance is None:
            raise answers.create_error(response)
        if not accepted:
            # A bid that is too low makes one, stopped: whoever asked has to end it, and to count what it cost.
            raise UnwantedPod(f"Vast.ai: {answers.say(response)}; instance {instance} was made all the same", instance)
        return self._info_of(instance, spec, offer, body)

    def rendered(self, query: OfferQuery, spec: PodSpec, offer: Offer, now: datetime) -> dict[str, object]:
        """Return what is searched for, in words, and the body of the create request, less a bid: that is made of the ask's least."""
        body = create_body(spec, offer, self.url)
        return {**offers.asked_for(query), "request": {name: value for name, value in body.items() if name != "price"}}

    def get(self, pod_id: str) -> PodInfo | None:
        """Return the instance; None only when Vast.ai itself says that there is none."""
        row = self._row(pod_id)
        info = None if row is None else answers.pod_info(row)
        if row is None or info is None or info.status != "running" or info.ssh is not None:
            return info
        # By its specification an instance alone shows other ports than a list does: numbers, and not where 22 is mapped to.
        with contextlib.suppress(CloudError):
            _, rows = self._page({"select_filters": json.dumps({"id": {"eq": int(pod_id)}})})
            info = replace(info, ssh=next((answers.ssh_address(one) for one in rows if str(one.get("id")) == pod_id), None))
        return info if info.ssh is not None else replace(info, ssh=self._proxy(pod_id, row))

    def _proxy(self, pod_id: str, row: Mapping[str, object]) -> SshAddress | None:
        """Return the proxy's address of an instance that has run for a while and still shows no port: some never do."""
        seen = self.pace.now() - self._without_port.setdefault(pod_id, self.pace.now())
        return answers.proxy_address(row) if max(seen, 60 * (number(row.get("uptime_mins")) or 0.0)) >= PORT_TIME else None

    def list(self) -> builtins.list[PodInfo]:
        """Return every instance of the account."""
        return [answers.pod_info(row) for row in self._rows()]

    def terminate(self, pod_id: str) -> None:
        """Ask Vast.ai to destroy the instance; one that is already gone is success."""
        response = self._api.delete(f"/api/v0/instances/{_id(pod_id)}/")
        done = response.status_code == 200 and (json_object(response) or {}).get("success") is True
        if not done and not answers.told_gone(response):
            raise answers.refusal(response, f"destroy instance {pod_id}")

    def change_markers(self, pod_id: str, stop: datetime | None, end: datetime | None) -> None:
        """Write stop and end into the label, which restarts nothing; the pod's watchdog reads them there."""
        row = self._row(pod_id)
        name = parse_name(answers.pod_info(row).name) if row is not None else None
        if name is None:
            raise CloudRefused(f"Vast.ai has no instance {pod_id} of ours, so its lease cannot be changed")
        response = self._api.put(f"/api/v0/instances/{_id(pod_id)}/", {"label": str(Label(name, stop, end))})
        if response.status_code != 200 or (json_object(response) or {}).get("success") is not True:
            raise answers.refusal(response, f"label instance {pod_id}")

    def costs(self) -> builtins.list[CostItem]:
        """Return instances, stopped ones and their disks, in dollars per hour, and the account's volumes, whose price is not told."""
        items = [_cost(row) for row in self._rows()]
        for volume in self._entries(self._api.read("/api/v0/volumes/"), "volumes", "list its volumes"):
            label = text(volume.get("label")) or f"V.{volume.get('id')}"
            items.append(CostItem("volume", str(volume.get("id")), label, price_of(volume.get("dph_total")), label.startswith("trainyard")))
        return items

    def disks_per_hour(self, disk_gb: int, *, gpu: bool, volume: bool) -> float:
        """Return nothing: each host has its own price for disks, and the offer's price has it in it."""
        return 0.0

    def account(self) -> Account:
        """Return the balance, what is spent now, and the bill of the last 30 days."""
        response = self._api.read("/api/v0/users/current/")
        balance = number((json_object(response) or {}).get("balance"))
        if response.status_code != 200 or balance is None:
            raise answers.refusal(response, "show the balance")
        per_hour = sum(_cost(row).per_hour or 0.0 for row in self._rows())
        return Account(balance, per_hour, sum(amount for _, amount in self._charges()))

    def billed(self, pod_id: str) -> float:
        """Return the dollars on the bill of the last 30 days for one instance."""
        return sum(amount for source, amount in self._charges() if source == f"instance-{pod_id}")

    def boot_problem(self, pod_id: str) -> str | None:
        """Return why an instance cannot boot, as its status and its logs tell it."""
        row = self._row(pod_id)
        if row is None:
            return None
        said = [text(row.get("status_msg")) or ""]
        return bootlog.boot_problem(said, said) or bootlog.boot_problem(self._log(pod_id, daemon=True), self._log(pod_id, daemon=False))

    def now(self) -> datetime:
        """Return Vast.ai's clock."""
        if self._api.now() is None:
            self._page({})
        return self._api.now() or datetime.now(UTC)

    def close(self) -> None:
        """Close the connections."""
        self._api.close()

    def _info_of(self, instance: str, spec: PodSpec, offer: Offer, body: Mapping[str, object]) -> PodInfo:
        """Return an instance just made; one that does not show yet is known by what was asked, and made now."""
        asked = {"id": int(instance), "label": body["label"], "extra_env": body["env"], "gpu_name": offer.gpu, "num_gpus": offer.gpu_count}
        now = self._api.now() or datetime.now(UTC)
        unseen = answers.pod_info({**asked, "geolocation": offer.region, "start_date": now.timestamp()})
        try:
            info = self.get(instance)
        except CloudError:
            info = None
        if info is not None and (info.name not in ("", spec.name) or info.lease_id not in (None, spec.lease_id)):
            # Whose it is is not known: it is never taken for ours, or it would be ended for ours.
            raise CloudUnknown(f"Vast.ai answered the create request with another instance ({instance}, '{info.name}')")
        return info if info is not None and info.lease_id is not None else unseen

    def _row(self, pod_id: str) -> Mapping[str, object] | None:
        response = self._api.read(f"/api/v0/instances/{_id(pod_id)}/", {"owner": "me"}, urgent=True)
        body = json_object(response)
        if answers.told_gone(response):
            return None
        row = body.get("instances") if body is not None else None
        if response.status_code != 200 or not isinstance(row, dict) or str(row.get("id")) != pod_id:
            raise answers.refusal(response, f"show instance {pod_id}")
        return row

    def _rows(self) -> builtins.list[Mapping[str, object]]:
        """Return every instance, all pages of them, or raise."""
        rows: dict[str, Mapping[str, object]] = {}
        token = ""
        for _ in range(MOST_PAGES):
            body, page = self._page({"after_token": token} if token else {})
            rows |= {str(row.get("id")): row for row in page}
            following = body.get("next_token")
            if following is None:
                if (total := number(body.get("total_instances"))) is not None and total > len(rows):
                    raise CloudUnknown(f"Vast.ai lists {len(rows)} instances and says that there are {total:.0f}")
                return [*rows.values()]
            if not isinstance(following, str) or following == token:
                break
            token = following
        raise CloudUnknown("Vast.ai's list of instances does not end")

    def _page(self, more: Mapping[str, str]) -> tuple[Mapping[str, object], builtins.list[Mapping[str, object]]]:
        params = {"limit": str(PAGE), "order_by": '[{"col":"id","dir":"asc"}]', "select_filters": "{}", **more}
        response = self._api.read("/api/v1/instances/", params, urgent=True)
        body = json_object(response) or {}
        if (
            response.status_code == 200
            and body.get("instances", body) is None
            and body.get("success") is True
            and body.get("total_instances") == 0
        ):
            return body, []  # Its own client reads null as none; here only beside the word that there are none.
        return body, self._entries(response, "instances", "list its instances")

    def _entries(self, response: httpx.Response, key: str, what: str) -> builtins.list[Mapping[str, object]]:
        """Return a list of objects, whole, or raise."""
        body = json_object(response)
        entries = body.get(key) if body is not None else None
        clean = body is not None and body.get("success") is not False and not body.get("error")
        if response.status_code != 200 or not clean or not isinstance(entries, list) or not all(isinstance(e, dict) for e in entries):
            raise answers.refusal(response, what)
        return entries

    def _charges(self) -> Iterator[tuple[str, float]]:
        """Yield what each instance of the last 30 days was charged: its source and dollars."""
        today = datetime.now(UTC)
        days = {"gte": int((today - timedelta(days=BILL_DAYS)).timestamp()), "lte": int((today + timedelta(days=1)).timestamp())}
        params = {"select_filters": json.dumps({"day": days, "type": {"in": ["instance"]}}), "limit": "500"}
        for _ in range(MOST_PAGES):
            response = self._api.read("/api/v0/charges/", params)
            for entry in self._entries(response, "results", "show the bill"):
                yield str(entry.get("source")), number(entry.get("amount")) or 0.0
            token = text((json_object(response) or {}).get("next_token"))
            if token is None:
                return
            params["after_token"] = token
        raise CloudUnknown("Vast.ai's bill does not end")

    def _log(self, pod_id: str, *, daemon: bool) -> builtins.list[str]:
        """Return the last lines of a log: Vast.ai uploads it to a store, and says where it will be."""
        body = {"tail": "1000"} | ({"daemon_logs": "true"} if daemon else {})
        response = self._api.put(f"/api/v0/instances/request_logs/{_id(pod_id)}/", body)
        where = text((json_object(response) or {}).get("result_url"))
        if response.status_code != 200 or where is None:
            raise answers.refusal(response, f"show the log of instance {pod_id}")
        try:
            # A store of somebody else's: it gets no key.
            store = Api("Vast.ai's log store", check_address("result_url", where), {}, self.env, self.pace)
        except UserError as error:
            raise CloudUnknown(f"Vast.ai's log of instance {pod_id} lies where it is not fetched from: {error.message}") from None
        try:
            for _ in range(LOG_TRIES):
                if (log := store.read("")).status_code == 200:
                    return log.text.splitlines()
                self.pace.sleep(0.5)
        finally:
            store.close()
        raise CloudUnknown(f"Vast.ai's log of instance {pod_id} does not arrive")


def _cost(row: Mapping[str, object]) -> CostItem:
    info = answers.pod_info(row)
    stopped = info.status == "exited"
    hourly = price_of(row.get("storage_total_cost")) if stopped else info.price_per_hour
    return CostItem("stopped pod" if stopped else "pod", info.id, info.name, hourly, info.lease_id is not None)


def _id(pod_id: str) -> str:
    """Return an id that is safe in a path."""
    if not re.fullmatch(r"[0-9]{1,18}", pod_id):
        raise CloudRefused(f"'{pod_id}' is no instance id of Vast.ai")
    return pod_id
