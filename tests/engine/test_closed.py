"""The subset is closed: each field of the protocol, each option of the SDK and each key of Pulumi's own is served or refused by name."""

from __future__ import annotations

import inspect
import shutil
from collections.abc import Iterator
from typing import Any

import grpc
import pulumi
import pytest
from pulumi.runtime import resource, settings
from pulumi.runtime.proto import engine_pb2, provider_pb2, resource_pb2

from tests.engine.bench import Bench, new_bench
from tests.engine.cases import pod
from trainyard.engine import monitor, refusals
from trainyard.engine.program import _UNSUPPORTED
from trainyard.engine.project import SERVED_KEYS
from trainyard.engine.shim import is_terminated
from trainyard.errors import RefusedError

NEEDLESS = {
    "acceptResources", "acceptSecrets", "accepts_byte_string", "accept_output_values", "aliasSpecs", "supportsPartialValues",
    "supportsResultReporting",  # what the SDK understands: nothing it does not is sent
    "sourcePosition", "stackTrace", "parentStackTraceHandle",  # where it is written
}  # fmt: skip
SERVED = {
    "RegisterResourceRequest": {
        "type", "name", "parent", "custom", "object", "protect", "dependencies", "provider", "propertyDependencies", "deleteBeforeReplace",
        "version", "ignoreChanges", "additionalSecretOutputs", "aliasURNs", "customTimeouts", "deleteBeforeReplaceDefined", "providers",
        "replaceOnChanges", "pluginDownloadURL", "retainOnDelete", "aliases", "deletedWith", "replace_with", "hideDiffs",
    },
    "ReadResourceRequest": {
        "id", "type", "name", "parent", "properties", "dependencies", "provider", "version", "additionalSecretOutputs", "pluginDownloadURL",
    },
    "ResourceInvokeRequest": {"tok", "args", "provider", "version", "pluginDownloadURL", "parent", "dependsOn"},
    "RegisterResourceOutputsRequest": {"urn", "outputs"},
}  # fmt: skip
SERVED_OPTIONS = {
    "parent", "depends_on", "protect", "provider", "providers", "delete_before_replace", "ignore_changes", "version", "aliases",
    "additional_secret_outputs", "id", "custom_timeouts", "transformations", "urn", "replace_on_changes", "plugin_download_url",
    "retain_on_delete", "deleted_with", "replace_with", "hide_diffs",
}  # fmt: skip
SERVED_INVOKE_OPTIONS = {"parent", "provider", "version", "plugin_download_url", "depends_on"}
# Features that are not announced: the SDK refuses to use these (by name) ...
REFUSED_FEATURES = {
    "REPLACEMENT_TRIGGER", "TRANSFORMS", "INVOKE_TRANSFORMS", "PARAMETERIZATION", "RESOURCE_HOOKS", "ERROR_HOOKS", "SENDS_OPTIONS_TO_HOOKS",
    "STATE_MIGRATIONS",
}  # fmt: skip
# ... and does without these by itself.
SPARED_FEATURES = {"BYTE_STRING", "INVOKE_DEPENDS_ON", "INVOKE_PARENT", "INVOKE_OUTPUT_VALUES", "CALL_OUTPUT_VALUES"}
# What a plugin may be sent; the rest it must not rely on, since the Handshake did not offer it.
NOT_OFFERED = {
    "supports_views", "supports_refresh_before_update", "mapper_target", "loader_target", "resolver_target", "accepts_byte_string",
    "sends_old_outputs_to_check", "accepts_outputs_in_invoke", "accepts_outputs_in_call", "accepts_outputs_in_check", "root_directory",
    "program_directory", "old_views", "old_outputs", "autonaming", "resource_status_address", "resource_status_token",
}  # fmt: skip
SENT = {
    "ProviderHandshakeRequest": {"engine_address", "configure_with_urn", "invoke_with_preview"},
    "ConfigureRequest": {
        "variables", "args", "acceptSecrets", "acceptResources", "sends_old_inputs", "sends_old_inputs_to_delete", "id", "urn",
        "name", "type",
    },
    "CheckRequest": {"urn", "olds", "news", "randomSeed", "name", "type"},
    "DiffRequest": {"id", "urn", "olds", "news", "ignoreChanges", "old_inputs", "name", "type"},
    "CreateRequest": {"urn", "properties", "timeout", "preview", "name", "type"},
    "ReadRequest": {"id", "urn", "properties", "inputs", "name", "type", "timeout"},
    "UpdateRequest": {"id", "urn", "olds", "news", "timeout", "ignoreChanges", "preview", "old_inputs", "name", "type"},
    "DeleteRequest": {"id", "urn", "properties", "timeout", "old_inputs", "name", "type"},
    "InvokeRequest": {"tok", "args", "preview"},
}  # fmt: skip


@pytest.fixture
def bench() -> Iterator[Bench]:
    result = new_bench()
    yield result
    shutil.rmtree(result.root, ignore_errors=True)


