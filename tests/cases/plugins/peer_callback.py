"""A callback of ansible-core that writes what happens as JSON lines to the file in CASE_EVENTS; it runs inside ansible-core only."""

from __future__ import annotations

import json
import os
from typing import Any

from ansible.plugins.callback import CallbackBase  # type: ignore[import-not-found]

DOCUMENTATION = "{name: peer_callback, type: stdout, short_description: events as JSON lines, description: [for the tests]}"


class CallbackModule(CallbackBase):  # type: ignore[misc]
    """Writes events."""

    CALLBACK_VERSION = 2.0
    CALLBACK_TYPE = "stdout"
    CALLBACK_NAME = "peer_callback"

    def _event(self, *words: object) -> None:
        with open(os.environ["CASE_EVENTS"], "a", encoding="utf-8") as file:
            file.write(json.dumps(words, default=str) + "\n")

    def _outcome(self, status: str, result: Any, item: bool = False) -> None:
        if not item and result.result.get("results") and "item" not in result.result:
            return  # its items are told
        if status == "ok" and result.task.action.rpartition(".")[2] in ("include_tasks", "include_role"):
            return  # what it brings is told
        said = None
        if result.task.action.rpartition(".")[2] == "debug" and status == "ok":
            var = result.task.args.get("var")
            said = result.result.get("msg") if var is None else {key: value for key, value in result.result.items() if key == var}
        label = ("hidden (no_log)" if result.task.no_log else str(result.result.get("_ansible_item_label"))) if item else None
        self._event("outcome", result.host.get_name(), status, label, said)

    def v2_playbook_on_play_start(self, play: Any) -> None:
        """Head a play."""
        self._event("head", f"PLAY [{play.get_name().strip()}]")

    def v2_playbook_on_task_start(self, task: Any, is_conditional: bool) -> None:
        """Head a task."""
        self._event("head", f"TASK [{task.get_name().strip()}]")

    def v2_playbook_on_handler_task_start(self, task: Any) -> None:
        """Head a handler."""
        self._event("head", f"HANDLER [{task.get_name().strip()}]")

    def v2_runner_on_ok(self, result: Any) -> None:
        """Tell a task that went well."""
        self._outcome("changed" if result.result.get("changed") else "ok", result)

    def v2_runner_item_on_ok(self, result: Any) -> None:
        """Tell an item that went well."""
        self._outcome("changed" if result.result.get("changed") else "ok", result, item=True)

    def v2_playbook_on_include(self, included_file: Any) -> None:
        """Tell whom an include brings its tasks to."""
        label = self._get_item_label(included_file._vars)
        for host in included_file._hosts:
            self._event("outcome", host.get_name(), "included", label or None, None)

    def v2_runner_on_failed(self, result: Any, ignore_errors: bool = False) -> None:
        """Tell a task that failed."""
        self._outcome("ignored" if ignore_errors else "failed", result)

    def v2_runner_item_on_failed(self, result: Any) -> None:
        """Tell an item that failed."""
        self._outcome("failed", result, item=True)

    def v2_runner_on_skipped(self, result: Any) -> None:
        """Tell a task that was skipped."""
        self._outcome("skipped", result)

    def v2_runner_item_on_skipped(self, result: Any) -> None:
        """Tell an item that was skipped."""
        self._outcome("skipped", result, item=True)

    def v2_runner_on_unreachable(self, result: Any) -> None:
        """Tell a host that was lost."""
        self._outcome("unreachable", result)

    def v2_runner_retry(self, result: Any) -> None:
        """Tell another attempt."""
        left = result.result["retries"] - result.result["attempts"]
        self._event("outcome", result.host.get_name(), f"retry, {left} left", None, None)

    def v2_playbook_on_stats(self, stats: Any) -> None:
        """Tell the counters."""
        for host in stats.processed:
            row = stats.summarize(host)
            self._event("count", host, {**row, "failed": row["failures"]})
