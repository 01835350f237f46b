"""Recipe summarizer: what its rows mean, which are held back, its figures, its configs; and one real training.

The training needs the recipe's environment, which is lora's: see test_lora_training.py.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.recipes.conftest import ROOT
from tests.recipes.test_lora_training import loaded_envs  # noqa: F401
from trainyard.errors import UserError
from trainyard.recipes import articles, basemodel, bundle
from trainyard.recipes.contract import load_recipe
from trainyard.recipes.data import inspect
from trainyard.recipes.values import needs_of, resolve

FOLDER = ROOT / "templates" / "summarizer"
RECIPE = load_recipe(ROOT, "summarizer")


@pytest.fixture
def parts(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """Import the files that need no torch but for the name of a class."""
    data = types.SimpleNamespace(Dataset=object)
    backends = types.SimpleNamespace(mps=types.SimpleNamespace(is_available=lambda: False))
    cuda = types.SimpleNamespace(is_available=lambda: False)
    monkeypatch.setitem(sys.modules, "torch", types.SimpleNamespace(utils=types.SimpleNamespace(data=data), backends=backends, cuda=cuda))
    monkeypatch.setitem(sys.modules, "numpy", types.SimpleNamespace())
    for folder in (FOLDER, ROOT / "templates" / "common", ROOT / "templates" / "lora", ROOT / "trainyard" / "recipes"):
        monkeypatch.syspath_prepend(str(folder))
    names = ("telemetry", "session", "articles", "rows", "rouge", "texts")
    for name in names:
        monkeypatch.delitem(sys.modules, name, raising=False)
    yield types.SimpleNamespace(**{name: __import__(name) for name in names})
    for name in names:
        sys.modules.pop(name, None)


# Rows


@pytest.mark.parametrize(
    ("row", "text", "summary", "unused"),
    [
        ({"article": "A.", "highlights": "B.", "id": "7"}, "A.", "B.", ("id",)),
        ({"document": "A.", "summary": "B.", "id": ""}, "A.", "B.", ()),
        ({"dialogue": "A.", "summary": "B."}, "A.", "B.", ()),
        ({"text": "A.", "summary": "B.", "title": "C."}, "A.", "B.", ("title",)),
    ],
)
def test_columns_are_found_by_the_names_that_data_sets_have(row: dict[str, str], text: str, summary: str, unused: tuple[str, ...]) -> None:
    assert articles.understand_article(row, {}) == (text, summary, unused)


def test_columns_may_be_named_and_left_out() -> None:
    row = {"text": "A.", "summary": "B.", "tldr": "C."}
    assert articles.understand_article(row, {"summary_column": "tldr"}).summary == "C."
    assert articles.understand_article(row, {"summary_column": "tldr"}, ["summary"]).unused == ()


@pytest.mark.parametrize(
    ("row", "says"),
    [
        ({"text": "A."}, "the row has no summary or highlights .*it has: text.*summary_column"),
        ({"article": "A.", "summary": " "}, "'summary' is empty"),
        ({"article": ["A."], "summary": "B."}, "'article' must be text, not list"),
        ({"article": "\ud800", "summary": "B."}, "half of a surrogate pair"),
        (["A.", "B."], "must be an object"),
    ],
)
def test_a_row_that_cannot_be_learnt_says_why(row: Any, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        articles.understand_article(row, {})


def test_flawed_rows_are_told_with_their_places_before_anything_is_rented(tmp_path: Path) -> None:
    rows = tmp_path / "rows.csv"
    rows.write_text('article,summary\n"Snow fell.",Snow.\n"Rain fell.",\n')
    with pytest.raises(UserError, match="'summary' is empty") as caught:
        inspect(str(rows), RECIPE)
    assert caught.value.where and (caught.value.where.file, caught.value.where.line) == (str(rows), 3)
    assert inspect(str(rows), RECIPE, values={"on_bad_row": "skip"}).describe() == "rows.csv: 1 rows of article/summary, 49 B"
    with pytest.raises(UserError, match="no column 'tldr', which summary_column names"):
        inspect(str(rows), RECIPE, values={"summary_column": "tldr"})


def test_rows_that_are_held_back_go_by_their_content_and_equal_ones_stay_together(parts: Any) -> None:
    config = {"eval_fraction": 0.25, "max_eval_samples": 100, "max_train_samples": 0}
    draws = [50, 10, 90, 10, 70, 30, 80, 60]
    assert [number for number, kind in enumerate(parts.texts.choose(draws, config)) if kind == parts.texts.HELD] == [1, 3]
    moved = parts.texts.choose(list(reversed(draws)), config)
    assert {draw for draw, kind in zip(reversed(draws), moved, strict=True) if kind == parts.texts.HELD} == {10}

    config |= {"eval_fraction": 0.1}
    assert parts.texts.choose(draws, config).count(parts.texts.HELD) == 2, "the other of two equal rows goes along"
    config |= {"eval_fraction": 0, "max_train_samples": 3}
    kept = [draw for draw, kind in zip(draws, parts.texts.choose(draws, config), strict=True) if kind == parts.texts.TRAINED]
    assert sorted(kept) == [10, 10, 30]
    with pytest.raises(parts.session.Refused, match="holds back every row, for there are 2"):
        parts.texts.choose([5, 5], config | {"eval_fraction": 0.5})


# Figures

# What rouge_score 0.1.2 counts (RougeScorer(["rouge1", "rouge2", "rougeL"]), fmeasure).
COUNTED = [
    ("the cat sat on the mat", "the cat is on the mat", (0.8333, 0.6, 0.8333)),
    ("Police killed the gunman.", "the gunman killed police", (1.0, 0.3333, 0.5)),
    ("a b c d e f", "f e d c b a", (1.0, 0.0, 0.1667)),
    ("one two three", "four five", (0.0, 0.0, 0.0)),
    ("one", "one", (1.0, 0.0, 1.0)),
    ("it's 5 o'clock, nearly", "It is 5 o'clock.", (0.7273, 0.4444, 0.7273)),
]


@pytest.mark.parametrize(("reference", "summary", "figures"), COUNTED)
def test_rouge_is_what_rouge_score_counts(parts: Any, reference: str, summary: str, figures: tuple[float, ...]) -> None:
    assert parts.rouge.mean([parts.rouge.score(reference, summary)]) == dict(zip(parts.rouge.FIGURES, figures, strict=True))


def test_rouge_knows_words_of_any_script_and_how_a_text_begins(parts: Any) -> None:
    assert parts.rouge.score("Снег выпал", "снег, выпал!")["rougeL"] == 1.0
    assert parts.rouge.lead("One. Two? Three! Four.") == "One. Two? Three!"
    assert parts.rouge.mean([]) == {}


# Settings


@pytest.mark.parametrize("name", ["cloud", "mps", "cpu"])
def test_each_config_that_comes_along_is_named_without_its_folder(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    values = resolve(RECIPE, Path(f"configs/training_config_{name}.yaml"))
    assert (values["base_model"], values["per_device_train_batch_size"]) == {
        "cloud": ("facebook/bart-base", 16), "mps": ("facebook/bart-base", 6), "cpu": ("tiny-bart", 16),
    }[name]  # fmt: skip


def test_a_config_of_ones_own_wins_over_one_that_comes_along(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    own = tmp_path / "configs" / "training_config_cpu.yaml"
    own.parent.mkdir()
    own.write_text("epochs: 3\n")
    assert resolve(RECIPE, Path("configs/training_config_cpu.yaml"))["num_train_epochs"] == 3
    with pytest.raises(UserError, match=r"configs/other.yaml: there is no such file"):
        resolve(RECIPE, Path("configs/other.yaml"))


def test_names_of_other_files_are_understood_and_what_is_not_served_is_refused(tmp_path: Path) -> None:
    config = tmp_path / "theirs.yaml"
    config.write_text("model_name: google-t5/t5-small\nmax_input_length: 400\nfp16: false\npredict_with_generate: true\noutput_dir: x\n")
    notes: list[str] = []
    values = resolve(RECIPE, config, on_note=notes.append)
    assert (values["max_source_length"], values["source_prefix"], values["learning_rate"]) == (400, "summarize: ", 0.0003)
    assert "output_dir" in notes[0]
    assert needs_of(RECIPE, values)["vram_gb"] == 8
    config.write_text("model_name: google-t5/t5-small\nfp16: true\n")
    with pytest.raises(UserError, match="overflows in google-t5/t5-small"):
        resolve(RECIPE, config)
    with pytest.raises(UserError, match="early_stop_patience needs rows that are held back"):
        resolve(RECIPE, sets=["early_stopping_patience=2", "eval_fraction=0"])
    config.write_text("dataset_name: cnn_dailymail\n")
    with pytest.raises(UserError, match="say --data FILE, or --data hf://abisee"):
        resolve(RECIPE, config)


def test_of_several_gpus_the_first_trains_and_asking_for_more_is_refused(tmp_path: Path) -> None:
    recipe = load_recipe(ROOT, "summarizer")
    with pytest.raises(UserError, match="one GPU trains a summarizer"):
        resolve(recipe, sets=["gpus=2"])
    begins = (recipe.folder / "train.py.j2").read_text().partition("from telemetry import")[0]
    (tmp_path / "train.py").write_text(begins + 'print(os.environ["CUDA_VISIBLE_DEVICES"])\n')
    (tmp_path / "config.json").write_text('{"base_model": "tiny-bart"}')
    for seen, used in (({}, "0"), ({"CUDA_VISIBLE_DEVICES": "2,3"}, "2"), ({"CUDA_VISIBLE_DEVICES": ""}, "")):
        env = {"PATH": os.environ["PATH"], **seen}
        said = subprocess.run([sys.executable, tmp_path / "train.py"], env=env, capture_output=True, text=True, check=True).stdout
        assert said.strip() == used


def test_a_base_of_another_kind_is_refused_before_its_weights_are_fetched() -> None:
    values = resolve(RECIPE, sets=["base_model=x/y", "max_source_length=2000"])
    decoder = {"model_type": "llama", "is_encoder_decoder": False, "max_position_embeddings": 4096}
    assert "no encoder-decoder (its type is llama): recipe lora" in str(basemodel.problem(decoder, (), values))
    bart = {"model_type": "bart", "is_encoder_decoder": True, "max_position_embeddings": 1024}
    assert "max_source_length 2000 is more than the 1024 positions of x/y" in str(basemodel.problem(bart, (), values))
    led = {"model_type": "led", "is_encoder_decoder": True, "max_encoder_position_embeddings": 16384, "max_decoder_position_embeddings": 64}
    assert "max_target_length 128 is more than the 64" in str(basemodel.problem(led, (), values))
    t5 = {"model_type": "t5", "n_positions": 512, "num_layers": 6}
    assert basemodel.problem(t5, (), values) is None, "its positions are relative: 512 is no end"
    lora = resolve(load_recipe(ROOT, "lora"), sets=["base_model=x/y"])
    assert "is an encoder-decoder (its type is t5): recipe summarizer" in str(basemodel.problem(t5, (), lora))
    assert basemodel.problem({}, (), values) is None and basemodel.problem(decoder, (), lora) is None


def test_the_sample_is_what_its_program_writes(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(FOLDER))
    monkeypatch.delitem(sys.modules, "make_sample", raising=False)
    __import__("make_sample").main()
    sys.modules.pop("make_sample")
    assert capsys.readouterr().out == (FOLDER / "sample.jsonl").read_text()


# A training


class SummaryTraining:
    """A rendered run with its workspace."""

    def __init__(self, folder: Path, python: Path, *sets: str) -> None:
        self.folder, self.python = folder, python
        self.output = folder / "output"
        folder.mkdir()
        rows = folder / "rows.jsonl"
        odd = [{"article": "Snow fell. " * 200, "summary": "Snow. " * 40}, {"article": "Rain fell.", "summary": ""}]
        rows.write_text((FOLDER / "sample.jsonl").read_text() + "".join(json.dumps(row) + "\n" for row in odd))
        values = resolve(RECIPE, sets=["device=cpu", "on_bad_row=skip", *sets])
        found = inspect(str(rows), RECIPE, values=values)
        bundle.build(RECIPE, values, found, folder / "run")
        bundle.place_data(found, folder / "input")

    def train(self) -> str:
        env = {"PATH": os.environ["PATH"], "HOME": str(self.folder), "TRAINYARD_ENVS": str(self.python)}
        done = subprocess.run(["sh", self.folder / "run" / "run.sh"], env=env, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def losses(self, name: str) -> dict[int, float]:
        lines = [json.loads(line) for line in (self.output / "metrics.jsonl").read_text().splitlines()]
        return {line["step"]: line[name] for line in lines if name in line}

    @property
    def weights(self) -> str:
        return hashlib.sha256((self.output / "model" / "model.safetensors").read_bytes()).hexdigest()


SHORT = ("max_steps=6", "save_steps=4", "eval_steps=2", "warmup_steps=2", "rouge_samples=4", "keep_best=true", "label_smoothing=0.1")


@pytest.mark.torch
@pytest.mark.timeout(500)
def test_a_training_that_goes_on_elsewhere_ends_with_the_same_losses_weights_and_summaries(
    tmp_path: Path,
    loaded_envs: Path,  # noqa: F811
) -> None:
    straight, moved = (SummaryTraining(tmp_path / name, loaded_envs, *SHORT) for name in ("straight", "moved"))
    straight.train()
    # To another pod comes the checkpoint alone: what it was made with, and the metrics so far, lie in it.
    shutil.copytree(straight.output / "checkpoints" / "checkpoint-4", moved.output / "checkpoints" / "checkpoint-4")

    assert "going on from checkpoint-4" in moved.train()
    assert sorted(straight.losses("loss")) == [1, 2, 3, 4, 5, 6] and sorted(straight.losses("eval_loss")) == [2, 4, 6]
    assert all(moved.losses(name) == straight.losses(name) for name in ("loss", "eval_loss", "rougeL"))
    assert straight.losses("eval_loss")[6] < straight.losses("eval_loss")[2] - 0.3
    assert moved.weights == straight.weights
    written = [json.loads(line) for line in (straight.output / "summaries.jsonl").read_text().splitlines()]
    assert len(written) == 4 and {"row", "wanted", "written", "rouge1", "rouge2", "rougeL"} == set(written[0])
    assert (moved.output / "summaries.jsonl").read_text() == (straight.output / "summaries.jsonl").read_text()
    result = json.loads((straight.output / "result.json").read_text())
    assert (result["steps"], result["final_loss"], result["rows_read"], result["rows"]) == (6, straight.losses("loss")[6], 262, 235)
    assert (result["best_step"], result["weights_of_step"], result["best_eval_loss"]) == (6, 6, straight.losses("eval_loss")[6])
    assert set(result["rouge"]) == set(result["rouge_of_first_sentences"]) == {"rouge1", "rouge2", "rougeL"}
    report = json.loads((straight.output / "data-report.json").read_text())
    assert {name: report[name] for name in ("rows", "cut", "cut_summaries", "held_back", "dropped", "flawed")} == {
        "rows": 262, "cut": 1, "cut_summaries": 1, "held_back": 26, "dropped": 0, "flawed": 1,
    }  # fmt: skip
    assert report["reasons"] == ["rows.jsonl:262: 'summary' is empty"]


# Long ones


@pytest.mark.long
@pytest.mark.timeout(900)
def test_the_sample_learns_to_write_summaries_of_rows_it_has_not_seen(
    tmp_path: Path,
    loaded_envs: Path,  # noqa: F811
) -> None:
    whole = SummaryTraining(tmp_path / "whole", loaded_envs)
    whole.train()
    result = json.loads((whole.output / "result.json").read_text())
    assert result["rouge"]["rougeL"] > 0.95 > 0.5 > result["rouge_of_first_sentences"]["rougeL"], result
    assert result["best_eval_loss"] < 0.1


BASES = """
import json, sys, torch
from tokenizers import processors
sys.path.insert(0, sys.argv[1])
import tiny_bart
from transformers import PegasusConfig, PegasusForConditionalGeneration, T5Config, T5ForConditionalGeneration
rows = [json.loads(line) for line in open(sys.argv[1] + "/sample.jsonl")]
tokenizer = tiny_bart.tokenizer_for(text for row in rows for text in row.values())
end = tokenizer.eos_token_id
tokenizer._tokenizer.post_processor = processors.TemplateProcessing(single="$A </s>", special_tokens=[("</s>", end)])
torch.manual_seed(1)
known = dict(vocab_size=len(tokenizer), d_model=64, pad_token_id=1, eos_token_id=end, decoder_start_token_id=1)
t5 = T5Config(d_kv=16, d_ff=128, num_layers=2, num_heads=4, **known)
sizes = {"layers": 2, "attention_heads": 4, "ffn_dim": 128}
sides = {f"{side}_{name}": value for side in ("encoder", "decoder") for name, value in sizes.items()}
pegasus = PegasusConfig(max_position_embeddings=256, forced_eos_token_id=end, **sides, **known)
for name, model in (("t5", T5ForConditionalGeneration(t5)), ("pegasus", PegasusForConditionalGeneration(pegasus))):
    model.save_pretrained(name)
    tokenizer.save_pretrained(name)
