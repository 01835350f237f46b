"""The shell lines of gitops.yml, run as a runner runs them: bash -e, its environment, its files; gh, aws and the slow verbs are played."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

from trainyard.cli import scaffold
from trainyard.runs.gitops.plan import MARK
from trainyard.settings.variables import account_keys
from trainyard.templating import render_file

ROOT = Path(__file__).resolve().parents[2]
FILE = ROOT / ".github" / "workflows" / "gitops.yml"
JOBS: Mapping[str, Any] = yaml.safe_load(FILE.read_text(encoding="utf-8"))["jobs"]


def lines(job: str, name: str) -> str:
    """Return the shell lines of a step."""
    return str(next(step["run"] for step in JOBS[job]["steps"] if step.get("name") == name))


class Runner:
    """A runner's folders and environment around a checkout."""

    def __init__(self, base: Path) -> None:
        self.checkout, self.programs, self.temp = base / "checkout", base / "bin", base / "temp"
        for folder in (self.checkout / ".venv/bin", self.programs, self.temp, base / "home"):
            folder.mkdir(parents=True)
        self.output, self.calls, self.variables = base / "output", base / "calls", base / "env"
        self.env = {
            "PATH": f"{self.programs}:{os.environ['PATH']}", "HOME": str(base / "home"), "CI": "true", "GITHUB_ACTIONS": "true",
            "GITHUB_OUTPUT": str(self.output), "GITHUB_ENV": str(self.variables), "RUNNER_TEMP": str(self.temp),
            "GITHUB_REPOSITORY": "you/models", "GITOPS_STACKS": "local", "NO_COLOR": "1", "CALLS": str(self.calls),
            "TRAINYARD_LOCAL_ROOT": str(base / "outside"), "XDG_CONFIG_HOME": str(base / "config"),
        }  # fmt: skip
        real = f'exec "{sys.executable}" -m trainyard "$@"'
        self.play(self.checkout / ".venv/bin/invoke", f'case $1 in gitops.plan) {real} ;; *) echo "$1 of $3" ;; esac')

    def play(self, path: Path, text: str) -> None:
        """Put a program in the place of another one; it writes down its words."""
        path.write_text(f'#!/bin/sh\nprintf "%s\\n" "$(basename "$0") $*" >>"$CALLS"\n{text}\n')
        path.chmod(0o755)

    def run(self, text: str, **more: str) -> subprocess.CompletedProcess[str]:
        """Run a step's lines."""
        script = self.temp / "step.sh"
        script.write_text(text)
        return subprocess.run(
            ["bash", "-e", script], cwd=self.checkout, env={**self.env, **more}, capture_output=True, text=True, check=False
        )  # fmt: skip

    def told(self) -> list[str]:
        """Return what was called."""
        return self.calls.read_text().splitlines() if self.calls.exists() else []


@pytest.fixture
def runner(tmp_path: Path) -> Runner:
    return Runner(tmp_path)


def test_the_workflow_is_the_one_that_init_writes_with_the_commands_of_a_checkout() -> None:
    known = {
        "keys": account_keys(), "stores": scaffold._stores(), "command": ".venv/bin/invoke", "setup": lines("runs", "set up"),
    }  # fmt: skip
    assert FILE.read_text(encoding="utf-8") == render_file(ROOT / "trainyard/cli/skeleton", "gitops.j2", known)


@pytest.mark.parametrize("token", ["", "ak-1"])
def test_modals_sdk_is_installed_where_its_key_is_set(runner: Runner, token: str) -> None:
    runner.play(runner.checkout / "bootstrap", "true")
    runner.play(runner.checkout / ".venv/bin/python", "true")

    assert runner.run(lines("runs", "set up"), MODAL_TOKEN_ID=token).returncode == 0
    assert runner.told() == ["bootstrap setup", *(["python -m pip install --quiet trainyard[modal]"] if token else [])]


