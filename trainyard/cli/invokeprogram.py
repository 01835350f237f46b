"""Invoke's own program with Trainyard's verbs: found from any folder, its usage errors are sentences with exit code 2."""

from __future__ import annotations

import contextlib
import io
import os
import sys
from collections.abc import Iterator, Sequence
from typing import Any

from invoke.collection import Collection
from invoke.exceptions import Exit, ParseError
from invoke.parser import Parser, ParserContext
from invoke.program import Program

from trainyard import __version__, phrasing
from trainyard.cli.common import Verb
from trainyard.cli.usage import folder_named, help_first, names_of, runs_named, usage_problem
from trainyard.config import find_root, places
from trainyard.errors import UserError

_USAGE = 2


class _Verbs(Program):
    def __init__(self, name: str, namespace: Collection | None) -> None:
        super().__init__(name="Trainyard", binary=name, binary_names=[name], version=__version__, namespace=namespace)
        self._shown = os.environ.pop(phrasing.TYPED, name)  # not for what this process starts

    def parse_core(self, argv: Any) -> None:
        with self._usage(), _script_mended(argv):
            words = runs_named(help_first(argv))
            super().parse_core(words if self.namespace is None else folder_named(words))
        if self.namespace is None and not self.args["search-root"].value:
            # Outside our repositories it is Invoke as anywhere: who has it on PATH from us has other projects, too.
            with contextlib.suppress(UserError):
                self.args["search-root"].value = str(find_root())
        if self.namespace is not None or self.args["search-root"].value:
            # Invoke forbids Python to keep what it compiles: each command would compile a hundred files again.
            sys.dont_write_bytecode = bool(sys.flags.dont_write_bytecode)

    def load_collection(self) -> None:
        try:
            super().load_collection()
        except Exit:
            find_root()  # says more, where this is no repository
            raise
        if self.namespace is None:
            phrasing.typed(self._shown, names_of(self.collection))

    def parse_tasks(self) -> None:
        with self._usage():
            super().parse_tasks()
            self._refuse_options_of_invoke()

    def _make_parser(self) -> Parser:
        """Return a parser of the verbs that the words name: Invoke's knows all, and copies all that it knows again and again."""
        words = {*self.core.unparsed, *self.core.remainder.split(), self.args.help.value}
        named = {name: aliases for name, aliases in self.collection.task_names.items() if not words.isdisjoint((name, *aliases))}
        ignored = self.config.tasks.ignore_unknown_help
        verbs = [ParserContext(name, aliases, self.collection[name].get_arguments(ignored)) for name, aliases in named.items()]
        return Parser(verbs, self.initial_context)

    def _refuse_options_of_invoke(self) -> None:
        """Refuse an option of Invoke's own behind a verb of ours: none does anything there, and `-d` was once --dry-run."""
        seen = [argument.name for argument in self.core_via_tasks.args.values() if argument.got_value and argument.name != "help"]
        if seen and any(isinstance(self.collection[each.name], Verb) for each in self.tasks):
            raise ParseError(f"--{seen[0]} is no option of a verb")

    def parse_cleanup(self) -> None:
        with self._usage():
            if self.args["complete"].value:
                self._complete()
            super().parse_cleanup()

    def _complete(self) -> None:
        """Print what of this repository may stand at the cursor, and exit; else return: Invoke knows verbs and options."""
        from trainyard.cli.completion import candidates

        with contextlib.suppress(UserError, OSError):  # outside any repository
            offered = candidates(self.core.remainder.split(" ")[1:], self.collection, places())
            if offered is not None:
                print(*offered, sep="\n", end="\n" if offered else "")
                raise Exit

    @contextlib.contextmanager
    def _usage(self) -> Iterator[None]:
        try:
            yield
        except (ParseError, ValueError) as error:
            said = usage_problem(self.argv[1:], getattr(self, "collection", None), str(error))
            raise Exit(phrasing.as_typed(said), code=_USAGE) from None


@contextlib.contextmanager
def _script_mended(argv: Sequence[str]) -> Iterator[None]:
    """Print a shell's completion script so that it tells an empty word at the cursor, too."""
    if not any(word.startswith("--print-completion-script") for word in argv):
        yield
        return
    from trainyard.cli.completion import with_empty_words

    script = io.StringIO()
    try:
        with contextlib.redirect_stdout(script):
            yield
    finally:
        print(with_empty_words(script.getvalue()), end="")


def program_of(name: str) -> Program:
    """Return what carries the command ``trainyard`` or ``invoke`` out."""
    namespace = _namespace(name)
    if namespace is None:
        phrasing.typed(name)
    return _Verbs(name, namespace)


def _namespace(name: str) -> Collection | None:
    """Return the verbs of the command ``trainyard``; Invoke looks for those of ``invoke`` in the repository's tasks.py."""
    if name == "invoke":
        return None
    from trainyard.cli.verbs import verbs

    namespace = verbs()
    phrasing.typed(name, names_of(namespace))
    for word in namespace.task_names:
        verb = namespace[word]
        verb.__doc__ = phrasing.as_typed(verb.__doc__ or "")
        verb.help = {option: phrasing.as_typed(text) for option, text in verb.help.items()}
    return namespace
