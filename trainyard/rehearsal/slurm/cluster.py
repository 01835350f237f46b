"""One node of Slurm, or several on this one machine, with munge, controller and login node, all in one folder.

It is run as this user, without root or systemd.

The login node is OpenSSH's sshd, started by ssh itself for each connection, or where there is none a program that stands for
ssh and runs what it is given. GPUs are as many as are told, up to four.
"""

from __future__ import annotations

import contextlib
import getpass
import os
import secrets
import shlex
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from trainyard.clouds.slurm.login import REHEARSAL as LOGIN
from trainyard.errors import TrainyardError, UserError
from trainyard.processes import start_mark
from trainyard.shellscript import load

_PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "squeue", "srun", "scancel", "scontrol", "sinfo")
_STARTS = 60.0
_DEVICES = ("/dev/null", "/dev/zero", "/dev/full", "/dev/random")
"""What stands for GPUs: Slurm wants a device for each."""
_PORTS = range(21000, 29000)


@dataclass(frozen=True, slots=True)
class ClusterSize:
    """What each node has, how many there are, and how the cluster behaves."""

    cpus: int = 4
    gpus: int = 2
    gpu: str = "h100"
    nodes: int = 1
    more: tuple[str, ...] = ()
    """Lines of slurm.conf."""


@dataclass(slots=True)
class SlurmCluster:
    """A cluster that runs."""

    folder: Path
    root: Path
    """Below it the programs lie: ``/``, or where packages were unpacked."""
    size: ClusterSize
    env: Mapping[str, str]
    """Variables for who uses it: how ssh leads to the login node."""

    @property
    def conf(self) -> Path:
        """Its slurm.conf."""
        return self.folder / "slurm.conf"

    @property
    def nodes(self) -> list[str]:
        """The names of its nodes: the first one's is this machine's, so that what meets there finds it."""
        return [_host(), *(f"{_host()}-{number}" for number in range(2, self.size.nodes + 1))]

    def run(self, *words: str, check: bool = True) -> str:
        """Run one of Slurm's programs at the login node's side and return what it says."""
        program = str(find(words[0], self.root) or words[0])
        done = subprocess.run(
            [program, *words[1:]], env=_env(self.root, self.conf), capture_output=True, text=True, timeout=60, check=False
        )
        if check and done.returncode:
            raise TrainyardError(f"{' '.join(words)}: {done.stderr.strip()}")
        return str(done.stdout)

    def start(self, *daemons: str) -> None:
        """Start daemons that do not run: munged, slurmctld, slurmd."""
        for daemon, node in self._each(daemons):
            _start(self, daemon, node)
        if "slurmd" in daemons or "slurmctld" in daemons:
            self.wait_idle()

    def stop(self, *daemons: str, number: int = signal.SIGTERM) -> None:
        """End daemons and wait until they are gone."""
        for daemon, node in self._each(daemons):
            file = _pid_file(self, daemon, node)
            pid = _pid(file, daemon)
            if pid is None:
                continue
            until = time.monotonic() + 15
            while _pid(file, daemon) == pid:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, number if time.monotonic() < until else signal.SIGKILL)
                time.sleep(0.1)

    def _each(self, daemons: Sequence[str]) -> list[tuple[str, str]]:
        return [(daemon, node) for daemon in daemons for node in (self.nodes if daemon == "slurmd" else [""])]

    def wait_idle(self, seconds: float = _STARTS) -> None:
        """Wait until the nodes take jobs."""
        until = time.monotonic() + seconds
        said: list[str] = []
        while time.monotonic() < until:
            said = self.run("sinfo", "-h", "-N", "-o", "%T", check=False).split()
            if len(said) == self.size.nodes and all(word.startswith(("idle", "mixed", "allocated", "completing")) for word in said):
                return
            if any(word.startswith(("down", "drain", "inval")) for word in said):
                self.run("scontrol", "update", f"nodename={','.join(self.nodes)}", "state=resume", check=False)
            time.sleep(0.2)
        logs = "\n".join(path.read_text(errors="replace")[-1500:] for path in sorted(self.folder.glob("slurm*.log")))
        raise TrainyardError(f"the rehearsal's Slurm did not come up (its nodes are: {' '.join(said) or 'not known'})\n{logs}")


