"""`invoke ollama`: file and Modelfile of a run, made at a server by Ollama's documented API; only its own success is success."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.storage.conftest import PART, Workspace, here
from tests.storage.ollama_server import OllamaContract, contract
from tests.storage.test_deletion import FIRST
from tests.storage.test_delivering import run_of
from tests.storage.test_result_verbs import HASTE, Clone, claimed, fresh_clone
from trainyard.config import Places
from trainyard.errors import StoreError, UserError
from trainyard.recipes.summaries import DataSummary
from trainyard.runs.after.ollama import OllamaOutcome, OllamaWish, gguf_there, to_ollama
from trainyard.runs.after.ollamaserver import address_of, check_tag
from trainyard.runs.records.identity import RunId
from trainyard.runs.records.record import RunFolder
from trainyard.storage.client import StoreSettings
from trainyard.storage.commit import commit
from trainyard.storage.manifest import ResultKey

ENGINES = ResultKey("greg", "engines", 1)
FILE, CONTENT = "b-1B-first-Q4_K_M.gguf", b"GGUF" + bytes(range(256)) * 40
TURNS = {
    "first": "<|im_start|>user\n", "next": "<|im_start|>user\n", "answer": "<|im_end|>\n<|im_start|>assistant\n", "before": "",
    "after": "<|im_end|>\n", "system": "<|im_start|>system\n", "after_system": "<|im_end|>\n<|im_start|>user\n",
}  # fmt: skip
ABOUT = {
    "what": "merged", "file": FILE, "sha256": hashlib.sha256(CONTENT).hexdigest(), "base_model": "o/b-1B", "base_revision": "c1899de2",
    "architecture": "qwen3", "base_shape": {"embedding_length": 1024, "block_count": 28}, "turns": TURNS, "stops": ["<|im_end|>"],
}  # fmt: skip
VALUES = {"base_model": "o/b-1B", "what": "merged", "quant": "Q4_K_M", "model_name": "b-1B-first"}


@pytest.fixture
def clone(tmp_path: Path, store_places: Places, settings: StoreSettings) -> Clone:
    return fresh_clone(tmp_path / "clone", store_places, settings)


@pytest.fixture
def ollama() -> Iterator[OllamaContract]:
    with contract() as said:
        yield said


@pytest.fixture
def written(clone: Clone, settings: StoreSettings, pod: Workspace) -> Callable[..., None]:
    """Commit what recipe gguf leaves, and write its record."""

    def make(about: dict[str, Any] | None = None, **values: Any) -> None:
        (pod.root / "output/model/model.safetensors").unlink()
        pod.write(f"output/model/{FILE}", CONTENT)
        pod.write("output/model/gguf.json", json.dumps({**ABOUT, **(about or {})}).encode())
        pod.write("output/model/LICENSE", b"Apache License\n")
        token = claimed(settings, pod.root, FIRST)
        commit(settings, here(), FIRST, pod.output, ["model/**"], [], token=token, part_size=PART, patience=HASTE)
        data = DataSummary(reference=f"s3://{settings.bucket}/{ENGINES.model}", kind="s3")
        folder = run_of(clone, settings, values={**VALUES, **values}, data=data, ended=1.8e9)
        folder.save(replace(folder.load(), recipe="gguf"))

    return make


def brought(clone: Clone, ollama: OllamaContract, **wish: Any) -> OllamaOutcome:
    return to_ollama(clone.context, "first", None, OllamaWish(**{"host": ollama.address, **wish}))


def test_a_model_is_sent_once_made_with_its_template_and_looked_at(
    clone: Clone, ollama: OllamaContract, written: Callable[..., None], tmp_path: Path
) -> None:
    written()
    done = brought(clone, ollama, folder=str(tmp_path / "there"), system="You drive trains.")

    assert (done.model, done.sent) == ("b-1b-first:greg-20270115", True)
    (wish,) = ollama.created
    assert wish["files"] == {FILE: f"sha256:{ABOUT['sha256']}"} and wish["parameters"] == {"stop": ["<|im_end|>"]} and wish["stream"]
    assert wish["license"] == "Apache License\n" and wish["system"] == "You drive trains."
    text = (tmp_path / "there" / "Modelfile").read_text()
    assert text.startswith(f'FROM ./{FILE}\nTEMPLATE """{wish["template"]}"""\n') and 'PARAMETER stop "<|im_end|>"\n' in text
    assert '{{ "<|im_start|>system\\n" }}{{ $m.Content }}' in wish["template"]

    assert not brought(clone, ollama, tag="engines:new").sent
    assert set(ollama.models) == {"b-1b-first:greg-20270115", "engines:new"}
    assert sum(each.startswith("POST /api/blobs/") for each in ollama.asked) == 1


def test_nothing_but_success_is_success(clone: Clone, ollama: OllamaContract, written: Callable[..., None]) -> None:
    written()
    for states, why in (
        ([{"status": "parsing GGUF"}], "its last word was parsing GGUF"),
        ([], "its last word was none"),
        ([{"status": "parsing GGUF"}, {"error": "no space left on device"}], "does not make the model: no space left on device"),
        ([{"status": "success"}, {"error": "late"}], "does not make the model: late"),
        ([{"error": "no " * 1_000_000}], "does not make the model: (no ){100}$"),
    ):
        ollama.states = states
        with pytest.raises(StoreError, match=why):
            brought(clone, ollama)
    ollama.states = [{"status": "success"}]
    ollama.shown = {"template": "{{ .Prompt }}"}
    with pytest.raises(StoreError, match="and not as it was told: template"):
        brought(clone, ollama)
    ollama.shown = {"parameters": ""}
    with pytest.raises(StoreError, match="and not as it was told: stop "):
        brought(clone, ollama)


def test_what_a_server_refuses_is_told_in_its_own_words(clone: Clone, ollama: OllamaContract, written: Callable[..., None]) -> None:
    written()
    ollama.no_blob = (507, "disk full")
    with pytest.raises(StoreError, match=r"does not take b-1B-first-Q4_K_M.gguf \(HTTP 507: disk full\)"):
        brought(clone, ollama)
    ollama.other = True
    with pytest.raises(StoreError, match="answers, and not as Ollama does"):
        brought(clone, ollama)
    assert not ollama.created
    with pytest.raises(StoreError, match="no Ollama answers at "):
        brought(clone, ollama, host="127.0.0.1:9")


def test_an_adapter_goes_onto_a_base_whose_shape_is_the_one_it_was_trained_on(
    clone: Clone, ollama: OllamaContract, written: Callable[..., None]
) -> None:
    written({"what": "adapter"}, what="adapter")
    with pytest.raises(UserError, match=r"is an adapter of o/b-1B: say which of the server's models"):
        brought(clone, ollama)
    with pytest.raises(UserError, match="has no such model"):
        brought(clone, ollama, base="qwen3:1b")
    shape = {"general.architecture": "qwen3", "qwen3.embedding_length": 2048, "qwen3.block_count": 28}
    ollama.models["qwen3:1b"] = {"model_info": shape}
    with pytest.raises(UserError, match=r"not what the adapter was trained on: qwen3\.embedding_length is 2048, not 1024"):
        brought(clone, ollama, base="qwen3:1b")
    assert not ollama.created

    ollama.models["qwen3:1b"] = {"model_info": {**shape, "qwen3.embedding_length": 1024}}
    done = brought(clone, ollama, base="qwen3:1b")
    (wish,) = ollama.created
    assert wish["from"] == "qwen3:1b" and wish["adapters"] == {FILE: f"sha256:{ABOUT['sha256']}"} and "files" not in wish
    assert (Path(done.folder) / "Modelfile").read_text().startswith(f"FROM qwen3:1b\nADAPTER ./{FILE}\n")
    assert "o/b-1B at revision c1899de2 is nothing that Ollama says" in clone.screen.getvalue()


def test_a_model_whose_turns_are_not_known_goes_without_a_template_and_that_is_said(
    clone: Clone, ollama: OllamaContract, written: Callable[..., None]
) -> None:
    written({"turns": None, "no_turns": "its chat template changes what is said"})
    done = brought(clone, ollama, send=False)

    assert done.model == "" and not ollama.asked
    assert "TEMPLATE" not in (Path(done.folder) / "Modelfile").read_text()
    assert "no TEMPLATE is written: its chat template changes what is said" in clone.screen.getvalue()


def test_a_training_goes_by_the_gguf_that_was_written_of_it(
    clone: Clone, ollama: OllamaContract, settings: StoreSettings, written: Callable[..., None]
) -> None:
    written()
    trained = RunFolder(RunId("greg", "engines", 1).folder(clone.context.places.runs))
    first = RunFolder(RunId("greg", "first", 1).folder(clone.context.places.runs)).load()
    trained.save(replace(first, label="engines", recipe="lora", data=DataSummary()))
    assert gguf_there(clone.context, "engines", None)

    done = to_ollama(clone.context, "engines", None, OllamaWish(host=ollama.address))
    assert done.run == "greg/first/1" and done.model in ollama.models


def test_a_run_without_gguf_says_what_to_run_first(clone: Clone, ollama: OllamaContract, settings: StoreSettings) -> None:
    run_of(clone, settings, values={"base_model": "o/b-1B"})
    with pytest.raises(UserError, match="greg/first/1 has no GGUF that is known here") as refused:
        brought(clone, ollama)
    assert "invoke gguf greg/first/1 --stack" in str(refused.value.hint)


def test_addresses_and_names_are_those_of_ollama() -> None:
    assert address_of(None, {}) == "http://127.0.0.1:11434"
    assert address_of(None, {"OLLAMA_HOST": "0.0.0.0"}) == "http://127.0.0.1:11434"
    assert address_of("gpu.local:80", {"OLLAMA_HOST": "x"}) == "http://gpu.local:80"
    assert address_of("https://a.b/ollama/", {}) == "https://a.b:443/ollama"
    assert address_of("[::1]", {}) == "http://[::1]:11434"
    for wrong in ("ftp://a", "http://", "a:b:c", "http://u:p@a", "http://[::1", "..", "\uff11.0.0.1", f"{'a' * 64}.b", "a\nb"):
        with pytest.raises(UserError, match="it is host, host:port or http://host:port"):
            address_of(wrong, {})
    assert check_tag("greg/engines:greg-2026.11") == "greg/engines:greg-2026.11"
    for wrong in ("a b", "a:", "a/b/c", "", "-a", "a:b:c"):
        with pytest.raises(UserError, match="it is NAME:TAG"):
            check_tag(wrong)