def test_a_pull_request_gets_plan_and_preview_as_one_comment_that_is_updated(runner: Runner) -> None:
    for name in ("Pulumi.yaml", "Pulumi.local.yaml"):
        (runner.checkout / name).write_text((ROOT / name).read_text())
    (runner.checkout / "runs").mkdir()
    (runner.checkout / "runs/first.yaml").write_text("stack: local\nrecipe: command\ncommand: sh -c 'echo hi'\n")
    who = ("-c", "user.name=Ann", "-c", "user.email=ann@example.org")
    for words in (("init", "-q"), ("add", "runs", "Pulumi.yaml", "Pulumi.local.yaml"), (*who, "commit", "-q", "-m", "a run")):
        subprocess.run(["git", *words], cwd=runner.checkout, check=True)

    planned = runner.run(lines("runs", "plan"))
    begin, _, rest = runner.output.read_text().partition("\n")
    comment = rest[: rest.rindex(begin.removeprefix("comment<<"))]
    runner.play(runner.programs / "gh", 'case "$*" in *"/comments --jq"*) cat "$RUNNER_TEMP/known" ;; esac')
    (runner.temp / "known").write_text("")
    post = lines("comment", "one comment, updated")
    first = runner.run(post, COMMENT=comment, NUMBER="7", GH_TOKEN="t")
    (runner.temp / "known").write_text("11\n12\n")
    second = runner.run(post, COMMENT=comment, NUMBER="7", GH_TOKEN="t")

    assert (planned.returncode, first.returncode, second.returncode) == (0, 0, 0), planned.stderr + first.stderr + second.stderr
    assert comment.startswith(MARK) and "| **start** | `runs/first.yaml` |" in comment and "preview of local" in comment
    writes = [call.split() for call in runner.told() if call.startswith("gh ") and "body=@" in call]
    assert writes[0][2] == "repos/you/models/issues/7/comments"
    assert writes[1][2:5] == ["--method", "PATCH", "repos/you/models/issues/comments/11"] and len(writes) == 2
    assert (runner.temp / "comment.md").read_text().startswith(MARK)


def test_run_files_that_cannot_be_read_fail_the_check_and_are_told_in_the_comment(runner: Runner) -> None:
    runner.play(runner.checkout / ".venv/bin/invoke", f'case $1 in gitops.plan) echo "{MARK} wrong"; exit 2 ;; *) echo fine ;; esac')

    done = runner.run(lines("runs", "plan"))

    assert done.returncode == 2 and f"{MARK} wrong" in runner.output.read_text()


def test_a_push_brings_environments_up_and_syncs_and_a_failed_up_ends_the_job(runner: Runner) -> None:
    up, sync = lines("runs", "environments"), lines("runs", "sync")
    assert runner.run(up, GITOPS_STACKS="local runpod").returncode == 0 and runner.run(sync).returncode == 0
    assert runner.told() == ["invoke up --stack local", "invoke up --stack runpod", "invoke gitops.sync"]

    runner.play(runner.checkout / ".venv/bin/invoke", "exit 9")
    assert runner.run(up).returncode == 9 and runner.run(sync).returncode == 9


def test_drift_of_each_environment_is_in_the_summary_and_a_cloud_that_does_not_answer_fails_the_job(runner: Runner) -> None:
    drift, summary = lines("runs", "drift of environments whose state is kept for the team"), runner.temp / "summary.md"
    asked = {"GITHUB_STEP_SUMMARY": str(summary), "GITOPS_STACKS": "local runpod"}

    assert runner.run(drift, **asked).returncode == 0
    assert runner.told() == [f"invoke {verb} --stack {stack}" for stack in ("local", "runpod") for verb in ("refresh", "preview")]
    assert summary.read_text().splitlines() == ["refresh of local", "preview of local", "refresh of runpod", "preview of runpod"]
    runner.play(runner.checkout / ".venv/bin/invoke", "exit 4")
    assert runner.run(drift, **asked).returncode == 4
    text = (ROOT / "docs" / "gitops.md").read_text(encoding="utf-8")
    gitlab = yaml.safe_load(text.partition("## GitLab\n\n```yaml\n")[2].partition("```")[0])["drift"]["script"]
    runner.play(runner.programs / "trainyard", "exit 0")
    assert runner.run("\n".join(gitlab), **asked).returncode == 0 and runner.told()[-1] == "trainyard preview --stack runpod"


