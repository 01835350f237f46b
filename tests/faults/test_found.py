"""Defects that the fault matrices have found, each as a case of its own."""

from __future__ import annotations

import json
import socket
import threading
import time
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest

from tests.leases.model_cloud import PLAIN
from trainyard.clouds.protocol import PodInfo
from trainyard.config import PROJECT, places
from trainyard.engine.plugin import Plugin
from trainyard.engine.provider import ProviderError
from trainyard.errors import CloudUnknown, TrainyardError
from trainyard.problems import Problem
from trainyard.remote.transport import Address
from trainyard.runs.context import CommandContext
from trainyard.runs.records.pod import ReachablePod
from trainyard.runs.records.record import RunFolder
from trainyard.runs.ui import Ui
from trainyard.runs.verbs import attach
from trainyard.runs.verbs.destroy import destroy
from trainyard.stacks import facade
from trainyard.stacks.model import Operation, OperationOutcome, Stack
from trainyard.stacks.settings import ensure_stack
from trainyard.stacks.state import backend


def test_a_plugin_that_dies_between_its_port_and_its_handshake_is_not_waited_for() -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{unused.getsockname()[1]}"
    began = time.monotonic()

    with pytest.raises(ProviderError, match="died during Handshake"):
        Plugin("toy", address, SimpleNamespace(exit_code=-9), None, "127.0.0.1:1", lambda *_: None, threading.Event())  # type: ignore[arg-type]

    assert time.monotonic() - began < 20


@pytest.fixture
def stack(tmp_path: Path) -> Stack:
    (tmp_path / "Pulumi.dev.yaml").write_text("config:\n  trainyard:cloud: local\n")
    env = {"PULUMI_CONFIG_PASSPHRASE": "p", "TRAINYARD_LOCAL_ROOT": str(tmp_path / "o"), "XDG_CONFIG_HOME": str(tmp_path / "c")}
    made = Stack("dev", places(tmp_path, env), env, tmp_path / "Pulumi.dev.yaml")
    ensure_stack(made)
    return made


def checkpoint(stack: Stack) -> Path:
    store = backend(stack)
    assert store is not None
    return store.checkpoint_path(PROJECT, stack.name)


@pytest.mark.parametrize(
    ("operation", "cut", "told", "why"),
    [
        ("up", True, (), "cut in two"), ("up", False, (), None), ("up", True, (Problem("no-capacity", "none left"),), None),
        # The CLI's own failure shows as a step of the run's proof that failed.
        ("up", True, (Problem("unreachable", "", "urn:pulumi:dev::trainyard::t::x"),), "cut in two"),
        ("up", True, (Problem("unreachable", "", "urn:pulumi:dev::trainyard::t::y"),), None),
        ("preview", True, (), None), ("destroy", True, (), "not destroyed all"), ("destroy", False, (Problem("still-there", "p1"),), None),
    ],
)  # fmt: skip
def test_an_up_that_the_cli_cannot_do_after_a_replace_was_cut_in_two_is_done_by_the_built_in_engine(
    stack: Stack, operation: Operation, cut: bool, told: tuple[Problem, ...], why: str | None
) -> None:
    path = checkpoint(stack)
    document = json.loads(path.read_bytes())
    document["checkpoint"]["latest"]["resources"] = [{"urn": "urn:pulumi:dev::trainyard::t::x", "type": "t", "pendingReplacement": cut}]
    path.write_text(json.dumps(document))

    found = facade._what_the_cli_left(stack, operation, OperationOutcome("cli", operation, 255, 1.0, problems=told))

    assert found is None if why is None else why in str(found)


@pytest.mark.parametrize(("content", "stays"), [(b"", False), (b'{"user.co', False), (b'{"md5": null}', True)])
def test_a_side_file_that_a_killed_cli_has_cut_short_does_not_lock_the_cli_out(stack: Stack, content: bytes, stays: bool) -> None:
    path = checkpoint(stack)
    side = path.with_name(path.name + ".attrs")
    side.write_bytes(content)

    facade._drop_cut_side_file(stack)

    assert side.exists() is stays


