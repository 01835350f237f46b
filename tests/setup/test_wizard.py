"""`invoke setup --stack S`: keys are tried before they are kept, and nothing of one is ever shown."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from trainyard.config import places
from trainyard.doctor import stackneeds
from trainyard.doctor.wizard import SetupReport, SetupRequest, lines, set_up
from trainyard.envfile import read_env_file
from trainyard.errors import RefusedError, UserError
from trainyard.rehearsal.emulators import rehearsed
from trainyard.rehearsal.kit import Emulator, Timing, start
from trainyard.rehearsal.vast import VAST
from trainyard.runs.context import CommandContext
from trainyard.runs.ui import Ui
from trainyard.settings import reader
from trainyard.settings.clouds import BUILT_IN

WRONG = "0123456789abcdef-no-such-key"


@pytest.fixture(scope="module")
def vast() -> Iterator[Emulator]:
    with tempfile.TemporaryDirectory(prefix="wz") as folder:
        emulator = start(VAST, Path(folder), timing=Timing(provisioning=1e9), env={})
        yield emulator
        emulator.stop(end_pods=True)


@dataclass
class Bench:
    """A repository without stacks beside `local`, and Vast.ai's emulator."""

    root: Path
    emulator: Emulator
    env: dict[str, str] = field(default_factory=dict)

    @property
    def key(self) -> str:
        return self.emulator.key

    def set_up(self, person: Typist | None = None, **asked: object) -> SetupReport:
        address = {name: value for name, value in self.emulator.env.items() if name != "VAST_API_KEY"}
        env = {"HOME": str(self.root), **address, **self.env}
        context = CommandContext(places(self.root, env), env, Ui())
        report = set_up(context, SetupRequest(**{"patience": 5.0, **asked}), person)  # type: ignore[arg-type]
        said = "\n".join(lines(report))
        assert self.key not in said and WRONG not in said and self.key not in repr(report)
        return report

    @property
    def kept(self) -> dict[str, str]:
        return read_env_file(self.root / ".env")


@dataclass
class Typist:
    """A person who types these, one after the other."""

    typed: list[str]
    heard: list[str] = field(default_factory=list)

    def secret(self, name: str) -> str:
        return self.typed.pop(0) if self.typed else ""

    words = secret

    def say(self, text: str) -> None:
        self.heard.append(text)


@pytest.fixture
def bench(tmp_path: Path, vast: Emulator) -> Bench:
    (tmp_path / "Pulumi.yaml").write_text("name: trainyard\nruntime: python\n")
    (tmp_path / "Pulumi.local.yaml").write_text("config:\n  trainyard:cloud: local\n")
    return Bench(tmp_path, vast)


def test_a_key_that_works_is_kept_and_its_stack_gets_a_file(bench: Bench) -> None:
    (bench.root / ".env").write_text("# mine\nOTHER=1\n")
    report = bench.set_up(stacks=("vast",), keys={"VAST_API_KEY": bench.key}, settings={"gpu": "RTX 4090,H100", "max_price": "2.5"})
    assert (report.exit_code, report.ready, report.written) == (0, ["vast"], ("VAST_API_KEY",))
    assert (bench.root / ".env").read_text() == f"# mine\nOTHER=1\nVAST_API_KEY={bench.key}\n"
    assert (bench.root / ".env").stat().st_mode & 0o777 == 0o600
    settings = reader.load(bench.root, "vast")
    assert (settings.cloud, settings.gpu, settings.max_price) == ("vast", ("RTX 4090", "H100"), 2.5)
    assert "next       invoke train --stack vast --data rows.jsonl   (prices: invoke offers --vram 24)" in lines(report)


def test_a_key_that_is_refused_is_not_kept_unless_one_insists(bench: Bench) -> None:
    report = bench.set_up(stacks=("vast",), keys={"VAST_API_KEY": WRONG})
    assert (report.exit_code, report.written, report.stacks[0].holder.verdict) == (4, (), "wrong")
    assert not (bench.root / ".env").exists() and not (bench.root / "Pulumi.vast.yaml").exists()
    assert bench.set_up(stacks=("vast",), keys={"VAST_API_KEY": WRONG}, force=True).written == ("VAST_API_KEY",)


def test_the_package_of_a_cloud_that_is_meant_is_said_before_its_keys_are_asked_for(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "modal", None)
    for name in [name for name in sys.modules if name.startswith("trainyard.clouds.modal")]:
        monkeypatch.delitem(sys.modules, name)
    lack, person = "Modal needs the package 'modal': pip install 'trainyard[modal]'", Typist([])
    report = bench.set_up(person, stacks=("modal",))
    assert (report.exit_code, report.notes, person.heard[0]) == (2, (lack,), lack)
    tried = list(lines(bench.set_up(stacks=("modal",), keys={"MODAL_TOKEN_ID": "ak-1", "MODAL_TOKEN_SECRET": "as-1"})))
    assert "pip install 'trainyard[modal]'" in "\n".join(tried) and not any(line.startswith("note") for line in tried)
    assert bench.set_up(every=True).notes == ()


