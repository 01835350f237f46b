"""The command line of the engine: ``python -m trainyard.engine VERB --stack NAME``."""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, NoReturn

from trainyard.engine import history, locks
from trainyard.engine.backend import Backend
from trainyard.engine.events import Events
from trainyard.engine.hook import ReadableError, UserError, hook, outside, plug
from trainyard.engine.program import leave
from trainyard.engine.project import Project, load_project, settings_path
from trainyard.engine.refusals import refused
from trainyard.engine.secrets import passphrase
from trainyard.engine.session import OperationRequest, Session, open_backend
from trainyard.engine.streams import Streams

_OPERATIONS = ("preview", "up", "refresh", "destroy")
_VERBS = (*_OPERATIONS, "init", "config", "outputs", "history", "cancel", "export", "import")
_REFUSED_FLAGS = ("--target", "-t", "--target-dependents", "--exclude", "--replace", "--plan", "--policy-pack")  # the CLI has them


def main(arguments: list[str] | None = None) -> NoReturn:
    """Run one command and end the process: threads of a program left behind must not hold it.

    What ``hook.plug()`` was given before counts.
    """
    hook().network()
    parser = _parser()
    options, rest = parser.parse_known_args(arguments)
    try:
        for flag in (word.partition("=")[0] for word in rest):
            if flag in _REFUSED_FLAGS:
                raise refused(flag)
        if rest:
            parser.error(f"unrecognized arguments: {' '.join(rest)}")
        code = _run(options)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        code = 2
    except ReadableError as error:
        print(f"error: {error}", file=sys.stderr)
        code = locks.LOCKED_EXIT if isinstance(error, locks.Locked) else 1
    except Exception as error:
        known = outside(error)
        if known is not None:
            print(f"error: {known}", file=sys.stderr)
        else:
            sys.excepthook(*sys.exc_info())  # a mistake of ours keeps it; threads of the program must not hold the process
        code = 1
    sys.stdout.flush()
    sys.stderr.flush()
    leave(code)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m trainyard.engine", description=__doc__, allow_abbrev=False)
    parser.add_argument("verb", choices=_VERBS)
    parser.add_argument("words", nargs="*", help="of config: set KEY [VALUE] (without VALUE it is read from stdin)")
    parser.add_argument("-C", dest="directory", type=Path, help="run in this folder")
    parser.add_argument("--stack", "-s", required=True)
    parser.add_argument("--config-file", type=Path, help="the stack's settings instead of Pulumi.<stack>.yaml")
    parser.add_argument("--json", action="store_true", help="one JSON object a line instead of text")
    parser.add_argument("-y", "--yes", action="store_true", help="do not ask")
    parser.add_argument("--preview-only", action="store_true", help="only show what refresh or destroy would do")
    parser.add_argument("--secret", action="store_true", help="encrypt the value of config set")
    parser.add_argument("--show-secrets", action="store_true")
    parser.add_argument("--parallel", "-p", type=int, help="steps side by side (default: PULUMI_PARALLEL, else 4 for each core)")
    parser.add_argument("--advice", help=f"what a person is told to do where something is refused (default: {hook().advice})")
    parser.add_argument("--file", type=Path, help="file to import or export instead of stdin or stdout")
    return parser


def _run(options: argparse.Namespace) -> int:
    if options.advice:
        plug(replace(hook(), advice=options.advice))
    if options.directory is not None:
        os.chdir(options.directory)
    if options.words and options.verb != "config":
        raise UserError(f"{options.verb} takes no argument '{options.words[0]}'")
    project = load_project(Path.cwd())
    stack = options.stack.rpartition("/")[2]  # organization/project/stack is the long form of the same
    if options.verb in _OPERATIONS:
        return _operate(options, project, stack)
    backend = open_backend(project, os.environ)
    verbs: dict[str, Callable[[argparse.Namespace, Project, str, Backend], int]] = {
        "init": _init, "config": _config, "outputs": _outputs, "history": _history, "cancel": _cancel, "export": _export, "import": _import,
    }  # fmt: skip
    return verbs[options.verb](options, project, stack, backend)


def _operate(options: argparse.Namespace, project: Project, stack: str) -> int:
    if options.preview_only and options.verb not in ("refresh", "destroy"):
        raise UserError(f"--preview-only is for refresh and destroy, not for {options.verb}")
    if options.verb != "preview" and not options.preview_only and not options.yes:
        _ask(options)
    streams = Streams()
    request = OperationRequest(
        options.verb,
        stack,
        project,
        options.config_file,
        dict(os.environ),
        _parallel(options.parallel),
        options.json,
        options.show_secrets,
        options.preview_only,
        streams,
    )
    session = Session(request)
    streams.take(session.events.printed, session.events.complained)
    _catch_signals(session)
    try:
        return session.run()
    finally:
        streams.give_back()


