"""Values on the wire, shapes of resources, and that program, schema and provider mean the same."""

from __future__ import annotations

import dataclasses
import inspect
import json
import math

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from trainyard.provider import generate, model, resources
from trainyard.provider.handler import ResourceHandler, plain_difference, sealed_outputs
from trainyard.provider.lease import LEASE, LeaseInputs
from trainyard.provider.pod import POD
from trainyard.provider.registry import HANDLERS
from trainyard.provider.schema import schema
from trainyard.provider.sshkey import SSH_KEY
from trainyard.provider.values import SIGNATURE, UNKNOWN, SecretValue, Tree, from_wire, has_unknown, to_wire, unseal

texts = st.text().filter(lambda text: text != "04da6b54-80e4-46f7-96ec-b56ff0331ba9")
numbers = st.integers(-(2**53), 2**53) | st.floats(allow_nan=False, allow_infinity=False)
leaves = st.none() | st.booleans() | numbers | texts | st.just(UNKNOWN)
trees = st.recursive(
    leaves,
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.text(max_size=8).filter(lambda key: key != SIGNATURE), inner, max_size=4)
        | inner.map(SecretValue)
    ),
    max_leaves=12,
)


@settings(suppress_health_check=[HealthCheck.too_slow])
@given(st.dictionaries(st.text(max_size=8).filter(lambda key: key != SIGNATURE), trees, max_size=5))
def test_values_survive_the_wire(properties: dict[str, Tree]) -> None:
    assert from_wire(to_wire(properties)) == properties


def test_a_secret_is_on_the_wire_as_pulumi_writes_it() -> None:
    wire = to_wire({"key": SecretValue("x")}).fields["key"].struct_value.fields
    assert wire[SIGNATURE].string_value == "1b47061264138c4ac30d75fd1eb44270"
    assert wire["value"].string_value == "x"
    assert repr(SecretValue("x")) == "[secret]"


def test_whole_numbers_are_int_and_others_float() -> None:
    found = from_wire(to_wire({"a": 3.0, "b": 3.5}))
    assert isinstance(found["a"], int)
    assert math.isclose(found["b"], 3.5)  # type: ignore[arg-type]


def test_unknown_and_secret_are_found_at_any_depth() -> None:
    assert has_unknown([{"a": [SecretValue({"b": UNKNOWN})]}])
    assert not has_unknown([{"a": [SecretValue("x")]}])
    assert unseal({"a": [SecretValue({"b": SecretValue("x")})]}) == {"a": [{"b": "x"}]}


def test_assets_are_refused() -> None:
    asset = to_wire({"a": {"text": "x"}})
    asset.fields["a"].struct_value.fields[SIGNATURE].string_value = "c44067f5952c0a294b673a41bacd8c17"
    with pytest.raises(ValueError, match="assets"):
        from_wire(asset)


def test_the_classes_for_programs_are_those_that_the_handlers_declare() -> None:
    assert generate.TARGET.read_text(encoding="utf-8") == generate.text(), "run: python -m trainyard.provider.generate"


@pytest.mark.parametrize("handler", HANDLERS, ids=lambda handler: handler.token)
def test_the_program_s_classes_have_the_schema_s_inputs_and_outputs(handler: ResourceHandler) -> None:
    name = handler.token.rpartition(":")[2]
    arguments = {field.name: field for field in dataclasses.fields(getattr(resources, f"{name}Args"))}
    inputs = {item.name: item for item in model.properties(handler.inputs)}
    assert arguments.keys() == inputs.keys()
    for key, item in inputs.items():
        assert (arguments[key].default is dataclasses.MISSING) == item.required, key
    declared = set(inspect.get_annotations(getattr(resources, name)))
    assert declared == {item.name for item in model.properties(handler.outputs)}


def test_the_schema_is_one_that_other_languages_can_use() -> None:
    document = json.loads(schema())
    for token, resource in document["resources"].items():
        assert token.startswith("trainyard:index:")
        assert set(resource["requiredInputs"]) <= set(resource["inputProperties"])
        assert set(resource["required"]) <= set(resource["properties"])
        for item in [*resource["inputProperties"].values(), *resource["properties"].values()]:
            assert item["description"]
            assert item["type"] in ("string", "integer", "number", "boolean", "array", "object")


def test_a_default_that_was_not_written_is_no_change() -> None:
    assert not plain_difference(LEASE, {"cloud": "x"}, {"cloud": "x", "rescue_minutes": 30, "renew": False}).changes
    assert plain_difference(LEASE, {"cloud": "x"}, {"cloud": "x", "rescue_minutes": 31}).changes == {"rescue_minutes": "update"}


def test_a_secret_and_a_clear_value_that_are_equal_are_no_change() -> None:
    assert not plain_difference(LEASE, {"cloud": SecretValue("x")}, {"cloud": "x"}).changes


def test_another_seed_is_no_change_of_a_pod() -> None:
    assert not plain_difference(POD, {"host_key_seed": SecretValue("a")}, {"host_key_seed": SecretValue("b")}).changes


def test_secret_outputs_are_sealed_and_absent_ones_stay_absent() -> None:
    found = sealed_outputs(SSH_KEY, {"private_key": None, "host_key_seed": "x", "public_key": "y"})
    assert found == {"private_key": None, "host_key_seed": SecretValue("x"), "public_key": "y"}


def test_parse_refuses_what_is_not_known_yet() -> None:
    with pytest.raises(ValueError, match="not known yet: hours"):
        model.parse(LeaseInputs, {"cloud": "x", "hours": UNKNOWN})
