"""An inventory as data: hosts, groups and their variables, whoever wrote it down and how."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from trainyard.errors import Location, UserError
from trainyard.playbook.hosts.varfiles import VarFiles
from trainyard.playbook.values import Literal, Value
from trainyard.remote.protocol import Address, Transport
from trainyard.remote.reconnect import Reconnecting
from trainyard.remote.transport import dial

Dial = Callable[[Address], Transport]
ALL, UNGROUPED = "all", "ungrouped"


@dataclass(slots=True)
class Group:
    """A group: its own hosts, the groups below it, and its variables."""

    name: str
    hosts: dict[str, None] = field(default_factory=dict)
    children: dict[str, Location | None] = field(default_factory=dict)
    vars: dict[str, Value] = field(default_factory=dict)


class Inventory:
    """What one or several inventories say together; a later word wins over an earlier one."""

    def __init__(self) -> None:
        self.hosts: dict[str, dict[str, Value]] = {}
        self.groups: dict[str, Group] = {ALL: Group(ALL), UNGROUPED: Group(UNGROUPED)}
        self.pods: dict[str, Transport] = {}
        """Hosts that are pods of ours: how each is reached, with the host key that it must show."""
        self.origins: dict[str, Path] = {}
        """The file that named each host first."""
        self.folders: list[Path] = []
        """Where group_vars and host_vars of the inventories lie."""
        self._files: dict[Path, VarFiles] = {}

    def add_group(self, name: str) -> Group:
        """Return the group of a name, made if there is none."""
        return self.groups.setdefault(name, Group(name))

    def add_host(self, name: str, group: str, own: Mapping[str, Value], origin: Path | None = None) -> None:
        """Put a host into a group, with variables of its own."""
        self.hosts.setdefault(name, {}).update(own)
        if origin is not None:
            self.origins.setdefault(name, origin)
        self.add_group(group).hosts.setdefault(name)

    def add_pod(self, name: str, address: Address, own: Mapping[str, object], origin: Path | None = None, *, dial: Dial = dial) -> None:
        """Add a pod of ours, which is reached by ``dial`` alone, whatever variables say."""
        said = {"ansible_host": address.host, "ansible_port": address.port, "ansible_user": address.user, **own}
        self.add_host(name, UNGROUPED, {key: Literal(value) for key, value in said.items()}, origin)
        self.pods[name] = Reconnecting(lambda: dial(address), str(address))

    def add_child(self, parent: str, child: str, where: Location | None) -> None:
        """Put a group below another; raises UserError where that would be a circle."""
        self.add_group(child)
        if parent == child or parent in self._below(child):
            raise UserError(f"the group '{child}' would be below itself", where=where)
        self.add_group(parent).children.setdefault(child, where)

    def members(self) -> dict[str, list[str]]:
        """Return the hosts of each group, those of the groups below it too; a host of none is in ``ungrouped``."""
        shown: dict[str, list[str]] = {}
        grouped: set[str] = set()
        for name in self.groups:
            if name in (ALL, UNGROUPED):
                continue
            own = [host for each in (name, *self._below(name)) for host in self.groups[each].hosts]
            shown[name] = list(dict.fromkeys(own))
            grouped.update(own)
        return {ALL: list(self.hosts), UNGROUPED: [host for host in self.hosts if host not in grouped], **shown}

    def variables(self, host: str, playbooks: Path | None) -> dict[str, Value]:
        """Return a host's variables, the weakest first: its groups', then its own; files of ``playbooks`` win over the inventory's.

        The order is Ansible's: what the inventory says of a group is weaker than any group_vars file, and ``all`` than its children.
        """
        groups = self._groups_of(host)
        inventories = [self._read(folder) for folder in self.folders]
        beside = [self._read(playbooks)] if playbooks is not None else []
        layers: list[Mapping[str, Value]] = [self.groups[name].vars for name in (ALL, *groups)]
        layers += [files.group(ALL) for files in (*inventories, *beside)]
        layers += [files.group(name) for place in (inventories, beside) for name in groups for files in place]
        layers.append(self.hosts.get(host, {}))
        layers += [files.host(host) for files in (*inventories, *beside)]
        return {name: value for layer in layers for name, value in layer.items()}

    def known_of(self, host: str, playbooks: Path) -> dict[str, object]:
        """Return what plays know of a host: its variables, and an address where none is said."""
        return {"ansible_host": host, **self.variables(host, playbooks)}

    def _read(self, folder: Path) -> VarFiles:
        return self._files.setdefault(folder.resolve(), VarFiles(folder))

    def _below(self, name: str) -> Iterator[str]:
        for child in self.groups[name].children:
            yield child
            yield from self._below(child)

    def _groups_of(self, host: str) -> list[str]:
        """Return the groups of a host but ``all``, the weakest first: parents, then low priority, then the alphabet."""
        mine = {name for name, group in self.groups.items() if host in group.hosts} - {ALL, UNGROUPED}
        fresh = mine
        while fresh:
            fresh = {name for name, group in self.groups.items() if not fresh.isdisjoint(group.children)} - mine - {ALL}
            mine |= fresh
        return sorted(mine or {UNGROUPED}, key=lambda name: (self._depth(name), self._priority(name), name))

    def _depth(self, name: str) -> int:
        return max((self._depth(parent.name) + 1 for parent in self.groups.values() if name in parent.children), default=1)

    def _priority(self, name: str) -> float:
        said = self.groups[name].vars.get("ansible_group_priority", Literal(1))
        try:
            return float(str(said.render({})))
        except ValueError:
            raise UserError(f"'ansible_group_priority' of '{name}' is a number", where=said.where) from None
