"""What somebody tries who does not believe it: hung and garbled plugins, a full disk, two engines at once, late refusals."""

from __future__ import annotations

import os
import resource
import shutil
import signal
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from tests.engine.bench import Bench, Ended, new_bench
from tests.engine.cases import SMALL, Spec, pod
from tests.engine.test_operations import wait_for
from trainyard.engine.foresee import late_refusal


@pytest.fixture
def bench() -> Iterator[Bench]:
    result = new_bench()
    yield result
    shutil.rmtree(result.root, ignore_errors=True)


def impatient() -> None:
    """Let calls that change nothing have two seconds, in the process of the engine."""
    from trainyard.engine import plugin

    plugin._QUICK_SECONDS = plugin._GREET_SECONDS = 2.0


def _limit_files(size: int) -> None:
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))


def pending(bench: Bench) -> list[str]:
    return [item["type"] for item in bench.latest().get("pending_operations") or []]


@pytest.mark.parametrize(("op", "kind"), [("check", "hang"), ("diff", "hang"), ("check", "die-before"), ("check", "garbage")])
def test_a_plugin_that_fails_in_check_or_diff_is_named_and_the_state_stays_true(bench: Bench, op: str, kind: str) -> None:
    if op == "diff":
        assert bench.engine("up", spec=SMALL).code == 0
    bench.faults((op, "b", kind))
    ended = bench.engine("up", spec=[pod("a", label="1"), pod("b", host="@a.ip", label="2")], before=impatient)
    verb = op.capitalize()
    words = {"hang": f"did not answer {verb} of urn:pulumi:dev::px::toy:index:Pod::b within 2 s", "die-before": f"died during {verb}",
             "garbage": f"failed in {verb} of urn:pulumi:dev::px::toy:index:Pod::b"}  # fmt: skip
    assert ended.code == 1 and f"the plugin of package 'toy' {words[kind]}" in ended.errors(), ended.text
    assert (bench.names(), pending(bench)) == (["a", "b"] if op == "diff" else ["a"], [])
    assert bench.engine("up", spec=SMALL).code == 0
    assert bench.engine("destroy").code == 0 and bench.things() == []


def test_a_create_whose_answer_is_garbage_is_settled_by_the_next_run(bench: Bench) -> None:
    bench.faults(("create", "a", "garbage"))
    ended = bench.engine("up", spec=[pod("a")])
    assert ended.code == 1 and "the plugin of package 'toy' failed in Create" in ended.errors(), ended.text
    assert pending(bench) == ["creating"] and len(bench.things()) == 1
    assert bench.engine("destroy").code == 0 and bench.things() == [] and pending(bench) == []


@pytest.mark.parametrize("op", ["check", "diff"])
def test_a_ctrl_c_ends_a_plugin_that_hangs_in_check_or_diff_at_once(bench: Bench, op: str) -> None:
    assert bench.engine("up", spec=[pod("a", label="1")]).code == 0
    bench.faults((op, "a", "hang"))
    pid, stream = bench.start("up", spec=[pod("a", label="2")])
    wait_for(bench.cloud / "calls.log", f"{op} hang")
    begin = time.monotonic()
    os.kill(pid, signal.SIGINT)
    ended = bench.wait(pid, stream)
    assert (ended.code, ended.summary["result"]) == (1, "interrupted"), ended.text
    assert "when the stop came" in ended.errors() and time.monotonic() - begin < 200
    assert bench.names() == ["a"] and not bench.backend.locks("px", "dev")


@pytest.mark.parametrize(
    ("script", "words"),
    [
        ("echo hello; sleep 60", "did not start: it printed 'hello'"),
        ("echo 99999999; sleep 60", "did not start: it printed '99999999'"),
        ("exit 7", "did not start (exit code 7)"),
        ("echo 1; sleep 60", "did not answer Handshake within 2 s"),
    ],
)
def test_a_plugin_that_prints_garbage_is_named(bench: Bench, script: str, words: str) -> None:
    (bench.plugin / "pulumi-resource-toy").write_text(f"#!/bin/sh\n{script.replace('sleep', 'exec sleep')}\n")
    ended = bench.engine("up", spec=SMALL, before=impatient)
    assert ended.code == 1 and f"the plugin of package 'toy' {words}" in ended.errors(), ended.text
    assert bench.names() == [] and not bench.backend.locks("px", "dev")


def test_a_disk_that_is_full_is_a_clear_error_and_what_was_created_is_found_again(bench: Bench) -> None:
    bench.env["PULUMI_PARALLEL"] = "2"
    big: Spec = [pod(f"p{number}", text="x" * 300) for number in range(12)]
    ended = bench.engine("up", spec=big, before=partial(_limit_files, bench.backend.checkpoint_path("px", "dev").stat().st_size + 16000))
    assert ended.code == 1 and "dev.json cannot be written: File too large" in ended.errors(), ended.text
    assert "Traceback" not in ended.text and not bench.backend.locks("px", "dev")
    known = {r["id"] for r in bench.latest()["resources"] if r["type"] == "toy:index:Pod"}
    assert known, "some were recorded before the disk was full"
    asked = {o["resource"]["inputs"]["cloudName"] for o in bench.latest().get("pending_operations") or []}
    assert set(bench.things()) <= known | asked, "something exists that the state does not know"
    assert bench.engine("destroy").code == 0 and bench.things() == [] and not bench.latest().get("pending_operations")


