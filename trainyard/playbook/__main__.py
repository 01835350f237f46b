"""Run playbooks from the command line: ``python -m trainyard.playbook FILE... [options]``.

Hosts come from inventories and from names of one's own ssh_config; without either the only host is this machine.
Exit codes: 0, 2 a host failed or the playbook is wrong, 5 a host was unreachable; broken off: 130 by Ctrl-C, 141 when nobody
reads the output any more, 143 by SIGTERM.
"""

from __future__ import annotations

import argparse
import atexit
import contextlib
import functools
import gc
import io
import os
import shlex
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO, NoReturn

from trainyard.errors import TrainyardError, UserError
from trainyard.phrasing import as_typed
from trainyard.playbook.checks import check_everything
from trainyard.playbook.elsewhere import OPTIONS
from trainyard.playbook.ending import Terminated, terminable
from trainyard.playbook.executor import MOST_AT_ONCE, Host, planned, run
from trainyard.playbook.extravars import extra_vars
from trainyard.playbook.goingon import again
from trainyard.playbook.hosts.inventory import Inventory
from trainyard.playbook.hosts.playways import WaysOfPlays
from trainyard.playbook.hosts.sources import add_named, read
from trainyard.playbook.listing import lines
from trainyard.playbook.loader import load_all
from trainyard.playbook.model import Play, Playbook
from trainyard.playbook.report import Report, TextReporter
from trainyard.playbook.selection import Tags, hosts_of
from trainyard.playbook.vault import password_from
from trainyard.remote.transport import LocalTransport

_PROGRAM = "python -m trainyard.playbook"


def main(argv: Sequence[str] | None = None, command: str | None = None, inventory: Inventory | None = None) -> int:
    """Run the command line; return the exit code.

    ``command``: what a person types before the options, with the playbook in it. ``inventory``: hosts that are known
    already, to which those of the options are added.
    """
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")
    try:
        options = _parser(command).parse_args(argv)
        playbooks = load_all(options.playbook)
        known = _inventory(options, inventory)
        if options.syntax_check:
            folder = playbooks[0].path.parent
            there = [known.variables(name, folder) for name in known.hosts]
            check_everything(_together(playbooks), there, extra_vars(options.extra_vars))
            for path in options.playbook:
                print(f"{path}: nothing wrong")
            return 0
        book = _together(playbooks)
        if options.list_hosts or options.list_tasks or options.list_tags:
            return _list(book, options, known)
        report = _run(book, options, known)
        typed = command or f"{_PROGRAM} {shlex.join(map(str, options.playbook))}"
        if (how := again(book, report, typed, options, _parser(command))) is not None:
            print(as_typed(how), file=sys.stderr)
        return report.exit_code
    except TrainyardError as error:
        print(as_typed(str(error)), file=sys.stderr)
        return error.exit_code
    except Terminated as left:
        print(f"ended by {left}", file=sys.stderr)
        return left.exit_code
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130
    except BrokenPipeError:
        # Nobody reads on. Python's last flush would only say so once more.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141


def _run(book: Playbook, options: argparse.Namespace, known: Inventory) -> Report:
    with contextlib.ExitStack() as stack, terminable():
        hosts = _hosts(known, options, book.plays, stack)
        log = stack.enter_context(_opened(options.log))
        return run(
            book, hosts, extra_vars(options.extra_vars), check=options.check, diff=options.diff,
            tags=_words(options.tags), skip_tags=_words(options.skip_tags), start_at=options.start_at_task,
            groups=known.members() if known.hosts else None, limit=options.limit, forks=options.forks, become=options.become,
            reporter=TextReporter(_Lines(log).write, verbose=options.verbose),
        )  # fmt: skip


def _opened(path: Path | None) -> contextlib.AbstractContextManager[IO[str] | None]:
    """Open the file that gets all lines, too; it is never shortened."""
    if path is None:
        return contextlib.nullcontext()
    try:
        return path.open("a", encoding="utf-8")
    except OSError as error:
        raise UserError(f"--log {path}: cannot be written: {error.strerror}") from None


class _Lines:
    """Writes each line to stdout, and to the log as long as that can be written."""

    def __init__(self, log: IO[str] | None) -> None:
        self._log = log

    def write(self, line: str) -> None:
        """Write a line."""
        if self._log is not None:
            try:
                print(line, file=self._log, flush=True)
            except OSError as error:
                with contextlib.suppress(OSError):  # it would try once more
                    self._log.close()
                self._log = None
                print(f"the log cannot be written any more, and the run goes on: {error.strerror}", file=sys.stderr)
        print(line, flush=True)


def _list(book: Playbook, options: argparse.Namespace, known: Inventory) -> int:
    """Show what a run would be about; nobody is connected to."""
    choice = Tags(frozenset(_words(options.tags)), frozenset(_words(options.skip_tags)))
    groups = known.members() if known.hosts else {"all": ["localhost"]}
    chosen, names = planned(book, choice, options.start_at_task, groups, options.limit, extra_vars(options.extra_vars))
    plays = list(zip(chosen.plays, names, strict=True))
    print("\n".join(lines(plays, hosts=options.list_hosts, tasks=options.list_tasks, tags=options.list_tags)))
    return 0


