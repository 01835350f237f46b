"""A repository laid out as nanochat is, whose programs leave in a moment what the real ones leave in hours, and runs on it.

Behind the arguments that the real programs have, these take --fail=HOW: code, silence (code 0 and nothing left), wait (until it is killed).
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from tests.recipes.conftest import ROOT
from trainyard.recipes import bundle
from trainyard.recipes.contract import load_recipe
from trainyard.recipes.data import inspect
from trainyard.recipes.values import resolve

_SCRIPT = """#!/bin/bash
export NANOCHAT_BASE_DIR="$HOME/.cache/nanochat"
mkdir -p $NANOCHAT_BASE_DIR
[ -d ".venv" ] || uv venv
uv sync --extra gpu
source .venv/bin/activate
[ -n "$WANDB_RUN" ] || WANDB_RUN=dummy
python -m nanochat.report reset
python -m nanochat.dataset -n 8
python -m nanochat.dataset -n 170 &
SHARDS=$!
python -m scripts.tok_train
python -m scripts.tok_eval
wait $SHARDS
torchrun --standalone --nproc_per_node=8 -m scripts.base_train -- --depth=24 --device-batch-size=16 --fp8 --run=$WANDB_RUN
torchrun --standalone --nproc_per_node=8 -m scripts.base_eval -- --device-batch-size=16
curl -L -o $NANOCHAT_BASE_DIR/identity_conversations.jsonl file://ADDRESSES/identity_conversations.jsonl
torchrun --standalone --nproc_per_node=8 -m scripts.chat_sft -- --device-batch-size=16 --run=$WANDB_RUN
torchrun --standalone --nproc_per_node=8 -m scripts.chat_eval -- -i sft
python -m nanochat.report generate
"""
_COMMON = """
import os, sys, time
BASE = os.environ["NANOCHAT_BASE_DIR"]
said = dict(word.lstrip("-").partition("=")[::2] for word in sys.argv[1:])
with open(BASE + "/calls", "a") as out:
    out.write(os.path.basename(sys.argv[0]) + " " + " ".join(sys.argv[1:]) + "\\n")

def leave(path, text="x"):
    os.makedirs(os.path.dirname(BASE + "/" + path), exist_ok=True)
    with open(BASE + "/" + path, "w") as out:
        out.write(text)

def fail(at):
    if said.get("fail", "").partition(":")[2] in ("", at):
        how = said.get("fail", "").partition(":")[0]
        if how == "wait":
            time.sleep(600)
        if how in ("code", "silence"):
            print("[rank0]: x.BadError: a reason\\ny.ChildFailedError:\\n====" if how == "code" else "", flush=True)
            sys.exit(3 if how == "code" else 0)

def line(step, steps, loss):
    of = f"/{steps:05d}" if steps else ""
    speed = "lrm: 1.00 | dt: 2.00ms | tok/sec: 16,448 | bf16_mfu: 12.50 | epoch: 1"
    print(f"step {step:05d}{of} ({step * 5:.2f}%) | loss: {loss:.6f} | {speed}", flush=True)

def save(kind, step, tag):
    for name in (f"model_{step:06d}.pt", f"optim_{step:06d}_rank0.pt"):
        leave(f"{kind}/{tag}/{name}", f"{kind} {step} " * 90000)
    leave(f"{kind}/{tag}/meta_{step:06d}.json", "{}")
"""
_FILES = {
    "nanochat/report.py": """
from nanochat.stub import *
if sys.argv[1] == "reset":
    leave("report/header.md", "begun")
else:
    leave("report/report.md", "# The report of upstream\\n")
""",
    "nanochat/dataset.py": """
BASE_URL = "file://ADDRESSES"
from nanochat.stub import *
for number in range(int(said.get("num-files", 8)) + 1):
    leave(f"base_data_climbmix/shard_{number:05d}.parquet")
""",
    "scripts/tok_train.py": """
from nanochat.stub import *
leave("tokenizer/tokenizer.pkl"), leave("tokenizer/token_bytes.pt")
""",
    "scripts/tok_eval.py": "sys = __import__('sys'); sys.exit(1)",
    "scripts/base_train.py": """
from nanochat.stub import *
steps, tag, first = 20, "d" + said["depth"], max(0, int(said.get("resume-from-step", -1)))
print("total                   : 1,384,120,320")
for step in range(first, steps + 1):
    if step % 10 == 0:
        print(f"Step {step:05d} | Validation bpb: {4 - step / 10:.6f}", flush=True)
    if step == steps or (step and step != first and step % int(said["save-every"]) == 0):
        save("base_checkpoints", step, tag)
    if step == steps:
        break
    fail(str(step))
    line(step, steps, 7 - step / 10)
