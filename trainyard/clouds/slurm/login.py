"""The login nodes: which there are, and how a line is run there.

OpenSSH itself leads there, with the person's own ssh_config, agent, jump hosts and shared connections: many clusters ask for
a second factor, which only a connection that stands already can spare.
"""

from __future__ import annotations

import functools
import re
import shlex
import subprocess
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import quote, unquote

from trainyard.config import Places, stack_names
from trainyard.errors import CloudError, CloudUnknown, TrainyardError, UserError
from trainyard.settings import reader

REHEARSAL = "trainyard-rehearsal"
"""Name of the login node of a rehearsal's own cluster."""
SSH_COMMAND = "TRAINYARD_SSH_COMMAND"
"""Variable with what is called instead of ``ssh``, with its options."""
_OPTIONS = ("-o", "BatchMode=yes", "-o", "ConnectTimeout=20", "-o", "ServerAliveInterval=15", "-o", "ServerAliveCountMax=4")
_SHARED = ("-o", "ControlMaster=auto", "-o", "ControlPath=~/.ssh/trainyard-%C", "-o", "ControlPersist=60")
_LOST = 255
"""What ssh ends with when it is the way that failed."""


class LoginFailed(CloudError):
    """A line did not run on the login node, or ended with an error of its own; ``code``: with which, None when it is not known."""

    def __init__(self, message: str, code: int | None, hint: str | None = None) -> None:
        super().__init__(message, hint=hint)
        self.code = code


def ssh_words(login: str, env: Mapping[str, str]) -> tuple[str, ...]:
    """Return the words of this machine's ssh that lead to a login node; raises UserError for a name that is none."""
    if not re.fullmatch(r"[A-Za-z0-9][\w.@:%-]*", login):
        raise UserError(f"'{login}' is no login node: a host of your ssh_config, or user@address")
    ssh = tuple(shlex.split(env.get(SSH_COMMAND) or "ssh"))
    return (*ssh, *_OPTIONS, *(() if _shares(ssh, login) else _SHARED), login)


def run(login: str, env: Mapping[str, str], script: str, *, timeout: float = 120.0) -> str:
    """Run a program for sh on the login node and return what it printed; raises LoginFailed for any other end."""
    words = ssh_words(login, env)
    try:
        done = subprocess.run([*words, "sh", "-s"], input=script.encode(), capture_output=True, timeout=timeout, check=False)
    except FileNotFoundError:
        raise UserError(f"there is no '{words[0]}' on this machine", hint="Debian and Ubuntu: openssh-client.") from None
    except subprocess.TimeoutExpired:
        raise LoginFailed(f"{login} did not answer within {timeout:.0f} s", None) from None
    if done.returncode:
        said = done.stderr.decode(errors="backslashreplace").strip().splitlines()
        code = None if done.returncode in (_LOST, -9, -15) or done.returncode < 0 else done.returncode
        hint = f"Try it by hand: ssh {login} squeue --me" if code is None else None
        raise LoginFailed(f"{login}: {' | '.join(said[-4:]) or f'exit code {done.returncode}'}", code, hint)
    return done.stdout.decode(errors="backslashreplace")


def known_logins(places: Places) -> Mapping[str, Path | None]:
    """Return the login nodes to ask: of the repository's stacks, and of pods that were asked for from here (with the file that says so)."""
    logins: dict[str, Path | None] = {}
    for path in sorted(_folder(places).glob("*")):
        logins[unquote(path.name)] = path
    for stack in stack_names(places.root):
        try:
            settings = reader.partly(places.root, stack, "login")
        except TrainyardError:
            continue  # whoever uses that stack is told
        if settings.cloud == "slurm" and settings.login:
            logins[settings.login] = None
    return logins


def remember(places: Places, login: str) -> None:
    """Note, before a job is asked for, where: what ends pods must find it whatever the settings say by then."""
    folder = _folder(places)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / quote(login, safe="")).touch()
    except OSError as error:
        raise CloudUnknown(f"{folder} cannot be written ({error.strerror}): nothing would remember where the job is") from None


def _folder(places: Places) -> Path:
    return places.home / "slurm"


@functools.cache
def _shares(ssh: tuple[str, ...], login: str) -> bool:
    """Tell whether the person's own ssh_config shares connections to that host."""
    try:
        done = subprocess.run([*ssh, "-G", login], capture_output=True, text=True, timeout=10, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return False
    said = dict(line.partition(" ")[::2] for line in done.stdout.splitlines())
    return said.get("controlpath", "none") != "none"
