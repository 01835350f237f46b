"""`trainyard init` makes any folder a repository, overwrites nothing, and writes all or nothing."""

from __future__ import annotations

import errno
import json
import os
import pty
import re
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.here import Here
from trainyard import files
from trainyard.cli import init, scaffold
from trainyard.cli.scaffold import Choices
from trainyard.cli.usage import folder_named
from trainyard.config import find_root, is_repository
from trainyard.errors import UserError
from trainyard.recipes.contract import load_recipe
from trainyard.settings.reader import load
from trainyard.shipped import checkout

ROOT = Path(__file__).resolve().parents[2]


def tree(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@dataclass(frozen=True)
class Done:
    """How a command ended and what it printed."""

    returncode: int
    stdout: str
    stderr: str


Command = Callable[..., Done]


@pytest.fixture
def trainyard(here: Here) -> Command:
    """The command ``trainyard``, in this process."""
    return lambda cwd, *words: Done(*here.run(cwd, *words, name="trainyard"))


def carry_out(root: Path, chosen: Choices | None = None) -> list[str]:
    planned = init.plan(root, chosen or Choices())
    init.write(planned)
    return list(init.report_lines(planned))


def test_an_empty_folder_becomes_a_repository_with_what_a_person_edits(tmp_path: Path, trainyard: Command) -> None:
    done = trainyard(tmp_path, "init", "own place", "--cloud", "runpod", "--ci", "github")

    root = tmp_path / "own place"
    assert (done.returncode, done.stderr) == (0, "")
    assert set(tree(root)) == {
        ".env.example", ".gitignore", ".trainyard.json", "Pulumi.yaml", "Pulumi.local.yaml", "Pulumi.runpod.yaml", "tasks.py",
        "infra/__main__.py", "infra/provider/pulumi-resource-trainyard", "infra/stack.schema.json", "infra/run.schema.json",
        "configs/example.yaml", "templates/example/recipe.yaml",
        "templates/example/train.py", "playbooks/hello.yml", ".github/workflows/trainyard.yml", ".github/workflows/trainyard-reaper.yml",
        ".github/workflows/trainyard-gitops.yml",
    }  # fmt: skip
    assert os.access(root / "infra/provider/pulumi-resource-trainyard", os.X_OK)
    assert is_repository(root) and find_root(root / "configs") == root
    assert load(root, "local") and load(root, "runpod")
    assert load_recipe(root, "example").variables
    assert len((root / "tasks.py").read_text().splitlines()) <= 16
    assert "RUNPOD_API_KEY=\n" in (root / ".env.example").read_text()
    assert "next       cd 'own place' && trainyard train --recipe example" in done.stdout
    assert max(map(len, done.stdout.splitlines())) <= 100


def test_without_a_cloud_there_is_nothing_of_one(tmp_path: Path) -> None:
    carry_out(tmp_path)

    assert "RUNPOD" not in (tmp_path / ".env.example").read_text()
    assert not (tmp_path / "Pulumi.runpod.yaml").exists() and not (tmp_path / ".github").exists()


def test_every_cloud_that_has_settings_here_can_be_chosen(tmp_path: Path) -> None:
    carry_out(tmp_path, Choices(tuple(scaffold.clouds()), "github"))

    assert [name for name in scaffold.clouds() if not (tmp_path / f"Pulumi.{name}.yaml").is_file()] == []


def test_a_second_time_nothing_is_written_and_a_choice_is_added(tmp_path: Path) -> None:
    carry_out(tmp_path)
    before = tree(tmp_path)

    assert carry_out(tmp_path) == ["all is there: nothing was written"]
    assert tree(tmp_path) == before

    said = carry_out(tmp_path, Choices(("runpod",)))

    assert said == ["wrote      Pulumi.runpod.yaml", "renewed    .env.example: nobody had changed it"]
    assert "\nRUNPOD_API_KEY=\n" in (tmp_path / ".env.example").read_text()
    assert carry_out(tmp_path) == ["all is there: nothing was written"]
    assert scaffold.read_record(tmp_path).choices.clouds == ("runpod",)  # type: ignore[union-attr]


def test_a_choice_that_is_added_says_what_a_file_of_ones_own_lacks(tmp_path: Path) -> None:
    carry_out(tmp_path)
    (tmp_path / ".env.example").write_text("MINE=\n")

    for _ in range(2):
        said = carry_out(tmp_path, Choices(("runpod",)))
        assert said[-3:-1] == ["left       .env.example, as it is", "           add to it: RUNPOD_API_KEY="] or said[-2:] == [
            "left       .env.example, as it is", "           add to it: RUNPOD_API_KEY=",
        ]  # fmt: skip
    assert (tmp_path / ".env.example").read_text() == "MINE=\n"


def test_what_somebody_removed_stays_away_but_what_it_cannot_do_without(tmp_path: Path) -> None:
    carry_out(tmp_path)
    (tmp_path / "playbooks/hello.yml").unlink()
    (tmp_path / "infra/__main__.py").unlink()

    said = carry_out(tmp_path)

    assert said == [
        "wrote      infra/__main__.py",
        "left out   playbooks/hello.yml: it was removed here (to have it again, take its line out of .trainyard.json)",
    ]
    assert not (tmp_path / "playbooks/hello.yml").exists()
    assert carry_out(tmp_path)[-1] == "nothing was written"

    (tmp_path / scaffold.SCHEMA).unlink()
    assert f"wrote      {scaffold.SCHEMA}" in carry_out(tmp_path)


def test_files_of_a_repository_with_a_life_of_its_own_are_left_and_what_to_add_is_said(tmp_path: Path) -> None:
    own = {
        "tasks.py": b"from invoke import task\r\n\r\n@task\r\ndef mine(c):\r\n    print('mine')\r\n",
        "infra/__main__.py": b"import pulumi\n",
        "Pulumi.local.yaml": b"config:\n  trainyard:cloud: local\n  trainyard:hours: 1\n",
        "train.py": b"print(1)\n",
        ".gitignore": b"/out/\r\n*.ckpt",
    }
    for path, text in own.items():
        (tmp_path / path).parent.mkdir(exist_ok=True)
        (tmp_path / path).write_bytes(text)

    said = "\n".join(carry_out(tmp_path))

    there = tree(tmp_path)
    assert {path: there[path] for path in own if path != ".gitignore"} == {path: text for path, text in own.items() if path != ".gitignore"}
    assert there[".gitignore"] == b"/out/\r\n*.ckpt\r\n.env\r\n.trainyard/\r\n.venv/\r\n__pycache__/\r\nPulumi.*.*.yaml\r\n"
    assert (
        "left       tasks.py, as it is\n           for `invoke` to offer Trainyard's verbs: from trainyard.cli.verbs import verbs" in said
    )
    assert "from trainyard.program import compose; compose()" in said
    assert "left       Pulumi.local.yaml, as it is" in said


def test_verbs_and_tasks_of_ones_own_stand_side_by_side(tmp_path: Path) -> None:
    carry_out(tmp_path)
    text = (tmp_path / "tasks.py").read_text()
    (tmp_path / "tasks.py").write_text(re.sub(r"^# ?", "", text, flags=re.M).replace('c.run("echo hello")', 'print("hello")'))
    (tmp_path / "configs" / "deep").mkdir()

    for folder in (tmp_path, tmp_path / "configs" / "deep"):
        done = subprocess.run(
            [sys.executable, "-m", "trainyard.cli.commandline", "hello"], cwd=folder, capture_output=True, text=True, check=False
        )
        assert (done.returncode, done.stdout) == (0, "hello\n"), done.stderr
    listed = subprocess.run([sys.executable, "-m", "invoke", "--list"], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert "  hello " in listed.stdout and "  train " in listed.stdout and " faults." not in listed.stdout


def test_another_projects_pulumi_yaml_is_refused_with_a_way_out(tmp_path: Path, trainyard: Command) -> None:
    (tmp_path / "Pulumi.yaml").write_text("name: shop\nruntime: go\n")
    done = trainyard(tmp_path, "init")

    assert done.returncode == 2
    assert "is another Pulumi project's\n" in done.stderr and "trainyard init training" in done.stderr
    assert list(tree(tmp_path)) == ["Pulumi.yaml"]
    assert trainyard(tmp_path, "init", "training").returncode == 0
    assert find_root(tmp_path / "training" / "configs") == tmp_path / "training"


def test_inside_a_repository_a_folder_has_to_be_named(tmp_path: Path, trainyard: Command) -> None:
    carry_out(tmp_path)
    before = tree(tmp_path)

    done = trainyard(tmp_path / "configs", "init")

    assert done.returncode == 2 and f"lies in the repository {tmp_path}\n" in done.stderr
    assert tree(tmp_path) == before
    assert trainyard(tmp_path / "configs", "init", ".").returncode == 0
    assert is_repository(tmp_path / "configs")


@pytest.mark.parametrize("path", ["infra", "templates", "configs"])
def test_a_file_where_a_folder_belongs_stops_it_before_anything_is_written(path: str, tmp_path: Path) -> None:
    (tmp_path / path).write_text("mine\n")

    with pytest.raises(UserError, match="is not a folder: "):
        carry_out(tmp_path)
    assert tree(tmp_path) == {path: b"mine\n"}


def test_a_folder_that_cannot_be_written_to_stops_it_before_anything_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "configs").mkdir()
    monkeypatch.setattr(os, "access", lambda path, mode: Path(path) != tmp_path / "configs")

    with pytest.raises(UserError, match="configs cannot be written to"):
        carry_out(tmp_path)
    assert tree(tmp_path) == {}


def test_a_path_that_is_a_file_and_the_checkout_of_trainyard_are_refused(tmp_path: Path) -> None:
    (tmp_path / "x").write_text("")
    with pytest.raises(UserError, match="is not a folder"):
        init.plan(tmp_path / "x", Choices())
    assert checkout() == ROOT
    with pytest.raises(UserError, match="the checkout of Trainyard itself"):
        init.plan(ROOT, Choices())


@pytest.mark.parametrize("fails_at", range(1, 12))
def test_whatever_breaks_while_it_writes_leaves_the_folder_as_it_was(
    fails_at: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / ".gitignore").write_text("*.ckpt\n")
    (tmp_path / ".gitignore").chmod(0o640)
    left = [fails_at]

    def full_disk(path: Path, *rest: object, **more: object) -> bool:
        left[0] -= 1
        if left[0] <= 0:
            raise OSError(errno.ENOSPC, "No space left on device", str(path))
        return write_new(path, *rest, **more)  # type: ignore[arg-type]

    write_new = files.write_new
    monkeypatch.setattr(init, "write_new", full_disk)

    with pytest.raises(OSError, match="No space left"):
        carry_out(tmp_path / "a" / "b" if fails_at % 2 else tmp_path)
    assert tree(tmp_path) == {".gitignore": b"*.ckpt\n"}
    assert [path.name for path in tmp_path.iterdir()] == [".gitignore"]
    assert (tmp_path / ".gitignore").stat().st_mode & 0o777 == 0o640


def test_a_file_that_appears_meanwhile_is_not_overwritten(tmp_path: Path) -> None:
    planned = init.plan(tmp_path, Choices())
    (tmp_path / "tasks.py").write_text("mine\n")

    with pytest.raises(UserError, match="has appeared while this was at work"):
        init.write(planned)
    assert tree(tmp_path) == {"tasks.py": b"mine\n"}


def test_a_link_that_leads_nowhere_is_somebodys_own(tmp_path: Path) -> None:
    (tmp_path / "tasks.py").symlink_to("elsewhere.py")

    assert "left       tasks.py, as it is" in carry_out(tmp_path)
    assert os.readlink(tmp_path / "tasks.py") == "elsewhere.py"


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ("--cloud runpot", "--cloud runpot: there are no settings for it (did you mean 'runpod'?)\nClouds: runpod, "),
        ("--ci gitlap", "--ci gitlap: there are no files for it"),
        ("--clout x", "init has no option --clout (did you mean '--cloud'?)"),
        ("a b", "init takes no word 'b'"),
    ],
)
def test_words_that_name_nothing_are_refused_before_anything_is_written(words: str, says: str, tmp_path: Path, trainyard: Command) -> None:
    done = trainyard(tmp_path, "init", *words.split())

    assert done.returncode == 2 and says in done.stderr, done.stderr
    assert tree(tmp_path) == {}


