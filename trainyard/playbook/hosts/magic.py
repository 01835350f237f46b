"""The variables that are there by themselves: which host it is, which others there are, what the run is about."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from trainyard.playbook.model import Role
from trainyard.playbook.natives import Unread
from trainyard.playbook.values import rendered

NAMES = frozenset({
    "inventory_hostname", "inventory_hostname_short", "inventory_dir", "inventory_file", "groups", "group_names", "hostvars",
    "ansible_host", "playbook_dir", "play_hosts", "ansible_play_hosts", "ansible_play_hosts_all", "ansible_play_batch",
    "ansible_play_name", "ansible_check_mode", "ansible_diff_mode", "ansible_run_tags", "ansible_skip_tags", "ansible_forks", "role_name",
    "role_path", "ansible_role_name",
})  # fmt: skip


def of_host(
    name: str, groups: Mapping[str, Sequence[str]], origin: Path | None, hostvars: Mapping[str, object]
) -> dict[str, object]:  # fmt: skip
    """Return what a host knows of itself and of the others, in every play."""
    return {
        "inventory_hostname": name,
        "inventory_hostname_short": name.partition(".")[0] if not name.replace(".", "").isdigit() else name,
        "groups": groups,
        "group_names": sorted(group for group, hosts in groups.items() if name in hosts and group != "all"),
        "hostvars": hostvars,
        **({"inventory_file": str(origin.resolve()), "inventory_dir": str(origin.resolve().parent)} if origin else {}),
    }


def of_run(*, check: bool, diff: bool, forks: int, tags: Iterable[str], skip_tags: Iterable[str]) -> dict[str, object]:
    """Return what holds for a whole run."""
    return {
        "ansible_check_mode": check, "ansible_diff_mode": diff, "ansible_forks": forks,
        "ansible_run_tags": sorted(tags) or ["all"], "ansible_skip_tags": sorted(skip_tags),
    }  # fmt: skip


def of_role(role: Role | None) -> dict[str, object]:
    """Return what a task knows of the role that it belongs to."""
    if role is None:
        return {}
    return {"role_name": role.name, "ansible_role_name": role.name, "role_path": str(role.path.resolve())}


def of_play(name: str, folder: Path, hosts: Sequence[str], alive: Sequence[str]) -> dict[str, object]:
    """Return what the hosts of a play know of it; ``alive`` is shorter when a host has dropped out."""
    return {
        "ansible_play_name": name, "playbook_dir": str(folder.resolve()), "ansible_play_hosts_all": list(hosts),
        "ansible_play_hosts": alive, "ansible_play_batch": alive, "play_hosts": alive,
    }  # fmt: skip


class HostVars(Unread):
    """The variables of all hosts by name, each read when it is asked for."""

    def __init__(self, names: Sequence[str], variables: Callable[[str], Mapping[str, object]]) -> None:
        self._names, self._variables = names, variables

    def __getitem__(self, name: str) -> Mapping[str, object]:
        if name not in self._names:
            raise KeyError(name)
        return _Rendered(self._variables(name))

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)


class _Rendered(Unread):
    """Variables of one host, rendered with its own when they are read; ``hostvars`` is not once more among them."""

    def __init__(self, variables: Mapping[str, object]) -> None:
        self._variables = variables
        self._names = [name for name in variables if name != "hostvars"]

    def __getitem__(self, name: str) -> object:
        if name not in self._names:
            raise KeyError(name)
        return rendered(self._variables[name], self._variables)

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)
