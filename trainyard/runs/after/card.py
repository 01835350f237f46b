"""The model card of a result: what is known of it, in the form that the Hugging Face Hub reads, and nothing of a person's data.

A text is told of a value only where it can be no secret and no path: one of the recipe's choices, or the name of a layer.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from trainyard import __version__, yamlfile
from trainyard.recipes.summaries import DataSummary, Value, Values
from trainyard.runs.records.progress import Curve, duration
from trainyard.storage.hub import signed_card

PICTURE = "loss.png"
_ROWS = 12
"""Most lines of a table of losses."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BaseLicence:
    """A licence by its id of the Hub's list, with name and address where it is ``other``."""

    id: str
    name: str = ""
    link: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class CardFacts:
    """What a card is made of. ``training``: the run that has learnt, where the result was made of it by a merge."""

    repo: str
    run: str
    recipe: str
    manifest_sha256: str
    base: str | None
    """As the Hub names it; None: the base is on no hub."""
    base_called: str
    base_revision: str | None
    is_adapter: bool
    base_beside: bool
    """The base lies in the repository's folder base/."""
    branch: str = "main"
    licence: BaseLicence | None = None
    training: str | None = None
    values: Values
    data: DataSummary
    rows: Mapping[str, int]
    """What became of them, in the recipe's words."""
    losses: Curve = ()
    evals: Curve = ()
    figures: Mapping[str, float]
    hardware: str | None
    seconds: float | None
    cost: float | None = None
    """Told only where a person wants it told."""
    versions: Mapping[str, str]
    started_from: str | None = None
    has_picture: bool = False
    gguf: str | None = None
    """The file, where it is one for llama.cpp."""
    page: str = ""
    """What the training has written of a result that this module knows no way to load of."""


def card_of(facts: CardFacts) -> str:
    """Return the card, signed."""
    parts = [
        [f"# {facts.repo.partition('/')[2]}", "", _intro(facts)],
        _section("How to load it", _loading(facts)),
        [facts.page] if facts.page else [],
        _section("Evaluation", _evaluation(facts)),
        _section("Loss", _loss(facts)),
        _section("Data", _data(facts)),
        _section("Settings", _table(("variable", "value"), list(_settings(facts.values)))),
        _section("How it was made", _table(("", ""), list(_making(facts)))),
    ]
    text = "\n\n".join("\n".join(part) for part in parts if part)
    return signed_card(f"---\n{yamlfile.dump(front_matter(facts))}---\n\n{text}\n")


_LOADED = ("lora", "merge")
"""Recipes whose result is a language model of transformers or an adapter of PEFT."""
_TASKS = {"lora": "text-generation", "merge": "text-generation", "gguf": "text-generation", "summarizer": "summarization"}


def front_matter(facts: CardFacts) -> dict[str, object]:
    """Return what the Hub reads of a card."""
    head: dict[str, object] = {}
    if facts.licence is not None:
        head["license"] = facts.licence.id
        head |= {f"license_{name}": text for name, text in (("name", facts.licence.name), ("link", facts.licence.link)) if text}
    if facts.base is not None:
        head |= {"base_model": facts.base, "base_model_relation": _relation(facts)}
        head |= {"base_model_revision": facts.base_revision} if facts.base_revision else {}
    if facts.recipe in _TASKS:
        head["pipeline_tag"] = _TASKS[facts.recipe]
        head |= {} if facts.gguf else {"library_name": "peft" if facts.is_adapter else "transformers"}
    head["tags"] = ["trainyard", *_tags(facts)]
    if (hub := _hub_data(facts.data)) is not None:
        head["datasets"] = [hub]
    if facts.evals:
        head["model-index"] = [_index(facts)]
    return head


def _relation(facts: CardFacts) -> str:
    return "adapter" if facts.is_adapter else "quantized" if facts.gguf else "finetune"


def _tags(facts: CardFacts) -> Iterator[str]:
    yield from ["gguf"] if facts.gguf else []
    method = facts.values.get("method")
    if method is not None and method != "full":
        yield "lora"
    if method is not None:
        yield "dpo" if method == "dpo" else "sft"


def _index(facts: CardFacts) -> dict[str, object]:
    kind = _TASKS.get(facts.recipe, "text-generation")
    task = {"type": kind, "name": kind.replace("-", " ").title()}
    name = _hub_data(facts.data)
    dataset = {"name": name or "rows held back from the training", "type": name or "private"}
    metrics = [{"type": "loss", "name": "loss of the rows held back", "value": round(_told_eval(facts)[1], 6)}]
    metrics += [{"type": "rouge", "name": name, "value": round(value, 6)} for name, value in _rouge(facts)]
    return {"name": facts.repo.partition("/")[2], "results": [{"task": task, "dataset": dataset, "metrics": metrics}]}


