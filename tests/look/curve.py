"""A training that a person looks at: its loss falls, it prints, it keeps checkpoints and goes on from one."""

from __future__ import annotations

import json
import math
import os
import random
import signal
import sys
import time
from pathlib import Path


def main(steps: int, pause: float) -> int:
    """Train so many steps; 75: it was told to stop, and has saved."""
    out, told = Path(os.environ["OUTPUT_DIR"]), []
    signal.signal(signal.SIGTERM, lambda *_: told.append(True))
    begin = int(Path(os.environ.get("TRAINYARD_RESUME") or "step-0").name.partition("-")[2])
    random.seed(begin)
    print("reading <b>rows</b> & <script>document.title = 'run'</script>", flush=True)
    for step in range(begin + 1, steps + 1):
        row = {"step": step, "total_steps": steps, "time": time.time(), **figures(step, steps)}
        with (out / "metrics.jsonl").open("a") as file:
            file.write(json.dumps(row) + "\n")
        print(f"step {step}/{steps}  loss {row['loss']:.4f}", flush=True)
        if told or step % 20 == 0:
            keep(out / "checkpoints", step)
        if told:
            return 75
        time.sleep(pause)
    (out / "model" / "weights.bin").write_bytes(random.randbytes(40_000))
    return 0


def figures(step: int, steps: int) -> dict[str, float]:
    """Return what a training might tell."""
    loss = 1.1 + 2.1 * math.exp(-3 * step / steps) + random.gauss(0, 0.04)
    more = {"eval_loss": round(loss + 0.08, 4)} if step % 10 == 0 else {}
    speed, used, busy = 1850 + random.gauss(0, 40), 61 + random.random(), 93 + random.random() * 5
    rate = 2e-4 * min(1.0, 10 * step / steps) * (1 - 0.9 * step / steps)
    return {"loss": round(loss, 4), "lr": rate, "tokens_per_second": speed, "gpu_percent": busy, "gpu_memory_gb": used, **more}


def keep(place: Path, step: int) -> None:
    """Leave a checkpoint, whole by one rename."""
    draft = place / f".step-{step}"
    draft.mkdir(parents=True)
    (draft / "state").write_text(str(step))
    draft.rename(place / f"step-{step}")


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]), float(sys.argv[2])))