def _ask(options: argparse.Namespace) -> None:
    """Show what will be done and ask; a script must say -y."""
    if not sys.stdin.isatty() or options.json:
        raise UserError(f"pass -y to {options.verb} without being asked")
    words = ["preview"] if options.verb == "up" else [options.verb, "--preview-only"]
    words += ["--stack", options.stack] + (["--config-file", str(options.config_file)] if options.config_file else [])
    if subprocess.run([sys.executable, "-m", "trainyard.engine", *words], check=False).returncode:
        raise ReadableError("the preview failed")
    if input(f"{options.verb} stack {options.stack}? (yes/no) ").strip().lower() not in ("y", "yes"):
        raise ReadableError("nothing was done")


def _parallel(options: int | None) -> int:
    text = str(options) if options is not None else os.environ.get("PULUMI_PARALLEL", "")
    if not text:
        return 4 * (os.cpu_count() or 1)
    if not text.isdigit() or int(text) < 1:
        raise UserError(f"{'PULUMI_PARALLEL' if options is None else '--parallel'}: '{text}' is no number of steps to run side by side")
    return int(text)


def _catch_signals(session: Session) -> None:
    """First signal: no new step, running ones are awaited. Second: end at once."""
    seen: list[int] = []

    def handle(number: int, frame: Any) -> None:
        seen.append(number)
        if len(seen) > 1:
            leave(1)
        threading.Thread(target=session.interrupt, daemon=True).start()  # a handler must not wait for locks

    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, handle)


def _init(options: argparse.Namespace, project: Project, stack: str, backend: Backend) -> int:
    from trainyard.engine import configure

    configure.init(backend, project, stack, settings_path(project, stack, options.config_file), passphrase(os.environ))
    _events(options).diagnostic("info", f"made stack {stack}")
    return 0


def _config(options: argparse.Namespace, project: Project, stack: str, backend: Backend) -> int:
    from trainyard.engine import configure

    verb, *rest = options.words or [""]
    if verb != "set" or len(rest) not in (1, 2):
        raise UserError("config knows one form", hint="config set KEY [VALUE] [--secret]; without VALUE it is read from stdin")
    value = rest[1] if len(rest) == 2 else _asked_value(rest[0], options.secret)
    secret = passphrase(os.environ) if options.secret else None
    key = configure.set_value(backend, project, stack, settings_path(project, stack, options.config_file), rest[0], value, secret)
    _events(options).diagnostic("info", f"set {key}")
    return 0


def _asked_value(key: str, secret: bool) -> str:
    """Return what stdin holds; a person is asked, for a secret without an echo."""
    if not sys.stdin.isatty():
        return sys.stdin.read().removesuffix("\n")
    if not secret:
        return input(f"{key}: ")
    from getpass import getpass

    return getpass(f"{key}: ")


def _outputs(options: argparse.Namespace, project: Project, stack: str, backend: Backend) -> int:
    from trainyard.engine import transfer

    values = transfer.outputs(backend, project, stack, os.environ, options.show_secrets)
    if options.show_secrets:
        _events(options).outputs(values)
    else:
        events = _events(options, transfer.hide(backend, project, stack, os.environ))
        events.outputs(events.hidden(values))
    return 0


def _history(options: argparse.Namespace, project: Project, stack: str, backend: Backend) -> int:
    backend.load(project.name, stack)
    entries = history.entries(backend, project.name, stack)
    if options.json:
        print(json.dumps({"event": "history", "entries": [entry.as_dict() for entry in entries]}))
        return 0
    for entry in entries:
        changes = ", ".join(f"{count} {op}" for op, count in sorted(entry.changes.items()))
        print(f"{entry.kind} {entry.result}: {entry.end - entry.start} s, {changes or 'no changes'}")
    return 0


def _cancel(options: argparse.Namespace, project: Project, stack: str, backend: Backend) -> int:
    events = _events(options)
    left = locks.cancel(backend.root, project.name, stack, lambda text: events.diagnostic("info", text))
    for lock in left:
        events.diagnostic("error", f"kept, its owner is not proven dead: {lock}")
    return locks.LOCKED_EXIT if left else 0


def _export(options: argparse.Namespace, project: Project, stack: str, backend: Backend) -> int:
    from trainyard.engine import transfer

    text = transfer.export(backend, project, stack, os.environ, options.show_secrets)
    if options.file:
        options.file.write_text(text, encoding="utf-8")
    else:
        print(text)
    return 0


def _import(options: argparse.Namespace, project: Project, stack: str, backend: Backend) -> int:
    from trainyard.engine import transfer

    text = options.file.read_text(encoding="utf-8") if options.file else sys.stdin.read()
    count = transfer.import_(backend, project, stack, os.environ, text)
    _events(options).diagnostic("info", f"imported {count} resources into stack {stack}")
    return 0


def _events(options: argparse.Namespace, hide: Callable[[str], str] = str) -> Events:
    return Events(sys.stdout, machine=options.json, preview=False, hide=hide)
