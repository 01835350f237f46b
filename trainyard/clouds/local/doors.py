"""The doors of a pod: SSH on a loopback port, and the socket by which the pod can ask for its own end.

Runs inside the supervisor, so it knows nothing but the standard library. OpenSSH serves where it is installed and
the pod has its own /etc, or where nothing else is to be had (``sshd -i``, one process a connection); elsewhere an
asyncssh child on the same port.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import shlex
import signal
import socket
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, NoReturn

if TYPE_CHECKING:
    from trainyard.clouds.local import gpulocks, limits, sandbox
else:
    import gpulocks
    import limits
    import sandbox

BASE_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
MOST_TALKS = 32
LONGEST_SOCKET = 100
"""Unix socket paths end at 108 bytes."""
_SSHD = """HostKey "{pod}/etc/host_key"
AuthorizedKeysFile "{keys}"
PubkeyAuthentication yes
PasswordAuthentication no
KbdInteractiveAuthentication no
PermitRootLogin prohibit-password
UsePAM no
StrictModes no
PidFile none
PrintLastLog no
PrintMotd no
LogLevel ERROR
MaxSessions 128
MaxAuthTries 20
UseDNS no
X11Forwarding no
Subsystem sftp {sftp}
SetEnv {env}
"""
# Without a passwd of the pod's own, sshd starts everything in the user's real home, by the user's own shell.
_SESSION = """cd "$HOME" || exit
if [ -n "$SSH_ORIGINAL_COMMAND" ]; then exec "$SHELL" -c "$SSH_ORIGINAL_COMMAND"; else exec "$SHELL" -l; fi"""
_SFTP = ("/usr/lib/openssh/sftp-server", "/usr/libexec/openssh/sftp-server", "/usr/lib/ssh/sftp-server", "/usr/libexec/sftp-server")


class Doors:
    """The open doors: descriptors to watch, and what to do when one of them is knocked at."""

    def __init__(
        self, listener: socket.socket, control: socket.socket, env: dict[str, str], sessions: dict[str, str],
        server: list[str], each: bool, memory: limits.Memory,
    ) -> None:  # fmt: skip
        self.listener, self.control, self.env, self.sessions = listener, control, env, sessions
        self.server, self.each, self.memory = server, each, memory
        self.address: dict[str, Any] = {}
        self.talks: dict[int, tuple[socket.socket, bytearray]] = {}
        self.child = 0
        self.due = 0.0

    def watched(self) -> list[int]:
        """Return the descriptors whose input is for handle()."""
        return [self.control.fileno(), *([self.listener.fileno()] if self.each else [])]

    def step(self, dead: set[int]) -> None:
        """Keep the SSH child alive where there is one; a program in the pod may have killed it."""
        if self.child in dead:
            self.child = 0
        if not self.each and not self.child and time.monotonic() >= self.due:
            self.due = time.monotonic() + 0.5
            with self._survivable():
                self.child = self.spawn(self.server, self.listener.fileno(), 2, 2, self.sessions)

    def wait(self) -> float:
        """Return the seconds until step() has something to do."""
        return 3600.0 if self.each or self.child else max(0.0, self.due - time.monotonic())

    def handle(self, fd: int, poller: select.poll, spec: dict[str, Any]) -> str | None:
        """Serve one descriptor; return the reason when the pod asked for its end."""
        with self._survivable():
            if fd == self.listener.fileno():
                self._connect()
            elif fd == self.control.fileno():
                talk = self.control.accept()[0]
                talk.setblocking(False)
                self.talks[talk.fileno()] = (talk, bytearray())
                poller.register(talk, select.POLLIN)
                if len(self.talks) > MOST_TALKS:
                    self._close(next(iter(self.talks)), poller)
            elif fd in self.talks:
                return self._hear(fd, poller, spec)
        return None

    def close(self) -> None:
        """Let nobody in any more: the port is closed before the pod is off the list."""
        self.listener.close()
        self.control.close()

    def spawn(self, argv: list[str], stdin: int, stdout: int, stderr: int, env: dict[str, str] | None = None) -> int:
        """Start a program in a session of its own with the pod's environment; return its pid.

        Never by vfork (posix_spawn): that holds its caller until the child has execed, and one that another program
        of the pod stops, or whose file lies on a share that hangs, never does. The pod would outlive its end.
        """
        held = signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
        try:
            pid = os.fork()
            if not pid:
                _become(argv, self.env if env is None else env, (stdin, stdout, stderr), self.memory)
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, held)
        return pid

    def _connect(self) -> None:
        link = self.listener.accept()[0]
        with link:
            link.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self.spawn(self.server, link.fileno(), link.fileno(), 2, {"PATH": BASE_PATH})

    def _hear(self, fd: int, poller: select.poll, spec: dict[str, Any]) -> str | None:
        talk, heard = self.talks[fd]
        try:
            data = talk.recv(4096)
        except ConnectionError:
            data = b""  # hung up: what was said in full still counts
        heard += data
        line, newline, _ = bytes(heard).partition(b"\n")
        if not newline and data and len(heard) < 4096:
            return None
        try:
            verb, _, rest = line.decode(errors="replace").strip().partition(" ")
            if verb == "end" and newline:
                with contextlib.suppress(OSError):
                    talk.send(b"ok\n")
                return rest or "asked by the pod"
            if verb == "lease" and newline:
                talk.send(json.dumps({key: spec.get(key) for key in ("stop", "end")}).encode() + b"\n")
            else:
                talk.send(b"unknown: say 'end REASON' or 'lease'\n")
        finally:
            self._close(fd, poller)
        return None

    def _close(self, fd: int, poller: select.poll) -> None:
        poller.unregister(fd)
        self.talks.pop(fd)[0].close()

    @contextlib.contextmanager
    def _survivable(self) -> Iterator[None]:
        """Go on after a full process table, no free descriptor, a caller that hung up: the next knock may fare better."""
        try:
            yield
        except (BlockingIOError, ConnectionError):
            return
        except OSError as error:
            sandbox.say(f"doors: {error}")
            time.sleep(0.01)


def open_doors(spec: dict[str, Any], path: str, isolation: str, memory: limits.Memory) -> Doors:
    """Bind the pod's port and socket and write its sshd settings; the pod's own root must be entered before."""
    own_root = isolation == "namespace"
    pod = "/pod" if own_root else path + "/pod"
    listener = socket.socket()
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.bind(("127.0.0.1", 0))
    listener.listen(128)
    control = socket.socket(socket.AF_UNIX)
    os.chdir(pod)
    with contextlib.suppress(FileNotFoundError):
        os.unlink("ctl")
    control.bind("ctl")
    control.listen(16)
    listener.setblocking(False)
    control.setblocking(False)
    env = _environment(spec, path, pod, own_root)
    os.chdir(env["WORKSPACE"])
    # The pod's own keys are for what it boots, not for who logs in.
    sessions = {name: value for name, value in env.items() if name not in spec.get("keys", ())}
    each = bool(spec["sshd"]) and (own_root or not spec["asyncssh"])
    if each:
        _write_sshd(pod, sessions, own_root)
        server = [spec["sshd"], "-i", "-e", "-f", f"{pod}/etc/sshd_config"]
    else:
        server = [*spec["asyncssh"], f"{pod}/etc"]
        # The asyncssh child accepts by itself.
        listener.setblocking(True)
    doors = Doors(listener, control, env, sessions, server, each, memory)
    doors.address = {
        "port": listener.getsockname()[1],
        "isolation": isolation,
        "server": "sshd" if each else "asyncssh",
        "user": env["USER"],
        "workspace": env["WORKSPACE"],
    }
    return doors


def _become(argv: list[str], env: dict[str, str], streams: tuple[int, int, int], memory: limits.Memory) -> NoReturn:
    """Turn the child of a fork into the program; it must never go on as a second supervisor."""
    try:
        # The supervisor's own ways to take a signal, among them one that ends the pod, and what Python ignores.
        for sign in (signal.SIGHUP, signal.SIGTERM, signal.SIGCHLD, signal.SIGPIPE, signal.SIGXFSZ):
            signal.signal(sign, signal.SIG_DFL)
        os.setsid()
        memory.enter()
        for target, fd in enumerate(streams):
            os.dup2(fd, target)
        signal.pthread_sigmask(signal.SIG_SETMASK, ())
        os.execvpe(argv[0], argv, env)
    except OSError as error:
        sandbox.say(f"{argv[0]}: {error.strerror}")
    finally:
        os._exit(127)


def _environment(spec: dict[str, Any], path: str, pod: str, own_root: bool) -> dict[str, str]:
    container_env = spec["env"]
    env = {"LANG": "C.UTF-8", "SHELL": "/bin/bash", "USER": "root", "LOGNAME": "root"}
    env |= container_env
    if not own_root:
        env["USER"] = env["LOGNAME"] = gpulocks.login_name()
        env["TMPDIR"] = path + "/tmp"
    control = pod + "/ctl"
    if len(control) > LONGEST_SOCKET:
        fd = os.open(pod, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        control = f"/proc/{os.getpid()}/fd/{fd}/ctl"
    env["HOME"] = "/root" if own_root else path + "/home"
    env["WORKSPACE"] = "/workspace" if own_root else path + "/workspace"
    env["TRAINYARD_POD_SOCKET"] = control
    env["PATH"] = ":".join((pod + "/bin", container_env.get("PATH", BASE_PATH), *spec["path"]))
    return env


def _write_sshd(pod: str, env: dict[str, str], own_root: bool) -> None:
    def write(name: str, text: str) -> None:
        fd = os.open(f"{pod}/etc/{name}", os.O_CREAT | os.O_WRONLY | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        with open(fd, "w", encoding="utf-8") as file:
            file.write(text)

    # Only the first SetEnv line counts, so all variables stand in one.
    words = ['"' + f"{name}={value}".replace("\\", "\\\\").replace('"', '\\"') + '"' for name, value in env.items()]
    sftp = "internal-sftp" if own_root else next(filter(os.path.exists, _SFTP), "internal-sftp")
    settings = _SSHD.format(pod=pod, keys=f"{pod}/etc/authorized_keys".replace("%", "%%"), env=" ".join(words), sftp=sftp)
    if not own_root:
        write("session", _SESSION)
        settings += f"ForceCommand exec /bin/sh {shlex.quote(pod + '/etc/session')}\n"
    write("sshd_config", settings)
