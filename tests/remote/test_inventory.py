"""Stack outputs become hosts; keys taken on trust are written down."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from tests.remote.sshd import Server
from trainyard.errors import HostKeyChanged, UserError
from trainyard.remote.inventory import targets
from trainyard.remote.keys import fingerprint, host_key
from trainyard.remote.trust import RecordedKeys

POD = {
    "pod_id": "p1", "pod_name": "ty-x", "host": "1.2.3.4", "port": 2201.0, "user": "root", "workspace": "/workspace",
    "host_key": "ssh-ed25519 AAAA", "gpu": "H100",
}  # fmt: skip


def test_a_run_is_one_host_and_an_environment_those_of_its_list() -> None:
    (run,) = targets(POD, key_file=Path("/k"))
    assert (run.name, run.address.port, run.address.host_key, run.address.key_file) == ("ty-x", 2201, "ssh-ed25519 AAAA", Path("/k"))
    assert run.vars["workspace"] == "/workspace" and "host_key" not in run.vars
    other = {**POD, "pod_name": "ty-y"}
    environment = {"cloud": "local", "ssh_key_file": "/env/key", "ssh_private_key": "secret", "pods": [POD, other]}
    found = targets(environment)
    assert [target.name for target in found] == ["ty-x", "ty-y"]
    assert {target.address.key_file for target in found} == {Path("/env/key")}
    assert targets({"cloud": "local", "pods": []}) == []


@pytest.mark.parametrize(
    ("pods", "words"),
    [([{**POD, "host": None}], "no SSH address"), ([POD, POD], "two pods"), (["x"], "hold no pod")],
)
def test_outputs_that_name_no_reachable_pod_are_told(pods: list[object], words: str) -> None:
    with pytest.raises(UserError, match=words):
        targets({"pods": pods})


def test_a_key_taken_on_trust_is_recorded_said_once_and_pinned_from_then_on(server: Server, tmp_path: Path) -> None:
    said: list[str] = []
    keys = RecordedKeys(tmp_path / "run/host-keys.json", said.append)
    unknown = replace(server.address, host_key=None)
    for _ in range(2):
        with keys.connect("p1", unknown) as transport:
            assert transport.exec("true").rc == 0
    assert len(said) == 1 and fingerprint(server.address.host_key or "") in said[0]
    (tmp_path / "run/host-keys.json").write_text(json.dumps({"p1": host_key(b"z" * 32, "z").public}))
    with pytest.raises(HostKeyChanged):
        keys.connect("p1", unknown)


def test_a_damaged_record_is_never_taken_for_an_empty_one(server: Server, tmp_path: Path) -> None:
    (tmp_path / "keys.json").write_text("{")
    with pytest.raises(UserError, match="cannot be read"):
        RecordedKeys(tmp_path / "keys.json", print).connect("p1", replace(server.address, host_key=None))
