"""Which GPUs a run fits on: chosen by the cheapest finish, refused with what would fit, shown before anything is rented."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from tests.recipes.conftest import ROOT
from tests.recipes.hub import Hub, Model
from trainyard.clouds.protocol import Offer
from trainyard.errors import UserError
from trainyard.recipes import basemodel
from trainyard.recipes.contract import load_recipe
from trainyard.recipes.fit.base import look
from trainyard.recipes.fit.ways import ways
from trainyard.recipes.values import needs_of, resolve
from trainyard.runs.context import open_context
from trainyard.runs.planning import fit, shape
from trainyard.runs.planning.baselook import look_up
from trainyard.runs.ui import Ui
from trainyard.runs.verbs.fit import FitRequest, lines
from trainyard.runs.verbs.fit import fit as reckon
from trainyard.settings.table import StackSettings

LORA = load_recipe(ROOT, "lora")
SHAPES = Path(__file__).parent.parent / "recipes" / "data" / "shapes.jsonl"
CONFIGS = {row["name"]: row["config"] for row in map(json.loads, SHAPES.read_text().splitlines())}
MIB = 1 << 20


@pytest.fixture
def base(tmp_path: Path) -> str:
    (tmp_path / "config.json").write_text(json.dumps(CONFIGS["Llama-3.1-8B"] | {"max_position_embeddings": 131072}))
    return str(tmp_path)


def values(base: str, *sets: str) -> Any:
    return resolve(LORA, sets=["device=gpu", f"base_model={base}", *sets])


def refusal(base: str, gpu: tuple[str, ...], *sets: str) -> UserError:
    found = values(base, *sets)
    with pytest.raises(UserError) as refused:
        fit.refuse(LORA, found, needs_of(LORA, found)["vram_gb"], StackSettings(gpu=gpu))
    return refused.value


def test_what_fits_on_no_gpu_of_the_stack_is_refused_with_what_would_fit(base: str) -> None:
    error = refusal(base, ("RTX 3080", "RTX 4080"))
    assert "needs 22 GB of GPU memory for this training, and RTX 3080 and RTX 4080 have 16 GB" in error.message
    assert error.hint is not None and "--set load_in_4bit=true (12 GB)" in error.hint and "gpu: RTX 3090, or auto" in error.hint


@pytest.mark.parametrize(
    ("limit", "sets"), [(16, ()), (24, ("max_seq_length=16384",)), (32, ("lora_rank=1024",)), (12, ("max_seq_length=8192",))]
)
def test_each_way_that_is_named_fits_when_it_is_taken(base: str, limit: float, sets: tuple[str, ...]) -> None:
    found = ways(LORA, values(base, *sets), limit)
    assert found
    for way in found:
        taken = [word for word in str(way).split() if word != "--set"]
        assert needs_of(LORA, values(base, *sets, *taken))["vram_gb"] == way.vram_gb <= limit


def test_a_way_that_the_recipe_refuses_is_not_named() -> None:
    mixture = values("Qwen/Qwen3-30B-A3B")
    assert [str(way) for way in ways(LORA, mixture, 40)] == ["--set load_in_4bit=true --set backend=unsloth"]
    assert ways(LORA, mixture, 4) == []
    error = refusal("a/b-405B", ("auto",))
    assert "the largest GPU has 288 GB" in error.message and error.hint is not None


@pytest.mark.parametrize(
    ("name", "says"),
    [("a/b-8B", "a/b-8B needs, as far as its name tells, 2"), ("a/b", "a/b is of a size that is not known, taken to need 24 GB")],
)
def test_a_refusal_that_rests_on_a_guess_says_so_and_how_to_say_better(name: str, says: str) -> None:
    error = refusal(name, ("RTX 3080",))
    assert says in error.message and error.hint is not None and error.hint.endswith("--set needs.vram_gb=...")


def test_what_another_recipe_asks_for_is_refused_in_its_name() -> None:
    recipe = load_recipe(ROOT, "command")
    found = resolve(recipe, sets=["command=true", "vram_gb=80"])
    with pytest.raises(UserError, match="recipe command, with these values, needs 80 GB of GPU memory for this training, and RTX 3080 has"):
        fit.refuse(recipe, found, needs_of(recipe, found)["vram_gb"], StackSettings(gpu=("RTX 3080",)))


@pytest.mark.parametrize(("gpu", "sets"), [(("RTX 4090",), ()), (("FancyGPU 9",), ()), ((), ()), (("RTX 3080",), ("needs.vram_gb=22",))])
def test_what_fits_is_unknown_or_said_by_hand_is_not_refused(base: str, gpu: tuple[str, ...], sets: tuple[str, ...]) -> None:
    found = values(base, *sets)
    fit.refuse(LORA, found, needs_of(LORA, found)["vram_gb"], StackSettings(gpu=gpu))


def offer(gpu: str, price: float) -> Offer:
    return Offer(f"{gpu}@{price}", "toy", gpu, 1, price)


def test_auto_asks_for_every_type_with_enough_memory_and_takes_the_cheapest_finish_first(base: str) -> None:
    shaped = shape.raised(StackSettings(gpu=("auto",)), {"vram_gb": 40}, "runpod")
    assert "A40" in shaped.gpu and "H100 SXM" in shaped.gpu and "RTX 4090" not in shaped.gpu and shaped.min_vram_gb == 40
    offers = [offer("A40", 0.4), offer("H100 SXM", 2.0), offer("RTX 8000", 0.1), offer("B200", 5.0)]

    def order(data_bytes: int) -> list[str]:
        found = fit.chosen(shaped, offers, fit.training_of(values(base), data_bytes)).only_offers
        return [one.partition("@")[0] for one in found or ()]

    # A long training is cheaper on a GPU of five times the price and seven times the speed; a short one is mostly boot and download.
    assert order(500 * MIB) == ["H100 SXM", "B200", "A40", "RTX 8000"]
    assert order(1000) == ["A40", "H100 SXM", "B200", "RTX 8000"]
    assert [one.gpu for one in fit.cheapest_finish(offers, None)] == ["RTX 8000", "A40", "H100 SXM", "B200"], "nothing known: by price"


def test_a_run_that_leaves_its_gpus_open_is_reckoned_on_all_that_its_pod_has(base: str) -> None:
    four = StackSettings(gpu=("H100 SXM",), gpu_count=4)

    def reckoned(settings: StackSettings, *sets: str) -> Any:
        training = fit.training_of(fit.as_rented(values(base, *sets), settings), MIB)
        assert training
        return training

    alone, many = reckoned(StackSettings(gpu=("H100 SXM",))), reckoned(four)
    assert (alone.method.gpus, many.method.gpus, reckoned(four, "gpus=2").method.gpus, reckoned(four, "strategy=none").method.gpus) == (
        1,
        4,
        2,
        1,
    )
    assert many == reckoned(four, "gpus=4") and many.on("H100 SXM").likely < alone.on("H100 SXM").likely
    assert needs_of(LORA, fit.as_rented(values(base), four))["gpus"] == 4


def test_looks_at_rows_held_back_are_in_the_time(base: str, tmp_path: Path) -> None:
    def tokens(*sets: str, rows: int = 800, size: int = 800 * 400) -> float:
        training = fit.training_of(values(base, "num_train_epochs=1", *sets), size, rows=rows)
        assert training is not None
        return training.tokens

    assert tokens() == 80_000 and tokens("eval_fraction=0.1", "eval_steps=1000") == 72_000
    # 720 rows are 45 steps of 16: 4 looks at 8,000 tokens, each as dear as a third of a step over them (forward; backward; forward again)
    assert tokens("eval_fraction=0.1") == 72_000 + 4 * 8_000 / 3
    assert tokens("eval_fraction=0.1", "max_steps=20") == 20 * 16 * 2048 + 2 * 8_000 / 3
    held = tmp_path / "held.jsonl"
    held.write_bytes(b"x" * 4000)
    assert tokens(f"eval_file={held}", "eval_steps=25") == 80_000 + 2 * 1_000 / 3
    assert tokens("eval_fraction=0.1", "eval_steps=1", rows=0) == 72_000 + 2 * 8_000 / 3, "rows unknown: as if each were as long as may be"


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Any:
    with Hub({"meta/Open-8B": Model(CONFIGS["Llama-3.1-8B"]), "meta/Gated-8B": Model(CONFIGS["Llama-3.1-8B"], gated=True)}) as server:
        monkeypatch.setenv("HF_ENDPOINT", server.endpoint)
        yield server
        server.shutdown()


def test_what_is_shown_has_parts_gpus_and_ways_as_text_and_as_json(hub: Hub) -> None:
    found = reckon(context(), FitRequest(base="meta/Open-8B", sets=("max_seq_length=8192",), ask=False))
    text = "\n".join(lines(found))
    assert "8.030 billion parameters (exact; its config.json at the Hub)" in text and "weights        16.06" in text
    assert "on 24 GB: --set load_in_4bit=true" in text and max(map(len, text.splitlines()[1:])) <= 80
    told = found.as_json()
    assert told["parameters"] == 8030261248 and told["exact"] and {row["gpu"] for row in told["rows"]} >= {"H100 SXM"}
    json.dumps(told)


@pytest.mark.parametrize(
    ("sets", "says"),
    [
        (("target_modules=q_porj",), "has no q_porj; it has "),
        (("max_seq_length=999999",), "is more than the 131072 positions"),
    ],
)
def test_what_cannot_be_trained_is_refused_when_it_is_asked_about(base: str, sets: tuple[str, ...], says: str) -> None:
    with pytest.raises(UserError, match=says):
        reckon(context(), FitRequest(base=base, sets=sets, ask=False))
    text = "\n".join(lines(reckon(context(), FitRequest(base=base, ask=False))))
    assert (
        "tokens: of the recipe's sample; --data FILE or --set max_steps=... tells yours" in text
        and max(map(len, text.splitlines()[1:])) <= 80
    )


def test_full_weights_and_pairs_are_reckoned_as_such_and_an_adapter_is_named_where_all_weights_are_too_many(base: str) -> None:
    lora, full, pairs = (reckon(context(), FitRequest(base=base, sets=(f"method={one}",), ask=False)) for one in ("lora", "full", "dpo"))
    assert full.trained == 8030261248 and full.vram_gb > 130 and [str(way) for way in full.ways] == ["--set method=lora"]
    assert pairs.memory.logits == 2 * lora.memory.logits and pairs.trained == lora.trained


@pytest.mark.parametrize("target", ["gate_up_proj", "gate_proj", "mlp.gate", "experts.down_proj", r".*self_attn\.[qv]_proj", "lm_head"])
def test_layers_of_a_mixture_are_known_by_each_of_their_names(tmp_path: Path, target: str) -> None:
    (tmp_path / "config.json").write_text(json.dumps(CONFIGS["Qwen3-30B-A3B"]))
    found = look(str(tmp_path))
    assert basemodel.problem(found.config, found.layers, {"base_model": "x", "target_modules": [target]}) is None
    assert basemodel.problem(found.config, found.layers, {"base_model": "x", "target_modules": [target, "fc1"]}) is not None


def test_a_pod_that_is_given_no_token_gets_no_gated_base(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_known")
    with pytest.raises(UserError, match="the pod is given no token"):
        look_up(context(), values("meta/Gated-8B"), StackSettings())
    told = look_up(context(), values("meta/Gated-8B"), StackSettings(pod_secrets=("HF_TOKEN",)))
    assert told is not None and told.gated
    with pytest.raises(UserError, match="target_modules: meta/Open-8B has no k_porj"):
        look_up(context(), values("meta/Open-8B", "target_modules=k_porj"), StackSettings())


def test_what_the_hub_says_now_stops_no_run_that_goes_on_and_a_volume_may_hold_a_closed_base(
    hub: Hub, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert look_up(context(), values("meta/Gone-8B"), StackSettings(), again=True) is None
    monkeypatch.setenv("HF_TOKEN", "hf_known")
    assert look_up(context(), values("meta/Gated-8B"), StackSettings(volume="v"), again=False) is not None
    said = " ".join("".join(capsys.readouterr()).split())
    assert "there is no model" in said and "; the run goes on as it was" in said and "if the network volume holds that base already" in said


def test_the_runs_of_a_sweep_ask_the_hub_once(hub: Hub) -> None:
    for length in (512, 1024, 2048):
        look_up(context(), values("meta/Open-8B", f"max_seq_length={length}"), StackSettings())
    assert len(hub.seen) == 2


def context() -> Any:
    return open_context(ROOT, Ui(json=False), dict(os.environ))
