"""The bodies of create requests. Makes no request."""

from __future__ import annotations

from trainyard.clouds.ionet.answers import NAME_MARK, bought_name
from trainyard.clouds.ionet.catalog import HardwareChoice
from trainyard.clouds.ionet.services import IonetService
from trainyard.clouds.marker import marker_env
from trainyard.clouds.protocol import PodSpec
from trainyard.clouds.registry import registry_login
from trainyard.clouds.vm import refuse_containers
from trainyard.errors import CloudRefused
from trainyard.pod.endings import ending_env

DEFAULT_IMAGE = "pytorch/pytorch:2.8.0-cuda12.8-cudnn9-runtime"
"""For whoever has not built the trainer image."""
TRAFFIC_PORT = 8080
"""One has to be said; nothing listens there."""


def create_body(service: IonetService, spec: PodSpec, choice: HardwareChoice, hours: int) -> dict[str, object]:
    """Return the body of a create request; raises CloudRefused or UserError for what io.net cannot have."""
    ordered: dict[str, object] = {
        "resource_private_name": bought_name(spec, hours), "duration_hours": hours, "hardware_id": choice.hardware,
        "location_ids": [choice.location], service.gpus: choice.count,
    }  # fmt: skip
    return ordered | (_machine(spec, hours) if service.ssh else _container(spec, hours))


def _container(spec: PodSpec, hours: int) -> dict[str, object]:
    if not spec.command:
        raise CloudRefused("io.net's containers have no SSH: without a command there is nothing to run. Nothing was sent")
    env = {**spec.env, **marker_env(spec.fence_id, spec.lease_id, spec.stop, spec.end), **ending_env(())}
    config = {
        "replica_count": 1, "traffic_port": TRAFFIC_PORT, "entrypoint": list(spec.command),
        "env_variables": env | {NAME_MARK: bought_name(spec, hours)}, "secret_env_variables": dict(spec.secret_env),
    }  # fmt: skip
    registry: dict[str, object] = {"image_url": spec.image or DEFAULT_IMAGE}
    if spec.registry:
        login = registry_login(spec.registry, "io.net")
        registry |= {"registry_username": login.user, "registry_secret": login.token.reveal()}
    return {"container_config": config, "registry_config": registry}


def _machine(spec: PodSpec, hours: int) -> dict[str, object]:
    refuse_containers("io.net", spec)
    if names := sorted(name for name in spec.env if not name.startswith("TRAINYARD_")):
        raise CloudRefused(f"io.net's machines take no variables at their start: 'pod_env' ({', '.join(names)}) means nothing there")
    if not spec.public_key:
        raise CloudRefused("a machine without an SSH key is reached by nobody; nothing was sent")
    # Alone, a machine shows neither its name nor variables: its key's name is the only place for what makes it ours.
    return {"vms_qty": 1, "ssh_keys": {bought_name(spec, hours): spec.public_key}}
