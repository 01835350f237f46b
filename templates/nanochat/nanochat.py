"""Run nanochat's official speedrun as it is, judge each step by what it leaves, and bring that to safety as it appears.

Exit codes: 0 done, 2 wrong settings, data or machine, 1 a step failed, 75 stopped on request.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from typing import Any

from keeping import MODEL, OUTPUT_DIR, drop_unproven, publish, restore, take_data
from page import report
from preflight import NotReady, clone, find_uv, has_fp8, is_unmodified, look_at_addresses, look_at_machine, speedrun
from steps import STEPS, Book, die_with_parent, names_in, read_json, write_json
from telemetry import STOPPED, Status, cut_torn_line

RUN_DIR, INPUT_DIR = os.environ["RUN_DIR"], os.environ["INPUT_DIR"]
_MONTH = 31 * 24.0
_SHIM = '#!/bin/sh\nexec "{python}" "{shim}" {name} "$@"\n'
_TINY = {
    "scripts.tok_train": ["--max-chars=2000000", "--vocab-size=1024"],
    "scripts.base_train": [
        "--depth=2", "--head-dim=32", "--max-seq-len=128", "--window-pattern=L", "--device-batch-size=4", "--total-batch-size=512",
        "--num-iterations=40", "--eval-every=20", "--eval-tokens=2048", "--core-metric-every=-1", "--sample-every=-1", "--save-every=20",
    ],
    "scripts.base_eval": ["--device-batch-size=4", "--split-tokens=2048", "--max-per-task=16"],
    "scripts.chat_sft": [
        "--device-batch-size=2", "--total-batch-size=256", "--num-iterations=20", "--eval-every=10", "--eval-tokens=1024",
        "--chatcore-every=-1", "--mmlu-epochs=1", "--gsm8k-epochs=1",
    ],
    "scripts.chat_eval": ["--max-problems=2", "--max-new-tokens=16"],
}  # fmt: skip
"""What makes of the speedrun minutes of one CPU core: nothing that answers, every step of it."""


def main() -> int:
    """Do all of it; return the exit code."""
    status = Status(OUTPUT_DIR)
    with open(os.path.join(RUN_DIR, "config.json"), encoding="utf-8") as file:
        config = json.load(file)
    book = Book(os.path.join(os.environ["WORKSPACE"], "nanochat"))
    try:
        status.write("preparing", "looking at machine and repository")
        script = prepare(book, config)
        code = train(book, script, status)
    except NotReady as error:
        print(f"nanochat: {error}", file=sys.stderr, flush=True)
        status.write("failed", str(error)[:2000])
        return 2
    if code == 0 and hours(config["keep_alive"]):
        chat(book, config, status)
    return code


def prepare(book: Book, config: dict[str, Any]) -> str:
    """Look, clone, lay out; return the script. Raises NotReady."""
    for folder in (book.base, book.state, book.shims):
        os.makedirs(folder, exist_ok=True)
    machine = look_at_machine(config["gpus"])
    print(f"nanochat: {machine}", flush=True)
    if config["wandb_run"] and not os.environ.get("WANDB_API_KEY"):
        raise NotReady("wandb_run needs the key of Weights & Biases on the pod: name WANDB_API_KEY in pod_secrets")
    clone(book, config["repo"], config["commit"])
    script = speedrun(book, keep_alive=hours(config["keep_alive"]) > 0)
    own = config["python"] != "project"
    uv = "" if own else find_uv(book.folder, os.path.join(RUN_DIR, "installer.lock"))
    plan = {name: config[name] for name in ("gpus", "shards", "save_total_limit", "wandb_run", "chat_only")}
    plan |= {
        "tag": f"d{_depth(config)}",
        "fp8": config["gpus"] == 0 or has_fp8(),
        "python": config["python"] if own else "",
        "uv": uv,
        "arguments": arguments(config),
    }
    write_json(os.path.join(book.folder, "plan.json"), plan)
    with contextlib.suppress(FileNotFoundError):
        os.unlink(os.path.join(book.state, "failed.json"))
    bring(book, plan["tag"])
    if config["chat_only"] and book.done("sft") is None:
        raise NotReady("chat_only needs a chat model that the data bring along: --data run:RUN of a run that is done")
    if not config["chat_only"] and book.done("chat-eval") is None:
        look_at_addresses(book)
    for name in ("uv", "python", "torchrun", "curl"):
        path = os.path.join(book.shims, name)
        with open(path, "w", encoding="utf-8") as out:
            out.write(_SHIM.format(python=sys.executable, shim=os.path.join(RUN_DIR, "shim.py"), name=name))
        os.chmod(path, 0o755)
    print(f"nanochat: {config['repo']} at {config['commit'][:12]}, {script} as it is; {plan['tag']}, {plan['shards']} shards", flush=True)
    return script


def bring(book: Book, tag: str) -> None:
    """Put back a checkpoint that the run goes on from, and what its data bring along. Raises NotReady for a model of another size."""
    if taken := take_data(book, INPUT_DIR):
        print(f"nanochat: brought along: {', '.join(sorted(set(taken)))}", flush=True)
    if resumed := os.environ.get("TRAINYARD_RESUME"):
        restore(book, resumed)
        print(f"nanochat: going on from {os.path.basename(resumed)}", flush=True)
    drop_unproven(book)
    there = names_in(os.path.join(book.base, "chatsft_checkpoints")) or names_in(os.path.join(book.base, "base_checkpoints"))
    if there and tag not in there:
        raise NotReady(f"the model that is brought along is a {', '.join(there)}, and size says {tag}: --set size={there[0]}")


def arguments(config: dict[str, Any]) -> dict[str, list[str]]:
    """Return what is put behind the script's own arguments, by nanochat's module."""
    made: dict[str, list[str]] = {}
    if config["model_size"] == "tiny":
        made |= {module: list(words) for module, words in _TINY.items()}
    else:
        batch = f"--device-batch-size={config['device_batch_size']}"
        made["scripts.base_train"] = [
            f"--depth={_depth(config)}", f"--target-param-data-ratio={config['target_param_data_ratio']:g}", batch,
            f"--save-every={config['save_every']}",
        ]  # fmt: skip
        made |= {"scripts.base_eval": [batch], "scripts.chat_sft": [batch]}
    for module, name in (("scripts.base_train", "base_args"), ("scripts.chat_sft", "sft_args"), ("scripts.chat_eval", "eval_args")):
        made[module] = [*made.get(module, []), *config[name]]
    return made


def _depth(config: dict[str, Any]) -> int:
    return 2 if config["model_size"] == "tiny" else int(config["model_size"][1:])


def hours(text: str) -> float:
    """Return the hours that 2h, 90m or 2 stand for; true: until the lease's stop."""
    if text in ("true", "false"):
        return _MONTH if text == "true" else 0.0
    return float(text.rstrip("hm")) / (60 if text.endswith("m") else 1)


