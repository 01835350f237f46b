"""SshKey: the pair lives in state; its file is a copy that comes back when it is lost."""

from __future__ import annotations

import stat
import subprocess
from pathlib import Path

import pytest

from tests.provider.conftest import Bench
from trainyard.errors import UserError
from trainyard.provider.handler import diff
from trainyard.provider.sshkey import SSH_KEY
from trainyard.provider.values import Properties


def made(bench: Bench) -> Properties:
    return SSH_KEY.create(bench.call("key", "SshKey"), {})[1]


def test_a_key_is_made_with_a_private_file_that_openssh_accepts(bench: Bench) -> None:
    outputs = made(bench)
    path = Path(str(outputs["key_file"]))
    assert path == bench.world.places.ssh / "dev" / "id_ed25519"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    shown = subprocess.check_output(["ssh-keygen", "-y", "-f", str(path)], text=True).split()
    assert shown[:2] == str(outputs["public_key"]).split()[:2]
    assert len(bytes.fromhex(str(outputs["host_key_seed"]))) == 32


def test_two_stacks_have_two_keys_and_two_seeds(bench: Bench) -> None:
    one = made(bench)
    two = SSH_KEY.create(bench.call("key", "SshKey", stack="other"), {})[1]
    assert one["private_key"] != two["private_key"]
    assert one["host_key_seed"] != two["host_key_seed"]
    assert one["key_file"] != two["key_file"]


@pytest.mark.parametrize("damage", ["lost", "other content", "other place"])
def test_a_file_that_is_not_as_in_state_is_a_change_and_update_writes_it_again(bench: Bench, damage: str) -> None:
    call, outputs = bench.call("key", "SshKey"), made(bench)
    path = Path(str(outputs["key_file"]))
    assert not diff(SSH_KEY, call, outputs, {}, {}).changes
    if damage == "lost":
        path.unlink()
    elif damage == "other content":
        path.write_text("other")
    else:
        outputs = {**outputs, "key_file": "/elsewhere/id_ed25519"}
    assert diff(SSH_KEY, call, outputs, {}, {}).changes == {"key_file": "update"}
    assert SSH_KEY.update(call, "x", outputs, {}, {})["key_file"] == str(path)
    assert path.read_text() == outputs["private_key"]


def test_refresh_writes_a_lost_file_again(bench: Bench) -> None:
    outputs = made(bench)
    Path(str(outputs["key_file"])).unlink()
    SSH_KEY.read(bench.call("key", "SshKey"), "x", outputs, {})
    assert Path(str(outputs["key_file"])).read_text() == outputs["private_key"]


def test_a_preview_writes_nothing(bench: Bench) -> None:
    outputs = made(bench)
    Path(str(outputs["key_file"])).unlink()
    SSH_KEY.update(bench.call("key", "SshKey", preview=True), "x", outputs, {}, {})
    assert not Path(str(outputs["key_file"])).exists()


def test_delete_removes_our_copy(bench: Bench) -> None:
    outputs = made(bench)
    SSH_KEY.delete(bench.call("key", "SshKey"), "x", outputs, {})
    assert not (bench.world.places.ssh / "dev").exists()


def test_the_user_s_own_key_is_neither_copied_nor_removed(bench: Bench, tmp_path: Path) -> None:
    path = tmp_path / "mine"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(path)], check=True)
    inputs: Properties = {"own_key_file": str(path)}
    call = bench.call("key", "SshKey")
    _, outputs = SSH_KEY.create(call, inputs)
    assert outputs["private_key"] is None
    assert outputs["public_key"] == path.with_suffix(".pub").read_text().strip()
    assert not diff(SSH_KEY, call, outputs, inputs, inputs).changes
    SSH_KEY.delete(call, "x", outputs, inputs)
    assert path.exists()


@pytest.mark.parametrize("content", [None, "no key"])
def test_an_own_key_without_readable_public_part_is_an_error_that_names_it(bench: Bench, tmp_path: Path, content: str | None) -> None:
    path = tmp_path / "mine"
    path.write_text("private")
    if content:
        path.with_suffix(".pub").write_text(content)
    with pytest.raises(UserError, match=r"mine\.pub"):
        SSH_KEY.create(bench.call("key", "SshKey"), {"own_key_file": str(path)})
