"""Inventories mean what they mean to ansible-core, whose answers were recorded."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.cases.inventories import RECORDED, SEEDS, lay_out
from trainyard.playbook.hosts import magic
from trainyard.playbook.hosts.inventory import Inventory
from trainyard.playbook.hosts.patterns import matching
from trainyard.playbook.hosts.sources import read
from trainyard.playbook.values import rendered


@pytest.mark.parametrize("seed", SEEDS)
def test_hosts_have_the_variables_and_patterns_the_hosts_that_ansible_says(tmp_path: Path, seed: int) -> None:
    lay_out(seed, tmp_path)
    inventory = Inventory()
    read(inventory, [str(tmp_path / "hosts")])
    expected = json.loads(RECORDED.read_text(encoding="utf-8"))[str(seed)]
    groups = inventory.members()

    variables = {}
    for host in inventory.hosts:
        said = {name: rendered(value, {}) for name, value in inventory.variables(host, tmp_path / "play").items()}
        said.pop("ansible_group_priority", None)
        variables[host] = said | {"group_names": magic.of_host(host, groups, None, {})["group_names"]}
    assert variables == expected["variables"]

    # The order among several groups is theirs by chance: a set of names.
    for pattern, hosts in expected["patterns"].items():
        named = matching([pattern], groups)
        assert (named if "[" in pattern else sorted(named)) == (hosts if "[" in pattern else sorted(hosts)), pattern
