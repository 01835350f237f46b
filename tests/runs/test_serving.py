"""Which run `invoke serve-model` begins, with which key, and what a person is told who leaves it."""

from __future__ import annotations

import hashlib
import http.server
import queue
import socket
import stat
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from tests.runs.road import STACK, Road
from trainyard.errors import Detached, RefusedError, UserError
from trainyard.recipes.summaries import Values
from trainyard.runs.after import serve
from trainyard.runs.after.door import telling
from trainyard.runs.after.serve import ServeOptions, hold, key_file, served_run, serving_of
from trainyard.runs.verbs.train import TrainRequest

LORA: Values = {"base_model": "a/b", "method": "lora", "output": "adapter"}


@pytest.fixture
def road(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Road]:
    made = Road(tmp_path, monkeypatch)
    monkeypatch.chdir(made.context.places.root)
    made.run("true", name="a")
    folder = made.context.folder("a")
    folder.save(replace(folder.load(), recipe="lora", values=LORA))
    yield made
    made.lose_pod()


@pytest.fixture
def port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


def values_of(request: TrainRequest) -> dict[str, str]:
    return dict(text.split("=", 1) for text in request.sets)


def test_the_run_serves_the_very_attempt_and_its_pod_is_told_the_hash_of_the_key_alone(road: Road, port: int) -> None:
    request = serving_of(road.context, "a", None, ServeOptions(port, None, None))

    assert (request.stack, request.recipe, request.data) == (STACK, "serve", "run:ann/a/1")
    said = values_of(request)
    path = key_file(road.context, said["key_sha256"])
    key = path.read_text().strip()
    assert said == {"base_model": "a/b", "model_name": "ann/a", "port": "8000", "key_sha256": hashlib.sha256(key.encode()).hexdigest()}
    assert stat.S_IMODE(path.stat().st_mode) == 0o600 and stat.S_IMODE(path.parent.stat().st_mode) == 0o700


def test_a_key_of_ones_own_is_taken_from_the_environment_and_kept_nowhere(road: Road, port: int) -> None:
    context = replace(road.context, env={**road.context.env, "MY_KEY": "k" * 20, "SHORT": "k"})

    said = values_of(serving_of(context, "a", None, ServeOptions(port, "MY_KEY", "mine")))

    assert said["key_sha256"] == hashlib.sha256(b"k" * 20).hexdigest() and said["model_name"] == "mine"
    assert not key_file(context, said["key_sha256"]).exists()
    for name in ("SHORT", "UNSET"):
        with pytest.raises(UserError, match=f"the variable {name} holds no API key"):
            serving_of(context, "a", None, ServeOptions(port, name, None))


def test_what_cannot_be_served_or_reached_is_refused_before_anything_is_rented(road: Road, port: int) -> None:
    folder = road.context.folder("a")
    folder.save(replace(folder.load(), recipe="command"))
    with pytest.raises(UserError, match="only what recipes lora and merge leave can be served"):
        serving_of(road.context, "a", None, ServeOptions(port, None, None))
    folder.save(replace(folder.load(), recipe="lora"))

    with socket.socket() as taken:
        taken.bind(("127.0.0.1", port))
        with pytest.raises(UserError, match=f"port {port} of this machine cannot be opened"):
            serving_of(road.context, "a", None, ServeOptions(port, None, None))
    road.cloud.capabilities = replace(road.cloud.capabilities, ssh=False)
    with pytest.raises(RefusedError, match="have no port that this machine reaches: nothing was rented"):
        serving_of(road.context, "a", None, ServeOptions(port, None, None))
    assert not (road.context.places.home / "apikeys").exists()


def test_a_run_that_serves_is_come_back_to_and_one_that_has_ended_serves_no_more(road: Road) -> None:
    assert served_run(road.context, "a") is None and served_run(road.context, "nowhere") is None
    folder = road.context.folder("a")
    folder.save(replace(folder.load(), recipe="serve"))
    with pytest.raises(UserError, match="ann/a has ended: it serves no more"):
        served_run(road.context, "a")


def test_who_leaves_a_server_is_told_in_its_own_words_what_it_costs_and_how_it_ends(
    road: Road, port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = road.context.folder("a")
    folder.save(replace(folder.load(), recipe="serve", phase="started", values={"port": port}, cloud="local"))

    def leave(*_: object) -> None:
        raise Detached("detached (Ctrl-C): the training goes on")

    monkeypatch.setattr(serve, "attach", leave)
    with pytest.raises(Detached, match="the server goes on") as left:
        hold(road.context, folder, port)

    assert "/h" in left.value.message and "training" not in left.value.message
    assert str(left.value.hint).splitlines() == [
        "Come to it with: invoke serve-model ann/a", "More time: invoke extend ann/a 2h", "End it with: invoke cancel ann/a",
    ]  # fmt: skip


def test_it_is_told_once_that_a_server_answers() -> None:
    class Well(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200 if self.path == "/healthz" else 404)
            self.end_headers()

        def log_message(self, *_: object) -> None: ...

    with http.server.HTTPServer(("127.0.0.1", 0), Well) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        told: queue.SimpleQueue[int] = queue.SimpleQueue()
        with telling(server.server_port, told.put):
            assert told.get(timeout=20) == server.server_port
        server.shutdown()
    assert told.empty()
