"""shell and command: anything at all, with ``creates`` and ``removes`` to say when it is done."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from pathlib import Path

from trainyard.errors import UserError
from trainyard.playbook.schema import Arg, Schema, text_or_none
from trainyard.playbook.steps import CommandAction, Step
from trainyard.playbook.values import Variables
from trainyard.remote.protocol import quote

_COMMON = (
    Arg("creates", "path", empty=True), Arg("removes", "path", empty=True), Arg("chdir", "path", empty=True), Arg("stdin"),
)  # fmt: skip
SHELL = Schema("shell", (Arg("cmd", required=True), *_COMMON), free="cmd", does="run lines of sh")
COMMAND = Schema(
    "command", (Arg("cmd"), Arg("argv", "list"), *_COMMON), free="cmd", one_of=(("cmd", "argv"),), does="run a program, without a shell",
)  # fmt: skip


def shell(args: Mapping[str, object], folder: Path, variables: Variables) -> Step:
    """Run text as POSIX sh."""
    return _run(str(args["cmd"]), args)


def command(args: Mapping[str, object], folder: Path, variables: Variables) -> Step:
    """Run a program with its arguments; no shell looks at them."""
    words = args.get("argv")
    if not isinstance(words, list):
        try:
            words = shlex.split(str(args["cmd"]))
        except ValueError as error:
            raise UserError(f"'command': {error} in: {args['cmd']}") from None
    if not words:
        raise UserError("'command' has nothing to run")
    return _run(" ".join(quote(word) for word in words), args)


def _run(text: str, args: Mapping[str, object]) -> CommandAction:
    stdin = args.get("stdin")
    return CommandAction(
        text, None if stdin is None else str(stdin).encode(),
        *(text_or_none(args, name) or None for name in ("chdir", "creates", "removes")),
    )  # fmt: skip