def test_what_a_person_has_to_make_first_is_said_by_setup_and_doctor(bench: Bench, tmp_path: Path) -> None:
    emulator = start(rehearsed("replicate"), tmp_path / "re", timing=Timing(provisioning=1e9), env={})  # type: ignore[arg-type]
    there = Bench(bench.root, emulator, {name: value for name, value in emulator.env.items() if name != "REPLICATE_API_TOKEN"})
    try:
        report = there.set_up(stacks=("replicate",), keys={"REPLICATE_API_TOKEN": emulator.key})
        text = "\n".join(lines(report))
        assert (report.exit_code, report.ready, report.written) == (2, [], ("REPLICATE_API_TOKEN",))
        assert "0 pods (an emulator); trainyard:template is still the shipped file's" in text and "How: docs/clouds/replicate.md" in text
        [stack] = stackneeds.settings(places(bench.root, {}), {}, "replicate")
        assert (stack.status, stack.remedy) == ("fail", "How: docs/clouds/replicate.md")
        made = {"template": f"you/trainyard:{'1' * 64}"}
        assert "trainyard:template" not in "\n".join(lines(there.set_up(stacks=("replicate",), settings=made)))
    finally:
        emulator.stop(end_pods=True)


@pytest.fixture
def ionet(bench: Bench, tmp_path: Path) -> Iterator[Bench]:
    """The same with io.net's containers, whose key its machines share; machines are refused there."""
    emulator = start(rehearsed("ionet"), tmp_path / "io", timing=Timing(provisioning=1e9), env={})  # type: ignore[arg-type]
    shared = {name: value for name, value in emulator.env.items() if name != "IOCLOUD_API_KEY"}
    yield Bench(bench.root, emulator, shared)
    emulator.stop(end_pods=True)


def test_a_key_that_two_clouds_share_is_tried_where_the_person_wants_it(ionet: Bench) -> None:
    keys, store = {"IOCLOUD_API_KEY": ionet.key}, {"AWS_ACCESS_KEY_ID": "a", "AWS_SECRET_ACCESS_KEY": "b"}
    without = ionet.set_up(stacks=("ionet",), keys=keys)
    assert (without.exit_code, without.ready, without.written) == (2, [], ("IOCLOUD_API_KEY",))
    said = "\n".join(lines(without))
    assert "and none is set" in said and "invoke setup --store r2" in said and "invoke train --stack ionet" not in said
    ionet.env |= store
    assert [stack.name for stack in ionet.set_up(stacks=("ionet",), keys=keys).stacks] == ["ionet"]
    both = ionet.set_up(keys=keys)
    assert {stack.name: stack.holder.verdict for stack in both.stacks} == {"ionet": "ready", "ionet-vm": "wrong"}
    assert "The key itself is good, and kept: ionet takes it." in "\n".join(lines(both)) and "not written" not in "\n".join(lines(both))
    assert ionet.kept == keys


def test_what_no_key_can_be_is_refused_before_anybody_is_asked(bench: Bench) -> None:
    report = bench.set_up(stacks=("vast",), keys={"VAST_API_KEY": "a key with blanks"})
    assert report.stacks[0].holder.says == "VAST_API_KEY: holds what no key has: space"
    assert report.exit_code == 4 and bench.kept == {}


def test_a_key_that_nobody_has_answered_for_is_kept_and_said_to_be_untried(bench: Bench) -> None:
    bench.env = {"VAST_URL": "http://127.0.0.1:9"}
    report = bench.set_up(stacks=("vast",), keys={"VAST_API_KEY": bench.key}, patience=0.1)
    assert (report.exit_code, report.written, report.ready) == (4, ("VAST_API_KEY",), [])
    assert any("not tried: no answer within 0.1 s" in line for line in lines(report))


def test_a_key_of_the_shell_is_tried_and_kept_once(bench: Bench) -> None:
    bench.env = {"VAST_API_KEY": bench.key}
    assert bench.set_up(stacks=("vast",)).written == ("VAST_API_KEY",)
    assert bench.set_up(stacks=("vast",)).written == ()
    assert bench.kept == {"VAST_API_KEY": bench.key}


