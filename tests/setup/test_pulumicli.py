"""The Pulumi CLI is optional: found, fetched within its limit, or done without, and never asked for twice a day."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from trainyard.setup import pulumicli
from trainyard.stacks.installed import COMMAND_PLUGIN

PULUMI = """#!/bin/sh
case "$1" in
version) echo vVERSION;;
plugin) echo "$*" >> "$LOG"; ACTION;;
esac
"""
FOLDER = '"$PULUMI_HOME/plugins/resource-command-v1.2.1"'
INSTALLS = f"mkdir -p {FOLDER}; touch {FOLDER}/pulumi-resource-command"


@pytest.fixture
def env(tmp_path: Path) -> dict[str, str]:
    """A user without the CLI; whatever wants out of the machine is refused at once."""
    return {
        "PATH": f"{tmp_path / 'bin'}:/usr/bin:/bin",
        "HOME": str(tmp_path),
        "PULUMI_HOME": str(tmp_path / "pulumi"),
        "LOG": str(tmp_path / "log"),
        "https_proxy": "http://127.0.0.1:9",
    }


def pulumi(tmp_path: Path, version: str, action: str = INSTALLS) -> Path:
    path = tmp_path / "bin" / "pulumi"
    path.parent.mkdir(exist_ok=True)
    for name in ("pulumi", "pulumi-language-python"):
        program = path.with_name(name)
        program.write_text(PULUMI.replace("VERSION", version).replace("ACTION", action))
        program.chmod(0o755)
    return path


def silent(line: str) -> None:
    """Nobody reads along."""


def test_a_fitting_cli_is_kept_and_gets_the_pinned_plugin(env: dict[str, str], tmp_path: Path) -> None:
    cli = pulumi(tmp_path, "3.260.0")

    found = pulumicli.ensure(tmp_path, env, silent)

    assert (found.cli, found.plugin, found.complete) == (cli, True, True)
    assert (tmp_path / "log").read_text() == f"plugin install resource command {COMMAND_PLUGIN} --exact\n"
    assert pulumicli.ensure(tmp_path, env, silent) == found
    assert (tmp_path / "log").read_text().count("install") == 1


def test_a_plugin_that_takes_too_long_is_left_out_within_the_limit_and_not_waited_for_again(env: dict[str, str], tmp_path: Path) -> None:
    cli = pulumi(tmp_path, "3.260.0", "sleep 60")
    begun = time.monotonic()

    found = pulumicli.ensure(tmp_path, env, silent, limit=0.3)

    assert time.monotonic() - begun < 40
    assert (found.cli, found.plugin) == (cli, False)
    assert "built-in engine is used" in found.text
    assert f"pulumi plugin install resource command {COMMAND_PLUGIN}" in found.text
    assert pulumicli.ensure(tmp_path, env, silent, limit=0.3) == found
    assert (tmp_path / "log").read_text().count("install") == 1


def test_without_a_cli_one_sentence_names_the_built_in_engine_and_the_way_to_get_one(env: dict[str, str], tmp_path: Path) -> None:
    lines: list[str] = []

    found = pulumicli.ensure(tmp_path, env, lines.append, now=1000.0)

    assert (found.cli, found.plugin) == (None, False)
    assert "the built-in engine is used" in found.text
    assert "https://www.pulumi.com/" in found.text
    assert len(found.text.splitlines()) == 1
    assert any("at most 20 s" in line for line in lines)
    assert pulumicli.last_failure(env)


def test_a_failed_download_is_remembered_for_a_day_in_every_checkout(env: dict[str, str], tmp_path: Path) -> None:
    def asks_at(now: float, root: Path) -> bool:
        lines: list[str] = []
        pulumicli.ensure(root, env, lines.append, now=now)
        return any("installer" in line for line in lines)

    day = 24 * 3600.0
    assert asks_at(1_000_000.0, tmp_path)
    assert not asks_at(1_000_000.0 + day - 1, tmp_path / "other")
    assert asks_at(1_000_000.0 + day + 1, tmp_path)


def test_a_clock_that_was_set_back_does_not_keep_the_memory_for_ever(env: dict[str, str], tmp_path: Path) -> None:
    pulumicli.ensure(tmp_path, env, silent, now=9e9)
    lines: list[str] = []

    pulumicli.ensure(tmp_path, env, lines.append, now=1e9)

    assert any("installer" in line for line in lines)


def test_an_old_cli_counts_as_none(env: dict[str, str], tmp_path: Path) -> None:
    pulumi(tmp_path, "3.100.0")

    assert pulumicli.ensure(tmp_path, env, silent).cli is None


def test_a_cli_that_is_installed_later_is_taken_although_the_download_failed(env: dict[str, str], tmp_path: Path) -> None:
    pulumicli.ensure(tmp_path, env, silent)
    cli = pulumi(tmp_path, "3.260.0")

    assert pulumicli.ensure(tmp_path, env, silent).cli == cli
