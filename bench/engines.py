"""What bench.playbook and bench.transfer run beside ours: other engines and tools of SSH, each in an environment of its own.

Ansible as it comes, with pipelining, and with Mitogen's strategy; pyinfra; and the floor: plain ``ssh`` on one shared connection.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from bench.late import late
from tests.remote import sshd

_HOME = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "trainyard" / "bench-playbooks"
_PACKAGES = {"ansible": ("ansible-core==2.19.*", "mitogen"), "pyinfra": ("pyinfra",)}
OURS = "trainyard"
ENGINES = ("mux", "ansible", "pipelining", "mitogen", "pyinfra")
NAMES = {
    OURS: "trainyard", "mux": "ssh, one shared connection", "ansible": "ansible-core, as it comes",
    "pipelining": "ansible-core, pipelining", "mitogen": "ansible-core, mitogen", "pyinfra": "pyinfra",
    "scp": "scp", "rsync": "rsync", "cat": "cat | ssh",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Target:
    """A server and a port that leads to it, with a folder for files that name both."""

    server: sshd.Server
    port: int
    folder: Path

    @property
    def ssh_options(self) -> list[str]:
        """Return the options of ssh and its kin: this key, this host key, nobody's settings."""
        hosts = self.folder / "known_hosts"
        hosts.write_text(f"[127.0.0.1]:{self.port} {self.server.address.host_key}\n")
        return [
            "-F", "/dev/null", "-i", str(self.server.address.key_file), "-o", f"UserKnownHostsFile={hosts}",
            "-o", "BatchMode=yes", "-o", "IdentitiesOnly=yes",
        ]  # fmt: skip

    @property
    def outputs(self) -> Path:
        """Return a file with the server as a stack's outputs: our inventory."""
        address = self.server.address
        path = self.folder / "outputs.json"
        path.write_text(json.dumps({
            "pod_name": "pod", "host": "127.0.0.1", "port": self.port, "user": address.user, "host_key": address.host_key,
            "ssh_key_file": str(address.key_file),
        }))  # fmt: skip
        return path


def targets(round_trips: str) -> Iterator[tuple[int, Target]]:
    """Yield a server behind links of these round trips in ms, each with an empty folder."""
    if sshd.kind() != "sshd":
        sys.exit("bench: OpenSSH's sshd must be on PATH, or in /usr/sbin: what is measured is its answer")
    for milliseconds in map(int, round_trips.split(",")):
        # In memory: what is measured is the way, not the disk.
        with tempfile.TemporaryDirectory(prefix="tyb", dir="/dev/shm" if os.path.isdir("/dev/shm") else None) as folder:
            server = sshd.start(Path(folder) / "sshd", more="Subsystem sftp internal-sftp\n")
            try:
                with late(server.address.port, milliseconds) as port:
                    yield milliseconds, Target(server, port, Path(folder))
            finally:
                server.stop()


def link_name(milliseconds: int) -> str:
    """Return what a link is called in a title."""
    return f"a round trip of {milliseconds} ms" if milliseconds else "loopback"


def install(engines: list[str]) -> list[str]:
    """Install what is asked for and return those that can be had; the others are said aloud."""
    got = []
    for name in engines:
        home = "ansible" if name in ("pipelining", "mitogen") else name
        if home not in _PACKAGES or _has(home):
            got.append(name)
        else:
            print(f"bench: {name} is skipped: {', '.join(_PACKAGES[home])} cannot be installed from the package index here")
    return got


def _has(home: str) -> bool:
    place = _HOME / home
    if not (place / "bin" / "pip").exists():
        print(f"bench: making an environment for {home} in {place}", flush=True)
        subprocess.run([sys.executable, "-m", "venv", place], check=True)
        done = subprocess.run([place / "bin" / "pip", "-q", "install", *_PACKAGES[home]], check=False)
        if done.returncode:
            shutil.rmtree(place)
            return False
    return True


