"""One facade over the two engines: up, preview, refresh, destroy, outputs, remove."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

from trainyard.config import PROJECT, Places, settings_file
from trainyard.engine import locks
from trainyard.engine.codec import plain
from trainyard.engine.secrets import Crypter
from trainyard.engine.values import from_state, has_secret
from trainyard.errors import EngineError, TrainyardError, UserError
from trainyard.jsontext import parse_json
from trainyard.nearest import suggest
from trainyard.problems import Problem
from trainyard.settings import reader
from trainyard.settings.approval import approval_rules
from trainyard.settings.table import ENGINES, StackSettings
from trainyard.stacks import builtin, cli, installed
from trainyard.stacks.model import EngineName, Event, OnEvent, Operation, OperationOutcome, Stack
from trainyard.stacks.passphrase import passphrase
from trainyard.stacks.settings import ensure_stack, salt_of
from trainyard.stacks.state import backend, state_of
from trainyard.storage.groups import refuse_keyless
from trainyard.storage.rules import declared_rules
from trainyard.textfile import expanded
from trainyard.yamlfile import Map

LOCK_TRIES = 60
LOCK_PAUSE = 2.0
"""Two minutes in all: longer than an engine takes to finish a create that was accepted."""


def environment_stack(name: str, places: Places, env: Mapping[str, str]) -> Stack:
    """Return the stack of an environment; raises UserError when it has no settings file."""
    return Stack(name, places, env, settings_file(places.root, name))


def choose_engine(stack: Stack) -> tuple[EngineName, Path | None]:
    """Return the engine for a stack and, for ``cli``, its binary.

    ``TRAINYARD_ENGINE`` wins over ``trainyard:engine``; ``auto`` means the CLI when it and the command plugin
    are found. Raises UserError for an unknown name, a ``cli`` that is not there, or a backend only the CLI knows.
    """
    name = stack.env.get("TRAINYARD_ENGINE") or reader.partly_at(stack.settings, stack.environment, "engine").engine
    if name not in ENGINES:
        known = ", ".join(ENGINES)
        raise UserError(f"engine '{name}' is not known{suggest(name, ENGINES)}", hint=f"Engines: {known}.")
    if name == "builtin":
        binary = None
    else:
        binary = installed.find(stack.env)
        if name == "cli" and binary is None:
            need = ".".join(map(str, installed.MINIMUM))
            raise UserError(f"the Pulumi CLI ({need} or newer) is not on PATH", hint="Install it, or set TRAINYARD_ENGINE=builtin.")
        if name == "auto" and binary is not None and not installed.has_command_plugin(stack.env):
            binary = None
    if binary is None and backend(stack) is None:
        raise UserError("the built-in engine keeps its state in file:// only", hint="Install the Pulumi CLI for this backend.")
    return ("cli", binary) if binary else ("builtin", None)


def operate(
    stack: Stack,
    operation: Operation,
    on_event: OnEvent = lambda event: None,
    *,
    sleep: Callable[[float], None] = time.sleep,
    tries: int = LOCK_TRIES,
) -> OperationOutcome:
    """Run one operation on the stack's engine and return what it did; a failure is told by the outcome, not raised.

    A stack that another living engine works on is waited for: a killed controller's engine finishes its work first.
    """
    ensure_stack(stack)
    outcome = _once(stack, operation, on_event)
    for attempt in range(tries):
        if outcome.problem.kind != "busy":
            break
        if attempt == 0:
            on_event({"event": "diagnostic", "severity": "warning", "message": "another engine works on this stack; waiting for it"})
        sleep(LOCK_PAUSE)
        outcome = _once(stack, operation, on_event)
    return outcome


def outputs(stack: Stack) -> dict[str, object]:
    """Return the stack's outputs with secrets in clear, read from the state; {} before the first up."""
    encrypted = _outputs_in_state(stack)
    masked = from_state(encrypted, None, "outputs")
    # The key takes 0.4 s to derive: only where there is a secret.
    clear: dict[str, object] = plain(from_state(encrypted, encrypter(stack), "outputs") if has_secret(masked) else masked)
    return clear


def plain_outputs(stack: Stack) -> dict[str, object]:
    """Return those of the stack's outputs that hold no secret, for which no key is derived; {} before the first up."""
    return {name: plain(value) for name, item in _outputs_in_state(stack).items() if not has_secret(value := from_state(item, None, name))}


def _outputs_in_state(stack: Stack) -> dict[str, Any]:
    for resource in resources(stack):
        if resource.get("type") == "pulumi:pulumi:Stack":
            stack_outputs = resource.get("outputs") or {}
            assert isinstance(stack_outputs, dict)
            return stack_outputs
    return {}


def exists(stack: Stack) -> bool:
    """Tell whether there is such a stack."""
    return state_of(stack).exists()


def resources(stack: Stack) -> list[Event]:
    """Return the resources in a stack's state (secrets still encrypted), [] when there is no such stack."""
    return list(state_of(stack).latest().get("resources") or [])


def readable_resources(stack: Stack) -> list[Event]:
    """Return the resources in a stack's state or, where its file is damaged, in the last good version of it."""
    try:
        return resources(stack)
    except EngineError:
        store = backend(stack)
        backup = store.last_good_backup(PROJECT, stack.name) if store is not None else None
        if backup is None:
            return []
        document = parse_json(backup.read_bytes())
        return list((document["checkpoint"].get("latest") or {}).get("resources") or [])


