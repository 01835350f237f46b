"""Property values travel as Pulumi writes them, for the engine and for our provider alike."""

from __future__ import annotations

from typing import Any

import pytest
from google.protobuf.struct_pb2 import Struct

from trainyard.engine.codec import has_unknown, plain, read_struct, write_struct
from trainyard.engine.kinds import REFERENCE, SIGNATURE, UNKNOWN, UNKNOWN_TEXT, UNKNOWN_TEXTS, SecretValue


def keep(fields: dict[str, Any]) -> Any:
    """Take every signed dict for a secret."""
    return SecretValue(fields["value"])


@pytest.mark.parametrize("text", sorted(UNKNOWN_TEXTS))
def test_a_value_that_is_not_known_yet_is_known_as_that_whatever_its_kind(text: str) -> None:
    struct = Struct()
    struct.fields["x"].string_value = text

    assert read_struct(struct, keep) == {"x": UNKNOWN}
    assert write_struct({"x": UNKNOWN}).fields["x"].string_value == UNKNOWN_TEXT


def test_what_is_written_is_read_back() -> None:
    values: dict[str, Any] = {"a": None, "b": True, "c": 3, "d": 0.5, "e": "x", "f": [1, {"g": SecretValue([UNKNOWN])}], "h": {}, "i": []}

    read = read_struct(write_struct(values), keep)

    assert read == values and isinstance(read["c"], int)
    assert has_unknown(read) and plain(read["f"]) == [1, {"g": [UNKNOWN]}]


def test_who_takes_no_secrets_and_no_references_gets_the_value_and_the_id() -> None:
    given = {"s": SecretValue("x"), "r": {SIGNATURE: REFERENCE, "urn": "urn:1", "id": "i"}}

    struct = write_struct(given, secrets=False, references=False)

    assert (struct.fields["s"].string_value, struct.fields["r"].string_value) == ("x", "i")
