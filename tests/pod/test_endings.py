"""How a pod ends itself comes to it as data: what a create request tells, the watchdog does, and plain sh where there is no Python."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest

from tests.pod.clock import TurnedClock
from trainyard.clouds.runpod.request import ENDINGS
from trainyard.pod.boot import FORGET_KEYS, pod_keys
from trainyard.pod.endings import PodEnding, ending_env
from trainyard.pod.watchdog import UNTOLD, EndingMethod, Refused, Watchdog, find_ways, format_time, own_id

KEY = "c-secret"


class Console:
    """A cloud of another shape than RunPod's: ids are numbers, the key has a header of its own."""

    def __init__(self) -> None:
        self.seen: list[tuple[str, str, str | None]] = []
        self.answer: object = {"instances": {"id": 4711}}
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def reply(self) -> None:
                outer.seen.append((self.command, self.path, self.headers.get("X-Api-Key")))
                text = json.dumps(outer.answer).encode()
                self.send_response(200)
                self.send_header("Content-Length", str(len(text)))
                self.end_headers()
                self.wfile.write(text)

            do_GET = do_DELETE = reply

            def log_message(self, format: str, *args: Any) -> None:
                """Say nothing."""

        self.server = HTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.server.serve_forever, args=(0.02,), daemon=True).start()

    def ending(self) -> PodEnding:
        url = f"http://127.0.0.1:{self.server.server_address[1]}/v0/instances/{{CONTAINER_ID}}/"
        return PodEnding(
            name="console", own_id="CONTAINER_ID", key="OWN_KEY", header="X-Api-Key: {}",
            prove=("GET", url), proof_at=("instances", "id"), end=("DELETE", url),
        )  # fmt: skip


@pytest.fixture
def console() -> Iterator[Console]:
    console = Console()
    yield console
    console.server.shutdown()
    console.server.server_close()


def env_of(*endings: PodEnding, **more: str) -> dict[str, str]:
    return {"CONTAINER_ID": "4711", "OWN_KEY": KEY, **ending_env(endings), **more}


def the_way(env: dict[str, str]) -> EndingMethod:
    (way,) = find_ways(env)
    return way


def test_a_pod_proves_and_ends_itself_as_its_create_request_told(console: Console) -> None:
    env = env_of(console.ending())
    way = the_way(env)

    assert (way.name, own_id(env)) == ("console", "4711")
    assert way.prove() is not None
    console.answer = {"success": True}
    way.end("over")
    assert console.seen == [(method, "/v0/instances/4711/", KEY) for method in ("GET", "DELETE")]


@pytest.mark.parametrize("answer", [{"instances": {"id": 12}}, {"instances": None}, [], {"success": False}, {"errors": ["no"]}])
def test_an_answer_about_another_pod_or_with_an_error_is_no_proof(console: Console, answer: object) -> None:
    console.answer = answer

    with pytest.raises(Refused):
        the_way(env_of(console.ending())).prove()


@pytest.mark.parametrize("lacking", ["CONTAINER_ID", "OWN_KEY"])
def test_a_pod_that_lacks_a_variable_lacks_that_way_alone(console: Console, lacking: str) -> None:
    other = replace(
        console.ending(), name="other", own_id="X", key="", prove=("GET", "http://127.0.0.1:9"), end=("DELETE", "http://127.0.0.1:9")
    )

    assert the_way(env_of(console.ending(), other, X="1", **{lacking: ""})).name == "other"


@pytest.mark.parametrize("text", ['[{"name": "half"}]', "[1, null]", '[{"name": "n", "id": "CONTAINER_ID", "prove": [], "end": []}]'])
def test_half_a_text_offers_no_way_and_ends_no_watchdog(text: str) -> None:
    assert find_ways(env_of(TRAINYARD_ENDINGS=text)) == []


def test_where_nothing_was_told_a_runpod_pod_ends_as_before() -> None:
    """A pod of an image with this watchdog, made by an older version, has no other word of it."""
    assert json.loads(ending_env(ENDINGS)["TRAINYARD_ENDINGS"]) == json.loads(json.dumps(UNTOLD))
    older = {
        "RUNPOD_POD_ID": "p",
        "RUNPOD_API_KEY": "k",
        "RUNPOD_API_URL": "http://127.0.0.1:9",
        "RUNPOD_GRAPHQL_URL": "http://127.0.0.1:9",
    }
    assert [way.name for way in find_ways(older)][:2] == ["RunPod REST", "RunPod GraphQL"]
    assert [way.name for way in find_ways({**older, "TRAINYARD_ENDINGS": "{"})][:2] == ["RunPod REST", "RunPod GraphQL"]
    assert find_ways({**older, **ending_env(())}) == [], "the create request's word counts"


