"""The commands ``trainyard`` and ``invoke``: Invoke, where whatever goes wrong ends in a sentence and a documented exit code.

``trainyard`` has Trainyard's verbs wherever it is called; ``invoke`` has what the repository's tasks.py names.

A usage error is 2 and names what was meant; Ctrl-C is 130 from the first instant; what files, disks and networks
can be is told with its path; a mistake of ours is 70 and says where its traceback was written.
"""

from __future__ import annotations

import os
import signal
import sys

from trainyard.cli.ending import leave_at_once, tell

# Little is loaded before main() has seen to Ctrl-C: what loads takes longer than a person may need.
TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from typing import Any, NoReturn

USAGE = 2


def trainyard() -> NoReturn:
    """Be the command ``trainyard``."""
    main(name="trainyard")


def main(argv: Sequence[str] | None = None, *, name: str = "invoke") -> NoReturn:
    """Run the verbs that a command line names, and end the process. ``name`` is that of the command."""
    # Until a verb begins nothing exists that a Ctrl-C could leave behind, and Python's own would show a traceback.
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, leave_at_once)
    _open_streams()
    try:
        program = _program(name)
        words = list(sys.argv[1:] if argv is None else argv)
        # Alone it says what there is to say; the options of Invoke itself are what nobody looks for then.
        program.run([name, *(words or ["--list"])])
        code = 0
    except SystemExit as left:
        code = left.code if isinstance(left.code, int) else 1 if left.code else 0
    except BaseException as error:
        code = tell(error)
    code = _flushed(code)
    if signal.getsignal(signal.SIGINT) is not signal.SIG_IGN:
        # All is said: one more Ctrl-C only hurries the end, and must not change its code.
        signal.signal(signal.SIGINT, lambda *_: os._exit(code))
        import atexit

        atexit.register(signal.signal, signal.SIGINT, signal.SIG_IGN)  # Python's own end would put the default back
    sys.exit(code)


def _open_streams() -> None:
    """Have all three streams, and none that a letter can break: a closed one's number would go to the next file opened."""
    import io

    for number, name in enumerate(("stdin", "stdout", "stderr")):
        if getattr(sys, name) is None:
            handle = os.open(os.devnull, os.O_RDWR)
            if handle != number:
                os.dup2(handle, number)
            setattr(sys, name, os.fdopen(number, "r" if number == 0 else "w", encoding="utf-8"))
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def _program(name: str) -> Any:
    import contextlib

    from invoke.exceptions import Exit, ParseError
    from invoke.program import Program

    from trainyard import __version__, phrasing
    from trainyard.config import find_root
    from trainyard.errors import UserError

    shown = os.environ.pop("TRAINYARD_TYPED", name)  # not for what this process starts

    class Verbs(Program):
        """Invoke's own program, found from any folder, whose usage errors are sentences with exit code 2."""

        def parse_core(self, argv: Any) -> None:
            with self._usage():
                super().parse_core(help_first(argv) if self.namespace is None else folder_named(help_first(argv)))
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
                phrasing.typed(shown, self.collection.task_names)

        def parse_tasks(self) -> None:
            with self._usage():
                super().parse_tasks()

        def parse_cleanup(self) -> None:
            with self._usage():
                super().parse_cleanup()

        @contextlib.contextmanager
        def _usage(self) -> Iterator[None]:
            try:
                yield
            except (ParseError, ValueError) as error:
                said = usage_problem(self.argv[1:], getattr(self, "collection", None), str(error))
                raise Exit(phrasing.as_typed(said), code=USAGE) from None

    namespace = _namespace(name)
    if namespace is None:
        phrasing.typed(name)
    program: Any = Verbs
    return program(name="Trainyard", binary=name, binary_names=[name], version=__version__, namespace=namespace)


def _namespace(name: str) -> Any:
    """Return the verbs of the command ``trainyard``; Invoke looks for those of ``invoke`` in the repository's tasks.py."""
    if name == "invoke":
        return None
    from trainyard import phrasing
    from trainyard.cli.verbs import verbs

    namespace = verbs()
    phrasing.typed(name, namespace.task_names)
    for word in namespace.task_names:
        verb = namespace[word]
        verb.__doc__ = phrasing.as_typed(verb.__doc__ or "")
        verb.help = {option: phrasing.as_typed(text) for option, text in verb.help.items()}
    return namespace