def test_a_person_may_type_a_refused_key_again(bench: Bench) -> None:
    person = Typist([WRONG, bench.key])
    report = bench.set_up(person, stacks=("vast",))
    assert report.exit_code == 0 and bench.kept == {"VAST_API_KEY": bench.key}
    assert "Vast.ai: keys are made in Vast.ai's console (Keys) (Enter: leave it out)" in person.heard
    assert not any(WRONG in text or bench.key in text for text in person.heard)


def test_a_file_that_git_keeps_gets_no_key(bench: Bench) -> None:
    for words in (["init", "-q"], ["add", "-f", ".env"]):
        (bench.root / ".env").touch()
        subprocess.run(["git", *words], cwd=bench.root, check=True)
    with pytest.raises(RefusedError, match=r"git keeps \.env"):
        bench.set_up(stacks=("vast",), keys={"VAST_API_KEY": bench.key})
    assert bench.kept == {} and not (bench.root / "Pulumi.vast.yaml").exists()
    subprocess.run(["git", "rm", "-q", "--cached", ".env"], cwd=bench.root, check=True)
    assert "git does not ignore .env: echo .env >> .gitignore" in bench.set_up(keys={"VAST_API_KEY": bench.key}).notes


@pytest.mark.parametrize("cloud", [row for row in BUILT_IN if row.keys or row.needs], ids=lambda row: row.name)
def test_what_is_missing_is_said_with_where_it_is_made(bench: Bench, cloud: object) -> None:
    row = next(row for row in BUILT_IN if row == cloud)
    report = bench.set_up(stacks=(row.name,))
    text = "\n".join(lines(report))
    assert (report.exit_code, report.ready) == (2, [])
    assert row.key_page in text and all(name in text for name in (*row.keys, *row.needs))
    assert not (bench.root / f"Pulumi.{row.name}.yaml").exists()


def test_a_cloud_without_keys_is_named_in_its_stacks_file(bench: Bench) -> None:
    bench.env = {"TRAINYARD_SSH_COMMAND": "false"}
    report = bench.set_up(stacks=("slurm",), settings={"login": "me@login.example"})
    assert report.stacks[0].written and reader.load(bench.root, "slurm").login == "me@login.example"
    assert (report.exit_code, report.stacks[0].holder.verdict) == (4, "untried")
    file = bench.root / "Pulumi.slurm.yaml"
    before = file.read_text()
    bench.set_up(stacks=("slurm",), settings={"login": "you@login.example"})
    assert file.read_text() == before.replace("me@login.example", "you@login.example", 1)


def test_wrong_words_are_told_before_anything_is_written(bench: Bench) -> None:
    with pytest.raises(UserError, match="did you mean 'vast'"):
        bench.set_up(stacks=("vost",))
    with pytest.raises(UserError, match="VAST_API_KEI"):
        bench.set_up(keys={"VAST_API_KEI": "x"})
    with pytest.raises(UserError, match="max_price must be a number"):
        bench.set_up(stacks=("vast",), keys={"VAST_API_KEY": bench.key}, settings={"max_price": "much"})
    with pytest.raises(UserError, match="there is no store 'r3'"):
        bench.set_up(stores=("r3",))
    assert os.listdir(bench.root) == ["Pulumi.yaml", "Pulumi.local.yaml"] or set(os.listdir(bench.root)) == {
        "Pulumi.yaml",
        "Pulumi.local.yaml",
    }


def test_all_takes_whose_keys_are_there_and_names_the_others(bench: Bench) -> None:
    report = bench.set_up(every=True, keys={"VAST_API_KEY": bench.key, "HF_TOKEN": "hf_abcdefgh"})
    assert report.ready == ["vast"] and bench.kept == {"VAST_API_KEY": bench.key, "HF_TOKEN": "hf_abcdefgh"}
    assert {stack.name for stack in report.stacks} >= {"vast", "runpod", "slurm", "ssh"} and report.stores == ()
    assert sorted(path.name for path in bench.root.glob("Pulumi.*.yaml")) == ["Pulumi.local.yaml", "Pulumi.vast.yaml"]


def test_the_verb_takes_keys_from_stdin_and_shows_none(bench: Bench) -> None:
    env = {**os.environ, **bench.emulator.env, "TRAINYARD_PROJECT_DIR": str(bench.root)}
    del env["VAST_API_KEY"]
    words = [sys.executable, "-m", "trainyard", "setup", "--keys-from", "-", "--gpu", "H100", "--json"]
    done = subprocess.run(words, input=f"VAST_API_KEY={bench.key}\n", env=env, cwd=bench.root, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert bench.key not in done.stdout + done.stderr
    assert json.loads(done.stdout)["ready"] == ["vast"] and reader.load(bench.root, "vast").gpu == ("H100",)
