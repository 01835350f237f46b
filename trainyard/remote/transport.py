"""The door to the transports: addresses, results, and the ways to run a command.

What speaks SSH is loaded when it is first asked for: a playbook on this machine, or one that is only checked, needs none of it.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

from trainyard.remote.frame import NotRun
from trainyard.remote.local import CommandTransport, LocalTransport
from trainyard.remote.protocol import Address, CommandResult, NoAnswer, OnBytes, Stdin, Transport, quote, with_environment, with_values

if TYPE_CHECKING:
    from trainyard.remote.ssh import SshTransport, connect
else:

    def __getattr__(name: str) -> object:
        if name in ("SshTransport", "connect"):
            return getattr(importlib.import_module("trainyard.remote.ssh"), name)
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


__all__ = [
    "Address",
    "CommandResult",
    "LocalTransport",
    "NoAnswer",
    "NotRun",
    "OnBytes",
    "SshTransport",
    "Stdin",
    "Transport",
    "connect",
    "dial",
    "quote",
    "with_environment",
    "with_values",
]  # fmt: skip


def dial(address: Address, *, timeout: float = 20.0) -> Transport:
    """Return the transport to an address: over SSH of ours, or by the command that leads there. Raises what connect() does.

    A command is not tried before the first line is sent: it knows the way, the keys and its patience.
    """
    if address.command:
        return CommandTransport(address.command, str(address))
    from trainyard.remote.ssh import connect

    return connect(address, timeout=timeout)
