"""`invoke push`: a result goes to the Hub with a model card that tells what is known, and nothing of a person's data."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from huggingface_hub import HfApi, ModelCard

from tests.recipes.hub import Hub as BaseHub
from tests.recipes.hub import Model
from tests.storage.conftest import PART, Workspace, here
from tests.storage.hub_emulator import TOKEN, HubEmulator
from tests.storage.test_deletion import FIRST
from tests.storage.test_delivering import run_of
from tests.storage.test_result_verbs import HASTE, Clone, claimed, fresh_clone
from trainyard.config import Places
from trainyard.errors import RefusedError, StoreError, UserError
from trainyard.recipes.fit import hub as lookup
from trainyard.recipes.summaries import DataFile, DataSummary
from trainyard.runs.after import cardfacts
from trainyard.runs.after.push import push_run, shown
from trainyard.runs.after.tohub import HubWish
from trainyard.runs.records.identity import RunId
from trainyard.runs.records.record import RunFolder
from trainyard.storage.client import StoreSettings
from trainyard.storage.commit import commit
from trainyard.storage.manifest import ResultKey

BASE, REVISION = "Qwen/Qwen3-0.6B", "c1899de289a04d12100db370d81485cdf75e47ca"
REPORT = {
    "recipe": "lora", "rows": 180, "rows_dropped": 3, "rows_cut": 2, "steps": 40, "epochs": 2.0, "device": "cuda", "device_name": "H100",
    "weights_of_step": 20, "trainable_parameters": 5046272, "eval_loss": 1.25, "best_eval_loss": 1.125,
}  # fmt: skip
VALUES = {
    "base_model": BASE, "method": "lora", "lora_rank": 8, "target_modules": ["q_proj", "v_proj"], "eval_file": "/home/greg/secret.jsonl",
    "chat_template": "auto", "python": "hf_" + "a" * 34, "learning_rate": 0.0002,
}  # fmt: skip
DATA = DataSummary(
    reference="/home/greg/diary.jsonl", kind="file", form="messages", rows=200, bytes=9,
    files=(DataFile("/home/greg/diary.jsonl", "diary.jsonl", "ab" * 32, 9, 200),),
)  # fmt: skip


@pytest.fixture
def clone(tmp_path: Path, store_places: Places, settings: StoreSettings, hub: HubEmulator) -> Clone:
    clone = fresh_clone(tmp_path / "clone", store_places, settings)
    context = replace(clone.context, env={**clone.context.env, "HF_TOKEN": TOKEN, "HF_ENDPOINT": hub.endpoint})
    return Clone(context, clone.screen)


@pytest.fixture
def trained(clone: Clone, settings: StoreSettings, pod: Workspace) -> Callable[..., None]:
    """Commit a result of recipe lora with what is asked for beside it, and write its record."""

    def make(files: dict[str, bytes] | None = None, **more: Any) -> None:
        (pod.root / "output/model/model.safetensors").unlink()
        pod.write("output/model/adapter_model.safetensors", b"a" * (PART // 8))
        pod.write("output/model/adapter_config.json", json.dumps({"base_model_name_or_path": BASE, "revision": REVISION}).encode())
        pod.write("output/model/README.md", b"# a page\n")
        pod.write("output/result.json", json.dumps(REPORT).encode())
        for name, content in (files or {}).items():
            pod.write(f"output/{name}", content)
        token = claimed(settings, pod.root, FIRST)
        outputs = ["model/**", "result.json", "metrics.jsonl"]
        commit(settings, here(), FIRST, pod.output, outputs, [], token=token, part_size=PART, patience=HASTE)
        folder = run_of(clone, settings, **{"values": VALUES, "data": DATA, "job_seconds": 5400.0, **more})
        rows = [{"data": {"held_back": 20}}, *({"step": step, "loss": 3 - step / 20} for step in range(1, 41))]
        rows += [{"step": step, "eval_loss": 1.0 + abs(step - 20) / 100 + 0.125} for step in (10, 20, 30, 40)]
        folder.metrics.write_text("".join(json.dumps(row) + "\n" for row in rows))

    return make


@pytest.fixture
def licensed(monkeypatch: pytest.MonkeyPatch) -> BaseHub:
    """The Hub as a look-up of the base meets it."""
    bases = BaseHub({BASE: Model({"architectures": ["Qwen3ForCausalLM"]}, more={"cardData": {"license": "apache-2.0"}})})
    monkeypatch.setattr(cardfacts, "ask", lambda name, env: lookup.ask(name, {"HF_ENDPOINT": bases.endpoint}))
    return bases


def pushed(clone: Clone, licence: str | None = None, **wish: Any) -> Any:
    return push_run(clone.context, "first", HubWish(**{"repo": "greg/first", "public": False, **wish}), None, licence)


def test_the_card_is_what_the_hubs_own_client_reads(
    clone: Clone, hub: HubEmulator, trained: Callable[..., None], licensed: BaseHub, tmp_path: Path
) -> None:
    trained()
    done = pushed(clone)

    folder = Path(HfApi(endpoint=hub.endpoint, token=TOKEN).snapshot_download("greg/first", revision=done.revision, local_dir=tmp_path))
    card = ModelCard.load(folder / "README.md")
    data = card.data.to_dict()
    assert (data["base_model"], data["base_model_revision"], data["base_model_relation"]) == (BASE, REVISION, "adapter")
    assert (data["license"], data["library_name"], data["pipeline_tag"]) == ("apache-2.0", "peft", "text-generation")
    result = card.data.eval_results[0]
    assert (result.metric_type, result.metric_value, card.data.model_name) == ("loss", 1.125, "first"), "of the weights that are there"
    assert "datasets" not in data and {"lora", "sft", "trainyard"} == set(data["tags"])
    for said in (
        f'from_pretrained("{BASE}", revision="{REVISION}")', "| hardware | H100 |",
        "| `diary.jsonl` | 200 | `" + "ab" * 32, "180 rows, 20 held back, 3 dropped",
        "| `target_modules` | `q_proj, v_proj` |", "| `chat_template` | `\"auto\"` |", "| time | 1h30m |",
        "| 40 | 1 |",
    ):  # fmt: skip
        assert said in card.text, said
    assert "/home/" not in card.content and "hf_" not in card.content and "| cost |" not in card.content
    assert hub.repos["greg/first"].private and "1 GB" not in clone.said()


def test_nothing_of_a_training_but_its_model_goes(
    clone: Clone, hub: HubEmulator, trained: Callable[..., None], licensed: BaseHub
) -> None:  # fmt: skip
    trained({
        "model/checkpoint-3/optimizer.pt": b"o", "model/optimizer.pt": b"o", "model/training_args.bin": b"o", "model/.env": b"A=b\n",
        "model/metrics.jsonl": b"{}\n", "model/scheduler/scheduler_config.json": b"{}\n",
    })  # fmt: skip
    pushed(clone, cost=True)

    there = hub.repos["greg/first"].files
    assert set(there) == {
        "README.md", "adapter_model.safetensors", "adapter_config.json", "config.json", "tokenizer/vocab.txt", "empty",
        "scheduler/scheduler_config.json",
    }  # fmt: skip
    assert "| cost | $0.00 |" in there["README.md"][0].decode()
    assert "stays here: .env, checkpoint-3/optimizer.pt, metrics.jsonl, optimizer.pt, training_args.bin" in clone.said()


def test_a_key_in_a_file_of_the_model_is_told_with_its_line_and_nothing_is_sent(
    clone: Clone, hub: HubEmulator, trained: Callable[..., None], licensed: BaseHub
) -> None:
    trained({"model/notes.json": b'{\n"token": "hf_' + b"abcdefghijklmnopqrstuvwxyzabcdefgh" + b'"}\n'})

    with pytest.raises(UserError, match=r"notes\.json:2: holds what looks like a token of Hugging Face; nothing was sent"):
        pushed(clone)
    assert hub.repos["greg/first"].files == {}


def test_a_run_that_failed_asks_nothing_of_the_hub(clone: Clone, hub: HubEmulator, trained: Callable[..., None]) -> None:
    trained(training_success=False, error="exited 1")

    with pytest.raises(UserError, match="greg/first does not go to the Hub: it has failed: exited 1"):
        pushed(clone)
    assert hub.seen == []


def test_what_everybody_may_read_has_a_licence(clone: Clone, hub: HubEmulator, trained: Callable[..., None], licensed: BaseHub) -> None:
    trained()
    licensed.models[BASE].more.clear()

    with pytest.raises(UserError, match=r"is not known \(the page of Qwen/Qwen3-0\.6B names none\); nothing was sent"):
        pushed(clone, public=True)
    with pytest.raises(UserError, match="is no id of a licence"):
        pushed(clone, "Apache 2", public=True)
    assert hub.repos == {}
    assert pushed(clone, "mit", public=True).public and b"license: mit" in hub.repos["greg/first"].files["README.md"][0]
    with pytest.raises(RefusedError, match="is there and is public"):
        pushed(clone)


def test_a_refusal_of_the_hub_comes_before_anything_is_fetched(
    clone: Clone, hub: HubEmulator, trained: Callable[..., None], licensed: BaseHub
) -> None:
    trained()

    with pytest.raises(StoreError, match="answered 403") as refused:
        pushed(clone, repo="not-ours/first")
    assert "write access" in str(refused.value.hint) and not (clone.context.places.home / "delivery").exists()


def test_a_merge_tells_of_the_training_whose_adapter_it_has(
    clone: Clone, hub: HubEmulator, trained: Callable[..., None], licensed: BaseHub, settings: StoreSettings, pod: Workspace
) -> None:
    trained()
    whole = ResultKey("greg", "whole", 1)
    (pod.root / "output/model/adapter_config.json").unlink()
    pod.write("output/result.json", json.dumps({"recipe": "merge", "base_revision": REVISION, "parameters": 596049920}).encode())
    commit(settings, here(), whole, pod.output, ["model/**", "result.json"], [], token=claimed(settings, pod.root, whole), patience=HASTE)
    training = clone.context.folder("first").load()
    data = DataSummary(reference=f"s3://{settings.bucket}/models/greg/first/1/model/", kind="s3")
    folder = RunFolder(RunId("greg", "whole", 1).folder(clone.context.places.runs))
    folder.save(replace(training, label="whole", recipe="merge", values={"base_model": BASE, "device": "cpu"}, data=data))

    push_run(clone.context, "whole", HubWish(repo="greg/whole", public=False), None, None)

    card = ModelCard(hub.repos["greg/whole"].files["README.md"][0].decode())
    assert (card.data["library_name"], card.data["base_model_relation"], card.data["base_model_revision"]) == (
        "transformers",
        "finetune",
        REVISION,
    )
    assert "value: 1.125" in card.content and "with a LoRA adapter in its weights" in card.text
    for said in ("`diary.jsonl`", "| `lora_rank` | `8` |", "| training | `greg/first/1` |", "| parameters | 596,049,920 |"):
        assert said in card.text, said


def test_a_dry_run_shows_the_card_and_asks_nothing_of_the_repository(
    clone: Clone, hub: HubEmulator, trained: Callable[..., None], licensed: BaseHub
) -> None:
    trained()
    card = shown(clone.context, "first", HubWish(repo="greg/first", public=False, branch="v2"), None, None)

    assert hub.seen == [] and 'revision="v2"' in card and "would send README.md (this card)" in clone.said()


def test_a_gguf_is_one_of_its_base_and_tells_of_the_training(
    clone: Clone, hub: HubEmulator, trained: Callable[..., None], licensed: BaseHub, settings: StoreSettings, pod: Workspace
) -> None:
    trained()
    key = ResultKey("greg", "small", 1)
    for path in (pod.root / "output/model").glob("*.*"):
        path.unlink()
    pod.write("output/model/qwen3-first.Q4_K_M.gguf", b"GGUF")
    pod.write("output/result.json", json.dumps({"recipe": "gguf", "base_revision": REVISION, "quant": "Q4_K_M"}).encode())
    commit(settings, here(), key, pod.output, ["model/*.gguf", "result.json"], [], token=claimed(settings, pod.root, key), patience=HASTE)
    data = DataSummary(reference=f"s3://{settings.bucket}/models/greg/first/1/model/", kind="s3")
    training = clone.context.folder("first").load()
    folder = RunFolder(RunId("greg", "small", 1).folder(clone.context.places.runs))
    folder.save(replace(training, label="small", recipe="gguf", values={"base_model": BASE, "quant": "Q4_K_M"}, data=data))

    push_run(clone.context, "small", HubWish(repo="greg/small", public=False), None, None)

    card = ModelCard(hub.repos["greg/small"].files["README.md"][0].decode())
    assert (card.data["base_model"], card.data["base_model_relation"], card.data["license"]) == (BASE, "quantized", "apache-2.0")
    assert "gguf" in card.data["tags"] and "ollama run hf.co/greg/small" in card.text and "`diary.jsonl`" in card.text
    assert "from_pretrained" not in card.text and "| training | `greg/first/1` |" in card.text


def test_a_summarizers_card_has_its_rouge_and_what_its_own_page_says(
    clone: Clone, hub: HubEmulator, trained: Callable[..., None], licensed: BaseHub
) -> None:
    page = b"# Summaries\n\nTrained well.\n\n```python\nload()\n```\n\n## Settings\n- eval_file: /home/greg/secret.jsonl\n"
    report = {"recipe": "summarizer", "rouge": {"rougeL": 0.25}, "rouge_of_first_sentences": {"rougeL": 0.5}, "rouge_rows": 8}
    trained({"model/README.md": page, "result.json": json.dumps(report).encode()}, recipe="summarizer", values={"base_model": BASE})
    pushed(clone)

    card = ModelCard(hub.repos["greg/first"].files["README.md"][0].decode())
    assert card.data["pipeline_tag"] == "summarization" and "type: rouge" in card.content and "value: 0.25" in card.content
    assert "load()" in card.text and "/home/" not in card.content and "| rougeL | 0.2500 |" in card.text and "0.5" not in card.text
