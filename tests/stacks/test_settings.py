"""The salt of a stack's secrets: in its state, in the copy that an engine reads, and not for long in a tracked file."""

from __future__ import annotations

from pathlib import Path

import pytest

from trainyard.config import places
from trainyard.engine.secrets import new_salt
from trainyard.stacks.model import Stack
from trainyard.stacks.settings import engine_settings, ensure_stack, salt_of

PLAIN = "# mine\nconfig:\n  trainyard:cloud: local\n"


@pytest.fixture
def stack(tmp_path: Path) -> Stack:
    (tmp_path / "Pulumi.dev.yaml").write_text(PLAIN)
    env = {"PULUMI_CONFIG_PASSPHRASE": "p", "TRAINYARD_LOCAL_ROOT": str(tmp_path / "o"), "XDG_CONFIG_HOME": str(tmp_path / "c")}
    made = Stack("dev", places(tmp_path, env), env, tmp_path / "Pulumi.dev.yaml")
    ensure_stack(made)
    return made


def test_the_copy_for_an_engine_carries_the_state_s_salt_and_the_tracked_file_none(stack: Stack) -> None:
    copy = engine_settings(stack).read_text()

    assert copy == f"{PLAIN}encryptionsalt: {salt_of(stack)}\n"
    assert stack.settings.read_text() == PLAIN


def test_a_salt_that_plain_pulumi_wrote_is_taken_out_again(stack: Stack) -> None:
    stack.settings.write_text(f"{PLAIN}encryptionsalt: {salt_of(stack)}\n")

    assert engine_settings(stack).read_text() == f"{PLAIN}encryptionsalt: {salt_of(stack)}\n"
    assert stack.settings.read_text() == PLAIN


def test_a_salt_that_no_secret_of_the_file_needs_gives_way_to_the_state_s(stack: Stack) -> None:
    """``pulumi stack init`` writes a new one when a stack moves to another backend."""
    stack.settings.write_text(f"{PLAIN}encryptionsalt: {new_salt('p')}\n")

    assert engine_settings(stack).read_text() == f"{PLAIN}encryptionsalt: {salt_of(stack)}\n"
    assert stack.settings.read_text() == PLAIN


def test_a_salt_that_a_secret_of_the_file_needs_stays(stack: Stack) -> None:
    text = f"{PLAIN}  trainyard:token:\n    secure: v1:abc\nencryptionsalt: {new_salt('p')}\n"
    stack.settings.write_text(text)

    assert engine_settings(stack).read_text() == text
    assert stack.settings.read_text() == text
