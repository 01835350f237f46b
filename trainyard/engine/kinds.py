"""What a property value can be beside JSON: unknown, secret, or a dict that carries one of these signatures."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

SIGNATURE = "4dabf18193072939515e22adb298388d"
SECRET = "1b47061264138c4ac30d75fd1eb44270"
ASSET = "c44067f5952c0a294b673a41bacd8c17"
ARCHIVE = "0def7320c3a5731c473e5ecbe6d01bc7"
REFERENCE = "5cf8f73096256a8f31e491e813e4eb8e"
OUTPUT = "d0e6a833031e9bbcd3f4e8bde6ca49a4"
UNKNOWN_TEXT = "04da6b54-80e4-46f7-96ec-b56ff0331ba9"

Properties = dict[str, Any]


class UnknownMarker:
    """The value of what is known only after an update (there is one: UNKNOWN)."""

    __slots__ = ()

    def __repr__(self) -> str:
        return "[unknown]"


UNKNOWN = UnknownMarker()


@dataclass(frozen=True, slots=True)
class EngineSecret:
    """A secret value; never shown."""

    value: Any

    def __repr__(self) -> str:
        return "[secret]"