def help_first(argv: Sequence[str]) -> list[str]:
    """Return ``invoke VERB --help`` as ``invoke --help VERB``, which needs none of the verb's arguments."""
    name, *words = argv
    ours = words[: words.index("--")] if "--" in words else words
    verb = next((word for word in ours if not word.startswith("-")), None)
    if verb is None or not ({"--help"} & set(ours) or ours[-1:] == ["-h"]) or ours[0] in ("--help", "-h"):
        return list(argv)
    return [name, *ours[: ours.index(verb)], "--help", verb]


def folder_named(argv: Sequence[str]) -> list[str]:
    """Return ``init DIR`` as ``init --dir DIR``: Invoke knows no word that may be left out."""
    words = list(argv)
    if words[1:2] != ["init"]:
        return words
    valued = ("--cloud", "-c", "--ci", "-i", "--dir", "-d")
    at = next((at for at in range(2, len(words)) if not words[at].startswith("-") and words[at - 1] not in valued), None)
    return words if at is None else [*words[:2], "--dir", words[at], *words[2:at], *words[at + 1 :]]


def usage_problem(words: Sequence[str], collection: Any, said: str) -> str:
    """Return what is wrong with a command line, and what comes nearest; ``said`` is for what we cannot tell better."""
    from trainyard.nearest import suggest

    verbs = dict.fromkeys(collection.task_names) if collection is not None else {}
    ours = list(words[: words.index("--")] if "--" in words else words)
    asked = ours[ours.index("--help") + 1 :] if "--help" in ours else ours
    verb = next((word for word in asked if not word.startswith("-")), "")
    if verbs and verb not in verbs:
        near = f". Verbs behind it: {', '.join(name for name in verbs if name.startswith(verb + '.'))}"
        return f"there is no verb '{verb}'{near if verb + '.' in ' '.join(verbs) else suggest(verb, verbs)}\ninvoke --list shows them all"
    if not verbs:
        return said
    said_of = _argument_problem(verb, collection[verb].get_arguments(), ours[ours.index(verb) + 1 :])
    return f"{said_of or f'{verb}: the command line cannot be understood: {said}'}\ninvoke --help {verb} shows its options"


def _argument_problem(verb: str, arguments: Sequence[Any], words: Sequence[str]) -> str | None:
    """Return what is wrong with the words behind a verb, None when that cannot be told."""
    from trainyard.nearest import suggest

    known = {f"--{name.replace('_', '-')}" if len(name) > 1 else f"-{name}": each for each in arguments for name in each.names}
    stray, behind = [], iter([*words, "--"])
    word = next(behind)
    while word != "--":
        flag, equals, _ = word.partition("=")
        after = next(behind, "--")
        if flag.startswith("--") and flag not in known:
            return f"{verb} has no option {flag}{suggest(flag, [name for name in known if name.startswith('--')])}"
        if flag in known and known[flag].takes_value and not equals:
            if after.startswith("--"):
                return f"{verb}: {flag} needs a value behind it"
            after = next(behind, "--")
        elif not flag.startswith("-"):
            stray.append(word)
        word = after
    places = [each for each in arguments if each.positional]
    needed = [each.name.upper() for each in places if each.default is None]
    if len(stray) < len(needed):
        return f"{verb} needs {' and '.join(needed)}"
    extra = stray[len(places) :]
    if not extra:
        return None
    own = f": a command of yours stands behind --, like: invoke train -- {' '.join(words[words.index(extra[0]) :])}"
    return f"{verb} takes no word '{extra[0]}'{own if verb == 'train' else ''}"


def _flushed(code: int) -> int:
    """Write out what was printed: a reader that has gone is no error, a full disk is one."""
    try:
        sys.stdout.flush()
        sys.stderr.flush()
    except OSError as error:
        code = tell(error)
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    return code


if __name__ == "__main__":
    from trainyard.cli.commandline import main as run  # the verbs import this module by its name: there must be one of it

    run()
