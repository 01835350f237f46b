"""Pod: one rented machine. Its name is made in Check, so it is on disk before anything is asked of a cloud.

Create never waits for readiness (that is Endpoint's work). A change of what the pod *is* replaces it, the
old one deleted first; a moved deadline or another price limit does not.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields

from trainyard.clock import format_time, parse_time
from trainyard.clouds import marker
from trainyard.clouds.marker import PodName
from trainyard.clouds.protocol import Cloud, Offer, PodInfo
from trainyard.clouds.vm import start_script
from trainyard.config import slug
from trainyard.errors import CloudError
from trainyard.leases import ending, rent
from trainyard.leases.podwish import PodWish, seed_of
from trainyard.leases.rent import PodRequest
from trainyard.provider import model
from trainyard.provider.call import Call
from trainyard.provider.handler import CheckFailed, Partial, ReadResult, ResourceDiff, ResourceHandler
from trainyard.provider.model import CheckFailure, prop
from trainyard.provider.values import UNKNOWN, Properties, UnknownValue, has_unknown
from trainyard.remote import hostkey
from trainyard.remote.keys import host_key
from trainyard.settings.ofcloud import longest_logical_name, starts_watchdog
from trainyard.settings.table import DEFAULTS


@dataclass(frozen=True, slots=True, kw_only=True)
class PodInputs:
    """Inputs of a pod.

    A field added later must default to None: an absent value is not part of the name's hash.
    """

    cloud: str = prop("Cloud to rent from.", replaces=True)
    lease_id: str = prop("Id of the lease that gives the pod its right to exist.", replaces=True)
    fence_id: str = prop("Id of the environment's lease.", replaces=True)
    stop: str | None = prop("When training is stopped (UTC); from the lease.", None)
    end: str = prop("When the pod is gone, whatever it holds (UTC); from the lease.")
    host_key_seed: str = prop("Seed that the pod's host key is derived from (64 hex characters).", secret=True, ignored=True)
    public_key: str = prop("SSH public key that may log in.", replaces=True)
    budget: float | None = prop("Dollars after which training is stopped.", None)
    heartbeat_minutes: float | None = prop("Idle minutes without a controller after which the pod ends itself; 0 or none: never.", None)
    idle_minutes: float | None = prop("Minutes without a job and an SSH session after which the pod ends itself; none: never.", None)
    stall_minutes: float | None = prop("Minutes without a sign of life of its job after which that is stopped; none: never.", None)
    gpus: tuple[str, ...] = prop("GPU names in order of preference; empty: a pod without GPU.", [], replaces=True)
    gpu_count: int = prop("Number of GPUs.", DEFAULTS.gpu_count, replaces=True)
    disk_gb: int = prop("Disk in GB.", DEFAULTS.disk_gb, replaces=True)
    max_price: float | None = prop("Dollars per hour that no offer may exceed.", None)
    regions: tuple[str, ...] = prop("Regions to rent in; empty: any.", [], replaces=True)
    tier: str | None = prop("The cloud's class of machines (SECURE or COMMUNITY).", None, replaces=True)
    spot: bool = prop("Rent interruptible capacity.", DEFAULTS.spot, replaces=True)
    image: str | None = prop("Container image.", None, replaces=True)
    template: str | None = prop("The cloud's template instead of an image.", None, replaces=True)
    volume: str | None = prop("Network volume to mount.", None, replaces=True)
    ports: tuple[str, ...] = prop("Ports to open, like 22/tcp.", list(DEFAULTS.ports), replaces=True)
    env: Mapping[str, str] = prop("Environment of the pod. Never an account key or a bucket key.", {}, replaces=True)
    registry: str | None = prop("The cloud's registry credential for a private image.", None, replaces=True)
    min_cuda: str | None = prop("Lowest CUDA version that the machine's driver must carry.", None, replaces=True)
    min_vram_gb: float | None = prop("Least memory of each GPU in GB.", None, replaces=True)
    reliability: float | None = prop("Least reliability of a marketplace's host (0 to 1).", None)
    inet_down: float | None = prop("Least speed (Mbit/s) at which a marketplace's host downloads.", None)
    only_offers: tuple[str, ...] | None = prop("Ids of the only offers to try, in this order.", None, replaces=True)
    options: Mapping[str, str] | None = prop("Settings that mean something to this cloud alone, by their names.", None, replaces=True)
    avoid_offers: tuple[str, ...] | None = prop("Ids of offers never to take.", None, replaces=True)
    container_bundle: str | None = prop("On clouds without SSH: sha256 of the bundle that the container is made of.", None, ignored=True)
    container_secrets: str | None = prop(
        "On clouds without SSH: what the container may know and nobody else, as one variable.", None, secret=True, ignored=True
    )
    store: str | None = prop("Kind of the store whose bucket says whether the environment is closed.", None, ignored=True)
    bucket: str | None = prop("Bucket that says whether the environment is closed.", None, ignored=True)


@dataclass(frozen=True, slots=True, kw_only=True)
class PodOutputs:
    """Outputs of a pod."""

    name: str = prop("Name in the cloud: ty-<fence id>-<lease id>-<logical name>-<hash>.")
    pod_id: str = prop("The cloud's id of the pod.")
    price_per_hour: float | None = prop("Dollars per hour for the whole pod.", None)
    gpu: str | None = prop("GPU that was rented.", None)
    gpu_count: int = prop("Number of GPUs.", 0)
    region: str | None = prop("Where it is.", None)
    offer: str | None = prop("Id of the offer that was taken; None when the pod was adopted.", None)
    created_at: str | None = prop("When the cloud created it (UTC).", None)
    workspace: str = prop("The pod's workspace folder, as processes in it see it.")
    host_key: str = prop("Public host key of the pod's SSH server, known before it exists.")
    first_commands: str | None = prop("Lines of sh for the first contact, to be run by root; none: the create request brought them.", None)
    volume_path: str | None = prop("Where the network volume is mounted on the pod.", None)
    api_address: str | None = prop("Where the cloud's API was asked, when not at its own address.", None)
    simulated: bool = prop("An emulator answered, not the real cloud.", False)


NOT_HASHED = frozenset({"lease_id", "fence_id"})
"""Parts of the name in their own right."""


def check(call: Call, olds: Properties | None, news: Properties) -> Properties:
    """Add the pod's name; the same inputs keep the same name."""
    failures = _failures(model.normal(PodInputs, news))
    if failures:
        raise CheckFailed(failures)
    image = model.normal(PodInputs, news)["image"]
    if isinstance(image, str) and "@sha256:" not in image:
        call.world.warn(f"image {image} is named by a tag, which can move: name it by its digest (invoke image.push prints it)")
    name = _kept_name(olds, news)
    return {**news, "name": name if name is not None else _new_name(call, news)}


