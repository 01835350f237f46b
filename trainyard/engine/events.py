"""What an operation tells: one JSON object a line for machines, or lines for a person. Never a secret."""

from __future__ import annotations

import json
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, TextIO

from trainyard.engine import urn as urns
from trainyard.engine.hook import exact_time

Severity = Literal["info", "warning", "error"]
Op = Literal[
    "create", "update", "delete", "replace", "create-replacement", "delete-replaced", "same", "read", "refresh", "adopt"
]  # fmt: skip
Status = Literal["start", "done", "failed"]
_SIGNS = {"create": "+", "update": "~", "delete": "-", "create-replacement": "++", "delete-replaced": "--", "replace": "+-", "read": ">",
          "refresh": "~", "adopt": "<", "same": " "}  # fmt: skip
_DONE = {"create": "created", "update": "updated", "delete": "deleted", "create-replacement": "created (replacement)",
         "delete-replaced": "deleted (replaced)", "replace": "replaced", "read": "read", "refresh": "refreshed", "adopt": "adopted",
         "same": "unchanged"}  # fmt: skip
_COUNTED_AS = {"create-replacement": "replace", "delete-replaced": None}


class Events:
    """Writes events; counts the steps done. Safe to use from any thread."""

    def __init__(self, stream: TextIO, *, machine: bool, preview: bool, hide: Callable[[str], str], errors: TextIO | None = None) -> None:
        self._stream = stream
        self._errors = errors or stream
        self._machine = machine
        self._preview = preview
        self._hide = hide
        self._lock = threading.Lock()
        self._began = time.monotonic()
        self._tree: list[tuple[str, str, str, Sequence[str]]] = []
        self.changes: Counter[str] = Counter()

    def start(self, operation: str, stack: str) -> None:
        """Say what begins."""
        self._write({"event": "start", "operation": operation, "stack": stack, "preview": self._preview, "engine": "builtin",
                     "time": exact_time()})  # fmt: skip
        what = f"preview of {operation}" if self._preview and operation != "preview" else operation
        self._line(f"{what} of stack {stack} (built-in engine)")

    def step(self, op: Op, urn: str, status: Status, *, seconds: float = 0.0, keys: Sequence[str] = (), message: str = "",
             parent: str = "") -> None:  # fmt: skip
        """Tell of a step on a resource."""
        message = self._hide(message)
        if status == "done":
            counted = _COUNTED_AS.get(op, op)
            if counted:
                self.changes[counted] += 1
        shown_status = "planned" if self._preview and status == "done" else status
        event = {"event": "step", "op": op, "urn": urn, "type": urns.type_of(urn), "name": urns.name_of(urn), "status": shown_status,
                 "seconds": round(seconds, 3), "keys": list(keys), "message": message}  # fmt: skip
        self._write(event)
        if self._preview:
            if status == "done" and op not in ("same", "delete-replaced"):
                self._tree.append((op, urn, parent, keys))
        elif op != "same":
            self._step_line(op, urn, status, seconds, keys, message)

    def diagnostic(self, severity: Severity, message: str, urn: str = "", *, kind: str = "") -> None:
        """Pass on what a person should read; ``kind`` names an error for machines (``errors.KINDS``)."""
        message = self._hide(message).rstrip()
        self._write({"event": "diagnostic", "severity": severity, "message": message, "urn": urn, **({"kind": kind} if kind else {})})
        prefix = "" if severity == "info" else f"{severity}: "
        about = f"{urns.type_of(urn)} {urns.name_of(urn)}: " if urn else ""
        self._line(f"{prefix}{about}{message}")

    def printed(self, line: str) -> None:
        """Pass on a line of the program."""
        self.diagnostic("info", line)

    def complained(self, line: str) -> None:
        """Pass on a line that was meant for stderr: it goes there, in every mode."""
        line = self._hide(line)
        with self._lock:
            self._errors.write(line + "\n")
            self._errors.flush()

    def outputs(self, values: Mapping[str, Any]) -> None:
        """Show the outputs of the stack."""
        self._write({"event": "outputs", "outputs": dict(values)})
        for name, value in values.items():
            self._line(f"  {name}: {value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)}")

    def remaining(self, resources: Sequence[Mapping[str, Any]]) -> None:
        """Say what is still there after a failure; nothing in it may repeat a secret."""
        resources = self.hidden(list(resources))
        self._write({"event": "remaining", "resources": list(resources)})
        if resources:
            self._line("still there:")
        for item in resources:
            self._line(f"  {item['type']} {item['name']} (id {item['id'] or 'not known'})")

    def summary(self, operation: str, result: str, exit_code: int) -> None:
        """Say how it ended."""
        self._print_tree()
        seconds = round(time.monotonic() - self._began, 3)
        changes = dict(sorted(self.changes.items()))
        self._write({"event": "summary", "operation": operation, "changes": changes, "seconds": seconds, "result": result,
                     "exit_code": exit_code})  # fmt: skip
        counts = ", ".join(f"{count} {'to ' if self._preview else ''}{op}" for op, count in changes.items() if op != "same")
        same = changes.get("same", 0)
        parts = [part for part in (counts, f"{same} unchanged" if same else "") if part]
        self._line(f"{operation} {result} in {seconds:.1f} s: {', '.join(parts) or 'nothing to do'}")

    def hidden(self, value: Any) -> Any:
        """Return a value without the secrets that are known by now."""
        if isinstance(value, Mapping):
            return {key: self.hidden(item) for key, item in value.items()}
        if isinstance(value, list):
            return [self.hidden(item) for item in value]
        return self._hide(value) if isinstance(value, str) else value

    def _step_line(self, op: Op, urn: str, status: Status, seconds: float, keys: Sequence[str], message: str) -> None:
        what = f"{urns.type_of(urn)} {urns.name_of(urn)}"
        changed = f" [{', '.join(keys)}]" if keys else ""
        if status == "start":
            self._line(f" {_SIGNS[op]:>2} {what} ...{changed}")
        elif status == "done":
            self._line(f" {_SIGNS[op]:>2} {what} {_DONE[op]} ({seconds:.1f} s){': ' + message if message else ''}")
        else:
            self._line(f" !! {what}: {op} failed ({seconds:.1f} s): {message}")

    def _print_tree(self) -> None:
        """Print the planned steps as a tree, children under their parents."""
        planned = {urn for _, urn, _, _ in self._tree}
        children: dict[str, list[tuple[str, str, Sequence[str]]]] = {}
        for op, urn, parent, keys in self._tree:
            children.setdefault(parent if parent in planned else "", []).append((op, urn, keys))

        def show(parent: str, depth: int) -> None:
            for op, urn, keys in children.get(parent, []):
                sign = _SIGNS["replace" if op == "create-replacement" else op]
                changed = f"  [{', '.join(keys)}]" if keys else ""
                self._line(f" {sign:>2} {'   ' * depth}{urns.type_of(urn)} {urns.name_of(urn)}{changed}")
                show(urn, depth + 1)

        show("", 0)

    def _write(self, event: Mapping[str, Any]) -> None:
        if self._machine:
            self._emit(json.dumps(event, ensure_ascii=False))

    def _line(self, text: str) -> None:
        if not self._machine:
            self._emit(text)

    def _emit(self, text: str) -> None:
        with self._lock:
            self._stream.write(text + "\n")
            self._stream.flush()
