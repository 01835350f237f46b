"""A machine that is played here: an SSH server of its own with a home of its own, and GPUs that are only told.

What serves is OpenSSH where it is installed, else asyncssh; what runs behind it is what runs on any machine of the user's.
"""

from __future__ import annotations

import contextlib
import getpass
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from trainyard.clouds.local import launch
from trainyard.files import write_atomic
from trainyard.rehearsal.kit import GpuFacts
from trainyard.rehearsal.kit.machines import nvidia_smi
from trainyard.remote.keys import host_key, new_ssh_key

START = 20.0
"""Seconds in which its server must greet."""
_SSHD = """HostKey "{etc}/host_key"
AuthorizedKeysFile "{etc}/authorized_keys"
ListenAddress 127.0.0.1
Port {port}
PidFile none
UsePAM no
StrictModes no
PasswordAuthentication no
KbdInteractiveAuthentication no
PermitRootLogin prohibit-password
LogLevel ERROR
SetEnv {env}
"""
_CONFIG = """Host {name}
  HostName 127.0.0.1
  Port {port}
  User {user}
  IdentityFile "{folder}/key"
  IdentitiesOnly yes
  UserKnownHostsFile "{folder}/known_hosts"
  GlobalKnownHostsFile /dev/null
"""


@dataclass(frozen=True, slots=True)
class PlayedHost:
    """A machine that runs: what of ssh_config leads to it, and its server's process."""

    name: str
    folder: Path
    port: int
    process: subprocess.Popen[bytes]

    @property
    def ssh_config(self) -> str:
        """The lines by which ssh finds it, with its key and its host key."""
        return _CONFIG.format(name=self.name, port=self.port, user=getpass.getuser(), folder=self.folder)

    def stop(self) -> None:
        """End its server and what is connected to it; its pods live on, as when a machine's sshd ends."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGTERM)
        self.process.wait(10)


def play(name: str, folder: Path, gpu: GpuFacts | None = None, *, env: Mapping[str, str] | None = None, port: int = 0) -> PlayedHost:
    """Start a machine with such GPUs below a folder; its host key and login key are made once."""
    etc, home, programs = folder / "etc", folder / "home", folder / "bin"
    for part in (etc, home, programs):
        part.mkdir(parents=True, exist_ok=True)
    _keys(name, folder)
    if gpu is not None:
        write_atomic(programs / "nvidia-smi", nvidia_smi(gpu), durable=False, mode=0o755)
    own = {"HOME": str(home), "PATH": f"{programs}:{os.environ.get('PATH', os.defpath)}", "SHELL": "/bin/sh", **(env or {})}
    with socket.socket() as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(("127.0.0.1", port))
        port = int(listener.getsockname()[1])
        sshd = launch.find_sshd()
        if sshd:
            listener.close()
            process = _openssh(sshd, folder, port, own)
        else:
            listener.listen(64)
            with (folder / "server.log").open("ab") as log:
                process = subprocess.Popen(
                    [*launch.asyncssh_server(), str(etc)], stdin=listener.fileno(), stdout=log, stderr=log, env=own, start_new_session=True
                )
    host = PlayedHost(name, folder, port, process)
    _await(host)
    # Of this start's port; a machine that somebody else plays at the old one is another.
    public = (folder / "etc" / "host_key.pub").read_text(encoding="utf-8").strip()
    write_atomic(folder / "known_hosts", f"[127.0.0.1]:{port} {public}\n", durable=False)
    return host


def _keys(name: str, folder: Path) -> None:
    if (folder / "known_hosts").exists():
        return
    own = host_key(os.urandom(32), name)
    private, public = new_ssh_key(f"rehearsal of {name}")
    write_atomic(folder / "etc" / "host_key", own.private_pem, durable=False, mode=0o600)
    write_atomic(folder / "etc" / "host_key.pub", own.public + "\n", durable=False)
    write_atomic(folder / "etc" / "authorized_keys", public + "\n", durable=False)
    write_atomic(folder / "key", private, durable=False, mode=0o600)


def _openssh(sshd: str, folder: Path, port: int, env: Mapping[str, str]) -> subprocess.Popen[bytes]:
    if os.geteuid() == 0:
        Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)
    words = " ".join('"' + f"{name}={value}".replace("\\", "\\\\").replace('"', '\\"') + '"' for name, value in env.items())
    write_atomic(folder / "etc" / "sshd_config", _SSHD.format(etc=folder / "etc", port=port, env=words), durable=False)
    with (folder / "server.log").open("ab") as log:
        return subprocess.Popen(
            [sshd, "-D", "-e", "-f", str(folder / "etc" / "sshd_config")], stdout=log, stderr=log, start_new_session=True
        )


def _await(host: PlayedHost) -> None:
    until = time.monotonic() + START
    while time.monotonic() < until and host.process.poll() is None:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", host.port), 1) as link:
            if link.recv(4) == b"SSH-":
                return
        time.sleep(0.02)
    host.stop()
    raise RuntimeError(f"the played machine {host.name} did not start: {host.folder / 'server.log'}")


def block(host: PlayedHost, config: Path) -> dict[str, object]:
    """Return the host as the setting ``hosts`` describes it."""
    return {"name": host.name, "ssh_config": str(config), "python": sys.executable, "folder": str(host.folder / "pods")}
