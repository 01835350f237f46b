"""pause, fail, ping, wait_for_connection: a moment's rest, an end on purpose, and whether the host answers."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import cast

from trainyard.errors import PodFailed, UserError
from trainyard.playbook.actions.answers import script
from trainyard.playbook.schema import Arg, Schema
from trainyard.playbook.steps import AwaitHost, Pause, Step
from trainyard.playbook.values import Variables

PAUSE = Schema("pause", (Arg("seconds", "number"), Arg("minutes", "number"), Arg("prompt")), does="rest for some seconds or minutes")
FAIL = Schema("fail", (Arg("msg"),), free="msg", does="end on purpose, with a message")
PING = Schema("ping", (Arg("data"),), again="reads", does="whether the host answers a command")
WAIT_FOR_CONNECTION = Schema(
    "wait_for_connection", (Arg("timeout", "number"), Arg("delay", "number"), Arg("sleep", "number")), does="wait until the host answers"
)


def pause(args: Mapping[str, object], folder: Path, variables: Variables) -> Step:
    """Rest for as long as is said."""
    if "prompt" in args or not ("seconds" in args or "minutes" in args):
        raise UserError("'pause' needs 'seconds' or 'minutes': in the middle of a run nobody is asked; ask first, with 'vars_prompt'")
    return Pause(cast(float, args.get("seconds", 0)) + 60 * cast(float, args.get("minutes", 0)))


def fail(args: Mapping[str, object], folder: Path, variables: Variables) -> Step:
    """Fail with the message."""
    raise PodFailed(str(args.get("msg", "failed on purpose")))


def ping(args: Mapping[str, object], folder: Path, variables: Variables) -> Step:
    """Have the host say a word."""
    return script("ping", {"data": args.get("data", "pong")})


def wait_for_connection(args: Mapping[str, object], folder: Path, variables: Variables) -> Step:
    """Wait until the host answers again."""
    return AwaitHost(*(float(cast(float, args.get(name, default))) for name, default in (("timeout", 600), ("delay", 0), ("sleep", 1))))
