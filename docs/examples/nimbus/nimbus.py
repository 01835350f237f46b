"""Nimbus, a made-up cloud with a small API, behind Trainyard's Cloud protocol. NIMBUS is its row in the table of clouds."""

from __future__ import annotations

import builtins
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import httpx

from trainyard.clouds.gpus import match
from trainyard.clouds.http import Api, check_address
from trainyard.clouds.keys import account_keys, refuse_key_in
from trainyard.clouds.marker import marker_env
from trainyard.clouds.offers import affordable, check_gpus
from trainyard.clouds.protocol import Account, Capabilities, CostItem, Offer, OfferQuery, PodInfo, PodSpec, PodStatus, SshAddress
from trainyard.clouds.rehearsal import is_rehearsal
from trainyard.clouds.values import json_object, mapping, path_id, price_of, with_marks
from trainyard.config import Places
from trainyard.errors import CloudError, CloudRefused, CloudUnknown, NoCapacity
from trainyard.pod.endings import PodEnding, ending_env
from trainyard.secret import Secret
from trainyard.settings.clouds import CloudEntry

URL = "https://api.nimbus.example/v1"
STATUS: Mapping[str, PodStatus] = {"new": "accepted", "booting": "starting", "up": "running", "off": "exited", "failed": "error"}
OWN = "{NIMBUS_URL}/pods/{NIMBUS_POD}"
ENDINGS = (PodEnding(name="Nimbus", own_id="NIMBUS_POD", key="NIMBUS_POD_KEY", prove=("GET", OWN), proof_at=("id",), end=("DELETE", OWN)),)
NIMBUS = CloudEntry(
    name="nimbus", title="Nimbus", opener="nimbus:open_nimbus", emulator="nimbus_emulator:EMULATED",
    keys=("NIMBUS_API_KEY",), key_page="Nimbus's console", more=("NIMBUS_API_URL",), settings=("image",), self_terminate=True,
    request_file="nimbus_request.json", request_edits=(("image", "image"), ("env.*", "pod_env")),
)  # fmt: skip


def open_nimbus(env: Mapping[str, str], places: Places) -> Nimbus:
    """Return the account named by NIMBUS_API_KEY. Makes no request."""
    (key,) = account_keys("nimbus", env)
    return Nimbus(key, check_address("NIMBUS_API_URL", env.get("NIMBUS_API_URL") or URL), env)


