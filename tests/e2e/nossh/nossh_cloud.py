"""A cloud without SSH, as a package of somebody else's: local pods whose command is the job."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from trainyard.clouds.local import LocalCloud
from trainyard.clouds.protocol import Offer, PodInfo, PodSpec
from trainyard.config import Places

# A container is no pod of the local cloud: nothing of that helps it to end itself. What is secret comes beside its variables.
_ENTER = 'unset TRAINYARD_POD_SOCKET; . ~/.container-secrets; rm ~/.container-secrets; exec "$@"'


def open_nossh(env: Mapping[str, str], places: Places) -> ContainerCloud:
    """Open it; it needs no key."""
    return ContainerCloud(LocalCloud(places.cloud))


class ContainerCloud:
    """Local pods that nobody is told an address of, and that stop when their command has ended."""

    name, simulated, address = "nossh", True, None

    def __init__(self, pods: LocalCloud) -> None:
        self.pods = pods
        self.capabilities = replace(pods.capabilities, ssh=False, self_terminate=False)

    def create(self, spec: PodSpec, offer: Offer) -> PodInfo:
        """Run the command as the container."""
        assert spec.command and not spec.boot
        exports = "".join(f"export {name}={shlex.quote(value)}\n" for name, value in spec.secret_env.items())
        boot = ("sh", "-c", _ENTER, "sh", *spec.command)
        pod = replace(spec, boot=boot, command=(), secret_env={})
        return self._shown(self.pods.create(pod, offer, files={"home/.container-secrets": exports.encode()}))

    def get(self, pod_id: str) -> PodInfo | None:
        """Return a pod."""
        info = self.pods.get(pod_id)
        return self._shown(info) if info is not None else None

    def list(self) -> list[PodInfo]:
        """Return all pods."""
        return [self._shown(info) for info in self.pods.list()]

    def _shown(self, info: PodInfo) -> PodInfo:
        code = self.pods.exit_code(info.id)
        info = replace(info, ssh=None, host_key=None)
        return info if code is None else replace(info, status="exited", raw_status=f"its command ended ({code})")

    def __getattr__(self, name: str) -> Any:
        return getattr(self.pods, name)
