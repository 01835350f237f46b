"""What the user's own ssh_config says of a machine: asked of ssh itself, so that Host, Match and Include mean what they mean there."""

from __future__ import annotations

import os
import pwd
import re
import shlex
import socket
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from trainyard.errors import UserError
from trainyard.openssh import no_ssh
from trainyard.sshlogin import ADDRESS, SshLogin

_ASKING = 30.0
"""Seconds for ssh to read its configuration; a ``Match exec`` may ask somebody."""
_TAKEN = {"-o", "-J", "-F", "-i", "-l", "-p", "-c", "-m", "-b", "-E"}
_ALONE = re.compile(r"-[46CqvakxT]+")


@dataclass(frozen=True, slots=True, kw_only=True)
class SshRoute:
    """How a machine of the user's own is reached, with everything said that ssh_config says."""

    name: str
    host: str
    port: int
    user: str
    alias: str
    """The name under which its key stands in known_hosts."""
    key_files: tuple[Path, ...]
    only_these: bool
    """No other key of the agent is offered (IdentitiesOnly)."""
    agent: str | None
    """The agent's socket, None where there is none."""
    jump: str | None
    proxy: str | None
    """A line of sh that leads to the machine's sshd."""
    known: tuple[Path, ...]
    """Files of known host keys; a new one is put into the first."""
    accept_new: bool
    forgiving: bool
    """ssh_config would take a changed key, too; it is not taken here."""
    hashed: bool
    config: str | None
    timeout: float

    def __str__(self) -> str:
        return self.name if self.name == self.host and self.port == 22 else f"{self.name} ({self.user}@{self.host}:{self.port})"

    @property
    def shown_in_known_hosts(self) -> str:
        """Return what a line of known_hosts calls it."""
        return self.alias if self.port == 22 or self.alias != self.host else f"[{self.host}]:{self.port}"


def route(name: str, login: SshLogin, words: Sequence[str] = ()) -> SshRoute:
    """Return the way to a machine; ``words`` are further options of ssh. ``name`` is what messages call it.

    Raises UserError when ssh_config cannot be read, or a name is none.
    """
    if not re.fullmatch(ADDRESS, login.address or login.name):
        raise UserError(f"'{login.name}' is no name of a host")
    said = _asked(name, login, words)
    host, port, user = said["hostname"][0], int(said["port"][0]), said["user"][0]
    tokens = {"h": host, "p": str(port), "r": user, "n": login.name, "d": _home(), "u": _me(), "l": socket.gethostname(), "%": "%"}
    tokens |= {"L": tokens["l"].partition(".")[0], "i": str(os.getuid()), "k": _one(said, "hostkeyalias") or host}
    agent = _one(said, "identityagent") or "SSH_AUTH_SOCK"
    strict, proxy, timeout = _one(said, "stricthostkeychecking"), _one(said, "proxycommand"), _one(said, "connecttimeout") or ""
    known = (*shlex.split(_one(said, "userknownhostsfile") or ""), *shlex.split(_one(said, "globalknownhostsfile") or ""))
    return SshRoute(
        name=name, host=host, port=port, user=user, alias=_one(said, "hostkeyalias") or host,
        key_files=tuple(Path(_filled(path, tokens)) for path in said.get("identityfile", ())),
        only_these=_one(said, "identitiesonly") == "yes",
        agent=_socket(agent, tokens), jump=_one(said, "proxyjump"), proxy=_filled(proxy, tokens, home=False) if proxy else None,
        known=tuple(Path(_filled(path, tokens)) for path in known),
        accept_new=strict in ("accept-new", "false", "no", "off"), forgiving=strict in ("false", "no", "off"),
        hashed=_one(said, "hashknownhosts") == "yes", config=_config(login, words),
        timeout=float(timeout) if timeout.isdigit() and timeout != "0" else 20.0,
    )  # fmt: skip


def checked_words(text: str, what: str) -> list[str]:
    """Return options of ssh that say how a host is reached, as words; raises UserError for any other."""
    words = shlex.split(text)
    rest = iter(words)
    for word in rest:
        if word[:2] in _TAKEN:
            if len(word) == 2 and next(rest, None) is None:
                raise UserError(f"{what}: {word} needs a word behind it")
        elif not _ALONE.fullmatch(word):
            hint = "Options that say how a host is reached are taken: -o NAME=VALUE, -J, -F, -i, -l, -p."
            raise UserError(f"{what}: '{word}' has no meaning for a playbook", hint=hint)
    return words


def _asked(name: str, login: SshLogin, words: Sequence[str]) -> dict[str, list[str]]:
    options = ["ssh", "-G", *words]
    config = os.path.expanduser(login.config) if login.config else None
    for flag, value in (("-F", config), ("-l", login.user), ("-p", login.port), ("-J", login.jump)):
        options += [flag, str(value)] if value else []
    options += ["-o", 'IdentityFile="' + login.key_file.replace("%", "%%") + '"'] if login.key_file else []
    options += ["-o", "StrictHostKeyChecking=accept-new"] if login.accept_new else []
    try:
        done = subprocess.run(
            [*options, "--", login.address or login.name], capture_output=True, timeout=_ASKING, stdin=subprocess.DEVNULL, check=False
        )
    except FileNotFoundError:
        raise no_ssh() from None
    except subprocess.TimeoutExpired:
        raise UserError(f"{name}: ssh did not read its configuration within {_ASKING:.0f} s") from None
    if done.returncode:
        said = done.stderr.decode(errors="replace").strip().splitlines()
        raise UserError(f"{name}: ssh cannot say how it is reached: {' / '.join(said[-3:]) or f'exit code {done.returncode}'}")
    answer: dict[str, list[str]] = {}
    for line in done.stdout.decode(errors="surrogateescape").splitlines():
        key, _, value = line.partition(" ")
        answer.setdefault(key, []).append(value)
    return answer


def _one(said: dict[str, list[str]], key: str) -> str | None:
    value = said.get(key, [""])[0]
    return None if value in ("", "none") and key != "identityagent" else value or None


def _socket(agent: str, tokens: dict[str, str]) -> str | None:
    if agent == "none":
        return None
    if agent == "SSH_AUTH_SOCK":
        return os.environ.get("SSH_AUTH_SOCK") or None
    return os.environ.get(agent[1:]) if agent.startswith("$") else _filled(agent, tokens)


def _config(login: SshLogin, words: Sequence[str]) -> str | None:
    """Return the ssh_config that is read instead of the user's: a jump host's login needs it, too."""
    files = [words[at + 1] if word == "-F" else word[2:] for at, word in enumerate(words) if word.startswith("-F")]
    return files[-1] if files else login.config


def _filled(text: str, tokens: dict[str, str], *, home: bool = True) -> str:
    """Return a text of ssh_config with what its percent signs stand for."""
    if home and (text == "~" or text.startswith("~/")):
        text = _home().replace("%", "%%") + text[1:]
    return re.sub(r"%(.)", lambda match: tokens.get(match[1], match[0]), text)


def _home() -> str:
    return pwd.getpwuid(os.getuid()).pw_dir


def _me() -> str:
    return pwd.getpwuid(os.getuid()).pw_name
