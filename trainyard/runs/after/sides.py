"""Who answers in a comparison: a run's model or its base on this machine, or the model that a run serves now."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

from trainyard.errors import UserError
from trainyard.jsontext import parse_json
from trainyard.runs.after.ask import answers_of
from trainyard.runs.after.door import telling, tunnelled
from trainyard.runs.after.leftmodel import LeftModel, ServiceSilent, fetched, left_by
from trainyard.runs.after.prompts import Messages
from trainyard.runs.after.serve import key_file, served_run
from trainyard.runs.context import CommandContext
from trainyard.runs.records.record import RunFolder, RunRecord

BASE = "base"
_LONGEST = 600.0
"""Seconds in which a server must have loaded its model, and in which it must say something."""


@dataclass(frozen=True, slots=True)
class Side:
    """One who answers; ``per_hour``: dollars that its pod costs, None on this machine."""

    name: str
    answers: Callable[[list[Messages], int], list[dict[str, Any]]]
    per_hour: float | None = None


def sides_of(context: CommandContext, reference: str, stack: str | None, against: str | None) -> list[Side]:
    """Return the run, and what it is compared with; ``base``, another run, or None. Raises UserError for what cannot answer."""
    if (folder := served_run(context, reference)) is not None:
        if against == BASE:
            raise UserError(
                f"{folder.load().id} serves one model, not its base", hint="Name another run that serves: --against RUN; or none: --alone"
            )
        return [_served(context, folder), *([] if against is None else [_other(context, against, stack)])]
    model = left_by(context, reference, stack, "compared")
    other = None if against in (None, BASE) else _other(context, str(against), stack)
    here = _here(context, model, stack)
    if other is not None:
        return [here, other]
    return [here, _base(context, model, stack)] if against == BASE else [here]


def _other(context: CommandContext, reference: str, stack: str | None) -> Side:
    folder = served_run(context, reference)
    return _here(context, left_by(context, reference, stack, "compared"), stack) if folder is None else _served(context, folder)


def _here(context: CommandContext, model: LeftModel, stack: str | None) -> Side:
    return Side(str(model.key), partial(answers_of, context, model, fetched(context, model, stack)))


def _base(context: CommandContext, model: LeftModel, stack: str | None) -> Side:
    folder = fetched(context, model, stack)
    if model.is_base_nowhere(folder):
        raise UserError(
            f"the base of {model.key} was made for its training and is not in its result: there is nothing to compare with",
            hint="Name another run: --against RUN; or none: --alone",
        )
    return Side(f"base {model.base}", partial(answers_of, context, model, folder, of="base"))


def _served(context: CommandContext, folder: RunFolder) -> Side:
    record = folder.load()
    path = key_file(context, str(record.values["key_sha256"]))
    if not path.is_file():
        raise UserError(f"the API key of {record.id} is not kept here: only a server whose key was made here can be compared")
    return Side(f"{record.id}/{record.attempt}", partial(_answers, context, record, path.read_text().strip()), record.pod.price)


def _answers(context: CommandContext, record: RunRecord, key: str, prompts: list[Messages], tokens: int) -> list[dict[str, Any]]:
    """Return the likeliest answers of a server, timed here. Raises ServiceSilent where it does not answer, UserError where it refuses."""
    import httpx

    with _port_to(context, record) as port:
        address, headers = f"http://127.0.0.1:{port}/v1", {"authorization": f"Bearer {key}"}
        with httpx.Client(base_url=address, headers=headers, timeout=_LONGEST, trust_env=False) as client:
            try:
                return [_answer(client, str(record.values["model_name"]), messages, tokens) for messages in prompts]
            except httpx.HTTPError as error:
                raise ServiceSilent(f"the server of {record.id} does not answer: {type(error).__name__}") from None


def _answer(client: Any, name: str, messages: Messages, tokens: int) -> dict[str, Any]:
    body = {"model": name, "messages": messages, "max_tokens": tokens, "temperature": 0}
    more = {"stream": True, "stream_options": {"include_usage": True}}
    began, first, text, finish, usage = time.monotonic(), None, "", "length", dict[str, int]()
    with client.stream("POST", "/chat/completions", json=body | more) as reply:
        if reply.status_code != 200:
            raise UserError(f"the server refuses a prompt (HTTP {reply.status_code}): {reply.read()[:300].decode('utf-8', 'replace')}")
        for line in reply.iter_lines():
            if not line.startswith("data: {"):
                continue
            event = parse_json(line[6:])
            if "error" in event:  # its head, with 200, was out already
                raise UserError(f"the model failed in the middle of an answer: {event['error'].get('message')}")
            usage = event.get("usage") or usage
            for choice in event["choices"]:
                piece = choice["delta"].get("content") or ""
                first = first or (time.monotonic() - began if piece else None)
                text, finish = text + piece, choice["finish_reason"] or finish
    seconds = time.monotonic() - began
    return {
        "text": text, "finish": finish, "prompt_tokens": usage.get("prompt_tokens", 0), "tokens": usage.get("completion_tokens", 0),
        "first": first or seconds, "seconds": seconds,
    }  # fmt: skip


@contextmanager
def _port_to(context: CommandContext, record: RunRecord) -> Iterator[int]:
    """Give a port of this machine on which a run's server answers; raises ServiceSilent where it does not come to that."""
    there = int(str(record.values["port"]))
    with contextlib.ExitStack() as held:
        here = there
        if record.cloud != "local":
            with socket.socket() as free:
                free.bind(("127.0.0.1", 0))
                here = free.getsockname()[1]
            held.enter_context(tunnelled(context, str(record.id), here, there))
        well = threading.Event()
        held.enter_context(telling(here, lambda port: well.set()))
        if not well.wait(_LONGEST):
            raise ServiceSilent(f"the server of {record.id} does not answer", hint=f"How it is: invoke logs {record.label}")
        yield here
