"""What a rented machine is told at its birth: cloud-init's user data, and the names of its keys."""

from __future__ import annotations

import json
import subprocess
from datetime import UTC, datetime
from pathlib import Path

import pytest

from trainyard.clouds.protocol import PodSpec
from trainyard.clouds.vm import AccountKey, key_name, start_script, user_data
from trainyard.errors import CloudRefused
from trainyard.pod.boot import boot_command
from trainyard.remote.keys import host_key

END = datetime(2026, 12, 1, 3, 4, 5, tzinfo=UTC)
KEY = host_key(b"s" * 32, "ty-a")
SPEC = PodSpec(
    name="ty-aaaaaaaaaa-bbbbbbbbbb-pod-0123abcd", fence_id="aaaaaaaaaa", lease_id="bbbbbbbbbb", stop=None, end=END,
    env={"TRAINYARD_PRICE": "0.75", "TITLE": 'a "quoted" $word'}, public_key="ssh-ed25519 AAAA me", host_key=KEY.private_pem,
    boot=boot_command(),
)  # fmt: skip


def test_user_data_bring_both_keys_the_logins_variables_and_the_watchdog_at_each_boot() -> None:
    head, _, rest = user_data(SPEC).partition("\n")
    config = json.loads(rest)

    assert head == "#cloud-config"
    assert config["ssh_authorized_keys"] == ["ssh-ed25519 AAAA me"]
    assert config["ssh_keys"] == {"ed25519_private": KEY.private_pem, "ed25519_public": KEY.public}
    assert config["write_files"] == [
        {"path": "/etc/environment", "append": True, "content": 'TITLE="a "quoted" $word"\nWORKSPACE="/workspace"\n'}
    ]
    assert [one[:2] for one in config["bootcmd"]] == [["sh", "-c"]]
    assert user_data(SPEC) == user_data(SPEC), "a retry sends the same"


def test_the_start_makes_the_workspace_for_both_users_and_hands_over_what_the_watchdog_has_to_know(tmp_path: Path) -> None:
    spec = PodSpec(**{**{f: getattr(SPEC, f) for f in SPEC.__slots__}, "boot": ("sh", "-c", "env")})
    script = start_script(spec).replace("/workspace", str(tmp_path / "w"))
    done = subprocess.run(
        ["sh", "-ec", script], capture_output=True, text=True, check=True, env={"PATH": "/usr/bin:/bin", "TMPDIR": "/tmp"}
    )

    env = dict(line.split("=", 1) for line in done.stdout.splitlines())
    assert (tmp_path / "w/.trainyard/watchdog").stat().st_mode & 0o777 == 0o777
    assert {name for name in env if name.startswith("TRAINYARD")} == {
        "TRAINYARD_PRICE", "TRAINYARD_FENCE_ID", "TRAINYARD_LEASE_ID", "TRAINYARD_END", "TRAINYARD_ENDINGS",
    }  # fmt: skip
    assert (env["TRAINYARD_END"], env["TRAINYARD_PRICE"]) == ("2026-12-01T03:04:05Z", "0.75")
    assert env["TRAINYARD_ENDINGS"] == "[]", "such a machine has no key with which it could end itself"
    assert "TITLE" not in env


def test_a_variable_that_no_login_can_have_is_refused() -> None:
    spec = PodSpec(name=SPEC.name, fence_id="a", lease_id="b", stop=None, end=END, env={"TEXT": "two\nlines"})

    with pytest.raises(CloudRefused, match="'TEXT'"):
        user_data(spec)


def test_a_keys_name_tells_whose_it_is_and_when_its_lease_ends() -> None:
    key = AccountKey("1", key_name(SPEC), "ssh-ed25519 AAAA")

    assert len(key.name) <= 64
    assert (key.ours, key.end) == (True, END)
    assert not AccountKey("2", "ty-my-laptop", "ssh-ed25519 AAAA").ours
