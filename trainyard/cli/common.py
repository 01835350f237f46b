"""What all verbs share: errors become exit codes, words become values, results are shown. Nothing of a verb's own work."""

from __future__ import annotations

import functools
import json
import os
import sys
from collections.abc import Callable
from contextvars import ContextVar
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from invoke.parser import Argument
from invoke.tasks import Task
from invoke.tasks import task as _task

from trainyard.cli import ending
from trainyard.config import find_root
from trainyard.errors import UnknownRun, UserError

if TYPE_CHECKING:
    from trainyard.runs.context import CommandContext
    from trainyard.runs.records.summary import RunSummary


SHORT = {
    "all-stacks": "a", "budget": "b", "config": "c", "data": "d", "set": "e", "follow": "f", "ci": "i", "json": "j", "key": "k",
    "local-port": "l", "name": "n", "on-bad-row": "o", "partial": "p", "recipe": "r", "stack": "s", "to": "t", "write": "w", "yes": "y",
}  # fmt: skip
"""The short option of each option that has one. It means the same in every verb, but for ``-k``: the ``--key`` of ``adopt`` is a file.

``play`` has those of Ansible beside them."""


class Verb(Task[Any]):
    """A task of Invoke whose short options are those of SHORT: Invoke's own take whichever letter is free."""

    shorts = SHORT

    def get_arguments(self, ignore_unknown_help: bool | None = None) -> list[Argument]:
        """Return the arguments as Invoke makes them, with our short names; what counts how often it is said shows no value."""
        arguments: list[Argument] = super().get_arguments(ignore_unknown_help)
        for argument in arguments:
            long, short = argument.names[0], self.shorts.get(argument.names[0])
            argument.names = (long, short) if short else (long,)
            if argument.incrementable:
                argument.kind = bool  # it takes no number, and Invoke's help says one otherwise
        return arguments


_WORLD: ContextVar[Path | None] = ContextVar("world", default=None)
"""Folder of the rehearsal that the verb has gone into."""

task = functools.partial(_task, klass=Verb)
"""Invoke's decorator, which makes a Verb of a function."""


def verb(function: Callable[..., Any]) -> Callable[..., Any]:
    """Turn what a verb raises into a message for a person and a documented exit code."""

    @functools.wraps(function)
    def run(*args: Any, **kwargs: Any) -> None:
        ending.ready()
        try:
            code = _in_its_world(functools.partial(function, *args, **kwargs))
            sys.stdout.flush()
        except BaseException as error:
            if isinstance(error, SystemExit):
                raise
            code = ending.tell(error)
        ending.send_notices()
        if code:
            sys.exit(code)

    return run


def _in_its_world(call: Callable[[], Any]) -> Any:
    """Call a verb; once more inside a rehearsal that is at work where the run that is meant is there and not here."""
    try:
        return call()
    except UnknownRun as error:
        from trainyard.config import places
        from trainyard.rehearsal.living import entered
        from trainyard.runs.records.identity import is_there
        from trainyard.runs.ui import Ui

        reference = error.reference
        with entered(places(find_root()), os.environ, lambda inner: is_there(inner.runs, reference)) as world:
            if world is None:
                raise
            Ui(json=True).say(f"rehearsal  {reference} is a run of the rehearsal of stack '{world.name}' that is at work here")
            _WORLD.set(world)
            return call()


def context(*, as_json: bool = False, anywhere: bool = False) -> CommandContext:
    """Return what every verb works with: places, environment, and the way to talk to a person.

    ``anywhere``: the verb has something to say outside any repository, too; it works in this folder then.
    """
    from trainyard.runs.context import open_context
    from trainyard.runs.ui import Ui

    ui = Ui(json=as_json)
    try:
        root = find_root()
    except UserError:
        if not anywhere:
            raise
        root = Path.cwd()
    return replace(open_context(root, ui, os.environ), rehearsal=_WORLD.get())


def show_json(value: Any) -> None:
    """Print a value for scripts."""
    print(json.dumps(value, indent=1, default=str))


WORDS = {
    "stack": "environment (default: local; train and submit also take auto: the cheapest)",
    "run": "label or user/label; last: the run that was begun last here",
    "recipe": "what to train: a folder of templates/ (default: what --config names, else lora, or command where one stands behind --)",
    "data": "a file, a folder, s3://, gs://, hf://, https://...#sha256=..., run:USER/LABEL/PATH (default: the recipe's sample)",
    "config": "YAML or JSON file with the recipe's variables (and `recipe: NAME`)",
    "set": "one variable, e.g. --set lr=1e-4 (may be repeated; wins over --config)",
    "name": "label of the run (default: the local time)",
    "hours": "length of the lease (default: the stack's setting `hours`)",
    "budget": "dollars after which it is stopped",
    "yes": "send your files to the stack's cloud without being asked",
    "deliver": "where the result goes after the run, in the background: local, local:DIR, hub:OWNER/REPO (default: the setting `deliver`)",
    "json": "print the result as JSON on stdout, everything else on stderr",
    "ref": "name of the image, e.g. ghcr.io/you/trainyard-trainer:1; without a tag image.build makes one from the recipe and its lock",
}
"""Options that several verbs take."""


def help_of(*words: str, **more: str) -> dict[str, str]:
    """Return the help of a verb's options: those of WORDS by name, the others with their text."""
    return {word: WORDS[word] for word in words} | {name.strip("_").replace("_", "-"): text for name, text in more.items()}


def finish(work: CommandContext, as_json: bool, call: Callable[[], RunSummary]) -> int:
    """Run something that ends in a summary; print it and return the run's exit code."""
    summary = call()
    show_summary(work, summary, as_json)
    return summary.exit_status


def show_summary(work: CommandContext, summary: RunSummary, as_json: bool) -> None:
    """Print a run's summary for a person, or as JSON."""
    if as_json:
        return show_json(asdict(summary))
    from trainyard.runs.life.finish import sync_line
    from trainyard.runs.records.summary import last_lines

    for line in last_lines(summary, sync_line(work, summary), work.rehearsal):
        work.ui.say(line)


def words_behind() -> list[str] | None:
    """Return what stands behind ``--`` on the command line, None without one; Invoke keeps it from the tasks."""
    return sys.argv[sys.argv.index("--") + 1 :] if "--" in sys.argv else None


def recipe_of(name: str | None, config: str | None) -> str:
    """Return the recipe that was asked for, by its name or by a config file.

    A ``--`` asks for the one that runs a command, also where an empty variable is behind it.
    """
    from trainyard.runs.verbs.train import recipe_of as named

    return named(name, optional_path(config), words_behind())


def required(value: str | None, message: str, hint: str | None = None) -> str:
    """Return a word that has to be there; raises UserError where it is not."""
    if value is None:
        raise UserError(message, hint=hint)
    return value


def only_stack(stack: str | None, *, all_stacks: bool) -> str | None:
    """Return the one stack that is meant, None for all of them; raises UserError where a command says both."""
    if stack is not None and all_stacks:
        raise UserError(f"--stack {stack} is one stack and --all-stacks are all of them", hint="Say one of the two.")
    return None if all_stacks else stack or "local"


def optional_path(value: str | None) -> Path | None:
    """Return a word as a path."""
    return Path(value) if value else None


def like_setting(name: str, value: Any) -> float | None:
    """Return the number of an option that stands for the setting of its name; raises UserError for what the setting could not be."""
    from trainyard.runs.verbs.train import number_like

    return number_like(name, value, f"--{name}")
