"""What a server and a machine that has joined say to each other: JSON on one WebSocket, and a WebSocket more for each SSH connection.

All of them are opened by the machine: it may stand behind any NAT, and each connection has a flow of its own.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, Field

from trainyard.sshlogin import PATH

PROTOCOL = 1
"""Of these words; machines and servers of one number understand each other, whatever their versions are."""
LINK, STREAM = "/workers/link", "/workers/stream/"
LABEL = r"[a-z][a-z0-9._-]{0,62}"
CHUNK = 1 << 16
_Text = Annotated[str, Field(max_length=100, pattern=r"^[^\x00-\x1f\x7f]*$")]


class Hello(BaseModel):
    """What a machine says first: what it is. What of it goes into files of ssh's is of a strict form."""

    kind: Literal["hello"] = "hello"
    protocol: int = PROTOCOL
    version: _Text
    labels: Annotated[dict[Annotated[str, Field(pattern=f"^{LABEL}$")], _Text], Field(max_length=50)]
    gpus: Annotated[tuple[_Text, ...], Field(max_length=64)]
    memory_gb: Annotated[float, Field(ge=0, le=1e6)]
    host_key: Annotated[str, Field(pattern=r"^ssh-ed25519 [A-Za-z0-9+/=]{40,100}$")]
    folder: Annotated[str, Field(pattern=f"^{PATH}$")]
    python: Annotated[str, Field(max_length=1000, pattern=r"^[A-Za-z0-9_./~+-]+$")]


class MachineWord(BaseModel):
    """That it lives, and how many pods it has; or that it leaves."""

    kind: Literal["beat", "leave"]
    pods: Annotated[int, Field(ge=0, le=100_000)] = 0


class ServerWord(BaseModel):
    """welcome: it may begin, with this key. open: a connection waits. drain, work: whether it takes leases. refused: not, and why."""

    kind: Literal["welcome", "open", "drain", "work", "refused"]
    key: str = ""
    beat: float = 0.0
    stream: str = ""
    why: str = ""
