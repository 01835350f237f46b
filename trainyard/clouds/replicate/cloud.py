"""Replicate behind the Cloud protocol: one training a pod, or one prediction where no destination is said.

Nobody hands Replicate an image: a run is a training of a model version that is the wrapper of docker/replicate, and the hardware is
the model's. What has finished stays on its lists for good and costs nothing: it is listed here no more. A prediction is cancelled by
Replicate at its lease's end; whether a training is, is written nowhere, so nothing relies on it.
"""

from __future__ import annotations

import builtins
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from urllib.parse import parse_qsl, urlsplit

from trainyard import __version__
from trainyard.clock import format_time
from trainyard.clouds import gpus
from trainyard.clouds.http import Api, Pace, check_address
from trainyard.clouds.keys import account_keys, refuse_key_in
from trainyard.clouds.offers import affordable, check_gpus, own_prices
from trainyard.clouds.protocol import SETTING, VALUE, Account, Capabilities, CostItem, Offer, OfferQuery, PodInfo, PodSpec
from trainyard.clouds.rehearsal import is_rehearsal
from trainyard.clouds.replicate import answers
from trainyard.clouds.replicate.hardware import RATES, SOURCE, Hardware, read_hardware
from trainyard.clouds.replicate.request import PUSH, job_request, parse_version, refuse_long
from trainyard.clouds.values import json_object, mapping, path_id, price_of, seconds_of, text
from trainyard.errors import CloudRefused, CloudUnknown, UserError
from trainyard.jsontext import parse_json
from trainyard.secret import Secret
from trainyard.settings.clouds import NO_VERSION

URL = "https://api.replicate.com"
POST_TIMEOUT = 60.0
SETTLE = 60.0
PREDICTION_MINUTES = 30.0
"""Replicate ends a prediction after that; an account for which it takes longer says so in REPLICATE_PREDICTION_MINUTES."""
KINDS = ("trainings", "predictions")
_LIVES = timedelta(days=1)
"""No prediction runs for as long: what is older has finished, and its pages are not read."""


