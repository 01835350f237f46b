"""What OpenAI's API takes and gives: requests read strictly, answers, pieces and errors as its clients expect them."""

from __future__ import annotations

import json
import time
import uuid
from dataclasses import dataclass
from typing import Any

from answers import Answer, Sampling

CHAT, TEXT = "/v1/chat/completions", "/v1/completions"
_NEUTRAL: dict[str, tuple[Any, ...]] = {
    "n": (1,), "best_of": (1,), "logprobs": (False, 0), "top_logprobs": (0,), "echo": (False,), "frequency_penalty": (0,),
    "presence_penalty": (0,), "logit_bias": ({},),
    "response_format": ({"type": "text"},), "tools": ([],), "tool_choice": ("none", "auto"), "functions": ([],),
    "suffix": ("",), "modalities": (["text"],), "top_k": (0, -1), "repetition_penalty": (1,), "min_p": (0,),
}  # fmt: skip
"""What is not served, and the values of it that ask for nothing."""
_SAID = (
    "user", "metadata", "store", "parallel_tool_calls", "service_tier", "safety_identifier", "prompt_cache_key",
    "reasoning_effort", "verbosity",
)  # fmt: skip
"""What changes no answer here."""


class Wrong(Exception):
    """A request is refused: the status, OpenAI's words for it, and which parameter it is about."""

    def __init__(self, status: int, message: str, *, code: str | None = None, about: str | None = None) -> None:
        super().__init__(message)
        kinds = {401: "authentication_error", 429: "rate_limit_error"}
        self.status = status
        kind = kinds.get(status, "invalid_request_error" if status < 500 else "server_error")
        self.body = {"error": {"message": message, "type": kind, "param": about, "code": code}}


@dataclass(frozen=True)
class Asked:
    """One request for an answer."""

    path: str
    messages: list[dict[str, Any]]
    prompt: str
    how: Sampling
    stream: bool
    with_usage: bool


def read(path: str, body: bytes, served: str, unless_said: int) -> Asked:
    """Return what a request asks for; raises Wrong for what it cannot be, and for what is not served."""
    try:
        said = json.loads(body)
    except ValueError as error:
        raise Wrong(400, f"the body is no JSON: {error}") from None
    if not isinstance(said, dict):
        raise Wrong(400, "the body must be a JSON object")
    if said.get("model") not in (served, None):
        raise Wrong(404, f"the model {said['model']!r} does not exist: this server has {served!r}", code="model_not_found", about="model")
    _refuse_unserved(said, path)
    options = said.get("stream_options") or {}
    return Asked(
        path, _messages(said) if path == CHAT else [], "" if path == CHAT else _prompt(said), _sampling(said, unless_said),
        _flag(said, "stream"), isinstance(options, dict) and bool(options.get("include_usage")),
    )  # fmt: skip


def _refuse_unserved(said: dict[str, Any], path: str) -> None:
    known = {"model", "stream", "stream_options", "max_tokens", "max_completion_tokens", "temperature", "top_p", "seed", "stop", *_SAID}
    known.add("messages" if path == CHAT else "prompt")
    for name, value in said.items():
        if name in known or value is None or value in _NEUTRAL.get(name, ()):
            continue
        if name in _NEUTRAL:
            raise Wrong(400, f"{name} is not served here: leave it out", code="unsupported_parameter", about=name)
        raise Wrong(400, f"there is no parameter {name!r}", code="unknown_parameter", about=name)


def _messages(said: dict[str, Any]) -> list[dict[str, Any]]:
    messages = said.get("messages")
    if not isinstance(messages, list) or not messages:
        raise Wrong(400, "messages must be a list with at least one message", about="messages")
    return [_message(message, f"messages[{at}]") for at, message in enumerate(messages)]


def _message(message: Any, where: str) -> dict[str, Any]:
    role = message.get("role") if isinstance(message, dict) else None
    if role not in ("system", "developer", "user", "assistant"):
        raise Wrong(400, f"{where}.role must be system, developer, user or assistant", about=f"{where}.role")
    content = message.get("content")
    if isinstance(content, list):
        if not all(isinstance(part, dict) and part.get("type") == "text" and isinstance(part.get("text"), str) for part in content):
            raise Wrong(400, f"{where}.content may have parts of type text only", about=f"{where}.content")
        content = "".join(part["text"] for part in content)
    if not isinstance(content, str):
        raise Wrong(400, f"{where}.content must be text", about=f"{where}.content")
    return {"role": "system" if role == "developer" else role, "content": content}


