"""Stands in for the command ``simpletuner``: it reads and writes the same files, and trains in a child of its own session, as that does."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path


def command() -> int:
    """Begin the training as SimpleTuner's command does; end its group on an interrupt."""
    child = subprocess.Popen([sys.executable, __file__, "child"], start_new_session=True)
    try:
        return child.wait()
    except KeyboardInterrupt:
        os.killpg(child.pid, signal.SIGTERM)
        child.wait()
        return 130


def training() -> None:
    """Take the steps that are left, each with its line of metrics and its checkpoint."""
    config = json.loads(Path("config/config.json").read_text())
    backends = json.loads(Path(config["data_backend_config"]).read_text())
    output, workspace = Path(config["output_dir"]), Path(os.environ["WORKSPACE"])
    captions = [path.read_text() for path in sorted(Path(backends[0]["instance_data_dir"]).rglob("*.txt"))]
    seen = {
        "processes": os.environ["TRAINING_NUM_PROCESSES"], "precision": os.environ["MIXED_PRECISION"], "captions": captions,
        "sitecustomize": Path(os.environ.get("PYTHONPATH", "").split(":")[0], "sitecustomize.py").is_file(),
    }  # fmt: skip
    (output / "seen.json").write_text(json.dumps(seen))
    done = max([int(path.name.split("-")[1]) for path in output.glob("checkpoint-*")], default=0)
    for step in range(done + 1, config["max_train_steps"] + 1):
        metrics = {"train_loss": 2.0 ** (1 - step), "learning_rate": 0.1}
        stamp = {"schema_version": 1, "step": step, "timestamp": "2026-11-30T14:14:11.078736+00:00"}
        with (output / "training_metrics.jsonl").open("a") as file:
            file.write(
                json.dumps(stamp | {"metrics": metrics}) + "\n" + json.dumps(stamp | {"metrics": {"system/cpu_percent": 1.0}}) + "\n"
            )
        (output / f"checkpoint-{step}").mkdir()
        (output / f"checkpoint-{step}/.guard").write_text("complete\n")
        wait = workspace / "wait-at"
        if wait.exists() and int(wait.read_text()) == step:
            (workspace / ".waiting").write_text(str(os.getpid()))
            (workspace / ".waiting").rename(workspace / "waiting")
            time.sleep(60)
    (output / "pytorch_lora_weights.safetensors").write_text("weights")


if __name__ == "__main__":
    if "child" in sys.argv:
        training()
    else:
        sys.exit(command())
