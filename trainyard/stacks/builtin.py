"""Drive the built-in engine: one child process an operation, one JSON event a line."""

from __future__ import annotations

import sys
import time
from dataclasses import replace

from trainyard.engine import secrets
from trainyard.errors import UserError
from trainyard.jsontext import parse_json
from trainyard.problems import Problem
from trainyard.stacks.child import ChildExit, run_child
from trainyard.stacks.environ import child_env
from trainyard.stacks.model import Event, OnEvent, Operation, OperationOutcome, Stack
from trainyard.stacks.settings import engine_settings

ADVICE = "Use the Pulumi CLI for this stack: set trainyard:engine to cli."


def operate(stack: Stack, operation: Operation, cloud: str | None, on_event: OnEvent) -> OperationOutcome:
    """Run one operation on the built-in engine."""
    started = time.monotonic()
    seen = EventSummary()

    def line(text: str) -> None:
        if text.startswith("{"):
            event = parse_json(text)
            seen.add(event)
            on_event(event)

    argv = [sys.executable, "-m", "trainyard.engine", operation, "-C", str(stack.places.root), "--stack", stack.name]
    argv += ["--config-file", str(engine_settings(stack)), "--json", "-y", "--advice", ADVICE]
    env = {**child_env(stack.places, stack.env, cloud), **secrets.handed()}
    log = stack.places.logs / f"{stack.name}.engine.log"
    ended = run_child(argv, env=env, cwd=stack.places.root, on_line=line, log=log)
    outcome = seen.outcome("builtin", operation, time.monotonic() - started, ended)
    if ended.code == UserError.exit_code and not outcome.problems:  # before anything was begun: of that the engine tells no event
        outcome = replace(outcome, problems=(Problem("user", outcome.reason()),))
    return outcome


_PROOF = "command:remote:Command"


class EventSummary:
    """What the events of one operation add up to."""

    def __init__(self) -> None:
        self.changes: dict[str, int] = {}
        self.errors: list[str] = []
        self.problems: list[Problem] = []

    def add(self, event: Event) -> None:
        """Take one event into account."""
        kind = event.get("event")
        if kind == "diagnostic" and event.get("severity") == "error":
            self.errors.append(str(event.get("message", "")).strip())
            if event.get("kind"):
                self.problems.append(Problem(str(event["kind"]), self.errors[-1], str(event.get("urn") or "")))
        elif kind == "step" and event.get("status") == "failed" and event.get("type") == _PROOF:
            # The proof of a run's pod runs in a plugin that is not ours: that it failed is all that is told.
            self.problems.append(Problem("unreachable", str(event.get("message") or ""), str(event.get("urn") or "")))
        elif kind == "summary" and isinstance(event.get("changes"), dict):
            self.changes = dict(event["changes"])  # type: ignore[call-overload]

    def outcome(self, engine: str, operation: Operation, seconds: float, ended: ChildExit) -> OperationOutcome:
        """Return the outcome."""
        own = [problem for problem in self.problems if problem.kind != "engine"]  # says no more than the text
        return OperationOutcome(
            engine=engine,  # type: ignore[arg-type]
            operation=operation,
            exit_code=ended.code,
            seconds=seconds,
            changes=self.changes,
            errors=tuple(self.errors),
            stderr_tail=ended.stderr_tail,
            problems=(*ended.problems, *own) if ended.code else (),
        )
