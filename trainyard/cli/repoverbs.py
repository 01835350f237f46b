"""The verbs about a repository of one's own: make one, and bring it to a newer version. Parsing and asking only."""

from __future__ import annotations

import os
import shlex
import sys
from pathlib import Path
from typing import Any

from invoke.context import Context

from trainyard.cli.common import help_of, task, verb
from trainyard.config import find_root, is_repository
from trainyard.errors import UserError
from trainyard.phrasing import as_typed


@task(
    iterable=["cloud"],
    help=help_of(
        dir="the folder, made if it is not there (also: trainyard init DIR)",
        cloud="a cloud beside this machine, e.g. runpod (may be repeated)",
        ci="files for its CI: github",
        yes="ask nothing",
    ),
)
@verb
def init(c: Context, dir: str | None = None, cloud: Any = None, ci: str | None = None, yes: bool = False) -> int:
    """Make a folder a repository of Trainyard's: settings, program, an example. What is there is left as it is."""
    from trainyard.cli import init as work
    from trainyard.cli import scaffold

    root = _folder(dir)
    chosen = scaffold.choices(tuple(cloud or ()), ci)
    asks = sys.stdin is not None and sys.stdin.isatty() and sys.stdout.isatty() and not yes
    if asks and not cloud and ci is None and scaffold.read_record(root) is None:
        chosen = _ask(scaffold.clouds())
    planned = work.plan(root, chosen)
    paths = [*planned.new, *planned.renewed]
    if asks and paths and not _agreed(f"{root}: {', '.join(paths)}\nWrite these {len(paths)} files? [Y/n] ", default=True):
        print("nothing was written")
        return 1
    work.write(planned)
    print(as_typed("\n".join((*work.report_lines(planned), *_next(root, planned.new)))))
    return 0


@task(help=help_of(write="write what nobody has changed since"))
@verb
def upgrade(c: Context, write: bool = False) -> int:
    """Show what this version would write where `init` wrote, as a diff; with --write, write it where nobody changed it."""
    from trainyard.cli import upgrade as work

    comparison = work.compare(find_root())
    for line in work.diff(comparison):
        print(line)
    written = work.apply(comparison) if write else None
    print(as_typed("\n".join(work.report_lines(comparison, written))), file=sys.stderr)
    return 0


def _folder(path: str | None) -> Path:
    """Return the folder that is meant; raises UserError for one inside a repository that nobody has named."""
    if path is not None and not path.strip():
        raise UserError("DIR is empty: say which folder", hint="For this one: trainyard init .")
    root = Path(path if path is not None else ".").expanduser().resolve()
    above = next((folder for folder in root.parents if is_repository(folder)), None)
    if path is None and above is not None and not is_repository(root):
        raise UserError(f"this folder lies in the repository {above}", hint="For one of its own here: trainyard init .")
    return root


def _ask(known: list[str]) -> Any:
    """Ask the two things that decide what is written; raises UserError for an answer that names nothing."""
    from trainyard.cli import scaffold

    answer = _answer(f"Clouds beside this machine ({', '.join(known)}; empty: none): ")
    clouds = scaffold.choices([word for word in answer.replace(",", " ").split() if word != "none"], None)
    return scaffold.Choices(clouds.clouds, "github" if _agreed("Workflows for GitHub Actions? [y/N] ", default=False) else None)


def _agreed(question: str, *, default: bool) -> bool:
    answer = _answer(question).lower()
    return answer in ("y", "yes") if answer else default


def _answer(question: str) -> str:
    try:
        return input(question).strip()
    except EOFError:  # who leaves has agreed to nothing
        raise KeyboardInterrupt from None


def _next(root: Path, new: dict[str, str]) -> list[str]:
    if "templates/example/recipe.yaml" not in new:
        return []
    there = "" if root == Path.cwd() else f"cd {shlex.quote(os.path.relpath(root))} && "
    return [
        f"next       {there}invoke train --recipe example --config configs/example.yaml",
        f"or         {there}invoke train -- python YOUR_SCRIPT.py",
    ]
