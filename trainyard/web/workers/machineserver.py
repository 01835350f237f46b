"""The SSH server of a machine that has joined: at a port of its loopback, for one key, with a host key that stays."""

from __future__ import annotations

import os
import socket
import subprocess
from pathlib import Path

from trainyard.clouds.local import launch
from trainyard.errors import UserError
from trainyard.files import write_atomic
from trainyard.processes import end_process, start_mark
from trainyard.remote.keys import host_key

_GRACE = 2.0


class MachineServer:
    """The SSH server of this machine, as it is while its worker lives; what is begun by it goes on behind it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder / "ssh"
        self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        self.port = 0
        self._key = ""
        self._process: subprocess.Popen[bytes] | None = None
        if not (self.folder / "host_key.pub").exists():
            own = host_key(os.urandom(32), "worker")
            write_atomic(self.folder / "host_key", own.private_pem, durable=True, mode=0o600)
            write_atomic(self.folder / "host_key.pub", own.public, durable=True)

    @property
    def host_key(self) -> str:
        """The public half of its host key."""
        return " ".join((self.folder / "host_key.pub").read_text(encoding="utf-8").split()[:2])

    def start(self, key: str) -> None:
        """Let whoever has a key in; raises UserError where no server can be started."""
        if self._key == key and self._process is not None and self._process.poll() is None:
            return
        self.stop()
        words = launch.asyncssh_server()
        if not words:
            raise UserError("a worker needs the package 'asyncssh', which this Python does not have")
        write_atomic(self.folder / "authorized_keys", key.strip() + "\n", durable=False, mode=0o600)
        with socket.socket() as listener, (self.folder / "server.log").open("ab") as log:
            listener.bind(("127.0.0.1", 0))
            listener.listen(64)
            self.port, self._key = int(listener.getsockname()[1]), key
            self._process = subprocess.Popen(
                [*words, str(self.folder)], stdin=listener.fileno(), stdout=log, stderr=log, start_new_session=True
            )  # fmt: skip
        mark = start_mark(self._process.pid)
        write_atomic(self.folder / "server.pid", f"{self._process.pid} {mark}", durable=False)

    def stop(self) -> None:
        """End the server: its own, and one that a killed worker has left."""
        if self._process is not None:
            self._process.terminate()
            self._process.wait()
            self._process = None
        try:
            pid, _, mark = (self.folder / "server.pid").read_text(encoding="utf-8").partition(" ")
        except FileNotFoundError:
            return
        end_process(int(pid), mark, _GRACE)
        (self.folder / "server.pid").unlink(missing_ok=True)
