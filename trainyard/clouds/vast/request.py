"""The body of a create request. Makes no request."""

from __future__ import annotations

import base64
import gzip
import re
import shlex

from trainyard.clouds.marker import HOST_KEY_MARK, Label, marker_env, parse_name
from trainyard.clouds.protocol import Offer, PodSpec
from trainyard.clouds.registry import registry_login
from trainyard.clouds.values import public_half
from trainyard.clouds.vast.answers import NAME_MARK
from trainyard.errors import UserError
from trainyard.pod.boot import pod_keys
from trainyard.pod.endings import PodEnding, ending_env
from trainyard.shellscript import load

DEFAULT_IMAGE = "pytorch/pytorch:2.8.0-cuda12.8-cudnn9-runtime"
"""For whoever has not built the trainer image; the start script brings the watchdog."""
START = "TRAINYARD_START"
_SCRIPT = "${TMPDIR:-/tmp}/.trainyard-start.sh"
_ONSTART = f'printf %s "${START}" | base64 -d | gzip -d > "{_SCRIPT}" && sh "{_SCRIPT}"'
"""The script itself is a variable: ``onstart`` may have 4048 characters, and the watchdog alone has three times as many."""
_OWN = "{VAST_URL}/api/v0/instances/{CONTAINER_ID}/"
ENDINGS = (
    PodEnding(
        name="Vast.ai", own_id="CONTAINER_ID", key="CONTAINER_API_KEY", prove=("GET", _OWN), proof_at=("instances", "id"),
        lease_at=("instances", "label"), end=("DELETE", _OWN),
    ),
)  # fmt: skip
"""The key is the instance's own: it can start, stop, show and destroy that one."""
_IN_OUR_IMAGE = ("python3", "/opt/trainyard/watchdog.py")


def offer_id(ask: int, bid: float | None) -> str:
    """Return an offer's id: the ask to take and, for an interruptible one, the dollars an hour to bid."""
    return str(ask) if bid is None else f"{ask}@{bid:.2f}"


def ask_of(offer: Offer) -> tuple[str, float | None]:
    """Return the parts of an offer's id; raises UserError for an id that this cloud did not make."""
    match = re.fullmatch(r"(\d+)(?:@(\d+\.\d+))?", offer.id)
    if match is None:
        raise UserError(f"'{offer.id}' is no offer of Vast.ai")
    return match[1], float(match[2]) if match[2] else None


def create_body(spec: PodSpec, offer: Offer, address: str) -> dict[str, object]:
    """Return the body of ``PUT /asks/ID/``: the same for the same spec, so a retry asks for the same instance."""
    _, bid = ask_of(offer)
    name = parse_name(spec.name)
    body: dict[str, object] = {
        "client_id": "me",
        "image": spec.image or DEFAULT_IMAGE,
        "disk": spec.disk_gb,
        "label": str(Label(name, spec.stop, spec.end)) if name else spec.name,
        "runtype": "ssh_direct",
        "env": pod_env(spec, address),
        "onstart": _ONSTART,
        "target_state": "running",
        "cancel_unavail": True,
    }
    if bid is not None:
        body["price"] = bid
    if spec.registry:
        registry_login(spec.registry, "Vast.ai")
        body["image_login"] = spec.registry
    return body


def pod_env(spec: PodSpec, address: str) -> dict[str, str]:
    """Return the pod's variables: the caller's, our marks, the keys of its SSH server, its start, and ports in Docker's words."""
    env = {"WORKSPACE": "/workspace", **spec.env, **marker_env(spec.fence_id, spec.lease_id, spec.stop, spec.end)}
    env |= {NAME_MARK: spec.name, "VAST_URL": address, START: start_script(spec)} | ending_env(ENDINGS)
    if spec.public_key:
        env["PUBLIC_KEY"] = spec.public_key
    if spec.host_key:
        env["SSH_HOST_ED25519_KEY"] = base64.b64encode(spec.host_key.encode()).decode()
        env[HOST_KEY_MARK] = public_half(spec.host_key)
    for port in spec.ports:
        number = port.partition("/")[0]
        env |= {f"-p {number}:{number}": "1"} if number != "22" else {}  # that one comes with the way of starting
    return env


def start_script(spec: PodSpec) -> str:
    """Return what an instance runs at its start, packed: the watchdog, then sessions' variables and the SSH server's own key."""
    hide = "|".join((*pod_keys(ending_env(ENDINGS)), START, "HOME", "PWD", "OLDPWD", "SHLVL", "TERM", "_"))
    script = f"{shlex.join(spec.boot or _IN_OUR_IMAGE)} </dev/null\nhide={shlex.quote(hide)}\n{load(__package__, 'start')}"
    # A fixed time stamp keeps a retry's request the same.
    return base64.b64encode(gzip.compress(script.encode(), 9, mtime=0)).decode()
