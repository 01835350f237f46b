"""One training by SimpleTuner's own command: its files written, its metrics told as ours, a stop handed on, its end judged."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

from collection import NoImages, gather
from settings import TINY, RunPlaces, WrongConfig, adopt, write

REFUSED, STOPPED = 2, 75
BETWEEN = 0.5
"""Seconds between two looks at what SimpleTuner has written."""
METRICS = "training_metrics.jsonl"
_EARLY: list[int] = []
"""Signals that came before there was anybody to hand them on to."""


def main() -> int:
    """Train; return the exit code: SimpleTuner's own, 2 for what is wrong before it begins, 75 for a stop."""
    run, output, workspace = (Path(os.environ[name]) for name in ("RUN_DIR", "OUTPUT_DIR", "WORKSPACE"))
    values = json.loads((run / "config.json").read_text(encoding="utf-8"))
    work, result = workspace / "simpletuner", output / "model"
    result.mkdir(parents=True, exist_ok=True)
    try:
        images = gather(Path(os.environ["INPUT_DIR"]), work / "images", values)
        print(f"data: {len(images)} images", flush=True)
        config = _configure(values, work, result)
    except (NoImages, WrongConfig) as error:
        print(f"refused: {error}", file=sys.stderr, flush=True)
        return REFUSED
    _drop_half(result)
    return _finish(_follow(_start(values, config, work), Following(result / METRICS, output / "metrics.jsonl", config)))


def _configure(values: dict[str, Any], work: Path, result: Path) -> dict[str, Any]:
    """Write SimpleTuner's files; return its config."""
    base = None
    if not values.get("config_dir") and values["base_model"] == TINY:
        from tiny_sdxl import make

        base = str(work / TINY)
        make(base, values["seed"])
    places = RunPlaces(str(work / "images"), str(result), str(work / "cache"), str(work / "config"), base)
    if values.get("config_dir"):
        # What its config names beside the two files is found where a checkout of SimpleTuner has it.
        shutil.copytree(os.environ["CODE_DIR"], places.config, dirs_exist_ok=True)
        for line in adopt(places.config, places):
            print(f"config: {line}", flush=True)
    else:
        write(values, places)
    config: dict[str, Any] = json.loads((work / "config" / "config.json").read_text(encoding="utf-8"))
    return config


def _drop_half(result: Path) -> None:
    """Remove checkpoints that a killed run has left half written: SimpleTuner would go on from the newest, whatever it holds."""
    for folder in result.glob("checkpoint-*"):
        if not (folder / ".guard").is_file():
            shutil.rmtree(folder)


def _start(values: dict[str, Any], config: dict[str, Any], work: Path) -> subprocess.Popen[bytes]:
    """Begin SimpleTuner's command beside its config."""
    env = dict(os.environ) | {"CONFIG_BACKEND": "json", "SIMPLETUNER_DISABLE_COLORS": "true", "PYTHONUNBUFFERED": "1"}
    env |= {"TRAINING_NUM_PROCESSES": str(max(1, values["gpus"])), "MIXED_PRECISION": str(config.get("mixed_precision", "bf16"))}
    env["PATH"] = os.pathsep.join([os.path.dirname(sys.executable), env.get("PATH", os.defpath)])
    if values["device"] == "cpu":
        env["CUDA_VISIBLE_DEVICES"] = ""
    if shutil.which("nvidia-smi") is None or values["device"] == "cpu":
        shutil.copyfile(Path(__file__).with_name("no_gpu.py"), work / "sitecustomize.py")
        env["PYTHONPATH"] = os.pathsep.join(filter(None, [str(work), env.get("PYTHONPATH", "")]))
    # A shell that runs something in the background has interrupts ignored, and so would the command. A stop goes to the whole group of
    # this process: the command would die of it at once, and leave its training behind.
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda number, frame: _EARLY.append(number))
    return subprocess.Popen(
        [shutil.which("simpletuner", path=env["PATH"]) or "simpletuner", "train"], cwd=work, env=env, start_new_session=True
    )


class Following:
    """Tells SimpleTuner's metrics as every recipe's are."""

    def __init__(self, source: Path, target: Path, config: dict[str, Any]) -> None:
        self._source, self._target, self._total = source, target, int(config.get("max_train_steps") or 0)
        # What stands there was told before this run went on.
        self._told = source.stat().st_size if source.exists() and target.exists() else 0
        self._trouble = ""

    def tell(self) -> None:
        """Append what is new; a line that is still being written waits."""
        if not self._source.exists():
            return
        try:
            with self._source.open("rb") as source:
                source.seek(self._told)
                new = source.read()
            whole = new[: new.rfind(b"\n") + 1]
            lines = [json.dumps(line) + "\n" for line in self._ours(whole)]
            if lines:
                with self._target.open("a", encoding="utf-8") as target:
                    target.writelines(lines)
            self._told += len(whole)
        except OSError as error:
            # A disk that is full ends a training by SimpleTuner's own word, not because of what is told of it.
            if self._trouble != str(error):
                self._trouble = str(error)
                print(f"metrics: {error.strerror or error}", file=sys.stderr, flush=True)

    def _ours(self, lines: bytes) -> Iterator[dict[str, Any]]:
        for text in lines.splitlines():
            try:
                record = json.loads(text)
                measured = record["metrics"].items()
                moment = datetime.fromisoformat(record["timestamp"]).timestamp()
            except (ValueError, KeyError, TypeError, AttributeError):
                continue  # a run that was killed has left half a line, and the next one wrote on behind it
            metrics = {name: value for name, value in measured if not name.startswith("system/")}
            loss = metrics.pop("train_loss", None)
            if metrics or loss is not None:
                named = {"loss": loss} if loss is not None else {}
                total = {"total_steps": self._total} if self._total else {}
                yield {"step": record.get("step"), **total, **named, **metrics, "time": moment}


def _follow(process: subprocess.Popen[bytes], following: Following) -> tuple[int, bool]:
    """Wait for SimpleTuner, telling its metrics; return its exit code and whether it was asked to stop."""
    asked: list[int] = []

    def stop(number: int, frame: object) -> None:
        # Its command ends its own children on an interrupt; a TERM would leave them behind, in a session of their own.
        asked.append(number)
        process.send_signal(signal.SIGINT)

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, stop)
    if _EARLY:
        stop(_EARLY[0], None)
    while process.poll() is None:
        following.tell()
        time.sleep(BETWEEN)
    following.tell()
    return process.returncode, bool(asked)


def _finish(end: tuple[int, bool]) -> int:
    code, asked = end
    if asked and code != 0:
        return STOPPED
    return code if code >= 0 else 128 - code


if __name__ == "__main__":
    sys.exit(main())
