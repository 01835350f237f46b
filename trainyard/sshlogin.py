"""How a machine is logged in to by the user's own ``ssh``, as data: what is not said here, ssh_config says.

The text of a login is an address that can be written down; it never becomes a line of a shell.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from urllib.parse import parse_qsl, quote, unquote, urlencode, urlsplit

from trainyard.errors import UserError

NAME = r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}"
ADDRESS = r"[A-Za-z0-9:][A-Za-z0-9.:_-]{0,252}"
USER = r"[A-Za-z0-9_][^\s\"'\x00-\x1f\x7f]{0,63}"
PATH = r"[~/][^\"\x00-\x1f\x7f]{0,1023}"
_HOP = r"(?:[A-Za-z0-9_][A-Za-z0-9_.-]*@)?(?:[A-Za-z0-9_][A-Za-z0-9_.-]*|\[[0-9A-Fa-f:.]+\])(?::[0-9]{1,5})?"
JUMP = rf"{_HOP}(?:,{_HOP})*"
"""Each hop begins with what no option begins with: a `-` behind a comma would be one for the ssh that OpenSSH starts for the next."""
_QUERY = {"address": ADDRESS, "key_file": PATH, "config": PATH, "jump": JUMP, "host_keys": "new"}
_ALWAYS = (
    "BatchMode=yes", "ControlMaster=no", "ForwardAgent=no", "ForwardX11=no", "PermitLocalCommand=no", "RemoteCommand=none",
    "ConnectTimeout=15", "ServerAliveInterval=15", "ServerAliveCountMax=3", "LogLevel=ERROR",
)  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class SshLogin:
    """How ssh logs in to a machine: what is not said here, ssh_config says."""

    name: str
    """As ssh_config calls it, else its address."""
    address: str | None = None
    user: str | None = None
    port: int | None = None
    key_file: str | None = None
    jump: str | None = None
    """``[user@]host[:port]`` of the machines on the way, commas between."""
    config: str | None = None
    """The ssh_config that is read instead of the user's and the system's."""
    accept_new: bool = False
    """A host key that is not known yet is taken down as the machine's; a changed one is refused all the same."""

    def words(self, *options: str) -> list[str]:
        """Return the command line up to the machine's name, which comes last; ``options`` stand before it."""
        said = [*_ALWAYS, f"StrictHostKeyChecking={'accept-new' if self.accept_new else 'yes'}"]
        said += [f"HostName={self.address}"] if self.address else []
        said += [f"IdentityFile={_quoted(self.key_file)}", "IdentitiesOnly=yes"] if self.key_file else []
        words = ["ssh", "-T", *(word for option in said for word in ("-o", option))]
        config = os.path.expanduser(self.config) if self.config else None
        for flag, value in (("-F", config), ("-l", self.user), ("-p", self.port), ("-J", self.jump)):
            words += [flag, str(value)] if value else []
        return [*words, *options, "--", self.name]

    @property
    def url(self) -> str:
        """The login as a text: ``ssh://anna@gpu1:2222?jump=gate``."""
        user = f"{quote(self.user, safe='')}@" if self.user else ""
        more = {"address": self.address, "key_file": self.key_file, "jump": self.jump, "config": self.config}
        more["host_keys"] = "new" if self.accept_new else None
        query = urlencode({key: value for key, value in more.items() if value})
        return f"ssh://{user}{self.name}{f':{self.port}' if self.port else ''}{f'?{query}' if query else ''}"


def parse_login(url: str) -> SshLogin:
    """Return the login of a text that SshLogin.url made; raises UserError for any other."""
    try:
        parts, query = urlsplit(url), dict(parse_qsl(urlsplit(url).query, strict_parsing=bool(urlsplit(url).query)))
        host = re.match(rf"(?:([^@]+)@)?({NAME})(?::([0-9]{{1,5}}))?$", parts.netloc)
        if parts.scheme != "ssh" or host is None or parts.path or not all(re.fullmatch(_QUERY[k], v) for k, v in query.items()):
            raise ValueError(url)
        user = unquote(host[1]) if host[1] else None
        if user is not None and not re.fullmatch(USER, user):
            raise ValueError(url)
        return SshLogin(
            name=host[2], user=user, port=int(host[3]) if host[3] else None, address=query.get("address"),
            key_file=query.get("key_file"), jump=query.get("jump"), config=query.get("config"), accept_new="host_keys" in query,
        )  # fmt: skip
    except (ValueError, KeyError):
        raise UserError(f"'{url[:100]}' is no way to a machine: ssh://USER@NAME:PORT") from None


def _quoted(path: str) -> str:
    """Return a path as ssh takes it: a blank would begin another one, a percent sign stands for something."""
    return '"' + path.replace("%", "%%") + '"'