def archive(stack: Stack, path: Path) -> None:
    """Write a copy of the stack's state, nothing when there is none."""
    state_of(stack).archive(path)


def remove(stack: Stack) -> None:
    """Remove the stack; refuses (EngineError) while it holds resources."""
    state_of(stack).remove()
    (stack.places.home / "settings" / f"Pulumi.{stack.name}.yaml").unlink(missing_ok=True)


def encrypter(stack: Stack) -> Crypter:
    """Return the crypter of a stack's secrets; raises EngineError for a wrong passphrase."""
    salt = salt_of(stack)
    if salt is None:
        raise EngineError(f"the state of stack '{stack.name}' has no salt")
    return Crypter(passphrase(stack.places, stack.env), salt)


def warm(stack: Stack) -> None:
    """Derive the key of a stack's secrets ahead of its first use; what is wrong is told by that use."""
    with contextlib.suppress(TrainyardError, OSError, UnicodeError):
        if salt_of(stack) is not None:
            encrypter(stack).check()


def settings_of(name: str, places: Places, env: Mapping[str, str]) -> StackSettings:
    """Return an environment's settings; raises UserError for anything wrong in its file, or named there and not to be had here."""
    settings = reader.load(places.root, name)
    declared_rules(cast("Sequence[Map]", settings.lifecycle))
    approval_rules(settings.approve)
    try:
        if settings.ssh_key_file is not None:
            from trainyard.remote.keys import own_public_key  # loads what most stacks do without

            own_public_key(expanded(settings.ssh_key_file), f"{PROJECT}:ssh_key_file")
    except UserError as error:
        raise UserError(error.message, where=reader.place_of(places.root, name, "ssh_key_file"), hint=error.hint) from None
    if settings.store not in (None, "local") and settings.has_bucket:
        refuse_keyless(env, str(settings.store), reader.place_of(places.root, name, "store"))
    return settings


def _once(stack: Stack, operation: Operation, on_event: OnEvent) -> OperationOutcome:
    engine, binary = choose_engine(stack)
    name = reader.partly_at(stack.settings, stack.environment).cloud
    if engine == "builtin":
        return builtin.operate(stack, operation, name, on_event)
    assert binary is not None
    _clear_dead_locks(stack, on_event)
    _drop_cut_side_file(stack)
    outcome = cli.operate(binary, stack, operation, name, on_event)
    if backend(stack) is None:
        return outcome
    if not outcome.ok and not outcome.problems and operation != "preview" and (held := _locks(stack)):
        # The CLI has a code for nothing: a lock that is still there says why it did nothing.
        return replace(outcome, problems=(Problem("busy", "\n".join(map(str, held))),))
    why = _what_the_cli_left(stack, operation, outcome)
    if why is None:
        return outcome
    on_event({"event": "diagnostic", "severity": "warning", "message": f"the Pulumi CLI {why}; the built-in engine goes on"})
    return builtin.operate(stack, operation, name, on_event)


def _what_the_cli_left(stack: Stack, operation: Operation, outcome: OperationOutcome) -> str | None:
    """Return why what the CLI was asked for has to be finished by the built-in engine, None when it has not."""
    if operation not in ("up", "destroy"):
        return None
    latest = state_of(stack).latest()
    # Measured: after a replace that was cut in two the CLI's up fails ("unknown provider"), until the stack is destroyed.
    cut = {resource.get("urn") for resource in latest.get("resources") or [] if resource.get("pendingReplacement")}
    if any(problem.kind != "unreachable" or problem.urn not in cut for problem in outcome.problems):
        return None  # a provider or the program has said no: it would say so again
    if operation == "up":
        return "does not get past a replace that was cut in two" if cut and not outcome.ok else None
    if not outcome.ok:
        # Measured: the CLI stops before it deletes anything when the plugin of any resource is missing.
        return "has not destroyed all"
    # Measured: the CLI destroys around a create that a crash left open, and the stack can then never be removed.
    return "leaves a create without outcome in the state" if latest.get("pending_operations") else None


def _drop_cut_side_file(stack: Stack) -> None:
    """Remove the CLI's side file of the checkpoint when a crash has cut it short: the CLI can then read no checkpoint at all."""
    store = backend(stack)
    if store is None:
        return
    path = store.checkpoint_path(PROJECT, stack.name)
    side = path.with_name(path.name + ".attrs")
    try:
        parse_json(side.read_bytes())
    except FileNotFoundError:
        return
    except ValueError:
        # What it holds (a type, a checksum) is written again with the next state.
        if not store.locks(PROJECT, stack.name):
            side.unlink(missing_ok=True)


def _locks(stack: Stack) -> list[locks.Lock]:
    store = backend(stack)
    return locks.find(store.root, PROJECT, stack.name) if store is not None else []


def _clear_dead_locks(stack: Stack, on_event: OnEvent) -> None:
    def say(text: str) -> None:
        on_event({"event": "diagnostic", "severity": "warning", "message": text})

    store = backend(stack)
    if store is not None:
        locks.cancel(store.root, PROJECT, stack.name, say)
