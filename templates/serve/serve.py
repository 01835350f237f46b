"""Serve the model of a finished run until told to stop. Exit codes: 0 told to stop, 2 wrong input, 1 failed."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
import time
from collections.abc import Callable
from typing import Any

import jinja2
import torch
import transformers
from answering import answer, plain_prompt, prompt_of
from answers import Answer, Unanswerable
from ending import OUTPUT_DIR, ended, values, write_result
from models import Refused, load
from server import ModelServer, Upstream
from telemetry import Status, append_line, leave
from wording import CHAT, Asked, Wrong

_LAST = 20.0
"""Seconds in which the answer that is being given may end by itself."""


class Model:
    """A model in this process."""

    def __init__(self, folder: str, base: str, device: str) -> None:
        model, self._tokenizer = load(folder, base)
        self._model = model.to("cuda") if device != "cpu" and torch.cuda.is_available() else model

    def answer(self, asked: Asked, on_text: Callable[[str], None] | None, is_over: Callable[[], bool]) -> Answer:
        """Answer; raises Wrong for what the model's template does not carry, and for what is too long."""
        try:
            ids = prompt_of(self._tokenizer, asked.messages) if asked.path == CHAT else plain_prompt(self._tokenizer, asked.prompt)
            return answer(self._model, self._tokenizer, ids, asked.how, on_text, is_over)
        except jinja2.TemplateError as error:
            raise Wrong(400, f"the model's chat template does not take these messages: {error}", about="messages") from None
        except Unanswerable as error:
            code = "context_length_exceeded" if asked.prompt or asked.messages else None
            raise Wrong(400, str(error), code=code, about="messages" if asked.path == CHAT else "prompt") from None


class Counted:
    """How much was answered: metrics.jsonl, a line an answer, and result.json at the end. No word of a prompt or an answer."""

    def __init__(self) -> None:
        self.answers = self.tokens = self.prompt_tokens = 0
        self._lock = threading.Lock()

    def take(self, given: Answer | None) -> None:
        """Count an answer; None: one that an engine of its own has given, of which nothing more is known here."""
        with self._lock:
            self.answers += 1
            line: dict[str, Any] = {"step": self.answers, "time": time.time()}
            if given is not None:
                self.tokens, self.prompt_tokens = self.tokens + given.tokens, self.prompt_tokens + given.prompt_tokens
                speed = round(given.tokens / given.seconds, 2) if given.seconds else None
                line |= {"tokens": self.tokens, "tokens_per_second": speed, "first_token_seconds": round(given.first, 3)}
                line |= {"seconds": round(given.seconds, 3)}
            with contextlib.suppress(OSError):  # a full disk keeps nobody from an answer
                append_line(os.path.join(OUTPUT_DIR, "metrics.jsonl"), line)


def main() -> int:
    """Serve; return the exit code."""
    return ended("serve", serve, Wrong)


def serve(status: Status) -> str:
    """Load the model, serve it until TERM or INT, and write down how much was asked."""
    config, counted, told = values(), Counted(), threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: told.set())
    status.write("loading", f"loading {config['model_name']}")
    began, folder = time.time(), folder_in(os.environ["INPUT_DIR"])
    if config["engine"] == "vllm":
        from behind import Vllm

        vllm = Vllm(folder, config["base_model"], config["model_name"], os.environ["WORKSPACE"])
        try:
            vllm.wait(told)
            answering(config, vllm.upstream, status, counted, told, began, vllm.check)
        finally:
            vllm.end()
    else:
        answering(config, Model(folder, config["base_model"], config["device"]), status, counted, told, began, follow(config))
    return f"told to stop after {counted.answers} answers"


def follow(config: dict[str, Any]) -> Callable[[], None]:
    """Return what raises Refused once the program that has started this one is gone, where it belongs to that."""
    parent = os.getppid()

    def check() -> None:
        if config.get("with_parent") and os.getppid() != parent:
            raise Refused("the command that it was started by is gone")

    return check


def answering(
    config: dict[str, Any], engine: Model | Upstream, status: Status, counted: Counted, told: threading.Event, began: float,
    check: Callable[[], None],
) -> None:  # fmt: skip
    """Answer until told to stop, or until ``check`` raises."""
    try:
        server = ModelServer(
            config["port"], config["model_name"], config["key_sha256"], engine, tokens=config["max_tokens"], waiting=config["max_waiting"],
            on_answer=counted.take,
        )  # fmt: skip
    except OSError as error:
        raise OSError(f"port {config['port']} of the pod cannot be opened: {error.strerror}") from error
    print(f"serve: {config['model_name']} answers on port {config['port']}, loaded in {time.time() - began:.1f} s", flush=True)
    status.write("serving", f"serving {config['model_name']}")
    threading.Thread(target=server.serve_forever, daemon=True).start()
    while not told.wait(1.0):
        check()
    server.end(_LAST)
    result = {
        "recipe": "serve", "model": config["model_name"], "engine": config["engine"], "answers": counted.answers,
        "prompt_tokens": counted.prompt_tokens, "tokens": counted.tokens, "seconds": round(time.time() - began, 1),
    }  # fmt: skip
    write_result(result)


def folder_in(place: str) -> str:
    """Return the folder of the model among the data: an adapter's before that of a model made for it."""
    for name in ("adapter_config.json", "config.json"):
        found = sorted((folder for folder, _, files in os.walk(place) if name in files), key=len)
        if found:
            return found[0]
    raise Refused("the data hold no model (no adapter_config.json, no config.json)")


if __name__ == "__main__":
    transformers.utils.logging.disable_progress_bar()
    leave(main())
