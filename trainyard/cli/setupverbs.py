"""The verb that gets things ready: tools, keys and files of stacks. Parsing and typing only."""

from __future__ import annotations

import getpass
import sys
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from invoke.context import Context

from trainyard.cli.common import context, help_of, show_json, task, verb
from trainyard.errors import UserError
from trainyard.reading import Shape, read
from trainyard.textfile import expanded, read_text

if TYPE_CHECKING:
    from trainyard.doctor.wizard import SetupReport
    from trainyard.runs.ui import Listener


@task(
    iterable=["stack", "store", "gpu", "setting"],
    help=help_of(
        "json",
        stack="a cloud, or a stack of this repository, whose keys and file are wanted (may be repeated); without any: the tools alone",
        all="every cloud and store: at a terminal all are asked for, else those whose keys are there",
        store="a store of results: r2, aws or runpod (may be repeated)",
        keys_from="file of NAME=VALUE lines with keys; - reads them from stdin. No option takes a key itself: the shell would remember it",
        gpu="GPU of the stack, in order of preference (may be repeated)",
        max_price="dollars an hour above which nothing is rented there",
        setting="one setting of the stack, e.g. --setting hosts=gpu1,gpu2 or --setting login=me@login (may be repeated)",
        force="write keys that are refused, too",
        wait="seconds that clouds have for their answers (default: 15)",
    ),
)  # fmt: skip
@verb
def setup(
    c: Context, stack: Any = None, all: bool = False, store: Any = None, keys_from: str | None = None, gpu: Any = None,
    max_price: str | None = None, setting: Any = None, force: bool = False, wait: str = "15", json: bool = False,
) -> int:  # fmt: skip
    """Get ready: the tools; or with --stack, --store or --all the keys of clouds and stores, tried and written into .env."""
    if not (stack or store or all or keys_from):
        if gpu or max_price or setting:
            raise UserError("settings are those of a stack: say which", hint="Like: invoke setup --stack vast --gpu H100")
        return _tools()
    from trainyard.doctor.wizard import SetupRequest, lines, set_up

    words = [*(setting or ()), *([f"gpu={','.join(gpu)}"] if gpu else []), *([f"max_price={max_price}"] if max_price else [])]
    request = SetupRequest(
        stacks=tuple(stack or ()), stores=tuple(store or ()), every=all, keys=_keys(keys_from), settings=_settings(words), force=force,
        patience=float(str(read(Shape(kind="number", above=0), wait, "--wait"))),
    )  # fmt: skip
    work = context(as_json=json)
    at_terminal = not json and keys_from is None and sys.stdin is not None and sys.stdin.isatty()
    report = set_up(work, request, _Terminal(work.ui) if at_terminal else None)
    if json:
        show_json(_data(report))
    else:
        work.ui.say("\n".join(lines(report)))
    return report.exit_code


def _tools() -> int:
    import os

    from trainyard.setup import s3server, tools

    tools.main(Path.cwd(), os.environ)
    return 0 if s3server.find() else 2


def _keys(source: str | None) -> dict[str, str]:
    from trainyard.envfile import parse_env

    if source is None:
        return {}
    try:
        text, name = (sys.stdin.read(), "stdin") if source == "-" else (read_text(expanded(source), source), source)
    except FileNotFoundError:
        raise UserError(f"--keys-from {source}: there is no such file") from None
    keys = parse_env(text, name)
    if not keys:
        raise UserError(f"--keys-from {source}: there is no NAME=VALUE line in it")
    return keys


def _settings(words: list[str]) -> dict[str, str]:
    said = {}
    for word in words:
        name, sign, value = word.partition("=")
        if not sign:
            raise UserError(f"--setting {word}: expected NAME=VALUE", hint="Like: --setting login=me@login.cluster.example")
        said[name.removeprefix("trainyard:")] = value
    return said


def _data(report: SetupReport) -> dict[str, Any]:
    rows = (*((stack.name, stack.holder) for stack in report.stacks), *((each.of, each) for each in report.stores))
    return {
        "accounts": [{"name": name, "verdict": holder.verdict, "says": holder.says, "hint": holder.hint} for name, holder in rows],
        "env": report.written, "files": [f"Pulumi.{stack.name}.yaml" for stack in report.stacks if stack.written],
        "ready": report.ready, "notes": report.notes,
    }  # fmt: skip


@dataclass(frozen=True, slots=True)
class _Terminal:
    """A person at this terminal. Of a secret nothing that is typed is shown."""

    ui: Listener

    def secret(self, name: str) -> str:
        with warnings.catch_warnings():
            warnings.simplefilter("error", getpass.GetPassWarning)
            try:
                return getpass.getpass(f"  {name}: ").strip()
            except getpass.GetPassWarning:
                hint = "Hand it in: invoke setup --keys-from FILE, or - for stdin."
                raise UserError("this terminal would show what is typed: no key is asked for", hint=hint) from None
            except EOFError:
                return ""

    def words(self, name: str) -> str:
        return self.ui.answer_to(f"  {name}: ")

    def say(self, text: str) -> None:
        self.ui.say(text)
