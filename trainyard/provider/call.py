"""One operation on one resource, as its handler sees it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from trainyard.leases.world import OperationWorld

if TYPE_CHECKING:
    from pathlib import Path

    from trainyard.config import Places


@dataclass(frozen=True, slots=True)
class Call:
    """One operation on one resource."""

    world: OperationWorld
    urn: str
    name: str
    preview: bool = False

    @property
    def stack(self) -> str:
        """The stack's name, from the urn ``urn:pulumi:<stack>::<project>::<type>::<name>``."""
        return self.urn.removeprefix("urn:pulumi:").partition("::")[0]


def key_folder(places: Places, stack: str) -> Path:
    """Return where a stack's private key lies."""
    return places.ssh / stack
