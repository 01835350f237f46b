"""shell, command, raw, script: anything at all, with ``creates`` and ``removes`` to say when it is done."""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from trainyard.errors import UserError
from trainyard.playbook.natives import Variables
from trainyard.playbook.schema import Arg, Schema, text_or_none
from trainyard.playbook.sources import no_file
from trainyard.playbook.steps import CommandAction, Step
from trainyard.remote.protocol import quote
from trainyard.shellscript import load

_GUARDS = (Arg("creates", "path", empty=True), Arg("removes", "path", empty=True), Arg("chdir", "path", empty=True))
_COMMON = (*_GUARDS, Arg("stdin"), Arg("stdin_add_newline", "bool"), Arg("strip_empty_ends", "bool"))
SHELL = Schema(
    "shell", (Arg("cmd", required=True), Arg("executable", "path"), *_COMMON), free="cmd",
    does="run a text as sh does, or another shell (executable)",
)  # fmt: skip
COMMAND = Schema(
    "command", (Arg("cmd"), Arg("argv", "list"), Arg("expand_argument_vars", "bool"), *_COMMON), free="cmd", one_of=(("cmd", "argv"),),
    does="run a program with its arguments, no shell between",
)  # fmt: skip
RAW = Schema(
    "raw", (Arg("cmd", required=True), Arg("executable", "path")), free="cmd",
    does="run a text as it is; here the same as shell, for no action needs Python on the host",
)  # fmt: skip
SCRIPT = Schema(
    "script", (Arg("cmd", required=True), Arg("executable"), *_GUARDS), free="cmd",
    does="run a program of this machine on the host, which keeps nothing of it",
)  # fmt: skip
_VARIABLE = re.compile(r"\$(?:([A-Za-z_][A-Za-z0-9_]*)|\{([A-Za-z_][A-Za-z0-9_]*)\})")


def shell(args: Mapping[str, object], folder: Path, variables: Variables) -> Step:
    """Run text as POSIX sh, or as another shell reads it."""
    return _run(_by(args), args, str(args["cmd"]))


def command(args: Mapping[str, object], folder: Path, variables: Variables) -> Step:
    """Run a program with its arguments; no shell looks at them, but ``$NAME`` and ``~`` stand for what they are on the host."""
    argv = args.get("argv")
    try:
        words = [str(word) for word in argv] if isinstance(argv, list) else shlex.split(str(args["cmd"]))
    except ValueError as error:
        raise UserError(f"'command': {error} in: {args['cmd']}") from None
    if not words:
        raise UserError("'command' has nothing to run")
    as_word = _expanding if args.get("expand_argument_vars", True) else quote
    return _run(" ".join(as_word(word) for word in words), args, words)


def raw(args: Mapping[str, object], folder: Path, variables: Variables) -> Step:
    """Run text without looking at what it says."""
    return CommandAction(_by(args), strip=False)


def script(args: Mapping[str, object], folder: Path, variables: Variables) -> Step:
    """Send a program, run it with its arguments, and remove it."""
    name, _, words = str(args["cmd"]).strip().partition(" ")
    if name[:1] in ("'", '"'):
        name, *rest = shlex.split(str(args["cmd"]))
        words = " ".join(map(quote, rest))
    path = Path(name).expanduser()
    src = next((place for place in (folder / "files" / path, folder.parent / "files" / path) if place.is_file()), folder / path)
    if not src.is_file():
        raise UserError(f"'script': {no_file(src)}, nor one in 'files'")
    program = f"{args['executable']} " if args.get("executable") else ""
    text = f'{load(__package__, "script")}{program}"$script" {words} </dev/null'
    return replace(_run(text, {**args, "strip_empty_ends": False}, None, src.read_bytes()), skips=True)


def _by(args: Mapping[str, object]) -> str:
    text = str(args["cmd"])
    return f"exec {quote(args['executable'])} -c {quote(text)}" if args.get("executable") else text


def _run(text: str, args: Mapping[str, object], cmd: object, stdin: bytes | None = None) -> CommandAction:
    if args.get("stdin") is not None:
        stdin = (str(args["stdin"]) + ("\n" if args.get("stdin_add_newline", True) else "")).encode()
    chdir, creates, removes = (text_or_none(args, name) or None for name in ("chdir", "creates", "removes"))
    strip = bool(args.get("strip_empty_ends", True))
    return CommandAction(text, stdin, chdir, creates, removes, strip=strip, said={} if cmd is None else {"cmd": cmd})


def _expanding(word: str) -> str:
    """Return one word of sh in which names of variables, and a ``~`` at its beginning, mean what they mean on the host."""
    home = match[0] if (match := re.match(r"~[A-Za-z0-9._-]*(?=/|$)", word)) else ""
    rest = word[len(home) :]
    pieces: list[str] = []
    at = 0
    for match in _VARIABLE.finditer(rest):
        name = match[1] or match[2]
        unset = match[0].replace("}", "\\}")  # one that the host does not have stays as it is written
        pieces += [quote(rest[at : match.start()]) if match.start() > at else "", f'"${{{name}-\\{unset}}}"']
        at = match.end()
    last = quote(rest[at:]) if rest[at:] or not (home or pieces) else ""
    return home + "".join(pieces) + last