def _rouge(facts: CardFacts) -> list[tuple[str, float]]:
    return [(name, value) for name, value in facts.figures.items() if re.fullmatch(r"rouge(\d|L|Lsum)", name)]


def _told_eval(facts: CardFacts) -> tuple[int, float]:
    """Return step and loss of the rows held back, of the weights that are here."""
    step = facts.figures.get("weights_of_step")
    return next((each for each in facts.evals if each[0] == step), facts.evals[-1])


def _hub_data(data: DataSummary) -> str | None:
    match = re.match(r"hf://(?:datasets/)?([\w.-]+/[\w.-]+)", data.reference or "") if data.kind == "hf" else None
    return match[1] if match else None


def _intro(facts: CardFacts) -> str:
    base = f"[{facts.base}](https://huggingface.co/{facts.base})" if facts.base else f"`{facts.base_called}`"
    at = f" at revision `{facts.base_revision}`" if facts.base_revision else ""
    if facts.gguf:
        return f"{base}{at} as GGUF (`{facts.gguf}`), for llama.cpp and Ollama, trained with Trainyard {__version__}."
    if facts.recipe not in _LOADED:
        return f"Trained with Trainyard {__version__}, recipe `{facts.recipe}`."
    if facts.is_adapter:
        return f"A LoRA adapter for {base}{at}, trained with Trainyard {__version__}. It must be used on exactly that base."
    whole = "every weight trained" if facts.values.get("method") == "full" else "with a LoRA adapter in its weights"
    return f"{base}{at}, {whole}, with Trainyard {__version__}."


def _loading(facts: CardFacts) -> list[str]:
    if facts.gguf:
        return ["```sh", f"llama-cli -hf {facts.repo}", f"ollama run hf.co/{facts.repo}", "```"]
    return ["```python", *_code(facts), "```"] if facts.recipe in _LOADED else []


def _code(facts: CardFacts) -> list[str]:
    at = "" if facts.branch == "main" else f', revision="{facts.branch}"'
    here = f'"{facts.repo}"{at}'
    imports, model = ["from transformers import AutoModelForCausalLM, AutoTokenizer", ""], f"AutoModelForCausalLM.from_pretrained({here})"
    fetched = []
    if facts.is_adapter:
        revision = f', revision="{facts.base_revision}"' if facts.base_revision else ""
        base = f'"{facts.base or facts.base_called}"{revision}'
        if facts.base_beside:
            imports.insert(0, "from huggingface_hub import snapshot_download")
            fetched, base, here = [f"folder = snapshot_download({here})"], 'f"{folder}/base"', "folder"
        imports.insert(len(imports) - 2, "from peft import PeftModel")
        model = f"PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained({base}), {here})"
    return [
        *imports, *fetched, f"model = {model}", f"tokenizer = AutoTokenizer.from_pretrained({here})", "",
        'asked = [{"role": "user", "content": "Hello!"}]',
        'ids = tokenizer.apply_chat_template(asked, add_generation_prompt=True, return_tensors="pt", return_dict=True)',
        'answer = model.generate(**ids, max_new_tokens=200)[0][ids["input_ids"].shape[1]:]',
        "print(tokenizer.decode(answer, skip_special_tokens=True))",
    ]  # fmt: skip


def _evaluation(facts: CardFacts) -> list[str]:
    if not facts.evals:
        return []
    step, loss = _told_eval(facts)
    held = facts.rows.get("held_back")
    rows = f"{held} rows" if held else "rows"
    lines = [f"Loss of {rows} held back from the training: **{loss:.4f}** (per learnt token) at step {step}."]
    rewards = [each for each in facts.figures.items() if each[0].startswith("eval_reward")]
    more = [(name.replace("_", " "), _number(value)) for name, value in [*_rouge(facts), *rewards]]
    return [*lines, "", *_table(("", ""), more)] if more else lines


def _loss(facts: CardFacts) -> list[str]:
    if not facts.losses:
        return []
    evals = dict(facts.evals)
    steps = _spread([step for step, _ in facts.losses])
    losses = dict(facts.losses)
    rows = [(str(step), _number(losses[step]), _number(_near(evals, step, steps))) for step in steps]
    picture = [f"![Loss by step]({PICTURE})", ""] if facts.has_picture else []
    if not evals:
        return [*picture, *_table(("step", "loss"), [row[:2] for row in rows])]
    return [*picture, *_table(("step", "loss", "loss of rows held back"), rows)]


