"""JarvisLabs behind the Cloud protocol. Machines are made and ended at their region's own address, everything is read at one.

Its create request takes no variables, no labels and no host key: the watchdog is started over SSH as soon as that answers, the
machine's host key is recorded then, and all marks are in its name of 40 characters. No key but the account's is known, so no
machine can end itself. Nothing is ever paused or resumed here: a resume may make another id of a machine.
"""

from __future__ import annotations

import builtins
import re
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime

import httpx

from trainyard import __version__
from trainyard.clouds.http import Api, Pace, check_address
from trainyard.clouds.jarvislabs import answers, catalog
from trainyard.clouds.keys import account_keys, refuse_key_in
from trainyard.clouds.protocol import SETTING, VALUE, Account, Capabilities, CostItem, Offer, OfferQuery, PodInfo, PodSpec
from trainyard.clouds.rehearsal import is_rehearsal
from trainyard.clouds.values import json_object, mapping, path_id, seconds_of
from trainyard.clouds.vm import AccountKey, forget, refuse_containers, register
from trainyard.errors import CloudError, CloudRefused, CloudUnknown, UserError
from trainyard.jsontext import parse_json
from trainyard.secret import Secret

TEMPLATE = "pytorch"
POST_TIMEOUT = 150.0
SETTLE = 120.0
SHOWN, LEFT = 3, 20
"""Looks for an instance just made (2 s apart), and for the end of one whose request to end it was answered with an error (1 s)."""
PRICES_AGAIN = 300.0
"""Seconds for which prices that could not be read are not asked for again: a list must not wait for them."""


