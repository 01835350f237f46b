"""Runs as files of git, from two clones that share nothing but the repository and the bucket: a CI job that is gone, and the next one."""

from __future__ import annotations

import json
import shutil
import subprocess

from tests.e2e.test_alone import Clone
from tests.e2e.yard import COUNT, Yard


def git(yard: Yard, *words: str) -> str:
    who = ("-c", "user.name=Ann", "-c", "user.email=ann@example.org")
    return subprocess.run(["git", *who, *words], cwd=yard.root, capture_output=True, text=True, check=True).stdout.strip()


def test_a_job_that_is_gone_has_started_one_run_and_the_next_job_in_a_fresh_clone_finishes_its_story(yard: Yard) -> None:
    settings = yard.root / "Pulumi.local.yaml"
    settings.write_text(settings.read_text() + "  trainyard:commit_alone_minutes: 0.02\n")
    (yard.root / "runs").mkdir()
    (yard.root / "runs" / "count.yaml").write_text(f"stack: local\nrecipe: command\nvalues: {{script: {COUNT}, args: 8 0.2 0}}\n")
    (yard.root / ".gitignore").write_text(".trainyard/\nout/\n.venv\n")
    git(yard, "init", "-q")
    git(yard, "add", "-A")
    git(yard, "commit", "-q", "-m", "one run")
    run = f"gitops/count-{git(yard, 'rev-parse', 'HEAD')[:12]}"
    next_job = Clone(yard.base, yard.extra)
    shutil.rmtree(next_job.root)

    started = yard.invoke("gitops.sync", "--json").expect().json()
    shutil.rmtree(yard.home)  # the runner is gone with all that it knew
    git(yard, "clone", "-q", ".", str(next_job.root))
    (next_job.root / ".venv").symlink_to((yard.root / ".venv").resolve())
    at_work = next_job.invoke("gitops.sync", "--json").expect().json()
    yard.wait_for(lambda: not yard.pods())
    finished = next_job.invoke("gitops.sync", "--json").expect().json()

    # However slow the machine is: the second job finds it at work, or over already, and never begins it.
    assert started["started"] == [run] and [*at_work["at_work"], *at_work["over"]] == [run] and not at_work["started"]
    assert finished["over"] == [run] and not finished["started"] and yard.pods() == []
    (folder,) = (next_job.home / "runs").glob("gitops/*/*/")
    summary = json.loads((folder / "run-summary.json").read_text())
    assert (summary["run"], summary["attempt"], summary["success"]) == (run, 1, True) and summary["pods"][0]["ended_at"]