def _spread(steps: Sequence[int]) -> list[int]:
    """Return some of the steps, first and last among them."""
    if len(steps) <= _ROWS:
        return list(steps)
    return sorted({steps[round(each * (len(steps) - 1) / (_ROWS - 1))] for each in range(_ROWS)})


def _near(evals: Mapping[int, float], step: int, steps: Sequence[int]) -> float | None:
    """Return the newest look at the rows held back since the line before, None without one."""
    before = max((each for each in steps if each < step), default=-1)
    return next((evals[each] for each in sorted(evals, reverse=True) if before < each <= step), None)


def _data(facts: CardFacts) -> list[str]:
    data, name = facts.data, _hub_data(facts.data)
    if data.kind == "none" and not facts.rows:
        return []
    files = [(f"`{_plain(file.dest)}`", f"{file.rows:,}" if file.rows else "", f"`{file.sha256 or ''}`") for file in data.files[:20]]
    more = [f"{len(data.files) - 20} more files."] if len(data.files) > 20 else []
    what = [f"[{name}](https://huggingface.co/datasets/{name})"] if name else []
    words = {
        "rows": "rows", "held_back": "held back", "dropped": "dropped (nothing of their answer was left)",
        "cut": "cut to the longest length",         "flawed": "skipped as flawed", "not_learnt": "of weight 0",
    }  # fmt: skip
    counts = [f"{facts.rows[each]:,} {word}" for each, word in words.items() if facts.rows.get(each)]
    blocks = [what, _table(("file", "rows", "sha256"), files) if files else [], more, [f"{', '.join(counts)}."] if counts else []]
    return "\n\n".join("\n".join(block) for block in blocks if block).splitlines()


def _settings(values: Values) -> Iterator[tuple[str, str]]:
    """Yield the values that had a part in it: those of preferences only where there were any."""
    for name, value in values.items():
        if values.get("method") == "dpo" or not name.startswith("dpo_"):
            yield f"`{name}`", f"`{_said(value)}`"


def _making(facts: CardFacts) -> Iterator[tuple[str, str]]:
    yield "run", f"`{facts.run}`, recipe `{facts.recipe}`"
    yield from [("training", f"`{facts.training}`")] if facts.training else []
    yield from [("began with the adapter of", f"`{facts.started_from}`")] if facts.started_from else []
    yield from [("hardware", facts.hardware)] if facts.hardware else []
    yield from [("time", duration(facts.seconds))] if facts.seconds is not None else []
    yield from [("cost", f"${facts.cost:.2f}")] if facts.cost is not None else []
    yield from [(name.replace("_", " "), _number(facts.figures[name])) for name in _TOLD if name in facts.figures]
    yield "versions", ", ".join(f"{name} {version}" for name, version in facts.versions.items())
    yield "manifest of the result, sha256", f"`{facts.manifest_sha256}`"


_TOLD = ("steps", "epochs", "tokens", "trainable_parameters", "parameters")


def _section(title: str, lines: Sequence[str]) -> list[str]:
    return [f"## {title}", "", *lines] if lines else []


def _table(head: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> list[str]:
    if not rows:
        return []
    return [f"| {' | '.join(each)} |" for each in (head, tuple("---" for _ in head), *rows)]


def told_values(values: Values, choices: Mapping[str, Sequence[Value]]) -> Values:
    """Return the values that a card may tell: numbers, and texts that are one of a variable's choices or names of layers."""
    public: Values = {}
    for name, value in values.items():
        is_choice = isinstance(value, str) and value in choices.get(name, ())
        are_names = isinstance(value, list) and bool(value) and name in _LAYERS and all(re.fullmatch(r"[\w.]+", each) for each in value)
        if is_choice or are_names or isinstance(value, (int, float)):
            public[name] = value
    return public


_LAYERS = ("target_modules", "modules_to_save")


def _said(value: Value) -> str:
    return ", ".join(value) if isinstance(value, list) else json.dumps(value)


def _plain(text: str) -> str:
    return re.sub(r"[|`\s]+", " ", text)


def _number(value: float | None) -> str:
    if value is None or not math.isfinite(value):
        return ""
    return f"{int(value):,}" if float(value).is_integer() else f"{value:.4f}"
