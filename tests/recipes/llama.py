"""GGUF files that recipe gguf wrote as on a pod, and what another, newer build of llama.cpp says with them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from tests.recipes.conftest import ROOT
from tests.recipes.trainings import packages_apart, python
from trainyard import config
from trainyard.recipes import bundle, venvs
from trainyard.recipes.contract import load_recipe
from trainyard.recipes.data import inspect
from trainyard.recipes.values import resolve

_SERVER = ("xllamacpp==2026.10.11549",)
_ANSWER = """
import json, sys
import xllamacpp
model, adapter, prompt, tokens = sys.argv[1:]
params = xllamacpp.CommonParams()
params.model.path, params.n_ctx, params.n_gpu_layers, params.cpuparams.n_threads, params.warmup = model, 256, 0, 1, False
if adapter:
    params.lora_adapters = [xllamacpp.CommonAdapterLoraInfo(adapter, 1.0)]
server = xllamacpp.Server(params)
done = server.handle_completions({"prompt": json.loads(prompt), "temperature": 0, "max_tokens": int(tokens)})
print(json.dumps(done["choices"][0]["text"]), flush=True)
"""
_MODEL = """
import json, sys, torch
from transformers import AutoModelForCausalLM, AutoTokenizer
folder, adapter, question, tokens = sys.argv[1:]
tokenizer = AutoTokenizer.from_pretrained(adapter or folder)
model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
if adapter:
    from peft import PeftModel
    model = PeftModel.from_pretrained(model, adapter)
asked = [{"role": "user", "content": question}]
ids = tokenizer.apply_chat_template(asked, add_generation_prompt=True, return_tensors="pt", return_dict=True)
said = model.generate(**ids, max_new_tokens=int(tokens), do_sample=False)[0]
answer = tokenizer.decode(said[ids["input_ids"].shape[1] :], skip_special_tokens=True)
print(json.dumps([ids["input_ids"][0].tolist(), answer]))
"""


def environment() -> Path:
    """Return the folder with the environment of templates/gguf/cpu.lock, made where it is not there."""
    recipe = load_recipe(ROOT, "gguf")
    return venvs.ensure(recipe.locks["cpu"], config.places(), print, imports=recipe.imports).parent


def written(folder: Path, source: Path, base: str, *sets: str) -> tuple[int, str, Path]:
    """Write a GGUF as on a pod; return exit code, log, and what it left."""
    recipe = load_recipe(ROOT, "gguf")
    values = resolve(recipe, sets=[f"base_model={base}", *sets])
    data = inspect(str(source), recipe, values=values)
    bundle.build(recipe, values, data, folder / "run")
    bundle.place_data(data, folder / "input")
    env = {"PATH": os.environ["PATH"], "HOME": str(folder), "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
    env["TRAINYARD_ENVS"] = str(environment())
    done = subprocess.run(["sh", folder / "run" / "run.sh"], env=env, capture_output=True, text=True, check=False)
    return done.returncode, done.stdout + done.stderr, folder / "output"


def said_by_the_model(envs: Path, folder: Path, adapter: Path | None, question: str, tokens: int) -> tuple[list[int], str]:
    """Return the tokens of a question by the model's template, and its likeliest answer, by transformers."""
    asked, said = _run(python(envs), _MODEL, {}, str(folder), str(adapter or ""), question, str(tokens))
    return asked, said


def said_by_llama(envs: Path, file: Path, adapter: Path | None, prompt: list[int], tokens: int) -> str:
    """Return the likeliest answer by llama.cpp; skips where its build cannot be had."""
    path = {"PYTHONPATH": str(packages_apart(envs, _SERVER))}
    said: str = _run(Path(sys.executable), _ANSWER, path, str(file), str(adapter or ""), json.dumps(prompt), str(tokens))
    return said


def _run(program: Path, code: str, env: dict[str, str], *arguments: str) -> Any:
    env = {"PATH": os.environ["PATH"], "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1", **env}
    done = subprocess.run([program, "-c", code, *arguments], env=env, stdout=subprocess.PIPE, text=True, check=True)
    return json.loads(done.stdout.strip().splitlines()[-1])
