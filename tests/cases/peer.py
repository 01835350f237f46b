"""Run a case by ansible-core, where it is installed (``invoke extras`` puts it into build/extras).

It is imported once, by a process that forks for each run: half of a run's time would be its imports.
"""

from __future__ import annotations

import importlib.util
import json
import multiprocessing
import os
import sys
import tempfile
from collections.abc import Iterable, Mapping
from functools import cache
from multiprocessing.context import ForkServerContext
from pathlib import Path
from typing import Any

from tests.cases.golden import Course, Place

_ENDED = {0: "ok", 2: "failed", 4: "unreachable"}
_SECONDS = 300
_IMPORTED = [
    "ansible.cli.playbook",
    "ansible.executor.playbook_executor",
    "ansible.plugins.strategy.linear",
    "ansible.plugins.action.normal",
]


def installed() -> bool:
    """Return whether ansible-core can be had by this Python."""
    return importlib.util.find_spec("ansible") is not None


def run(place: Place, connection: Mapping[str, object] | None = None) -> Course:
    """Run a case once, on this machine or by the connection variables of an inventory."""
    away = place.folder.with_name(place.folder.name + ".ansible")
    away.mkdir(exist_ok=True)
    (away / "events").write_text("")
    beside = {"ansible_connection": "local", "ansible_python_interpreter": sys.executable, **(connection or {})}
    (away / "hosts.json").write_text(json.dumps({"all": {"hosts": {name: beside for name in place.case.hosts}}}))
    named = place.case.options.get("inventory")
    words = ["-i", str(place.folder / named if named else away / "hosts.json")]
    words += ["-e", json.dumps({**beside, **place.extra} if named else place.extra), *_options(place), "play.yml"]
    process = _forks().Process(target=_play, args=(words, place.folder, place.tmp / "home", away))
    process.start()
    process.join(_SECONDS)
    process.kill()
    course = Course()
    for line in (away / "events").read_text(encoding="utf-8").splitlines():
        _replay(course, *json.loads(line))
    code = process.exitcode or 0
    course.ended = _ENDED.get(code, "refused") if course.recap or not code else "refused"
    return course


def _play(words: list[str], folder: Path, home: Path, away: Path) -> None:
    """Carry a run out, in a process of its own."""
    from ansible.cli.playbook import PlaybookCLI  # type: ignore[import-not-found]

    os.chdir(folder)
    os.umask(0o022)
    os.environ |= {"HOME": str(home), "CASE_EVENTS": str(away / "events")}
    said = os.open(away / "said", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(said, 1)
    os.dup2(said, 2)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    PlaybookCLI.cli_executor(["ansible-playbook", *words])


@cache
def _forks() -> ForkServerContext:
    """Start the process that forks; what ansible-core reads while it is imported is told before."""
    away = Path(tempfile.mkdtemp(prefix="ansible-"))
    (away / "ansible.cfg").write_text("")
    os.environ |= {
        "ANSIBLE_CONFIG": str(away / "ansible.cfg"), "ANSIBLE_HOME": str(away), "ANSIBLE_LOCAL_TEMP": str(away / "local"),
        "ANSIBLE_REMOTE_TEMP": str(away / "remote"), "ANSIBLE_CALLBACK_PLUGINS": str(Path(__file__).parent / "plugins"),
        "ANSIBLE_STDOUT_CALLBACK": "peer_callback", "ANSIBLE_PIPELINING": "1", "ANSIBLE_HOST_KEY_CHECKING": "0",
        "PYTHONDONTWRITEBYTECODE": "1", "LC_ALL": "C.UTF-8",
    }  # fmt: skip
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(_IMPORTED)
    return context


def _replay(course: Course, kind: str, *words: Any) -> None:
    match kind:
        case "head":
            course.head(*words)
        case "outcome":
            course.outcome(*words)
        case _:
            course.count(*words)


def _options(place: Place) -> Iterable[str]:
    words = place.case.options
    yield from (f"--{name}" for name in ("check", "diff") if words.get(name))
    yield from (
        part for name in ("tags", "skip_tags", "limit") for tag in words.get(name, ()) for part in (f"--{name.replace('_', '-')}", tag)
    )
    if words.get("start_at"):
        yield from ("--start-at-task", words["start_at"])
