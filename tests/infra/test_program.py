"""What the program declares for each kind of stack."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from trainyard.provider.values import SIGNATURE

HERE = Path(__file__).parent
KINDS = ("Lease", "Pod", "Endpoint", "Command", "Bucket", "BucketLifecycle", "SshKey")
ENVIRONMENT_OUTPUTS = {
    "cloud", "fence_id", "bucket", "store", "endpoint", "region", "lifecycle", "ssh_public_key", "ssh_key_file", "ssh_private_key",
    "host_key_seed", "pods",
}  # fmt: skip
RUN_OUTPUTS = {
    "lease_id", "fence_id", "stop", "end", "pod_id", "pod_name", "price_per_hour", "gpu", "gpu_count", "pod_region", "created_at", "host",
    "port", "user", "workspace", "host_key", "simulated", "offer", "volume_path", "api_address", "login_command", "through",
}  # fmt: skip


def clear(value: Any) -> Any:
    """Return a value without its secret wrapping."""
    if not isinstance(value, dict):
        return value
    return clear(value["value"]) if SIGNATURE in value else {key: clear(item) for key, item in value.items()}


class Declared:
    """What one run of the program declared."""

    def __init__(self, stack: str, **config: str) -> None:
        command = [sys.executable, str(HERE / "declare.py"), stack, json.dumps(config)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        result = json.loads(done.stdout.splitlines()[-1])
        self.made: list[dict[str, Any]] = result["made"]
        self.exported = set(result.get("exported", ()))
        self.error = result.get("error")

    def of(self, kind: str) -> list[dict[str, Any]]:
        return [args for args in self.made if str(args["type"]).endswith(f":{kind}")]

    def kinds(self) -> set[str]:
        return {kind for kind in KINDS if self.of(kind)}


def test_an_environment_without_pods_rents_nothing_and_exports_what_runs_need() -> None:
    found = Declared("local")
    assert found.kinds() == {"SshKey", "Lease", "Bucket", "BucketLifecycle"}
    (fence,) = found.of("Lease")
    assert "hours" not in fence["inputs"]
    assert (fence["inputs"]["bucket"], fence["inputs"]["store"]) == ("b", "local")
    assert found.exported == ENVIRONMENT_OUTPUTS


def test_bucket_none_declares_no_bucket() -> None:
    assert Declared("local", bucket="none").kinds() == {"SshKey", "Lease"}


def test_each_declared_pod_has_a_lease_of_its_own_that_is_renewed_and_a_pinned_way_in() -> None:
    found = Declared("local", pods="2", hours="3")
    leases = sorted((args for args in found.of("Lease") if args["name"] != "fence"), key=lambda args: str(args["name"]))
    assert [(args["name"], *(args["inputs"][key] for key in ("hours", "renew", "fence_id"))) for args in leases] == [
        ("pod-0", 3, True, "f" * 10),
        ("pod-1", 3, True, "f" * 10),
    ]
    for pod in found.of("Pod"):
        assert [pod["inputs"][key] for key in ("lease_id", "stop", "end")] == ["1" * 10, "S", "E"]
    for command in found.of("Command"):
        connection = clear(command["inputs"]["connection"])
        assert [connection[key] for key in ("host", "port", "user", "hostKey", "privateKey")] == [
            "h", 22, "root", "ssh-ed25519 HOST", "PRIVATE",
        ]  # fmt: skip
        assert "delete" not in command["inputs"]
        assert "stdin" not in command["inputs"]
        assert "'/w s'" in str(command["inputs"]["create"])


def test_a_machine_that_was_told_nothing_gets_its_watchdog_at_the_first_contact_and_its_own_key_is_pinned() -> None:
    (command,) = Declared("prime", cloud="prime", pods="1", hours="3").of("Command")
    asked = command["inputs"]

    assert clear(asked["connection"])["hostKey"] == "ssh-ed25519 SHOWN"
    assert clear(asked["stdin"]) == "start"
    assert asked["create"].startswith("set -- '/w s'; ")
    assert asked["create"].count('sh -es -- "$1"') == 2, "root, or somebody who may become root"


def test_a_run_s_stack_is_lease_pod_endpoint_and_readiness(tmp_path: Path) -> None:
    key = tmp_path / "key"
    key.write_text("MINE")
    config = {
        "run": "alice/first", "hours": "2", "fence_id": "e" * 10, "ssh_public_key": "PUB", "ssh_key_file": str(key),
        "host_key_seed": "5a" * 32, "fence_bucket": "b", "fence_store": "local", "cloud": "local", "budget": "3",
    }  # fmt: skip
    found = Declared("local.alice.first.1", **config)
    assert found.kinds() == {"Lease", "Pod", "Endpoint", "Command"}
    assert found.exported == RUN_OUTPUTS
    (lease,), (pod,), (command,) = found.of("Lease"), found.of("Pod"), found.of("Command")
    assert [lease["inputs"][key] for key in ("fence_id", "hours", "budget", "renew")] == ["e" * 10, 2, 3, False]
    assert [pod["inputs"][key] for key in ("fence_id", "public_key", "bucket", "store")] == ["e" * 10, "PUB", "b", "local"]
    assert SIGNATURE in command["inputs"]["connection"], "the private key is a secret"
    assert clear(command["inputs"]["connection"])["privateKey"] == "MINE"


def test_pods_that_train_together_have_a_lease_each_and_their_part_of_the_budget(tmp_path: Path) -> None:
    key = tmp_path / "key"
    key.write_text("MINE")
    config = {
        "run": "alice/first", "hours": "2", "fence_id": "e" * 10, "ssh_public_key": "PUB", "ssh_key_file": str(key),
        "host_key_seed": "5a" * 32, "cloud": "local", "budget": "3", "nodes": "3",
    }  # fmt: skip
    found = Declared("local.alice.first.1", **config)
    assert found.exported == RUN_OUTPUTS | {"peers"}
    assert sorted((one["name"], one["inputs"]["budget"]) for one in found.of("Lease")) == [("pod", 1), ("pod-1", 1), ("pod-2", 1)]
    assert len(found.of("Pod")) == len(found.of("Endpoint")) == len(found.of("Command")) == 3


def test_a_run_without_ssh_has_no_way_in_and_its_secrets_are_secret(tmp_path: Path) -> None:
    key = tmp_path / "key"
    key.write_text("MINE")
    config = {
        "run": "alice/first", "hours": "2", "fence_id": "e" * 10, "ssh_public_key": "PUB", "ssh_key_file": str(key),
        "host_key_seed": "5a" * 32, "cloud": "local", "container_bundle": "0" * 64, "container_secrets": "URLS",
    }  # fmt: skip
    found = Declared("local.alice.first.1", **config)
    assert found.kinds() == {"Lease", "Pod"}
    assert found.exported.isdisjoint(("host", "port"))
    (pod,) = found.of("Pod")
    assert pod["inputs"]["container_bundle"] == "0" * 64
    assert SIGNATURE in pod["inputs"]["container_secrets"] and clear(pod["inputs"]["container_secrets"]) == "URLS"


def test_a_run_whose_key_file_is_gone_says_which() -> None:
    config = {
        "run": "a/b", "hours": "2", "fence_id": "e" * 10, "ssh_public_key": "PUB", "ssh_key_file": "/gone/key", "host_key_seed": "5a" * 32,
    }  # fmt: skip
    found = Declared("local.a.b.1", **config)
    assert "the private key /gone/key cannot be read" in found.error
    assert found.kinds() == set()


def test_a_dotted_stack_without_its_settings_is_an_error_that_names_the_file() -> None:
    found = Declared("local.alice.first.1", cloud="local")
    assert ".trainyard/runs/<user>/<label>/<attempt>/config.yaml" in found.error
    assert found.made == [] or found.kinds() == set()


def test_what_the_settings_hold_encrypted_is_a_secret_of_the_pod() -> None:
    (pod,) = Declared("runpod", pods="1", hours="1", registry="cr_1", pod_env='{"A": "x"}').of("Pod")

    assert SIGNATURE in pod["inputs"]["registry"] and clear(pod["inputs"]["registry"]) == "cr_1"
    assert pod["inputs"]["env"] == {"A": "x"}, "what nobody has encrypted is none"


def test_a_wrong_setting_creates_nothing() -> None:
    found = Declared("local", gpu_count="two")
    assert found.error == "Pulumi.local.yaml: trainyard:gpu_count must be a whole number, not 'two'"
    assert found.kinds() == set()


REFUSED = """
import sys; sys.path.insert(0, {tests!r})
import pulumi
from declare import main
from trainyard.provider.resources import Lease, LeaseArgs, Pod, PodArgs
POD = PodArgs(cloud="local", lease_id="1" * 10, fence_id="f" * 10, end="E", host_key_seed="5a" * 32, public_key="k")
def program():
    top = pulumi.ComponentResource("x:y:Z", "top", {{}}, pulumi.ResourceOptions({inherited}))
    middle = pulumi.ComponentResource("x:y:Z", "middle", {{}}, pulumi.ResourceOptions(parent=top))
    {declare}
main("dev", {{}}, program)
"""


@pytest.mark.parametrize("kind", ["Pod", "Lease"])
@pytest.mark.parametrize(
    ("own", "inherited", "option"),
    [("protect=True", "", "protect"), ("retain_on_delete=True", "", "retain_on_delete"), ("", "protect=True", "protect")],
)
def test_options_that_keep_a_pod_are_refused_own_or_inherited(kind: str, own: str, inherited: str, option: str) -> None:
    args = "POD" if kind == "Pod" else 'LeaseArgs(cloud="local")'
    declare = f'{kind}("p", {args}, pulumi.ResourceOptions(parent=middle, {own}))'
    script = REFUSED.format(tests=str(HERE), inherited=inherited, declare=declare)
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert f"{kind} 'p': {option} is refused (own or inherited)" in json.loads(done.stdout)["error"], done.stderr