def _prompt(said: dict[str, Any]) -> str:
    prompt = said.get("prompt")
    if isinstance(prompt, list) and len(prompt) == 1:
        prompt = prompt[0]
    if not isinstance(prompt, str):
        raise Wrong(400, "prompt must be one text", about="prompt")
    return prompt


def _sampling(said: dict[str, Any], unless_said: int) -> Sampling:
    tokens = _number(said, "max_completion_tokens", None, 1, 1 << 30, whole=True) or _number(
        said, "max_tokens", None, 1, 1 << 30, whole=True
    )
    seed = _number(said, "seed", None, -(1 << 63), (1 << 63) - 1, whole=True)
    stop = said.get("stop")
    stop = [stop] if isinstance(stop, str) else [] if stop is None else stop
    if not isinstance(stop, list) or len(stop) > 4 or not all(isinstance(word, str) and word for word in stop):
        raise Wrong(400, "stop must be a text, or up to four", about="stop")
    temperature = _number(said, "temperature", 1.0, 0, 2)
    top_p = _number(said, "top_p", 1.0, 0, 1) or 1e-6
    return Sampling(int(tokens or unless_said), temperature or 0.0, top_p, None if seed is None else int(seed), tuple(stop))


def _number(said: dict[str, Any], name: str, default: float | None, least: float, most: float, *, whole: bool = False) -> float | None:
    value = said.get(name)
    if value is None:
        return default
    if isinstance(value, bool) or not isinstance(value, int if whole else (int, float)) or not least <= value <= most:
        raise Wrong(400, f"{name} must be a {'whole ' if whole else ''}number from {least} to {most}", about=name)
    return value


def _flag(said: dict[str, Any], name: str) -> bool:
    value = said.get(name)
    if value not in (None, True, False):
        raise Wrong(400, f"{name} must be true or false", about=name)
    return bool(value)


class Reply:
    """One answer in OpenAI's form, whole or in pieces."""

    def __init__(self, asked: Asked, served: str) -> None:
        self._chat, self._with_usage = asked.path == CHAT, asked.with_usage
        kind = "chat.completion" if self._chat else "text_completion"
        self._head = {
            "id": f"{'chatcmpl' if self._chat else 'cmpl'}-{uuid.uuid4().hex}",
            "object": kind,
            "created": int(time.time()),
            "model": served,
        }

    def whole(self, answer: Answer) -> dict[str, Any]:
        """Return the body of an answer that is done."""
        said = {"message": {"role": "assistant", "content": answer.text, "refusal": None}} if self._chat else {"text": answer.text}
        return {**self._head, "choices": [self._choice(said, answer.finish)], "usage": usage(answer)}

    def begin(self) -> list[dict[str, Any]]:
        """Return what comes before the first piece."""
        return [self._piece({"delta": {"role": "assistant", "content": ""}}, None)] if self._chat else []

    def piece(self, text: str) -> dict[str, Any]:
        """Return a piece of an answer."""
        return self._piece({"delta": {"content": text}} if self._chat else {"text": text}, None)

    def end(self, answer: Answer) -> list[dict[str, Any]]:
        """Return what comes after the last piece."""
        last = [self._piece({"delta": {}} if self._chat else {"text": ""}, answer.finish)]
        return last + ([{**self._named(), "choices": [], "usage": usage(answer)}] if self._with_usage else [])

    def _piece(self, said: dict[str, Any], finish: str | None) -> dict[str, Any]:
        return {**self._named(), "choices": [self._choice(said, finish)], **({"usage": None} if self._with_usage else {})}

    def _named(self) -> dict[str, Any]:
        return {**self._head, "object": "chat.completion.chunk"} if self._chat else self._head

    def _choice(self, said: dict[str, Any], finish: str | None) -> dict[str, Any]:
        return {"index": 0, **said, "logprobs": None, "finish_reason": finish}


def usage(answer: Answer) -> dict[str, int]:
    """Return what an answer has used."""
    return {
        "prompt_tokens": answer.prompt_tokens, "completion_tokens": answer.tokens, "total_tokens": answer.prompt_tokens + answer.tokens,
    }  # fmt: skip