def lacking(root: Path = Path("/")) -> list[str]:
    """Return the programs that a cluster of one's own lacks here."""
    return [name for name in _PROGRAMS if find(name, root) is None]


def programs() -> Path:
    """Return the folder below which Slurm's programs lie with their libraries: ``/``, or where its packages were unpacked.

    That is where PATH leads to, else what ``invoke servers.slurm`` has made. ``/`` where some are missing everywhere.
    """
    munged = Path(find("munged") or "/")
    own = munged.parents[2] if munged.match("usr/sbin/munged") else Path("/")
    kept = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "trainyard" / "test-servers" / "slurm"
    return next((root for root in (own, kept) if not lacking(root)), Path("/"))


def find(name: str, root: Path = Path("/")) -> str | None:
    """Return a program's path, below ``root`` before this machine's own; None where there is none."""
    own = os.pathsep.join(str(root / place) for place in ("usr/bin", "usr/sbin")) if root != Path("/") else ""
    return shutil.which(name, path=own) or shutil.which(name, path=f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/local/sbin")


@contextmanager
def serve(
    folder: Path, size: ClusterSize | None = None, root: Path | None = None, files: Mapping[str, bytes] | None = None
) -> Iterator[SlurmCluster]:  # fmt: skip
    """Run a cluster while the block lasts; its jobs are ended with it. ``files``: programs that are on its nodes beside others, by name.

    ``root``: where Slurm's programs are; None: as programs() says.

    Raises UserError where programs are missing, TrainyardError when it does not come up.
    """
    root = root or programs()
    if missing := lacking(root):
        hint = "Debian and Ubuntu: apt-get install slurm-wlm munge; without root, in a clone of Trainyard: invoke servers.slurm"
        raise UserError(f"a Slurm of its own needs programs that are not here: {', '.join(missing)}", hint=hint)
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    # Sockets have short names, and whoever submits must reach munge's.
    with tempfile.TemporaryDirectory(prefix="ty-slurm-", dir="/tmp") as short:
        cluster = SlurmCluster(folder, root, size or ClusterSize(), {})
        _configure(cluster, Path(short))
        for name, content in (files or {}).items():
            (folder / "bin" / name).write_bytes(content)
            (folder / "bin" / name).chmod(0o755)
        cluster.env = {"TRAINYARD_SSH_COMMAND": _login_node(cluster, Path(short))}
        try:
            cluster.start("munged", "slurmctld", "slurmd")
            yield cluster
        finally:
            _end(cluster)


def _end(cluster: SlurmCluster) -> None:
    cluster.run("scancel", f"--user={getpass.getuser()}", "--full", check=False)
    until = time.monotonic() + 40
    while time.monotonic() < until and cluster.run("squeue", "-h", check=False).strip():
        time.sleep(0.2)
    cluster.stop("slurmd", "slurmctld", "munged")


def _start(cluster: SlurmCluster, daemon: str, node: str) -> None:
    folder = cluster.folder
    if _pid(_pid_file(cluster, daemon, node), daemon) is not None:
        return
    words = [str(find(daemon, cluster.root)), *(["-N", node] if node else [])]
    if daemon == "munged":
        socket_path = cluster.conf.read_text().partition("AuthInfo=socket=")[2].split()[0]
        words += ["--force", f"--socket={socket_path}", f"--key-file={folder / 'munge.key'}", f"--pid-file={folder / 'munged.pid'}"]
        words += [f"--log-file={folder / 'munged.log'}", f"--seed-file={folder / 'munge.seed'}"]
    if daemon == "slurmd" and (step := find("slurmstepd", cluster.root)):
        words += ["-d", step]  # it is sought where the package would be installed
    done = subprocess.run(words, env=_env(cluster.root, cluster.conf), capture_output=True, text=True, timeout=60, check=False)
    if done.returncode:
        raise TrainyardError(f"the rehearsal's {daemon} does not start: {done.stderr.strip()[-800:]}")


def _configure(cluster: SlurmCluster, short: Path) -> None:
    folder, size, user, host = cluster.folder, cluster.size, getpass.getuser(), _host()
    for name in ("state", "spool", "bin"):
        (folder / name).mkdir(exist_ok=True)
    _private(folder / "munge.key", secrets.token_bytes(128))
    controller, *ports = _free_ports(1 + size.nodes)
    has = f"NodeHostname={host} NodeAddr=127.0.0.1 CPUs={size.cpus} State=UNKNOWN" + (
        f" Gres=gpu:{size.gpu}:{size.gpus}" if size.gpus else ""
    )
    plugins = [f"PluginDir={path}" for path in cluster.root.glob("usr/lib/*/slurm-wlm")] if cluster.root != Path("/") else []
    lines = [
        "ClusterName=rehearsal", f"SlurmctldHost={host}(127.0.0.1)", f"SlurmctldPort={controller}",
        "AuthType=auth/munge", f"AuthInfo=socket={short}/munge", "ProctrackType=proctrack/linuxproc", "TaskPlugin=task/none",
        "SelectType=select/cons_tres", "SelectTypeParameters=CR_Core", "MpiDefault=none", "ReturnToService=2", "KillWait=5",
        "SchedulerParameters=sched_interval=1,batch_sched_delay=0", "SlurmdParameters=config_overrides",
        # Allocations are entered by their job's number: two clusters of one machine must not count alike.
        f"SlurmUser={user}", f"SlurmdUser={user}", f"FirstJobId={1 + secrets.randbelow(10**6)}",
        f"StateSaveLocation={folder}/state", f"SlurmdSpoolDir={folder}/spool/%n", f"SlurmctldPidFile={folder}/slurmctld.pid",
        f"SlurmdPidFile={folder}/slurmd-%n.pid", f"SlurmctldLogFile={folder}/slurmctld.log", f"SlurmdLogFile={folder}/slurmd-%n.log",
        *plugins, *(["GresTypes=gpu"] if size.gpus else []), *size.more,
        *(f"NodeName={name} Port={port} {has}" for name, port in zip(cluster.nodes, ports, strict=True)),
        f"PartitionName=gpu Nodes={','.join(cluster.nodes)} Default=YES MaxTime=INFINITE State=UP",
    ]  # fmt: skip
    cluster.conf.write_text("\n".join(lines) + "\n")
    gres = [f"Name=gpu Type={size.gpu} File={device}\n" for device in _DEVICES[: size.gpus]]
    (folder / "gres.conf").write_text("".join(gres))


def login_environment(cluster: SlurmCluster) -> dict[str, str]:
    """Return the variables of a login there."""
    path = dict.fromkeys((str(cluster.folder / "bin"), *_own_paths(cluster.root), *os.environ.get("PATH", "").split(os.pathsep)))
    return {"SLURM_CONF": str(cluster.conf), "PATH": os.pathsep.join(path), **_libraries(cluster.root)}


def _login_node(cluster: SlurmCluster, short: Path) -> str:
    """Return the words of sh that stand for ``ssh``, with what they need laid out."""
    root = cluster.root
    server = find("sshd", root)
    if server and find("ssh", root) and subprocess.run([server, "-V"], capture_output=True, check=False).returncode in (0, 1):
        with contextlib.suppress(OSError, subprocess.CalledProcessError):
            _real_login_node(cluster, short, server)
            words = [str(find("ssh", root)), "-F", str(cluster.folder / "ssh_config")]
            if subprocess.run([*words, LOGIN, "true"], stdin=subprocess.DEVNULL, capture_output=True, check=False).returncode == 0:
                return shlex.join(words)
    program = cluster.folder / "login"
    exports = "".join(f"export {name}={shlex.quote(value)}\n" for name, value in login_environment(cluster).items())
    program.write_text(f"#!/bin/sh\n{exports}{load('trainyard.rehearsal.slurm', 'login')}")
    program.chmod(0o700)
    return shlex.quote(str(program))


def _real_login_node(cluster: SlurmCluster, short: Path, server: str) -> None:
    """Write keys and settings of an sshd that ssh starts as its proxy: a real login, and no port that anybody else could reach."""
    folder, keygen = cluster.folder, str(find("ssh-keygen", cluster.root))
    for name in ("host_key", "login_key"):
        for old in (folder / name, folder / f"{name}.pub"):
            old.unlink(missing_ok=True)
        subprocess.run([keygen, "-q", "-t", "ed25519", "-N", "", "-f", folder / name], check=True, stdin=subprocess.DEVNULL)
    shutil.copyfile(folder / "login_key.pub", folder / "authorized_keys")
    (folder / "known_hosts").write_text(f"{LOGIN} {(folder / 'host_key.pub').read_text()}")
    (folder / "sshd_config").write_text(
        f"HostKey {folder}/host_key\nAuthorizedKeysFile {folder}/authorized_keys\nStrictModes no\nUsePAM no\nPidFile none\n"
        "PasswordAuthentication no\nPermitRootLogin prohibit-password\nSetEnv "
        + " ".join(f"{name}={value}" for name, value in login_environment(cluster).items())
        + "\n"
    )
    if os.getuid() == 0:
        Path("/run/sshd").mkdir(exist_ok=True)
    (folder / "ssh_config").write_text(
        f"Host {LOGIN}\n  User {getpass.getuser()}\n  ProxyCommand {server} -i -f {folder}/sshd_config\n"
        f"  IdentityFile {folder}/login_key\n  IdentitiesOnly yes\n  UserKnownHostsFile {folder}/known_hosts\n"
        f"  GlobalKnownHostsFile /dev/null\n  StrictHostKeyChecking yes\n  LogLevel ERROR\n"
        f"  ControlMaster auto\n  ControlPath {short}/c\n  ControlPersist 5\n"
    )


def _env(root: Path, conf: Path) -> dict[str, str]:
    return {**os.environ, "SLURM_CONF": str(conf), **_libraries(root)}


def _libraries(root: Path) -> dict[str, str]:
    if root == Path("/"):
        return {}
    places = [
        str(path) for pattern in ("usr/lib/*-linux-gnu", "usr/lib/*-linux-gnu/slurm-wlm", "lib/*-linux-gnu") for path in root.glob(pattern)
    ]
    return {"LD_LIBRARY_PATH": os.pathsep.join(places)}


def _own_paths(root: Path) -> Sequence[str]:
    return [str(root / place) for place in ("usr/bin", "usr/sbin")]


def _pid_file(cluster: SlurmCluster, daemon: str, node: str) -> Path:
    return cluster.folder / (f"{daemon}-{node}.pid" if node else f"{daemon}.pid")


def _pid(path: Path, daemon: str) -> int | None:
    """Return the process that a pid file names, None when it is not that daemon (any more)."""
    try:
        pid = int(path.read_text().strip())
        name = Path(f"/proc/{pid}/comm").read_text().strip()
    except (OSError, ValueError):
        return None
    return pid if name == daemon and start_mark(pid) is not None else None


def _free_ports(count: int) -> list[int]:
    ports: list[int] = []
    while len(ports) < count:
        port = secrets.choice(_PORTS)
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            ports.append(port)
    return ports


def _private(path: Path, data: bytes) -> None:
    path.unlink(missing_ok=True)
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o400), "wb") as file:
        file.write(data)


def _host() -> str:
    return socket.gethostname().partition(".")[0]