def test_no_key_stands_in_what_a_pod_is_told_and_its_names_are_scrubbed(console: Console) -> None:
    env = ending_env((console.ending(),))

    assert env["TRAINYARD_POD_KEYS"] == "OWN_KEY" and "OWN_KEY" in pod_keys(env)
    assert "$TRAINYARD_POD_KEYS" in FORGET_KEYS
    assert env["TRAINYARD_END_COMMAND"].startswith('printf \'header = "X-Api-Key: %s"\\n\' "$OWN_KEY" | curl ')
    assert "DELETE" in env["TRAINYARD_END_COMMAND"] and '"$CONTAINER_ID"/' in env["TRAINYARD_END_COMMAND"]
    assert ending_env(()) == {"TRAINYARD_ENDINGS": "[]"}


def test_a_pod_that_cannot_end_itself_says_so_and_still_keeps_stop_and_end(tmp_path: Path) -> None:
    clock = TurnedClock()
    times = {"TRAINYARD_STOP": format_time(clock.wall() + 60), "TRAINYARD_END": format_time(clock.wall() + 120)}
    watchdog = Watchdog({"WORKSPACE": str(tmp_path), **ending_env(()), **times}, clock)
    watchdog.write_status()
    status = json.loads((tmp_path / ".trainyard/watchdog/status.json").read_text())
    assert status["armed"] and status["self_terminate"] is False and status["proof"] == "no way to end this pod from inside"

    clock.go(61)
    watchdog.tick()
    assert watchdog.state == "stopping"
    clock.go(60)
    watchdog.tick()
    assert watchdog.state == "ending"


def labelled(console: Console, label: object) -> dict[str, object]:
    console.answer = {"instances": {"id": 4711, "label": label}}
    (way,) = find_ways(env_of(replace(console.ending(), lease_at=("instances", "label")), TRAINYARD_LEASE_ID="b" * 10))
    assert way.lease is not None
    return dict(way.lease())


def test_a_lease_that_was_moved_is_read_from_the_label(console: Console) -> None:
    moved = labelled(console, f"ty-{'a' * 10}-{'b' * 10}-pod-01234567 2026-12-01T02:30:00Z 2026-12-01T03:00:00Z")
    assert {name: format_time(moment) for name, moment in moved.items() if isinstance(moment, float)} == {
        "stop": "2026-12-01T02:30:00Z", "end": "2026-12-01T03:00:00Z",
    }  # fmt: skip


@pytest.mark.parametrize(
    "label", [None, "", 7, "my training", f"ty-{'a' * 10}-{'c' * 10}-pod-01234567 - 2999-01-01T00:00:00Z", f"ty-{'b' * 10} x"]
)
def test_a_label_of_another_lease_or_of_a_person_moves_nothing(console: Console, label: object) -> None:
    assert labelled(console, label) == {}


def test_a_cloud_that_does_not_answer_moves_nothing_and_the_known_lease_holds(tmp_path: Path, console: Console) -> None:
    clock = TurnedClock()
    end = clock.wall() + 3600
    name = f"ty-{'a' * 10}-{'b' * 10}-pod-01234567"
    console.answer = {"instances": {"id": 4711, "label": f"{name} - {format_time(end + 7200)}"}}
    env = env_of(replace(console.ending(), lease_at=("instances", "label")), TRAINYARD_LEASE_ID="b" * 10, TRAINYARD_END=format_time(end))
    watchdog = Watchdog({**env, "WORKSPACE": str(tmp_path)}, clock)
    clock.go(60)
    watchdog.tick()
    assert watchdog.end is not None and format_time(watchdog.end.wall) == format_time(end + 7200)
    console.server.shutdown()
    console.server.server_close()
    clock.go(60)
    watchdog.tick()
    assert format_time(watchdog.end.wall) == format_time(end + 7200)
