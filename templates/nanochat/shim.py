"""What the speedrun calls as uv, python, torchrun and curl: the real one, with the run's own arguments behind those of the script.

Of an argument that stands twice nanochat takes the last. A step that is over is not done again, one that has failed (its exit code, or
what it should have left is not there) is told, and nothing that needs it is begun: the script itself goes on whatever happens.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from typing import Any

from keeping import METRICS, OUTPUT_DIR, checkpoint, publish
from reading import LogReader
from steps import BY_MODULE, Book, Step, die_with_parent, names_in, read_json
from telemetry import Status, append_line

BOOK = Book(os.environ["NANOCHAT_BOOK"])
_TOLD_EVERY = 2.0
_TRIES = 3
"""A download skips what is there: eight GPUs are not given back because one file of many did not come."""
_FIRST = 8
"""Shards that upstream trains its tokenizer on."""


def main() -> int:
    """Do what one of the four would have done; return its exit code."""
    name, words = sys.argv[1], sys.argv[2:]
    die_with_parent()
    if BOOK.failed is not None:
        return 1
    if name == "uv":
        return _environment(words)
    if name == "curl":
        return _download(words)
    at = words.index("-m") if "-m" in words else None
    step = BY_MODULE.get(words[at + 1]) if at is not None else None
    if words[-2:] == ["nanochat.report", "reset"] and BOOK.done("tokenizer"):
        return 0  # it would remove what an earlier start has measured
    if at is None or step is None:
        return _call([BOOK.python, *words])
    if _is_over(step):
        return 0
    launch = [word for word in words[:at] if name == "torchrun"]
    rest = [word for word in words[at + 2 :] if word != "--"]
    if not BOOK.plan["fp8"]:
        rest = [word for word in rest if word != "--fp8"]
    more = [f"--num-files={_shards(rest)}"] if step.name == "data" else BOOK.plan["arguments"].get(step.module, [])
    return _do(step, launch, [*rest, *more])


def say(text: str) -> None:
    """Tell in the log."""
    print(f"nanochat: {text}", flush=True)


def _shards(words: list[str]) -> int:
    """Return how many shards a download brings: the script fetches a few for the tokenizer, and all of them behind its back."""
    wanted = int(BOOK.plan["shards"])
    asked = int(words[words.index("-n") + 1]) if "-n" in words[:-1] else wanted
    return min(asked, wanted) if asked <= _FIRST else wanted


def _is_over(step: Step) -> bool:
    over = BOOK.plan["chat_only"] or BOOK.done(step.name) is not None
    if step.name == "data":  # the shards are no part of a result: they are wanted as long as a model is trained or judged on them
        over = BOOK.plan["chat_only"] or (BOOK.done("base") is not None and BOOK.done("base-eval") is not None)
    if over:
        say(f"{step.title}: done before")
    return over


def _do(step: Step, launch: list[str], words: list[str]) -> int:
    gpus = BOOK.plan["gpus"]
    order = [BOOK.python, "-m", step.module, *words]
    if launch and gpus:  # without a GPU nanochat trains in one process and starts no group of them
        order = [BOOK.python, "-m", "torch.distributed.run", *launch, f"--nproc_per_node={gpus}", "-m", step.module, "--", *words]
    if step.name == "base" and (saved := BOOK.saved("base_checkpoints")):
        order.append(f"--resume-from-step={saved[-1]}")
        say(f"{step.title}: going on from step {saved[-1]}")
    if step.name != "base":  # which goes on from its own saves
        BOOK.clear(step.name)
    say(f"{step.title}: begins")
    began, follower = time.time(), Follower(step)
    for left in reversed(range(_TRIES if step.name == "data" else 1)):
        code = _call(order, follower)
        wrong = _wrong(step, code, follower.reader, words)
        if wrong is None or not left:
            break
        say(f"{step.title}: {wrong}; once more, for what is missing")
    steps = follower.reader.total if step.name == "base" else follower.reader.at
    known = {"seconds": round(time.time() - began, 1), "steps": steps, **follower.reader.figures}
    if wrong:
        say(f"{step.title}: {'FAILED' if step.counts else 'not taken'}: {wrong}")
        if step.needed:
            BOOK.fail(step.name, code, wrong)
            return code or 1
    # The data come twice, in the background for all of them; they are known by their files.
    if step.name != "data":
        _over(step, known | ({"wrong": wrong, "exit_code": code} if wrong else {}))
    return code


def _over(step: Step, known: dict[str, Any]) -> None:
    BOOK.note(step.name, known)
    if known.get("wrong"):
        return
    say(f"{step.title}: done in {known['seconds']:.0f} s")
    try:
        publish(BOOK)
        if step.needed or step.name == "base-eval":
            checkpoint(BOOK, step.name)
    except OSError as error:  # the step is done all the same, and what follows needs none of it
        say(f"{step.title}: could not be brought to safety yet: {error}")


def _wrong(step: Step, code: int, reader: LogReader, words: list[str]) -> str | None:
    """Return what is wrong with a step that is over, whatever its exit code."""
    if code:
        return f"it ended with code {code}" + (f": {reader.reason}" if reader.reason else "")
    if lacking := BOOK.lacking(step.name):
        return f"it ended with code 0, and has left no {' and no '.join(lacking)}"
    if step.name == "base" and reader.total is not None and BOOK.saved("base_checkpoints")[-1:] != [reader.total]:
        return f"it ended with code 0, and has left no model of its last step ({reader.total})"
    if step.name == "data":
        there = len([name for name in names_in(os.path.join(BOOK.base, "base_data_climbmix")) if name.endswith(".parquet")])
        wanted = _shards(words) + 1
        return f"it ended with code 0, and {there} of {wanted} shards are there" if there < wanted else None
    if step.name == "chat-eval" and not reader.figures:
        return "it ended with code 0, and has told no figure"
    if step.name == "identity":
        return _flawed_rows(os.path.join(BOOK.base, "identity_conversations.jsonl"))
    return None


def _flawed_rows(path: str) -> str | None:
    with open(path, encoding="utf-8", errors="replace") as file:
        for number, line in enumerate(file, 1):
            try:
                json.loads(line)
            except ValueError:
                return f"{os.path.basename(path)}:{number} is no JSON: it is not the file of conversations"
    return None


def _environment(words: list[str]) -> int:
    """Make the environment that the repository's own lock pins, else take the Python that was named; the shims stay before it."""
    activate = os.path.join(BOOK.repo, ".venv", "bin", "activate")
    code = 0
    if BOOK.plan["python"]:
        os.makedirs(os.path.dirname(activate), exist_ok=True)
        open(activate, "w").close()
    elif words[:1] == ["sync"]:
        kind = "gpu" if BOOK.plan["gpus"] else "cpu"
        code = _call([BOOK.plan["uv"], *(kind if word in ("gpu", "cpu") else word for word in words)])
    else:
        code = _call([BOOK.plan["uv"], *words])
    if code:
        BOOK.fail("environment", code, f"Python environment: uv {words[0]} ended with code {code}")
        say(f"Python environment: FAILED: uv {words[0]} ended with code {code}")
        return code
    if words[:1] == ["sync"] and BOOK.plan["wandb_run"] and not _is_let_in():
        BOOK.fail("wandb", 1, "Weights & Biases does not take the key in WANDB_API_KEY (see above)")
        return 1
    with open(activate, encoding="utf-8") as file:
        known = file.read()
    line = f'PATH="{BOOK.shims}:$PATH"; export PATH\n'
    if line not in known:
        with open(activate, "a", encoding="utf-8") as out:
            out.write(line)
    return 0


