"""Rows of preferences: a prompt with a good and a bad answer, in the forms that people have."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.recipes.conftest import ROOT
from trainyard.errors import UserError
from trainyard.recipes.contract import load_recipe
from trainyard.recipes.data import inspect
from trainyard.recipes.forms import understand
from trainyard.recipes.preferences import understand_pair
from trainyard.recipes.values import resolve

LORA = load_recipe(ROOT, "lora")
ASKED = {"role": "user", "content": "Up?"}
GOOD, BAD = ({"role": "assistant", "content": text} for text in ("Yes.", "No."))


@pytest.mark.parametrize(
    "fields",
    [
        {"prompt": [ASKED], "chosen": [GOOD], "rejected": [BAD]},
        {"prompt": "Up?", "chosen": [GOOD], "rejected": [BAD]},
        {"prompt": "Up?", "chosen": [ASKED, GOOD], "rejected": [ASKED, BAD]},
        {"chosen": [ASKED, GOOD], "rejected": [ASKED, BAD]},
        {"messages": [ASKED], "chosen": "Yes.", "rejected": "No."},
        {"instruction": "Up?", "input": "", "chosen": "Yes.", "rejected": "No."},
        {
            "conversations": [{"from": "human", "value": "Up?"}],
            "chosen": {"from": "gpt", "value": "Yes."},
            "rejected": {"from": "gpt", "value": "No."},
        },
    ],
)
def test_each_form_of_a_pair_is_one_prompt_with_two_answers(fields: dict[str, Any]) -> None:
    pair = understand_pair(fields, understand)
    assert [row.messages for row in (pair.chosen, pair.rejected)] == [(ASKED, GOOD), (ASKED, BAD)]
    assert [row.learnt for row in (pair.chosen, pair.rejected)] == [(False, True)] * 2


def test_a_pair_of_texts_stays_text() -> None:
    pair = understand_pair({"prompt": "a ", "chosen": "b", "rejected": "c", "score": 3}, understand)
    assert (pair.chosen.prompt, pair.chosen.answer, pair.rejected.answer) == ("a ", "b", "c")
    assert (pair.unused, pair.form, pair.texts) == (("score",), "prompt/chosen/rejected", ("a ", "b", "a ", "c"))


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"prompt": "a", "completion": "b"}, "has no 'chosen': method dpo learns from"),
        ({"prompt": "a", "chosen": "b", "rejected": ""}, "has no 'rejected'"),
        ({"prompt": "a", "chosen": "b", "rejected": "b"}, "are equal: there is nothing to prefer"),
        ({"chosen": "b", "rejected": "c"}, "with 'chosen' as its answer: .* no 'prompt'"),
        ({"prompt": [ASKED], "chosen": [GOOD], "rejected": [{"role": "assistant", "content": ""}]}, "with 'rejected' as its answer"),
        ([1], "must be an object"),
    ],
)
def test_a_pair_that_compares_nothing_is_refused_by_name(fields: Any, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        understand_pair(fields, understand)


def test_method_dpo_takes_pairs_and_every_other_method_says_so_with_the_place(tmp_path: Path) -> None:
    rows = tmp_path / "rows.jsonl"
    rows.write_text(json.dumps({"prompt": "a", "chosen": "b", "rejected": "c"}) + "\n")
    dpo = resolve(LORA, sets=["method=dpo"])
    assert (inspect(str(rows), LORA, values=dpo).form, dpo["learning_rate"]) == ("prompt/chosen/rejected", 0.01)
    with pytest.raises(UserError, match="'chosen' compares answers: set method to dpo") as caught:
        inspect(str(rows), LORA, values=resolve(LORA))
    assert "rows.jsonl:1" in str(caught.value)
    rows.write_text(json.dumps({"prompt": "a", "completion": "b"}) + "\n")
    with pytest.raises(UserError, match="has no 'chosen'"):
        inspect(str(rows), LORA, values=dpo)


def test_rows_held_back_in_a_file_are_judged_here_as_the_data_are(tmp_path: Path) -> None:
    rows, held = tmp_path / "rows.jsonl", tmp_path / "held.jsonl"
    rows.write_text(json.dumps({"prompt": "a", "completion": "b"}) + "\n")
    held.write_text(json.dumps({"prompt": "a", "completion": "b"}) + "\n" + json.dumps({"prompt": "a", "completion": ""}) + "\n")
    with pytest.raises(UserError, match="'completion' is empty") as caught:
        inspect(str(rows), LORA, values=resolve(LORA, sets=[f"eval_file={held}"]))
    assert "held.jsonl:2" in str(caught.value)
    assert inspect(str(rows), LORA, values=resolve(LORA, sets=[f"eval_file={held}", "on_bad_row=skip"])).rows == 1
    with pytest.raises(UserError, match="has no 'chosen'"):
        inspect("hf://owner/pairs", LORA, values=resolve(LORA, sets=[f"eval_file={held}", "method=dpo"]))
