"""What a row means: every field that would change what is learnt is served, or refused by name."""

from __future__ import annotations

import json
import os
from typing import Any

import pytest
from hypothesis import given, seed
from hypothesis import settings as trying
from hypothesis import strategies as st

from trainyard.recipes.forms import RowFlaw, understand

ASKED = {"instruction": "Add", "input": "1 and 2", "output": "3"}
USER, SAID = {"role": "user", "content": "hi"}, {"role": "assistant", "content": "hello"}
TALK = {"messages": [USER, SAID]}
CALL = {"id": "c1", "type": "function", "function": {"name": "weather", "arguments": '{"town": "Ulm"}'}}
TOOL = {"type": "function", "function": {"name": "weather", "parameters": {"type": "object"}}}


def turns(fields: dict[str, Any], ignored: list[str] | tuple[Any, ...] = ()) -> list[tuple[str, str, bool]]:
    row = understand(fields, ignored)
    return [(message["role"], message["content"], learnt) for message, learnt in zip(row.messages, row.learnt, strict=True)]


FORMS = [
    (ASKED, "instruction/input/output"),
    ({"instruction": "a", "output": "b"}, "instruction/input/output"),
    ({"instruction": "a", "input": None, "output": "b"}, "instruction/input/output"),
    ({**ASKED, "text": "all"}, "instruction/input/output"),
    ({"instruction": "a", "response": "b"}, "instruction/input/output"),
    (TALK, "messages"),
    ({"conversations": [{"from": "human", "value": "hi"}, {"from": "gpt", "value": "hello"}]}, "messages"),
    ({"prompt": "a", "completion": "b"}, "prompt/completion"),
    ({"prompt": [USER], "completion": [SAID]}, "prompt/completion"),
    ({"text": "a"}, "text"),
    ({"text": "a", "id": 7}, "text"),
]


@pytest.mark.parametrize(("fields", "form"), FORMS)
def test_the_form_of_a_row_is_found(fields: dict[str, Any], form: str) -> None:
    assert understand(fields).form == form


MEANT: dict[str, tuple[dict[str, Any], list[tuple[str, str, bool]]]] = {
    "an instruction with input": (ASKED, [("user", "Add\n\n1 and 2", False), ("assistant", "3", True)]),
    "a context is the input": (
        {"instruction": "When?", "context": "Built in 1931.", "response": "1931", "category": "qa"},
        [("user", "When?\n\nBuilt in 1931.", False), ("assistant", "1931", True)],
    ),
    "system and history become turns": (
        {"system": "Be kind.", "history": [["Who?", "Bo."]], "instruction": "Ship?", "output": "Rusty."},
        [
            ("system", "Be kind.", False),
            ("user", "Who?", False),
            ("assistant", "Bo.", True),
            ("user", "Ship?", False),
            ("assistant", "Rusty.", True),
        ],
    ),
    "history in a cell of CSV": (
        {"history": '[["Who?", "Bo."]]', "instruction": "Ship?", "output": "Rusty."},
        [("user", "Who?", False), ("assistant", "Bo.", True), ("user", "Ship?", False), ("assistant", "Rusty.", True)],
    ),
    "parts of text": (
        {"messages": [{"role": "user", "content": [{"type": "text", "text": "h"}, {"type": "text", "text": "i"}]}, SAID]},
        [("user", "hi", False), ("assistant", "hello", True)],
    ),
    "weight 0 of one answer": (
        {"messages": [USER, {**SAID, "content": "bad", "weight": 0}, USER, {**SAID, "weight": 1}]},
        [("user", "hi", False), ("assistant", "bad", False), ("user", "hi", False), ("assistant", "hello", True)],
    ),
    "train: false of one answer": (
        {"messages": [USER, {**SAID, "train": False}, USER, SAID]},
        [("user", "hi", False), ("assistant", "hello", False), ("user", "hi", False), ("assistant", "hello", True)],
    ),
    "loss: false of one answer": (
        {"messages": [USER, {**SAID, "loss": False}, USER, {**SAID, "loss_mask": 1}]},
        [("user", "hi", False), ("assistant", "hello", False), ("user", "hi", False), ("assistant", "hello", True)],
    ),
    "weight 0 of the row": ({**TALK, "weight": 0}, [("user", "hi", False), ("assistant", "hello", False)]),
    "answers in the prompt are no answers": (
        {"prompt": [USER, {**SAID, "content": "x"}, USER], "completion": [SAID]},
        [("user", "hi", False), ("assistant", "x", False), ("user", "hi", False), ("assistant", "hello", True)],
    ),
    "system beside messages": (
        {"system": "Be kind.", **TALK},
        [("system", "Be kind.", False), ("user", "hi", False), ("assistant", "hello", True)],
    ),
}


@pytest.mark.parametrize("case", MEANT)
def test_a_row_means_these_turns(case: str) -> None:
    fields, expected = MEANT[case]
    assert turns(fields) == expected


def test_a_weight_of_zero_leaves_plain_text_unlearnt_whatever_its_type() -> None:
    for weight in (0, 0.0, False, "0"):
        assert understand({"text": "a", "weight": weight}).learnt == (False,)
    assert understand({"text": "a", "weight": "1"}).learnt == (True,)


@pytest.mark.parametrize("content", [None, ""])
def test_a_call_of_a_tool_is_an_answer_and_its_arguments_an_object(content: str | None) -> None:
    row = understand({"messages": [USER, {"role": "assistant", "content": content, "tool_calls": [CALL]}], "tools": [TOOL]})
    [call] = row.messages[1]["tool_calls"]
    assert call["function"] == {"name": "weather", "arguments": {"town": "Ulm"}} and call["id"] == "c1"
    assert row.learnt == (False, True) and row.tools == [TOOL] and row.messages[1]["content"] == ""