def _is_let_in() -> bool:
    """Ask Weights & Biases about the key before anything is trained: each process of a training would die of a wrong one."""
    say("asking Weights & Biases about the key")
    return _call([BOOK.python, "-c", "import sys, wandb; sys.exit(not wandb.login(verify=True))"]) == 0


def _download(words: list[str]) -> int:
    step = BY_MODULE["curl"]
    target = words[words.index("-o") + 1] if "-o" in words[:-1] else ""
    if os.path.basename(target) != step.leaves[0]:
        return _call([_real("curl"), *words])
    if _is_over(step):
        return 0
    # Without --fail a page that says "not found" would be the file.
    code = _call([_real("curl"), "--fail", "--silent", "--show-error", "--retry", "5", *words])
    wrong = _wrong(step, code, LogReader("identity", 0, lambda _: None), [])
    if wrong:
        say(f"{step.title}: FAILED: {wrong}")
        BOOK.fail(step.name, code, wrong)
        return code or 1
    _over(step, {"seconds": 0})
    return 0


def _real(name: str) -> str:
    folders = [folder for folder in os.environ["PATH"].split(os.pathsep) if folder != BOOK.shims]
    return shutil.which(name, path=os.pathsep.join(folders)) or name


class Follower:
    """Hands a step's log on as it comes, and reads it."""

    def __init__(self, step: Step) -> None:
        self.step, self._rest, self._told = step, b"", 0.0
        before = (BOOK.done("base") or {}).get("steps") or 0 if step.name == "sft" else 0
        self.reader = LogReader(step.name, before, self._tell)
        self._status = Status(OUTPUT_DIR)
        if step.name != "data":  # which goes on behind the others
            last = read_json(os.path.join(OUTPUT_DIR, "status.json")) or {}
            self._status.write("training", step.title, **{name: last.get(name) for name in ("step", "total_steps", "loss")})

    def take(self, block: bytes) -> None:
        """Take some bytes of the log."""
        *lines, self._rest = (self._rest + block).split(b"\n")
        for line in lines:
            self.reader.line(line.rpartition(b"\r")[2].decode("utf-8", "replace"))

    def _tell(self, line: dict[str, Any]) -> None:
        try:
            self._keep(line)
        except OSError as error:  # a disk that is full must not end the training that is read
            say(f"what is told of the training could not be written: {error}")

    def _keep(self, line: dict[str, Any]) -> None:
        append_line(METRICS, line)
        if "loss" not in line:
            return
        # The step after a save is trained by all processes: each has written its part by then.
        if self.step.name == "base" and line["step"] and BOOK.saved("base_checkpoints")[-1:] == [line["step"]]:
            checkpoint(BOOK, "base")
        if time.time() - self._told >= _TOLD_EVERY:
            self._told = time.time()
            known = {"step": line["step"], "total_steps": line["total_steps"], "loss": line["loss"]}
            self._status.write("training", self.step.title, **known)


def _call(order: list[str], follower: Follower | None = None) -> int:
    """Run a program, pass TERM and INT on to it, return its exit code as a shell tells it."""
    process = subprocess.Popen(order, stdout=subprocess.PIPE if follower else None, stderr=subprocess.STDOUT if follower else None)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda number, _: process.send_signal(number))
    if follower and process.stdout:
        handle = process.stdout.fileno()
        last = b"\n"
        while block := os.read(handle, 1 << 16):
            os.write(1, block)
            follower.take(block)
            last = block[-1:]
        os.write(1, b"" if last == b"\n" else b"\n")
    code = process.wait()
    return code if code >= 0 else 128 - code


if __name__ == "__main__":
    sys.exit(main())
