"""A shell on a run's pod, and a tunnel to one of its ports, with the key and the pinned host key of the run."""

from __future__ import annotations

import re
import shlex
import shutil
import signal
import socket
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path

from trainyard.errors import Unreachable, UserError
from trainyard.runs.context import CommandContext
from trainyard.runs.records.identity import shown
from trainyard.runs.records.key import private_key
from trainyard.runs.records.record import RunFolder, RunRecord
from trainyard.sshlogin import parse_login

_PORT = re.compile("[0-9]{1,5}")


@contextmanager
def ssh_command(context: CommandContext, record: RunRecord, folder: RunFolder, *, extra: tuple[str, ...] = ()) -> Iterator[list[str]]:
    """Give the ssh command line for a run's pod, for as long as it is used; raises UserError when the pod is not up or is gone."""
    if record.container is not None:
        raise UserError(
            f"the pod of {record.id} has no SSH: what it tells goes through the run's bucket", hint=f"Its log: invoke logs {record.label}"
        )
    if record.reached("ended") or not record.pod.host:
        raise UserError(f"run {record.id} has no pod now (it is: {record.phase})")
    if record.pod.login_command:
        if extra:
            raise UserError(
                f"the pod of {record.id} has no port that this machine reaches", hint=f"A shell there: invoke ssh {record.label}"
            )
        yield list(record.pod.login_command)
        return
    if shutil.which("ssh") is None:
        raise UserError("the program 'ssh' is missing on this machine", hint="Install the OpenSSH client (Debian: openssh-client).")
    key = private_key(context, record)
    host, port = record.pod.host, record.pod.port
    with _known_hosts(folder, f"[{host}]:{port} {record.pod.host_key}\n") as known:
        options = [
            "-p", str(port), "-o", f"IdentityFile={_quoted(key)}", "-o", f"UserKnownHostsFile={_quoted(known)}",
            "-o", "StrictHostKeyChecking=yes", "-o", "IdentitiesOnly=yes", "-o", "ServerAliveInterval=15",
            "-o", "GlobalKnownHostsFile=/dev/null",
        ]  # fmt: skip
        options += _proxied(record.pod.through) if record.pod.through else []
        yield ["ssh", *options, *extra, "-l", record.pod.user or "root", "--", str(host)]


def _proxied(through: str) -> list[str]:
    """Return the option by which ssh reaches the pod through another machine: a line of sh, in which %h and %p are the pod's."""
    words = [shlex.quote(word).replace("%", "%%") for word in parse_login(through).words()]
    at = words.index("--")
    return ["-o", "ProxyCommand=" + " ".join([*words[:at], "-W", "[%h]:%p", *words[at:]])]


def _quoted(path: Path) -> str:
    """Return a path as ssh takes it: a blank would begin another one, a percent sign stands for something."""
    return '"' + str(path).replace("%", "%%") + '"'


@contextmanager
def _known_hosts(folder: RunFolder, line: str) -> Iterator[Path]:
    """Give a file with the pod's host key: the run's or, where its folder is read-only or full, a private one."""
    known = folder.path / "known_hosts"
    try:
        if not known.is_file() or known.read_bytes() != line.encode():
            known.write_text(line)
    except OSError:
        with tempfile.TemporaryDirectory(prefix="trainyard-ssh-") as private:
            known = Path(private) / "known_hosts"
            known.write_text(line)
            yield known
    else:
        yield known


def shell(context: CommandContext, reference: str, command: str | None) -> int:
    """Open a shell (or run a command) on a run's pod and return its exit code."""
    folder = context.folder(reference)
    record = folder.load()
    with ssh_command(context, record, folder) as line, _present(context, record):
        return subprocess.run([*line, command] if command else line, check=False).returncode


def tunnel(context: CommandContext, reference: str, port: str | int, local_port: str | int | None = None) -> int:
    """Forward a local port to the pod's until Ctrl-C (130); raises Unreachable when the link breaks or never stands."""
    there = port_of(port)
    here = there if local_port is None else port_of(local_port)
    folder = context.folder(reference)
    record = folder.load()
    address = f"http://127.0.0.1:{here} is port {there} of the pod; Ctrl-C ends the tunnel"
    # Said by ssh itself, once the port is open: before, it would be a promise.
    extra = (*forwarding(here, there), "-o", "PermitLocalCommand=yes", "-o", f'LocalCommand=echo "{address}"')
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _leave)
    with ssh_command(context, record, folder, extra=extra) as line, _present(context, record):
        check_free(here, lambda other: f"invoke tunnel {record.label} {there} --local-port {other}", _shared(record, there))
        process = subprocess.Popen(line, stdin=subprocess.DEVNULL)
        try:
            process.wait()
        except KeyboardInterrupt:
            return 130
        finally:
            process.terminate()
            process.wait()
    raise Unreachable(f"the tunnel to the pod of {record.id} is closed", hint="Is the run still there? invoke runs")


def forwarding(here: int, there: int) -> tuple[str, ...]:
    """Return ssh's options that open a port of this machine to one of the pod, and nothing else."""
    return ("-N", "-o", "ExitOnForwardFailure=yes", "-o", "ConnectTimeout=20", "-L", f"127.0.0.1:{here}:127.0.0.1:{there}")


def _present(context: CommandContext, record: RunRecord) -> AbstractContextManager[None]:
    """Let the pod hear that somebody is there: it must not commit alone and end under a person's shell."""
    from trainyard.runs.life.heartbeat import beating
    from trainyard.runs.records.pod import pod_of

    return beating(pod_of(context, record), at_once=True) if record.commits_alone else nullcontext()


def port_of(text: str | int) -> int:
    """Return a port that a person has named; raises UserError for what is none."""
    word = str(text)
    number = int(word) if _PORT.fullmatch(word) else 0
    if not 0 < number < 65536:
        raise UserError(f"{shown(word)} is no port: a number from 1 to 65535")
    return number


def check_free(here: int, say: Callable[[int], str], more: str = "") -> None:
    """Refuse a port of this machine that is taken; ``say`` gives the words that ask for one that is not."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", here))
            return
        except OSError as error:
            refusal = error.strerror
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        other = free.getsockname()[1]
    raise UserError(f"port {here} of this machine cannot be opened: {refusal}", hint=f"Choose another: {say(other)}{more}")


def _shared(record: RunRecord, there: int) -> str:
    if record.pod.host != "127.0.0.1":
        return ""
    return f"\nA local pod shares this machine's network: if its own program listens, http://127.0.0.1:{there} is that program."


def _leave(number: int, _: object) -> None:
    raise SystemExit(128 + number)
