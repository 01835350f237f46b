"""A real SSH server on a loopback port: OpenSSH's sshd where it is installed, else one made with asyncssh."""

from __future__ import annotations

import getpass
import os
import shutil
import socket
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from trainyard.remote.keys import host_key, new_ssh_key
from trainyard.remote.transport import Address

SEED = b"a seed for the tests' host keys."
_CONFIG = """\
HostKey {folder}/host_key
AuthorizedKeysFile {folder}/authorized_keys
ListenAddress 127.0.0.1
Port {port}
PidFile none
UsePAM no
StrictModes no
PasswordAuthentication no
KbdInteractiveAuthentication no
PrintLastLog no
PermitRootLogin yes
LogLevel ERROR
SetEnv "HOME={home}"
"""


@dataclass(frozen=True, slots=True)
class Server:
    """A running SSH server and how to log in."""

    process: subprocess.Popen[bytes]
    address: Address
    folder: Path

    def stop(self) -> None:
        """End the listener; connections that are open live on, as with a real sshd."""
        self.process.terminate()
        self.process.wait(10)


def kind() -> str:
    """Return "sshd" or "asyncssh": what the tests run against (TEST_SSH_SERVER forces one)."""
    return os.environ.get("TEST_SSH_SERVER") or ("sshd" if _sshd() else "asyncssh")


def start(
    folder: Path, *, forced: str | None = None, shell: str | None = None, more: str = "", home: Path | None = None,
    manner: str = "",
) -> Server:  # fmt: skip
    """Start the server with a host key and a login key of its own.

    ``forced`` is run instead of what a client asks for (sshd's ForceCommand); ``shell`` is everybody's login shell; ``more`` are
    further lines of sshd's configuration. HOME of the sessions is the folder, with sshd also another one. With a ``manner`` it is
    asyncssh: "dropbear" with Dropbear's name and limit, "refusing" without any session.
    """
    folder.mkdir(parents=True, exist_ok=True)
    host = host_key(SEED, "test")
    private, public = new_ssh_key()
    for name, text in (("host_key", host.private_pem), ("key", private), ("authorized_keys", public + "\n")):
        (folder / name).write_text(text)
        (folder / name).chmod(0o600)
    port = _free_port()
    if kind() == "sshd" and not manner:
        if os.geteuid() == 0:
            Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)
        config = _CONFIG.format(folder=folder, port=port, home=home or folder)
        if shell is not None:
            # The passwd file of the machine is not ours: its shell runs the one that is wanted, as sshd would.
            forced = f'exec {shell} -c "$SSH_ORIGINAL_COMMAND"'
        config += f"ForceCommand {forced}\n" if forced else ""
        (folder / "config").write_text(config + more)
        command = [_sshd() or "sshd", "-D", "-e", "-f", str(folder / "config")]
        # From 9.8 on OpenSSH turns away for a while who asks often and does not log in: tests do, all from one address.
        tolerant = ["-o", "PerSourcePenalties=no"]
        if not subprocess.run([*command, "-t", *tolerant], capture_output=True, check=False).returncode:
            command += tolerant
    else:
        command = [
            sys.executable,
            str(Path(__file__).with_name("asyncssh_server.py")),
            str(folder),
            str(port),
            shell or "",
            forced or "",
            manner,
        ]
    with (folder / "server.log").open("wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log, start_new_session=True)
    _wait_for(port, process, folder)
    return Server(process, Address("127.0.0.1", port, getpass.getuser(), host.public, folder / "key"), folder)


def _sshd() -> str | None:
    return shutil.which("sshd", path=os.environ.get("PATH", "") + ":/usr/sbin:/usr/local/sbin")


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _wait_for(port: int, process: subprocess.Popen[bytes], folder: Path) -> None:
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline and process.poll() is None:
        try:
            with socket.create_connection(("127.0.0.1", port), 1) as connection:
                if connection.recv(4) == b"SSH-":
                    return
        except OSError:
            time.sleep(0.02)
    raise RuntimeError("the test's SSH server did not start: " + (folder / "server.log").read_text())
