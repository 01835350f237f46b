"""Settings are typed: a wrong one is an error that says key and file, and nothing is created."""

from __future__ import annotations

import json

import pulumi
import pytest
from pulumi.runtime import set_all_config

from trainyard.program import settings
from trainyard.settings.table import StackSettings

pytestmark = pytest.mark.usefixtures("loop")

RUN = {
    "run": "alice/first", "hours": "2", "fence_id": "f" * 10, "ssh_public_key": "ssh-ed25519 AAAA", "ssh_key_file": "/k",
    "host_key_seed": "5a" * 32, "fence_bucket": "b", "fence_store": "local",
}  # fmt: skip


def environment(stack: str, **config: str) -> StackSettings:
    set_all_config({f"trainyard:{key}": value for key, value in config.items()})
    return settings.environment_settings(stack)


def run(stack: str, **config: str) -> settings.RunSettings:
    set_all_config({f"trainyard:{key}": value for key, value in config.items()}, ["trainyard:host_key_seed"])
    return settings.run_settings(stack)


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("gpu_count", "two", "must be a whole number, not 'two'"),
        ("gpu_count", "1.5", "must be a whole number"),
        ("gpu_count", "0", "must be at least 1"),
        ("hours", "nan", "must be a number, not 'nan'"),
        ("hours", "-1", "must be more than 0"),
        ("spot", "yes", "must be true or false, not 'yes'"),
        ("max_price", "[1]", "must be a number"),
        ("gpu", '["A", ["B"]]', "must be a text or a list of texts"),
        ("gpu", "[A", "must be a text or a list of texts, not '[A'"),
        ("lifecycle", '["tmp"]', "must be a list of 'name: value' blocks"),
        ("pod_env", '["a"]', "must be a map of names and values"),
        ("store", "gcs", "must be one of local, runpod, aws, r2, s3, not 'gcs'"),
        ("engine", "terraform", "must be one of auto, cli, builtin"),
        ("upload_consent", "maybe", "must be one of ask, always, never"),
        ("gpus", "A", "is not known (did you mean 'gpu'?)"),
    ],
)
def test_a_wrong_setting_names_key_and_file(key: str, value: str, message: str) -> None:
    with pytest.raises(pulumi.RunError) as caught:
        environment("runpod", **{key: value})
    assert str(caught.value).startswith(f"Pulumi.runpod.yaml: trainyard:{key} ")
    assert message in str(caught.value)


def test_other_namespaces_are_not_ours_to_judge() -> None:
    set_all_config({"aws:region": "x", "trainyard:cloud": "local"})
    assert settings.environment_settings("local").cloud == "local"


def test_defaults_of_an_environment() -> None:
    found = environment("local")
    assert (found.cloud, found.pods, found.store, found.bucket) == ("local", 0, "local", None)
    assert environment("big", cloud="runpod").store is None


def test_values_arrive_typed() -> None:
    found = environment(
        "runpod", gpu=json.dumps(["A", "B"]), gpu_count="2", spot="true", max_price="3.5", hours="1.5", pods="2",
        regions="EU", pod_env=json.dumps({"A": "x", "B": 1}), lifecycle=json.dumps([{"prefix": "tmp/", "expire_days": 3}]),
    )  # fmt: skip
    assert (found.gpu, found.gpu_count, found.spot, found.max_price, found.hours) == (("A", "B"), 2, True, 3.5, 1.5)
    assert (found.regions, found.pod_env) == (("EU",), {"A": "x", "B": "1"})
    assert found.lifecycle == ({"prefix": "tmp/", "expire_days": 3},)


def test_declared_pods_need_hours() -> None:
    with pytest.raises(pulumi.RunError, match=r"Pulumi\.local\.yaml: trainyard:hours is missing: a declared pod"):
        environment("local", pods="1")


def test_image_and_template_exclude_each_other() -> None:
    with pytest.raises(pulumi.RunError, match="trainyard:template and 'image' are given both"):
        environment("runpod", image="a", template="b")


def test_a_run_s_settings() -> None:
    found = run("local.alice.first.1", **RUN)
    assert (found.keys.run, found.keys.fence_id, found.keys.fence_bucket, found.pod.cloud) == ("alice/first", "f" * 10, "b", "local")


@pytest.mark.parametrize("key", ["hours", "fence_id", "ssh_public_key", "ssh_key_file", "host_key_seed"])
def test_a_run_without_what_its_environment_gives_is_an_error(key: str) -> None:
    config = {name: value for name, value in RUN.items() if name != key}
    with pytest.raises(pulumi.RunError, match=f"settings of run stack 'local.alice.first.1': trainyard:{key} is missing"):
        run("local.alice.first.1", **config)