def diff(call: Call, outputs: Properties, olds: Properties, news: Properties, plain: ResourceDiff) -> ResourceDiff:
    """Replace with deletion first: never two pods on the bill."""
    changes = dict(plain.changes)
    if olds.get("name") != news.get("name") and not any(kind.endswith("replace") for kind in changes.values()):
        changes["name"] = "update-replace"
    return ResourceDiff(changes, delete_first=any(kind.endswith("replace") for kind in changes.values()))


def create(call: Call, inputs: Properties) -> tuple[str, Properties]:
    """Adopt what an earlier attempt left, else rent."""
    typed, name = _read_inputs(inputs)
    cloud = call.world.open_cloud(typed.cloud)
    hostkey.warm()  # the endpoint will look at the pod's
    try:
        info, offer = rent.obtain(call.world, cloud, _request(typed, name))
    except rent.Ambiguous as error:
        raise Partial(error.info.id, _outputs(cloud, typed, name, error.info, error.offer), [error.message]) from error
    return info.id, _outputs(cloud, typed, name, info, offer)


def read(call: Call, id: str, outputs: Properties, inputs: Properties) -> ReadResult:
    """Say what the cloud says; gone only on its positive word. Without an id: look for what a lost create left."""
    if not id:
        return _read_pending(call, inputs)
    cloud = call.world.open_cloud(_cloud_name(inputs))
    info = cloud.get(id)
    if info is None:
        return ReadResult("", {}, inputs)
    typed, name = _read_inputs(inputs)
    fresh = _outputs(cloud, typed, name, info, None)
    kept = {key: outputs[key] for key in ("offer", "created_at", "host_key") if outputs.get(key) is not None}
    # A price that the cloud no longer tells is not forgotten.
    known = {key: value for key, value in fresh.items() if value is not None}
    return ReadResult(id, {**fresh, **outputs, **known, **kept}, inputs)


def update(call: Call, id: str, outputs: Properties, olds: Properties, news: Properties) -> Properties:
    """Move the deadline that the pod's marker carries; other changes only concern the next pod."""
    if call.preview:
        return outputs
    typed, _ = _read_inputs(news)
    before = model.normal(PodInputs, olds)
    cloud = call.world.open_cloud(typed.cloud)
    if cloud.get(id) is None:
        raise CloudError(f"the cloud says that it has no pod {id}", hint="Run refresh, then up rents another one.")
    if (before["stop"], before["end"]) != (typed.stop, typed.end):
        cloud.change_markers(id, parse_time(typed.stop), parse_time(typed.end))
    return outputs