def test_the_folder_may_stand_anywhere_behind_the_verb() -> None:
    assert folder_named(["trainyard", "init", "a", "--yes"]) == ["trainyard", "init", "--dir", "a", "--yes"]
    assert folder_named(["trainyard", "init", "--cloud", "runpod", "a"]) == ["trainyard", "init", "--dir", "a", "--cloud", "runpod"]
    assert folder_named(["trainyard", "init", "--cloud", "runpod"]) == ["trainyard", "init", "--cloud", "runpod"]
    assert folder_named(["trainyard", "runs"]) == ["trainyard", "runs"]


def answered(cwd: Path, *lines: str) -> tuple[int, str]:
    """Run `trainyard init` at a terminal and type lines; an empty list closes it."""
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "trainyard", "init"], cwd=cwd, stdin=theirs, stdout=theirs, stderr=theirs, start_new_session=True
    )
    os.close(theirs)
    os.write(ours, "".join(f"{line}\n" for line in lines).encode() or b"\x04")
    said = b""
    try:
        while piece := os.read(ours, 4096):
            said += piece
    except OSError:  # the other side has ended
        pass
    os.close(ours)
    return process.wait(timeout=60), said.decode().replace("\r\n", "\n")


def test_at_a_terminal_it_asks_three_things(tmp_path: Path) -> None:
    code, said = answered(tmp_path, "runpod", "y", "")

    assert code == 0, said
    assert "Clouds beside this machine (" in said and "Write these " in said
    assert (tmp_path / "Pulumi.runpod.yaml").exists() and (tmp_path / ".github/workflows/trainyard.yml").exists()


