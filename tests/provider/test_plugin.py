"""The plugin as a process: what it tells an engine, and how it ends."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest
from google.protobuf.empty_pb2 import Empty
from pulumi.runtime.proto import provider_pb2

from tests.leases.bench import KEY
from tests.leases.model_cloud import ModelCloud
from tests.provider.conftest import SEED
from tests.provider.plugin import ROOT, Plugin, init_failed, model_plugin, real_plugin, urn
from trainyard import __version__
from trainyard.provider.values import UNKNOWN, Properties, SecretValue, from_wire, to_wire
from trainyard.settings.table import RUN_SETTINGS, SETTINGS


def lease_and_pod(plugin: object, cloud: str = "model") -> tuple[str, Properties, Properties, Properties]:
    """Make a lease, check a pod under it; return (lease id, lease outputs, lease inputs, pod inputs)."""
    inputs = plugin.check(urn("Lease", "pod"), {"cloud": cloud, "hours": 1, "fence_id": "f" * 10})  # type: ignore[attr-defined]
    lease_id, outputs = plugin.create(urn("Lease", "pod"), inputs)  # type: ignore[attr-defined]
    pod = {
        "cloud": cloud, "lease_id": lease_id, "fence_id": "f" * 10, "stop": outputs["stop"], "end": outputs["end"],
        "host_key_seed": SEED, "public_key": KEY,
    }  # fmt: skip
    return lease_id, outputs, inputs, plugin.check(urn("Pod", "pod"), pod)  # type: ignore[attr-defined]


def wait_for(path: Path) -> None:
    deadline = time.monotonic() + 100
    while not path.exists():
        assert time.monotonic() < deadline, f"{path} never came"
        time.sleep(0.005)


@pytest.fixture(scope="module")
def idle(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Plugin]:
    """One plugin for the tests that leave nothing behind."""
    with real_plugin(tmp_path_factory.mktemp("idle")) as plugin:
        yield plugin


# What it says


def test_handshake_announces_secrets_and_that_pending_creates_can_be_asked_for(idle: Plugin) -> None:
    answer, call = idle.stub.Handshake.with_call(provider_pb2.ProviderHandshakeRequest(engine_address=""))
    assert answer.accept_secrets
    assert ("adopts-pending", "1") in [(key, value) for key, value in call.trailing_metadata()]
    assert idle.stub.GetPluginInfo(Empty()).version == __version__


def test_settings_of_the_namespace_never_reach_state_and_never_replace_the_provider(idle: Plugin) -> None:
    settings: Properties = {"version": "0.1.0", **dict.fromkeys([*SETTINGS, *RUN_SETTINGS], "1")}
    kept = idle.stub.CheckConfig(provider_pb2.CheckRequest(news=to_wire(settings)))
    assert from_wire(kept.inputs) == {"version": "0.1.0"}
    for key in settings:
        old, news = to_wire(settings), to_wire({**settings, key: "changed"})
        answer = idle.stub.DiffConfig(provider_pb2.DiffRequest(olds=old, old_inputs=old, news=news))
        assert answer.changes == provider_pb2.DiffResponse.DIFF_NONE
        assert not answer.replaces
    assert idle.stub.Configure(provider_pb2.ConfigureRequest(args=to_wire(settings))).supportsPreview


def test_the_schema_names_every_type_and_requires_a_lease_of_a_pod(idle: Plugin) -> None:
    schema = json.loads(idle.stub.GetSchema(provider_pb2.GetSchemaRequest()).schema)
    assert {key.rpartition(":")[2] for key in schema["resources"]} == {"Lease", "Pod", "Endpoint", "Bucket", "BucketLifecycle", "SshKey"}
    pod = schema["resources"]["trainyard:index:Pod"]
    assert {"lease_id", "fence_id", "end"} <= set(pod["requiredInputs"])
    assert pod["inputProperties"]["host_key_seed"]["secret"]
    assert schema["resources"]["trainyard:index:SshKey"]["properties"]["private_key"]["secret"]


def test_the_sdk_and_the_clients_of_stores_are_not_loaded_at_start() -> None:
    script = (
        "import sys; from trainyard.engine import stubs; stubs.protocol_only(); import trainyard.provider.process\n"
        "print([name for name in ('pulumi.resource', 'botocore', 'httpx', 'cryptography', 'paramiko', 'yaml') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_wrong_inputs_come_back_as_check_failures_with_their_property(idle: Plugin) -> None:
    answer = idle.stub.Check(provider_pb2.CheckRequest(urn=urn("Lease", "x"), news=to_wire({"cloud": "local", "hours": "two"})))
    assert [(item.property, item.reason) for item in answer.failures] == [("hours", "'hours' must be a number")]


def test_an_unknown_type_is_an_error_with_the_nearest_one(idle: Plugin) -> None:
    with pytest.raises(grpc.RpcError, match="did you mean 'trainyard:index:Pod'"):
        idle.check(urn("Pods", "x"), {})


def test_preview_creates_nothing_and_answers_unknown_outputs(tmp_path: Path) -> None:
    with model_plugin(tmp_path) as plugin:
        id, outputs = plugin.create(urn("Lease", "x"), {"cloud": "model"}, preview=True)
        assert id == ""
        assert outputs["lease_id"] is UNKNOWN
    assert not (tmp_path / "home").exists()


def test_secrets_leave_the_plugin_sealed(idle: Plugin) -> None:
    _, outputs = idle.create(urn("SshKey", "key"), {})
    assert isinstance(outputs["private_key"], SecretValue)
    assert isinstance(outputs["host_key_seed"], SecretValue)
    assert isinstance(outputs["public_key"], str)


def test_settings_and_keys_are_read_when_a_call_comes_not_at_the_start(tmp_path: Path) -> None:
    (tmp_path / "Pulumi.yaml").write_text("name: trainyard\n")
    with real_plugin(tmp_path, TRAINYARD_PROJECT_DIR=str(tmp_path)) as plugin:
        plugin.check(urn("Lease", "x"), {"cloud": "local"})
        (tmp_path / ".env").write_text("PULUMI_SKIP_CHECKPOINTS=true\n")
        with pytest.raises(grpc.RpcError, match="PULUMI_SKIP_CHECKPOINTS"):
            plugin.check(urn("Lease", "x"), {"cloud": "local"})
        (tmp_path / ".env").write_text("not a line\n")
        with pytest.raises(grpc.RpcError, match=re.escape(".env:1")):
            plugin.check(urn("Lease", "x"), {"cloud": "local"})


def test_messages_reach_the_engine(tmp_path: Path) -> None:
    with model_plugin(tmp_path) as plugin:
        lease_id, outputs, inputs, pod = lease_and_pod(plugin)
        plugin.create(urn("Pod", "pod"), pod)
        plugin.delete(urn("Lease", "pod"), lease_id, outputs, inputs)
        assert f"ended 1 pod of lease {lease_id}" in plugin.engine.messages


def test_a_partial_failure_carries_id_properties_and_inputs(tmp_path: Path) -> None:
    with model_plugin(tmp_path) as plugin:
        *_, pod = lease_and_pod(plugin)
        cloud = ModelCloud(tmp_path / "cloud")
        cloud.set_faults(create=["accepted-error"])
        with pytest.raises(grpc.RpcError) as caught:
            plugin.create(urn("Pod", "pod"), pod)
        detail = init_failed(caught.value)
        assert detail is not None
        assert [detail.id] == cloud.alive()
        assert from_wire(detail.properties)["pod_id"] == detail.id
        assert from_wire(detail.inputs) == pod


def test_a_read_that_cannot_tell_keeps_the_resource_with_all_it_had(tmp_path: Path) -> None:
    with model_plugin(tmp_path) as plugin:
        *_, pod = lease_and_pod(plugin)
        id, outputs = plugin.create(urn("Pod", "pod"), pod)
        cloud = ModelCloud(tmp_path / "cloud")
        cloud.set_faults(get=["503"])
        with pytest.raises(grpc.RpcError) as caught:
            plugin.read(urn("Pod", "pod"), id, outputs, pod)
        detail = init_failed(caught.value)
        assert detail is not None
        assert (detail.id, from_wire(detail.properties), from_wire(detail.inputs)) == (id, outputs, pod)
        cloud.terminate(id)
        assert plugin.read(urn("Pod", "pod"), id, outputs, pod).id == ""


def test_an_import_is_refused_in_words(idle: Plugin) -> None:
    with pytest.raises(grpc.RpcError, match="'p1' cannot be imported"):
        idle.read(urn("Pod", "pod"), "p1", {}, {})


# How it ends


@pytest.mark.parametrize("how", ["SIGINT", "SIGTERM", "Cancel", "stdin"])
def test_an_idle_plugin_exits_at_once(tmp_path: Path, how: str) -> None:
    with real_plugin(tmp_path) as plugin:
        plugin.check(urn("Lease", "x"), {"cloud": "local"})
        began = time.monotonic()
        if how == "Cancel":
            plugin.stub.Cancel(Empty(), timeout=60)
        elif how == "stdin":
            plugin.hang_up()
        else:
            plugin.process.send_signal(getattr(signal, how))
        assert plugin.process.wait(timeout=100) == 0
        assert time.monotonic() - began < 10


def test_a_plugin_that_is_stopped_while_it_loads_says_nothing() -> None:
    program = """
