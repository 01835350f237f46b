"""A team's state backend (s3://), which only the Pulumi CLI reaches: a whole run, and a teardown when it cannot be reached."""

from __future__ import annotations

import os
import shlex
import shutil
import signal
import subprocess
from collections.abc import Mapping
from typing import Any

import boto3
import pytest

from tests.e2e.yard import Yard
from trainyard.errors import EngineError
from trainyard.stacks import installed

pytestmark = [
    pytest.mark.timeout(400),
    pytest.mark.skipif(
        installed.find(os.environ) is None or not installed.has_command_plugin(os.environ),
        reason="NO PULUMI CLI with its command plugin: a team's backend was NOT tried",
    ),
]


def test_a_stack_moves_to_a_team_s_bucket_by_the_shown_commands_and_trains_there(yard: Yard) -> None:
    yard.invoke("up", "--stack", "local", "-y").expect()
    settings = (yard.root / "Pulumi.local.yaml").read_bytes()
    exported = shlex.split(yard.invoke("env").expect().out.replace("export ", ""))
    shell = dict(word.split("=", 1) for word in exported if not word.startswith("PATH="))
    bucket, team = _bucket(yard)

    _pulumi(yard, shell, "stack", "export", "--stack", "local", "--file", "local.json")
    _pulumi(yard, shell | team, "stack", "init", "local", "--secrets-provider", "passphrase")
    _pulumi(yard, shell | team, "stack", "import", "--stack", "local", "--file", "local.json")
    shutil.rmtree(yard.places.state)
    yard.extra = {"TRAINYARD_ENGINE": "auto", **team}

    assert "no change" in yard.invoke("preview", "--stack", "local").expect().out
    assert (yard.root / "Pulumi.local.yaml").read_bytes() == settings, "no salt stays in the tracked file"
    summary = yard.invoke(*yard.train("--name", "a", "--json", steps=2), timeout=380).expect().json()
    assert summary["success"] and summary["engine"] == "cli" and yard.pods() == []
    stacks = [item.key for item in bucket.objects.filter(Prefix=".pulumi/stacks/") if item.key.endswith(".json")]
    assert stacks == [".pulumi/stacks/trainyard/local.json"], "the run's own stack is removed, the environment's stays"


def test_where_the_backend_cannot_be_asked_the_pod_is_ended_through_the_cloud(yard: Yard) -> None:
    yard.extra = {"TRAINYARD_ENGINE": "auto", **_bucket(yard)[1]}
    running = yard.start(*yard.train("--name", "a", steps=400, pause=0.5))
    yard.wait_for(lambda: yard.record("a").get("phase") == "started", 300)
    os.killpg(running.pid, signal.SIGKILL)
    yard.extra = {**yard.extra, "AWS_SHARED_CREDENTIALS_FILE": "/dev/null", "AWS_EC2_METADATA_DISABLED": "true"}

    done = yard.invoke("cancel", "a", "--now", timeout=380)

    assert yard.pods() == []
    assert done.code == EngineError.exit_code and "is left (proved by the cloud), but its stack could not be removed" in done.err, done


def _bucket(yard: Yard) -> tuple[Any, dict[str, str]]:
    """Return a bucket of the yard's own S3 server, and the environment that makes it the state's backend."""
    yard.invoke("store.start").expect()
    endpoint = yard.invoke("store.status").expect().json()["endpoint"]
    credentials = str(yard.base / "o" / "store" / "credentials")
    session = boto3.Session(**_keys(credentials), region_name="us-east-1")
    bucket = session.resource("s3", endpoint_url=endpoint).Bucket("team-state")
    bucket.create()
    url = f"s3://team-state?region=us-east-1&endpoint={endpoint}&s3ForcePathStyle=true"
    return bucket, {"PULUMI_BACKEND_URL": url, "AWS_SHARED_CREDENTIALS_FILE": credentials}


def _pulumi(yard: Yard, env: Mapping[str, str], *words: str) -> None:
    done = subprocess.run(["pulumi", *words], cwd=yard.root, env={**yard.env, **env}, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def _keys(path: str) -> dict[str, str]:
    with open(path) as file:
        found = dict(line.replace(" ", "").strip().split("=", 1) for line in file if "=" in line)
    return {name: found[name] for name in ("aws_access_key_id", "aws_secret_access_key")}
