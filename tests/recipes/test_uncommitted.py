"""What is not committed becomes one patch: it applies, it is bounded, and no secret is in it."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from tests.recipes.test_code import AWS, git, put
from trainyard.errors import UserError
from trainyard.recipes import uncommitted as module
from trainyard.recipes.uncommitted import top_of, uncommitted


@pytest.fixture
def repo(tmp_path: Path) -> Path:
    top = tmp_path / "repo"
    for name, text in {"a.py": "one\n", "gone.py": "x\n", "was.txt": "x\n", "config.py": "n = 1\n", ".gitignore": "*.log\n"}.items():
        put(top, name, text)
    (top / "picture.bin").write_bytes(bytes(range(256)))
    git(top, "init", "-q", "-b", "main")
    git(top, "config", "diff.noprefix", "true")  # a person's own taste shapes no patch
    git(top, "config", "diff.renames", "copies")
    git(top, "add", ".")
    git(top, "commit", "-qm", "x")
    return top


def commit(top: Path) -> str:
    return subprocess.run(["git", "-C", top, "rev-parse", "HEAD"], capture_output=True, text=True, check=True).stdout.strip()


def state(top: Path) -> str:
    return subprocess.run(["git", "-C", top, "status", "--porcelain"], capture_output=True, text=True, check=True).stdout


def test_the_patch_makes_of_the_commit_what_lies_there_and_git_itself_is_left_as_it_was(repo: Path, tmp_path: Path) -> None:
    put(repo, "a.py", "two\n")
    (repo / "gone.py").unlink()
    (repo / "was.txt").rename(repo / "is.txt")
    git(repo, "add", "is.txt")
    (repo / "picture.bin").write_bytes(bytes(reversed(range(256))))
    put(repo, "new/line\tbreak ä.py", "new\n")
    put(repo, "notes.txt", "not of the run\n")
    put(repo, "run.log", "ignored\n")
    before = state(repo)

    seen = uncommitted(repo, [repo / "new"], [repo / "new" / "line\tbreak ä.py"])

    assert seen.commit == commit(repo) and state(repo) == before and seen.left_out == ()
    other = tmp_path / "other"
    git(tmp_path, "clone", "-q", str(repo), str(other))
    (tmp_path / "p").write_bytes(seen.patch)
    git(other, "apply", str(tmp_path / "p"))
    there = {
        path.relative_to(other).as_posix(): path.read_bytes() for path in other.rglob("*") if path.is_file() and ".git" not in path.parts
    }
    assert there == {
        "a.py": b"two\n", "is.txt": b"x\n", "config.py": b"n = 1\n", ".gitignore": b"*.log\n", "new/line\tbreak ä.py": b"new\n",
        "picture.bin": bytes(reversed(range(256))),
    }  # fmt: skip


def test_secrets_by_name_and_by_content_settings_and_what_is_big_are_named_and_stay_out(
    repo: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "LARGEST_FILE", 1000)
    monkeypatch.setattr(module, "LARGEST_PATCH", 600)
    put(repo, "a.py", f"{AWS}\n")
    put(repo, "config.py", f"x = 1\nkey = '{AWS}'\n")
    put(repo, "is_big.txt", "x\n" * 600)
    put(repo, "Pulumi.dev.yaml", "encryptionsalt: v1:x\n")
    put(repo, "prod.env", "A=1\n")
    put(repo, "fits.txt", "short\n")
    put(repo, "wide.txt").write_bytes(f"{AWS}\n".encode("utf-16"))
    put(repo, "zz.txt", "y\n" * 300)
    git(repo, "add", ".")

    seen = uncommitted(repo, [])

    assert seen.files == ("fits.txt",) and AWS.encode() not in seen.patch
    why = dict(seen.left_out)
    assert seen.apart == ("Pulumi.dev.yaml",) and b"Pulumi" not in seen.patch
    assert sorted(why) == ["a.py", "config.py", "is_big.txt", "prod.env", "wide.txt", "zz.txt"]
    assert (
        why["a.py"] == why["config.py"] == why["wide.txt"] == "a key of AWS stands in it"
        and why["prod.env"] == "its name is that of a secret"
    )
    assert "more than" in why["is_big.txt"] and "would be bigger" in why["zz.txt"]


def test_a_secret_that_was_taken_out_is_not_in_the_patch_that_takes_it_out(repo: Path) -> None:
    put(repo, "a.py", f"{AWS}\n")
    git(repo, "commit", "-qam", "oops")
    put(repo, "a.py", "clean\n")
    seen = uncommitted(repo, [])
    assert seen.patch == b"" and seen.left_out == (("a.py", "a key of AWS stands in it"),)


def test_a_repository_inside_and_one_without_a_commit_are_no_trouble(repo: Path, tmp_path: Path) -> None:
    put(repo, "inner/b.py", "b\n")
    git(repo / "inner", "init", "-q")
    seen = uncommitted(repo, [repo / "inner"], [repo / "inner" / "b.py"])
    assert seen.patch == b"" and seen.files == ()
    fresh = tmp_path / "fresh"
    put(fresh, "a.py")
    git(fresh, "init", "-q")
    assert uncommitted(fresh, [fresh]).commit is None
    assert top_of(fresh / ".") == fresh and top_of(tmp_path) is None


def test_the_environment_of_a_hook_names_no_other_repository(repo: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GIT_DIR", str(tmp_path / "nowhere"))
    monkeypatch.setenv("GIT_INDEX_FILE", os.devnull)
    put(repo, "a.py", "two\n")
    assert uncommitted(repo, []).files == ("a.py",)


def test_a_repository_that_git_refuses_to_look_into_is_told_in_its_words(repo: Path) -> None:
    (repo / ".git" / "HEAD").write_text("no head\n")
    with pytest.raises(UserError, match="git does not say what is changed: fatal: not a git repository"):
        uncommitted(repo, [])
