"""The server of recipe serve speaks OpenAI's API: answers, events, refusals, one at a time, to whoever has the key."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.recipes import played_model
from tests.recipes.conftest import ROOT
from trainyard.errors import UserError
from trainyard.recipes.contract import load_recipe
from trainyard.recipes.values import lock_for, locked_packages, needs_of, resolve

KEY = "a-key-of-some-length"
HELLO = [{"role": "user", "content": "one two three"}]


@dataclass
class Served:
    client: httpx.Client
    port: int
    process: subprocess.Popen[str]

    def chat(self, messages: Any = HELLO, **more: Any) -> httpx.Response:
        return self.client.post("/v1/chat/completions", json={"model": "ann/a", "messages": messages, **more})

    def refused(self, status: int, **more: Any) -> dict[str, Any]:
        answer = self.chat(**more)
        assert answer.status_code == status, answer.text
        error: dict[str, Any] = answer.json()["error"]
        return error

    def events(self, path: str = "/v1/chat/completions", **body: Any) -> list[dict[str, Any]]:
        with self.client.stream("POST", path, json={"stream": True, **body}) as answer:
            assert answer.headers["content-type"].startswith("text/event-stream")
            lines = [line for line in answer.iter_lines() if line]
        assert lines.pop() == "data: [DONE]"
        return [json.loads(line.removeprefix("data: ")) for line in lines]


@contextmanager
def serving(*more: str) -> Iterator[Served]:
    argv = [sys.executable, played_model.__file__, KEY, *more]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        port = int(process.stdout.readline())
        headers = {"Authorization": f"Bearer {KEY}"}
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", headers=headers, trust_env=False, timeout=20) as client:
            yield Served(client, port, process)
        process.terminate()
        process.wait(20)


@pytest.fixture(scope="module")
def served() -> Iterator[Served]:
    with serving() as server:
        yield server


def test_an_answer_has_the_form_that_clients_expect(served: Served) -> None:
    said = served.chat(max_tokens=2).json()

    assert said["object"] == "chat.completion" and said["id"].startswith("chatcmpl-") and said["model"] == "ann/a"
    [choice] = said["choices"]
    assert choice["message"] == {"role": "assistant", "content": "one two", "refusal": None}
    assert (choice["index"], choice["finish_reason"], choice["logprobs"]) == (0, "length", None)
    assert said["usage"] == {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5}

    text = served.client.post("/v1/completions", json={"prompt": "one two"}).json()
    assert (text["object"], text["choices"][0]["text"], text["choices"][0]["finish_reason"]) == ("text_completion", "one two", "stop")


def test_an_answer_in_pieces_begins_with_its_role_and_ends_with_why_it_ended_and_the_counts(served: Served) -> None:
    events = served.events(messages=HELLO, stream_options={"include_usage": True})

    deltas = [event["choices"][0]["delta"] for event in events[:-1]]
    assert deltas == [{"role": "assistant", "content": ""}, {"content": "one"}, {"content": " two"}, {"content": " three"}, {}]
    assert [event["choices"][0]["finish_reason"] for event in events[:-1]] == [None, None, None, None, "stop"]
    assert {event["id"] for event in events} == {events[0]["id"]} and {event["object"] for event in events} == {"chat.completion.chunk"}
    assert events[-1]["choices"] == [] and events[-1]["usage"]["total_tokens"] == 6

    texts = served.events("/v1/completions", prompt="one two")
    assert "".join(event["choices"][0]["text"] for event in texts) == "one two" and "usage" not in texts[0]


def test_only_the_key_opens_it_and_health_needs_none(served: Served) -> None:
    for headers in ({"Authorization": "Bearer another"}, {"Authorization": f"Basic {KEY}"}, {"Authorization": ""}):
        answer = served.client.get("/v1/models", headers=headers)
        assert (answer.status_code, answer.json()["error"]["code"]) == (401, "invalid_api_key")
    assert served.client.get("/healthz", headers={"Authorization": ""}).json() == {"status": "ok"}
    assert [model["id"] for model in served.client.get("/v1/models").json()["data"]] == ["ann/a"]
    assert served.client.get("/v1/models/ann/a").json()["object"] == "model"


@pytest.mark.parametrize(
    ("more", "status", "about", "code"),
    [
        ({"messages": []}, 400, "messages", None),
        ({"messages": [{"role": "tool", "content": "x"}]}, 400, "messages[0].role", None),
        ({"messages": [{"role": "user", "content": [{"type": "image_url"}]}]}, 400, "messages[0].content", None),
        ({"n": 2}, 400, "n", "unsupported_parameter"),
        ({"tools": [{"type": "function"}]}, 400, "tools", "unsupported_parameter"),
        ({"temprature": 1}, 400, "temprature", "unknown_parameter"),
        ({"temperature": 3}, 400, "temperature", None),
        ({"max_tokens": 0}, 400, "max_tokens", None),
        ({"stop": ["a", ""]}, 400, "stop", None),
        ({"stream": "yes"}, 400, "stream", None),
        ({"messages": [{"role": "user", "content": "long"}]}, 400, "messages", "context_length_exceeded"),
        ({"messages": [{"role": "user", "content": "long"}], "stream": True}, 400, "messages", "context_length_exceeded"),
        ({"messages": [{"role": "user", "content": "fail"}]}, 500, None, None),
        ({"model": "gpt-4"}, 404, "model", "model_not_found"),
    ],
)  # fmt: skip
def test_what_is_not_served_is_refused_by_name(served: Served, more: dict[str, Any], status: int, about: str, code: str) -> None:
    error = served.refused(status, **more)

    assert (error["param"], error["code"]) == (about, code) and error["message"]


def test_what_asks_for_nothing_is_taken(served: Served) -> None:
    content = [{"type": "text", "text": "one "}, {"type": "text", "text": "two"}]
    more = {"n": 1, "presence_penalty": 0.0, "user": "u", "response_format": {"type": "text"}, "tools": [], "seed": 7, "stop": None}

    assert (
        served.chat([{"role": "developer", "content": "x"}, {"role": "user", "content": content}], **more).json()["choices"][0]["message"][
            "content"
        ]
        == "one two"
    )


def test_a_request_that_is_none_ends_in_a_sentence(served: Served) -> None:
    post = served.client.post
    assert post("/v1/chat/completions", content=b"{").json()["error"]["message"].startswith("the body is no JSON")
    assert post("/v1/chat/completions", content=b"[]").status_code == 400
    assert post("/v1/embeddings", json={}).status_code == 404
    for more, status in (("", b" 411 "), ("Content-Length: 1000000000\r\n", b" 413 ")):
        with socket.create_connection(("127.0.0.1", served.port)) as link:
            link.sendall(f"POST /v1/completions HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {KEY}\r\n{more}\r\n".encode())
            assert status in link.recv(100)
    assert served.chat().status_code == 200


def test_one_is_answered_at_a_time_so_many_wait_and_who_leaves_frees_the_model(served: Served) -> None:
    body = json.dumps({"messages": [{"role": "user", "content": "wait"}], "stream": True}).encode()
    with socket.create_connection(("127.0.0.1", served.port)) as link, ThreadPoolExecutor() as pool:
        head = f"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {KEY}\r\nContent-Length: {len(body)}\r\n\r\n"
        link.sendall(head.encode() + body)
        assert link.recv(1)
        both = [pool.submit(served.chat) for _ in range(2)]
        while not any(one.done() for one in both):
            pass
        [first] = [one.result() for one in both if one.done()]
        assert first.status_code == 429 and first.headers["retry-after"]
        link.close()
        assert [one.result().status_code for one in both if one.result() is not first] == [200]


def test_an_engine_of_its_own_answers_through_it_and_is_never_reached_without_the_key(served: Served) -> None:
    with serving("0", str(served.port)) as front:
        assert front.chat().json()["choices"][0]["message"]["content"] == "one two three"
        assert [event["choices"][0]["delta"].get("content") for event in front.events(messages=HELLO)] == [
            "",
            "one",
            " two",
            " three",
            None,
        ]
        assert front.refused(400, n=2)["param"] == "n"
        assert front.client.post("/v1/chat/completions", headers={"Authorization": "Bearer x"}, json={}).status_code == 401
        assert front.client.post("/v1/load_lora_adapter", json={}).status_code == 404, "only what is served is passed on"
    with serving("0", str(free_port())) as front:
        assert front.refused(503)["message"] == "the engine does not answer"


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


_BEHIND = """
import sys, threading, types
sys.path[:0] = sys.argv[1:3]
sys.modules["models"] = types.SimpleNamespace(ADAPTER="adapter_config.json", load=None)
import http.client
from behind import Vllm
vllm = Vllm("/the/model", "a/b", "ann/a", "/nowhere")
vllm.wait(threading.Event())
link = http.client.HTTPConnection("127.0.0.1", vllm.upstream.port)
link.request("GET", "/v1/models", headers={"Authorization": f"Bearer {vllm.upstream.key}"})
print(link.getresponse().status)
vllm.check()
vllm._process.kill()
vllm._process.wait()
try:
    vllm.check()
