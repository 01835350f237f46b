"""A whole Trainyard of its own for a test: own state, own outside world, own passphrase; the checkout's program."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

from tests.e2e import forkserver
from trainyard.clouds import open_cloud
from trainyard.clouds.protocol import Cloud
from trainyard.config import Places, places
from trainyard.storage import local

ROOT = Path(__file__).resolve().parents[2]
COUNT = Path(__file__).resolve().parent / "count.sh"
JOBS = COUNT.parent / "jobs"
"""Programs that play a training."""


ON_VERB: list[Callable[[Yard], None]] = []
ON_CLOSE: list[Callable[[Yard], None]] = []
"""Who is told of each yard that runs a verb, and that is about to be closed (scanner.py)."""


@dataclass(frozen=True)
class Done:
    """What a verb printed and how it ended."""

    code: int
    out: str
    err: str

    def json(self) -> Any:
        """Return stdout as JSON."""
        return json.loads(self.out)

    def expect(self, code: int = 0) -> Done:
        """Return itself when the exit code is this one; fail with everything that was printed otherwise."""
        assert self.code == code, f"exit code {self.code}, expected {code}\n--- stdout\n{self.out}\n--- stderr\n{self.err}"
        return self


@dataclass
class Yard:
    """One hermetic Trainyard."""

    base: Path
    extra: Mapping[str, str] = field(default_factory=dict)
    started: list[subprocess.Popen[str]] = field(default_factory=list)

    def __post_init__(self) -> None:
        # A checkout of its own, so that settings can be changed: links to the program, copies of the settings.
        self.root.mkdir(exist_ok=True)
        for name in (".venv", "infra", "playbooks", "templates", "tasks.py", "Pulumi.yaml"):
            (self.root / name).symlink_to(ROOT / name)
        for path in ROOT.glob("Pulumi.*.yaml"):
            (self.root / path.name).write_text(path.read_text())

    @property
    def root(self) -> Path:
        """The checkout its verbs run in."""
        return self.base / "w"

    @property
    def home(self) -> Path:
        """The controller's folder, which may be lost."""
        return self.root / ".trainyard"

    @property
    def env(self) -> dict[str, str]:
        """The environment of its verbs."""
        ours = ("TRAINYARD_", "PULUMI_", "AWS_", "R2_", "RUNPOD_")
        # PULUMI_HOME only says where the CLI's plugins are.
        kept = {key: value for key, value in os.environ.items() if key == "PULUMI_HOME" or not key.startswith(ours)}
        own = {
            "TRAINYARD_LOCAL_ROOT": str(self.base / "o"),
            "XDG_CONFIG_HOME": str(self.base / "c"),
            "TRAINYARD_USER": "tester",
            "TRAINYARD_ENGINE": "builtin",
            "NO_COLOR": "1",
            "COLUMNS": "200",
        }
        return {**kept, **own, **self.extra}

    @property
    def places(self) -> Places:
        """Where its things lie."""
        return places(self.root, self.env)

    @property
    def cloud(self) -> Cloud:
        """Its local cloud."""
        return open_cloud("local", self.env, self.places)

    def argv(self, *words: str) -> list[str]:
        """Return the command line of a verb."""
        for told in ON_VERB:
            told(self)
        return [sys.executable, "-m", forkserver.VERBS, *words]

    def invoke(self, *words: str, timeout: float = 280, cwd: Path | None = None) -> Done:
        """Run a verb to its end."""
        pipes: dict[str, Any] = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        with forkserver.start(self.argv(*words), self.env, cwd=cwd or self.root, **pipes) as process:
            try:
                out, err = process.communicate(timeout=timeout)
            except BaseException:
                process.kill()
                raise
        return Done(process.returncode, out, err)

    def start(self, *words: str) -> subprocess.Popen[str]:
        """Start a verb in a session of its own."""
        pipes: dict[str, Any] = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
        process = forkserver.start(self.argv(*words), self.env, cwd=self.root, start_new_session=True, **pipes)
        self.started.append(process)
        return process

    def train(self, *words: str, steps: int = 5, pause: float = 0.1, left_over: int = 0) -> tuple[str, ...]:
        """Return the words of a run of the counting script."""
        args = f"args={steps} {pause} {left_over}"
        return ("train", "--stack", "local", "--recipe", "command", "--set", f"script={COUNT}", "--set", args, *words)

    def record(self, label: str) -> dict[str, Any]:
        """Return the record of a run, {} before it has one."""
        path = self.home / "runs" / self.env["TRAINYARD_USER"] / label / "1" / "run.json"
        found: dict[str, Any] = json.loads(path.read_text()) if path.is_file() else {}
        return found

    def output(self, process: subprocess.Popen[str]) -> IO[str]:
        """Return what a verb says that was started, as it comes."""
        assert process.stdout is not None
        return process.stdout

    def wait_for(self, what: Callable[..., Any], seconds: float = 120) -> Any:
        """Wait until ``what()`` is true and return its value; fail after a generous time."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            value = what()
            if value:
                return value
            time.sleep(0.05)
        raise AssertionError(f"waited {seconds} s in vain")

    def pods(self) -> list[str]:
        """Return the ids of all pods the cloud lists."""
        return [pod.id for pod in self.cloud.list()]

    def close(self) -> None:
        """End everything of this yard, also what a failed test has left running."""
        for told in ON_CLOSE:
            told(self)
        for process in self.started:
            if process.poll() is None:
                kill_tree(process)
            elif process.stdout and not process.stdout.closed:
                process.stdout.close()
        # A verb that was killed may have an engine that still makes something: destroy waits for it. Else that is 3 s for nothing.
        if self.pods() or any(process.returncode < 0 for process in self.started):
            self.invoke("destroy", "--stack", "local", "--yes")
        for pod in self.cloud.list():
            self.cloud.terminate(pod.id)
        local.stop(self.places)


def kill_tree(process: subprocess.Popen[str]) -> None:
    """SIGKILL a verb (only itself: its children live in sessions of their own, as after a crash)."""
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    if process.stdout:
        process.stdout.close()