@pytest.mark.parametrize("message", SERVED)
def test_each_field_of_a_program_s_request_is_served_or_refused(message: str) -> None:
    fields = set(getattr(resource_pb2, message).DESCRIPTOR.fields_by_name)
    assert fields - SERVED[message] - NEEDLESS - set(refusals.REFUSED_FIELDS) == set()
    assert not SERVED[message] & set(refusals.REFUSED_FIELDS)


def test_each_method_of_the_monitor_is_served_or_refused() -> None:
    for method in resource_pb2.DESCRIPTOR.services_by_name["ResourceMonitor"].methods:
        assert method.name in vars(monitor.Monitor), f"{method.name} would be answered with 'unimplemented'"


@pytest.mark.parametrize("message", SENT)
def test_each_field_that_a_plugin_may_be_sent_is_sent_or_not_offered(message: str) -> None:
    assert set(getattr(provider_pb2, message).DESCRIPTOR.fields_by_name) - SENT[message] - NOT_OFFERED == set()


def test_each_feature_of_the_monitor_is_announced_refused_or_spared() -> None:
    names = {value: name.removeprefix("RESOURCE_MONITOR_FEATURE_") for name, value in resource_pb2.ResourceMonitorFeature.items()}
    announced = {names[value] for value in monitor.FEATURES.values()}
    assert set(names.values()) - announced - REFUSED_FEATURES - SPARED_FEATURES == set()
    assert not announced & (REFUSED_FEATURES | SPARED_FEATURES)


def test_each_method_of_the_engine_is_served_or_refused() -> None:
    for method in engine_pb2.DESCRIPTOR.services_by_name["Engine"].methods:
        assert method.name in vars(monitor.EngineService)


def test_each_option_of_an_invoke_is_served() -> None:
    for options in (pulumi.InvokeOptions, pulumi.InvokeOutputOptions):
        assert set(inspect.signature(options.__init__).parameters) - {"self"} - SERVED_INVOKE_OPTIONS == set()


def test_each_option_of_a_resource_is_served_or_refused() -> None:
    options = set(inspect.signature(pulumi.ResourceOptions.__init__).parameters) - {"self"}
    assert options - SERVED_OPTIONS - set(refusals.REFUSED_OPTIONS) == set()
    assert not SERVED_OPTIONS & set(refusals.REFUSED_OPTIONS)


@pytest.mark.parametrize(
    ("field", "value"),
    [("importId", "x"), ("remote", True), ("packageRef", "r"), ("snippetId", "s"), ("pluginChecksums", {"linux": b"1"})],
)
def test_a_field_that_is_set_is_refused_and_an_empty_one_is_not(field: str, value: Any) -> None:
    asked = resource_pb2.RegisterResourceRequest(type="toy:index:Pod", name="a", **{field: value})
    with pytest.raises(RefusedError, match="not supported by the built-in engine"):
        refusals.check_request(asked)
    plain = resource_pb2.RegisterResourceRequest(type="toy:index:Pod", name="a")
    plain.hooks.SetInParent()
    plain.replacement_trigger.null_value = 0
    refusals.check_request(plain)


@pytest.mark.parametrize("key", ["pulumi:autonaming", "pulumi:anything"])
@pytest.mark.parametrize("where", ["stack", "project"])
def test_a_setting_of_pulumi_itself_is_served_or_refused_before_anything_exists(bench: Bench, key: str, where: str) -> None:
    assert key not in SERVED_KEYS
    if where == "stack":
        bench.settings(f"config:\n  {key}: {{mode: verbatim}}\n")
    else:
        path = bench.root / "Pulumi.yaml"
        path.write_text(path.read_text() + f"config:\n  {key}: {{value: {{mode: verbatim}}}}\n")
    ended = bench.engine("up", spec=[pod("a")])
    assert ended.code == 1 and f"'{key}': not supported by the built-in engine" in ended.errors(), ended.text
    assert bench.things() == []


def test_the_tags_that_pulumi_new_writes_are_no_obstacle(bench: Bench) -> None:
    path = bench.root / "Pulumi.yaml"
    path.write_text(path.read_text() + "config:\n  pulumi:tags: {value: {'pulumi:template': python}}\n")
    assert bench.engine("up", spec=[pod("a")]).code == 0


@pytest.mark.parametrize("key", ["analyzers", "languages"])
def test_a_plugin_of_another_kind_is_refused_by_name(bench: Bench, key: str) -> None:
    path = bench.root / "Pulumi.yaml"
    path.write_text(path.read_text() + f"plugins:\n  {key}: [{{name: x, path: ./plugin}}]\n")
    ended = bench.engine("up", spec=[pod("a")])
    assert ended.code == 1 and f"'plugins: {key}' is not supported" in ended.text and bench.things() == []


def test_the_sentences_of_the_sdk_that_are_told_apart_are_those_it_says() -> None:
    class Gone(grpc.RpcError):  # type: ignore[misc]
        def code(self) -> grpc.StatusCode:
            return grpc.StatusCode.UNAVAILABLE

    assert is_terminated(settings.grpc_error_to_exception(Gone()))
    assert not is_terminated(pulumi.RunError("the program's own"))
    said = inspect.getsource(resource)
    assert [match[1] for match in _UNSUPPORTED.finditer(said)][:2] == ["transforms", "state migrations"]
