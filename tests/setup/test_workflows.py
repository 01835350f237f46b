"""Workflows, hooks and updates: parsed, pinned by commit, no more rights than reading, and they run what a person would."""

from __future__ import annotations

import os
import re
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / ".github" / "workflows"
NAMES = sorted(path.name for path in FOLDER.iterdir())
ON = True
"""YAML 1.1 reads the word "on" as a truth value."""
ROLE = {"contents": "read", "id-token": "write"}
"""Of a job that runs what was checked out and asks AWS for keys of its own, which last as long as it."""
RIGHTS = {
    ("release.yml", "publish"): {"id-token": "write"}, ("release.yml", "announce"): {"contents": "write"},
    ("gitops.yml", "runs"): ROLE, ("gitops.yml", "comment"): {"pull-requests": "write"},
}  # fmt: skip
"""All that any job may do beside reading; such a job runs nothing of the checkout, but for that one."""
PINNED = re.compile(r"[\w.-]+/[\w./-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+")


def workflow(name: str) -> dict[Any, Any]:
    loaded: dict[Any, Any] = yaml.safe_load((FOLDER / name).read_text(encoding="utf-8"))
    return loaded


def steps(name: str) -> list[dict[str, Any]]:
    return [step for job in workflow(name)["jobs"].values() for step in job.get("steps", ())]


@pytest.mark.parametrize("name", NAMES)
def test_every_action_is_pinned_by_the_hash_of_a_commit_with_its_version_behind(name: str) -> None:
    used = re.findall(r"^ *(?:- )?uses: *([^.\s].*)$", (FOLDER / name).read_text(encoding="utf-8"), re.M)

    assert len(used) == len([step for step in steps(name) if "uses" in step]) > 0
    assert [text for text in used if not PINNED.fullmatch(text)] == []


def test_all_workflows_use_the_same_commit_of_an_action() -> None:
    used = {step["uses"] for name in NAMES for step in steps(name) if "uses" in step}

    assert len({text.partition("@")[0] for text in used}) == len(used)


@pytest.mark.parametrize("name", NAMES)
def test_a_workflow_may_read_and_nothing_else_and_ends_by_itself(name: str) -> None:
    parsed = workflow(name)

    assert parsed["permissions"] == {"contents": "read"}
    assert "pull_request_target" not in parsed[ON] and parsed["concurrency"]
    for key, job in parsed["jobs"].items():
        assert job.get("permissions") == RIGHTS.get((name, key))
        assert job.get("uses") == "./.github/workflows/ci.yml" or 0 < job["timeout-minutes"] <= 60
        if job.get("permissions", ROLE) != ROLE:
            assert not any(step.get("uses", "").startswith("actions/checkout@") for step in job["steps"])
    checkouts = [step for step in steps(name) if step.get("uses", "").startswith("actions/checkout@")]
    assert checkouts and all(step["with"]["persist-credentials"] is False for step in checkouts)


def test_ci_runs_what_a_person_runs_and_knows_no_secret() -> None:
    text = (FOLDER / "ci.yml").read_text(encoding="utf-8")

    assert {step["run"] for step in steps("ci.yml") if "run" in step} == {".ci/run"}
    assert os.access(ROOT / ".ci" / "run", os.X_OK) and "secrets." not in text
    assert {"push", "pull_request"} <= set(workflow("ci.yml")[ON])


def test_ci_tries_the_oldest_python_and_every_one_that_the_package_names() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    tried = workflow("ci.yml")["jobs"]["all"]["strategy"]["matrix"]["python"]
    named = re.findall(r"Python :: (3\.\d+)$", "\n".join(project["classifiers"]), re.M)

    assert project["requires-python"] == f">={tried[0]}"
    assert all(isinstance(version, str) for version in tried), "3.10 without quotes is 3.1"
    assert set(named) <= set(tried)


def test_hooks_are_the_checks_of_the_projects_own_environment() -> None:
    repos = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text(encoding="utf-8"))["repos"]
    assert [repo["repo"] for repo in repos] == ["local"]
    entries = [hook["entry"].split() for hook in repos[0]["hooks"]]
    assert {entry[0] for entry in entries} == {".venv/bin/ruff", ".venv/bin/python"}
    assert {entry[1] for entry in entries if entry[0].endswith("python")} == {".ci/check.py"} and (ROOT / ".ci" / "check.py").is_file()


def test_updates_are_asked_for_packages_and_actions() -> None:
    parsed = yaml.safe_load((ROOT / ".github" / "dependabot.yml").read_text(encoding="utf-8"))

    assert parsed["version"] == 2
    asked = {
        (each["package-ecosystem"], folder) for each in parsed["updates"] for folder in each.get("directories", [each.get("directory")])
    }
    assert asked == {("pip", "/"), ("pip", "/.ci"), ("gomod", "/.ci/actionlint"), ("github-actions", "/")}
    assert all((ROOT / folder.strip("/")).is_dir() for _, folder in asked)
