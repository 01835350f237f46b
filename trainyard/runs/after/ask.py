"""Ask the result of a run a question, on this machine."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Literal

from trainyard.errors import UserError
from trainyard.jsontext import parse_json
from trainyard.runs.after.leftmodel import LeftModel, fetched, left_by, program_of, run
from trainyard.runs.after.merge import RECIPE
from trainyard.runs.context import CommandContext

Message = dict[str, str]


def ask(context: CommandContext, reference: str, question: str, stack: str | None, tokens: int) -> str:
    """Return what the model of a finished run answers. Raises UserError for a run that leaves none, and what fetch() does."""
    need_tokens(tokens)
    model = left_by(context, reference, stack, "asked")
    folder = fetched(context, model, stack)
    [answer] = answers_of(context, model, folder, [[{"role": "user", "content": question}]], tokens)
    return str(answer["text"]).rstrip("\n")


def need_tokens(tokens: int) -> None:
    """Raise UserError for an answer that could have no token."""
    if tokens < 1:
        raise UserError(f"--tokens {tokens}: an answer has at least one")


def answers_of(
    context: CommandContext,
    model: LeftModel,
    folder: Path,
    prompts: list[list[Message]],
    tokens: int,
    of: Literal["model", "base"] = "model",
) -> list[dict[str, Any]]:
    """Return the likeliest answer to each prompt, with counts and times; ``of``: with its adapter or without. Raises what run() does."""
    order = {"folder": str(folder), "base": model.base, "of": of, "prompts": prompts, "tokens": tokens}
    program = program_of(context, RECIPE, "ask.py")
    said = run(program, json.dumps(order).encode(), model)
    return [parse_json(line) for line in said.splitlines()]