print("Minimum validation bpb: 2.000000")
""",
    "scripts/base_eval.py": """
EVAL_BUNDLE_URL = "file://ADDRESSES/eval_bundle.zip"
from nanochat.stub import *
fail("")
leave("base_eval/base_model_000020.csv", "Task,Accuracy\\n")
print("val bpb: 2.000000\\nCORE metric: 0.2626", flush=True)
""",
    "scripts/chat_sft.py": """
from nanochat.stub import *
tag = os.listdir(BASE + "/base_checkpoints")[0]
assert os.path.exists(f"{BASE}/base_checkpoints/{tag}/model_000020.pt")
fail("")
for step in range(1, 21):
    line(step, 0, 2 - step / 20)
save("chatsft_checkpoints", 20, tag)
""",
    "scripts/chat_eval.py": """
from nanochat.stub import *
assert os.listdir(BASE + "/chatsft_checkpoints")
fail("")
print("ARC-Easy accuracy: 37.50%\\nGSM8K accuracy: 2.50%", flush=True)
""",
    "scripts/chat_web.py": """
import http.server, sys
said = dict(word.lstrip("-").partition("=")[::2] for word in sys.argv[1:])
with http.server.ThreadingHTTPServer((said["host"], int(said["port"])), http.server.SimpleHTTPRequestHandler) as server:
    server.serve_forever()
""",
}


def repository(folder: Path, *without: str, **other: str) -> str:
    """Make the repository in a folder, less some files and with other texts of its modules; return its commit."""
    addresses, repo = folder / "addresses", folder / "nanochat"
    addresses.mkdir(parents=True)
    (addresses / "identity_conversations.jsonl").write_text('[{"role": "user", "content": "Who are you?"}]\n')
    (addresses / "shard_00000.parquet").write_text("x")
    (addresses / "eval_bundle.zip").write_text("x")
    files = {"runs/speedrun.sh": _SCRIPT, "nanochat/__init__.py": "", "nanochat/stub.py": _COMMON, "scripts/__init__.py": "", **_FILES}
    files |= {name.replace("__", "/") + ".py": text for name, text in other.items()}
    for name, text in files.items():
        if name not in without:
            (repo / name).parent.mkdir(parents=True, exist_ok=True)
            (repo / name).write_text(text.replace("ADDRESSES", str(addresses)))
    (repo / ".gitignore").write_text(".venv/\n__pycache__/\n")
    who = ("-c", "user.name=t", "-c", "user.email=t@localhost")
    for words in (("init", "-q"), ("add", "."), (*who, "commit", "-q", "-m", "as upstream")):
        subprocess.run(["git", *words], cwd=repo, check=True)
    return subprocess.run(["git", "rev-parse", "HEAD"], cwd=repo, check=True, capture_output=True, text=True).stdout.strip()


class Speedrun:
    """A rendered run of recipe nanochat with its workspace."""

    def __init__(self, folder: Path, source: Path, commit: str, *sets: str, data: Path | None = None) -> None:
        recipe = load_recipe(ROOT, "nanochat")
        self.folder, self.output = folder, folder / "output"
        known = (f"repo=file://{source}/nanochat", f"commit={commit}", f"python={sys.executable}", "size=tiny")
        values = resolve(recipe, sets=[*known, *sets])
        found = inspect(str(data) if data else None, recipe, values=values)
        bundle.build(recipe, values, found, folder / "run")
        bundle.place_data(found, folder / "input")

    def start(self, **env: str) -> subprocess.Popen[bytes]:
        known = {"PATH": os.environ["PATH"], "HOME": str(self.folder), **env}
        with (self.folder / "log").open("ab") as log:
            return subprocess.Popen(["sh", self.folder / "run" / "run.sh"], env=known, stdout=log, stderr=log, start_new_session=True)

    def ends(self, code: int, **env: str) -> Speedrun:
        """Run to the end, which must have this exit code."""
        assert self.start(**env).wait() == code, self.log
        return self

    @property
    def log(self) -> str:
        return (self.folder / "log").read_text()

    @property
    def metrics(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in (self.output / "metrics.jsonl").read_text().splitlines()]

    @property
    def status(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads((self.output / "status.json").read_text())
        return found

    @property
    def checkpoints(self) -> list[str]:
        return sorted(path.name for path in (self.output / "checkpoints").iterdir())

    @property
    def calls(self) -> list[str]:
        """What was really run, as program and arguments."""
        return (self.folder / "nanochat" / "home" / ".cache" / "nanochat" / "calls").read_text().splitlines()
