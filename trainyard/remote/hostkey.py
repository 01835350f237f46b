"""Which host key a server shows, before anything is said to it. Imports its SSH library only when it is asked."""

from __future__ import annotations

import importlib
import logging
import threading
from collections.abc import Sequence

from trainyard import openssh


def warm() -> None:
    """Load the SSH library in the background: it takes 0.2 s, which a pod's boot has to spare."""
    threading.Thread(target=importlib.import_module, args=("paramiko",), daemon=True).start()


def shows(host: str, port: int, public: str, timeout: float = 10.0, *, through: str | None = None) -> bool | None:
    """Tell whether the server at an address shows this public key; None when it does not get as far as showing one.

    ``through``: the machine whose sshd leads there (SshLogin.url). Only the key exchange is made: no name, no key and no
    byte of ours goes there.
    """
    seen = shown(host, port, timeout, through=through, kinds=(public.partition(" ")[0],))
    return None if seen is None else seen.split()[:2] == public.split()[:2]


def shown(
    host: str, port: int, timeout: float = 10.0, *, through: str | None = None, kinds: Sequence[str] = ("ssh-ed25519",)
) -> str | None:
    """Return the public key that the server at an address shows, empty where it has none of these kinds; None when it shows none.

    Like `shows`, it makes the key exchange and nothing else.
    """
    import paramiko

    # What goes wrong is returned; paramiko would write its own story of it to the terminal.
    logging.getLogger("paramiko").addHandler(logging.NullHandler())
    try:
        with openssh.open_socket(host, port, timeout, through=through) as connection, paramiko.Transport(connection) as transport:
            transport.get_security_options().key_types = tuple(kinds)
            transport.start_client(timeout=timeout)
            key = transport.get_remote_server_key()
            return f"{key.get_name()} {key.get_base64()}"
    except paramiko.ssh_exception.IncompatiblePeer:
        return ""
    except (OSError, EOFError, ValueError, paramiko.SSHException):
        return None
