"""Which host key a server shows, before anything is said to it. Imports its SSH library only when it is asked."""

from __future__ import annotations

import importlib
import logging
import threading

from trainyard import openssh


def warm() -> None:
    """Load the SSH library in the background: it takes 0.2 s, which a pod's boot has to spare."""
    threading.Thread(target=importlib.import_module, args=("paramiko",), daemon=True).start()


def shows(host: str, port: int, public: str, timeout: float = 10.0, *, through: str | None = None) -> bool | None:
    """Tell whether the server at an address shows this public key; None when it does not get as far as showing one.

    ``through``: the machine whose sshd leads there (SshLogin.url). Only the key exchange is made: no name, no key and no
    byte of ours goes there.
    """
    import paramiko

    # What goes wrong is returned; paramiko would write its own story of it to the terminal.
    logging.getLogger("paramiko").addHandler(logging.NullHandler())
    kind, _, blob = public.partition(" ")
    try:
        with openssh.open_socket(host, port, timeout, through=through) as connection, paramiko.Transport(connection) as transport:
            transport.get_security_options().key_types = (kind,)
            transport.start_client(timeout=timeout)
            key = transport.get_remote_server_key()
            return bool(key.get_name() == kind and key.get_base64() == blob.partition(" ")[0])
    except paramiko.ssh_exception.IncompatiblePeer:
        return False  # it has no key of this kind
    except (OSError, EOFError, ValueError, paramiko.SSHException):
        return None
