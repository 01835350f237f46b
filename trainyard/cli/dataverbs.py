"""The verb about data: build a data set. Parsing only."""

from __future__ import annotations

import json as _json
from typing import Any

from invoke.context import Context

from trainyard.cli.common import context, help_of, optional_path, required, show_json, task, verb
from trainyard.errors import UserError


@task(
    positional=[],
    iterable=["src", "set"],
    help=help_of(
        "config", "set", "json",
        src="a file or folder of memories, rows, chats, tables or documents, or hf://... (may be repeated)",
        to="file of the rows, .jsonl; rows held back, reports and dropped rows are put beside it",
    ),
)  # fmt: skip
@verb
def data_build(c: Context, src: Any = None, to: str | None = None, config: str | None = None, set: Any = None, json: bool = False) -> int:
    """Build a data set: clean, find duplicates, choose, split, count tokens (invoke data.build SRC... --to FILE)."""
    from trainyard.runs.verbs.builddata import build_data

    if not src:
        raise UserError("say what the data set is made of: invoke data.build SRC... --to FILE")
    to = required(to, "say where the rows go: --to FILE.jsonl")
    work = context(as_json=json)
    built = build_data(work, tuple(src), to, optional_path(config), tuple(set or ()))
    if json:
        show_json(_json.loads(built.report.read_bytes()))
    else:
        work.ui.say(f"{built.rows}: the rows; what became of every source row: {built.page}")
    return 0
