"""Trainyard's wrapper on Replicate: runs the command of a create request, as a training or as a prediction. Made into a model by cog.

It holds nothing of anybody's: command, variables and secrets come with each request, and the command proves what it fetches by a hash.
"""

import contextlib
import json
import os
import re
import signal
import subprocess
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime

from cog import BaseModel, BasePredictor, Input, Path, Secret

GRACE = 120.0
"""Seconds after the lease's end: by then the run's own watchdog has ended it, or does not live."""
SAVE = 20.0
"""Seconds in which a command that is asked to end may save."""
POD = Input(description="Name of the pod: whose it is")
HARDWARE = Input(description="What the model is said to run on, and its price: '1x L40S at $3.5100/h'")
COMMAND = Input(description="JSON list: the program and its words")
ENV = Input(description="JSON object: variables, no secrets")
SECRETS = Input(description="JSON object: variables that nobody else may see")


class TrainingOutput(BaseModel):
    """What a training leaves at Replicate: a note, for the result is in the run's bucket."""

    weights: Path


class Predictor(BasePredictor):
    """The wrapper as a prediction."""

    def predict(self, pod: str = POD, hardware: str = HARDWARE, command: str = COMMAND, env: str = ENV, secrets: Secret = SECRETS) -> str:
        """Run the command to its end."""
        run(hardware, command, env, secrets)
        return f"{pod} has ended; its result is in its bucket"


def train(
    pod: str = POD, hardware: str = HARDWARE, command: str = COMMAND, env: str = ENV, secrets: Secret = SECRETS
) -> TrainingOutput:  # fmt: skip
    """Run the command to its end."""
    run(hardware, command, env, secrets)
    note = Path(tempfile.mkdtemp()) / "note.json"
    note.write_text(json.dumps({"pod": pod, "result": "in the run's bucket"}))
    return TrainingOutput(weights=note)


def run(hardware: str, command: str, env: str, secrets: Secret) -> None:
    """Run a command until it or its lease ends; raises RuntimeError where it fails, so that the job counts as failed."""
    check_hardware(hardware)
    given = {**os.environ, **json.loads(env), **json.loads(secrets.get_secret_value())}
    if "WORKSPACE" not in given and not os.access("/", os.W_OK):
        given["WORKSPACE"] = tempfile.mkdtemp(prefix="workspace-")
    # In a thread: a cancel that comes while the process is being started would leave it running, and nobody would know of it.
    with ThreadPoolExecutor(1) as pool:
        begun = pool.submit(subprocess.Popen, json.loads(command), env=given, stdin=subprocess.DEVNULL, start_new_session=True)
        try:
            code = begun.result().wait(timeout=seconds_left(given.get("TRAINYARD_END")))
        except subprocess.TimeoutExpired:
            raise RuntimeError("the lease is over, and the run has not ended by itself") from None
        finally:
            stop(begun.result())
    if code:
        raise RuntimeError(f"the run's command has ended with exit code {code}")


def check_hardware(said: str) -> None:
    """Raise RuntimeError where the model runs on other GPUs than its price was reckoned for."""
    count, _, kind = said.partition(" at ")[0].partition("x ")
    asked = subprocess.run(["nvidia-smi", "--query-gpu=name", "--format=csv,noheader"], capture_output=True, text=True, check=False)
    found = [line.strip() for line in asked.stdout.splitlines() if line.strip()]
    word = kind.split()[0].upper()
    if len(found) != int(count) or any(word not in re.split("[^A-Z0-9]+", name.upper()) for name in found):
        raise RuntimeError(f"trainyard:gpu says {count}x {kind}, and the model's hardware is: {', '.join(found) or 'without a GPU'}")


def seconds_left(end: "str | None") -> "float | None":
    """Return the seconds until a lease's end and the grace after it."""
    if not end:
        return None
    return max(1.0, datetime.fromisoformat(end.replace("Z", "+00:00")).timestamp() + GRACE - time.time())


def stop(process: "subprocess.Popen[bytes]") -> None:
    """End whatever of the command still runs: it lets its job save for a while."""
    if process.poll() is None:
        process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(timeout=SAVE)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
