"""The HTTP of recipe serve with a model that is played: it says the last message's words again, one every so often. Prints its port."""

from __future__ import annotations

import hashlib
import signal
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

TEMPLATES = Path(__file__).resolve().parents[2] / "templates"
sys.path[:0] = [str(TEMPLATES / "serve"), str(TEMPLATES / "common")]

from answers import Answer  # noqa: E402
from server import Engine, ModelServer, Upstream  # noqa: E402
from wording import Asked, Wrong  # noqa: E402


class Parrot:
    def answer(self, asked: Asked, on_text: Callable[[str], None] | None, is_over: Callable[[], bool]) -> Answer:
        words = (asked.messages[-1]["content"] if asked.messages else asked.prompt).split(" ")
        if words == ["fail"]:
            raise RuntimeError("the weights have melted")
        if words == ["long"]:
            raise Wrong(400, "too long", code="context_length_exceeded", about="messages")
        if words == ["melt"] and on_text is not None:
            on_text("mel")
            raise RuntimeError("the weights have melted")
        said = ""
        for count, word in enumerate(words[: asked.how.tokens], 1):
            while words[0] == "wait" and not is_over():
                time.sleep(0.01)
                if on_text is not None:
                    on_text(".")
            if is_over():
                return Answer(said, "length", len(words), count - 1, 0.0, 0.1)
            piece = word if count == 1 else f" {word}"
            said += piece
            if on_text is not None:
                on_text(piece)
        return Answer(said, "stop" if len(words) <= asked.how.tokens else "length", len(words), min(len(words), asked.how.tokens), 0.0, 0.1)


def main() -> None:
    """KEY [PORT [UPSTREAM]]: UPSTREAM is the port of another of these, which answers in place of the parrot."""
    key = hashlib.sha256(sys.argv[1].encode()).hexdigest()
    port, upstream = (*map(int, sys.argv[2:]), 0, 0)[:2]
    engine: Engine | Upstream = Upstream(upstream, sys.argv[1]) if upstream else Parrot()
    server = ModelServer(port, "ann/a", key, engine, tokens=100, waiting=1, on_answer=lambda answer: print("answered", flush=True))
    told = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: told.set())
    print(server.server_address[1], flush=True)
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
    told.wait()
    server.end(0.2)


if __name__ == "__main__":
    main()
