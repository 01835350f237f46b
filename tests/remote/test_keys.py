"""Host keys are a function of seed and name, and OpenSSH agrees about what we write."""

from __future__ import annotations

import subprocess
from pathlib import Path

import paramiko
import pytest

from trainyard.remote.keys import fingerprint, host_key, new_ssh_key, split_public

SEED = bytes(range(32))


def test_the_same_seed_and_name_give_the_same_bytes() -> None:
    assert host_key(SEED, "ty-a") == host_key(SEED, "ty-a")


def test_another_name_or_seed_gives_another_key() -> None:
    keys = {host_key(SEED, "ty-a").public, host_key(SEED, "ty-b").public, host_key(SEED[::-1], "ty-a").public}
    assert len(keys) == 3


def test_a_known_seed_keeps_its_key_for_ever() -> None:
    # A change here would lock people out of the pods that run now.
    assert fingerprint(host_key(SEED, "ty-pod").public) == "SHA256:08lA14znbmdHimeZEwuH/OEpANg6OtVxbOnUz9bzop4"


def test_the_private_half_never_shows_in_a_repr() -> None:
    key = host_key(SEED, "ty-a")
    assert "PRIVATE" not in repr(key) and key.private_pem not in repr(key)


def test_a_short_seed_is_refused() -> None:
    with pytest.raises(ValueError, match="16 bytes"):
        host_key(b"short", "ty-a")


@pytest.mark.parametrize("comment", ["", "x", "a name of some length", "é" * 7])
def test_paramiko_reads_the_key_whatever_the_comment(tmp_path: Path, comment: str) -> None:
    private, public = new_ssh_key(comment)
    (tmp_path / "key").write_text(private)
    assert paramiko.Ed25519Key.from_private_key_file(str(tmp_path / "key")).get_base64() == split_public(public)[1]


def test_ssh_keygen_reads_the_key_and_agrees_on_the_fingerprint(tmp_path: Path) -> None:
    private, public = new_ssh_key("somebody")
    path = tmp_path / "key"
    path.write_text(private)
    path.chmod(0o600)
    try:
        shown = subprocess.run(["ssh-keygen", "-y", "-f", path], capture_output=True, text=True, check=True).stdout
        listed = subprocess.run(["ssh-keygen", "-lf", path], capture_output=True, text=True, check=True).stdout
    except FileNotFoundError:
        pytest.skip("ssh-keygen is not installed")
    assert shown.split()[:2] == public.split()[:2] and shown.split()[2] == "somebody"
    assert fingerprint(public) in listed


@pytest.mark.parametrize("line", ["", "ssh-ed25519", "ssh-ed25519 not*base64"])
def test_a_line_that_is_no_public_key_is_a_value_error(line: str) -> None:
    with pytest.raises(ValueError):
        split_public(line)
