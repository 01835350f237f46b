"""What the tests of the local cloud share: keys, specs, a hostile program, and eyes that do not trust the cloud."""

from __future__ import annotations

import base64
import functools
import io
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import paramiko
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from trainyard.clouds.local import LocalCloud, launch
from trainyard.clouds.protocol import OfferQuery, PodInfo, PodSpec

KERNEL_THREAD = 0x00200000
"""PF_KTHREAD in the flags of /proc/PID/stat."""
NAME = "ty-0123456789-abcdef0123-trainer-01234567"
TORTURE = r"""
import os, signal, sys, time
token, limit = sys.argv[1], time.time() + float(sys.argv[2])
for sign in (signal.SIGHUP, signal.SIGINT, signal.SIGTERM):
    signal.signal(sign, signal.SIG_IGN)

def linger():
    while time.time() < limit:
        time.sleep(0.02)

def child(action):
    if not os.fork():
        try:
            action()
        finally:
            os._exit(0)

def daemon():
    os.setsid()
    os.chdir("/")
    child(lambda: (os.closerange(0, 256), linger()))

def triple():
    child(lambda: child(lambda: child(linger)))

def bare():
    os.setsid()
    loop = "import signal,time\nfor s in (1,2,15): signal.signal(s, signal.SIG_IGN)\ntime.sleep(%f)" % (limit - time.time())
    os.execve(sys.executable, [sys.executable, "-c", loop, token], {})

def hop():
    for step in range(1500):  # bounded: a fork loop without an end would take the machine along
        if time.time() > limit or os.fork():
            os._exit(0)
        if step % 7 == 0:
            os.setsid()
        time.sleep(0.004)

def respawn():
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    for _ in range(300):
        if time.time() > limit:
            return
        child(lambda: time.sleep(0.1))
        time.sleep(0.03)

for action in (linger, lambda: (os.setsid(), linger()), daemon, triple, bare, hop, hop, respawn,
               lambda: (os.kill(os.getpid(), signal.SIGSTOP), linger())):
    child(action)
time.sleep(0.1)
open(os.path.join(os.environ["WORKSPACE"], "ready"), "w").close()
"""


@functools.cache
def keys(which: str) -> tuple[str, str]:
    """Return a private key as PEM and its public line; one pair a name and process."""
    key = Ed25519PrivateKey.generate()
    form = serialization.PrivateFormat.OpenSSH
    private = key.private_bytes(serialization.Encoding.PEM, form, serialization.NoEncryption()).decode()
    return private, key.public_key().public_bytes(serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH).decode()


def spec(
    name: str = NAME,
    *,
    end: float | None = 60.0,
    stop: float | None = None,
    env: Mapping[str, str] | None = None,
    boot: tuple[str, ...] = (),
) -> PodSpec:
    """Return a pod to create; ``end`` and ``stop`` in seconds from now."""
    now = datetime.now(UTC)
    return PodSpec(
        name=name,
        fence_id="0123456789",
        lease_id="abcdef0123",
        stop=None if stop is None else now + timedelta(seconds=stop),
        end=None if end is None else now + timedelta(seconds=end),
        env=env or {},
        public_key=keys("user")[1],
        host_key=keys("host")[0],
        boot=boot,
    )


def create(cloud: LocalCloud, wanted: PodSpec, **more: object) -> PodInfo:
    """Create a pod of this machine's CPU offer."""
    return cloud.create(wanted, cloud.offers(OfferQuery())[0], **more)  # type: ignore[arg-type]


def tortured(cloud: LocalCloud, token: str, name: str = NAME, end: float = 60.0) -> PodInfo:
    """Create a pod that is full of processes which do not want to die, and wait until they are there."""
    wanted = spec(name, end=end, boot=("python3", "torture.py", token, "25"))
    pod = create(cloud, wanted, files={"workspace/torture.py": TORTURE.encode()})
    ready = cloud.root / "pods" / name / "workspace" / "ready"
    wait_for(ready.exists, "the torture program")
    # Seven stay; the two that hop may be between two lives when looked at.
    wait_for(lambda: len(living(token)) >= 7, "all of the torture program")
    return pod


def living(token: str) -> list[int]:
    """Return the processes whose command line holds the token, zombies left out. Does not rest on the cloud's own marks."""
    return [int(name) for name in os.listdir("/proc") if name.isdigit() and int(name) != os.getpid() and _says(name, token.encode())]


def _says(pid: str, token: bytes) -> bool:
    for _ in range(200):
        try:
            line = Path("/proc", pid, "cmdline").read_bytes()
            state, *rest = Path("/proc", pid, "stat").read_text().rpartition(")")[2].split()
        except OSError:
            return False
        if line or state in "ZX" or int(rest[5]) & KERNEL_THREAD:
            return token in line and state not in "ZX"
        # In the middle of an exec a process has no command line: neither dead nor somebody else's.
        time.sleep(0.001)
    return False


