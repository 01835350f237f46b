"""Recipe gguf, started as on a pod: adapters and models of real trainings as GGUF, which llama.cpp answers with as transformers does."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from tests.recipes.llama import said_by_llama, said_by_the_model, written
from tests.recipes.trainings import Training, environment, smollm2

ROWS = [{"instruction": f"Where does engine {each} stand?", "output": f"Engine {each} stands at the north yard."} for each in range(8)]
SMALL = ("max_steps=60", "save_steps=60", "per_device_train_batch_size=2", "gradient_accumulation_steps=1", "max_seq_length=128")
QUESTION = "Where does engine 3 stand?"
pytestmark = [pytest.mark.torch, pytest.mark.long, pytest.mark.timeout(1800)]


@pytest.fixture(scope="module")
def adapter(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Mixture-of-Experts with a scale of its own in each kind of layer."""
    return Training(tmp_path_factory.mktemp("lora") / "run", environment(), ROWS, *SMALL, "use_rslora=true").done().model


def test_a_gguf_of_an_adapter_in_its_base_answers_in_llama_cpp_as_the_adapter_does(tmp_path: Path, adapter: Path) -> None:
    code, log, output = written(tmp_path, adapter, "tiny-qwen3-moe", "quant=F32", "model_name=engines")

    assert code == 0, log
    asked, said = said_by_the_model(environment(), adapter / "base", adapter, QUESTION, 24)
    assert "engine" in said.lower()
    assert said_by_llama(environment(), output / "model" / "engines-F32.gguf", None, asked, 24) == said
    result = json.loads((output / "result.json").read_text())
    assert result["pre_tokenizer_assumed"] == "gpt-2" and result["texts_read_otherwise"] == 0
    assert result["logits_alike"] > 0.9999 and result["chat_template"] and result["library"]["llama_cpp"].startswith("b")
    assert result["unlike"] is None
    assert result["turns"]["answer"] == "<|im_end|>\n<|im_start|>assistant\n" and result["stops"] == ["<|im_end|>"]
    assert not (tmp_path / ".gguf").exists()


def test_an_adapter_alone_on_the_base_answers_in_llama_cpp_as_it_does(tmp_path: Path, adapter: Path) -> None:
    code, log, output = written(tmp_path / "adapter", adapter, "tiny-qwen3-moe", "what=adapter", "quant=F32", "model_name=engines")
    assert code == 0, log
    whole = tmp_path / "whole"
    shutil.copytree(adapter / "base", whole)
    for name in ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja"):
        shutil.copyfile(adapter / name, whole / name)
    code, log, base = written(tmp_path / "base", whole, "tiny-qwen3-moe", "quant=F32", "model_name=base")
    assert code == 0, log

    asked, said = said_by_the_model(environment(), adapter / "base", adapter, QUESTION, 24)
    file, alone = output / "model" / "engines-F32-LoRA.gguf", base / "model" / "base-F32.gguf"
    assert said_by_llama(environment(), alone, file, asked, 24) == said
    assert said_by_llama(environment(), alone, None, asked, 24) != said


def test_a_quantized_model_says_what_it_could_not_hold_so(tmp_path: Path, adapter: Path) -> None:
    code, log, output = written(tmp_path, adapter, "tiny-qwen3-moe")

    assert code == 0 and "Q4_K_M needs rows that are a multiple of 256" in log
    result = json.loads((output / "result.json").read_text())
    assert result["file"] == "tiny-qwen3-moe-Q4_K_M.gguf" and any(each.startswith("blk.0.attn_q.weight: ") for each in result["fallback"])
    assert "Q4_K" not in result["types"] and result["loaded"]


def test_a_real_small_model_is_written_with_its_own_tokenizer_and_template(tmp_path: Path) -> None:
    base = smollm2(environment())
    code, log, output = written(tmp_path, base, str(base), "quant=Q8_0")

    assert code == 0, log
    result = json.loads((output / "result.json").read_text())
    assert result["pre_tokenizer_assumed"] is None and result["texts_read_otherwise"] == 0 and result["same_next_token"]
    asked, said = said_by_the_model(environment(), base, None, "What is a locomotive?", 12)
    assert said_by_llama(environment(), output / "model" / result["file"], None, asked, 12) == said


def test_what_llama_cpp_has_no_place_for_is_refused_and_leaves_no_file(tmp_path: Path, adapter: Path) -> None:
    dora = tmp_path / "dora"
    shutil.copytree(adapter, dora)
    known = json.loads((dora / "adapter_config.json").read_text())
    (dora / "adapter_config.json").write_text(json.dumps(known | {"use_dora": True}))
    code, log, output = written(tmp_path / "one", dora, "tiny-qwen3-moe", "what=adapter")
    assert code == 2 and "DoRA has no place in an adapter of llama.cpp" in log and not (output / "model").exists()

    (dora / "adapter_config.json").write_text(json.dumps(known | {"r": known["r"] * 2}))
    code, log, output = written(tmp_path / "two", dora, "tiny-qwen3-moe", "what=adapter")
    assert code == 2 and "the adapter does not fit its base" in log and not (output / "model").exists()


def test_a_model_that_llama_cpp_reckons_otherwise_is_told(tmp_path: Path, adapter: Path) -> None:
    other = tmp_path / "other"
    shutil.copytree(adapter, other)
    known = json.loads((other / "base" / "config.json").read_text())
    (other / "base" / "config.json").write_text(json.dumps(known | {"norm_topk_prob": False}))
    code, log, output = written(tmp_path / "run", other, "tiny-qwen3-moe", "quant=F32")

    assert code == 0 and "norm_topk_prob: false" in log
    result = json.loads((output / "result.json").read_text())
    assert "norm_topk_prob: false" in result["unlike"] and result["logits_alike"] < 0.9999


def test_a_tokenizer_that_splits_text_in_its_own_way_is_refused(tmp_path: Path, adapter: Path) -> None:
    other = tmp_path / "other"
    shutil.copytree(adapter, other)
    rules = json.loads((other / "tokenizer.json").read_text())
    rules["pre_tokenizer"] = {"type": "Sequence", "pretokenizers": [{"type": "Digits", "individual_digits": True}, rules["pre_tokenizer"]]}
    (other / "tokenizer.json").write_text(json.dumps(rules))
    code, log, output = written(tmp_path / "run", other, "tiny-qwen3-moe", "quant=F16")

    assert code == 2 and "does not split text as GPT-2's does" in log
    assert not (output / "model").exists() and not (output / "result.json").exists()
