"""What a cloud without SSH refuses before anything is rented, each with its reason and what to do."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from io import StringIO
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from trainyard.clouds.local import LocalCloud
from trainyard.clouds.registry import registry_login
from trainyard.config import places
from trainyard.errors import RefusedError, UserError
from trainyard.recipes.contract import load_recipe
from trainyard.recipes.values import resolve
from trainyard.runs.context import CommandContext
from trainyard.runs.planning import containers
from trainyard.runs.records import stores
from trainyard.runs.records.parts import RunBucket, RunContainer, RunPod
from trainyard.runs.records.record import RunFolder, RunRecord
from trainyard.runs.ui import Ui
from trainyard.runs.verbs import reach, render
from trainyard.runs.verbs.train import TrainRequest
from trainyard.secret import Secret
from trainyard.settings.table import build
from trainyard.storage.client import StoreSettings

ROOT = Path(__file__).resolve().parents[2]
PROGRAM = b"#!/bin/sh\necho hi\n"


def cloud(tmp_path: Path, *, ssh: bool = False, simulated: bool = False) -> Any:
    abilities = replace(LocalCloud(tmp_path).capabilities, ssh=ssh)
    return SimpleNamespace(name="nossh", capabilities=abilities, simulated=simulated)


def test_a_look_at_a_failed_pod_is_not_promised_where_there_is_no_ssh(tmp_path: Path) -> None:
    wanted = build({"cloud": "local", "keep_on_failure": "30m"}, "nossh")

    assert "no pod of nossh is kept for a look" in str(containers.unkept(cloud(tmp_path), wanted))
    assert containers.unkept(cloud(tmp_path, ssh=True), wanted) is None
    assert containers.unkept(cloud(tmp_path), build({"cloud": "local"}, "nossh")) is None


@pytest.mark.parametrize(
    ("values", "hours", "words"),
    [
        ({"bucket": "none"}, 1.0, "bundle, log and result of a run go through a bucket, and none is set; nothing was rented"),
        ({}, 170.0, "a lease of 170.5 h is longer than a container of nossh can live by"),
        ({"volume": "v"}, 1.0, "`volume` means nothing"),
    ],
)
def test_what_a_container_could_not_live_by_is_refused(tmp_path: Path, values: dict[str, object], hours: float, words: str) -> None:
    settings = build({"cloud": "local", **values}, "nossh")
    context = CommandContext(places(tmp_path, {}), {}, Ui(json=True))

    with pytest.raises(RefusedError, match=words) as told:
        containers.refuse(context, cloud(tmp_path), settings, hours)

    assert told.value.hint
    containers.refuse(context, cloud(tmp_path, ssh=True), settings, hours)


@pytest.mark.parametrize(
    ("env", "words"),
    [
        ({}, "go through a bucket, and none is set"),
        (
            {"RUNPOD_S3_ACCESS_KEY": "a", "RUNPOD_S3_SECRET_KEY": "b", "RUNPOD_S3_ENDPOINT": "https://s3api-eu-ro-1.runpod.io"},
            "signs no URLs",
        ),
        ({"AWS_ACCESS_KEY_ID": "a", "AWS_SECRET_ACCESS_KEY": "b", "AWS_ENDPOINT_URL": "http://127.0.0.1:9"}, "does not reach"),
        ({"AWS_ACCESS_KEY_ID": "a", "AWS_SECRET_ACCESS_KEY": "b"}, None),
    ],
)
def test_a_bucket_that_a_container_could_not_use_is_refused_before_an_environment_is_made(
    tmp_path: Path, env: dict[str, str], words: str | None
) -> None:
    context, settings = CommandContext(places(tmp_path, {}), env, Ui(json=True)), build({"cloud": "runpod", "bucket": "mine"}, "nossh")

    with pytest.raises(RefusedError, match=words) if words else nullcontext():
        containers.refuse(context, cloud(tmp_path), settings, 1.0)


@pytest.mark.parametrize(
    ("store", "words"),
    [
        (None, "no bucket is set"),
        (StoreSettings("runpod", None, "r", "b", Secret("k"), Secret("s"), presign=False), "runpod's S3 signs no URLs"),
        (StoreSettings("s3", "http://127.0.0.1:9000", "r", "b", Secret("k"), Secret("s")), "a container of nossh does not reach"),
    ],
)
def test_a_store_that_a_container_cannot_use_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, store: StoreSettings | None, words: str
) -> None:
    monkeypatch.setattr(stores, "store_of", lambda *_: store)
    context = CommandContext(places(tmp_path, {}), {}, Ui(json=True))

    with pytest.raises(RefusedError, match=words):
        containers.look_at_store(context, RunBucket("b"), cloud(tmp_path))

    containers.look_at_store(context, RunBucket("b"), cloud(tmp_path, ssh=True))


def test_a_shell_on_a_container_is_refused_with_the_way_to_its_log(tmp_path: Path) -> None:
    record = RunRecord(
        "u", "a", 1, "nossh", "command", {}, "", 1.0, 0.0, phase="started", container=RunContainer(), pod=RunPod(pod_id="p", lease_id="l")
    )
    context = CommandContext(places(tmp_path, {}), {}, Ui(json=True))

    with pytest.raises(UserError, match="has no SSH") as told, reach.ssh_command(context, record, RunFolder(tmp_path)):
        pass

    assert told.value.hint == "Its log: invoke logs a"


def test_a_login_of_a_registry_is_read_and_never_shown() -> None:
    login = registry_login("-u me -p tok/en ghcr.io", "Modal")
    assert (login.user, login.token.reveal(), login.host) == ("me", "tok/en", "ghcr.io") and "tok/en" not in repr(login)

    with pytest.raises(UserError) as told:
        registry_login("me:tok", "Modal")
    assert "tok" not in str(told.value).replace("TOKEN", "").replace("token", "")


@pytest.fixture
def web() -> Iterator[str]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Length", str(len(PROGRAM)))
            self.end_headers()
            self.wfile.write(PROGRAM)

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}/speedrun.sh"
    server.shutdown()
    server.server_close()


def test_a_program_on_the_web_runs_only_as_the_bytes_that_were_named(web: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    recipe, digest = load_recipe(ROOT, "command"), hashlib.sha256(PROGRAM).hexdigest()

    with pytest.raises(UserError, match="say by its sha256 which one is meant") as told:
        resolve(recipe, sets=[f"script={web}"])
    assert told.value.hint is not None and told.value.hint.endswith(f"script={web}#sha256={digest}")
    with pytest.raises(UserError, match=f"its sha256 is {digest}; nothing was run or rented"):
        resolve(recipe, sets=[f"script={web}#sha256={'0' * 64}"])

    values = resolve(recipe, sets=[f"script={web}#sha256={digest}"])
    assert Path(str(values["script"])).name == "speedrun.sh" and Path(str(values["script"])).read_bytes() == PROGRAM


def test_render_says_that_a_run_would_be_refused_as_it_stands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "Pulumi.yaml").write_text("name: trainyard\nruntime: python\n")
    (tmp_path / "Pulumi.dev.yaml").write_text("config:\n  trainyard:cloud: local\n")
    said = StringIO()
    env = {"HOME": str(tmp_path), "TRAINYARD_LOCAL_ROOT": str(tmp_path / "outside")}
    context = CommandContext(places(tmp_path, env), env, Ui(stream=said))
    monkeypatch.setattr(CommandContext, "cloud", lambda *_: cloud(tmp_path))

    render.render_run(context, TrainRequest("dev", recipe="command", words=("true",)), tmp_path / "to")

    assert "a run would be refused as it stands: the bucket lies on this machine, which a container of nossh" in said.getvalue()