@pytest.mark.parametrize(("lines", "code"), [(("", "", "n"), 1), ((), 130), (("mars",), 2)])
def test_who_does_not_agree_gets_nothing(lines: tuple[str, ...], code: int, tmp_path: Path) -> None:
    assert answered(tmp_path, *lines)[0] == code
    assert tree(tmp_path) == {}


def test_the_workflows_of_a_repository_use_what_our_own_use_and_parse(tmp_path: Path) -> None:
    import yaml

    carry_out(tmp_path, Choices(("runpod",), "github"))
    ours = "".join(path.read_text() for path in (ROOT / ".github/workflows").glob("*.yml"))
    for path in (tmp_path / ".github/workflows").iterdir():
        steps = [step for job in yaml.safe_load(path.read_text())["jobs"].values() for step in job["steps"]]
        assert [step["uses"] for step in steps if "uses" in step and step["uses"] not in ours] == []
    assert "RUNPOD_API_KEY: ${{ secrets.RUNPOD_API_KEY }}" in (tmp_path / ".github/workflows/trainyard-reaper.yml").read_text()


def test_a_damaged_note_is_named(tmp_path: Path) -> None:
    carry_out(tmp_path)
    for text in ("{", "[]", json.dumps({"trainyard": "1"})):
        (tmp_path / ".trainyard.json").write_text(text)
        with pytest.raises(UserError, match=r"^\.trainyard\.json:1") as left:
            init.plan(tmp_path, Choices())
        assert "git checkout .trainyard.json" in str(left.value.hint)


