"""The body of a create request, for REST v2 and for GraphQL (spot). Makes no request."""

from __future__ import annotations

import base64
import gzip
import shlex
from collections.abc import Mapping
from dataclasses import dataclass

from trainyard.clouds.marker import HOST_KEY_MARK, marker_env
from trainyard.clouds.protocol import Offer, PodSpec
from trainyard.clouds.values import public_half
from trainyard.clouds.volume import volume_env
from trainyard.errors import UserError
from trainyard.pod.boot import FORGET_KEYS, pod_keys
from trainyard.pod.endings import PodEnding, ending_env
from trainyard.shellscript import load

MOST_VARIABLES = 50
CONTAINER_DISK_GB = 20
"""What pip and apt of a pod write outside of /workspace; the image's own layers do not count."""
VOLUME_PATH = "/runpod-volume"
CUDA_VERSIONS = tuple(f"12.{minor}" for minor in range(10)) + tuple(f"13.{minor}" for minor in range(6))

_REST, _GRAPHQL = "{RUNPOD_API_URL}/pods/{RUNPOD_POD_ID}", "{RUNPOD_GRAPHQL_URL}"
_POD = {"input": {"podId": "{RUNPOD_POD_ID}"}}
_CTL = ("run", "runpodctl", "get", "pod", "{RUNPOD_POD_ID}")
ENDINGS = (
    PodEnding(
        name="RunPod REST", own_id="RUNPOD_POD_ID", key="RUNPOD_API_KEY",
        prove=("GET", _REST), proof_at=("id",), end=("DELETE", _REST),
    ),
    PodEnding(
        name="RunPod GraphQL", own_id="RUNPOD_POD_ID", key="RUNPOD_API_KEY", proof_at=("data", "pod", "id"),
        prove=("POST", _GRAPHQL, {"query": "query($input: PodFilter!) { pod(input: $input) { id } }", "variables": _POD}),
        end=("POST", _GRAPHQL, {"query": "mutation($input: PodTerminateInput!) { podTerminate(input: $input) }", "variables": _POD}),
    ),
    PodEnding(name="runpodctl", own_id="RUNPOD_POD_ID", prove=_CTL, end=("run", "runpodctl", "pod", "delete", "{RUNPOD_POD_ID}")),
    PodEnding(name="older runpodctl", own_id="RUNPOD_POD_ID", prove=_CTL, end=("run", "runpodctl", "remove", "pod", "{RUNPOD_POD_ID}")),
)  # fmt: skip
"""The key is the pod's own. Whether it may end the pod by REST is not documented: so there is more than one way."""

_SCRIPT = "${TMPDIR:-/tmp}/.trainyard-start.sh"
_GO_ON = "[ -x /start.sh ] && exec /start.sh; exec sleep infinity"


@dataclass(frozen=True, slots=True)
class Choice:
    """An offer's id taken apart: ``gpu|<type>|<count>|<tier>|<data center>|<CUDA>`` or ``cpu|<flavor>|<vcpus>|...``."""

    kind: str
    type: str
    count: int
    tier: str
    region: str
    cuda: str = ""

    def __str__(self) -> str:
        return "|".join((self.kind, self.type, str(self.count), self.tier, self.region, self.cuda)).rstrip("|")


def parse_choice(text: str) -> Choice:
    """Return the parts of an offer's id; raises UserError for an id that this cloud did not make."""
    parts = text.split("|")
    if not 4 <= len(parts) <= 6 or parts[0] not in ("gpu", "cpu") or not parts[2].isdigit():
        raise UserError(f"'{text}' is no offer of RunPod")
    region, cuda, *_ = [*parts[4:], "", ""]
    return Choice(parts[0], parts[1], int(parts[2]), parts[3], region, cuda)


def rest_body(spec: PodSpec, offer: Offer, addresses: Mapping[str, str]) -> dict[str, object]:
    """Return the body of ``POST /pods``: the same for the same spec, so a retry asks for the same pod."""
    choice = parse_choice(offer.id)
    container, persistent = disks(spec.disk_gb, gpu=choice.kind == "gpu", volume=bool(spec.volume))
    body: dict[str, object] = {
        "name": spec.name,
        "disk": container,
        "ports": list(spec.ports),
        "env": pod_env(spec, addresses),
        "cloud": choice.tier,
    }
    if choice.kind == "gpu":
        body["gpu"] = {"id": choice.type, "count": choice.count} | ({"minCudaVersion": choice.cuda} if choice.cuda else {})
    else:
        body["cpu"] = {"id": choice.type, "vcpuCount": choice.count}
    if spec.volume:
        body["mounts"] = {"network": [{"volumeId": spec.volume, "path": VOLUME_PATH}]}
    elif persistent:
        body["mounts"] = {"persistent": {"size": persistent, "path": "/workspace"}}
    optional = {"image": spec.image, "templateId": spec.template, "registry": spec.registry, "args": start_args(spec)}
    body |= {key: value for key, value in optional.items() if value}
    if choice.region:
        body["dataCenterIds"] = [choice.region]
    if spec.public_key:
        body["startSsh"] = True
    return body