def test_what_an_assistant_thinks_is_kept_for_the_template() -> None:
    row = understand({"messages": [USER, {**SAID, "reasoning_content": "hm"}]})
    assert row.messages[1]["reasoning_content"] == "hm" and row.unused == ()
    assert (
        "reasoning_content" not in understand({"messages": [USER, {**SAID, "reasoning_content": "hm"}]}, ["reasoning_content"]).messages[1]
    )


def test_every_column_that_is_not_used_is_named() -> None:
    fields = {**TALK, "id": 1, "source": "x", "empty": "", "messages": [{**USER, "name": "Bo"}, SAID]}
    assert understand(fields).unused == ("id", "messages[].name", "source")
    assert understand(fields, ["id", "source"]).unused == ("messages[].name",)
    assert understand({**TALK, "conversations": [{"from": "human", "value": "lost"}]}).unused == ("conversations",)
    assert understand({**TALK, "train": True, "loss": 0.25}).unused == ("loss",)


REFUSED = {
    "chosen": {"prompt": "a", "chosen": "b", "rejected": "c"},
    "rejected": {**TALK, "rejected": [SAID]},
    "label": {**TALK, "label": False},
    "kto_tag": {**TALK, "kto_tag": True},
    "images": {**TALK, "images": ["a.png"]},
    "functions": {**TALK, "functions": [{}]},
    "function_call": {"messages": [USER, {**SAID, "function_call": {"name": "f"}}]},
    "image_url": {"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {}}]}, SAID]},
    "documents": {**TALK, "documents": [{"text": "a"}]},
    "history": {**TALK, "history": [["a", "b"]]},
    "context": {"prompt": "a", "completion": "b", "context": "c"},
    "tools": {**ASKED, "tools": [TOOL]},
    "system": {"text": "a", "system": "b"},
    "reasoning_content": {**ASKED, "reasoning_content": "hm"},
    "weight": {"messages": [USER, {**SAID, "weight": 0.5}]},
    "'input' and 'context'": {**ASKED, "context": "c"},
    "'output' and 'response'": {**ASKED, "response": "c"},
    "arguments of weather": {
        "messages": [USER, {"role": "assistant", "tool_calls": [{"function": {"name": "weather", "arguments": "{town"}}]}]
    },
    "a message of role system": {"system": "a", "messages": [{"role": "system", "content": "b"}, USER, SAID]},
    "but 'completion' is not": {"prompt": [USER], "completion": "b"},
    "the assistant says nothing": {"messages": [USER, {"role": "assistant", "content": ""}]},
    "'tool_calls' must be a list": {"messages": [USER, {**SAID, "tool_calls": 5}]},
    "'history' must be a list, not a number": {**ASKED, "history": 5},
    "message 1: 'from' must be text": {"conversations": [{"from": ["human"], "value": "hi"}]},
    "'train' is 2": {"messages": [USER, {**SAID, "train": 2}]},
    "the call of a tool holds half of a surrogate pair": {
        "messages": [USER, {**SAID, "tool_calls": [{"name": "f", "arguments": {"x": "\ud800"}}]}]
    },
    "the call of a tool cannot be written as JSON": {
        "messages": [USER, {**SAID, "tool_calls": [{"name": "f", "arguments": {"x": float("nan")}}]}]
    },
    "'tools' holds half of a surrogate pair": {**TALK, "tools": [{"name": "f", "description": "\udfff"}]},
    "message 1 is a 'function_call'": {"conversations": [{"from": "function_call", "value": "{}"}]},
}


@pytest.mark.parametrize("what", REFUSED)
def test_a_field_that_would_change_what_is_learnt_is_refused_by_name(what: str) -> None:
    with pytest.raises(RowFlaw, match=what):
        understand(REFUSED[what])


def test_a_refused_column_can_be_left_out_by_name_and_a_class_is_no_preference() -> None:
    assert turns({**TALK, "label": True}, ["label"]) == turns(TALK)
    assert understand({"text": "a", "label": 3}).unused == ("label",)


NAMES = (
    "role", "content", "from", "value", "type", "text", "function", "name", "arguments", "tool_calls", "weight", "messages",
    "history", "id",
)  # fmt: skip
COLUMNS = (
    "messages", "conversations", "tools", "system", "weight", "prompt", "completion", "instruction", "input", "output", "history", "text",
)  # fmt: skip
WORDS = ["", " ", "user", "assistant", "tool", "\ud800", "[]", "{"]
VALUES = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(-1, 2), st.floats(), st.sampled_from(WORDS)),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(st.sampled_from(NAMES), inner, max_size=4)),
    max_leaves=8,
)
TURN = st.dictionaries(st.sampled_from([name for name in NAMES if name != "role"]), VALUES, max_size=3)


@seed(int(os.environ["TRAINYARD_TEST_SEED"]))
@trying(max_examples=120, deadline=None)
@given(st.dictionaries(st.sampled_from(COLUMNS), VALUES, max_size=5), st.lists(TURN, max_size=2))
def test_whatever_a_row_holds_it_is_understood_as_text_that_can_be_written_or_refused(fields: dict[str, Any], said: list[Any]) -> None:
    """TRAINYARD_TEST_SEED repeats it."""
    row = {**fields, "messages": [USER, *({"role": "assistant", **turn} for turn in said)]} if said else fields
    try:
        found = understand(row)
    except RowFlaw:
        return
    for text in found.texts:
        text.encode("utf-8")
    json.dumps([found.messages, found.tools], ensure_ascii=False, allow_nan=False).encode("utf-8")
