"""Endpoint: where sshd of a pod answers. A boot failure fails the endpoint, never the pod."""

from __future__ import annotations

from dataclasses import dataclass

from trainyard.clouds.protocol import PodInfo
from trainyard.leases import boot
from trainyard.provider import model
from trainyard.provider.call import Call
from trainyard.provider.handler import ReadResult, ResourceHandler
from trainyard.provider.model import prop
from trainyard.provider.values import Properties, Tree
from trainyard.settings.ofcloud import starts_watchdog
from trainyard.settings.table import DEFAULTS


@dataclass(frozen=True, slots=True, kw_only=True)
class EndpointInputs:
    """Inputs of an endpoint."""

    cloud: str = prop("Cloud of the pod.", replaces=True)
    pod_id: str = prop("The cloud's id of the pod.", replaces=True)
    boot_accepted_minutes: float = prop("Minutes until the cloud starts the pod.", DEFAULTS.boot_accepted_minutes, ignored=True)
    boot_image_minutes: float | None = prop("Minutes until the image is there and the container runs; see image_gb.", None, ignored=True)
    image_gb: float | None = prop(
        "Size of the image: without boot_image_minutes, 10 minutes, and a half more for each GB above 16.", None, ignored=True
    )
    boot_ssh_minutes: float = prop("Minutes until its SSH server answers.", DEFAULTS.boot_ssh_minutes, ignored=True)


@dataclass(frozen=True, slots=True, kw_only=True)
class EndpointOutputs:
    """Outputs of an endpoint."""

    host: str = prop("Host name or address.")
    port: int = prop("Port of the SSH server.")
    user: str = prop("Login name.")
    login_command: tuple[str, ...] | None = prop("Command that leads to a pod without an sshd of its own; none: it has one.", None)
    through: str | None = prop("Machine whose sshd leads to the pod's own, as ssh://user@name:port; none: it is dialled directly.", None)
    workspace: str = prop("The pod's workspace folder, as processes in it see it.")
    host_key: str | None = prop("Host key that was recorded at the first contact; none: the pod's own was known before it existed.", None)


def create(call: Call, inputs: Properties) -> tuple[str, Properties]:
    """Wait until sshd of the pod answers, and return where."""
    typed = model.parse(EndpointInputs, inputs)
    limits = boot.BootLimits(
        accepted=typed.boot_accepted_minutes, image=typed.boot_image_minutes, ssh=typed.boot_ssh_minutes, image_gb=typed.image_gb
    )
    info = boot.wait(call.world, call.world.open_cloud(typed.cloud), typed.pod_id, limits)
    return typed.pod_id, _outputs(info, None if starts_watchdog(typed.cloud) else boot.recorded_key(call.world, info))


def read(call: Call, id: str, outputs: Properties, inputs: Properties) -> ReadResult:
    """Return the fresh address; the last known one while the pod has none."""
    if not id:
        return ReadResult("", {}, inputs)  # waiting costs nothing: Create does it again
    typed = model.parse(EndpointInputs, inputs)
    info = call.world.open_cloud(typed.cloud).get(id)
    if info is None:
        return ReadResult("", {}, inputs)
    recorded = outputs.get("host_key")
    return ReadResult(id, _outputs(info, recorded if isinstance(recorded, str) else None) if info.ssh else outputs, inputs)


def update(call: Call, id: str, outputs: Properties, olds: Properties, news: Properties) -> Properties:
    """Look the address up again."""
    return outputs if call.preview else read(call, id, outputs, news).properties or outputs


def delete(call: Call, id: str, outputs: Properties, inputs: Properties) -> None:
    """Do nothing: an address ends with its pod."""


def _outputs(info: PodInfo, recorded: str | None) -> Properties:
    assert info.ssh is not None  # both callers looked
    door = info.ssh
    command: list[Tree] | None = list(door.command) or None
    way: Properties = {"host": door.host, "port": door.port, "user": door.user, "login_command": command, "through": door.through}
    return {**way, "workspace": info.workspace, "host_key": recorded}


ENDPOINT = ResourceHandler(
    token="trainyard:index:Endpoint",
    doc="Where a pod's SSH server answers. Its creation waits for it; its deletion does nothing.",
    inputs=EndpointInputs,
    outputs=EndpointOutputs,
    create=create,
    read=read,
    update=update,
    delete=delete,
)
