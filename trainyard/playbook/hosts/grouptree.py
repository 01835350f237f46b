"""Inventories as YAML and as the JSON of a program: groups with ``hosts``, ``vars`` and ``children``."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from trainyard import yamlfile
from trainyard.errors import Location, UserError
from trainyard.playbook.hosts.inventory import ALL, UNGROUPED, Inventory
from trainyard.playbook.hosts.ranges import expand
from trainyard.playbook.hosts.varfiles import compiled
from trainyard.playbook.values import Literal, Value
from trainyard.yamlfile import Map, Node, Seq

_WORDS = ("hosts", "vars", "children")


def read(inventory: Inventory, tree: Map, path: Path) -> None:
    """Add the groups of a YAML inventory; raises UserError with file:line:col."""
    if "plugin" in tree:
        hint = "Write the hosts down, or name a program that prints them (--list)."
        raise UserError(f"the inventory plugin '{tree['plugin']}' is not run", where=tree.where("plugin"), hint=hint)
    for name, node in tree.items():
        _group(inventory, name, node, tree.where(name), path)


def read_listed(inventory: Inventory, tree: Map, path: Path) -> None:
    """Add what a program prints for ``--list``: groups by name, each host's variables in ``_meta``."""
    for name, node in tree.items():
        if name == "_meta":
            continue
        where = tree.where(name)
        group = _map({"hosts": node} if isinstance(node, list) else node, where, f"the group '{name}'")
        inventory.add_group(name).vars.update(_values(group.get("vars"), where))
        for host in _names(group.get("hosts"), where):
            inventory.add_host(host, UNGROUPED if name == ALL else name, {}, path)
        for child in _names(group.get("children"), where):
            inventory.add_child(name, child, where)
    about = tree.get("_meta")
    hostvars = about.get("hostvars") if isinstance(about, Mapping) else None
    for host, variables in (hostvars if isinstance(hostvars, Mapping) else {}).items():
        inventory.hosts.setdefault(host, {}).update(_values(variables, tree.where("_meta")))


def _group(inventory: Inventory, name: str, node: Node, where: Location | None, path: Path) -> None:
    group = inventory.add_group(name)
    if node is None:
        return
    tree = _map(node, where, f"the group '{name}'")
    yamlfile.reject_unknown(tree, _WORDS, "word of a group")
    group.vars.update(_values(tree.get("vars"), tree.where("vars", value=True)))
    hosts = tree.get("hosts")
    if hosts is not None:
        for text, own in _map(hosts, tree.where("hosts", value=True), "'hosts'").items():
            place = hosts.where(text) if isinstance(hosts, Map) else None
            names, port = expand(text, place)
            values: dict[str, Value] = {} if port is None else {"ansible_port": Literal(port, place)}
            for host in names:
                inventory.add_host(host, UNGROUPED if name == ALL else name, {**values, **_values(own, place)}, path)
    children = tree.get("children")
    if children is not None:
        below = _map(children, tree.where("children", value=True), "'children'")
        for child, inner in below.items():
            if name != ALL:
                inventory.add_child(name, child, below.where(child))
            _group(inventory, child, inner, below.where(child), path)


def _values(node: Node | None, where: Location | None) -> dict[str, Value]:
    if node is None:
        return {}
    tree = _map(node, where, "variables")
    return compiled(tree)


def _map(node: object, where: Location | None, what: str) -> Map:
    if isinstance(node, Map):
        return node
    if isinstance(node, dict):
        plain = Map()
        plain.update(node)
        return plain
    raise UserError(f"{what}: expected a mapping of names", where=where, hint="A host without variables is written 'name:'.")


def _names(node: object, where: Location | None) -> list[str]:
    if isinstance(node, Seq) and all(isinstance(name, str) for name in node):
        return [str(name) for name in node]
    if node is None:
        return []
    raise UserError("expected a list of names", where=where)
