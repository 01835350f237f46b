"""Ollama's template is cut from what a model's own writes, and writes the same, by Go's own engine; what it could not write gives none."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from tests.recipes.conftest import ROOT
from tests.recipes.tokens import Words
from trainyard.recipes import forms
from trainyard.runs.after.modelfile import template_of

DEFAULT_SYSTEM = (
    "{% if messages[0].role != 'system' %}{{ '<|im_start|>system\nYou are \"Q\", a {{ model }} é.<|im_end|>\n' }}{% endif %}"
    "{% for message in messages %}{{ '<|im_start|>' + message.role + '\n' + message.content + '<|im_end|>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
NO_SYSTEM = (
    "{% for message in messages %}{% if message.role == 'system' %}{{ raise_exception('no system') }}{% endif %}"
    "{{ ('A: ' if message.role == 'assistant' else 'Q: ') + message.content + '\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ 'A: ' }}{% endif %}"
)
STRIPS = (
    "{% for message in messages %}{% if loop.revindex > 3 %}{{ '[old]' }}{% endif %}"
    "{{ message.role + ': ' + message.content + '\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ 'assistant: ' }}{% endif %}"
)
UPPER = "{% for message in messages %}{{ message.content | upper }}{% endfor %}"
THINKS = (
    "{% for message in messages %}{{ message.role + ': ' + message.content + '\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ 'assistant: <think>' }}{% endif %}"
)


@pytest.fixture
def turns(monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    monkeypatch.syspath_prepend(str(ROOT / "templates" / "gguf"))
    monkeypatch.delitem(sys.modules, "turns", raising=False)
    yield __import__("turns")
    sys.modules.pop("turns", None)


@pytest.fixture
def shipped(monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, str]]:
    """The templates that recipe lora gives to a base without one."""
    monkeypatch.syspath_prepend(str(ROOT / "templates" / "lora"))
    monkeypatch.setitem(sys.modules, "forms", forms)
    monkeypatch.delitem(sys.modules, "chat", raising=False)
    yield {name: template for name, (template, _) in __import__("chat").NAMED.items()}
    sys.modules.pop("chat", None)


def test_the_texts_between_what_is_said_are_found_for_each_kind_of_template(turns: ModuleType, shipped: dict[str, str]) -> None:
    found = {name: turns.turns_of(Words(template, bos="<s>"), strip="<s>") for name, template in shipped.items()}
    assert all(why == "" for _, why in found.values())
    assert found["chatml"][0]["first"] == "<|im_start|>user\n" and found["chatml"][0]["answer"] == "<|im_end|>\n<|im_start|>assistant\n"
    assert (found["gemma"][0]["system"], found["gemma"][0]["after_system"]) == ("<start_of_turn>user\n", "\n\n")
    assert (found["mistral"][0]["before"], found["mistral"][0]["after"]) == (" ", "</s>")

    (own, _), (without, _) = turns.turns_of(Words(DEFAULT_SYSTEM), strip=""), turns.turns_of(Words(NO_SYSTEM), strip="")
    assert own["first"].startswith('<|im_start|>system\nYou are "Q"') and own["system"] == "<|im_start|>system\n"
    assert "system" not in without and without["answer"] == "\nA: "


@pytest.mark.parametrize(
    ("template", "why"),
    [
        (None, "has no chat template"),
        (STRIPS, "later turns otherwise"),
        (UPPER, "changes what is said"),
        (THINKS, "begins an answer otherwise"),
    ],
)
def test_a_template_that_does_more_gives_none_and_the_reason(turns: ModuleType, template: str | None, why: str) -> None:
    found, reason = turns.turns_of(Words(template), strip="")
    assert found is None and why in reason


@pytest.fixture(scope="module")
def by_go(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str, list[Any]], str]:
    go = shutil.which("go")
    if go is None:
        pytest.skip("no Go is here, whose text/template is what Ollama writes with")
    program = tmp_path_factory.mktemp("go") / "gotemplate"
    subprocess.run([go, "build", "-o", program, Path(__file__).with_name("gotemplate.go")], check=True)

    def write(template: str, messages: list[Any]) -> str:
        asked = {"Template": template, "Messages": messages}  # Go takes the fields in any case of their letters
        return subprocess.run([program], input=json.dumps(asked), stdout=subprocess.PIPE, text=True, check=True).stdout

    return write


@pytest.mark.long
def test_go_writes_conversations_as_the_models_own_template_does(
    turns: ModuleType, shipped: dict[str, str], by_go: Callable[[str, list[Any]], str]
) -> None:
    for template in (*shipped.values(), DEFAULT_SYSTEM, NO_SYSTEM):
        tokenizer = Words(template, bos="<s>")
        found, _ = turns.turns_of(tokenizer, strip="<s>")
        for roles in ("u", "uau", "uauau", *(("su", "suau", "suauau") if "system" in found else ())):
            names = {"s": "system", "u": "user", "a": "assistant"}
            talk = [{"role": names[role], "content": f'{at}. "Où {{{{ x }}}}"\n\tthere `$m`'} for at, role in enumerate(roles)]
            wanted = tokenizer.apply_chat_template(talk, tokenize=False, add_generation_prompt=True)
            assert by_go(template_of(found), talk) == wanted.removeprefix("<s>")
