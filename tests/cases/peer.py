"""Run a case by ansible-core, where it is installed (``invoke extras`` puts it into build/extras)."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from tests.cases.golden import Course, Place

_ENDED = {0: "ok", 2: "failed", 4: "unreachable"}
_SECONDS = 300


def installed() -> bool:
    """Return whether ansible-core can be had by this Python."""
    return importlib.util.find_spec("ansible") is not None


def run(place: Place, connection: Mapping[str, object] | None = None) -> Course:
    """Run a case once, on this machine or by the connection variables of an inventory."""
    away = place.folder.with_name(place.folder.name + ".ansible")
    away.mkdir(exist_ok=True)
    events = away / "events"
    for name in ("events", "ansible.cfg"):
        (away / name).write_text("")
    beside = {"ansible_connection": "local", "ansible_python_interpreter": sys.executable, **(connection or {})}
    inventory = away / "hosts.json"
    inventory.write_text(json.dumps({"all": {"hosts": {name: beside for name in place.case.hosts}}}))
    options = ["-i", str(inventory), "-e", json.dumps(place.extra), *_options(place)]
    command = [sys.executable, "-m", "ansible", "playbook", *options, "play.yml"]
    done = subprocess.run(command, cwd=place.folder, env=_environment(place, away), capture_output=True, timeout=_SECONDS, check=False)
    course = Course()
    for line in events.read_text(encoding="utf-8").splitlines():
        _replay(course, *json.loads(line))
    course.ended = _ENDED.get(done.returncode, "refused") if course.recap or not done.returncode else "refused"
    (away / "said").write_bytes(done.stdout + done.stderr)
    return course


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
    yield from (part for name in ("tags", "skip_tags") for tag in words.get(name, ()) for part in (f"--{name.replace('_', '-')}", tag))
    if words.get("start_at"):
        yield from ("--start-at-task", words["start_at"])


def _environment(place: Place, away: Path) -> dict[str, str]:
    return os.environ | {
        "HOME": str(place.tmp / "home"), "CASE_EVENTS": str(away / "events"), "ANSIBLE_CONFIG": str(away / "ansible.cfg"),
        "ANSIBLE_HOME": str(away), "ANSIBLE_LOCAL_TEMP": str(away / "local"), "ANSIBLE_REMOTE_TMP": str(away / "remote"),
        "ANSIBLE_CALLBACK_PLUGINS": str(Path(__file__).parent / "plugins"), "ANSIBLE_STDOUT_CALLBACK": "peer_callback",
        "ANSIBLE_PIPELINING": "1", "ANSIBLE_RETRY_FILES_ENABLED": "0", "ANSIBLE_HOST_KEY_CHECKING": "0",
        "ANSIBLE_DISPLAY_FAILED_STDERR": "0", "PYTHONDONTWRITEBYTECODE": "1", "LC_ALL": "C.UTF-8",
    }  # fmt: skip