import os, signal, sys
from trainyard.provider import main
class Stops:
    def find_spec(name, *_):
        if name == "trainyard.provider.process": os.kill(os.getpid(), signal.SIGINT)
sys.meta_path.insert(0, Stops)
main.main(["127.0.0.1:1"])
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False, timeout=60)

    assert (done.returncode, done.stdout, done.stderr) == (-signal.SIGINT, "", "")


def test_a_plugin_that_waits_gives_the_wait_up_on_sigint_and_answers_before_it_exits(tmp_path: Path) -> None:
    with model_plugin(tmp_path) as plugin:
        *_, pod = lease_and_pod(plugin)
        id, _ = plugin.create(urn("Pod", "pod"), pod)
        result = plugin.in_background(urn("Endpoint", "pod"), {"cloud": "model", "pod_id": id})
        time.sleep(0.2)
        plugin.process.send_signal(signal.SIGINT)
        assert plugin.process.wait(timeout=100) == 0
        assert isinstance(result[0], grpc.RpcError)
        assert "cancelled while waiting" in str(result[0])
        assert ModelCloud(tmp_path / "cloud").alive() == [id]


@pytest.mark.parametrize("point", ["before-accept", "after-accept"])
def test_when_its_engine_dies_it_finishes_the_request_writes_the_outcome_exits_and_deletes_nothing(tmp_path: Path, point: str) -> None:
    cloud = ModelCloud(tmp_path / "cloud")
    with model_plugin(tmp_path) as plugin:
        lease_id, outputs, inputs, pod = lease_and_pod(plugin)
        cloud.set_faults(hang=point)
        plugin.in_background(urn("Pod", "pod"), pod)
        wait_for(tmp_path / "cloud" / f"at-{point}")
        plugin.hang_up()
        time.sleep(0.1)
        assert plugin.process.poll() is None, "it left its request alone"
        (tmp_path / "cloud" / "go").touch()
        assert plugin.process.wait(timeout=100) == 0
    (intent,) = (tmp_path / "home" / "intents" / lease_id).iterdir()
    assert json.loads(intent.read_text().splitlines()[-1])["id"] == cloud.alive()[0]
    assert cloud.calls("terminate") == 0
    with model_plugin(tmp_path) as successor:
        assert successor.create(urn("Pod", "pod"), pod)[0] == cloud.alive()[0]
        assert cloud.calls("create") == 1
        successor.delete(urn("Lease", "pod"), lease_id, outputs, inputs)
    assert cloud.alive() == []


