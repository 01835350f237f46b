"""What the run tells while it works: metrics.jsonl (append-only), status.json (atomic), and the wish to stop."""

import json
import math
import os
import signal
import time

from transformers import TrainerCallback

STOPPED = 75  # exit code: saved and stopped on request, the same command goes on


class Status:
    """status.json under OUTPUT_DIR: one object, replaced as a whole."""

    def __init__(self, output):
        self._path = os.path.join(output, "status.json")
        self._known = {"step": 0, "total_steps": None, "loss": None}

    def write(self, state, message, **known):
        self._known.update(known)
        partial = self._path + ".partial"
        with open(partial, "w", encoding="utf-8") as out:
            json.dump({"state": state, **self._known, "message": message, "time": time.time()}, out)
        os.replace(partial, self._path)


class Stop:
    """Turn TERM and INT into a wish that the training reads between two steps."""

    def __init__(self, status):
        self.wanted = False
        self.training = False
        self._status = status
        signal.signal(signal.SIGTERM, self._on_signal)
        signal.signal(signal.SIGINT, self._on_signal)

    def _on_signal(self, number, frame):
        self.wanted = True
        if not self.training:
            # Nothing is trained yet that is not in a checkpoint already.
            self._status.write("stopped", "stopped on request before the first step")
            print("train: stopped on request", flush=True)
            os._exit(STOPPED)
        print("train: stop requested, saving after this step", flush=True)


class Telemetry(TrainerCallback):
    """Writes one line of metrics a step, and ends the training on request or when the loss is no number."""

    def __init__(self, output, status, stop):
        self._status, self._stop = status, stop
        self._path = os.path.join(output, "metrics.jsonl")
        self._last = None
        self.broken = None
        _cut_torn_line(self._path)

    def on_train_begin(self, args, state, control, **_):
        self._last = (time.monotonic(), state.num_input_tokens_seen)
        self._status.write("training", "training", step=state.global_step, total_steps=state.max_steps)

    def on_step_end(self, args, state, control, **_):
        if self._stop.wanted and state.global_step < state.max_steps:
            control.should_save = control.should_training_stop = True
        return control

    def on_log(self, args, state, control, logs=None, **_):
        if not state.is_world_process_zero or "loss" not in (logs or {}):
            return
        now, tokens = time.monotonic(), state.num_input_tokens_seen
        seconds = max(now - self._last[0], 1e-9)
        line = {
            "time": round(time.time(), 3), "step": state.global_step, "total_steps": state.max_steps,
            "epoch": round(logs.get("epoch", state.epoch or 0), 4), "loss": logs["loss"], "lr": logs.get("learning_rate"),
            "tokens": tokens, "tokens_per_second": round((tokens - self._last[1]) / seconds, 1), "grad_norm": logs.get("grad_norm"),
        }
        self._last = (now, tokens)
        finite = math.isfinite(line["loss"])
        append_line(self._path, {key: value for key, value in line.items() if value is not None and (finite or key != "loss")})
        self._status.write("training", "training", step=state.global_step, total_steps=state.max_steps, loss=line["loss"] if finite else None)
        print(f"train: step {state.global_step}/{state.max_steps}  loss {line['loss']:.4f}  {line['tokens_per_second']:.0f} tokens/s", flush=True)
        if not finite:
            self.broken = f"the loss is {line['loss']} at step {state.global_step}: lower learning_rate, or look at the data"
            control.should_training_stop, control.should_save = True, False


def append_line(path, value):
    """Append one whole line by one write."""
    data = (json.dumps(value) + "\n").encode()
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    try:
        os.write(handle, data)
    finally:
        os.close(handle)


def _cut_torn_line(path):
    # A crash in the middle of a write leaves half a line; readers take whole lines only, so cutting it moves nobody.
    if os.path.exists(path):
        with open(path, "rb+") as file:
            data = file.read()
            if data and not data.endswith(b"\n"):
                file.truncate(data.rfind(b"\n") + 1)
