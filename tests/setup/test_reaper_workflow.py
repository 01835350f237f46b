"""The scheduled reaper and sweeper are ready to run: their commands exist, wait for no tools, and need only their keys."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from trainyard.cli.scaffold import Choices, texts
from trainyard.settings.variables import account_keys, groups
from trainyard.setup import bootstrap

ROOT = Path(__file__).resolve().parents[2]
TEXT = (ROOT / ".github/workflows/reaper.yml").read_text(encoding="utf-8")


def commands() -> list[list[str]]:
    """Return the words of every command: those of the steps, and the one for cron."""
    steps: list[dict[str, Any]] = [step for job in yaml.safe_load(TEXT)["jobs"].values() for step in job["steps"]]
    return [step["run"].split() for step in steps if "--stack" in step.get("run", "")] + [
        line.split() for line in re.findall(r"^#.*(\./bootstrap .*)$", TEXT, re.M)
    ]


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
        assert words[words.index("--stack") + 1] in (*account_keys(), '"$SWEEP_STACK"'), (
            "with --all-stacks a missing key would only be left out, and the job be green"
        )


def test_the_reaper_needs_api_keys_alone_and_the_sweeper_a_stores_keys_alone() -> None:
    jobs = yaml.safe_load(TEXT)["jobs"]
    needed = {name: set(re.findall(r"secrets\.(\w+)", yaml.safe_dump(job))) for name, job in jobs.items()}
    known = {name for one in groups("store") for name in (*one.keys, *one.needed, *one.more)}

    assert needed["reap"] == {key for keys in account_keys().values() for key in keys} and needed["sweep"] <= known
    assert {name for one in groups("store") for name in (*one.keys, *one.needed)} <= needed["sweep"]
    assert "vars.SWEEP_STACK != ''" in jobs["sweep"]["if"], "who has not asked for it has no job that fails"
    assert yaml.safe_load(TEXT)["permissions"] == {"contents": "read"}


def test_each_cloud_with_a_key_is_reaped_by_a_step_that_has_its_key_alone() -> None:
    job = yaml.safe_load(TEXT)["jobs"]["reap"]
    steps = {step["run"].split()[-1]: step for step in job["steps"] if "--stack" in step.get("run", "")}

    assert {stack: tuple(step["env"]) for stack, step in steps.items()} == account_keys()
    for stack, keys in account_keys().items():
        flag = f"REAP_{stack.upper().replace('-', '_')}"
        assert steps[stack]["if"] == f"${{{{ !cancelled() && env.{flag} == 'true' }}}}", "one cloud's trouble keeps no other from it"
        assert re.findall(r"secrets\.(\w+) != ''", job["env"][flag]) == list(keys)


def test_the_sdk_of_modal_is_there_before_modal_is_asked_and_its_step_sees_no_key() -> None:
    steps = yaml.safe_load(TEXT)["jobs"]["reap"]["steps"]
    at = next(number for number, step in enumerate(steps) if step.get("run", "").endswith("--stack modal"))

    assert "trainyard[modal]" in steps[at - 1]["run"] and steps[at - 1]["if"] == steps[at]["if"]
    assert "env" not in steps[at - 1]
    assert [step for step in steps[at + 1 :] if "secrets." in str(step)] == [], "what is installed for Modal sees no other cloud's key"


@pytest.mark.parametrize(
    ("asked", "code", "said"),
    [
        ({"REAP_VAST": "true", "REAP_IONET_VM": "false"}, 0, "a key of: ionet-vm"),
        ({"REAP_VAST": "true"}, 0, ""),
        ({"REAP_VAST": "false"}, 1, "::error title=nothing was asked::"),
    ],
)
@pytest.mark.parametrize("of", ["ours", "a repository's"])
def test_clouds_without_a_secret_are_told_and_none_at_all_fails(of: str, asked: dict[str, str], code: int, said: str) -> None:
    text = TEXT if of == "ours" else texts(Choices(("vast", "ionet-vm"), "github"))[".github/workflows/trainyard-reaper.yml"]
    step = yaml.safe_load(text)["jobs"]["reap"]["steps"][-1]

    done = subprocess.run(["bash", "-e", "-c", step["run"]], env={"PATH": os.environ["PATH"], **asked}, text=True, capture_output=True)

    assert (done.returncode, step["if"]) == (code, "${{ !cancelled() }}") and said in done.stdout


def test_a_repository_of_ones_own_asks_each_chosen_cloud_whose_key_is_set() -> None:
    text = texts(Choices(("jarvislabs", "ionet-vm", "modal"), "github"))[".github/workflows/trainyard-reaper.yml"]
    job = yaml.safe_load(text)["jobs"]["reap"]
    steps = {step["run"].split()[-1]: step for step in job["steps"] if "--stack" in step.get("run", "")}

    assert set(steps) == {"jarvislabs", "ionet-vm", "modal"} and "trainyard[modal]==" in text
    for stack, step in steps.items():
        flag = f"REAP_{stack.upper().replace('-', '_')}"
        assert tuple(step["env"]) == account_keys()[stack] and step["if"] == f"${{{{ !cancelled() && env.{flag} == 'true' }}}}"
        assert re.findall(r"secrets\.(\w+) != ''", job["env"][flag]) == list(account_keys()[stack])


def test_it_runs_on_a_schedule() -> None:
    # YAML 1.1 reads the word "on" as a truth value.
    assert yaml.safe_load(TEXT)[True]["schedule"] == [{"cron": "*/10 * * * *"}, {"cron": "17 3 * * *"}]
    assert "'17 3 * * *'" in yaml.safe_load(TEXT)["jobs"]["sweep"]["if"]
