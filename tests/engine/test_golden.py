"""The states that the real CLI wrote are read, continued and destroyed by the built-in engine."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from typing import Any

import pytest

from tests.engine.bench import Bench, new_bench
from tests.engine.cases import Spec, pod
from trainyard.engine.backend import encode
from trainyard.engine.secrets import Crypter
from trainyard.engine.state import StackState
from trainyard.engine.values import Wire

GOLDEN = Path(__file__).parent / "golden"
STATES = sorted(p.stem for p in GOLDEN.glob("*.json") if p.stem not in ("00-empty", "11-lock", "13-export"))
ROUND = Crypter("x", "v1:Ex50mTIAaVs=:v1:P17SO/lFaK2kLHjo:gr/VSicyJ1aS+JJK7CH51WjYl5O4Gw==")


def golden_program(label: str, gpu: str, region: str) -> Spec:
    """Return the program that the golden states were made with."""
    return [
        pod("lease"),
        pod(
            "pod",
            {"additional_secret_outputs": ["ip"], "custom_timeouts": {"create": "5m"}},
            gpu=gpu,
            label=label,
            lease="@lease",
            token="!tok",
        ),
        {"kind": "box", "name": "box"},
        pod("inner", {"parent": "box"}, label=label, lease="@lease"),
        pod("leaf", {"parent": "box"}, nested={"a": [1, 2.5, True, {"x": "@inner.password"}]}),
        {"kind": "outputs", "name": "o", "of": "box", "props": {"ip": "@inner.ip", "pw": "@inner.password"}},
        {"kind": "provider", "name": "eu", "props": {"region": region}},
        pod("eupod", {"provider": "eu"}, label="x"),
        pod("extra", {"deleted_with": "pod", "ignore_changes": ["zone"]}, host="@pod.password", label="@pod.ip"),
        {"kind": "export", "name": "ip", "value": "@pod.ip"},
        {"kind": "export", "name": "n", "value": {"a": [1, 2]}},
    ]


def load(name: str, *, killed: bool = False) -> Bench:
    """Return a bench whose state is a golden one, and whose cloud holds what that state says."""
    bench = new_bench()
    document = json.loads((GOLDEN / f"{name}.json").read_text())
    bench.backend.checkpoint_path("px", "dev").write_text(json.dumps(document))
    latest = document["checkpoint"]["latest"]
    state = StackState(latest, ROUND, Wire(bench.root), None)
    for resource in state.olds:
        if resource.type == "toy:index:Pod" and not resource.pending_replacement:
            from trainyard.engine.codec import plain

            (bench.cloud / f"{resource.id}.json").write_text(json.dumps({"inputs": plain(resource.inputs), "region": ""}))
    if killed:  # the cloud had accepted before the CLI was killed
        inputs = latest["pending_operations"][0]["resource"]["inputs"]
        (bench.cloud / f"{inputs['cloudName']}.json").write_text(json.dumps({"inputs": {**inputs, "token": "tok"}, "region": ""}))
    bench.settings((GOLDEN / "Pulumi.dev.yaml").read_text())
    return bench


@pytest.mark.parametrize("name", STATES)
def test_a_state_of_the_cli_comes_back_as_it_was(name: str) -> None:
    latest = json.loads((GOLDEN / f"{name}.json").read_text())["checkpoint"]["latest"]
    state = StackState(latest, ROUND, Wire(Path("/")), None)
    written: dict[str, Any] = json.loads(state.encoded())
    again = {**written, "manifest": latest["manifest"]}
    assert again == latest


@pytest.mark.parametrize("name", STATES)
def test_a_state_of_the_cli_is_destroyed_to_the_last_thing(name: str) -> None:
    bench = load(name, killed=name == "11-killed-in-create")
    ended = bench.engine("destroy")
    left = [thing for thing in bench.things() if not thing.startswith("extra-")]  # goes with its pod, says the program
    assert (ended.code, left, bench.latest().get("resources")) == (0, [], None), ended.text
    assert not bench.latest().get("pending_operations")
    shutil.rmtree(bench.root)


def test_a_state_of_the_cli_needs_no_change_under_the_same_program() -> None:
    bench = load("01-fresh-up")
    ended = bench.engine("up", spec=golden_program("a", "H100", "eu-1"))
    assert ended.code == 0, ended.text
    assert bench.calls() == []
    shutil.rmtree(bench.root)


def test_a_pod_that_the_killed_cli_left_is_adopted_and_not_made_again() -> None:
    bench = load("11-killed-in-create", killed=True)
    lock = json.loads((GOLDEN / "11-lock.json").read_text())
    before = [t for t in bench.things() if t.startswith("pod-")]
    folder = bench.state / ".pulumi/locks/organization/px/dev"
    folder.mkdir(parents=True)
    (folder / "x.json").write_text(json.dumps({**lock, "hostname": __import__("socket").gethostname(), "pid": 2**22 - 1}))
    ended = bench.engine("up", spec=golden_program("d", "B200", "us-1"))
    assert ended.code == 0, ended.text
    calls = bench.calls()
    assert "read pod" in calls and "create pod" not in calls
    assert [t for t in bench.things() if t.startswith("pod-")] == before
    assert re.search(r"removed the lock of .*(process is gone|started again since)", ended.text)
    shutil.rmtree(bench.root)


def test_a_pending_create_of_a_provider_that_cannot_look_is_named_and_given_up_by_a_destroy() -> None:
    bench = load("12-after-kill-up")
    bench.env["TOY_ADOPTS"] = "0"
    assert "cannot look for it" in bench.engine("refresh").text
    assert [o["type"] for o in bench.latest()["pending_operations"]] == ["creating"], "only a destroy gives it up"
    ended = bench.engine("destroy")
    assert ended.code == 0 and "cannot look for it" in ended.text and "given up" in ended.text
    assert not bench.latest().get("pending_operations") and not bench.latest().get("resources")
    shutil.rmtree(bench.root)


@pytest.mark.parametrize("verb", ["up", "destroy"])
def test_a_component_or_a_provider_whose_create_the_cli_had_only_begun_is_forgotten(verb: str) -> None:
    bench = load("12-after-kill-up")
    latest = bench.latest()
    begun = [row for row in latest["resources"] if not row["custom"] or row["type"].startswith("pulumi:providers:")]
    left = [{"type": "creating", "resource": {key: value for key, value in row.items() if key not in ("id", "outputs")}} for row in begun]
    assert {row["type"] for row in begun} > {"pulumi:pulumi:Stack", "pulumi:providers:toy"}
    bench.backend.save("px", "dev", encode({**latest, "resources": [], "pending_operations": left}))

    ended = bench.engine(verb, spec=[pod("a")])

    assert ended.code == 0, ended.text
    assert not bench.latest().get("pending_operations") and bench.names() == (["a"] if verb == "up" else [])
    shutil.rmtree(bench.root)
