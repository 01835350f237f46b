"""A value is what its shape says or refused in one sentence, whoever reads it; a mapping keeps no key that nobody knows."""

from __future__ import annotations

import pytest

from trainyard.errors import UserError
from trainyard.fields import Fields
from trainyard.reading import Kind, Shape, is_of, read
from trainyard.yamlfile import parse_map


@pytest.mark.parametrize(
    ("kind", "value", "typed"),
    [
        ("text", 12, "12"),
        ("number", "1e-4", 1e-4),
        ("whole", "3.0", 3),
        ("flag", "true", True),
        ("texts", "a", ("a",)),
        ("texts", "[1, 2]", ("1", "2")),
        ("list", [1], [1]),
        ("map", {"a": 1}, {"a": 1}),
    ],
)
def test_texts_that_others_make_of_yaml_are_read_too(kind: Kind, value: object, typed: object) -> None:
    assert read(Shape(kind=kind), value, "x") == typed


@pytest.mark.parametrize(
    ("shape", "value", "said"),
    [
        (Shape(kind="text"), "", "x must be a text, not ''"),
        (Shape(kind="text"), True, "x must be a text, not true"),
        (Shape(kind="number"), "nan", "x must be a number, not 'nan'"),
        (Shape(kind="whole"), 1.5, "x must be a whole number, not 1.5"),
        (Shape(kind="flag"), "yes", "x must be true or false, not 'yes'"),
        (Shape(kind="list"), None, "x must be a list, not empty"),
        (Shape(kind="text", choices=("tiny", "big")), "bigg", "x must be one of tiny, big, not 'bigg' (did you mean 'big'?)"),
        (Shape(kind="number", above=0), 0, "x must be more than 0, not 0"),
        (Shape(kind="text", pattern="[a-z]+", looks_like="a word"), "A1", "x must look like a word, not 'A1'"),
    ],
)
def test_what_the_shape_does_not_allow_is_refused_in_a_sentence(shape: Shape, value: object, said: str) -> None:
    with pytest.raises(UserError) as caught:
        read(shape, value, "x")

    assert caught.value.message == said


@pytest.mark.parametrize(
    ("kind", "fits", "others"),
    [
        ("number", [1, 1.5, -2], [True, "1", float("nan"), float("inf"), 10**400]),
        ("whole", [1, 2.0], [True, 1.5, "1", 10**400]),
        ("flag", [True], [1, "true"]),
        ("text", ["", "1"], [1, None]),
    ],
)
def test_a_plain_kind_takes_nothing_but_what_stands_there(kind: Kind, fits: list[object], others: list[object]) -> None:
    assert [value for value in (*fits, *others) if is_of(kind, value)] == fits


def test_a_key_that_nobody_asked_for_is_refused_where_it_stands() -> None:
    fields = Fields(parse_map("kind: model\npatern: x\n", "r.yaml"), "outputs")
    fields.text("kind")
    fields.text("pattern", "")

    with pytest.raises(UserError) as caught:
        fields.done()
    assert str(caught.value).startswith("r.yaml:2:1: outputs: unknown key 'patern' (did you mean 'pattern'?)")


def test_a_mapping_that_is_in_no_file_is_read_by_the_same_rules() -> None:
    with pytest.raises(UserError, match="rule 1: days must be at least 1, not 0") as caught:
        Fields({"days": 0}, "rule 1").shaped("days", Shape(kind="whole", least=1))
    assert caught.value.where is None
