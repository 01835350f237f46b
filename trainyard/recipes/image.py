"""The trainer image of a recipe: its environment on a base pinned by digest, pushed, and named by its own digest."""

from __future__ import annotations

import hashlib
import math
import re
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path

from trainyard import pod
from trainyard.errors import TrainyardError, UserError
from trainyard.pod.boot import OUR_IMAGE
from trainyard.recipes.contract import Recipe, load_recipe, recipe_names
from trainyard.recipes.imagetools import DIGEST, ImageTool, ToolCall, build_command, call
from trainyard.shipped import find, overlay

DIGEST_FILE = "docker/base.digest"
_BASE = re.compile(r"^ARG BASE=(\S+)$", re.MULTILINE)
_EXAMPLE = f"For example ghcr.io/me/{OUR_IMAGE}:1."
LOCK = "docker/recipe.lock"
"""Where the Dockerfile finds the lock, in the folder that it is built from."""


@dataclass(frozen=True, slots=True)
class ImageOrder:
    """What to build: whose environment, by which of its locks, on which base, under which name."""

    recipe: Recipe
    lock: Path
    reference: str
    """With a tag."""
    base: str | None
    """None: the Dockerfile's own."""


def order(root: Path, recipe: str, kind: str, name: str, base: str | None = None) -> ImageOrder:
    """Return what is to be built; a name without a tag gets one that says what is in the image, the same for the same packages.

    Raises UserError for a recipe without such an environment and for a name that would not be known as a trainer image's.
    """
    contract = load_recipe(root, recipe)
    lock = contract.locks.get(kind)
    if lock is None:
        has = f"it has one for {' and '.join(contract.locks)}" if contract.locks else "its packages are those of a run's code"
        hint = (
            f"Say --lock {next(iter(contract.locks))}."
            if contract.locks
            else "What your code needs is installed on the pod; any image may be the setting `image`."
        )
        raise UserError(f"recipe '{recipe}' has no environment for {kind}; {has}", hint=hint)
    tagged = name if ":" in name.rpartition("/")[2] else f"{name}:{recipe}-{kind}-{_hash(lock)[:12]}"
    check_reference(tagged)
    return ImageOrder(contract, lock, tagged, base)


def build(root: Path, what: ImageOrder, tool: ImageTool, *, refresh: bool = False, call: ToolCall = call) -> str:
    """Build the image; return its base by digest.

    The digest of the Dockerfile's base is taken from docker/base.digest, which belongs into git; it is asked from the registry
    when that file is missing or ``refresh`` is wanted. Another base is asked for at each build, unless it is named by its digest.
    """
    base, digest = _own_base(what.base, tool, call) if what.base else _base(root, tool, refresh, call)
    with tempfile.TemporaryDirectory(prefix="trainyard-image-") as folder:
        context = Path(folder)
        _gather(root, what.lock, context)
        arguments = {"BASE": base, "BASE_DIGEST": digest, "LOCK": LOCK, "IMPORTS": ", ".join(what.recipe.imports)}
        call(build_command(tool, context, what.reference, arguments), shown=True)
    return f"{base}@{digest}"


def push(reference: str, tool: ImageTool, *, call: ToolCall = call) -> tuple[str, int]:
    """Push the image; return its reference by digest, as it belongs into ``trainyard:image``, and its size in GB."""
    check_reference(reference)
    there = tool.push(call, reference)
    if not DIGEST.fullmatch(there.digest):
        raise TrainyardError(f"the registry told no digest for {reference}")
    return f"{reference.rpartition(':')[0]}@{there.digest}", math.ceil(there.size / 1e9)


def ready_for(root: Path, lock: Path) -> list[str]:
    """Return the recipes that find their environment in an image with that lock's."""
    key = _hash(lock)
    return [name for name in recipe_names(root) if key in map(_hash, load_recipe(root, name).locks.values())]


def check_reference(reference: str) -> None:
    """Raise UserError unless a reference has a tag and the name by which Trainyard knows images that start the watchdog themselves."""
    name, colon, tag = reference.rpartition(":")
    if not colon or "/" in tag or name.rpartition("/")[2] != OUR_IMAGE:
        raise UserError(f"'{reference}' must end in '{OUR_IMAGE}:TAG'", hint=_EXAMPLE)


def _gather(root: Path, lock: Path, context: Path) -> None:
    """Write what the Dockerfile copies, the repository's own files before Trainyard's."""
    for folder in ("docker", "templates/common"):
        overlay(root, folder, context / folder)
    shutil.copyfile(lock, context / LOCK)
    tool = context / "trainyard" / "pod" / "watchdog.py"
    tool.parent.mkdir(parents=True)
    shutil.copyfile(Path(pod.__file__).with_name(tool.name), tool)


def _base(root: Path, tool: ImageTool, refresh: bool, call: ToolCall) -> tuple[str, str]:
    """Return the Dockerfile's base and its digest, which is recorded when it had to be asked for."""
    base = _BASE.search(find(root, "docker/Dockerfile").read_text(encoding="utf-8"))
    if base is None:
        raise UserError("docker/Dockerfile has no line 'ARG BASE=...'")
    path = root / DIGEST_FILE
    if path.exists() and not refresh:
        digest = path.read_text(encoding="utf-8").strip()
        if not DIGEST.fullmatch(digest):
            raise UserError(f"{DIGEST_FILE} holds no digest (sha256:...)", hint="Delete it: image.build asks the registry again.")
        return base[1], digest
    digest = _asked(base[1], tool, call)
    path.parent.mkdir(exist_ok=True)
    path.write_text(digest + "\n", encoding="utf-8")
    return base[1], digest


def _own_base(base: str, tool: ImageTool, call: ToolCall) -> tuple[str, str]:
    name, at, digest = base.partition("@")
    if at and not DIGEST.fullmatch(digest):
        raise UserError(f"'{base}' names no image: what stands behind @ is no digest (sha256: and 64 digits)")
    return name, digest or _asked(base, tool, call)


def _asked(base: str, tool: ImageTool, call: ToolCall) -> str:
    digest = tool.base_digest(call, base)
    if not DIGEST.fullmatch(digest):
        raise TrainyardError(f"the registry told no digest for {base}")
    return digest


def _hash(lock: Path) -> str:
    return hashlib.sha256(lock.read_bytes()).hexdigest()
