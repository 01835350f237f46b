"""The settings an engine reads: a copy of the user's file that carries the salt, so that the tracked one never has to.

Plain ``pulumi`` writes an ``encryptionsalt`` into the tracked file; when it is the state's own, or no secret stands
in the file, the next command of ours takes it out again.
"""

from __future__ import annotations

import re
from pathlib import Path

from trainyard.engine.backend import salt_of as salt_in_state
from trainyard.engine.secrets import new_salt
from trainyard.filelock import hold_lock
from trainyard.files import write_atomic
from trainyard.settings.reader import text_of
from trainyard.stacks.model import Stack
from trainyard.stacks.passphrase import passphrase
from trainyard.stacks.state import state_of

_SALT_LINE = re.compile(r"^encryptionsalt:[ \t]*(\S+)[ \t]*\r?\n?", re.MULTILINE)
_SECURE = re.compile(r"\bsecure:")


def ensure_stack(stack: Stack, *, salt: str | None = None) -> None:
    """Make the stack, empty, salt inside, when there is none yet (never by ``stack init`` alone)."""
    state = state_of(stack)
    if state.exists():
        return
    with hold_lock(stack.places.home / "locks" / f"new-{stack.name}"):
        if not state.exists():  # two first commands at once: the other one has made it meanwhile
            state.create(salt or _salt_in(stack.settings) or new_salt(passphrase(stack.places, stack.env)))


def salt_of(stack: Stack) -> str | None:
    """Return the salt in a stack's state."""
    return salt_in_state({"latest": state_of(stack).latest()})


def engine_settings(stack: Stack) -> Path:
    """Write the copy of the settings that an engine is given, and return its path."""
    salt = salt_of(stack)
    text = text_of(stack.settings)
    tracked = _SALT_LINE.search(text)
    if tracked and salt and (salt == tracked[1] or not _SECURE.search(text)):
        text, tracked = _SALT_LINE.sub("", text), None
        write_atomic(stack.settings, text, durable=True)
    if salt and not tracked:
        text = text.rstrip("\n") + f"\nencryptionsalt: {salt}\n"
    folder = stack.places.home / "settings"
    folder.mkdir(parents=True, exist_ok=True)
    copy = folder / f"Pulumi.{stack.name}.yaml"
    write_atomic(copy, text, durable=False)
    return copy


def _salt_in(path: Path) -> str | None:
    match = _SALT_LINE.search(text_of(path))
    return match[1] if match else None