def environment(book: Book) -> dict[str, str]:
    """Return the environment of the script: nanochat's folder follows HOME, and our four programs come first."""
    env, plan = dict(os.environ), book.plan
    at_home = os.path.expanduser("~")
    env.setdefault("UV_CACHE_DIR", os.path.join(at_home, ".cache", "uv"))
    env.setdefault("UV_PYTHON_INSTALL_DIR", os.path.join(at_home, ".local", "share", "uv", "python"))
    env |= {"HOME": book.home, "NANOCHAT_BASE_DIR": book.base, "NANOCHAT_BOOK": book.folder, "WANDB_RUN": plan["wandb_run"] or "dummy"}
    env["PATH"] = book.shims + os.pathsep + env["PATH"]
    if not plan["gpus"]:
        env["TORCHDYNAMO_DISABLE"] = "1"  # compiling takes longer than a tiny training, and a compiler that is not everywhere
    return env


def train(book: Book, script: str, status: Status) -> int:
    """Run the script to its end, then say what became of it."""
    cut_torn_line(os.path.join(OUTPUT_DIR, "metrics.jsonl"))
    status.write("training", "the speedrun runs")
    began = time.time()
    code = _run(["bash", script], book)
    if code is None:
        last = read_json(os.path.join(OUTPUT_DIR, "status.json")) or {}  # what the step that was at work has told
        known = {name: last.get(name) for name in ("step", "total_steps", "loss")}
        status.write("stopped", "stopped on request; what was saved last is a checkpoint", **known)
        print("nanochat: stopped on request", flush=True)
        return STOPPED
    publish(book)
    result = report(book, seconds=time.time() - began, unmodified=is_unmodified(book))
    if message := wrong_with(book, code):
        print(f"nanochat: failed: {message}", file=sys.stderr, flush=True)
        status.write("failed", message[:2000])
        return 1
    write_json(os.path.join(OUTPUT_DIR, "result.json"), result)
    steps = sum(result["phases"][name]["steps"] for name in ("base", "sft"))
    status.write("done", "done", step=steps, total_steps=steps, loss=result["phases"]["sft"].get("loss"))
    print(f"nanochat: done; {os.path.relpath(MODEL, OUTPUT_DIR)}/ is nanochat's own folder of this model", flush=True)
    return 0


def wrong_with(book: Book, code: int) -> str:
    """Return what the speedrun lacks, whatever code it ended with; nothing where all of it was done."""
    if (failed := book.failed) is not None:
        return next((f"{step.title}: " for step in STEPS if step.name == failed["step"]), "") + str(failed["wrong"])
    known, chat_only = book.known(), book.plan["chat_only"]
    wanted = [step for step in STEPS if (step.name == "sft" if chat_only else step.counts and step.name != "data")]
    lacking = [step for step in wanted if book.done(step.name) is None]
    return "; ".join(
        f"{step.title}: {known.get(step.name, {}).get('wrong') or f'the script ended with code {code} and has not done it'}"
        for step in lacking
    )


def _run(order: list[str], book: Book, until: float | None = None) -> int | None:
    """Run a program in the repository; return its exit code, None where it was told to stop or its time was up."""
    told: list[int] = []
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda number, _: told.append(number))
    process = subprocess.Popen(order, cwd=book.repo, env=environment(book), preexec_fn=_of_its_own)
    while process.poll() is None:
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(0.5)
        if told or (until is not None and time.time() >= until):
            # All of its group: bash hands no signal on to what it waits for.
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGTERM)
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(60)
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            return None
    return process.returncode


def _of_its_own() -> None:
    """Make the script a group of processes that is told to stop as one."""
    os.setpgid(0, 0)
    die_with_parent()


def chat(book: Book, config: dict[str, Any], status: Status) -> None:
    """Serve the chat model for so many hours, or until the run is told to stop. Whatever becomes of it, the training is done."""
    until, port = time.time() + hours(config["keep_alive"]) * 3600, str(config["port"])
    clock = time.strftime("%H:%M UTC", time.gmtime(until))
    print(f"nanochat: chat on port {port} until {clock}: invoke tunnel RUN {port}, then http://127.0.0.1:{port}", flush=True)
    status.write("done", f"done; chat on port {port} until {clock}")
    order = [book.python, "-m", "scripts.chat_web", "--host=127.0.0.1", f"--port={port}", f"--model-tag={book.plan['tag']}"]
    code = _run(order, book, until)
    print("nanochat: the chat is over" + ("" if code is None else f" (code {code}); the result is whole all the same"), flush=True)
    status.write("done", "done")


if __name__ == "__main__":
    sys.exit(main())