def test_outside_any_repository_the_way_in_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("trainyard.config.checkout", lambda: None)
    with pytest.raises(UserError, match="is in no repository of Trainyard's") as left:
        find_root(tmp_path)
    assert left.value.hint == "To make it one: trainyard init"
    (tmp_path / "Pulumi.yaml").write_text("name: trainyard-2\nruntime: python\n")
    assert not is_repository(tmp_path)
    (tmp_path / "Pulumi.yaml").write_bytes(b"runtime: python\r\nname: 'trainyard'  # ours\r\n")
    assert is_repository(tmp_path)


@pytest.mark.parametrize("there", [True, False])
def test_a_gitignore_that_is_a_link_stays_one_and_what_it_leads_to_gets_the_lines(trainyard: Command, tmp_path: Path, there: bool) -> None:
    folder, real = tmp_path / "mine", tmp_path / "ignored"
    folder.mkdir()
    if there:
        real.write_text("x\n")
    (folder / ".gitignore").symlink_to(real)

    assert trainyard(folder, "init", ".", "--yes").returncode == 0

    assert (folder / ".gitignore").is_symlink() and ".env" in real.read_text().splitlines()
    assert real.read_text().startswith("x\n") is there


@pytest.mark.parametrize(("name", "said"), [("", "DIR is empty"), ("/", "no place for a repository")])
def test_no_folder_and_the_root_of_all_are_no_place(trainyard: Command, tmp_path: Path, name: str, said: str) -> None:
    done = trainyard(tmp_path, "init", name, "--yes")

    assert done.returncode == 2 and said in done.stderr and not list(tmp_path.iterdir())