def test_of_two_engines_at_once_one_works_and_the_other_says_who_holds_the_stack(bench: Bench) -> None:
    bench.faults(("create", "a", "slow"))
    pid, stream = bench.start("up", spec=SMALL)
    wait_for(bench.cloud / "calls.log", "create a")
    second = bench.engine("up")
    first = bench.wait(pid, stream)
    assert (first.code, second.code) == (0, 255) and f"(pid {pid})" in second.errors(), second.text
    assert len(bench.things()) == 2 and bench.engine("destroy").code == 0


def test_a_passphrase_file_that_is_missing_and_a_backend_of_the_cli_are_named(bench: Bench) -> None:
    del bench.env["PULUMI_CONFIG_PASSPHRASE"]
    bench.env["PULUMI_CONFIG_PASSPHRASE_FILE"] = "/nowhere/passphrase"
    ended = bench.engine("up", spec=SMALL)
    assert ended.code == 1 and "/nowhere/passphrase" in ended.text and "Traceback" not in ended.text, ended.text
    bench.env["PULUMI_BACKEND_URL"] = "s3://bucket/prefix"
    for verb in ("up", "preview", "refresh", "destroy", "outputs", "history", "export"):
        ended = bench.engine(verb)
        assert ended.code != 0 and "not in s3://" in ended.text and "Traceback" not in ended.text, ended.text


@pytest.mark.parametrize("flag", ["--target", "--exclude", "--plan"])
def test_a_flag_of_the_cli_that_is_not_supported_is_refused_by_name(bench: Bench, flag: str) -> None:
    ended = bench.engine("up", f"{flag}=urn:x", spec=SMALL)
    assert ended.code == 1 and f"{flag}: not supported by the built-in engine" in ended.text and bench.things() == []


PROGRAM = """
import pulumi
from pulumi import StackReference as Other

class Pod(pulumi.CustomResource):
    def __init__(self, name, props, opts=None):
        super().__init__("toy:index:Pod", name, {"ip": None, **props}, opts)

a = Pod("a", {"label": "1"})
"""


def run_text(bench: Bench, text: str, verb: str = "up") -> Ended:
    (bench.root / "__main__.py").write_text(PROGRAM + text)
    return bench.engine(verb)


@pytest.mark.parametrize(
    ("late", "words"),
    [
        ("a.ip.apply(lambda ip: pulumi.StackReference('organization/px/other'))", "StackReference"),
        ("def later(ip):\n    return Other('organization/px/other')\na.ip.apply(later)", "StackReference"),
        ("pulumi.Output.all(a.ip).apply(\n  lambda ip: Pod('b', {}, pulumi.ResourceOptions(import_='x')))", "import of existing resources"),
        ("pulumi.Output.all(a.ip).apply(lambda ip: pulumi.FileArchive('.'))", "archives"),
    ],
)
def test_a_refusal_that_would_come_in_an_apply_comes_before_anything_exists(bench: Bench, late: str, words: str) -> None:
    for verb in ("preview", "up"):
        ended = run_text(bench, late, verb)
        assert ended.code == 1 and f"{words}: not supported" in ended.errors() and "__main__.py:1" in ended.errors(), ended.text
        assert bench.things() == [] and bench.calls() == []


def test_the_place_of_a_late_refusal_counts_letters(tmp_path: Path) -> None:
    line = "a.ip.apply(lambda ip: ('größe', pulumi.StackReference('o/p/x')))"
    (tmp_path / "p.py").write_text(f"import pulumi\n{line}\n", encoding="utf-8")
    refused = late_refusal([tmp_path / "p.py"])
    assert refused is not None and refused.where is not None
    assert (refused.where.line, refused.where.column) == (2, line.index("pulumi.Stack") + 1)


def test_a_refusal_that_nobody_could_foresee_has_its_line_and_the_state_is_true(bench: Bench) -> None:
    late = "name = 'StackReference'\na.ip.apply(lambda ip: getattr(pulumi, name)('organization/px/other'))"
    ended = run_text(bench, late)
    assert ended.code == 1 and "StackReference: not supported" in ended.errors() and "__main__.py:11" in ended.errors(), ended.text
    assert "1 resource of this run exists already" in ended.errors() and bench.names() == ["a"] and pending(bench) == []
    assert bench.engine("destroy").code == 0 and bench.things() == []


def test_a_preview_of_destroy_and_refresh_tells_and_changes_nothing(bench: Bench) -> None:
    bench.engine("up", spec=SMALL)
    before = bench.backend.checkpoint_path("px", "dev").read_bytes()
    (bench.cloud / f"{next(t for t in bench.things() if t.startswith('a-'))}.json").unlink()
    bench.calls()
    seen = {}
    for verb in ("destroy", "refresh"):
        ended = bench.engine(verb, "--preview-only")
        assert ended.code == 0, ended.text
        seen[verb] = {(e["op"], e["name"]) for e in ended.events if e["event"] == "step" and e["status"] in ("done", "planned")}
    assert {("delete", "a"), ("delete", "b")} <= seen["destroy"] and ("delete", "a") in seen["refresh"]
    assert bench.backend.checkpoint_path("px", "dev").read_bytes() == before and not bench.backend.locks("px", "dev")
    assert sorted(call.rpartition(" ")[0] for call in bench.calls()) == ["read a", "read b"] and len(bench.things()) == 1
    assert bench.engine("up", "--preview-only").code == 2
