"""What the trainer calls while it works."""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable, Sequence
from typing import Any

import ranks
from checkpoints import mark
from gpus import Gpus
from telemetry import Status, Stop, append_line, cut_torn_line
from transformers import TrainerCallback

SHOWN = 16  # rows that are named


class Marker(TrainerCallback):
    """Marks each checkpoint when the trainer has written all of it."""

    def on_save(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        folder = os.path.join(args.output_dir, f"checkpoint-{state.global_step}")
        ranks.wait()  # each process writes files of its own into it
        if state.is_world_process_zero and os.path.isdir(folder):
            mark(folder)


class Telemetry(TrainerCallback):
    """Writes one line of metrics a step, and ends the training on request or when loss or gradient is no number."""

    rows_of_step: Callable[[], Sequence[str]] = staticmethod(lambda: ())
    """Tells which rows the loss of this step is no number for."""

    def __init__(self, output: str, status: Status, stop: Stop) -> None:
        self._status, self._stop = status, stop
        self._path = os.path.join(output, "metrics.jsonl")
        self._last, self._gpus = (0.0, 0), Gpus()
        self.broken: str | None = None
        cut_torn_line(self._path)

    def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self._last = (time.monotonic(), state.num_input_tokens_seen)
        self._status.write("training", "training", step=state.global_step, total_steps=state.max_steps)
        if state.is_world_process_zero:
            self._gpus.watch()

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> Any:
        if ranks.is_any(self._stop.wanted) and state.global_step < state.max_steps:
            control.should_save = control.should_training_stop = True
        return control

    def on_log(self, args: Any, state: Any, control: Any, logs: dict[str, Any] | None = None, **_: Any) -> None:
        if logs is not None and "eval_loss" in logs:
            self._held_back(state, logs)
        if logs is None or "loss" not in logs:
            return
        now, tokens = time.monotonic(), state.num_input_tokens_seen
        seconds = max(now - self._last[0], 1e-9)
        line: dict[str, Any] = {
            "time": round(time.time(), 3),
            "step": state.global_step,
            "total_steps": state.max_steps,
            "epoch": round(logs.get("epoch", state.epoch or 0), 4),
            "loss": logs["loss"],
            "lr": logs.get("learning_rate"),
            "tokens": tokens,
            "tokens_per_second": round((tokens - self._last[1]) / seconds, 1),
            "grad_norm": logs.get("grad_norm"),
            **{name: value for name, value in logs.items() if name.startswith("reward_")},
            **self._gpus.take(),
        }
        self._last = (now, tokens)
        broken = next((name for name in ("loss", "grad_norm") if not math.isfinite(line[name] or 0.0)), None)
        if state.is_world_process_zero:
            append_line(self._path, {key: value for key, value in line.items() if value is not None})
            finite = math.isfinite(line["loss"])
            known = {"step": state.global_step, "total_steps": state.max_steps, "loss": line["loss"] if finite else None}
            self._status.write("training", "training", **known)
            print(
                f"train: step {state.global_step}/{state.max_steps}  loss {line['loss']:.4f}  {line['tokens_per_second']:.0f} tokens/s",
                flush=True,
            )
        if broken:
            self.broken = self._why(broken, line[broken], state.global_step)
            control.should_training_stop, control.should_save, control.should_evaluate = True, False, False

    def _held_back(self, state: Any, logs: dict[str, Any]) -> None:
        if state.is_world_process_zero:
            step = {"time": round(time.time(), 3), "step": state.global_step, "total_steps": state.max_steps}
            append_line(self._path, {**step, **{name: value for name, value in logs.items() if name.startswith("eval_")}})
            print(f"train: step {state.global_step}/{state.max_steps}  loss of the rows held back {logs['eval_loss']:.4f}", flush=True)

    def _why(self, name: str, value: float, step: int) -> str:
        places = list(dict.fromkeys(self.rows_of_step()))
        more = f", ... ({len(places)} rows)" if len(places) > SHOWN else ""
        what = "loss" if name == "loss" else "length of the gradient"
        of = f", with {', '.join(places[:SHOWN])}{more}: lower learning_rate, or look at these rows"
        return f"the {what} is {value} at step {step}" + (of if places else ": lower learning_rate, or look at the data")