@dataclass(slots=True)
class JarvisLabsCloud:
    """One account at JarvisLabs. ``url`` stands in for all of its addresses: each region is a folder below it."""

    key: Secret
    url: str | None = None
    env: Mapping[str, str] = field(default_factory=dict, repr=False)
    pace: Pace = field(default_factory=Pace)
    settle: float = SETTLE
    post_timeout: float = POST_TIMEOUT
    name: str = "jarvislabs"
    capabilities: Capabilities = field(init=False)
    simulated: bool = field(init=False)
    address: str | None = field(init=False)
    _apis: Mapping[str, Api] = field(init=False, repr=False)
    _rows: dict[str, Mapping[str, object]] = field(default_factory=dict, repr=False)
    """Instances as they were seen last: they tell where to end one that is not shown."""
    _prices: Mapping[tuple[str, str, bool], float] | None = field(default=None, repr=False)
    _prices_again: float = field(default=float("-inf"), repr=False)

    def __post_init__(self) -> None:
        self.simulated = is_rehearsal(self.key.reveal())
        self.address = self.url
        self.capabilities = Capabilities(
            self_terminate=False, deadline=False, change_markers=False,
            settle=self.settle, listings=2, post_timeout=self.post_timeout,
        )  # fmt: skip
        headers = {"Authorization": f"Bearer {self.key.reveal()}", "User-Agent": f"trainyard/{__version__}"}
        bases = {region: f"{self.url}/{region}" if self.url else host for region, host in catalog.HOSTS.items()}
        self._apis = {region: Api("JarvisLabs", base, headers, self.env, self.pace) for region, base in bases.items()}

    @classmethod
    def from_env(cls, env: Mapping[str, str]) -> JarvisLabsCloud:
        """Return the account named by JL_API_KEY; JARVISLABS_API_URL stands in for the real addresses."""
        (key,) = account_keys("jarvislabs", env)
        url = env.get("JARVISLABS_API_URL")
        settle, post = seconds_of(env, "JARVISLABS_SETTLE_SECONDS", SETTLE), seconds_of(env, "JARVISLABS_POST_SECONDS", POST_TIMEOUT)
        return cls(key, check_address("JARVISLABS_API_URL", url) if url else None, dict(env), settle=settle, post_timeout=post)

    def offers(self, query: OfferQuery) -> builtins.list[Offer]:
        """Return the containers for which there are free GPUs, in the query's order of preference."""
        if not self._dollars():
            raise UserError(
                "this JarvisLabs account is billed in rupees, and prices and budgets here are in dollars: nothing is rented with it",
                hint="An account outside India is billed in dollars.",
            )
        return catalog.offers(query, self._catalog())

    def create(self, spec: PodSpec, offer: Offer) -> PodInfo:
        """Create one instance, with at most one request that JarvisLabs may have accepted."""
        begun = self.pace.now()
        template, choice, body = self._request(spec, offer)
        refuse_key_in(body, self.key)
        if spec.public_key:
            register(self, spec)
        left = self.post_timeout - (self.pace.now() - begun)
        if left < self.post_timeout / 3:
            raise CloudRefused("JarvisLabs was too slow to register an SSH key; no instance was asked for")
        response = self._apis[choice.region].create(f"/templates/{template}/create", body, limit=left)
        new = answers.machine_id(json_object(response) or {}) if response.status_code in (200, 201, 202) else None
        if new is None:
            refused = answers.create_error(response)
            if not isinstance(refused, CloudUnknown):
                with suppress(CloudError):
                    forget(self, spec.name)
            raise refused
        row = {"machine_id": new, "instance_name": body["name"], "status": "Creating", "framework": template, "is_spot": choice.spot}
        return self._created(spec, {**row, "gpu_type": choice.gpu, "num_gpus": choice.count, "region": choice.region})

    def rendered(self, query: OfferQuery, spec: PodSpec, offer: Offer, now: datetime) -> dict[str, object]:
        """Return the template, which a create request has in its address, and its body."""
        template, _, body = self._request(spec, offer)
        return {"template": template, **body}

    def _request(self, spec: PodSpec, offer: Offer) -> tuple[str, catalog.JarvisChoice, dict[str, object]]:
        refuse_containers("JarvisLabs", spec)
        template = spec.template or TEMPLATE
        if not re.fullmatch(r"[\w-]+", template, re.ASCII):
            facts = {SETTING: "template", VALUE: template}
            raise CloudRefused(f"'{template}' is no template of JarvisLabs; nothing was sent", facts=facts)
        if template == "vm":
            raise CloudRefused("virtual machines of JarvisLabs are not rented here; name a template of containers")
        try:
            choice = catalog.parse_choice(offer.id)
        except UserError as error:
            raise CloudRefused(error.message) from None
        return template, choice, catalog.create_body(spec, choice)

    def get(self, pod_id: str) -> PodInfo | None:
        """Return the instance; None only when the API itself says that there is none, which it may of one just made."""
        response = self._home.read(f"/users/fetch/{path_id('JarvisLabs', pod_id)}", urgent=True)
        if answers.told_gone(response):
            return None
        body = json_object(response) or {}
        row = mapping(body.get("instance"))
        if response.status_code != 200 or not answers.success(body) or answers.machine_id(row) != pod_id:
            raise answers.refusal(response, f"show instance {pod_id}")
        return self._seen(row)

    def list(self) -> builtins.list[PodInfo]:
        """Return every instance of the account; the list has no pages."""
        return [self._seen(row) for row in self._instances()]

    def terminate(self, pod_id: str) -> None:
        """Ask the region of the instance to end it; an error is none where the instance goes all the same."""
        seen = self.get(pod_id)
        row = self._rows.get(pod_id)
        if seen is None and row is None:
            return
        assert row is not None  # get() has seen it
        region = str(row.get("region"))
        kind = "misc" if not answers.is_vm(row) else "templates/vm/cpu" if row.get("gpu_type") == "CPU" else "templates/vm"
        api = self._apis.get(region) or self._home
        response = api.ask(f"/{kind}/destroy", None, {"machine_id": pod_id}, urgent=True)
        well = response.status_code == 200 and answers.success(json_object(response) or {})
        if not well and (response.status_code in (401, 403) or not self._leaves(pod_id)):
            raise answers.refusal(response, f"end instance {pod_id}")
        with suppress(CloudError):  # it opens nothing any more; the reaper removes what stays
            forget(self, answers.pod_info(row).name)

    def change_markers(self, pod_id: str, stop: datetime | None, end: datetime | None) -> None:
        """Refuse: the watchdog's times are set when it is started."""
        raise CloudRefused("JarvisLabs cannot change a running machine's lease: its watchdog's times were set when it was started")

    def costs(self) -> builtins.list[CostItem]:
        """Return instances, paused ones, filesystems (whose prices are not told), and the SSH keys of ours, which cost nothing."""
        items = []
        for pod in self.list():
            paused = pod.status == "exited"  # its disk may be billed; at which price is not told
            price = None if paused else pod.price_per_hour
            items.append(CostItem("stopped pod" if paused else "pod", pod.id, pod.name, price, pod.lease_id is not None))
        for disk in self._array("/filesystem/list", "list filesystems"):
            size = answers.numeral(disk.get("storage"))
            items.append(CostItem("volume", str(disk.get("fs_id")), str(disk.get("fs_name")), None, False, size))
        return items + [CostItem("ssh key", key.id, key.name, 0.0, True) for key in self.ssh_keys() if key.ours]

    def disks_per_hour(self, disk_gb: int, *, gpu: bool, volume: bool) -> float:
        """Return 0: what a disk costs beside a machine's price is not told."""
        return 0.0

    def account(self) -> Account | None:
        """Return the balance; None where it is in rupees."""
        if not self._dollars():
            return None
        response = self._home.read("/users/balance")
        balance = answers.numeral((json_object(response) or {}).get("balance"))
        if response.status_code != 200 or balance is None:
            raise answers.refusal(response, "show the balance")
        return Account(balance, 0.0, None)

    def billed(self, pod_id: str) -> float | None:
        """Return None: JarvisLabs sends no bill."""
        return None

    def boot_problem(self, pod_id: str) -> str | None:
        """Return why an instance could not be made, where its region tells; before it knows the instance, it answers 404."""
        api = self._apis.get(str(self._rows.get(pod_id, {}).get("region"))) or self._home
        response = api.read("/misc/status", {"machine_id": path_id("JarvisLabs", pod_id)})
        body = json_object(response) or {}
        if response.status_code != 200 or body.get("status") != "Failed":
            return None
        return answers.told_text(body.get("error")) or "JarvisLabs could not make it, and does not say why"

    def now(self) -> datetime:
        """Return JarvisLabs' clock."""
        if self._home.now() is None:
            self._instances()
        return self._home.now() or datetime.now(UTC)

    def ssh_keys(self) -> builtins.list[AccountKey]:
        """Return every SSH key of the account."""
        entries = self._array("/ssh/", "list SSH keys")
        return [AccountKey(str(e.get("key_id")), str(e.get("key_name")), str(e.get("ssh_key"))) for e in entries]

    def add_ssh_key(self, name: str, public_key: str) -> AccountKey:
        """Register a key. The answer tells no id, so the list is asked for it."""
        response = self._home.create("/ssh/", {"ssh_key": public_key, "key_name": name}, limit=self.post_timeout / 2)
        well = answers.success(json_object(response) or {})
        if response.status_code == 200 and well is False:
            raise CloudRefused(f"JarvisLabs refuses to register an SSH key: {answers.say(response)}")
        if response.status_code not in (200, 201) or not well:
            raise answers.refusal(response, "register an SSH key")
        added = next((key for key in self.ssh_keys() if key.name == name), None)
        if added is None:
            raise CloudUnknown(f"JarvisLabs has taken the SSH key '{name}' and does not list it")
        return added

    def remove_ssh_key(self, key_id: str) -> None:
        """Remove a key."""
        response = self._home.delete("/ssh/" + path_id("JarvisLabs", key_id))
        gone = response.status_code == 404 and answers.own_error(response) is not None
        if not gone and (response.status_code != 200 or answers.success(json_object(response) or {}) is False):
            raise answers.refusal(response, f"remove SSH key {key_id}")

    def close(self) -> None:
        """Close the connections."""
        for api in self._apis.values():
            api.close()

    @property
    def _home(self) -> Api:
        return self._apis[catalog.HOME]

    def _created(self, spec: PodSpec, row: Mapping[str, object]) -> PodInfo:
        """Return an instance just made, as it was asked for where it does not show within a few looks."""
        info: PodInfo | None = None
        own = self._seen(row)
        for _ in range(SHOWN):
            with suppress(CloudError):
                info = self.get(own.id)
            if info is not None:
                break
            self.pace.sleep(2.0)
        if info is not None and (info.name != spec.name or info.lease_id != spec.lease_id):
            raise CloudUnknown(f"JarvisLabs answered the create request with another instance ({info.id}, '{info.name}')")
        return info or own

    def _leaves(self, pod_id: str) -> bool:
        """Tell whether an instance goes, or is gone, within a while."""
        for _ in range(LEFT):
            with suppress(CloudError):
                info = self.get(pod_id)
                if info is None or info.status == "terminating":
                    return True
            self.pace.sleep(1.0)
        return False

    def _seen(self, row: Mapping[str, object]) -> PodInfo:
        info = answers.pod_info(row, self._hourly(row))
        self._rows[info.id] = row
        return info

    def _hourly(self, row: Mapping[str, object]) -> float | None:
        """Return what an instance costs an hour, None where nobody tells: no list fails for it."""
        if self._prices is None and self.pace.now() >= self._prices_again:
            try:
                self._prices = catalog.prices(self._catalog()) if self._dollars() else {}
            except CloudError:
                self._prices_again = self.pace.now() + PRICES_AGAIN
        return catalog.hourly(row, self._prices or {})

    def _dollars(self) -> bool:
        """Tell whether the account's money is dollars; it is rupees where ``misc/`` says that it went well."""
        response = self._home.read("/misc/")
        body = json_object(response)
        if response.status_code != 200 or body is None:
            raise answers.refusal(response, "say in which currency the account is billed")
        return not answers.success(body)

    def _catalog(self) -> Sequence[catalog.Row]:
        response = self._home.read("/misc/server_meta")
        rows = (json_object(response) or {}).get("server_meta")
        if response.status_code != 200 or not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
            raise answers.refusal(response, "list what there is")
        return rows

    def _instances(self) -> builtins.list[Mapping[str, object]]:
        """Return all instances, each once, or raise."""
        response = self._home.read("/users/fetch", urgent=True)
        body = json_object(response) or {}
        rows = body.get("instances")
        if response.status_code != 200 or not answers.success(body) or not isinstance(rows, list):
            raise answers.refusal(response, "list instances")
        if not all(isinstance(row, dict) and answers.machine_id(row) for row in rows):
            raise CloudUnknown("JarvisLabs listed an instance without an id")
        return builtins.list({str(answers.machine_id(row)): row for row in rows}.values())

    def _array(self, path: str, what: str) -> builtins.list[Mapping[str, object]]:
        """Return a list that is the whole answer, complete, or raise."""
        response = self._home.read(path)
        entries = _parsed(response)
        if response.status_code != 200 or not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
            raise answers.refusal(response, what)
        return entries


def _parsed(response: httpx.Response) -> object:
    try:
        return parse_json(response.content)
    except ValueError:
        return None