def delete(call: Call, id: str, outputs: Properties, inputs: Properties) -> None:
    """End the pod and wait until the cloud says that it is gone or going."""
    ending.end_pod(call.world, call.world.open_cloud(_cloud_name(inputs)), id)


def _read_pending(call: Call, inputs: Properties) -> ReadResult:
    if has_unknown(inputs.get("name")) or not inputs.get("name"):
        return ReadResult("", {}, inputs)
    typed, name = _read_inputs(inputs)
    cloud = call.world.open_cloud(typed.cloud)
    info = rent.look_up(call.world, cloud, name)
    if info is None:
        return ReadResult("", {}, inputs)
    return ReadResult(info.id, _outputs(cloud, typed, name, info, None), inputs)


def _failures(values: Properties) -> list[CheckFailure]:
    failures = []
    for key in ("lease_id", "fence_id"):
        if isinstance(values[key], str) and not marker.is_id(str(values[key])):
            failures.append(CheckFailure(key, f"'{values[key]}' is no lease or fence id"))
    for key in ("stop", "end"):
        if isinstance(values[key], str) and parse_time(str(values[key])) is None:
            failures.append(CheckFailure(key, f"'{key}' must look like 2026-11-24T03:00:00Z"))
    seed = values["host_key_seed"]
    if isinstance(seed, str) and seed_of(seed) is None:
        failures.append(CheckFailure("host_key_seed", "'host_key_seed' must be at least 32 hex characters"))
    if values["image"] and values["template"]:
        failures.append(CheckFailure("template", "give 'image' or 'template', not both"))
    return failures


def _kept_name(olds: Properties | None, news: Properties) -> str | UnknownValue | None:
    old = olds.get("name") if olds else None
    if olds is None or not isinstance(old, str):
        return None
    return old if _shaping(olds) == _shaping(news) and not has_unknown(_shaping(news)) else None


def _new_name(call: Call, news: Properties) -> str | UnknownValue:
    shaping = _shaping(news)
    if has_unknown(shaping):
        return UNKNOWN
    spec = {key: value for key, value in shaping.items() if key not in NOT_HASHED}
    logical = marker.shortened(slug(call.name), longest_logical_name(_cloud_name(news)))
    return str(PodName(str(shaping["fence_id"]), str(shaping["lease_id"]), logical, marker.spec_hash(spec)))


def _shaping(inputs: Properties) -> Properties:
    """The inputs whose change makes another pod."""
    values = model.normal(PodInputs, inputs)
    return {item.name: values[item.name] for item in model.properties(PodInputs) if item.replaces}


def _read_inputs(inputs: Properties) -> tuple[PodInputs, str]:
    return model.parse(PodInputs, {key: value for key, value in inputs.items() if key != "name"}), str(inputs.get("name", ""))


def _cloud_name(inputs: Properties) -> str:
    return str(model.normal(PodInputs, inputs)["cloud"])


def _request(typed: PodInputs, name: str) -> PodRequest:
    return PodWish(**{field.name: getattr(typed, field.name) for field in fields(PodWish)}).request(name)


def _outputs(cloud: Cloud, typed: PodInputs, name: str, info: PodInfo, offer: Offer | None) -> Properties:
    price = info.price_per_hour if info.price_per_hour is not None else offer.price_per_hour if offer else None
    return {
        "name": name,
        "pod_id": info.id,
        "price_per_hour": price,
        "gpu": info.gpu or (offer.gpu if offer else None),
        "gpu_count": info.gpu_count or (offer.gpu_count if offer and offer.gpu else 0),
        "region": info.region or (offer.region if offer else None),
        "offer": offer.id if offer else None,
        "created_at": format_time(info.created),
        "workspace": info.workspace,
        "host_key": host_key(seed_of(typed.host_key_seed) or b"", name).public,
        "first_commands": None if starts_watchdog(typed.cloud) else start_script(_request(typed, name).spec_at(price)),
        "volume_path": info.volume,
        "api_address": cloud.address,
        "simulated": cloud.simulated,
    }


POD = ResourceHandler(
    token="trainyard:index:Pod",
    doc="One rented machine. It needs a lease, and it is replaced with the old one deleted first.",
    inputs=PodInputs,
    outputs=PodOutputs,
    kept=False,
    check=check,
    diff=diff,
    create=create,
    read=read,
    update=update,
    delete=delete,
)
