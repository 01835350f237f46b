"""A person's code: what goes along, what stays, and one hash that any other code would change."""

from __future__ import annotations

import contextlib
import os
import stat
import subprocess
from pathlib import Path

import pytest

from trainyard.errors import UserError
from trainyard.recipes import code, codefiles
from trainyard.recipes.code import check_command, collect, place
from trainyard.recipes.program import check_program
from trainyard.recipes.secretfiles import secret_in

KEY = "-----BEGIN PRIVATE " + "KEY-----\n" + "A" * 64 + "\n"
DRAWN = "q7Rk2mZx9LpV4tYw8NbC" + "3sHd6"
AWS = "AK" + "IA" + "Q" * 16


def put(top: Path, name: str, text: str = "x\n") -> Path:
    path = top / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def git(top: Path, *words: str) -> None:
    own = {
        "GIT_CONFIG_GLOBAL": os.devnull,
        "GIT_AUTHOR_NAME": "a",
        "GIT_AUTHOR_EMAIL": "a@b",
        "GIT_COMMITTER_NAME": "a",
        "GIT_COMMITTER_EMAIL": "a@b",
    }
    subprocess.run(["git", "-C", top, "-c", "protocol.file.allow=always", *words], check=True, capture_output=True, env=os.environ | own)


@pytest.fixture
def repo(tmp_path: Path) -> Path:
    top = tmp_path / "repo"
    put(top, "train.py", "print('hi')\n")
    put(top, "pkg/__init__.py", "")
    put(top, ".gitignore", "*.log\n/big/\n")
    git(top, "init", "-q", "-b", "main")
    git(top, "add", ".")
    git(top, "commit", "-qm", "x")
    return top


def names(found: code.Code) -> list[str]:
    return [file.name for file in found.files]


def test_in_a_repository_goes_what_git_has_or_would_add_as_it_lies_there_now(repo: Path) -> None:
    put(repo, "train.py", "print('edited')\n")
    put(repo, "new.py")
    put(repo, "run.log")
    put(repo, "big/data.bin")
    put(repo, "__pycache__/a.pyc")
    put(repo, "env/pyvenv.cfg")
    put(repo, "env/lib/x.py")
    (repo / "pkg/__init__.py").unlink()

    found = collect(repo)

    assert names(found) == [".gitignore", "new.py", "train.py"] and found.untracked == ("new.py",)
    assert "not in git yet, and sent: new.py" in found.remarks()
    put(repo, "train.py", "print('again')\n")
    assert collect(repo).sha256 != found.sha256
    put(repo, "train.py", "print('edited')\n").chmod(0o755)
    assert collect(repo).sha256 != found.sha256, "what is a program belongs to the hash"


def test_trainyardignore_leaves_out_tracked_files_and_has_the_last_word(repo: Path) -> None:
    put(repo, "paper/a.pdf")
    put(repo, "Pulumi.prod.yaml")
    put(repo, "docs/keep.md")
    put(repo, "docs/drop.md")
    put(repo, "certs/test.pem")
    git(repo, "add", ".")
    put(repo, ".trainyardignore", "# not needed\n\npaper/\ndocs/*\n!docs/keep.md\n!certs/test.pem\n")

    assert names(collect(repo)) == [".gitignore", ".trainyardignore", "certs/test.pem", "docs/keep.md", "pkg/__init__.py", "train.py"]


def test_trainyards_own_state_is_never_sent_whatever_git_and_trainyardignore_say(repo: Path) -> None:
    put(repo, ".trainyard/ledger.jsonl")
    put(repo, "sub/.trainyard/runs/a/1/record.json")
    put(repo, ".trainyardignore", "!.trainyard/\n!.trainyard/ledger.jsonl\n")
    git(repo, "add", "-f", ".")
    found = collect(repo)
    assert names(found) == [".gitignore", ".trainyardignore", "pkg/__init__.py", "train.py"]
    assert [name for name, why in found.left_out if "never sent" in why] == [".trainyard/", "sub/.trainyard/"]