def wait_for(check: Callable[[], object], what: str, timeout: float = 60.0) -> None:
    """Wait until the check is true; a real process has to get there.

    Both time and looks must run out: a machine that stood still has given nobody the time that its clock says.
    """
    deadline, looks = time.monotonic() + timeout, 0
    while not check():
        looks += 1
        assert time.monotonic() < deadline or looks < 100, f"waited {timeout} s and looked {looks} times for {what}"
        time.sleep(0.01)


def answers(pod: PodInfo) -> bytes:
    """Return the banner of a pod's SSH port."""
    assert pod.ssh is not None
    with socket.create_connection((pod.ssh.host, pod.ssh.port), timeout=60) as link:
        return link.recv(64)


def listens(pod: PodInfo) -> bool:
    """Tell whether somebody listens at the pod's port; cheaper than to ask who it is."""
    assert pod.ssh is not None
    try:
        socket.create_connection((pod.ssh.host, pod.ssh.port), timeout=60).close()
    except OSError:
        return False
    return True


def is_open(pod: PodInfo) -> bool:
    """Tell whether the pod's door is open: its port may be another's by now, who shows another host key."""
    assert pod.ssh is not None
    try:
        link = socket.create_connection((pod.ssh.host, pod.ssh.port), timeout=60)
        if link.getsockname() == link.getpeername():
            link.close()  # TCP met itself: nobody listens there.
            return False
        with paramiko.Transport(link) as transport:
            transport.start_client(timeout=60)
            shown = transport.get_remote_server_key()
    except (OSError, EOFError, paramiko.SSHException):
        return False
    return f"{shown.get_name()} {shown.get_base64()}" == pod.host_key


def leftovers(cloud: LocalCloud) -> list[str]:
    """Return everything under the cloud's root that belongs to a pod and is no record of an end."""
    return sorted(str(path.relative_to(cloud.root)) for top in ("pods", "trash") for path in (cloud.root / top).glob("*"))


@contextmanager
def ssh(pod: PodInfo, key: str = "user") -> Iterator[paramiko.SSHClient]:
    """Log in with one key and the pinned host key, as every client of ours does."""
    assert pod.ssh is not None and pod.host_key is not None
    client = paramiko.SSHClient()
    client.set_missing_host_key_policy(paramiko.RejectPolicy())
    pinned = paramiko.Ed25519Key(data=base64.b64decode(pod.host_key.split()[1]))
    client.get_host_keys().add(f"[{pod.ssh.host}]:{pod.ssh.port}", "ssh-ed25519", pinned)
    mine = paramiko.Ed25519Key.from_private_key(io.StringIO(keys(key)[0]))
    try:
        client.connect(
            pod.ssh.host, pod.ssh.port, pod.ssh.user, pkey=mine, allow_agent=False, look_for_keys=False, timeout=20, banner_timeout=20
        )
        yield client
    finally:
        client.close()


def run(client: paramiko.SSHClient, command: str, stdin: bytes = b"") -> tuple[int, str]:
    """Run a command; return its exit status and what it printed."""
    channel = client.get_transport().open_session()
    channel.set_combine_stderr(True)
    channel.exec_command(command)
    channel.sendall(stdin)
    channel.shutdown_write()
    with channel.makefile("rb") as output:
        text = output.read().decode(errors="replace")
    return channel.recv_exit_status(), text


def say(client: paramiko.SSHClient, line: str) -> tuple[int, str]:
    """Say a line to the pod's own socket from inside; return what came back. Nothing is proven by what was never said."""
    talk = "import os,socket;s=socket.socket(socket.AF_UNIX);s.connect(os.environ['TRAINYARD_POD_SOCKET'])"
    code, said = run(client, f"python3 -c \"{talk};s.send(b'{line}\\\\n');print(s.recv(99).decode())\"")
    # At an end the session dies with the pod, before or after the answer got through.
    assert code == 0 or (line.startswith("end") and code == -1), f"'{line}' was not said: {code} {said}"
    return code, said


class Crashable:
    """A process that creates or terminates pods in children which can be killed at any instant."""

    def __init__(self, root: Path) -> None:
        environment = {**os.environ, "HOST_KEY": keys("host")[0], "USER_KEY": keys("user")[1]}
        command = [sys.executable, "-m", "tests.clouds.local.crashable", str(root)]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment)

    def start(self, verb: str, name: str) -> int:
        """Begin a create or terminate; return the pid of the child at work."""
        assert self.process.stdin and self.process.stdout
        print(verb, name, file=self.process.stdin, flush=True)
        return int(self.process.stdout.readline())

    def wait(self) -> int:
        """Wait for the child that was started last; return its exit status."""
        assert self.process.stdin and self.process.stdout
        print("wait -", file=self.process.stdin, flush=True)
        return int(self.process.stdout.readline())

    def close(self) -> None:
        """End the process; its children are done or killed."""
        assert self.process.stdin and self.process.stdout
        self.process.stdin.close()
        self.process.wait(20)
        self.process.stdout.close()


def refused(isolation: str) -> str:
    """Return why an isolation level cannot be tested here, empty when it can."""
    return _probe() if isolation == "namespace" else ""


@functools.cache
def _probe() -> str:
    return launch.probe()
