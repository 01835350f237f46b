"""The scheduled reaper and sweeper are ready to run: their commands exist, wait for no tools, and need only their keys."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Any

import yaml

from trainyard.settings.variables import groups
from trainyard.setup import bootstrap

ROOT = Path(__file__).resolve().parents[2]
TEXT = (ROOT / ".github/workflows/reaper.yml").read_text(encoding="utf-8")


def commands() -> list[list[str]]:
    """Return the words of every command: those of the steps, and the one for cron."""
    steps: list[dict[str, Any]] = [step for job in yaml.safe_load(TEXT)["jobs"].values() for step in job["steps"]]
    return [step["run"].split() for step in steps if "run" in step] + [line.split() for line in re.findall(r"\./bootstrap .*$", TEXT, re.M)]


def test_its_commands_are_verbs_with_options_that_exist_and_need_no_tools() -> None:
    sys.path.insert(0, str(ROOT))
    try:
        import tasks
    finally:
        sys.path.remove(str(ROOT))
    found = commands()
    assert len(found) >= 4
    for program, verb, *words in found:
        flags = {f"--{name.replace('_', '-')}" for argument in tasks.ns[verb].get_arguments() for name in argument.names}
        assert program == "./bootstrap" and verb in bootstrap.CLOUD_VERBS
        assert [word for word in words if word.startswith("-") and word not in flags] == []
        assert words[words.index("--stack") + 1] in ("runpod", '"$SWEEP_STACK"'), (
            "with --all-stacks a missing key would only be left out, and the job be green"
        )


def test_the_reaper_needs_the_api_key_alone_and_the_sweeper_a_stores_keys_alone() -> None:
    jobs = yaml.safe_load(TEXT)["jobs"]
    needed = {name: set(re.findall(r"secrets\.(\w+)", yaml.safe_dump(job))) for name, job in jobs.items()}
    known = {name for one in groups("store") for name in (*one.keys, *one.needed, *one.more)}

    assert needed["reap"] == {"RUNPOD_API_KEY"} and needed["sweep"] <= known
    assert {name for one in groups("store") for name in (*one.keys, *one.needed)} <= needed["sweep"]
    assert "vars.SWEEP_STACK != ''" in jobs["sweep"]["if"], "who has not asked for it has no job that fails"
    assert yaml.safe_load(TEXT)["permissions"] == {"contents": "read"}


def test_it_runs_on_a_schedule() -> None:
    # YAML 1.1 reads the word "on" as a truth value.
    assert yaml.safe_load(TEXT)[True]["schedule"] == [{"cron": "*/10 * * * *"}, {"cron": "17 3 * * *"}]
    assert "'17 3 * * *'" in yaml.safe_load(TEXT)["jobs"]["sweep"]["if"]