def test_every_secret_that_stays_is_named_however_many_there_are(repo: Path) -> None:
    for number in range(20):
        put(repo, f"conf/{number}.env", "A=1\n")
    git(repo, "add", "-f", "conf")

    told = "\n".join(collect(repo).remarks())

    assert all(f"conf/{number}.env (its name is that of a secret)" in told for number in range(20)) and "more" not in told


@pytest.mark.parametrize(
    "name",
    [
        ".env",
        ".env.local",
        "prod.env",
        "secrets.yaml",
        "deploy.pem",
        "conf/id_ed25519",
        ".aws/config",
        "infra.tfstate",
        "token.txt",
        "my_api_key.txt",
    ],
)
def test_a_file_with_the_name_of_a_secret_stays_and_is_named(repo: Path, name: str) -> None:
    put(repo, name, "A=1\n")
    git(repo, "add", "-f", name)
    found = collect(repo)
    assert name not in names(found) and (name, "its name is that of a secret") in found.left_out
    assert any(name in line for line in found.remarks())


def test_what_only_looks_like_a_secret_by_name_goes_along(repo: Path) -> None:
    for name in (".env.example", "id_rsa.pub", "tokens.py", "tokens.txt", "hf_tokenizer.json", "credentials/__init__.py"):
        put(repo, name)
    assert {".env.example", "tokens.py", "credentials/__init__.py"} <= set(names(collect(repo)))


def test_a_file_in_which_a_secret_stands_stays_with_its_line_unless_a_person_says_otherwise(repo: Path) -> None:
    put(repo, "fixture.py", f"a = 1\nkey = '{AWS}'\n")
    found = collect(repo)
    assert "fixture.py" not in names(found) and ("fixture.py:2", "a key of AWS stands in it") in found.left_out
    put(repo, ".trainyardignore", "!fixture.py\n")
    assert "fixture.py" in names(collect(repo))


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        (KEY, "a private key"),
        ('{"private_key": "' + KEY.replace("\n", "\\n") + '"}', "a private key"),
        ("key: | " + KEY.replace("-----BEGIN", "  -----BEGIN").replace("\n", "\n  "), "a private key"),
        ('"' + KEY.replace("\n", '\\n",\n   "') + '"', "a private key"),
        (KEY.replace("-----\n", "-----\nVersion: GnuPG v2\n\n", 1), "a private key"),
        ("AKIA" + "IOSFODNN7EXAMPLE hf_" + "a1B2" * 8 + "xy", "a token of Hugging Face"),
        ("hf_" + "a1B2" * 8 + "xy", "a token of Hugging Face"),
        ("ghp_" + "a1B2" * 9, "a token of GitHub"),
        ("rpa_" + "A1B2" * 10, "a key of RunPod"),
        ("WANDB_API_KEY = '" + "a1b2" * 10 + "'", "a key of Weights & Biases"),
        ("AKIA" + "IOSFODNN7EXAMPLE", None),
        ("re.compile('-----BEGIN PRIVATE " + "KEY-----')", None),
        ("sha = 'a1b2" * 10, None),
        ("MY_TOKEN = '" + DRAWN + "'", "what looks like a secret (MY_TOKEN)"),
        ("aws_secret_access_key=" + DRAWN, "what looks like a secret (aws_secret_access_key)"),
        ('  "db_password": "' + DRAWN + '",', "what looks like a secret (db_password)"),
        ('api_key: str | None = "' + DRAWN + '"', "what looks like a secret (api_key)"),
        ("login(token='" + DRAWN + "')", "what looks like a secret (token)"),
        ("np" + "m_" + "a1B2" * 9, "a token of npm"),
        ("token = " + "eyJ" + "a1B2" * 4 + ".eyJ" + "a1B2" * 4 + "." + "a1B2" * 6, "a signed token (JWT)"),
        ("MY_TOKEN = os.environ['SOME_TOKEN_OF_MINE_2024']", None),
        ("pad_token: '<|reserved_special_token_250|>'", None),
        ("api_key = get_from_vault_number_12345678901(x)", None),
        ("password = 'correct horse battery staple 12'", None),
        ("client_token: 1d2129a1-3d38-460a-9756-e5b91fddb951", None),
        ("revision: " + DRAWN, None),
        ("model_token: meta-llama/Llama-3.1-8B-Instruct-GGUF-Q4", None),
    ],
)
def test_the_look_for_secrets(text: str, kind: str | None) -> None:
    found = secret_in(("first line\n" + text).encode())
    assert found == (None if kind is None else (kind, 2))


