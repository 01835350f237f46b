"""A team's state backend (s3://), which only the Pulumi CLI reaches: a whole run, and a teardown when it cannot be reached."""

import os

import boto3
import pytest

from tests.e2e.yard import ROOT
from trainyard.stacks import installed

pytestmark = [
    pytest.mark.timeout(400),
    pytest.mark.skipif(
        installed.find(os.environ, ROOT) is None or not installed.has_command_plugin(os.environ),
        reason="NO PULUMI CLI with its command plugin: a team's backend was NOT tried",
    ),
]


@pytest.fixture
def team(yard):
    """A yard whose state lies in a bucket of its own S3 server."""
    yard.invoke("store.start").expect()
    endpoint = yard.invoke("store.status").expect().json()["endpoint"]
    credentials = str(yard.base / "o" / "store" / "credentials")
    url = f"s3://team-state?region=us-east-1&endpoint={endpoint}&s3ForcePathStyle=true"
    yard.extra = {"TRAINYARD_ENGINE": "auto", "PULUMI_BACKEND_URL": url, "AWS_SHARED_CREDENTIALS_FILE": credentials}
    session = boto3.Session(**_keys(credentials), region_name="us-east-1")
    bucket = session.resource("s3", endpoint_url=endpoint).Bucket("team-state")
    bucket.create()
    return yard, bucket


def test_a_run_goes_all_the_way_with_the_state_in_a_bucket_and_leaves_the_tracked_settings_alone(team):
    yard, bucket = team
    settings = (yard.root / "Pulumi.local.yaml").read_bytes()

    summary = yard.invoke(*yard.train("--name", "a", "--json", steps=2), timeout=380).expect().json()

    assert summary["success"] and summary["engine"] == "cli"
    assert yard.pods() == []
    stacks = [item.key for item in bucket.objects.filter(Prefix=".pulumi/stacks/") if item.key.endswith(".json")]
    assert stacks == [".pulumi/stacks/trainyard/local.json"], "the run's own stack is removed, the environment's stays"
    assert (yard.root / "Pulumi.local.yaml").read_bytes() == settings
    assert not yard.places.state.exists() or not list(yard.places.state.rglob("*.json"))


def _keys(path):
    with open(path) as file:
        found = dict(line.replace(" ", "").strip().split("=", 1) for line in file if "=" in line)
    return {name: found[name] for name in ("aws_access_key_id", "aws_secret_access_key")}
