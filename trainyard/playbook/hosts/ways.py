"""The way to each host of an inventory, by the variables that Ansible has for it; what cannot be had is refused by name."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from trainyard.errors import Location, UserError
from trainyard.phrasing import as_typed
from trainyard.playbook.values import Value
from trainyard.remote.protocol import Transport
from trainyard.remote.reconnect import Reconnecting
from trainyard.remote.sshconfig import SshRoute, checked_words, route
from trainyard.remote.transport import LocalTransport
from trainyard.sshlogin import SshLogin

_SSH = ("ssh", "smart", "paramiko", "paramiko_ssh", "ansible.builtin.ssh", "ansible.builtin.paramiko_ssh")
_LOCAL = ("local", "ansible.builtin.local")
_REFUSED = {
    **dict.fromkeys(
        ("ansible_password", "ansible_ssh_pass", "ansible_ssh_password"),
        "passwords are not asked for: put a key there with ssh-copy-id",
    ),
    "ansible_connection_user": "write ansible_user",
}
_ARGUMENTS = ("ansible_ssh_args", "ansible_ssh_common_args", "ansible_ssh_extra_args")


@dataclass(frozen=True, slots=True)
class HostLogin:
    """How a host is logged in to; ``login`` None: it is this machine."""

    login: SshLogin | None = None
    words: tuple[str, ...] = ()
    """Options of ssh."""


def login_to(name: str, variables: Mapping[str, Value], config: str | None, user: str | None) -> HostLogin:
    """Return the way to a host that its variables say. Raises UserError for one that cannot be had.

    ``config``: the ssh_config that is read instead of the user's; ``user``: who logs in where nothing says it.
    """
    said = _Said(name, variables)
    for refused, instead in _REFUSED.items():
        if refused in variables:
            raise UserError(f"{name}: '{refused}' is not supported: {instead}", where=variables[refused].where)
    connection = said.text("ansible_connection") or (
        "local" if name == "localhost" and not said.text("ansible_host", "ansible_port") else "ssh"
    )
    if connection in _LOCAL:
        return HostLogin()
    if connection not in _SSH:
        raise UserError(f"{name}: there is no connection '{connection}', there are ssh and local", where=said.where("ansible_connection"))
    return _login(said, config, user)


def transport_by(name: str, way: HostLogin | None) -> Transport:
    """Return the transport that logs in so, which connects when it is first used."""
    if way is None or way.login is None:
        return LocalTransport()
    return Reconnecting(_Dialling(name, way.login, list(way.words)), name)


class _Dialling:
    """Connect to a host as ssh_config says; it is asked once."""

    def __init__(self, name: str, login: SshLogin, words: list[str]) -> None:
        self._name, self._login, self._words = name, login, words
        self._route: SshRoute | None = None

    def __call__(self) -> Transport:
        # What speaks SSH is loaded when a host is to be reached.
        from trainyard.remote.ownhost import connect_own

        if self._route is None:
            self._route = route(self._name, self._login, self._words)
            if self._route.forgiving:
                _tell(f"{self._name}: StrictHostKeyChecking=no is taken for accept-new: a new key is written down, a changed one refused")
        return connect_own(self._route, _tell)


def _login(said: _Said, config: str | None, user: str | None) -> HostLogin:
    port = said.text("ansible_port", "ansible_ssh_port")
    if port is not None and not (port.isdigit() and 0 < int(port) < 65536):
        raise UserError(f"{said.name}: '{port}' is no port", where=said.where("ansible_port"))
    words: list[str] = []
    for name in _ARGUMENTS:
        text = said.text(name)
        words += checked_words(text, f"{said.name}: {name}") if text else []
    trusting = (said.text("ansible_host_key_checking", "ansible_ssh_host_key_checking") or "true").lower() in ("false", "no", "off", "0")
    key = said.text("ansible_ssh_private_key_file", "ansible_private_key_file")
    login = SshLogin(
        name=said.text("ansible_host", "ansible_ssh_host") or said.name, user=said.text("ansible_user", "ansible_ssh_user") or user,
        port=int(port) if port else None, key_file=str(Path(key).expanduser()) if key else None, config=config, accept_new=trusting,
    )  # fmt: skip
    return HostLogin(login, tuple(words))


class _Said:
    """What a host's variables say of the way to it."""

    def __init__(self, name: str, variables: Mapping[str, Value]) -> None:
        self.name, self._variables = name, variables

    def text(self, *names: str) -> str | None:
        """Return the first of these variables that is there, rendered, as text."""
        for name in names:
            if name in self._variables:
                value = self._variables[name].render({**self._variables, "inventory_hostname": self.name})
                return str(value) if value not in (None, "") else None
        return None

    def where(self, name: str) -> Location | None:
        """Return the place of a variable."""
        return self._variables[name].where if name in self._variables else None


def _tell(line: str) -> None:
    print(as_typed(line), file=sys.stderr, flush=True)
