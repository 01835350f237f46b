"""The tokens that data.build counts are those that recipe lora trains: its reading of a base's tokenizer against transformers."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any

from tests.recipes.conftest import ROOT
from tests.recipes.dataset import build, environment, surroundings

BESIDE = (ROOT / "templates" / "dataset", ROOT / "templates" / "lora", ROOT / "trainyard" / "recipes")
CALL = {"function": {"name": "seek", "arguments": {"where": "Käfig"}}}


def talk(*turns: str, **more: Any) -> dict[str, Any]:
    """Return a conversation in which user and assistant take turns."""
    return {"messages": [{"role": ("user", "assistant")[at % 2], "content": text} for at, text in enumerate(turns)], **more}


ROWS: list[dict[str, Any]] = [
    {"text": "A text alone, of no talk."}, {"text": "日本語 und Übermut 👨‍👩‍👧 in a line"}, {"text": "  blanks \n\n before\tand behind  "},
    {"prompt": "Is it so?", "completion": " It is."}, {"prompt": "no blank", "completion": "between"},
    {"instruction": "Add.", "input": "1 and 2", "output": "3", "system": "Be short.", "history": [["Hello", "Hello to you"]]},
    talk("Where are you?", "Here."), talk("One", "1", "Two", "2", "Three", "  3  "), talk("Mark <|im_start|> it", "as control"),
    talk("Call it", "I call", tools=[{"type": "function", "function": {"name": "seek", "parameters": {"type": "object"}}}]),
    {"messages": [{"role": "user", "content": "Seek"}, {"role": "assistant", "content": "", "tool_calls": [CALL]}]},
    {"messages": [{"role": "developer", "content": "Be kind."}, *talk("Hello", "Good day to you")["messages"]]},
    {"messages": [{"role": "system", "content": "Be kind."}, *talk("Why?", "Because.", "<call>", "So.")["messages"]]},
]  # fmt: skip


def test_tokens_are_those_of_transformers_in_every_row_and_template(tmp_path: Path) -> None:
    env, python = surroundings(tmp_path), environment("lora") / "bin" / "python"
    base, source = tmp_path / "base", tmp_path / "rows.jsonl"
    source.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in ROWS))
    there = {**os.environ, "PYTHONPATH": os.pathsep.join(map(str, BESIDE)), "HF_HUB_OFFLINE": "1"}
    words = [str(word) for word in (python, "-P", Path(__file__).with_name("held_against.py"), base, source)]
    held = subprocess.run(words, env=there, capture_output=True, text=True)
    assert held.returncode == 0, held.stderr
    sets = ("min_chars=0", "min_letters=0", "eval_share=0", "max_seq_length=12", f"base_model={os.path.relpath(base, ROOT)}")
    build(env, str(source), "--to", str(tmp_path / "out.jsonl"), *(word for each in sets for word in ("--set", each)))
    report = json.loads((tmp_path / "out.report.json").read_text())
    found = report["tokens"]
    assert found["tokens"] == int(held.stdout) > found["rows_cut"] > 0
    assert report["rows_kept"] == found["rows"] and report["dropped"]["the base cannot carry it"] == len(ROWS) - found["rows"]
