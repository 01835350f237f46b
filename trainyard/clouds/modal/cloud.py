"""Modal behind the Cloud protocol: one Sandbox a pod, in one App, through the official SDK.

Modal itself ends a sandbox at its timeout, which is the lease's end, and a sandbox ends with its command. What it cannot do: SSH,
a later end, more than 24 hours, prices, a bill for one sandbox. The SDK tells of a listed sandbox nothing but its id: all else is
in its tags.
"""

from __future__ import annotations

import asyncio
import builtins
import re
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import asdict, dataclass, field
from datetime import datetime
from typing import Any, TypeVar

import modal
from modal import exception as errors

from trainyard.clouds import gpus
from trainyard.clouds.http import Pace, check_address
from trainyard.clouds.keys import account_keys, refuse_key_in
from trainyard.clouds.modal.app import APP, app_of
from trainyard.clouds.modal.prices import GPU_RATES, SOURCE, hourly
from trainyard.clouds.modal.request import LONGER, LONGEST, SandboxRequest, lease_tags, pod_info, sandbox_name, sandbox_request, utc_now
from trainyard.clouds.modal.sdk import OverTime, Sdk
from trainyard.clouds.offers import affordable, check_gpus, own_prices
from trainyard.clouds.protocol import Account, Capabilities, CostItem, Offer, OfferQuery, PodInfo, PodSpec
from trainyard.clouds.rehearsal import is_rehearsal
from trainyard.clouds.values import seconds_of
from trainyard.config import Places
from trainyard.errors import CloudError, CloudRefused, CloudUnknown, NoCapacity, UserError
from trainyard.secret import Secret

ADDRESS = "https://api.modal.com,https://api.modal2.com"
POST_TIMEOUT = 300.0
"""Until Modal has a GPU for a sandbox the SDK's create does not return."""
SETTLE = 30.0
IMAGE_SECONDS = 1800.0
"""For an image that Modal fetches for the first time; nothing is rented meanwhile."""
_READ = 60.0
_TRIES = 4
_AT_ONCE = 16
_BY_OTHERS = (124, 137)
"""Exit codes that the SDK makes up for a sandbox that its timeout or a terminate has ended; a command may end so, too."""
T = TypeVar("T")


