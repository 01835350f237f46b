"""A repository of one's own: its code goes along, its packages are installed, what its program writes comes back."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
from pathlib import Path

import pytest

from tests.e2e.yard import Yard
from tests.here import Here
from tests.recipes.test_venvs import wheel

TRAIN = """
import json, os, sys
from pathlib import Path
import tinypack
from helper.words import WORD

out = Path(os.environ["OUTPUT_DIR"])
with (out / "metrics.jsonl").open("a") as metrics:
    for step in range(1, 4):
        print(json.dumps({"step": step, "total_steps": 3, "loss": 3.0 - step}), file=metrics, flush=True)
(out / "model" / "weights.bin").write_bytes(b"w" * 1000)
(out / "notes.txt").write_text(repr([WORD, tinypack.ANSWER, sys.argv[1:], os.getcwd() == os.environ["CODE_DIR"]]))
Path("runs/epoch 1").mkdir(parents=True)
Path("runs/epoch 1/loss.txt").write_text("0.5")
Path("helper/words.py").write_text("changed by the program")
"""


OF_THE_RUN = ("bundle.sha256", "code.json", "run.sh")
"""What says of a bundle which code it holds; run.sh names the environment, which holds the code's own wheel."""


@pytest.fixture
def repository(yard: Yard) -> Path:
    top = yard.root / "my repo"
    files = {"train.py": TRAIN, "helper/words.py": "WORD = 'one'\n", ".env": "HF_TOKEN=x\n", ".gitignore": "*.bin\n*.lock\n"}
    for name, text in {**files, "requirements.txt": "./wheels/tinypack-1.0-py3-none-any.whl\n"}.items():
        (top / name).parent.mkdir(parents=True, exist_ok=True)
        (top / name).write_text(text)
    (top / "big.bin").write_bytes(b"ignored")
    (top / "wheels").mkdir()
    wheel(top / "wheels")
    for words in (["init", "-q"], ["add", "."]):
        subprocess.run(["git", "-C", top, *words], check=True)
    return top


def test_a_command_runs_with_the_code_and_what_it_writes_comes_back_by_hash(yard: Yard, repository: Path, tmp_path: Path) -> None:
    (tmp_path / "volume").mkdir()
    with (yard.root / "Pulumi.local.yaml").open("a") as settings:
        settings.write(f"  trainyard:volume: {tmp_path / 'volume'}\n")
    words = ("train", "--stack", "local", "--name", "own", "--json", "--", "python", "train.py", "--lr", "1e-4", "two words")
    done = yard.invoke(*words, cwd=repository)
    summary = done.expect().json()

    assert summary["success"] and summary["recipe"] == "command" and (summary["steps_done"], summary["final_loss"]) == (3, 0.0)
    assert "my repo: 5 files" in done.err and ".env (its name is that of a secret)" in done.err
    assert summary["code"]["files"] == 5 and len(summary["code"]["sha256"]) == 64
    listed = json.loads((yard.home / "runs/tester/own/1/bundle/code.json").read_text())
    assert listed["sha256"] == summary["code"]["sha256"]
    sums = {file["path"]: file["sha256"] for file in listed["files"]}
    assert sums == {name: hashlib.sha256((repository / name).read_bytes()).hexdigest() for name in sums}
    assert {".gitignore", "helper/words.py", "requirements.txt", "train.py"} < set(sums) and ".env" not in sums and "big.bin" not in sums

    yard.invoke("download", "own", str(tmp_path / "got"), "--whole").expect()
    assert (tmp_path / "got/model/weights.bin").read_bytes() == b"w" * 1000
    assert (tmp_path / "got/notes.txt").read_text() == repr(["one", 42, ["--lr", "1e-4", "two words"], True])
    assert (tmp_path / "got/workdir/runs/epoch 1/loss.txt").read_text() == "0.5", "a program that knows nothing of OUTPUT_DIR loses nothing"
    assert (tmp_path / "got/workdir/helper/words.py").read_text() == "changed by the program"
    assert not (tmp_path / "got/workdir/train.py").exists() and yard.pods() == []

    sent = {path.name for path in (tmp_path / "volume/trainyard/files").iterdir()}
    assert set(sums.values()) <= sent
    (repository / "helper/words.py").write_text("WORD = 'two'\n")
    again = yard.invoke(*("again" if word == "own" else word for word in words), cwd=repository).expect().json()
    assert again["success"] and again["code"]["sha256"] != summary["code"]["sha256"]
    new = {path.name for path in (tmp_path / "volume/trainyard/files").iterdir()} - sent
    told = {name: hashlib.sha256((yard.home / "runs/tester/again/1/bundle" / name).read_bytes()).hexdigest() for name in OF_THE_RUN}
    changed = hashlib.sha256((repository / "helper/words.py").read_bytes()).hexdigest()
    assert new == {changed, *told.values()}, "only what changed is sent to a pod that has the rest on its volume"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--",), "recipe command has nothing to run"),
        (("--", "python", "tarin.py"), "the command runs tarin.py, which is not there"),
        (("--set", "code=nowhere", "--", "ls"), "code: there is no folder"),
        (("--", "no-such-program", "train.py"), "the command runs no-such-program, which is not on PATH"),
    ],
)
def test_what_cannot_run_is_told_before_anything_is_rented(
    yard: Yard, repository: Path, here: Here, words: tuple[str, ...], message: str
) -> None:
    code, _, said = here.run(repository, "train", "--stack", "local", *words, env=yard.env)
    assert code == 2 and message in said and yard.pods() == []


def test_outside_a_repository_a_person_says_whether_the_folder_goes_along(yard: Yard, tmp_path: Path) -> None:
    plain = yard.root / "plain"
    plain.mkdir()
    (plain / "a.sh").write_text('echo hi >"$OUTPUT_DIR/a.txt"\n')
    refused = yard.invoke("render", "command", str(tmp_path / "r1"), "--", "sh", "a.sh", cwd=plain)
    assert "lies in no git repository" in refused.expect(2).err and "--set code=." in refused.err

    yard.invoke("render", "command", str(tmp_path / "r2"), "--set", "code=.", "--", "A=1", "sh", "a.sh", cwd=plain).expect()
    ran = subprocess.run(["sh", tmp_path / "r2/run.sh"], capture_output=True, text=True, env={"PATH": os.environ["PATH"]})
    assert ran.returncode == 0, ran.stderr
    assert (tmp_path / "r2/workspace/output/a.txt").read_text() == "hi\n"