def test_keys_of_a_role_are_masked_and_are_the_jobs_alone(runner: Runner) -> None:
    runner.play(runner.programs / "curl", """echo '{"value": "token"}'""")
    runner.play(runner.programs / "jq", "echo token")
    runner.play(runner.programs / "aws", "printf 'AKIA\\tsecret/+=\\tsession\\n'")
    asked = {"ACTIONS_ID_TOKEN_REQUEST_TOKEN": "r", "ACTIONS_ID_TOKEN_REQUEST_URL": "https://example.org/?a=b"}

    done = runner.run(lines("runs", "keys of AWS for this job alone"), GITOPS_AWS_ROLE="arn:x", GITOPS_AWS_SECONDS="3600", **asked)

    assert done.returncode == 0, done.stderr
    assert runner.variables.read_text() == "AWS_ACCESS_KEY_ID=AKIA\nAWS_SECRET_ACCESS_KEY=secret/+=\nAWS_SESSION_TOKEN=session\n"
    assert done.stdout.splitlines() == [f"::add-mask::{word}" for word in ("token", "AKIA", "secret/+=", "session")]
    assert "https://example.org/?a=b&audience=sts.amazonaws.com" in " ".join(runner.told())


def test_the_ssh_key_lies_where_only_the_job_reads_it_and_none_is_no_error(runner: Runner) -> None:
    key = runner.temp / "key"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", key], check=True)
    step = lines("runs", "SSH key")

    assert runner.run(step, GITOPS_SSH_KEY="").returncode == 0 and not (Path(runner.env["HOME"]) / ".ssh").exists()
    assert runner.run(step, GITOPS_SSH_KEY=key.read_text().rstrip("\n")).returncode == 0
    placed = Path(runner.env["HOME"]) / ".ssh/trainyard"
    assert placed.stat().st_mode & 0o777 == 0o600 and placed.with_suffix(".pub").read_text().startswith("ssh-ed25519 ")


def test_a_stranger_gets_no_key_and_no_job_stays_for_a_training() -> None:
    text = FILE.read_text(encoding="utf-8")

    assert "github.event.pull_request.head.repo.full_name == github.repository" in JOBS["runs"]["if"]
    assert "secrets." not in json.dumps(JOBS["comment"]) and "fetch-depth: 0" in text
    assert {"train", "attach"} & set(text.split()) == set()


def test_the_example_for_gitlab_posts_one_note_and_then_updates_it(runner: Runner) -> None:
    text = (ROOT / "docs" / "gitops.md").read_text(encoding="utf-8")
    example = yaml.safe_load(text.partition("## GitLab\n\n```yaml\n")[2].partition("```")[0])
    script = example["plan"]["script"]
    assert (
        all(isinstance(line, str) for job in ("plan", "sync") for line in example[job]["script"])
        and example["variables"]["GIT_DEPTH"] == "0"
    )
    runner.play(runner.programs / "trainyard", f'case $1 in gitops.plan) echo "{MARK} plan" ;; esac')
    runner.play(runner.programs / "curl", 'case "$*" in *per_page*) cat "$RUNNER_TEMP/notes" ;; esac')
    gitlab = {
        "CI_API_V4_URL": "https://gitlab.example.org/api/v4", "CI_PROJECT_ID": "5", "CI_MERGE_REQUEST_IID": "7", "GITLAB_TOKEN": "t",
    }  # fmt: skip
    notes = "https://gitlab.example.org/api/v4/projects/5/merge_requests/7/notes"
    for known, place in (("[]", notes), (json.dumps([{"id": 3, "body": "x"}, {"id": 4, "body": f"{MARK} old"}]), f"-X PUT {notes}/4")):
        (runner.temp / "notes").write_text(known)
        done = runner.run("\n".join(script), **gitlab)
        call = runner.told()[-1]
        assert (
            done.returncode == 0
            and call.endswith("body=<plan.md " + place.rpartition(" ")[2])
            and ("-X PUT" in call) == ("-X PUT" in place)
        )