@pytest.mark.parametrize("next_step", ["delete the lease", "create again"])
@pytest.mark.parametrize("point", ["before-accept", "after-accept"])
def test_sigkill_inside_create_leaves_nothing_that_the_next_step_does_not_settle(tmp_path: Path, point: str, next_step: str) -> None:
    cloud = ModelCloud(tmp_path / "cloud")
    with model_plugin(tmp_path) as plugin:
        lease_id, outputs, inputs, pod = lease_and_pod(plugin)
        cloud.set_faults(hang=point)
        plugin.in_background(urn("Pod", "pod"), pod)
        wait_for(tmp_path / "cloud" / f"at-{point}")
        plugin.kill()
    cloud.set_faults()
    with model_plugin(tmp_path) as successor:
        if next_step == "create again":
            id, _ = successor.create(urn("Pod", "pod"), pod)
            assert cloud.alive() == [id], "one pod, not two"
        successor.delete(urn("Lease", "pod"), lease_id, outputs, inputs)
    assert cloud.alive() == []


def test_a_pod_that_the_cloud_makes_after_the_plugin_was_killed_is_ended_too(tmp_path: Path) -> None:
    cloud = ModelCloud(tmp_path / "cloud")
    with model_plugin(tmp_path) as plugin:
        lease_id, outputs, inputs, pod = lease_and_pod(plugin)
        cloud.set_faults(hang="before-accept")
        plugin.in_background(urn("Pod", "pod"), pod)
        wait_for(tmp_path / "cloud" / "at-before-accept")
        asked = time.time()
        plugin.kill()
    cloud.set_faults()
    # The request had left: the cloud accepts it a moment later and lists it later still.
    cloud.add(str(pod["name"]), "f" * 10, lease_id, visible=asked + 1.0)
    with model_plugin(tmp_path) as successor:
        successor.delete(urn("Lease", "pod"), lease_id, outputs, inputs)
    assert cloud.alive() == []
    assert time.time() >= asked + 1.0


def test_two_plugins_at_once_rent_one_pod(tmp_path: Path) -> None:
    cloud = ModelCloud(tmp_path / "cloud")
    with model_plugin(tmp_path) as first, model_plugin(tmp_path) as second:
        *_, pod = lease_and_pod(first)
        cloud.set_faults(hang="before-accept")
        one = first.in_background(urn("Pod", "pod"), pod)
        wait_for(tmp_path / "cloud" / "at-before-accept")
        two = second.in_background(urn("Pod", "pod"), pod)
        time.sleep(0.2)
        (tmp_path / "cloud" / "go").touch()
        deadline = time.monotonic() + 100
        while not (one and two):
            assert time.monotonic() < deadline
            time.sleep(0.01)
    assert one[0][0] == two[0][0] == cloud.alive()[0]  # type: ignore[index]
    assert len(cloud.alive()) == 1


def test_the_launcher_says_what_to_do_where_no_python_has_trainyard(tmp_path: Path) -> None:
    folder = tmp_path / "infra" / "provider"
    folder.mkdir(parents=True)
    launcher = folder / "pulumi-resource-trainyard"
    launcher.write_bytes((ROOT / "infra" / "provider" / "pulumi-resource-trainyard").read_bytes())
    launcher.chmod(0o755)
    done = subprocess.run([str(launcher), "127.0.0.1:1"], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "pipx install trainyard" in done.stderr
