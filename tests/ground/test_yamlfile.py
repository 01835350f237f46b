"""YAML is read as people mean it, and every complaint names its place."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from trainyard.errors import UserError
from trainyard.yamlfile import Map, Seq, dump, load_map, parse, reject_unknown


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("1e-4", 1e-4),
        ("3e5", 3e5),
        (".5", 0.5),
        ("2.", 2.0),
        ("no", "no"),
        ("on", "on"),
        ("12:30", "12:30"),
        ("0644", "0644"),
        ("644", 644),
        ("0x10", 16),
        ("0o17", 15),
        ("2024-01-01", "2024-01-01"),
        ("true", True),
        ("~", None),
        ("1_000", "1_000"),
        ('"1e-4"', "1e-4"),
    ],
)
def test_a_plain_scalar_is_what_yaml_1_2_says(text: Any, expected: Any) -> None:
    node = parse(f"x: {text}\n", "f")

    assert isinstance(node, Map)
    value = node["x"]
    assert expected == value
    assert type(expected) is type(value)


def test_a_key_given_twice_is_refused_at_the_second_one() -> None:
    with pytest.raises(UserError) as caught:
        parse("a: 1\nb: 2\na: 3\n", "run.yaml")

    assert str(caught.value).startswith("run.yaml:3:1: key 'a' is given twice (first in line 1)")


def test_broken_syntax_names_file_line_and_column() -> None:
    with pytest.raises(UserError) as caught:
        parse("a: [1, 2\nb: 3\n", "run.yaml")

    assert caught.value.where is not None and caught.value.where.line == 2
    assert "run.yaml:2:" in str(caught.value)


def test_an_unknown_key_is_shown_with_the_nearest_known_one_under_a_caret() -> None:
    node = parse("name: x\nregsiter: y\n", "play.yml")
    assert isinstance(node, Map)

    with pytest.raises(UserError) as caught:
        reject_unknown(node, ["name", "register"], "keyword")

    assert str(caught.value) == "play.yml:2:1: unknown keyword 'regsiter' (did you mean 'register'?)\n  regsiter: y\n  ^"


def test_maps_and_lists_know_where_their_values_stand() -> None:
    node = parse("a:\n  - 1\n  - b: 2\n", "f")

    assert isinstance(node, Map) and isinstance(node["a"], Seq)
    second, first = node["a"].where(1), node.where("a", value=True)
    assert second is not None and (second.line, second.column) == (3, 5)
    assert first is not None and first.line == 2


def test_a_missing_file_is_a_user_error(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="there is no such file"):
        load_map(tmp_path / "none.yaml")


def test_an_empty_file_is_an_empty_mapping(tmp_path: Path) -> None:
    (tmp_path / "e.yaml").write_text("")

    assert load_map(tmp_path / "e.yaml") == {}


def test_a_list_at_the_top_is_refused_where_a_mapping_belongs(tmp_path: Path) -> None:
    (tmp_path / "e.yaml").write_text("- 1\n")

    with pytest.raises(UserError, match="key: value"):
        load_map(tmp_path / "e.yaml", name="e.yaml")


@pytest.mark.parametrize("text", ["1e5", "1234e567", "0o17", "no", "yes", "012", "12:30", "null", "~", "", ".inf", "1_000", "true"])
def test_a_text_that_looks_like_something_else_is_read_back_as_the_text(text: str) -> None:
    assert parse(dump({"a": text}), "x") == {"a": text}


@pytest.mark.parametrize(
    "value",
    [
        "!!binary aGk=",
        "!!timestamp 2026-01-01",
        "!!set {x}",
        "!!omap [x: 1]",
        "!!bool maybe",
        "!!map [1]",
        "!!seq {x: 1}",
        "!!seq 1",
        '"\\ud800"',
    ],
)
def test_a_tag_that_means_nothing_here_or_does_not_fit_is_refused_at_its_place(value: str) -> None:
    with pytest.raises(UserError) as caught:
        parse(f"a: {value}\n", "f.yaml")
    assert str(caught.value).startswith("f.yaml:1:4: ")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("a: 1\nb: 'x\nc: 2\n", "' in line 2, column 4, is not closed."),
        ('a: {b: "x}\nc: 2\nd: y"\n', "{ in line 1, column 4, is not closed."),
        ("a: [1,\nb: 2\n", "[ in line 1, column 4, is not closed."),
        ("a: b: c\n", "A value with ': ' in it needs quotes."),
        ("a: 1\n- 2\n", ""),
    ],
)
def test_what_is_not_closed_is_named_where_it_begins(text: str, said: str) -> None:
    with pytest.raises(UserError) as caught:
        parse(text, "f.yaml")
    assert (caught.value.hint or "") == said
