"""The door to the transports: addresses, results, and the ways to run a command."""

from __future__ import annotations

from trainyard.remote.frame import NotRun
from trainyard.remote.local import CommandTransport, LocalTransport
from trainyard.remote.protocol import Address, CommandResult, NoAnswer, OnBytes, Stdin, Transport, quote, with_environment, with_values
from trainyard.remote.ssh import SshTransport, connect

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
    return CommandTransport(address.command, str(address)) if address.command else connect(address, timeout=timeout)