@dataclass(slots=True)
class ModalCloud:
    """One workspace of Modal."""

    token_id: Secret
    token_secret: Secret
    url: str = ADDRESS
    environment: str | None = None
    prices: Mapping[str, float] = field(default_factory=dict)
    """Dollars an hour of GPUs whose price is not the table's."""
    pace: Pace = field(default_factory=Pace)
    settle: float = SETTLE
    post_timeout: float = POST_TIMEOUT
    name: str = "modal"
    capabilities: Capabilities = field(init=False)
    simulated: bool = field(init=False)
    address: str | None = field(init=False)
    _sdk: Sdk = field(init=False, repr=False)
    _app: Any = field(init=False, default=None, repr=False)

    def __post_init__(self) -> None:
        self.simulated = is_rehearsal(self.token_secret.reveal())
        self.address = self.url if self.url != ADDRESS else None
        self.capabilities = Capabilities(
            self_terminate=True, deadline=True, change_markers=False, ssh=False, finished_free=True,
            settle=self.settle, listings=2, post_timeout=self.post_timeout,
        )  # fmt: skip
        self._sdk = Sdk(self.url, self.token_id, self.token_secret)

    @classmethod
    def from_env(cls, env: Mapping[str, str]) -> ModalCloud:
        """Return the workspace of the two tokens; MODAL_SERVER_URL stands in for the real address."""
        token_id, token_secret = account_keys("modal", env)
        own = env.get("MODAL_SERVER_URL")
        return cls(
            token_id, token_secret,
            check_address("MODAL_SERVER_URL", own) if own else ADDRESS,
            env.get("MODAL_ENVIRONMENT") or None,
            own_prices(env, "MODAL_PRICES", [rate.id for rate in GPU_RATES]),
            settle=seconds_of(env, "MODAL_SETTLE_SECONDS", SETTLE),
            post_timeout=seconds_of(env, "MODAL_POST_SECONDS", POST_TIMEOUT),
        )  # fmt: skip

    def offers(self, query: OfferQuery) -> builtins.list[Offer]:
        """Return what Modal rents out, in the query's order; whether it is to be had, only a create tells. Makes no request."""
        if not query.gpus:
            raise UserError("on Modal a run needs a GPU", hint="Say which in trainyard:gpu.")
        if query.hours is not None and query.hours > LONGEST.total_seconds() / 3600:
            raise UserError(f"Modal ends every sandbox after 24 hours, and {query.hours:g} are asked for", hint=LONGER)
        names = [(rate.id,) for rate in GPU_RATES]
        check_gpus(query.gpus, names)
        rates = [GPU_RATES[index] for index in dict.fromkeys(i for gpu in query.gpus for i in gpus.match(gpu, names))]
        fit = [r for r in rates if query.gpu_count <= r.most and gpus.has_memory(r.vram_gb, query.min_vram_gb)]
        priced = [(rate, hourly(rate, query.gpu_count, self.prices)) for rate in fit]
        if priced and all(price is None for _, price in priced):
            unknown = ", ".join(rate.id for rate, _ in priced)
            hint = (
                f"Modal's API tells no prices, and {SOURCE}, says none of it. Say yours, in dollars an hour: MODAL_PRICES={fit[0].id}=..."
            )
            raise UserError(f"what {unknown} costs on Modal is not known here", hint=hint)
        offers = [Offer(rate.id, self.name, rate.id, query.gpu_count, price) for rate, price in priced if price is not None]
        return [offer for offer in offers if affordable(query, offer)]

    def create(self, spec: PodSpec, offer: Offer) -> PodInfo:
        """Create one sandbox. The SDK may send the request again, with one idempotency key; the name keeps it one."""
        asked_for = sandbox_request(spec, offer, utc_now())
        for key in (self.token_secret, self.token_id):
            refuse_key_in(asdict(asked_for), key)
        try:
            app = self._opened_app()
            image = self._sdk.ask("fetch the image", lambda client: _image(asked_for).build.aio(app), IMAGE_SECONDS)
        except errors.NotFoundError as error:
            raise CloudRefused(f"Modal: {error}") from None
        except NoCapacity as error:
            raise CloudRefused(error.message) from None  # another GPU would not mend it

        async def make(client: Any) -> PodInfo:
            secrets = [modal.Secret.from_dict(dict(asked_for.secret_env))] if asked_for.secret_env else []
            sandbox = await modal.Sandbox.create.aio(
                *asked_for.command, app=app, client=client, name=asked_for.name, tags=dict(asked_for.tags), image=image,
                env=dict(asked_for.env), secrets=secrets, timeout=asked_for.timeout, gpu=asked_for.gpu, cpu=asked_for.cpu,
                memory=asked_for.memory,
            )  # fmt: skip
            return pod_info(sandbox.object_id, asked_for.tags, "accepted", "created")

        try:
            return self._sdk.ask("create a sandbox", make, self.post_timeout)
        except errors.NotFoundError as error:
            return self._made_all_the_same(spec, CloudRefused(f"Modal: {error}"))
        except CloudError as error:
            return self._made_all_the_same(spec, error)

    def rendered(self, query: OfferQuery, spec: PodSpec, offer: Offer, now: datetime) -> dict[str, object]:
        """Return what Sandbox.create is given, and the program that gives it."""
        return app_of(sandbox_request(spec, offer, now))

    def get(self, pod_id: str) -> PodInfo | None:
        """Return the sandbox; when its command has ended the SDK does not tell. None: Modal says that it is none, or was ended."""

        async def look(client: Any) -> PodInfo | None:
            sandbox = await modal.Sandbox.from_id.aio(_id(pod_id), client=client)
            code = sandbox.returncode
            if code in _BY_OTHERS and await _ended_by_others(sandbox):
                return None
            tags = await sandbox.get_tags.aio()
            return pod_info(pod_id, tags, *(("running", "not finished") if code is None else ("exited", f"its command ended ({code})")))

        try:
            return self._read(f"show sandbox {pod_id}", look)
        except errors.NotFoundError:
            return None

    def list(self) -> builtins.list[PodInfo]:
        """Return every sandbox of the App that has not finished."""
        return self._listed({})

    def terminate(self, pod_id: str) -> None:
        """Ask Modal to end the sandbox; one that has finished is success."""

        async def end(client: Any) -> None:
            await (await modal.Sandbox.from_id.aio(_id(pod_id), client=client)).terminate.aio()

        try:
            self._read(f"end sandbox {pod_id}", end)
        except errors.NotFoundError:
            return

    def change_markers(self, pod_id: str, stop: datetime | None, end: datetime | None) -> None:
        """Refuse: a sandbox's timeout cannot be moved."""
        raise CloudRefused("Modal cannot move the end of a sandbox that runs")

    def costs(self) -> builtins.list[CostItem]:
        """Return the App's sandboxes at their price as it was when they were made."""
        return [CostItem("pod", pod.id, pod.name, pod.price_per_hour, pod.lease_id is not None) for pod in self.list()]

    def disks_per_hour(self, disk_gb: int, *, gpu: bool, volume: bool) -> float:
        """Return nothing: Modal bills no disk of a sandbox."""
        return 0.0

    def account(self) -> Account | None:
        """Return None: Modal tells no balance."""
        return None

    def billed(self, pod_id: str) -> float | None:
        """Return None: Modal's report is of Apps and hours, and never of one sandbox."""
        return None

    def boot_problem(self, pod_id: str) -> str | None:
        """Return the last line of a sandbox whose command has ended with an error."""

        async def last(client: Any) -> str | None:
            sandbox = await modal.Sandbox.from_id.aio(_id(pod_id), client=client)
            if not sandbox.returncode:
                return None
            lines = [line async for entry in sandbox.logs.tail.aio(20) for line in entry.message.splitlines() if line.strip()]
            return f"its command ended ({sandbox.returncode}): {lines[-1].strip()[:200]}" if lines else None

        try:
            return self._read(f"show the log of sandbox {pod_id}", last)
        except errors.NotFoundError:
            return None

    def now(self) -> datetime:
        """Return this machine's clock: Modal's answers carry none."""
        return utc_now()

    def close(self) -> None:
        """Close the connections."""
        self._sdk.close()

    def _opened_app(self) -> Any:
        if self._app is None:
            self._app = self._sdk.ask(f"look up the App '{APP}'", lambda client: modal.App.lookup.aio(
                APP, client=client, environment_name=self.environment, create_if_missing=True), _READ)  # fmt: skip
        return self._app

    def _listed(self, tags: Mapping[str, str]) -> builtins.list[PodInfo]:
        async def look(client: Any) -> builtins.list[PodInfo]:
            sandboxes = {s.object_id: s async for s in modal.Sandbox.list.aio(app_id=app.app_id, tags=dict(tags), client=client)}
            if not all(sandboxes):
                raise CloudUnknown("Modal lists a sandbox without an id")
            turn = asyncio.Semaphore(_AT_ONCE)
            each = await asyncio.gather(*(_tags(sandbox, turn) for sandbox in sandboxes.values()))
            return [pod_info(key, tags_of, "running", "not finished") for key, tags_of in zip(sandboxes, each, strict=True)]

        try:
            app = self._opened_app()
            return self._read("list the sandboxes", look)
        except errors.NotFoundError as error:
            raise CloudUnknown(f"Modal: {error}") from None

    def _read(self, what: str, call: Callable[[Any], Awaitable[T]]) -> T:
        """Ask what may be asked again: beside the SDK's own tries, when Modal says that there were too many requests."""
        for again in range(_TRIES):
            try:
                return self._sdk.ask(what, call, _READ)
            except NoCapacity as error:
                problem = error
                self.pace.sleep(2.0**again)
        raise CloudUnknown(problem.message)

    def _made_all_the_same(self, spec: PodSpec, error: CloudError) -> PodInfo:
        """Return the sandbox that a failed create has made, else raise its error: one that is definite only with Modal's list beside it."""
        try:
            ours = self._listed(lease_tags(spec))
            over = isinstance(error, OverTime) and not ours and self._was_ended(spec)
        except CloudError:
            raise CloudUnknown(error.message) from error
        if ours:
            return ours[0]
        if over:
            raise NoCapacity(f"Modal had no GPU for the sandbox within {self.post_timeout:.0f} s; it was ended, and never ran")
        raise error

    def _was_ended(self, spec: PodSpec) -> bool:
        """Tell whether a sandbox of this name was made and has finished: the SDK ends one whose create is cancelled."""

        async def look(client: Any) -> bool:
            sandbox = await modal.Sandbox.from_name.aio(
                APP, sandbox_name(spec.name), environment_name=self.environment, client=client, include_terminated=True
            )
            return await sandbox.poll.aio() is not None

        try:
            return self._read(f"look up {spec.name}", look)
        except errors.NotFoundError:
            return False


def open_modal(env: Mapping[str, str], places: Places) -> ModalCloud:
    """Return the workspace that MODAL_TOKEN_ID and MODAL_TOKEN_SECRET open; raises UserError where one is not set."""
    return ModalCloud.from_env(env)


async def _tags(sandbox: Any, turn: asyncio.Semaphore) -> Mapping[str, str]:
    async with turn:
        tags: Mapping[str, str] = await sandbox.get_tags.aio()
        return tags


async def _ended_by_others(sandbox: Any) -> bool:
    try:
        await sandbox.wait.aio()
    except (errors.SandboxTerminatedError, errors.SandboxTimeoutError):
        return True
    return False


def _image(asked_for: SandboxRequest) -> Any:
    login = modal.Secret.from_dict(dict(asked_for.login)) if asked_for.login else None
    return modal.Image.from_registry(asked_for.image, secret=login)


def _id(pod_id: str) -> str:
    if not re.fullmatch(r"sb-[A-Za-z0-9]{1,64}", pod_id):
        raise CloudRefused(f"'{pod_id}' is no sandbox id of Modal")
    return pod_id
