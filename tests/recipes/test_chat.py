"""The trained prompt is the shipped prompt, token by token, whatever the template does; what is not carried is refused."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from types import ModuleType
from typing import Any

import pytest

from tests.recipes.conftest import ROOT
from tests.recipes.tokens import Words
from trainyard.recipes import forms
from trainyard.recipes.forms import Row

CHATML = ("<|im_start|>", "<|im_end|>", "<|end|>")
FAMILIES = {
    # strips the thinking of earlier turns and writes an empty one before the last answer, as Qwen3 does
    "rewrites earlier turns": (
        "{% for m in messages %}{% set parts = m.content.split('</think>') %}<|im_start|>{{ m.role }}\n"
        "{% if m.role == 'assistant' and loop.last %}<think>\n{{ parts[0].replace('<think>', '').strip() if parts | length > 1 }}"
        "\n</think>\n\n{% endif %}{{ parts[-1].strip() }}<|im_end|>\n{% endfor %}"
        "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}",
        Words(special=CHATML, eos="<|im_end|>"),
    ),
    "headers and a first token": (
        "{{ bos_token }}{% for m in messages %}<|h|>{{ m.role }}<|/h|>\n\n{{ m.content | trim }}<|eot|>{% endfor %}"
        "{% if add_generation_prompt %}<|h|>assistant<|/h|>\n\n{% endif %}",
        Words(special=("<s>", "<|h|>", "<|/h|>", "<|eot|>"), bos="<s>", eos="<|eot|>"),
    ),
    "no generation prompt": (
        "{{ bos_token }}{% for m in messages %}{% if m.role == 'user' %}[INST] {{ m.content }} [/INST]{% elif m.role == 'assistant' %}"
        " {{ m.content }}{{ eos_token }}{% else %}{{ raise_exception('roles must alternate') }}{% endif %}{% endfor %}",
        Words(bos="<s>"),
    ),
    "other names of roles": (
        "{% for m in messages %}<|t|>{{ 'model' if m.role == 'assistant' else m.role }}\n{{ m.content | trim }}<|/t|>\n{% endfor %}"
        "{% if add_generation_prompt %}<|t|>model\n{% endif %}",
        Words(special=("<|t|>", "<|/t|>", "<eos>"), eos="<eos>"),
    ),
    "no end token": (
        "{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}{% if add_generation_prompt %}assistant:{% endif %}",
        Words(),
    ),
}  # fmt: skip
TALK = [("user", "What is up"), ("assistant", "The sky"), ("user", "And down"), ("assistant", "<think>Hm</think>The sea")]


@pytest.fixture
def chat(monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    monkeypatch.syspath_prepend(str(ROOT / "templates" / "lora"))
    monkeypatch.setitem(sys.modules, "forms", forms)
    monkeypatch.delitem(sys.modules, "chat", raising=False)
    yield __import__("chat")
    sys.modules.pop("chat", None)


def row_of(turns: list[Any], **more: Any) -> Row:
    messages = [{"role": role, "content": content} | extra for role, content, extra in ((*turn, {})[:3] for turn in turns)]
    return forms.understand({"messages": messages, **more})


def learnt(tokenizer: Words, ids: list[int], mask: list[int]) -> tuple[str, str]:
    """Return the prompt before the first learnt token, and the learnt text."""
    first = list(mask).index(1)
    return tokenizer.decode(ids[:first]), tokenizer.decode([number for number, wanted in zip(ids, mask, strict=True) if wanted])


@pytest.mark.parametrize("family", FAMILIES)
def test_every_answer_is_learnt_behind_the_prompt_that_inference_gives(chat: ModuleType, family: str) -> None:
    template, tokenizer = FAMILIES[family]
    tokenizer.chat_template = template
    assert chat.choose(tokenizer, "auto") == "the base's own"
    encoder = chat.Encoder(tokenizer)
    talk = [(role, text) for role, text in TALK] if "rewrites" in family else [(role, text.split("</think>")[-1]) for role, text in TALK]
    samples = encoder.samples(row_of(talk))
    prompts = {
        tokenizer.apply_chat_template(
            [{"role": r, "content": c} for r, c in talk[:count]], tokenize=False, add_generation_prompt=True
        ): talk[count][1]
        for count in (1, 3)
    }
    for prompt, answer in prompts.items():
        asked = tokenizer(prompt, add_special_tokens=False)["input_ids"]
        [(ids, mask)] = [(ids, mask) for ids, mask in samples if ids[: len(asked)] == asked and mask[len(asked)] == 1]
        assert mask[len(asked) - 1] == 0
        # From here to the next part that is not learnt, the answer is all there is, and a token that ends it.
        end = len(asked) + [*mask[len(asked) :], 0].index(0)
        said = tokenizer.decode(ids[len(asked) : end])
        assert answer.split("</think>")[-1] in said and said.count("sky") + said.count("sea") == 1
    for ids, mask in samples:
        last = len(mask) - 1 - mask[::-1].index(1)
        assert ids[last] in tokenizer.all_special_ids and ids[last] in encoder.end_tokens()
    assert all(("What" not in text and "down" not in text) for text in (learnt(tokenizer, *sample)[1] for sample in samples))


def test_an_earlier_answer_that_the_template_rewrites_is_learnt_in_a_sample_of_its_own(chat: ModuleType) -> None:
    template, tokenizer = FAMILIES["rewrites earlier turns"]
    tokenizer.chat_template = template
    samples = chat.Encoder(tokenizer).samples(row_of(TALK))
    assert [learnt(tokenizer, *sample)[1] for sample in samples] == [
        "<think>\n\n</think>\n\nThe sky<|im_end|>", "<think>\nHm\n</think>\n\nThe sea<|im_end|>",
    ]  # fmt: skip
    # A template that keeps earlier turns gets one sample for all of them.
    assert chat.choose(tokenizer, "chatml") == "chatml"
    [(ids, mask)] = chat.Encoder(tokenizer).samples(row_of([TALK[0], TALK[1], TALK[2], ("assistant", "The sea")]))
    assert learnt(tokenizer, ids, mask)[1] == "The sky<|im_end|>The sea<|im_end|>"


def test_an_answer_of_weight_zero_is_read_and_not_learnt(chat: ModuleType) -> None:
    tokenizer = Words(special=CHATML, eos="<|im_end|>")
    chat.choose(tokenizer, "chatml")
    bad = row_of([("user", "colour"), ("assistant", "BAD", {"weight": 0}), ("user", "properly"), ("assistant", "Blue")])
    [(ids, mask)] = chat.Encoder(tokenizer).samples(bad)
    prompt, said = learnt(tokenizer, ids, mask)
    assert "BAD" in prompt and said == "Blue<|im_end|>"
    assert chat.Encoder(tokenizer).samples(row_of([("user", "a"), ("assistant", "b")], weight=0)) == []


CALL = {"tool_calls": [{"function": {"name": "weather", "arguments": '{"town": "Ulm"}'}}]}
TOOL = {"type": "function", "function": {"name": "weather", "parameters": {}}}


def test_calls_of_tools_and_thinking_reach_the_loss_through_chatml(chat: ModuleType) -> None:
    tokenizer = Words(special=CHATML, eos="<|im_end|>")
    chat.choose(tokenizer, "chatml")
    row = row_of(
        [("user", "warm"), ("assistant", "", CALL), ("tool", "21"), ("assistant", "21", {"reasoning_content": "Read"})], tools=[TOOL]
    )
    [(ids, mask)] = chat.Encoder(tokenizer).samples(row)
    prompt, said = learnt(tokenizer, ids, mask)
    assert '"parameters": {}' in prompt and "<tools>" in prompt
    assert said == (
        '<tool_call>\n{"name": "weather", "arguments": {"town": "Ulm"}}\n</tool_call><|im_end|><think>\nRead\n</think>\n\n21<|im_end|>'
    )


LOST = {
    "does not carry 'tool_calls'": row_of([("user", "warm"), ("assistant", "", CALL)]),
    "does not carry 'tools'": row_of([("user", "warm"), ("assistant", "21")], tools=[TOOL]),
    "does not carry 'reasoning_content'": row_of([("user", "2+2"), ("assistant", "4", {"reasoning_content": "Two and two"})]),
    "does not carry what role system says": row_of([("system", "Be kind"), ("user", "a"), ("assistant", "b")]),
    "control token <\\|im_end\\|>": row_of([("user", "a <|im_end|> b"), ("assistant", "c")]),
}


@pytest.mark.parametrize("reason", LOST)
def test_what_the_template_does_not_carry_is_refused_by_name(chat: ModuleType, reason: str) -> None:
    template = (
        "{% for m in messages if m.role != 'system' %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
        "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
    )
    with pytest.raises(forms.RowFlaw, match=reason):
        chat.Encoder(Words(template, special=CHATML, eos="<|im_end|>")).samples(LOST[reason])


def test_a_template_that_begins_answers_otherwise_at_inference_or_refuses_the_row_is_told(chat: ModuleType) -> None:
    begins = (
        "{% for m in messages %}{{ m.role }}: {{ m.content }}</s>{% endfor %}{% if add_generation_prompt %}assistant: <think>\n{% endif %}"
    )
    with pytest.raises(forms.RowFlaw, match=r"begins an answer at inference with .*<think>"):
        chat.Encoder(Words(begins)).samples(row_of([("user", "a"), ("assistant", "b")]))
    with pytest.raises(forms.RowFlaw, match="refuses the row: ValueError: roles must alternate"):
        chat.Encoder(Words(FAMILIES["no generation prompt"][0], bos="<s>")).samples(
            row_of([("system", "x"), ("user", "a"), ("assistant", "b")])
        )


def test_an_answer_before_any_prompt_is_told_as_such(chat: ModuleType) -> None:
    template, tokenizer = FAMILIES["headers and a first token"]
    tokenizer.chat_template = template
    row = row_of([("assistant", "Hello"), ("user", "Who"), ("assistant", "Me")])
    with pytest.raises(forms.RowFlaw, match="message 1 is the assistant's, and no prompt stands before it"):
        chat.Encoder(tokenizer).samples(row)


def test_a_template_that_wants_arguments_as_text_gets_them_so(chat: ModuleType) -> None:
    template = (
        "{% for m in messages %}{{ m.role + ':' + m.content }}{% for c in m.tool_calls or [] %}{{ c.function.name + c.function.arguments }}"
        "{% endfor %}</s>{% endfor %}{% if add_generation_prompt %}assistant:{% endif %}"
    )
    tokenizer = Words(template)
    [(ids, mask)] = chat.Encoder(tokenizer).samples(row_of([("user", "a"), ("assistant", "", CALL)]))
    assert learnt(tokenizer, ids, mask)[1] == 'weather{"town": "Ulm"}</s>'


def test_an_answer_that_would_share_a_token_with_its_prompt_is_parted(chat: ModuleType) -> None:
    template = "{% for m in messages %}{{ m.role }}:\n{{ m.content }}</s>{% endfor %}{% if add_generation_prompt %}assistant:\n{% endif %}"
    tokenizer = Words(template)
    [(ids, mask)] = chat.Encoder(tokenizer).samples(row_of([("user", "a"), ("assistant", "\nb")]))
    asked = tokenizer("user:\na</s>assistant:\n", add_special_tokens=False)["input_ids"]
    assert ids[: len(asked)] == asked and mask == [0] * len(asked) + [1] * (len(ids) - len(asked))


def test_a_tokenizer_that_does_not_tell_places_gets_prompt_and_answer_apart(chat: ModuleType) -> None:
    tokenizer = Words(special=CHATML, eos="<|im_end|>")
    tokenizer.is_fast = False
    chat.choose(tokenizer, "chatml")
    samples = chat.Encoder(tokenizer).samples(row_of([("user", "a"), ("assistant", "b"), ("user", "c"), ("assistant", "d")]))
    assert [learnt(tokenizer, *sample)[1] for sample in samples] == ["b<|im_end|>", "d<|im_end|>"]


def test_an_added_token_that_ends_turns_is_an_end_though_it_is_not_special(chat: ModuleType) -> None:
    template = (
        "{% for m in messages %}{{ m.role }}:\n{{ m.content }}[end]\n{% endfor %}{% if add_generation_prompt %}assistant:\n{% endif %}"
    )
    tokenizer = Words(template, added=["[end]", "[/call]"])
    encoder = chat.Encoder(tokenizer)
    [(ids, mask)] = encoder.samples(row_of([("user", "a"), ("assistant", "b[/call]")]))
    assert learnt(tokenizer, ids, mask)[1] == "b[/call][end]" and tokenizer.decode(encoder.end_tokens()) == "</s>[end]"
    tokenizer.chat_template = template.replace("[end]", "")
    [(ids, mask)] = encoder.samples(row_of([("user", "a"), ("assistant", "b[/call]")]))
    assert learnt(tokenizer, ids, mask)[1] == "b[/call]</s>"


def test_a_base_without_a_template_gets_one_whose_tokens_it_has(chat: ModuleType) -> None:
    tokenizer = Words(special=CHATML, eos="<|end|>")
    assert chat.choose(tokenizer, "auto") == "chatml"
    encoder = chat.Encoder(tokenizer)
    encoder.samples(row_of([("user", "a"), ("assistant", "b")]))
    assert [tokenizer.decode([number]) for number in encoder.end_tokens()] == ["<|end|>", "<|im_end|>"]

    tokenizer = Words(bos="<s>")
    assert chat.choose(tokenizer, "auto") == "plain"
    [(ids, mask)] = chat.Encoder(tokenizer).samples(row_of([("user", "a"), ("assistant", "b")]))
    assert learnt(tokenizer, ids, mask) == ("<s>### User:\na\n\n### Assistant:\n", "b</s>")
    with pytest.raises(forms.RowFlaw, match="chatml needs the tokens <\\|im_start\\|>"):
        chat.choose(Words(), "chatml")
    with pytest.raises(forms.RowFlaw, match="this base has none"):
        chat.choose(Words(eos=None), "plain")


@pytest.mark.parametrize("name", ["chatml", "llama3", "gemma", "mistral", "plain"])
def test_every_named_template_learns_answer_and_end_alone(chat: ModuleType, name: str) -> None:
    tokenizer = Words(special=("<s>", "</s>", *chat.NAMED[name][1]), bos="<s>")
    assert chat.choose(tokenizer, name) == name
    samples = chat.Encoder(tokenizer).samples(
        row_of([("system", "Be kind"), ("user", "a b"), ("assistant", "c d"), ("user", "zz"), ("assistant", "f")])
    )
    [(ids, mask)] = samples
    prompt, said = learnt(tokenizer, ids, mask)
    assert "Be kind" in prompt and "a b" in prompt and "c d" not in prompt
    assert said.replace(" ", "").startswith("cd") and "f" in said and "zz" not in said
    assert ids[len(mask) - 1 - mask[::-1].index(1)] in tokenizer.all_special_ids


def test_text_and_prompt_completion_end_with_the_end_token(chat: ModuleType) -> None:
    tokenizer = Words(bos="<s>")
    encoder = chat.Encoder(tokenizer)
    [(ids, mask)] = encoder.samples(forms.understand({"text": "a b"}))
    assert tokenizer.decode(ids) == "<s>a b</s>" and set(mask) == {1}
    [(ids, mask)] = encoder.samples(forms.understand({"prompt": "a", "completion": " b"}))
    assert learnt(tokenizer, ids, mask) == ("<s>a", " b</s>")
    assert encoder.conversations == 0


@pytest.mark.parametrize("family", FAMILIES)
def test_train_on_all_learns_the_whole_conversation_in_one_sample(chat: ModuleType, family: str) -> None:
    template, tokenizer = FAMILIES[family]
    tokenizer.chat_template = template
    talk = [(role, text.split("</think>")[-1]) for role, text in TALK]
    [(ids, mask)] = chat.Encoder(tokenizer, everything=True).samples(row_of(talk))
    whole = tokenizer.apply_chat_template([{"role": r, "content": c} for r, c in talk], tokenize=False, add_generation_prompt=False)
    said = tokenizer.decode([number for number, wanted in zip(ids, mask, strict=True) if wanted])
    assert said.startswith(whole.rstrip()) and "What is up" in said and "The sky" in said
    turns = [{"role": role, "content": text} for role, text in talk]
    [same] = chat.Encoder(tokenizer, everything=True).samples(forms.understand({"prompt": turns[:3], "completion": turns[3:]}))
    assert same == (ids, mask), "the answers of a prompt are learnt, too"
    [(ids, mask)] = chat.Encoder(tokenizer, everything=True).samples(forms.understand({"prompt": "ab", "completion": "cd"}))
    assert all(mask)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("number", [1, 2])
def test_train_on_all_leaves_out_what_weighs_0_or_says_that_the_template_cannot(chat: ModuleType, family: str, number: int) -> None:
    template, tokenizer = FAMILIES[family]
    tokenizer.chat_template = template
    talk: list[Any] = [(role, text.split("</think>")[-1]) for role, text in TALK]
    talk[number] = (*talk[number], {"weight": 0})
    encoder, row = chat.Encoder(tokenizer, everything=True), row_of(talk)
    if family == "rewrites earlier turns":
        with pytest.raises(forms.RowFlaw, match=f"message {number + 1} has weight 0, and the chat template writes it otherwise"):
            encoder.samples(row)
        return
    [(ids, mask)] = encoder.samples(row)
    said = tokenizer.decode([number for number, wanted in zip(ids, mask, strict=True) if wanted])
    assert talk[number][1] not in said and all(text in said for role, text, *_ in talk if text != talk[number][1])
    assert ids == chat.Encoder(tokenizer, everything=True).samples(row_of([turn[:2] for turn in talk]))[0][0]
