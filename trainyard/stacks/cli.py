"""Drive the Pulumi CLI: the same operations, its engine events turned into ours.

The CLI writes its events to a file (``--event-log``), which is what Pulumi's own Automation API reads.
"""

from __future__ import annotations

import os
import re
import threading
import time
from collections.abc import Mapping
from pathlib import Path

from trainyard.jsontext import parse_json
from trainyard.stacks.builtin import EventSummary
from trainyard.stacks.child import run_child
from trainyard.stacks.environ import child_env
from trainyard.stacks.model import Event, OnEvent, Operation, OperationOutcome, Stack
from trainyard.stacks.settings import engine_settings

_MARKUP = re.compile(r"<\{%.*?%\}>|\x1b\[[0-9;]*m")
_POLL = 0.05


def operate(binary: Path, stack: Stack, operation: Operation, cloud: str | None, on_event: OnEvent) -> OperationOutcome:
    """Run one operation on the Pulumi CLI."""
    started = time.monotonic()
    seen = EventSummary()
    folder = stack.places.logs
    folder.mkdir(parents=True, exist_ok=True)
    events = folder / f"{stack.name}.{os.getpid()}.events.json"
    argv = [str(binary), operation, "--stack", stack.name, "--config-file", str(engine_settings(stack))]
    argv += ["--non-interactive", "--event-log", str(events)]
    if operation == "up" or operation == "destroy":
        argv += ["--yes", "--skip-preview"]
    elif operation == "refresh":
        argv += ["--yes"]
    # --event-log is one of the CLI's debug commands; the Automation API asks for it in the same way.
    env = {**child_env(stack.places, stack.env, cloud), "PULUMI_DEBUG_COMMANDS": "true"}

    def take(event: Event) -> None:
        seen.add(event)
        on_event(event)

    with _EventReader(events, take, preview=operation == "preview"):
        ended = run_child(argv, env=env, cwd=stack.places.root, on_line=lambda line: None, log=folder / f"{stack.name}.engine.log")
    events.unlink(missing_ok=True)
    return seen.outcome("cli", operation, time.monotonic() - started, ended)


class _EventReader:
    """Follow the CLI's event file while it runs, and read what is left when it has ended."""

    def __init__(self, path: Path, on_event: OnEvent, *, preview: bool) -> None:
        self.path, self.on_event, self.preview = path, on_event, preview
        self.offset, self.ended = 0, threading.Event()
        self.rest = b""
        self.thread = threading.Thread(target=self._follow, daemon=True)

    def __enter__(self) -> _EventReader:
        self.thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.ended.set()
        self.thread.join()

    def _follow(self) -> None:
        while not self.ended.wait(_POLL):
            self._read()
        self._read()

    def _read(self) -> None:
        try:
            with self.path.open("rb") as stream:
                stream.seek(self.offset)
                data = stream.read()
        except FileNotFoundError:
            return
        self.offset += len(data)
        *lines, self.rest = (self.rest + data).split(b"\n")
        for line in lines:
            if line.strip():
                for event in translate(parse_json(line), preview=self.preview):
                    self.on_event(event)


def translate(event: Mapping[str, object], *, preview: bool = False) -> list[dict[str, object]]:
    """Turn one event of the CLI into ours (none for those that have no meaning here); in a preview nothing is ever done."""
    for kind, status in (("resourcePreEvent", "start"), ("resOutputsEvent", "done"), ("resOpFailedEvent", "failed")):
        body = event.get(kind)
        if isinstance(body, dict):
            meta = body.get("metadata") or {}
            urn = str(meta.get("urn", ""))
            return [
                {
                    "event": "step",
                    "op": meta.get("op"),
                    "urn": urn,
                    "type": meta.get("type"),
                    "name": urn.rpartition("::")[2],
                    "status": "planned" if preview and status == "done" else status,
                    "keys": meta.get("diffs") or [],
                }
            ]
    body = event.get("diagnosticEvent")
    if isinstance(body, dict):
        severity = {"info#err": "warning", "info": "info", "warning": "warning", "error": "error"}.get(str(body.get("severity")))
        message = _MARKUP.sub("", str(body.get("message", ""))).strip()
        if severity and message and not body.get("ephemeral"):
            return [{"event": "diagnostic", "severity": severity, "message": message, "urn": body.get("urn")}]
        return []
    body = event.get("summaryEvent")
    if isinstance(body, dict):
        return [{"event": "summary", "changes": body.get("resourceChanges") or {}, "seconds": body.get("durationSeconds")}]
    return []
