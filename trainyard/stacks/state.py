"""Where a stack's state lies: in a folder that both engines share, or in a backend that only the Pulumi CLI reaches.

A new stack is made by us and not by ``stack init`` alone, so that its salt is in its state and never has to stand in
a tracked settings file.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from trainyard.config import PROJECT
from trainyard.engine.backend import Backend, new_deployment
from trainyard.errors import EngineError, UserError
from trainyard.jsontext import parse_json
from trainyard.stacks import installed
from trainyard.stacks.environ import child_env, state_dir
from trainyard.stacks.model import Stack


class State(Protocol):
    """The state of one stack."""

    def exists(self) -> bool:
        """Tell whether there is such a stack, also where its state cannot be read."""

    def latest(self) -> Mapping[str, Any]:
        """Return the deployment, {} before the first up and when there is no such stack; raises EngineError."""

    def create(self, salt: str) -> None:
        """Make the stack, empty, with the salt of its secrets in it."""

    def remove(self) -> None:
        """Remove the stack where there is one; raises EngineError while it holds resources."""

    def archive(self, path: Path) -> None:
        """Write a copy of the state, nothing when there is no such stack."""


def state_of(stack: Stack) -> State:
    """Return the state of a stack by the backend that the environment names."""
    folder = backend(stack)
    return FolderState(folder, stack.name) if folder is not None else CliState(stack)


def backend(stack: Stack) -> Backend | None:
    """Return the file:// backend of a stack, None where the state lies elsewhere (CLI engine only)."""
    folder = state_dir(stack.places, stack.env)
    if folder is None:
        return None
    folder.mkdir(parents=True, exist_ok=True)
    return Backend(folder)


@dataclass(frozen=True, slots=True)
class FolderState:
    """A checkpoint file in a folder."""

    backend: Backend
    name: str

    def exists(self) -> bool:
        """See State."""
        return self.backend.exists(PROJECT, self.name)

    def latest(self) -> Mapping[str, Any]:
        """See State."""
        return (self.backend.load(PROJECT, self.name).get("latest") or {}) if self.exists() else {}

    def create(self, salt: str) -> None:
        """See State."""
        self.backend.create(PROJECT, self.name, salt)

    def remove(self) -> None:
        """See State."""
        if self.exists():
            self.backend.remove(PROJECT, self.name)

    def archive(self, path: Path) -> None:
        """See State."""
        if self.exists():
            shutil.copy2(self.backend.checkpoint_path(PROJECT, self.name), path)


@dataclass(frozen=True, slots=True)
class CliState:
    """A state that is asked of the CLI (a second a question): ``s3://`` and the other backends of teams."""

    stack: Stack

    def exists(self) -> bool:
        """See State."""
        return self._export() is not None

    def latest(self) -> Mapping[str, Any]:
        """See State."""
        return parse_json(self._export() or "{}").get("deployment") or {}

    def create(self, salt: str) -> None:
        """See State."""
        # A project of its own: `stack init` writes a salt into the settings file that it finds.
        with tempfile.TemporaryDirectory(prefix="trainyard-stack-") as folder:
            (Path(folder) / "Pulumi.yaml").write_text(f"name: {PROJECT}\nruntime: python\n")
            (Path(folder) / f"Pulumi.{self.stack.name}.yaml").write_text(f"encryptionsalt: {salt}\n")
            self._run("stack", "init", self.stack.name, "--secrets-provider", "passphrase", "--no-select", cwd=Path(folder))
            self._run("stack", "import", "--stack", self.stack.name, cwd=Path(folder), stdin=_document(salt))

    def remove(self) -> None:
        """See State."""
        self._run("stack", "rm", "--yes", "--preserve-config", "--stack", self.stack.name, absent_is_fine=True)

    def archive(self, path: Path) -> None:
        """See State."""
        text = self._export()
        if text is not None:
            path.write_text(text, encoding="utf-8")

    def _export(self) -> str | None:
        return self._run("stack", "export", "--stack", self.stack.name, absent_is_fine=True)

    def _run(self, *words: str, cwd: Path | None = None, stdin: str = "", absent_is_fine: bool = False) -> str | None:
        """Return what a command of the CLI printed, None for a stack that is not there and need not be."""
        done = self._ask(*words, cwd=cwd, stdin=stdin)
        if done.returncode == 0:
            return done.stdout
        if absent_is_fine and not self._is_listed():
            return None
        raise EngineError(done.stderr.strip() or f"pulumi {' '.join(words[:2])} exited {done.returncode}")

    def _is_listed(self) -> bool:
        """Tell whether the backend lists the stack; where it does not answer, the stack may be there."""
        done = self._ask("stack", "ls", "--json")
        try:
            return self.stack.name in [str(row["name"]).rpartition("/")[2] for row in parse_json(done.stdout)]
        except (ValueError, KeyError, TypeError):
            return True

    def _ask(self, *words: str, cwd: Path | None = None, stdin: str = "") -> subprocess.CompletedProcess[str]:
        stack = self.stack
        binary = installed.find(stack.env)
        if binary is None:
            raise UserError("this state backend needs the Pulumi CLI, which is not on PATH")
        env = child_env(stack.places, stack.env, None)
        argv = [str(binary), *words, "--non-interactive"]
        return subprocess.run(argv, cwd=cwd or stack.places.root, env=env, input=stdin, capture_output=True, text=True, check=False)


def _document(salt: str) -> str:
    return json.dumps({"version": 3, "deployment": new_deployment(salt)})