def test_the_leases_of_a_damaged_state_are_read_from_its_last_good_version(stack: Stack) -> None:
    path = checkpoint(stack)
    kind = "trainyard:index:Lease"
    lease = {"urn": f"urn:pulumi:dev::trainyard::{kind}::fence", "type": kind, "outputs": {"lease_id": "1"}}
    document = json.loads(path.read_bytes())
    document["checkpoint"]["latest"]["resources"] = [lease]
    path.with_name(path.name + ".bak").write_text(json.dumps(document))
    path.write_bytes(path.read_bytes()[:40])

    assert facade.readable_resources(stack) == [lease]
    path.with_name(path.name + ".bak").unlink()
    assert facade.readable_resources(stack) == []


def info(status: str) -> PodInfo:
    return PodInfo("p1", "n", status, status.upper(), 1.0, None)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("told", "word"),
    [
        (lambda _: info("running"), None), (lambda _: info("unknown"), None), (lambda _: info("exited"), "has stopped pod p1 (EXITED)"),
        (lambda _: info("error"), "has stopped pod p1 (ERROR)"), (lambda _: None, "that pod p1 is gone"),
    ],
)  # fmt: skip
def test_a_pod_that_its_cloud_has_stopped_is_over_although_it_is_listed(told: object, word: str | None) -> None:
    waited: list[float] = []

    over = pod(told).over(sleep=waited.append)

    assert over is None if word is None else word in str(over)
    assert waited == ([5.0] if word is not None else []), "it is asked a second time, a while later"


def test_a_cloud_that_does_not_answer_says_nothing_about_its_pod() -> None:
    def fail(_: str) -> None:
        raise CloudUnknown("503")

    assert pod(fail).over() is None


def pod(get: object) -> ReachablePod:
    cloud = SimpleNamespace(get=get, list=list, capabilities=replace(PLAIN, settle=60.0))
    return ReachablePod("p1", "l1", "/workspace", Address("127.0.0.1", 1, "root", None, None), cloud)


def test_one_run_that_cannot_be_finished_does_not_keep_recover_from_the_others(stack: Stack, monkeypatch: pytest.MonkeyPatch) -> None:
    runs = stack.places.runs
    for number, name in enumerate(("broken", "good")):
        (runs / "u" / name / "1").mkdir(parents=True)
        (runs / "u" / name / "1" / "run.json").write_text('{"user": "u' if name == "broken" else json.dumps(record(name)))
        time.sleep(0.01 * number)
    driven: list[str] = []

    def drive(context: CommandContext, folder: RunFolder) -> dict[str, object]:
        driven.append(folder.path.parent.name)
        return {}

    monkeypatch.setattr(attach, "through", drive)

    with pytest.raises(TrainyardError, match="cannot be read"):
        attach.recover(CommandContext(stack.places, stack.env, Ui(json=True)))

    assert driven == ["good"]


def record(label: str) -> dict[str, object]:
    return {
        "user": "u", "label": label, "attempt": 1, "environment": "dev", "recipe": "command", "values": {}, "bundle_sha256": "",
        "hours": 1.0, "created": 0.0,
    }  # fmt: skip


def test_a_destroy_whose_engine_was_killed_takes_what_it_ended_through_the_cloud_out_of_the_state(
    stack: Stack, monkeypatch: pytest.MonkeyPatch
) -> None:
    told = [OperationOutcome("builtin", "destroy", -9, 1.0), OperationOutcome("builtin", "destroy", 0, 1.0, {"delete": 3})]
    monkeypatch.setattr(facade, "operate", lambda *_: told.pop(0))

    outcome = destroy(CommandContext(stack.places, stack.env, Ui(json=True)), stack, [], lambda _: None)

    assert outcome.ok and not told
