"""The verbs of Trainyard, as Invoke tasks: they parse, and hand over to the package."""

from __future__ import annotations

import sys

from invoke import Context, Exit, task

_PYTHON = sys.executable


@task(positional=["paths"], iterable=["paths"], help={"paths": "Test files or folders (all of tests/ if none is given)."})
def test(context: Context, paths: list[str]) -> None:
    """Run the tests."""
    _run(context, f"{_PYTHON} -m pytest -n 2 {' '.join(paths)}")


@task
def check(context: Context) -> None:
    """Run ruff and mypy over the sources."""
    _run(context, f"{_PYTHON} -m ruff check .")
    _run(context, f"{_PYTHON} -m mypy")


@task(help={"stack": "Check what this stack needs, too."})
def doctor(context: Context, stack: str | None = None) -> None:
    """Check tools, versions, ports, credentials and disk, and say what to do."""
    from trainyard.config import find_root, load_env, places
    from trainyard.setup.doctor import checks, lines

    root = find_root()
    found = checks(places(root), load_env(root), stack)
    print("\n".join(lines(found)))
    if any(check.status == "fail" for check in found):
        raise Exit(code=2)


def _run(context: Context, command: str) -> None:
    done = context.run(command, warn=True, pty=sys.stdout.isatty(), in_stream=False)
    if done is not None and done.exited:
        raise Exit(code=done.exited)
