"""A pod from the files of a trainer image: its own Python, sshd and entrypoint, in the namespaces of a local pod.

The image's files are a folder (what `buildah mount` and `docker export` give), which no pod changes: each has a layer above it.
"""

from __future__ import annotations

import base64
import os
from dataclasses import replace
from pathlib import Path

from trainyard.clouds.local import launch, request
from trainyard.errors import UserError
from trainyard.network import free_port
from trainyard.rehearsal.kit.cloud import Container, EmulatedCloud
from trainyard.remote.protocol import with_values
from trainyard.shellscript import load

ENTRYPOINT = "opt/trainyard/entrypoint.sh"
IMAGE_ENV = {"PYTHONUNBUFFERED": "1", "WORKSPACE": "/workspace", "TRAINYARD_ENVS": "/opt/trainyard/envs"}
"""What the Dockerfile says that a container's processes see."""


def check_root(folder: Path, cloud: EmulatedCloud) -> Path:
    """Return the folder of an image's files, whole; raises UserError for what cannot be started as a pod of this cloud here."""
    root = folder.resolve()
    if not (root / ENTRYPOINT).is_file():
        hint = "It is what `buildah mount CONTAINER` prints, or a folder into which `docker export CONTAINER` was unpacked."
        raise UserError(f"'{folder}' holds no files of a trainer image: there is no /{ENTRYPOINT}", hint=hint)
    if not cloud.starts_images:
        raise UserError(f"pods of {cloud.title} are not started by an image's entrypoint: --rootfs is for RunPod, Modal and io.net")
    if ":" in str(root) or "," in str(root):
        raise UserError(f"'{root}' cannot be mounted: a colon or a comma stands in its path")
    forced = request.forced_isolation() == "process"
    why = "it needs root" if os.getuid() else "TRAINYARD_LOCAL_ISOLATION forbids namespaces" if forced else launch.probe()
    if why:
        raise UserError(f"an image's files cannot be started as a pod here: {why}")
    return root


def from_image(container: Container, root: Path) -> tuple[Container, int]:
    """Return a container as one of that image, and the port on this machine where its SSH server will listen."""
    port = free_port()
    script = with_values(load(__package__, "image"), rootfs=str(root), port=port, volume=container.volume or "")
    key = {"SSH_HOST_ED25519_KEY": base64.b64encode(container.host_key.encode()).decode()} if container.host_key else {}
    env = {**IMAGE_ENV, **container.env, **key, **({"PUBLIC_KEY": container.public_key} if container.public_key else {})}
    start = ("sh", "-c", script, "image")
    if container.job:
        return replace(container, env=env, job=(*start, *container.job)), port
    return replace(container, env=env, boot=start), port