def playbook(engine: str, target: Target, name: str, base: str) -> tuple[list[str], dict[str, str]]:
    """Return the command line that runs the tasks ``name`` with an engine, and what it has in its environment."""
    env = {key: value for key, value in os.environ.items() if not key.startswith(("ANSIBLE_", "PYTHONDONTWRITE"))}
    env["HOME"] = str(target.folder)
    words = {
        OURS: [sys.executable, "-m", "trainyard.playbook", f"{name}.yml", "-i", str(target.outputs), "-e", f"base={base}"],
        "mux": ["bash", f"{name}.sh", base, str(target.port), target.server.address.user, *target.ssh_options],
        "pyinfra": [str(_HOME / "pyinfra/bin/pyinfra"), "-y", str(_pyinfra_inventory(target)), f"{name}.py", "--data", f"base={base}"],
    }.get(engine)
    if words is not None:
        return words, env
    (target.folder / "hosts.ini").write_text(
        f"pod ansible_host=127.0.0.1 ansible_port={target.port} ansible_user={target.server.address.user} "
        f"ansible_python_interpreter={Path(sys.executable).resolve()}\n"
    )
    # A fresh folder for its shared connections: it would keep one for the next run.
    control = target.folder / f"cp{os.urandom(3).hex()}"
    env |= {
        "ANSIBLE_GATHERING": "explicit", "ANSIBLE_SSH_COMMON_ARGS": " ".join(target.ssh_options), "ANSIBLE_LOCALHOST_WARNING": "0",
        "ANSIBLE_SSH_CONTROL_PATH_DIR": str(control), "PATH": f"{_HOME / 'ansible/bin'}{os.pathsep}{env['PATH']}",
    }  # fmt: skip
    if engine != "ansible":
        env |= {"ANSIBLE_PIPELINING": "1", "ANSIBLE_SSH_ARGS": "-o ControlMaster=auto -o ControlPersist=60s"}
    if engine == "mitogen":
        (folder,) = (_HOME / "ansible").glob("lib/python3*/site-packages/ansible_mitogen")
        env |= {"ANSIBLE_STRATEGY_PLUGINS": str(folder / "plugins/strategy"), "ANSIBLE_STRATEGY": "mitogen_linear"}
    return [str(_HOME / "ansible/bin/ansible-playbook"), "-i", str(target.folder / "hosts.ini"), f"{name}.yml", "-e", f"base={base}"], env


def _pyinfra_inventory(target: Target) -> Path:
    address = target.server.address
    data = {
        "ssh_port": target.port, "ssh_user": address.user, "ssh_key": str(address.key_file), "ssh_strict_host_key_checking": "yes",
        "ssh_known_hosts_file": str(target.folder / "known_hosts"), "ssh_config_file": "/dev/null", "ssh_allow_agent": False,
    }  # fmt: skip
    path = target.folder / "inventory.py"
    path.write_text(f"hosts = [('127.0.0.1', {data!r})]\n")
    return path


def carry(tool: str, target: Target, verb: str, source: Path, dest: Path) -> list[str]:
    """Return the command line that takes one file to the server (``up``) or from it (``down``) with a tool."""
    options, login, up = target.ssh_options, f"{target.server.address.user}@127.0.0.1", verb == "up"
    if tool == OURS:
        path = target.folder / f"{verb}.yml"
        action = (
            {"copy": {"src": str(source), "dest": str(dest)}} if up else {"fetch": {"src": str(source), "dest": str(dest), "flat": True}}
        )
        path.write_text(json.dumps([{"hosts": "all", "tasks": [{"name": verb, **action}]}]))
        return [sys.executable, "-m", "trainyard.playbook", str(path), "-i", str(target.outputs)]
    here, there = (str(source), f"{login}:{dest}") if up else (f"{login}:{source}", str(dest))
    if tool == "scp":
        return ["scp", "-q", *options, "-P", str(target.port), here, there]
    if tool == "rsync":
        return [
            "rsync",
            f"--rsync-path={shutil.which('rsync')}",
            "--inplace",
            "--whole-file",
            "-e",
            " ".join(["ssh", *options, "-p", str(target.port)]),
            here,
            there,
        ]
    ssh = " ".join(["ssh", *options, "-p", str(target.port), login])
    return ["bash", "-c", f"{ssh} 'cat >{dest}' <{source}" if up else f"{ssh} 'cat {source}' >{dest}"]
