"""The machines of the setting ``hosts``: one's own, reached by one's own ssh."""

from __future__ import annotations

import fnmatch
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from trainyard.errors import UserError
from trainyard.fields import Fields
from trainyard.settings.blocks import HOST
from trainyard.sshlogin import SshLogin


@dataclass(frozen=True, slots=True, kw_only=True)
class OwnHost:
    """One machine, as its owner describes it."""

    login: SshLogin
    gpus: tuple[int, ...] | None = None
    """Indices of the GPUs that may be leased; None: all."""
    gpu: str | None = None
    """Their type, where nvidia-smi does not tell."""
    gpu_count: int = 1
    price: float = 0.0
    """Dollars an hour of the whole machine's lease, however many GPUs it has."""
    folder: str = "~/.trainyard-pods"
    python: str | None = None
    joined: Path | None = None
    """Of a machine that has joined a server: where it is written down, with the leases that may be on it."""
    labels: tuple[tuple[str, str], ...] = ()
    """What a machine that has joined says of itself: ``gpu=a100``."""
    draining: bool = False
    """It takes no new lease."""

    @property
    def name(self) -> str:
        """What lists and offers call it."""
        return self.login.name

    def is_in(self, regions: Sequence[str]) -> bool:
        """Tell whether it is one of those that ``regions`` names: by name, or by labels, as in ``gpu=a100*,site=lab``."""
        return not regions or any(region == self.name or ("=" in region and self._has(region)) for region in regions)

    def _has(self, labels: str) -> bool:
        own = {**dict(self.labels), **({"worker": self.name} if self.joined else {})}
        asked = [part.strip().partition("=")[::2] for part in labels.split(",")]
        return all(fnmatch.fnmatchcase(own.get(name, ""), pattern) and name in own for name, pattern in asked)


def own_hosts(blocks: Sequence[Mapping[str, object]]) -> list[OwnHost]:
    """Return the machines that the setting ``hosts`` names; raises UserError, with its place, for a block that is none."""
    hosts = [_host(block) for block in blocks]
    for number, host in enumerate(hosts):
        if any(other.name == host.name for other in hosts[:number]):
            raise UserError(f"hosts: '{host.name}' is there twice", where=Fields(blocks[number], "hosts").where())
    return hosts


def _host(block: Mapping[str, object]) -> OwnHost:
    fields = Fields(block, "hosts")
    said = {name: value for name, shape in HOST.items() if (value := fields.shaped(name, shape)) is not None}
    fields.done()
    if "name" not in said:
        hint = "A host is a name of your ssh_config, or a block: {name: gpu1, address: 10.0.0.5, user: anna}."
        raise UserError("hosts: 'name' is missing", where=fields.where(), hint=hint)
    typed = cast("dict[str, Any]", said)
    login = SshLogin(
        **{key: typed.pop(key) for key in ("name", "address", "user", "port", "key_file", "jump") if key in typed},
        config=typed.pop("ssh_config", None),
        accept_new=typed.pop("accept_new_host_key", False),
    )
    if "gpus" in typed:
        typed["gpus"] = tuple(int(index) for index in typed["gpus"])
    return OwnHost(login=login, **typed)
