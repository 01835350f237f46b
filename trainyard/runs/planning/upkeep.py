"""The environment that runs stand on: brought up where its settings, the program or the plugin changed."""

from __future__ import annotations

import hashlib
from pathlib import Path

import trainyard
from trainyard.config import Places
from trainyard.errors import RefusedError
from trainyard.filelock import hold_lock
from trainyard.leases.intents import is_closed
from trainyard.runs.context import CommandContext
from trainyard.runs.records.environment import EnvironmentOutputs
from trainyard.runs.records.stackresources import leases_in
from trainyard.settings import reader
from trainyard.stacks import facade
from trainyard.stacks.model import Stack
from trainyard.storage.groups import stores_named


def ensure_environment(context: CommandContext, name: str) -> EnvironmentOutputs:
    """Return the environment's outputs, after an up where settings, program or plugin changed or no fence stands open.

    Raises RefusedError when that up would rent pods (``pods:`` in the settings): the user does that himself.
    """
    stack = context.stack(name)
    if _stands(context, stack):
        return EnvironmentOutputs.of_outputs(facade.outputs(stack))

    def say() -> None:
        context.ui.say(f"up         another command brings environment {name} up: waiting for it")

    with hold_lock(context.places.home / "locks" / f"up-{name}", say):
        if not _stands(context, stack):
            _bring_up(context, name, stack)
    return EnvironmentOutputs.of_outputs(facade.outputs(stack))


def _stands(context: CommandContext, stack: Stack) -> bool:
    stamp = context.places.home / "settings" / f"{stack.name}.sha256"
    return stamp.is_file() and stamp.read_text() == _fingerprint(context.places, stack) and _open_fence(context, stack)


def _bring_up(context: CommandContext, name: str, stack: Stack) -> None:
    if context.settings(name).pods:
        raise RefusedError(f"stack '{name}' must be brought up first, and its settings ask for pods", hint=f"Run: invoke up --stack {name}")
    obtain_store(context, stack)
    with context.ui.stage("up", f"environment {name}"):
        outcome = facade.operate(stack, "up", context.ui.engine_event)
    if not outcome.ok:
        raise outcome.error(f"up of stack '{name}' failed: ")
    mark_up(context.places, stack)


def obtain_store(context: CommandContext, stack: Stack) -> None:
    """Have the program of the local bucket where the stack keeps its results there: an engine would wait for it without a word."""
    settings = context.settings(stack.name)
    if settings.store == "local" and settings.has_bucket:
        from trainyard.storage import local  # S3's libraries take a third of a second, that most commands need not pay

        local.obtain(context.ui.say)


def mark_up(places: Places, stack: Stack) -> None:
    """Remember with which settings, program and plugin an environment's last up succeeded."""
    stamp = places.home / "settings" / f"{stack.name}.sha256"
    stamp.parent.mkdir(parents=True, exist_ok=True)
    stamp.write_text(_fingerprint(places, stack))
    stamp.with_suffix(".destroyed").unlink(missing_ok=True)


def _open_fence(context: CommandContext, stack: Stack) -> bool:
    fences = [lease.fence_id for lease in leases_in(facade.resources(stack))]
    return any(isinstance(fence, str) and not is_closed(context.places.intents, fence) for fence in fences)


def _fingerprint(places: Places, stack: Stack) -> str:
    digest = hashlib.sha256()
    digest.update(f"{stack.settings.name}\0{reader.text_of(stack.settings)}\0".encode())
    files = [places.root / "Pulumi.yaml"]
    package = Path(trainyard.__file__).parent
    for folder in (places.root / "infra", *(package / name for name in ("program", "settings", "provider", "leases", "clouds", "storage"))):
        files += sorted(path for path in folder.rglob("*") if path.is_file() and "__pycache__" not in path.parts)
    for path in files:
        base = next((folder for folder in (places.root, package) if path.is_relative_to(folder)), path.parent)
        digest.update(f"{path.relative_to(base)}\0".encode())
        digest.update(_content(path))
    if not _keeps_results_here(stack):
        # With credentials of a store the environment has a bucket, without them none: the switch needs an up.
        digest.update("\0".join(stores_named(stack.env)).encode())
    return digest.hexdigest()


def _keeps_results_here(stack: Stack) -> bool:
    """Tell whether a stack needs nobody's store: its bucket is the local one, or none."""
    settings = facade.settings_of(stack.name, stack.places, stack.env)
    return settings.store == "local" or not settings.has_bucket


def _content(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError:
        return b"?"
