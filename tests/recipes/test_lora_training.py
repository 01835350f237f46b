"""One real training of recipe lora: the loss falls, a killed, stopped and moved one has the same losses and weights, the adapter loads.

Needs the recipe's environment (made by any local run): TRAINYARD_ENVS, else that of this user's local cloud.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.recipes.conftest import ROOT
from tests.recipes.trainings import Training, environment, loaded_environment, python
from trainyard.recipes.contract import load_recipe

LOAD = """
import json, sys, torch
from peft import PeftModel
from transformers import AutoModelForCausalLM, AutoTokenizer
base = AutoModelForCausalLM.from_pretrained("base")
tokenizer = AutoTokenizer.from_pretrained(".")
asked = [{"role": "user", "content": "Where does Hazel stand?"}]
ids = tokenizer.apply_chat_template(asked, add_generation_prompt=True, return_tensors="pt", return_dict=True)
plain = base(**ids).logits.detach().clone()
adapted = PeftModel.from_pretrained(base, ".")(**ids).logits.detach()
sys.path.insert(0, sys.argv[1] + "/run")
import chat, samples
from transformers import GenerationConfig
config = json.load(open(sys.argv[1] + "/run/config.json"))
found = samples.encode(sys.argv[1] + "/run", sys.argv[1] + "/input", config, chat.Encoder(tokenizer))
batch = samples.collate(tokenizer.pad_token_id)([found[len(found) - 1], found[0]])
said = [tokenizer.decode([label for label in row if label != -100]) for row in batch["labels"].tolist()]
first = json.loads(open(sys.argv[1] + "/input/rows.jsonl").readline())
asked = [{"role": "user", "content": first["instruction"] + "\\n\\n" + first["input"]}]
prompt = tokenizer.apply_chat_template(asked, add_generation_prompt=True, return_dict=True)["input_ids"]
print(json.dumps({
    "finite": bool(torch.isfinite(adapted).all()), "moved": float((adapted - plain).abs().max()), "said": said,
    "prompt": [batch[name][1].tolist()[:len(prompt)] for name in ("input_ids", "labels")] == [list(prompt), [-100] * len(prompt)],
    "stops": [tokenizer.decode([number]) for number in GenerationConfig.from_pretrained(".").eos_token_id],
    "base": json.load(open("adapter_config.json"))["base_model_name_or_path"],
}))
"""
# Beside the sample: a row that calls a tool, one that is not learnt, one that is flawed, and a conversation of which one answer counts.
ODD = [
    {
        "messages": [
            {"role": "user", "content": "Warm?"},
            {"role": "assistant", "tool_calls": [{"function": {"name": "w", "arguments": "{}"}}]},
        ]
    },
    {"text": "never learnt", "weight": 0},
    {"prompt": "a", "completion": ""},
    {
        "messages": [
            {"role": "user", "content": "Colour?"},
            {"role": "assistant", "content": "BAD", "weight": 0},
            {"role": "user", "content": "Properly."},
            {"role": "assistant", "content": "Blue, sir."},
        ]
    },
]


SETS = ("max_steps=8", "save_steps=3", "on_bad_row=skip", "warmup_ratio=0.2")


@pytest.fixture
def loaded_envs() -> Iterator[Path]:
    with loaded_environment(environment()) as folder:
        yield folder


def rows() -> list[dict[str, Any]]:
    recipe = load_recipe(ROOT, "lora")
    return [json.loads(line) for line in (recipe.folder / str(recipe.sample)).read_text().splitlines()] + ODD


@pytest.mark.torch
@pytest.mark.timeout(500)
def test_a_killed_stopped_and_moved_training_ends_with_the_same_losses_and_weights_and_an_adapter_that_loads(
    tmp_path: Path, loaded_envs: Path
) -> None:
    straight = Training(tmp_path / "straight", environment(), rows(), *SETS)
    killed = Training(tmp_path / "killed", loaded_envs, rows(), *SETS)
    both = [straight.start(), killed.start()]
    while both[1].poll() is None and "step 5/8" not in killed.log:
        time.sleep(0.05)
    os.killpg(both[1].pid, signal.SIGKILL)
    assert both[1].wait() == -signal.SIGKILL, killed.log
    assert both[0].wait(200) == 0, straight.log

    again = killed.start()
    while again.poll() is None and "going on from" not in killed.log:
        time.sleep(0.01)
    time.sleep(0.05)
    os.kill(again.pid, signal.SIGTERM)  # what the watchdog sends at the lease's stop
    assert again.wait(200) == 75, killed.log
    step = int(re.search(r"train: stopped at step (\d), saved", killed.log)[1])  # type: ignore[index]
    # To another pod comes the checkpoint alone: what it was made with, and the metrics so far, lie in it.
    moved = killed.elsewhere(tmp_path / "moved", step).done()
    assert f"going on from checkpoint-{step}" in moved.log and 3 < step < 8
    assert moved.losses == straight.losses and moved.steps == straight.steps == list(range(1, 9))
    assert moved.weights == straight.weights
    assert straight.losses[8][0] < straight.losses[1][0] - 0.3
    rates = [line["lr"] for line in straight.metrics]
    assert rates[0] < rates[1] > rates[7]  # warmup_ratio 0.2 of 8 steps

    begun = Training(tmp_path / "begun", loaded_envs, rows(), *SETS, "max_steps=1", "init_from=ann/first/1")
    shutil.copytree(straight.model, tmp_path / "begun" / "init", ignore=shutil.ignore_patterns("base"))
    shutil.copy(tmp_path / "straight" / "output" / "result.json", tmp_path / "begun" / "init")
    begun.done()
    assert "starting from the adapter of ann/first/1" in begun.log and begun.losses[1][0] < straight.losses[1][0] - 0.3

    result = straight.result
    assert (result["steps"], result["final_loss"], result["tokens"]) == (8, *straight.losses[8])
    load = tmp_path / "load.py"
    load.write_text(LOAD)
    adapter = subprocess.run(
        [python(loaded_envs), load, tmp_path / "straight"],
        cwd=straight.model,
        env={"PATH": os.environ["PATH"], "HF_HUB_OFFLINE": "1"},
        capture_output=True,
        text=True,
    )
    assert adapter.returncode == 0 and "missing" not in adapter.stderr.lower(), adapter.stderr
    found = json.loads(adapter.stdout.splitlines()[-1])
    assert found["finite"] and found["moved"] > 0.1
    assert found["prompt"] and found["said"] == [
        "Blue, sir.<|im_end|>",
        "Crew of Clementine: take the apples to platform two on Sunday.<|im_end|>",
    ]
    assert (found["stops"], found["base"]) == (["<|im_end|>"], "tiny-qwen3-moe")
    report = json.loads((tmp_path / "straight" / "output" / "data-report.json").read_text())
    assert {name: report[name] for name in ("rows", "samples", "not_learnt", "flawed", "cut", "dropped")} == {
        "rows": 204, "samples": 202, "not_learnt": 1, "flawed": 1, "cut": 0, "dropped": 0,
    }  # fmt: skip
    assert report["places"] == {"not_learnt": ["rows.jsonl:202"], "flawed": ["rows.jsonl:203"]}
