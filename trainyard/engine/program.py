"""Run the Pulumi program: in this process on the main thread, or in its own where it has an interpreter of its own."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import re
import runpy
import subprocess
import sys
import traceback
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

from trainyard.engine import refusals, stubs
from trainyard.engine.document import parse_json
from trainyard.engine.hook import EngineError, RefusedError
from trainyard.engine.project import Project, StackConfig
from trainyard.engine.shim import is_terminated

_UNSUPPORTED = re.compile(r"The Pulumi CLI does not support (?:the )?(.*?)\. Please update the Pulumi CLI\.")
leave = os._exit
"""Ends this process at once, also while a program runs in it (see _no_way_out)."""


@dataclass(frozen=True, slots=True)
class ProgramRun:
    """What a program is run with."""

    project: Project
    stack: str
    settings: StackConfig
    address: str
    monitor: object
    """The monitor and the engine's log as a program in this process calls them; one in its own is given the address."""
    engine: object
    parallel: int
    preview: bool
    lacks_command: bool
    """The official command plugin is absent: not all of its resources are served."""


class ProgramFailed(EngineError):
    """The program itself failed; with an empty message only because a step had failed."""


def foreign_interpreter(project: Project) -> Path | None:
    """Return the interpreter of the program's own virtual environment, None when it is ours."""
    venv = project.options.get("virtualenv")
    if not venv:
        return None
    folder = (project.root / str(venv)).resolve()
    python = folder / "bin" / "python"
    if Path(sys.prefix).resolve() == folder or not python.exists():
        return None
    return python


def import_sdk(project: Project) -> refusals.Guard:
    """Import what the program will import anyway, while plugins and key come up; returns the guard of what is refused."""
    stubs.whole_sdk("\n".join(path.read_text(encoding="utf-8", errors="replace") for path in sources_of(project)))
    guard = refusals.Guard(project.root)
    guard.install()
    return guard


def sources_of(project: Project) -> list[Path]:
    """Return the program's own files."""
    return sorted(project.workdir.glob("*.py"))[:50]


def run_here(run: ProgramRun) -> None:
    """Run the program in this process; raises ProgramFailed or RefusedError."""
    import asyncio  # late, as all that a destroy does not need

    import pulumi
    import pulumi.runtime as runtime

    os.chdir(run.project.workdir)
    main = _main_file(run.project)
    sys.argv = [str(main)]
    sys.path.insert(0, str(run.project.workdir))
    logging.getLogger("asyncio").setLevel(logging.CRITICAL)  # unfinished futures are normal after a failure
    runtime.reset_options(
        project=run.project.name, stack=run.stack, root_directory=str(run.project.root), parallel=run.parallel,
        engine_address=run.engine, monitor_address=run.monitor, preview=run.preview, organization="organization",  # type: ignore[arg-type]
    )  # fmt: skip
    runtime.set_all_config(dict(run.settings.values), sorted(run.settings.secret_keys))
    loop = asyncio.new_event_loop()
    asyncio.set_event_loop(loop)
    loop.set_default_executor(ThreadPoolExecutor(max(run.parallel, 1) * 4))
    try:
        with _no_way_out():
            loop.run_until_complete(runtime.run_in_stack(lambda: _execute(main)))
    except RefusedError:
        raise
    except KeyboardInterrupt:
        raise ProgramFailed("the program was interrupted (KeyboardInterrupt)") from None
    except pulumi.RunError as error:
        raise ProgramFailed("" if is_terminated(error) else str(error)) from None
    except SystemExit as error:
        if error.code not in (None, 0):
            raise ProgramFailed(f"the program ended itself with code {error.code}") from None
    except Exception as error:
        raise _program_error(error, run.project) from None


def run_apart(run: ProgramRun, python: Path, on_line: Any) -> None:
    """Run the program with its own interpreter."""
    env = {
        **os.environ,
        "PULUMI_CONFIG": json.dumps(dict(run.settings.values)),
        "PULUMI_CONFIG_SECRET_KEYS": json.dumps(sorted(run.settings.secret_keys)),
    }
    request = {
        "project": run.project.name,
        "stack": run.stack,
        "root_directory": str(run.project.root),
        "parallel": run.parallel,
        "engine_address": run.address,
        "monitor_address": run.address,
        "preview": run.preview,
        "organization": "organization",
    }
    shim = Path(__file__).with_name("shim.py")
    read_end, verdict = os.pipe()
    with os.fdopen(read_end, "rb") as verdicts:
        try:
            words = [str(_main_file(run.project)), json.dumps(request), str(verdict), "lacks" if run.lacks_command else ""]
            process = subprocess.Popen(
                [str(python), "-u", str(shim), *words], pass_fds=[verdict],
                cwd=run.project.workdir, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True,
            )  # fmt: skip
        finally:
            os.close(verdict)
        assert process.stdout is not None
        for line in process.stdout:
            on_line(line.rstrip())
        code, said = process.wait(), verdicts.read()
    if not said:
        raise ProgramFailed(f"the program ended itself with code {code}, before it was done")
    report = parse_json(said)
    if report["kind"] == "refused":
        raise RefusedError(report["message"])
    if report["kind"] == "failed":
        raise ProgramFailed(report["message"])


@contextlib.contextmanager
def _no_way_out() -> Iterator[None]:
    """Make an ``os._exit`` of the program end the program: it would take this process along, and what it knows."""
    own = os.getpid()

    def end(status: int) -> NoReturn:
        if os.getpid() != own:  # a process that the program has forked
            leave(status)
        raise SystemExit(f"{status} (os._exit)")

    os._exit = end
    try:
        yield
    finally:
        os._exit = leave


def _main_file(project: Project) -> Path:
    return project.program / "__main__.py" if project.program.is_dir() else project.program


def _execute(main: Path) -> None:
    if not main.is_file():
        raise EngineError(f"there is no program {main}")
    runpy.run_path(str(main), run_name="__main__")


def _program_error(error: Exception, project: Project) -> EngineError:
    """Return the error with the part of its traceback that is the program's."""
    if isinstance(error, EngineError):
        return ProgramFailed(str(error))
    if is_terminated(error):
        return ProgramFailed("")
    unsupported = _UNSUPPORTED.search(str(error))
    frames = [
        f
        for f in traceback.extract_tb(error.__traceback__)
        if f.filename.startswith(str(project.root)) and "site-packages" not in f.filename
    ]
    if unsupported:
        return ProgramFailed(f"{unsupported[1]}: not supported by the built-in engine")
    lines = traceback.format_list(frames) + traceback.format_exception_only(error)
    return ProgramFailed("the program failed:\n" + "".join(lines).rstrip())
