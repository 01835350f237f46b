"""Inventories by the dice, and what ansible-core says of each: its hosts' variables, and who a pattern names.

``python -m tests.cases.inventories`` asks ansible-core again (``invoke extras`` puts it into build/extras); the answers are kept.
"""

from __future__ import annotations

import json
import random
import shlex
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

RECORDED = Path(__file__).with_name("inventories.json")
SEEDS = range(14)
PATTERNS = [
    "all", "*", "g1", "g1:&g2", "all:!g3", "g*", "h[0]*", "~h[12]", "g1[0]", "g1[-1]", "g2[0:1]", "g2[1:]", "g1,g2", "!g1", "ungrouped",
    "all:&ungrouped", "*1", "~g.:!g3", "g4",
]  # fmt: skip
_GROUPS = ("g1", "g2", "g3", "g4")
_HOSTS = ("h1", "h2", "h3", "h4", "h1.example")


def lay_out(seed: int, folder: Path) -> None:
    """Write an inventory, and files of variables beside it and beside a playbook in ``play``."""
    dice = random.Random(seed)
    (folder / "hosts").write_text("\n".join(_ini(dice)) + "\n")
    for place in (folder, folder / "play"):
        place.mkdir(exist_ok=True)
        for kind, names in (("group_vars", (*_GROUPS, "all")), ("host_vars", _HOSTS)):
            for name in names:
                if dice.random() < 0.25:
                    _files(dice, place / kind, name)


def _ini(dice: random.Random) -> Iterator[str]:
    for host in dice.sample(_HOSTS, 2):
        yield f"{host} own={shlex.quote(_value(dice))}" if dice.random() < 0.5 else host
    for group in _GROUPS:
        yield f"[{group}]"
        for host in dice.sample(_HOSTS, dice.randint(0, 3)):
            said = f" v{dice.randint(0, 3)}={shlex.quote(_value(dice))}" if dice.random() < 0.4 else ""
            yield f"{host}{said}{'  # why' if dice.random() < 0.2 else ''}"
    for at, group in enumerate(_GROUPS):
        if below := [child for child in _GROUPS[at + 1 :] if dice.random() < 0.3]:
            yield from (f"[{group}:children]", *below)
    for group in (*_GROUPS, "all"):
        yield f"[{group}:vars]"
        yield from (f"v{number} = {dice.choice((f'{group} x', _value(dice)))}" for number in range(4) if dice.random() < 0.4)
        if group != "all" and dice.random() < 0.3:
            yield f"ansible_group_priority={dice.randint(1, 5)}"


def _value(dice: random.Random) -> str:
    return dice.choice(["word", "'two words'", "5", "True", "[1, 'a']", "007", "yes", '"{}"', "1.5", "None", '"word"'])


def _files(dice: random.Random, folder: Path, name: str) -> None:
    folder.mkdir(exist_ok=True)
    if dice.random() < 0.3:
        (folder / name).mkdir()
        for file in ("b.yml", "a.yaml"):
            (folder / name / file).write_text(f"v{dice.randint(0, 3)}: {folder.parent.name == 'play'} {folder.name} {name} {file}\n")
    else:
        said = {f"v{number}": f"{folder.parent.name == 'play'} {folder.name} {name}" for number in range(4) if dice.random() < 0.5}
        (folder / f"{name}{dice.choice(['.yml', '.yaml', '.json', ''])}").write_text(json.dumps(said))


def theirs(folder: Path) -> dict[str, Any]:
    """Return what ansible-core says of an inventory."""
    from ansible.inventory.manager import InventoryManager  # type: ignore[import-not-found]
    from ansible.parsing.dataloader import DataLoader  # type: ignore[import-not-found]
    from ansible.vars.manager import VariableManager  # type: ignore[import-not-found]

    loader = DataLoader()
    loader.set_basedir(str(folder / "play"))
    inventory = InventoryManager(loader=loader, sources=[str(folder / "hosts")])
    manager = VariableManager(loader=loader, inventory=inventory)
    variables = {}
    for host in inventory.get_hosts():
        said = manager.get_vars(host=host, include_hostvars=False)
        variables[host.name] = {name: said[name] for name in ("own", "v0", "v1", "v2", "v3", "group_names") if name in said}
    return {"variables": variables, "patterns": {pattern: [str(host) for host in inventory.get_hosts(pattern)] for pattern in PATTERNS}}


def main() -> None:
    """Ask ansible-core about all of them and keep what it says."""
    from ansible import context  # type: ignore[import-not-found]
    from ansible.module_utils.common.collections import ImmutableDict  # type: ignore[import-not-found]
    from ansible.plugins.loader import init_plugin_loader  # type: ignore[import-not-found]

    context.CLIARGS = ImmutableDict(basedir=None)
    init_plugin_loader()
    answers = {}
    for seed in SEEDS:
        with tempfile.TemporaryDirectory() as folder:
            lay_out(seed, Path(folder))
            answers[str(seed)] = theirs(Path(folder))
    RECORDED.write_text(json.dumps(answers, separators=(",", ":"), default=str) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
