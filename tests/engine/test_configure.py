"""A project without a stack: init, config set, up; and the CLI goes on with what they wrote."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.engine.bench import Bench, cli_found, new_bench
from trainyard.engine.configure import set_value
from trainyard.engine.project import load_project
from trainyard.errors import UserError


@pytest.fixture
def bench() -> Iterator[Bench]:
    result = new_bench()
    yield result
    shutil.rmtree(result.root, ignore_errors=True)


def say(bench: Bench, *words: str, given: str | None = None) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "trainyard.engine", *words]
    return subprocess.run(command, cwd=bench.root, env=bench.env, input=given, capture_output=True, text=True, check=False)


def ok(bench: Bench, *words: str, given: str | None = None) -> str:
    done = say(bench, *words, given=given)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_a_project_begins_with_init_and_config_set(bench: Bench) -> None:
    ok(bench, "init", "-s", "new")
    ok(bench, "config", "set", "label", "3", "-s", "new")
    ok(bench, "config", "set", "pw", "--secret", "-s", "new", given="hush-hush\n")
    text = (bench.root / "Pulumi.new.yaml").read_text()
    assert "px:label: '3'" in text and "encryptionsalt: v1:" in text and "hush" not in text

    bench.spec([{"kind": "config", "name": "a", "key": "pw"}, {"kind": "python", "name": "p", "code":
                "assert pulumi.Config().require_int('label') == 3"}])  # fmt: skip
    ok(bench, "up", "-s", "new", "-y")

    assert '"label": "hush-hush"' in (bench.cloud / f"{bench.things()[0]}.json").read_text()
    ok(bench, "destroy", "-s", "new", "-y")


@pytest.mark.cli
@pytest.mark.skipif(cli_found() is None, reason="NO PULUMI CLI on PATH: it was not asked to read what was written")
def test_the_cli_reads_what_init_and_config_set_wrote(bench: Bench) -> None:
    ok(bench, "init", "-s", "new")
    ok(bench, "config", "set", "pw", "hush-hush", "--secret", "-s", "new")

    done = subprocess.run(
        ["pulumi", "config", "get", "pw", "--stack", "new"], cwd=bench.root, env=bench.env, capture_output=True, text=True, check=False
    )

    assert done.stdout.strip() == "hush-hush", done.stderr


def test_a_stack_is_made_once_and_by_a_proper_name(bench: Bench) -> None:
    again, odd = say(bench, "init", "-s", "dev"), say(bench, "init", "-s", "a b")
    assert again.returncode == odd.returncode == 2
    assert "exists already" in again.stderr and "is no name for a stack" in odd.stderr


def test_the_state_s_folder_is_made_and_a_setting_of_no_stack_is_refused(bench: Bench) -> None:
    bench.env["PULUMI_BACKEND_URL"] = f"file://{bench.root}/not/there"
    none = say(bench, "config", "set", "k", "v", "-s", "none")
    assert none.returncode == 2 and "there is no stack 'none'" in none.stderr and not (bench.root / "Pulumi.none.yaml").exists()
    ok(bench, "init", "-s", "new")
    assert (bench.root / "not/there/.pulumi/stacks").is_dir()


@pytest.mark.parametrize(
    "words", [["up", "extra", "-y"], ["config"], ["config", "get", "x"], ["config", "set"], ["config", "set", "a b", "1"]]
)
def test_words_that_mean_nothing_are_refused(bench: Bench, words: list[str]) -> None:
    assert say(bench, *words, "-s", "dev").returncode == 2


SETTINGS = [
    ("", "config:\n  px:k: v\n"),
    ("config: {}\n", "config:\n  px:k: v\n"),
    ("config:\n", "config:\n  px:k: v\n"),
    ("# mine\nencryptionsalt: v1:x\n", "# mine\nencryptionsalt: v1:x\nconfig:\n  px:k: v\n"),
    ("config:\n  # why\n  px:a: 1 # one\n  px:k: old\n\nother: x\n", "config:\n  # why\n  px:a: 1 # one\n  px:k: v\n\nother: x\n"),
    ("config:\n    px:a: 1\nother: x\n", "config:\n    px:a: 1\n    px:k: v\nother: x\n"),
    ("config:\n  px:k:\n    - a\n    - b\n  px:z: 1\n", "config:\n  px:k: v\n  px:z: 1\n"),
    ("config:\n  px:k:\n  - a\n  px:z: 1\n", "config:\n  px:k: v\n  px:z: 1\n"),
    ('config:\n  "px:k": old\n  px:kk: 1\n', "config:\n  px:k: v\n  px:kk: 1\n"),
]


@pytest.mark.parametrize(("before", "after"), SETTINGS)
def test_one_line_is_changed_and_the_rest_stays(bench: Bench, before: str, after: str) -> None:
    path = bench.root / "Pulumi.dev.yaml"
    path.write_text(before)
    set_value(bench.backend, load_project(bench.root), "dev", path, "k", "v", None)
    assert path.read_text() == after


@pytest.mark.parametrize("text", ["config: {px:a: 1}\n", "config:\n  ? px:k\n  : old\n"])
def test_a_form_that_is_not_changed_here_is_left_as_it_is(bench: Bench, text: str) -> None:
    path: Path = bench.root / "Pulumi.dev.yaml"
    path.write_text(text)
    with pytest.raises(UserError):
        set_value(bench.backend, load_project(bench.root), "dev", path, "k", "v", None)
    assert path.read_text() == text
