"""The table of clouds: each row has what it names, and whatever is made from the rows follows them."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path

import pytest

from trainyard.clouds import open_cloud
from trainyard.clouds.keys import account_keys
from trainyard.config import places
from trainyard.errors import UserError
from trainyard.settings.clouds import BUILT_IN, OTHER_ACCOUNTS, CloudEntry, entries
from trainyard.settings.table import SETTINGS
from trainyard.shipped import shipped


@pytest.mark.parametrize("cloud", BUILT_IN, ids=lambda cloud: cloud.name)
def test_what_a_row_names_is_there(cloud: CloudEntry) -> None:
    module, _, function = cloud.opener.partition(":")

    assert callable(getattr(import_module(module), function))
    assert not cloud.emulator or import_module(cloud.emulator.partition(":")[0])
    assert shipped(f"Pulumi.{cloud.name}.yaml").is_file()
    assert shipped(f"docs/clouds/{cloud.name}.md").is_file()
    assert bool(cloud.keys) == bool(cloud.key_page), "who lacks a key must hear where one is made"
    assert cloud.name not in OTHER_ACCOUNTS


@pytest.mark.parametrize("cloud", BUILT_IN, ids=lambda cloud: cloud.name)
def test_a_row_promises_what_the_adapter_does(cloud: CloudEntry, tmp_path: Path) -> None:
    able = open_cloud(cloud.name, dict.fromkeys(cloud.keys, "key"), places(tmp_path, {})).capabilities

    assert (able.ssh, able.self_terminate, able.deadline) == (cloud.ssh, cloud.self_terminate, cloud.deadline)


def test_a_setting_that_not_all_clouds_read_is_read_by_those_whose_rows_name_it() -> None:
    named = {name for cloud in entries().values() for name in cloud.settings}

    assert named == {name for name, setting in SETTINGS.items() if setting.some_clouds}


def test_a_missing_key_is_said_with_where_it_is_made() -> None:
    with pytest.raises(UserError, match="RUNPOD_API_KEY is not set") as caught:
        account_keys("runpod", {})

    assert caught.value.hint == "Make a key in RunPod's console (Settings, API keys) and put it into .env."


def test_an_unknown_cloud_is_said_with_those_there_are(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"unknown cloud 'runpot' \(did you mean 'runpod'\?\)"):
        open_cloud("runpot", {}, places(tmp_path, {}))
