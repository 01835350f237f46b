"""The environment has one reader: .env under the shell, groups whole or not at all, secrets by reference."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import pytest

from trainyard.config import group, load_env, places, resolve_secret, secret, settings_file, slug
from trainyard.envfile import read_env_file
from trainyard.errors import UserError
from trainyard.secret import Secret, redact
from trainyard.settings.user import user_name

# What python-dotenv 1.1 and sh say is the same wherever a value can be meant in one way only.
ENV_LINES = {
    "A=1": "1",
    "export A=1": "1",
    "A = 1 ": "1",
    "A=": "",
    "A=abc#def": "abc#def",
    "A=abc #def": "abc",
    "A=abc\t# note": "abc",
    "A=#def": "",
    "A= # note": "",
    "A=abc#def # note": "abc#def",
    "A='two words'": "two words",
    "A='a#b' # note": "a#b",
    'A="x#y" # note': "x#y",
    'A="x # y"': "x # y",
    "A='it\"s'": 'it"s',
    "A='back\\slash'": "back\\slash",
    'A="a\\"b"': 'a"b',
    'A="a\\\\b"': "a\\b",
    "A=p4$$\\word": "p4$$\\word",
    "A=it's": "it's",
    "A=k=v==": "k=v==",
    "A=${HOME}": "${HOME}",
    "A=''": "",
    "A=abc\r": "abc",
    "A=file:/a b": None,
    'A="open': None,
    "A='a' b": None,
    'A="a"b': None,
}
"""A line, and its value; None: refused, as it could be meant in two ways."""


def test_an_env_file_goes_into_the_environment_where_the_shell_says_nothing(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("TRAINYARD_LOCAL_MEMORY=4\nTRAINYARD_HOME=/from/file\nHF_TOKEN=x\n")
    environ = {"TRAINYARD_HOME": "/from/shell", "HF_TOKEN": ""}  # an empty variable is said, too

    loaded = load_env(tmp_path, environ)

    assert loaded == environ == {"TRAINYARD_LOCAL_MEMORY": "4", "TRAINYARD_HOME": "/from/shell", "HF_TOKEN": ""}
    assert loaded is not environ


@pytest.mark.parametrize("line", ENV_LINES)
def test_a_line_of_an_env_file_is_read_as_it_is_written(tmp_path: Path, line: str) -> None:
    path = tmp_path / ".env"
    path.write_bytes(b"# keys\n\n" + line.encode() + b"\n")

    if ENV_LINES[line] is None:
        with pytest.raises(UserError) as caught:
            read_env_file(path)
        assert str(caught.value).startswith(".env:3:1: A: its value cannot be read")
    else:
        assert read_env_file(path) == {"A": ENV_LINES[line]}


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b"\xef\xbb\xbfA=1\r\nB=2\r\n", {"A": "1", "B": "2"}),
        (b"A=1\rB=2", {"A": "1", "B": "2"}),
        ("A=x\u2028y\n".encode(), ".env:1:1: A: its value cannot be read"),
        ("A=1\n".encode("utf-16"), ".env: is UTF-16, not UTF-8"),
        ("A=1\n".encode("utf-16-be"), ".env:1:1: a NUL byte"),
        (b"A=1\n# caf\xe9\n", ".env:2:6: this is no UTF-8 text"),
        (b"A=1\nB=\0\n", ".env:2:3: a NUL byte"),
    ],
)
def test_an_env_file_of_any_system_is_read_or_named(tmp_path: Path, data: bytes, says: dict[str, str] | str) -> None:
    path = tmp_path / ".env"
    path.write_bytes(data)

    if isinstance(says, dict):
        assert read_env_file(path) == says
    else:
        with pytest.raises(UserError) as caught:
            read_env_file(path)
        assert str(caught.value).startswith(says)


def test_an_env_file_that_is_a_folder_is_named(tmp_path: Path) -> None:
    (tmp_path / ".env").mkdir()

    with pytest.raises(UserError, match=r"\.env: cannot be read: Is a directory"):
        read_env_file(tmp_path / ".env")


def test_a_line_that_is_no_assignment_names_its_place_but_never_shows_its_text(tmp_path: Path) -> None:
    path = tmp_path / ".env"
    path.write_text("A=1\nsk-verysecret\n")

    with pytest.raises(UserError) as caught:
        read_env_file(path)

    assert ".env:2:1" in str(caught.value)
    assert "verysecret" not in str(caught.value)


def test_half_a_group_is_an_error_that_names_what_is_missing() -> None:
    with pytest.raises(UserError, match="KEY set, but not SECRET"):
        group({"KEY": "a"}, ("KEY", "SECRET"))


def test_an_unset_group_is_none_and_a_whole_one_is_returned() -> None:
    assert group({}, ("KEY", "SECRET")) is None
    assert group({"KEY": "a", "SECRET": "b", "X": "c"}, ("KEY", "SECRET")) == {"KEY": "a", "SECRET": "b"}


def test_a_secret_can_be_a_reference(tmp_path: Path) -> None:
    (tmp_path / "k").write_text("from-file\n")

    assert resolve_secret("env:OTHER", {"OTHER": "v"}, "K") == Secret("v")
    assert resolve_secret(f"file:{tmp_path}/k", {}, "K") == Secret("from-file")
    assert resolve_secret("cmd:printf abc", {}, "K") == Secret("abc")
    assert resolve_secret("plain", {}, "K") == Secret("plain")


def test_a_broken_reference_is_a_user_error() -> None:
    with pytest.raises(UserError, match="env:NONE, which is not set"):
        resolve_secret("env:NONE", {}, "K")
    with pytest.raises(UserError, match="its command exited 3"):
        resolve_secret("cmd:exit 3", {}, "K")


@pytest.mark.parametrize("given", ["rpa_secret\r", "rpa_secret\n", " rpa_secret ", "rpa_secret\r\n"])
def test_the_line_end_behind_a_key_is_no_part_of_it(given: str) -> None:
    assert secret({"K": given}, "K") == Secret("rpa_secret")


@pytest.mark.parametrize(
    ("given", "what"),
    [
        ("rpa_\rsecret", "U+000D"),
        ("rpa_\nsecret", "U+000A"),
        ("rpa secret", "space"),
        ("\u201crpa_secret\u201d", "left double quotation mark"),
        ("rpa_secret\u200b", "zero width space"),
        ("rpa_s\u00e9cret", "latin small letter e with acute"),
        ("rpa_secret\udce9", "U+DCE9"),
        ("rpa_secret\x7f", "U+007F"),
        ("file:{tmp}/key", "U+0007"),
        ("file:{tmp}/latin", "no UTF-8 text"),
        ("file:{tmp}", "cannot be read"),
        ("cmd:printf 'rpa_\\351secret'", "replacement character"),
    ],
)
def test_what_no_key_can_be_is_refused_by_name_and_never_shown(tmp_path: Path, given: str, what: str) -> None:
    (tmp_path / "key").write_text("rpa_\x07secret\n")
    (tmp_path / "latin").write_bytes(b"rpa_s\xe9cret\n")

    with pytest.raises(UserError) as caught:
        secret({"RUNPOD_API_KEY": given.format(tmp=tmp_path)}, "RUNPOD_API_KEY")

    assert caught.value.message.startswith("RUNPOD_API_KEY: ") and what in caught.value.message
    assert "rpa" not in str(caught.value) and "cret" not in str(caught.value)


def test_a_message_that_carries_a_secret_in_shows_stars() -> None:
    key = Secret("rpa_a-key-that-was-read")

    assert str(UserError(f"the page says: Authorization: Bearer {key.reveal()}")) == "the page says: Authorization: Bearer ***"


def test_a_secret_never_shows_itself() -> None:
    secret = Secret("hunter22")

    assert f"{secret} {secret!r} {secret:>5}" == "*** ***   ***"
    assert redact("key=hunter22!", [secret]) == "key=***!"


def test_an_unknown_stack_lists_the_known_ones(tmp_path: Path) -> None:
    (tmp_path / "Pulumi.local.yaml").write_text("config: {}\n")

    with pytest.raises(UserError) as caught:
        settings_file(tmp_path, "locl")

    assert "there is no stack 'locl'" in str(caught.value)
    assert "Stacks here: local" in str(caught.value) and "invoke setup" not in str(caught.value)


def test_a_missing_stack_of_a_cloud_is_told_with_what_writes_it(tmp_path: Path) -> None:
    with pytest.raises(UserError) as caught:
        settings_file(tmp_path, "ionet")

    assert "Stacks here: none.\n" in str(caught.value) and str(caught.value).endswith("invoke setup --stack ionet")


@pytest.mark.parametrize("name", ["../x", "A", "", "a/b", "-x"])
def test_a_stack_name_cannot_leave_the_checkout(tmp_path: Path, name: str) -> None:
    with pytest.raises(UserError):
        settings_file(tmp_path, name)


def test_places_follow_their_variables(tmp_path: Path) -> None:
    found = places(tmp_path, {"TRAINYARD_HOME": str(tmp_path / "h"), "TRAINYARD_LOCAL_ROOT": str(tmp_path / "o"), "XDG_CONFIG_HOME": "/c"})

    assert (found.state, found.cloud, str(found.settings)) == (tmp_path / "h" / "state", tmp_path / "o" / "cloud", "/c/trainyard")


def test_the_outside_world_lies_outside_the_checkout_by_default(tmp_path: Path) -> None:
    found = places(tmp_path, {"XDG_DATA_HOME": "/data"})

    assert str(found.store) == "/data/trainyard/store"


def test_a_user_name_is_a_slug() -> None:
    assert slug("Ann.O'Neil") == "ann-o-neil"
    assert user_name({"TRAINYARD_USER": "Bob X"}) == "bob-x"
    with pytest.raises(UserError):
        slug("...")


@pytest.mark.parametrize("name", ["../x", "a/b", "José", "..", "-x"])
def test_a_chosen_user_name_that_no_key_can_hold_is_refused_and_not_bent(name: str) -> None:
    with pytest.raises(UserError, match="TRAINYARD_USER must look like anna-berg") as caught:
        user_name({"TRAINYARD_USER": name})
    assert "Say who you are" in str(caught.value)


def test_a_machine_without_git_or_a_name_for_the_user_still_names_them(monkeypatch: pytest.MonkeyPatch) -> None:
    def nobody() -> None:
        raise KeyError("getpwuid(): uid not found: 12345")

    monkeypatch.setenv("PATH", "/nowhere")
    monkeypatch.setattr("getpass.getuser", nobody)
    assert user_name({}) == f"uid{os.getuid()}"
    monkeypatch.setattr("getpass.getuser", lambda: "root")
    assert user_name({}) == "root"
    monkeypatch.setattr("getpass.getuser", lambda: "иван")
    with pytest.raises(UserError, match="no letter or digit") as caught:
        user_name({})
    assert "TRAINYARD_USER" in str(caught.value)


def test_a_home_that_is_not_known_is_a_sentence(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def unknown(*_: Path) -> None:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr("pathlib.Path.home", unknown)
    monkeypatch.setattr("pathlib.Path.expanduser", unknown)
    with pytest.raises(UserError, match="home folder"):
        places(tmp_path, {})
    with pytest.raises(UserError, match="K: ~nobody-here/key: whose home folder"):
        resolve_secret("file:~nobody-here/key", {}, "K")


def test_the_places_of_another_person_lie_below_that_persons_home(tmp_path: Path) -> None:
    theirs = places(tmp_path / "w", {"HOME": str(tmp_path / "theirs")})

    assert theirs.store == tmp_path / "theirs" / ".local" / "share" / "trainyard" / "store"
    assert theirs.settings == tmp_path / "theirs" / ".config" / "trainyard"


def test_an_env_file_that_is_a_pipe_is_read_from_its_writer_and_not_waited_for_without_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    os.mkfifo(tmp_path / ".env")
    writer = threading.Thread(target=lambda: (tmp_path / ".env").write_text("A=1\nB='2 3'\n"))
    writer.start()
    assert read_env_file(tmp_path / ".env") == {"A": "1", "B": "2 3"}
    writer.join()
    monkeypatch.setattr("trainyard.envfile._PIPE", 0.01)
    with pytest.raises(UserError, match=r"^\.env: is a pipe into which nobody has written for 0\.01 s\n"):
        read_env_file(tmp_path / ".env")