@pytest.mark.parametrize("kind", ["utf-16", "utf-16-le", "utf-16-be"])
def test_a_text_as_windows_writes_it_is_looked_into(kind: str) -> None:
    assert secret_in(f"first line\nMY_TOKEN = '{DRAWN}'\n".encode(kind)) == ("what looks like a secret (MY_TOKEN)", 2)


def test_a_large_text_is_looked_into_and_a_program_is_not() -> None:
    notebook = b'"image/png": "' + b"iVBORw0KGgo" * 300_000 + b'"\n'
    assert secret_in(notebook + AWS.encode()) == ("a key of AWS", 2)
    assert secret_in(b"\x7fELF\x01\0\x02\x03" * 40 + AWS.encode()) is None


def test_names_may_be_odd_and_what_no_pod_can_hold_is_named(repo: Path) -> None:
    odd = ["a b.py", "é/ü.py", "-x.py", "q'uo\"te.py", "[x]*.py", "back\\slash"]
    for name in odd:
        put(repo, name)
    put(repo, "line\nbreak.py")
    git(repo, "add", ".")
    found = collect(repo)
    assert set(odd) <= set(names(found)) and ("line\\nbreak.py", "its name has a control character") in found.left_out


def test_links_inside_stand_for_what_they_lead_to_and_others_are_named(repo: Path, tmp_path: Path) -> None:
    put(tmp_path, "outside.txt", "secret")
    put(repo, ".env", "A=1")
    for link, target in {
        "alias.py": "train.py", "lib": "pkg", "out.txt": "../outside.txt", "gone": "nowhere", "leak": ".env", "loop": ".", "far": "/etc"
    }.items():  # fmt: skip
        (repo / link).symlink_to(target)
    git(repo, "add", "-A")
    found = collect(repo)
    assert names(found) == [".gitignore", "alias.py", "lib/__init__.py", "pkg/__init__.py", "train.py"]
    why = dict(found.left_out)
    assert why["out.txt"] == why["far"] == "a link that leads out of the code" and why["gone"] == "a link to nothing"
    assert why["leak"] == "a link to what does not go along" and why["loop"] == "a link to a folder it lies in"


def test_links_behind_links_are_followed_and_come_to_an_end(repo: Path) -> None:
    for link, target in {"v1/x.py": "../train.py", "v1/lib": "../pkg", "pkg/v1": "../v1", "latest": "v1"}.items():
        (repo / link).parent.mkdir(exist_ok=True)
        (repo / link).symlink_to(target)
    (repo / "v1" / "line\nbreak.py").write_text("")
    found = collect(repo)
    assert {"latest/x.py", "latest/lib/__init__.py", "v1/x.py"} <= set(names(found))
    why = dict(found.left_out)
    assert why["latest/lib/v1"] == "a link to a folder it lies in" and not any("\n" in name for name in names(found))
    assert found.secrets == frozenset() and "takes" not in " ".join(found.remarks()), "a line of .trainyardignore takes no link along"


def test_a_folder_of_git_that_became_a_link_leads_nobody_out(repo: Path, tmp_path: Path) -> None:
    put(tmp_path, "outside/__init__.py", "not of this code")
    (repo / "pkg/__init__.py").unlink()
    (repo / "pkg").rmdir()
    (repo / "pkg").symlink_to("../outside")
    found = collect(repo)
    assert names(found) == [".gitignore", "train.py"]
    assert dict(found.left_out)["pkg/__init__.py"] == "a link that leads out of the code"