def disks(disk_gb: int, *, gpu: bool, volume: bool) -> tuple[int, int]:
    """Return the GB of the container's disk and of the pod's own volume that are rented for so much asked disk."""
    if gpu and not volume:
        # Not on the container's disk: that one is wiped when the container restarts, and a result may lie there.
        return CONTAINER_DISK_GB, max(10, disk_gb)
    return max(CONTAINER_DISK_GB, disk_gb), 0


def spot_input(spec: PodSpec, offer: Offer, addresses: Mapping[str, str]) -> dict[str, object]:
    """Return the ``input`` variable of GraphQL's podRentInterruptable."""
    choice = parse_choice(offer.id)
    variables: dict[str, object] = {
        "name": spec.name,
        "bidPerGpu": offer.price_per_hour / max(1, offer.gpu_count),
        "cloudType": choice.tier,
        "gpuTypeId": choice.type,
        "gpuCount": choice.count,
        "containerDiskInGb": CONTAINER_DISK_GB,
        "volumeInGb": 0 if spec.volume else max(10, spec.disk_gb),
        "volumeMountPath": VOLUME_PATH if spec.volume else "/workspace",
        "ports": ",".join(spec.ports),
        "env": [{"key": key, "value": value} for key, value in pod_env(spec, addresses).items()],
    }
    optional = {
        "imageName": spec.image, "templateId": spec.template, "networkVolumeId": spec.volume,
        "containerRegistryAuthId": spec.registry, "dockerArgs": start_args(spec), "dataCenterId": choice.region,
    }  # fmt: skip
    if choice.cuda:
        # GraphQL has no "at least": every version that is known and high enough.
        least = _numbers(choice.cuda)
        variables["allowedCudaVersions"] = [version for version in CUDA_VERSIONS if _numbers(version) >= least]
    return variables | {key: value for key, value in optional.items() if value}


def pod_env(spec: PodSpec, addresses: Mapping[str, str]) -> dict[str, str]:
    """Return the pod's variables: the caller's, our marks, the keys of its SSH server, where the watchdog finds the API."""
    env = {"WORKSPACE": "/workspace", **spec.env, **marker_env(spec.fence_id, spec.lease_id, spec.stop, spec.end), **addresses}
    env |= ending_env(ENDINGS)
    if spec.public_key:
        env["PUBLIC_KEY"] = spec.public_key
    if spec.host_key:
        env["SSH_HOST_ED25519_KEY"] = base64.b64encode(spec.host_key.encode()).decode()
        env[HOST_KEY_MARK] = public_half(spec.host_key)
    if spec.volume:
        env = {**volume_env(VOLUME_PATH), **env}
    if len(env) > MOST_VARIABLES:
        raise UserError(f"RunPod takes at most {MOST_VARIABLES} variables a pod, this one has {len(env)}")
    return env


def start_args(spec: PodSpec) -> str:
    """Return the start arguments for an image whose entrypoint is not ours: our command first, then what the image would do."""
    if not spec.boot:
        return ""
    # /start.sh writes its variables down for every session.
    hide = shlex.quote(" ".join(f"-u {name}" for name in pod_keys(ending_env(ENDINGS))))
    script = f"{shlex.join(spec.boot)}\nhide={hide}\n{load(__package__, 'start_sshd')}{FORGET_KEYS}{_GO_ON}\n"
    # One level of quotes around letters and digits: how RunPod splits the string is not written down anywhere, and nested
    # quotes are known to break. A fixed time stamp keeps a retry's request the same.
    packed = base64.b64encode(gzip.compress(script.encode(), 9, mtime=0)).decode()
    return f"sh -c 'echo {packed} | base64 -d | gzip -d > {_SCRIPT}; exec sh {_SCRIPT}'"


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split("."))
