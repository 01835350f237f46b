"""A stack made without the command plugin, destroyed by the Pulumi CLI that has none either, on a machine without network."""

from __future__ import annotations

import json

import pytest

from tests.e2e.yard import Yard
from tests.engine.bench import cli_found

NOWHERE = "http://127.0.0.1:9"
"""The discard port of this machine: nothing can be downloaded."""


@pytest.mark.cli
@pytest.mark.skipif(cli_found() is None, reason="NO PULUMI CLI on PATH: its destroy without the command plugin was NOT run")
def test_a_destroy_by_the_cli_without_plugin_and_network_leaves_nothing(yard: Yard) -> None:
    given = {"cloud": "local", "bucket": "none", "pods": 1, "hours": 1}
    lines = "".join(f"  trainyard:{key}: {value}\n" for key, value in given.items())
    (yard.root / "Pulumi.local.yaml").write_text(f"config:\n{lines}")
    yard.extra = {"PULUMI_HOME": str(yard.base / "pulumi")}
    yard.invoke("up", "--stack", "local").expect()
    state = yard.home / "state/.pulumi/stacks/trainyard/local.json"
    made = {resource["type"] for resource in json.loads(state.read_text())["checkpoint"]["latest"]["resources"]}
    assert "command:remote:Command" in made and len(yard.pods()) == 1

    yard.extra = {**yard.extra, "TRAINYARD_ENGINE": "cli", "HTTPS_PROXY": NOWHERE, "HTTP_PROXY": NOWHERE}
    done = yard.invoke("destroy", "--stack", "local", "--yes").expect()

    assert "the Pulumi CLI has not destroyed all; the built-in engine goes on" in done.out + done.err
    assert yard.pods() == []
    assert not json.loads(state.read_text())["checkpoint"]["latest"].get("resources")