class _Options(argparse.ArgumentParser):
    """Options of which a wrong one is told as whatever else is wrong, in a sentence."""

    def error(self, message: str) -> NoReturn:
        """Raise it as a UserError."""
        words = "invoke play" if self.prog.endswith("--") else self.prog
        unknown = message.rpartition("arguments: ")[2].partition(" ")[0].partition("=")[0]
        instead = OPTIONS.get(unknown)
        raise UserError(message.removeprefix("argument "), hint=instead or f"All options: {words} --help")


def _parser(command: str | None) -> argparse.ArgumentParser:
    parser = _Options(prog=f"{command} --" if command else _PROGRAM, description="Run playbooks, one after the other.")
    add = parser.add_argument
    add("playbook", type=Path, nargs="+", help=argparse.SUPPRESS if command else None)
    add("-i", "--inventory", action="append", default=[], metavar="FILE", help="INI, YAML, a folder, a program, a stack's outputs; or A,B,")
    add("--host", action="append", default=[], metavar="NAME", help="a host of your ssh_config, or USER@NAME:PORT (may be repeated)")
    add("-l", "--limit", action="append", default=[], metavar="PATTERN", help="of the plays' hosts only these")
    add("--key", type=Path, help="private SSH key of pods whose outputs name none")
    add("--ssh-config", metavar="FILE", help="read instead of ~/.ssh/config")
    add("-e", "--extra-vars", action="append", default=[], metavar="NAME=VALUE", help="or {a: 1}, or @file.yml")
    add(
        "--vault-password-file",
        type=password_from,
        metavar="FILE",
        help="opens what ansible-vault has encrypted; or a program that prints it",
    )
    add("-f", "--forks", type=_positive, default=MOST_AT_ONCE, metavar="N", help="hosts at once (default: %(default)s)")
    add("-b", "--become", action="store_true", help="tasks become root (or ansible_become_user) where nothing says that they do not")
    add("-u", "--user", metavar="NAME", help="log in as this user where nothing says another one")
    add("-C", "--check", action="store_true", help="change nothing, say what would change")
    add("-D", "--diff", action="store_true", help="show how files change")
    add("-t", "--tags", action="append", default=[])
    add("--skip-tags", action="append", default=[])
    add("--start-at-task", metavar="NAME")
    add("--list-hosts", action="store_true", help="show which hosts each play is for, and do nothing")
    add("--list-tasks", action="store_true", help="show the tasks with their tags, and do nothing")
    add("--list-tags", action="store_true", help="show the tags, and do nothing")
    add("--log", type=Path, metavar="FILE", help="write all lines to this file, too")
    add("--syntax-check", action="store_true", help="read and check the playbooks only")
    add("-v", "--verbose", action="count", default=0, help="show the last lines of commands; -vv: all of them")
    return parser


def _positive(text: str) -> int:
    if not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"a whole number above 0, not '{text}'")
    return int(text)


def _together(playbooks: Sequence[Playbook]) -> Playbook:
    """Return the plays of all playbooks as one: a host that fails in one is not in the next, and there is one recap."""
    first = playbooks[0]
    return first if len(playbooks) == 1 else Playbook(first.path, tuple(play for each in playbooks for play in each.plays))


def _inventory(options: argparse.Namespace, inventory: Inventory | None) -> Inventory:
    known = inventory or Inventory()
    read(known, options.inventory, key_file=options.key)
    for name in options.host:
        add_named(known, name)
    return known


def _hosts(inventory: Inventory, options: argparse.Namespace, plays: Sequence[Play], stack: contextlib.ExitStack) -> Mapping[str, Host]:
    """Return the hosts, each with a way for each of its plays; all are closed with ``stack``."""
    if not inventory.hosts:
        return {"localhost": Host(stack.enter_context(LocalTransport()))}
    extra, members = extra_vars(options.extra_vars), inventory.members()
    taking = [(play, set(hosts_of(play, members, extra))) for play in plays]
    hosts: dict[str, Host] = {}
    for name in inventory.hosts:
        ways = WaysOfPlays(name, inventory, extra, stack, options.ssh_config, options.user)
        first = [ways.to(play) for play, names in taking if name in names]  # all now: what is wrong is told before anything is done
        beside = functools.partial(inventory.known_of, name)
        hosts[name] = Host(first[0] if first else ways.to(plays[0]), beside=beside, ways=ways.to, origin=inventory.origins.get(name))
    return hosts


def _words(words: list[str]) -> list[str]:
    return [word.strip() for text in words for word in text.split(",") if word.strip()]


if __name__ == "__main__":
    atexit.register(gc.freeze)  # or Python looks through all of it once more before it ends: a sixth of what starting and ending take
    sys.exit(main())
