"""The environment has one reader: .env under the shell, groups whole or not at all, secrets by reference."""

import pytest

from trainyard.config import group, places, read_env_file, resolve_secret, settings_file, slug, user_name
from trainyard.errors import UserError
from trainyard.secret import Secret, redact


def test_env_file_understands_export_quotes_and_comments(tmp_path):
    path = tmp_path / ".env"
    path.write_text("# keys\nexport A=1\nB='two words'\nC=\"x#y\" # note\nD=\n")

    assert read_env_file(path) == {"A": "1", "B": "two words", "C": "x#y", "D": ""}


def test_a_line_that_is_no_assignment_names_its_place_but_never_shows_its_text(tmp_path):
    path = tmp_path / ".env"
    path.write_text("A=1\nsk-verysecret\n")

    with pytest.raises(UserError) as caught:
        read_env_file(path)

    assert ".env:2:1" in str(caught.value)
    assert "verysecret" not in str(caught.value)


def test_half_a_group_is_an_error_that_names_what_is_missing():
    with pytest.raises(UserError, match="KEY set, but not SECRET"):
        group({"KEY": "a"}, ("KEY", "SECRET"))


def test_an_unset_group_is_none_and_a_whole_one_is_returned():
    assert group({}, ("KEY", "SECRET")) is None
    assert group({"KEY": "a", "SECRET": "b", "X": "c"}, ("KEY", "SECRET")) == {"KEY": "a", "SECRET": "b"}


def test_a_secret_can_be_a_reference(tmp_path):
    (tmp_path / "k").write_text("from-file\n")

    assert resolve_secret("env:OTHER", {"OTHER": "v"}, "K") == Secret("v")
    assert resolve_secret(f"file:{tmp_path}/k", {}, "K") == Secret("from-file")
    assert resolve_secret("cmd:printf abc", {}, "K") == Secret("abc")
    assert resolve_secret("plain", {}, "K") == Secret("plain")


def test_a_broken_reference_is_a_user_error():
    with pytest.raises(UserError, match="env:NONE, which is not set"):
        resolve_secret("env:NONE", {}, "K")
    with pytest.raises(UserError, match="its command exited 3"):
        resolve_secret("cmd:exit 3", {}, "K")


def test_a_secret_never_shows_itself():
    secret = Secret("hunter22")

    assert f"{secret} {secret!r} {secret:>5}" == "*** ***   ***"
    assert redact("key=hunter22!", [secret]) == "key=***!"


def test_an_unknown_stack_lists_the_known_ones(tmp_path):
    (tmp_path / "Pulumi.local.yaml").write_text("config: {}\n")

    with pytest.raises(UserError) as caught:
        settings_file(tmp_path, "locl")

    assert "there is no stack 'locl'" in str(caught.value)
    assert "Stacks here: local" in str(caught.value)


@pytest.mark.parametrize("name", ["../x", "A", "", "a/b", "-x"])
def test_a_stack_name_cannot_leave_the_checkout(tmp_path, name):
    with pytest.raises(UserError):
        settings_file(tmp_path, name)


def test_places_follow_their_variables(tmp_path):
    found = places(tmp_path, {"TRAINYARD_HOME": str(tmp_path / "h"), "TRAINYARD_LOCAL_ROOT": str(tmp_path / "o"), "XDG_CONFIG_HOME": "/c"})

    assert (found.state, found.cloud, str(found.settings)) == (tmp_path / "h" / "state", tmp_path / "o" / "cloud", "/c/trainyard")


def test_the_outside_world_lies_outside_the_checkout_by_default(tmp_path):
    found = places(tmp_path, {"XDG_DATA_HOME": "/data"})

    assert str(found.store) == "/data/trainyard/store"


def test_a_user_name_is_a_slug():
    assert slug("Ann.O'Neil") == "ann-o-neil"
    assert user_name({"TRAINYARD_USER": "Bob X"}) == "bob-x"
    with pytest.raises(UserError):
        slug("...")
