"""Read inventories: INI, YAML, the JSON of a program, a stack's outputs, folders of them, or names with commas between."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterable, Mapping
from pathlib import Path

from trainyard import yamlfile
from trainyard.errors import UserError
from trainyard.playbook import documents
from trainyard.playbook.hosts import grouptree, ini
from trainyard.playbook.hosts.inventory import UNGROUPED, Inventory
from trainyard.playbook.hosts.ranges import expand
from trainyard.playbook.values import Literal
from trainyard.remote.inventory import targets
from trainyard.textfile import read_text

PIPE = 10.0
"""Seconds for whoever writes an inventory that is a pipe."""
_PROGRAM = 60.0
"""Seconds that a program may take to print its inventory."""
_NOT_READ = {".pyc", ".pyo", ".swp", ".bak", ".rpm", ".md", ".txt", ".csv", ".orig", ".cfg", ".retry"}
_SCRIPT = (".py", ".sh", ".rb", ".pl")


def read(inventory: Inventory, texts: Iterable[str], *, key_file: Path | None = None) -> None:
    """Add what all of them say. Raises UserError with file:line:col for what cannot be understood, or where no host is named.

    ``key_file``: the private key for pods whose outputs name none.
    """
    texts = list(texts)
    for text in texts:
        if "," in text and not os.path.exists(text):
            for word in (word.strip() for word in text.split(",")):
                if word:
                    add_named(inventory, word)
        else:
            _read(inventory, Path(text).expanduser(), key_file)
    if texts and not inventory.hosts:
        raise UserError(f"{', '.join(texts)}: no host is named")


def add_named(inventory: Inventory, word: str) -> None:
    """Add a host that is named on the command line: ``NAME``, ``NAME:PORT`` or ``USER@NAME:PORT``."""
    user, at, rest = word.rpartition("@")
    names, port = expand(rest, None)
    own = {"ansible_user": Literal(user)} if at and user else {}
    own |= {"ansible_port": Literal(port)} if port is not None else {}
    for name in names:
        inventory.add_host(name, UNGROUPED, own)


def _read(inventory: Inventory, path: Path, key_file: Path | None) -> None:
    if not path.exists():
        hint = "A list of names needs a comma: --inventory gpu1, ; a host of your ssh_config: --host gpu1"
        raise UserError(f"the inventory {path} does not exist", hint=hint)
    if path.is_dir():
        inventory.folders.append(path)
        for each in sorted(path.iterdir()):
            if each.is_file() and not each.name.startswith(".") and not each.name.endswith("~") and each.suffix not in _NOT_READ:
                _file(inventory, each, key_file)
        return
    inventory.folders.append(path.parent)
    _file(inventory, path, key_file)


def _file(inventory: Inventory, path: Path, key_file: Path | None) -> None:
    if path.suffix in _SCRIPT or (path.suffix not in (".yml", ".yaml", ".json", ".ini") and os.access(path, os.X_OK)):
        grouptree.read_listed(inventory, yamlfile.parse_map(_printed(path), str(path)), path)
        return
    text = read_text(path, str(path), patience=PIPE)
    if path.suffix in (".yml", ".yaml", ".json") or text.lstrip().startswith(("{", "---")):
        tree = documents.parse_map(text, str(path))
        if isinstance(tree.get("pods"), list) or "pod_id" in tree or {"host", "port"} <= set(tree):
            add_outputs(inventory, tree, str(path), origin=path, key_file=key_file)
        elif path.suffix == ".json" and "_meta" in tree:
            grouptree.read_listed(inventory, tree, path)
        else:
            grouptree.read(inventory, tree, path)
    else:
        ini.read(inventory, text, path)


def add_outputs(
    inventory: Inventory, outputs: Mapping[str, object], what: str, hint: str | None = None, *,
    origin: Path | None = None, key_file: Path | None = None,
) -> None:  # fmt: skip
    """Add the pods that a stack's outputs tell; raises UserError where they tell none. ``what`` it is that told them."""
    pods = targets(outputs, key_file=key_file)
    if not pods:
        raise UserError(f"{what}: the stack has no pod", hint=hint)
    for pod in pods:
        inventory.add_pod(pod.name, pod.address, pod.vars, origin)


def _printed(path: Path) -> str:
    """Return what an inventory's program prints; it runs here, as its owner."""
    if not os.access(path, os.X_OK):
        raise UserError(f"the inventory {path} is a program that may not be run", hint=f"chmod +x {path}")
    try:
        done = subprocess.run([path.resolve(), "--list"], capture_output=True, timeout=_PROGRAM, stdin=subprocess.DEVNULL, check=False)
    except subprocess.TimeoutExpired:
        raise UserError(f"the inventory {path} did not end within {_PROGRAM:.0f} s") from None
    except OSError as error:
        raise UserError(f"the inventory {path} cannot be run: {error.strerror}") from None
    if done.returncode:
        said = done.stderr.decode(errors="replace").strip().splitlines()[-1:]
        raise UserError(f"the inventory {path} ended with {done.returncode}: {said[0] if said else 'it said nothing'}")
    return done.stdout.decode(errors="replace")
