"""The door to the transports: addresses, results, and the two ways to run a command."""

from trainyard.remote.frame import NotRun
from trainyard.remote.local import LocalTransport
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
    "quote",
    "with_environment",
    "with_values",
]  # fmt: skip