except OSError as error:
    print(error)
vllm.end()
"""


def test_vllm_is_started_with_a_key_of_its_own_waited_for_and_told_when_it_has_died(tmp_path: Path) -> None:
    played = tmp_path / "vllm"
    played.write_text(
        "#!/bin/sh\n[ \"$1 $2 $3 $4\" = 'serve /the/model --served-model-name ann/a' ] || exit 64\n"
        f'exec {sys.executable} {played_model.__file__} "$VLLM_API_KEY" "$8" >/dev/null\n'
    )
    played.chmod(0o755)
    argv = [sys.executable, "-c", _BEHIND, str(played_model.TEMPLATES / "serve"), str(played_model.TEMPLATES / "common")]
    said = subprocess.run(argv, env={"PATH": f"{tmp_path}:{os.environ['PATH']}"}, capture_output=True, text=True, check=True).stdout

    assert said.splitlines() == ["200", "vLLM ended by itself (exit code -9); its words stand above"]


def test_a_stack_with_a_gpu_gets_vllm_and_one_without_cannot_ask_for_it() -> None:
    recipe = load_recipe(ROOT, "serve")
    told = ["base_model=Qwen/Qwen3-0.6B", "model_name=a", "key_sha256=0"]
    values = resolve(recipe, sets=[*told, "device=gpu"])
    needs = needs_of(recipe, values)
    assert values["engine"] == "vllm" and (needs["gpus"], needs["cuda"]) == (1, "13.0")
    assert "vllm" in locked_packages(lock_for(recipe, values))

    values = resolve(recipe, sets=[*told, "device=cpu"])
    assert values["engine"] == "transformers" and needs_of(recipe, values)["gpus"] == 0
    with pytest.raises(UserError, match="engine vllm needs an NVIDIA GPU"):
        resolve(recipe, sets=[*told, "device=cpu", "engine=vllm"])
