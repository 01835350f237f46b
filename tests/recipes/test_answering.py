"""What a real model answers, token by token, and that it is served: an adapter on the base that its training made."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.recipes.conftest import ROOT
from tests.recipes.trainings import Training, environment, loaded_environment, packages_apart
from trainyard.recipes import bundle
from trainyard.recipes.contract import load_recipe
from trainyard.recipes.data import inspect
from trainyard.recipes.values import resolve

ROWS = [{"instruction": f"Where does engine {each} stand?", "output": f"Engine {each} stands at the north yard."} for each in range(8)]
SMALL = ("max_steps=2", "save_steps=2", "per_device_train_batch_size=1", "gradient_accumulation_steps=2", "max_seq_length=128")
KEY = "a-key-of-some-length"


@pytest.fixture(scope="module")
def envs() -> Iterator[Path]:
    with loaded_environment(environment()) as folder:
        yield folder


@pytest.fixture(scope="module")
def client(envs: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    """A client of the recipe's server, started as on a pod; at the end it is told to stop, as at its lease's stop."""
    folder = tmp_path_factory.mktemp("serve")
    adapter = Training(folder / "lora", envs, ROWS, *SMALL).done().model
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    recipe = load_recipe(ROOT, "serve")
    key = hashlib.sha256(KEY.encode()).hexdigest()
    values = resolve(recipe, sets=["device=cpu", "base_model=tiny-qwen3-moe", "model_name=ann/a", f"key_sha256={key}", f"port={port}"])
    data = inspect(str(adapter), recipe, values=values)
    bundle.build(recipe, values, data, folder / "run")
    bundle.place_data(data, folder / "input")
    env = {"PATH": os.environ["PATH"], "HOME": str(folder), "TRAINYARD_ENVS": str(envs), "HF_HUB_OFFLINE": "1"}
    argv = ["sh", str(folder / "run" / "run.sh")]
    with subprocess.Popen(argv, env=env, stdout=subprocess.PIPE, text=True, start_new_session=True) as process:
        try:
            assert process.stdout
            lines: list[str] = []
            while not lines or "answers on port" not in lines[-1]:
                lines.append(process.stdout.readline())
                assert lines[-1], "".join(lines)
            with httpx.Client(
                base_url=f"http://127.0.0.1:{port}/v1", headers={"Authorization": f"Bearer {KEY}"}, trust_env=False, timeout=60
            ) as link:
                yield link
            os.killpg(process.pid, signal.SIGTERM)
            assert process.wait(60) == 0, "told to stop, a server is a success"
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
    result = json.loads((folder / "output" / "result.json").read_text())
    assert result["answers"] > 3 and result["tokens"] > 10 and KEY not in (folder / "run" / "config.json").read_text()


def said(client: httpx.Client, **more: Any) -> dict[str, Any]:
    body = {"messages": [{"role": "user", "content": "Where does engine 3 stand?"}], "max_tokens": 12, **more}
    answer = client.post("/chat/completions", json=body)
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


def text(client: httpx.Client, **more: Any) -> str:
    return str(said(client, **more)["choices"][0]["message"]["content"])


@pytest.mark.torch
@pytest.mark.timeout(900)
def test_a_model_answers_by_seed_in_pieces_up_to_a_stop_word(client: httpx.Client) -> None:
    drawn = text(client, temperature=1.5, seed=7)
    assert text(client, temperature=1.5, seed=7) == drawn != text(client, temperature=1.5, seed=8)
    assert text(client, temperature=0) == text(client, temperature=0, seed=9)

    body = {"messages": [{"role": "user", "content": "Where does engine 3 stand?"}], "max_tokens": 12, "temperature": 1.5, "seed": 7}
    with client.stream("POST", "/chat/completions", json={**body, "stream": True}) as answer:
        events = [json.loads(line[6:]) for line in answer.iter_lines() if line.startswith("data: {")]
    assert "".join(event["choices"][0]["delta"].get("content", "") for event in events) == drawn

    word = drawn[4:7]
    cut = said(client, temperature=1.5, seed=7, stop=[word])
    assert cut["choices"][0]["message"]["content"] == drawn[: drawn.index(word)] and cut["choices"][0]["finish_reason"] == "stop"

    long = client.post("/completions", json={"prompt": "engine " * 20000})
    assert (long.status_code, long.json()["error"]["code"]) == (400, "context_length_exceeded")


_OPENAI = (
    "openai==3.57.0", "jiter==0.19.0", "sniffio==1.3.1", "pydantic==2.14.4", "pydantic_core==2.50.5", "annotated_types==0.8.0",
    "typing_inspection==0.4.5",
)  # fmt: skip
_CALLS = """
import sys, openai
client = openai.OpenAI(base_url=sys.argv[1], api_key=sys.argv[2], max_retries=0)
asked = {"model": "ann/a", "messages": [{"role": "user", "content": "Where does engine 3 stand?"}], "temperature": 0, "max_tokens": 8}
whole = client.chat.completions.create(**asked)
pieces = list(client.chat.completions.create(**asked, stream=True, stream_options={"include_usage": True}))
assert "".join(each.choices[0].delta.content or "" for each in pieces if each.choices) == whole.choices[0].message.content
assert pieces[-1].usage.total_tokens == whole.usage.total_tokens and [model.id for model in client.models.list()] == ["ann/a"]
assert client.completions.create(model="ann/a", prompt="engine", max_tokens=4).choices[0].finish_reason in ("length", "stop")
for more, error in (({"model": "x"}, openai.NotFoundError), ({"n": 3}, openai.BadRequestError)):
    try:
        client.chat.completions.create(**{**asked, **more})
    except error:
        continue
    raise AssertionError(more)
try:
    openai.OpenAI(base_url=sys.argv[1], api_key="another", max_retries=0).models.list()
except openai.AuthenticationError:
    print("as told")
"""


@pytest.mark.torch
@pytest.mark.long
@pytest.mark.timeout(900)
def test_openais_own_client_takes_it_for_openai(client: httpx.Client) -> None:
    packages = packages_apart(environment(), _OPENAI)
    env = {"PATH": os.environ["PATH"], "PYTHONPATH": str(packages), "NO_PROXY": "127.0.0.1"}
    for _ in range(2):
        argv = [sys.executable, "-c", _CALLS, str(client.base_url), KEY]
        assert subprocess.run(argv, env=env, capture_output=True, text=True, check=True).stdout == "as told\n"