def test_a_file_that_goes_while_it_is_looked_at_is_told(repo: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    listed = codefiles.list_code(repo)
    listed.names.append("gone.py")
    monkeypatch.setattr(code, "list_code", lambda folder: listed)
    with pytest.raises(UserError, match=r"code: gone\.py cannot be read: No such file"):
        collect(repo)


def test_submodules_are_looked_into_and_one_that_is_not_there_is_named(repo: Path, tmp_path: Path) -> None:
    sub = tmp_path / "sub"
    put(sub, "inner.py")
    git(sub, "init", "-q", "-b", "main")
    git(sub, "add", ".")
    git(sub, "commit", "-qm", "x")
    git(repo, "submodule", "--quiet", "add", str(sub), "third/sub")
    git(repo, "commit", "-qam", "x")
    assert "third/sub/inner.py" in names(collect(repo))
    git(tmp_path, "clone", "-q", str(repo), "clone")
    found = collect(tmp_path / "clone")
    assert "third/sub" in dict(found.left_out) and "submodule update" in dict(found.left_out)["third/sub"]


def test_outside_git_the_folder_is_walked_with_the_same_rules(tmp_path: Path) -> None:
    top = tmp_path / "plain"
    for name in (
        "train.py",
        "a/b.py",
        "logs/x.log",
        ".venv/lib.py",
        "env/pyvenv.cfg",
        "env/x.py",
        "__pycache__/c.pyc",
        ".ssh/id",
        "out/u/r/log",
    ):
        put(top, name)
    put(top, ".gitignore", "logs/\n")
    (top / "empty/inner").mkdir(parents=True)
    os.mkfifo(top / "pipe")
    found = collect(top)
    assert names(found) == [".gitignore", "a/b.py", "train.py"] and found.empty_folders == ("empty/inner",)
    assert dict(found.left_out) == {".ssh/": "its name is that of a secret", "pipe": "no regular file"} and found.untracked == ()


def test_what_git_ignores_as_a_whole_is_a_folder_like_any_other(repo: Path) -> None:
    put(repo, "big/scripts/code/train.py")
    assert names(collect(repo / "big/scripts/code")) == ["train.py"]


def test_the_copy_is_what_was_looked_at_with_its_modes_and_empty_folders(tmp_path: Path) -> None:
    put(tmp_path, "c/run.sh").chmod(0o700)
    put(tmp_path, "c/sub/a.py")
    (tmp_path / "c/empty").mkdir()
    found = collect(tmp_path / "c")
    place(found, tmp_path / "bundle")
    assert stat.S_IMODE((tmp_path / "bundle/code/run.sh").stat().st_mode) == 0o755 and (tmp_path / "bundle/code/empty").is_dir()
    with (tmp_path / "c/sub/a.py").open("a") as log:
        log.write("more\n")
    place(found, tmp_path / "grown")
    assert (tmp_path / "grown/code/sub/a.py").read_text() == "x\n", "a log that a shell keeps beside the code grows as we print"
    put(tmp_path, "c/sub/a.py", "other\n")
    with pytest.raises(UserError, match=r"sub/a\.py was changed while the run was prepared"):
        place(found, tmp_path / "again")


def test_too_much_is_refused_with_what_is_biggest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    put(tmp_path, "c/model/weights.bin", "x" * 3_000_000)
    put(tmp_path, "c/a.py")
    with pytest.raises(UserError, match=r"3\.0 MB in 2 files, 2 MB are the most; the biggest: model/weights\.bin \(3\.0 MB\)") as caught:
        collect(tmp_path / "c", limit_mb=2)
    assert ".trainyardignore" in str(caught.value.hint) and "--data" in str(caught.value.hint)
    monkeypatch.setattr(codefiles, "MOST_FILES", 1)
    with pytest.raises(UserError, match=r"more than 1 files; most are in: "):
        collect(tmp_path / "c")


@pytest.mark.parametrize(
    ("folder", "message"),
    [("none", "there is no folder"), ("file", "is no folder"), ("empty", "no file of it goes along"), ("/", "is everything you have")],
)
def test_a_folder_that_holds_no_code_is_refused(tmp_path: Path, folder: str, message: str) -> None:
    put(tmp_path, "file")
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match=message):
        collect(tmp_path / folder)