"""
"""A T5 and a Pegasus of the seed, with dropout, as folders."""


@pytest.mark.long
@pytest.mark.timeout(900)
def test_a_t5_and_a_pegasus_of_a_folder_train_and_go_on_exactly(
    tmp_path: Path,
    loaded_envs: Path,  # noqa: F811
) -> None:
    (tmp_path / "bases.py").write_text(BASES)
    python = next(loaded_envs.glob("*/bin/python"))
    env = {"PATH": os.environ["PATH"], "HF_HUB_OFFLINE": "1"}
    subprocess.run([python, "bases.py", FOLDER], cwd=tmp_path, env=env, check=True)
    for name in ("t5", "pegasus"):
        sets = (*SHORT, f"base_model={tmp_path / name}", "max_source_length=200", "max_target_length=60", "batch_size=16", "lr=0.003")
        straight, moved = (SummaryTraining(tmp_path / f"{name}-{each}", loaded_envs, *sets) for each in ("straight", "moved"))
        straight.train()
        shutil.copytree(straight.output / "checkpoints" / "checkpoint-4", moved.output / "checkpoints" / "checkpoint-4")
        assert "going on from checkpoint-4" in moved.train()
        assert moved.losses("loss") == straight.losses("loss") and moved.weights == straight.weights
        assert straight.losses("eval_loss")[6] < straight.losses("eval_loss")[2]
        assert (moved.output / "summaries.jsonl").read_text() == (straight.output / "summaries.jsonl").read_text()
