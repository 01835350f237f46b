"""A written value becomes what its declaration says, or an error that says what it must be."""

from __future__ import annotations

from typing import Any

import pytest

from trainyard.recipes.variables import Kind, Variable, convert, convert_text

TYPED = [
    ("float", "1e-4", 1e-4),
    ("float", "2", 2.0),
    ("float", ".5", 0.5),
    ("int", "8", 8),
    ("int", " 8 ", 8),
    ("int", "1e2", 100),
    ("bool", "true", True),
    ("bool", "no", False),
    ("bool", "1", True),
    ("text", "1e-4", "1e-4"),
    ("text", "a=b", "a=b"),
    ("list", "q_proj,k_proj", ["q_proj", "k_proj"]),
    ("list", "[a, 'b c']", ["a", "b c"]),
    ("list", "one", ["one"]),
    ("list", "[]", []),
    ("list", "[*.bin, model/*]", ["*.bin", "model/*"]),
    ("words", "--name 'two words' -x", ["--name", "two words", "-x"]),
    ("words", "", []),
]

REFUSED = [
    ("float", "abc"),
    ("float", "nan"),
    ("float", "inf"),
    ("float", "1_000"),
    ("float", ""),
    ("float", "0x10"),
    ("int", "1.5"),
    ("int", "eight"),
    ("int", "1e-4"),
    ("int", "true"),
    ("bool", "maybe"),
    ("bool", "2"),
    ("text", " "),
    ("words", "'open"),
]


@pytest.mark.parametrize(("kind", "text", "value"), TYPED)
def test_a_text_of_the_command_line_is_typed_by_the_declaration(kind: Kind, text: str, value: bool | float | list[str] | str) -> None:
    found = convert_text(Variable("x", kind), text)
    assert found == value and type(found) is type(value)


@pytest.mark.parametrize(("kind", "text"), REFUSED)
def test_a_text_that_is_no_such_value_is_refused(kind: Kind, text: str) -> None:
    with pytest.raises(ValueError, match=r"must|cannot"):
        convert_text(Variable("x", kind), text)


@pytest.mark.parametrize(
    ("kind", "node"),
    [
        ("int", "8"),
        ("float", "1e-4"),
        ("bool", "true"),
        ("bool", 1),
        ("int", True),
        ("float", True),
        ("text", ["a"]),
        ("list", {}),
        ("int", None),
    ],
)
def test_a_value_of_a_file_keeps_its_type_and_is_not_guessed(kind: Kind, node: Any) -> None:
    with pytest.raises(ValueError, match="must be"):
        convert(Variable("x", kind), node)


def test_whole_numbers_serve_as_numbers_and_round_floats_as_whole_numbers() -> None:
    assert convert(Variable("x", "float"), 2) == 2.0
    assert convert(Variable("x", "int"), 2.0) == 2


@pytest.mark.parametrize(
    ("bounds", "value", "text"),
    [
        ({"minimum": 1}, 0, "at least 1"),
        ({"maximum": 5}, 6, "at most 5"),
        ({"above": 0}, 0, "more than 0"),
        ({"choices": (1, 2)}, 3, "one of 1, 2"),
    ],
)
def test_a_value_out_of_range_is_refused_with_the_bound(bounds: dict[str, Any], value: int, text: str) -> None:
    with pytest.raises(ValueError, match=text):
        convert(Variable("x", "int", **bounds), value)
    assert convert(Variable("x", "int", **bounds), 2) == 2


def test_none_is_a_value_of_optional_variables_only() -> None:
    assert convert_text(Variable("x", "int", optional=True), "none") is None
    assert convert(Variable("x", "int", optional=True), None) is None
    with pytest.raises(ValueError, match="whole number"):
        convert_text(Variable("x", "int"), "none")
