"""Run a playbook from the command line: ``python -m trainyard.playbook FILE [options]``.

Hosts come from a stack's outputs (``--inventory outputs.json``); without one the only host is this machine.
Exit codes: 0, 2 a host failed or the playbook is wrong, 5 a host was unreachable; broken off: 130 by Ctrl-C, 141 when nobody
reads the output any more, 143 by SIGTERM.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import os
import shlex
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from trainyard import yamlfile
from trainyard.errors import TrainyardError, UserError
from trainyard.jsontext import parse_json
from trainyard.phrasing import as_typed
from trainyard.playbook.ending import Terminated, terminable
from trainyard.playbook.executor import Host, run
from trainyard.playbook.loader import load
from trainyard.playbook.report import TextReporter
from trainyard.remote.inventory import InventoryHost, targets
from trainyard.remote.reconnect import Reconnecting
from trainyard.remote.transport import LocalTransport, dial


def main(argv: Sequence[str] | None = None, command: str | None = None) -> int:
    """Run the command line; return the exit code. ``command``: what a person types before the options, with the playbook in it."""
    options = _parser(command).parse_args(argv)
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")
    try:
        playbook = load(options.playbook)
        if options.syntax_check:
            print(f"{options.playbook}: nothing wrong")
            return 0
        with contextlib.ExitStack() as stack, terminable():
            hosts = {name: stack.enter_context(_closing(host)) for name, host in _hosts(options).items()}
            return run(
                playbook, hosts, _extra(options.extra_vars), check=options.check, diff=options.diff,
                tags=_words(options.tags), skip_tags=_words(options.skip_tags), start_at=options.start_at_task,
                reporter=TextReporter(lambda line: print(line, flush=True), verbose=options.verbose),
            ).exit_code  # fmt: skip
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


def _parser(command: str | None) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog=command or "python -m trainyard.playbook", description="Run a playbook.")
    parser.add_argument("playbook", type=Path, help=argparse.SUPPRESS if command else None)
    parser.add_argument("-i", "--inventory", type=Path, help="a stack's outputs as JSON (pulumi stack output --json)")
    parser.add_argument("--key", type=Path, help="private SSH key where the outputs name none")
    parser.add_argument("-e", "--extra-vars", action="append", default=[], metavar="NAME=VALUE", help="or {a: 1}, or @file.yml")
    parser.add_argument("-C", "--check", action="store_true", help="change nothing, say what would change")
    parser.add_argument("-D", "--diff", action="store_true", help="show how files change")
    parser.add_argument("-t", "--tags", action="append", default=[])
    parser.add_argument("--skip-tags", action="append", default=[])
    parser.add_argument("--start-at-task", metavar="NAME")
    parser.add_argument("--syntax-check", action="store_true", help="read and check the playbook only")
    parser.add_argument("-v", "--verbose", action="store_true", help="show the output of commands")
    return parser


def _hosts(options: argparse.Namespace) -> dict[str, Host]:
    if options.inventory is None:
        return {"localhost": Host(LocalTransport())}
    try:
        outputs = parse_json(options.inventory.read_text())
    except (OSError, ValueError) as error:
        raise UserError(f"{options.inventory}: cannot be read as JSON: {error}") from None
    hosts = targets(outputs, key_file=options.key)
    if not hosts:
        raise UserError(f"{options.inventory}: the stack has no pod")
    return {target.name: _host(target) for target in hosts}


def _host(target: InventoryHost) -> Host:
    return Host(Reconnecting(lambda: dial(target.address), str(target.address)), target.vars)


@contextlib.contextmanager
def _closing(host: Host) -> Iterator[Host]:
    with host.transport:
        yield host


def _extra(pairs: list[str]) -> dict[str, object]:
    variables: dict[str, object] = {}
    for text in pairs:
        if text.startswith("@"):
            variables |= dict(yamlfile.load_map(Path(text[1:])))
        elif text.lstrip().startswith("{"):
            variables |= _mapping(text)
        else:
            variables |= _pairs(text)
    return variables


def _mapping(text: str) -> dict[str, object]:
    value = yamlfile.parse(text, "--extra-vars")
    if not isinstance(value, Mapping) or not all(str(name).isidentifier() for name in value):
        raise UserError("--extra-vars: expected a mapping of variable names to values")
    return dict(value)


def _pairs(text: str) -> dict[str, object]:
    """Read ``NAME=VALUE`` or several of them as a shell would split them; one value may hold spaces as it stands."""
    name, equals, value = text.partition("=")
    try:
        words = shlex.split(text)
    except ValueError:
        words = [text]
    pairs = [word.partition("=") for word in words]
    if len(pairs) > 1 and all(key.isidentifier() and mark for key, mark, _ in pairs):
        return {key: yamlfile.parse(item, f"--extra-vars {key}") for key, _, item in pairs}
    if len(pairs) > 1 and any(key.isidentifier() and mark for key, mark, _ in pairs[1:]):
        raise UserError(f"--extra-vars: write one -e for each variable whose value holds a space: {text!r}")
    if not equals or not name.isidentifier():
        raise UserError(f"--extra-vars: expected NAME=VALUE, a mapping or @file, found '{text}'")
    return {name: yamlfile.parse(value, f"--extra-vars {name}")}


def _words(words: list[str]) -> list[str]:
    return [word.strip() for text in words for word in text.split(",") if word.strip()]


if __name__ == "__main__":
    sys.exit(main())
