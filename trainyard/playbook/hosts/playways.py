"""The ways to a host that its plays say: one for each login, made once."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping

from trainyard.playbook.hosts.inventory import Inventory
from trainyard.playbook.hosts.ways import HostLogin, login_to, transport_by
from trainyard.playbook.keywords import WAY
from trainyard.playbook.model import Play, Vars
from trainyard.playbook.values import Literal, Value
from trainyard.remote.protocol import Transport


class WaysOfPlays:
    """The ways to one host; they are closed with ``stack``.

    ``config``: the ssh_config that is read instead of the user's; ``user``: who logs in where nothing says it.
    """

    def __init__(
        self, name: str, inventory: Inventory, extra: Mapping[str, Value], stack: contextlib.ExitStack, config: str | None, user: str | None
    ) -> None:
        self._name, self._inventory, self._extra = name, inventory, extra
        self._stack, self._config, self._user = stack, config, user
        self._transports: dict[HostLogin | None, Transport] = {}

    def to(self, play: Play) -> Transport:
        """Return the way that a play says; it connects when it is first used. Raises UserError for one that cannot be had."""
        pod = self._inventory.pods.get(self._name)
        login = None if pod is not None else login_to(self._name, self._said(play), self._config, self._user)
        if login not in self._transports:
            self._transports[login] = self._stack.enter_context(transport_by(self._name, login) if pod is None else pod)
        return self._transports[login]

    def _said(self, play: Play) -> Vars:
        """Return what is said of the way, the weakest first; as Ansible has it a host's own user is stronger than a play's remote_user."""
        known, own = self._inventory.variables(self._name, play.folder), _own(play)
        keywords = {"ansible_user": play.remote_user, "ansible_port": play.port}
        said = {name: value for name, value in keywords.items() if value is not None}
        said = {**said, **known, **{word: own[word] for word in WAY if word in own}, **self._extra}
        variables = {**known, **own, **self._extra, "inventory_hostname": self._name}
        return {name: Literal(said[name].render(variables), said[name].where) if name in WAY else said[name] for name in said}


def _own(play: Play) -> Vars:
    """Return a play's variables as far as they are known before it runs."""
    return {**play.vars, **{name: value for file in play.vars_files for name, value in (file.known or {}).items()}}