class Nimbus:
    """One account at Nimbus."""

    name = "nimbus"

    def __init__(self, key: Secret, url: str, env: Mapping[str, str]) -> None:
        self.key, self.url, self.simulated = key, url, is_rehearsal(key.reveal())
        self.address = None if url == URL else url
        self.capabilities = Capabilities(
            self_terminate=True, deadline=False, change_markers=False, settle=2 if self.simulated else 60, listings=2, post_timeout=60
        )
        self.api = Api("Nimbus", url, {"Authorization": f"Bearer {key.reveal()}"}, env)

    def offers(self, query: OfferQuery) -> builtins.list[Offer]:
        kinds = self._items("/types", "types")
        names = [(str(kind["gpu"]),) for kind in kinds]
        check_gpus(query.gpus, names)
        chosen = [kinds[index] for gpu in query.gpus for index in match(gpu, names)]
        offers = [Offer(kind["id"], "nimbus", kind["gpu"], kind["gpus"], kind["price"]) for kind in chosen if kind["free"]]
        return [offer for offer in offers if offer.gpu_count == query.gpu_count and affordable(query, offer)]

    def create(self, spec: PodSpec, offer: Offer) -> PodInfo:
        body = self.rendered(OfferQuery(), spec, offer, datetime.now(UTC))
        refuse_key_in(body, self.key)
        response = self.api.create("/pods", body, limit=self.capabilities.post_timeout)
        if response.status_code != 201:
            raise _error(response, "create a pod")
        pod = _pod(json_object(response) or {})
        if pod.name != spec.name:
            raise CloudUnknown(f"Nimbus answered with another pod ({pod.id})")
        return pod

    def rendered(self, query: OfferQuery, spec: PodSpec, offer: Offer, now: datetime) -> dict[str, object]:
        env = {**spec.env, **marker_env(spec.fence_id, spec.lease_id, spec.stop, spec.end), **ending_env(ENDINGS), "NIMBUS_URL": self.url}
        body: dict[str, object] = {"name": spec.name, "type": offer.id, "image": spec.image, "start": list(spec.boot), "env": env}
        return body | {"ssh": {"public_key": spec.public_key, "host_key": spec.host_key}}

    def get(self, pod_id: str) -> PodInfo | None:
        response = self.api.read(f"/pods/{path_id('Nimbus', pod_id)}", urgent=True)
        body = json_object(response) or {}
        if _code(response) == "not_found":
            return None
        if response.status_code != 200 or body.get("id") != pod_id:
            raise _error(response, f"show pod {pod_id}")
        return _pod(body)

    def list(self) -> builtins.list[PodInfo]:
        return list({pod.id: pod for pod in map(_pod, self._items("/pods", "pods"))}.values())

    def terminate(self, pod_id: str) -> None:
        response = self.api.delete(f"/pods/{path_id('Nimbus', pod_id)}")
        if response.status_code != 204 and _code(response) != "not_found":
            raise _error(response, f"end pod {pod_id}")

    def costs(self) -> builtins.list[CostItem]:
        return [CostItem("pod", pod.id, pod.name, pod.price_per_hour, pod.lease_id is not None) for pod in self.list()]

    def change_markers(self, pod_id: str, stop: datetime | None, end: datetime | None) -> None:
        raise CloudRefused("Nimbus cannot change a running pod's lease")

    def now(self) -> datetime:
        if self.api.now() is None:
            self.list()
        return self.api.now() or datetime.now(UTC)

    def disks_per_hour(self, disk_gb: int, *, gpu: bool, volume: bool) -> float:
        return 0.0

    def account(self) -> Account | None:
        return None

    def billed(self, pod_id: str) -> float | None:
        return None

    def boot_problem(self, pod_id: str) -> str | None:
        return None

    def _items(self, path: str, key: str) -> builtins.list[dict[str, Any]]:
        response = self.api.read(path, urgent=True)
        items = (json_object(response) or {}).get(key)
        if response.status_code != 200 or not isinstance(items, builtins.list):
            raise _error(response, f"list {key}")
        return items


def _code(response: httpx.Response) -> object:
    """Return the code of Nimbus's own error; None where something else answers."""
    return mapping((json_object(response) or {}).get("error")).get("code")


def _error(response: httpx.Response, what: str) -> CloudError:
    """Return what an answer means: only Nimbus's own refusal says that nothing was done."""
    code, text = _code(response), f"Nimbus, asked to {what}: HTTP {response.status_code}: {response.text[:120]!r}"
    if code == "no_capacity":
        return NoCapacity(text)
    return CloudRefused(text) if code and 400 <= response.status_code < 500 else CloudUnknown(text)


def _pod(pod: Mapping[str, object]) -> PodInfo:
    if not isinstance(pod.get("id"), str):
        raise CloudUnknown("Nimbus showed a pod without an id")
    raw, port, created = str(pod.get("status")), pod.get("port"), pod.get("created")
    ssh = SshAddress(str(pod.get("host")), port, str(pod.get("user"))) if isinstance(port, int) else None
    moment = datetime.fromtimestamp(created, UTC) if isinstance(created, int | float) else None
    status = STATUS.get(raw, "unknown")
    info = PodInfo(str(pod["id"]), str(pod.get("name")), status, raw, price_of(pod.get("price")), moment, ssh=ssh)
    return with_marks(info, mapping(pod.get("env")))
