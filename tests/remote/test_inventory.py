"""Stack outputs become hosts."""

from __future__ import annotations

from pathlib import Path

import pytest

from trainyard.errors import UserError
from trainyard.remote.inventory import targets

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