def test_what_git_refuses_is_told_in_its_words(tmp_path: Path) -> None:
    put(tmp_path, "c/a.py")
    put(tmp_path, "c/.git", "gitdir: /nowhere\n")
    with pytest.raises(UserError, match="git does not list its files: fatal"):
        collect(tmp_path / "c")


@pytest.mark.parametrize(
    ("words", "problem"),
    [
        (["python", "train.py", "--lr", "1"], None),
        (["python", "-u", "pkg/__init__.py"], None),
        (["python", "-m", "pkg"], None),
        (["python", "-c", "print(1)", "x.py"], None),
        (["torchrun", "--nproc", "2", "train.py"], None),
        (["/opt/x.py"], None),
        (["bash", "-c", "python none.py"], None),
        (["anything", "none.py"], None),
        (["A=1", "accelerate", "launch", "--num_processes", "2", "tarin.py"], r"runs tarin\.py, which is not there"),
        (["uv", "run", "train.py"], None),
        (["python", "tarin.py"], r"runs tarin\.py, which is not there \(did you mean 'train\.py'\?\)"),
        (["A=1", "./train.py"], "which is no program: nobody has the right to run it"),
        (["python", "./train.py"], None),
        (["./none.sh"], r"runs \./none\.sh, which is not there"),
        (["python", "run.log.py"], r"runs run\.log\.py, which does not go along"),
        (["python", "leak.py"], r"leak\.py does not go along with the code: a key of AWS"),
    ],
)
def test_a_command_whose_script_does_not_go_along_is_refused(repo: Path, words: list[str], problem: str | None) -> None:
    put(repo, ".gitignore", "*.log.py\n")
    put(repo, "run.log.py")
    put(repo, "leak.py", AWS)
    found = collect(repo)
    if problem is None:
        return check_command(words, found)
    with pytest.raises(UserError, match=problem):
        check_command(words, found)


@pytest.mark.parametrize(
    ("words", "certain", "refused"),
    [
        (["pythn", "train.py"], False, r"pythn, which is not on PATH \(did you mean 'python'\?\)"),
        (["A=1", "torchrum", "train.py"], False, "did you mean 'torchrun'"),
        (["no-such-program"], True, "no-such-program, which is not on PATH\n"),
        (["no-such-program"], False, None),
        (["python", "train.py"], True, None),
        (["tool", "train.py"], True, None),
        (["torchrun", "train.py"], False, None),
        (["ipython", "train.py"], False, None),
        (["env", "pythn", "train.py"], False, None),
        (["PATH=/opt/bin", "pythn"], True, None),
        (["./pythn"], True, None),
    ],
)
def test_a_command_whose_program_is_nowhere_is_refused(tmp_path: Path, words: list[str], certain: bool, refused: str | None) -> None:
    put(tmp_path, "tool").chmod(0o755)
    with pytest.raises(UserError, match=refused) if refused else contextlib.nullcontext():
        check_program(words, str(tmp_path), certain=certain)


def test_pointers_of_git_lfs_are_told(repo: Path) -> None:
    put(repo, "w.bin", "version https://git-lfs.github.com/spec/v1\noid sha256:0\n")
    assert any("git lfs pull): w.bin" in line for line in collect(repo).remarks())


@pytest.mark.parametrize("wide", ["*\n!*.py\n!*.env\n", "!src/**\n", "*\n!train.py\n!src/\n", "!src/\n", "*\n!train.py\n!src/\n!src/*\n"])
def test_a_wide_line_says_what_is_code_and_lets_no_secret_through(repo: Path, wide: str) -> None:
    token = "ghp_" + "a1B2c3D4e5" * 3 + "f6G7h8"
    put(repo, ".trainyardignore", wide)
    put(repo, "src/.env", "KEY=1\n")
    put(repo, "src/use.py", f'T = "{token}"\n')

    found = collect(repo)

    assert not {"src/.env", "src/use.py"} & set(names(found))
    put(repo, ".trainyardignore", "!src/use.py\n")
    assert "src/use.py" in names(collect(repo)), "a line that spells the name is the person's word"