@dataclass(slots=True)
class ReplicateCloud:
    """One account at Replicate."""

    key: Secret
    url: str = URL
    env: Mapping[str, str] = field(default_factory=dict, repr=False)
    prices: Mapping[str, float] = field(default_factory=dict)
    """Dollars an hour of GPUs whose price is not the table's."""
    longest: timedelta = timedelta(minutes=PREDICTION_MINUTES)
    pace: Pace = field(default_factory=Pace)
    settle: float = SETTLE
    post_timeout: float = POST_TIMEOUT
    name: str = "replicate"
    capabilities: Capabilities = field(init=False)
    simulated: bool = field(init=False)
    address: str | None = field(init=False)
    _api: Api = field(init=False, repr=False)
    _kinds: dict[str, str] = field(init=False, default_factory=dict, repr=False)
    """Whether an id was seen as a training or as a prediction: it does not tell."""

    def __post_init__(self) -> None:
        self.simulated = is_rehearsal(self.key.reveal())
        self.address = self.url if self.url != URL else None
        self.capabilities = Capabilities(
            self_terminate=True, deadline=False, change_markers=False, settle=self.settle, listings=2, post_timeout=self.post_timeout,
            ssh=False, finished_free=True,
        )  # fmt: skip
        headers = {"Authorization": f"Bearer {self.key.reveal()}", "User-Agent": f"trainyard/{__version__}"}
        self._api = Api("Replicate", f"{self.url}/v1", headers, self.env, self.pace)

    @classmethod
    def from_env(cls, env: Mapping[str, str]) -> ReplicateCloud:
        """Return the account of REPLICATE_API_TOKEN; REPLICATE_BASE_URL stands in for the real address, as in Replicate's own SDK."""
        (key,) = account_keys("replicate", env)
        minutes = seconds_of(env, "REPLICATE_PREDICTION_MINUTES", PREDICTION_MINUTES)
        return cls(
            key, check_address("REPLICATE_BASE_URL", env.get("REPLICATE_BASE_URL") or URL), dict(env),
            own_prices(env, "REPLICATE_PRICES", [rate.id for rate in RATES]), min(_LIVES, timedelta(minutes=minutes)),
            settle=seconds_of(env, "REPLICATE_SETTLE_SECONDS", SETTLE),
            post_timeout=seconds_of(env, "REPLICATE_POST_SECONDS", POST_TIMEOUT),
        )  # fmt: skip

    def offers(self, query: OfferQuery) -> builtins.list[Offer]:
        """Return the hardware that a model may have, in the query's order; which one this model has, no answer tells."""
        if not query.gpus:
            raise UserError("on Replicate a run needs a GPU", hint="Say the one of your model's hardware in trainyard:gpu.")
        if query.options:  # of a stack: who asks for the market says none
            refuse_long(query.options.get("destination"), timedelta(hours=query.hours or 0), self.longest)
            self._check_version(query.options.get("template"))
        known = builtins.list(read_hardware(self._hardware(), self.prices))
        names = [(one.rate.shown,) for one in known]
        check_gpus(query.gpus, names)
        fit = [known[index] for index in dict.fromkeys(index for gpu in query.gpus for index in gpus.match(gpu, names))]
        fit = [one for one in fit if one.count == query.gpu_count and gpus.has_memory(one.rate.vram_gb, query.min_vram_gb)]
        if fit and all(one.hourly is None for one in fit):
            hint = (
                f"Replicate's API tells no prices, and {SOURCE}, tells none of it. Say yours, in dollars an hour of one GPU: "
                f"REPLICATE_PRICES={fit[0].rate.id}=..."
            )
            raise UserError(f"what {', '.join(one.rate.id for one in fit)} costs at Replicate is not known here", hint=hint)
        return [offer for one in fit if (offer := self._offer(one)) is not None and affordable(query, offer)]

    def create(self, spec: PodSpec, offer: Offer) -> PodInfo:
        """Create one training or prediction, with at most one request that may have been accepted."""
        asked = job_request(spec, offer, self._api.now() or datetime.now(UTC), self.longest)
        refuse_key_in(asked.body, self.key)
        response = self._api.create(asked.path, asked.sent, limit=self.post_timeout, headers=asked.headers)
        answer = json_object(response) or {}
        if not response.is_success or text(answer.get("id")) is None:
            raise answers.create_error(response)
        info = self._seen(answer, asked.kind)
        if mapping(answer.get("input")) and (info.name, info.lease_id) != (spec.name, spec.lease_id):
            raise CloudUnknown(f"Replicate answered the create request with another job ({info.id}, '{info.name}')")
        return replace(
            info, name=spec.name, fence_id=spec.fence_id, lease_id=spec.lease_id, stop=spec.stop, end=spec.end, end_unreadable=False,
            price_per_hour=offer.price_per_hour, gpu=offer.gpu, gpu_count=offer.gpu_count,
        )  # fmt: skip

    def rendered(self, query: OfferQuery, spec: PodSpec, offer: Offer, now: datetime) -> Mapping[str, object]:
        """Return the body of the create request, its inputs as they are before they become texts; the version of a training, too."""
        asked = job_request(spec, offer, now, self.longest)
        return {"version": spec.options.get("template") or spec.template, **asked.body}

    def get(self, pod_id: str) -> PodInfo | None:
        """Return the job. None: Replicate says that there is none, or that it was cancelled."""
        job = self._job(pod_id)
        return None if job is None or job.get("status") in answers.CANCELED else answers.pod_info(job)

    def list(self) -> builtins.list[PodInfo]:
        """Return every training and prediction of the account that has not finished."""
        since = format_time(self.now() - _LIVES)
        jobs = [(kind, job) for kind in KINDS for job in self._pages(kind, {"created_after": since} if kind == "predictions" else {})]
        pods = [self._seen(job, kind) for kind, job in jobs if not answers.is_finished(job)]
        return builtins.list({pod.id: pod for pod in pods}.values())

    def terminate(self, pod_id: str) -> None:
        """Cancel the job."""
        for kind in self._where(pod_id):
            response = self._api.ask(f"/{kind}/{path_id('Replicate', pod_id)}/cancel", None, urgent=True)
            if answers.told_gone(response):
                continue
            if not response.is_success:
                raise answers.refusal(response, f"cancel {pod_id}")
            break

    def change_markers(self, pod_id: str, stop: datetime | None, end: datetime | None) -> None:
        """Refuse: the inputs of a job are what they were."""
        raise CloudRefused("Replicate cannot change the lease of a job that runs: its times stand in its inputs")

    def costs(self) -> builtins.list[CostItem]:
        """Return every job that has not finished; of a foreign one nobody tells the price."""
        return [CostItem("pod", pod.id, pod.name, pod.price_per_hour, pod.lease_id is not None) for pod in self.list()]

    def disks_per_hour(self, disk_gb: int, *, gpu: bool, volume: bool) -> float:
        """Return nothing: a disk has no price of its own."""
        return 0.0

    def account(self) -> Account | None:
        """Return None: this API tells no balance."""
        return None

    def billed(self, pod_id: str) -> float | None:
        """Return None: seconds of work are told, and no dollars."""
        return None

    def boot_problem(self, pod_id: str) -> str | None:
        """Return why a job has failed: its last line."""
        job = self._job(pod_id)
        return answers.last_words(job) if job else None

    def now(self) -> datetime:
        """Return the API's clock."""
        if self._api.now() is None:
            self._api.read("/account", urgent=True)
        return self._api.now() or datetime.now(UTC)

    def close(self) -> None:
        """Close the connections."""
        self._api.close()

    def _offer(self, one: Hardware) -> Offer | None:
        price = price_of(one.hourly)
        return None if price is None else Offer(one.sku, self.name, one.rate.shown, one.count, price)

    def _hardware(self) -> builtins.list[Mapping[str, object]]:
        response = self._api.read("/hardware")
        with suppress(ValueError):
            rows = parse_json(response.content) if response.status_code == 200 else None
            if isinstance(rows, builtins.list) and all(isinstance(row, dict) for row in rows):
                return rows
        raise answers.refusal(response, "list its hardware")

    def _check_version(self, said: str | None) -> None:
        """Raise UserError for a version that is not there, or that no wrapper of ours can be: who has none is told before he pays."""
        facts = {SETTING: "template", VALUE: said}
        version = parse_version(said)
        if version.id == NO_VERSION and not self.simulated:
            raise UserError(
                f"{version} stands for a version that you push: its id is all zeros, and no version has it", hint=PUSH, facts=facts
            )
        response = self._api.read(version.path)
        if answers.told_gone(response):
            raise UserError(f"Replicate knows no version {version}", hint=PUSH, facts=facts)
        if response.status_code != 200:
            raise answers.refusal(response, f"show version {version}")
        schemas = mapping(mapping(mapping(json_object(response) or {}).get("openapi_schema")).get("components")).get("schemas")
        inputs = [mapping(mapping(schema).get("properties")) for schema in mapping(schemas).values()]
        if inputs and not any({"command", "env", "secrets", "hardware"} <= known.keys() for known in inputs):
            raise UserError(f"{version} takes no inputs of Trainyard's: it is another program", hint=PUSH, facts=facts)

    def _seen(self, job: Mapping[str, object], kind: str) -> PodInfo:
        info = answers.pod_info(job)
        self._kinds[info.id] = kind
        return info

    def _where(self, pod_id: str) -> tuple[str, ...]:
        return (self._kinds[pod_id],) if pod_id in self._kinds else KINDS

    def _job(self, pod_id: str) -> Mapping[str, object] | None:
        for kind in self._where(pod_id):
            response = self._api.read(f"/{kind}/{path_id('Replicate', pod_id)}", urgent=True)
            if answers.told_gone(response):
                continue
            job = json_object(response) or {}
            if response.status_code != 200 or job.get("id") != pod_id:
                raise answers.refusal(response, f"show {pod_id}")
            self._kinds[pod_id] = kind
            return job
        return None

    def _pages(self, kind: str, params: Mapping[str, str]) -> Iterator[Mapping[str, object]]:
        """Yield all of a list, the newest first, or raise. Nothing leaves it, and what is new comes before what was read."""
        asked = dict(params)
        seen: set[str] = set()
        while True:
            response = self._api.read(f"/{kind}", asked, urgent=True)
            page = json_object(response) or {}
            rows, more = page.get("results"), page.get("next")
            whole = "next" in page and isinstance(rows, builtins.list) and all(isinstance(row, dict) for row in rows)
            if response.status_code != 200 or not whole or not (more is None or isinstance(more, str)) or more in seen:
                raise answers.refusal(response, f"list {kind}")
            assert isinstance(rows, builtins.list)
            yield from rows
            if not more:
                return
            seen.add(more)
            asked = dict(parse_qsl(urlsplit(more).query))  # at our own address: the key goes nowhere else
