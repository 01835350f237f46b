"""The steps of nanochat's speedrun, what each must leave, and what is known of those that are over. Standard library only."""

from __future__ import annotations

import contextlib
import ctypes
import glob
import json
import os
import re
import shutil
import signal
from dataclasses import dataclass
from typing import Any

SMALL = 1 << 20
"""Files below are copied: what upstream writes anew in place must not change a copy that was taken."""


@dataclass(frozen=True)
class Step:
    """One program of the speedrun."""

    name: str
    title: str
    module: str
    leaves: tuple[str, ...] = ()
    """Patterns below nanochat's base folder; each must match a file that is not empty. {tag} is the model's, as d24."""
    needed: bool = True
    """Whether what follows needs it: a figure that could not be measured ends no training."""
    counts: bool = True
    """Whether a run without it is no success."""


STEPS = (
    Step("data", "training data", "nanochat.dataset"),
    Step("tokenizer", "tokenizer", "scripts.tok_train", ("tokenizer/tokenizer.pkl", "tokenizer/token_bytes.pt")),
    Step("tokenizer-eval", "look at the tokenizer", "scripts.tok_eval", needed=False, counts=False),
    Step("base", "base model", "scripts.base_train", ("base_checkpoints/{tag}/model_*.pt", "base_checkpoints/{tag}/meta_*.json")),
    Step("base-eval", "look at the base model", "scripts.base_eval", ("base_eval/*.csv",), needed=False),
    Step("identity", "identity conversations", "curl", ("identity_conversations.jsonl",)),
    Step("sft", "chat model (SFT)", "scripts.chat_sft", ("chatsft_checkpoints/{tag}/model_*.pt", "chatsft_checkpoints/{tag}/meta_*.json")),
    Step("chat-eval", "look at the chat model", "scripts.chat_eval", needed=False),
)
BY_MODULE = {step.module: step for step in STEPS}
KEPT = ("tokenizer", "base_checkpoints", "base_eval", "chatsft_checkpoints", "report", "identity_conversations.jsonl")
"""What of nanochat's base folder a checkpoint and the result have; all else is downloaded."""
_PDEATHSIG = 1
_SAVED = re.compile(r"model_(\d+)\.pt")


class Book:
    """The folder of one speedrun: what it was told, what is over, what has failed."""

    def __init__(self, folder: str) -> None:
        self.folder = folder
        self.repo = os.path.join(folder, "repo")
        self.home = os.path.join(folder, "home")
        self.base = os.path.join(self.home, ".cache", "nanochat")
        self.shims = os.path.join(folder, "shims")
        self.state = os.path.join(folder, "state")

    @property
    def plan(self) -> dict[str, Any]:
        """Settings of the run, and what main() made of them."""
        return read_json(os.path.join(self.folder, "plan.json")) or {}

    @property
    def python(self) -> str:
        """The Python that trains."""
        return self.plan["python"] or os.path.join(self.repo, ".venv", "bin", "python")

    def done(self, name: str) -> dict[str, Any] | None:
        """Return what is known of a step that is over and has left what it must; None for one that is still to be done."""
        known = read_json(os.path.join(self.state, name + ".json"))
        return known if known is not None and not known.get("wrong") and not self.lacking(name) else None

    def known(self) -> dict[str, Any]:
        """Return what is known of all steps that were begun and are over."""
        found = {step.name: read_json(os.path.join(self.state, step.name + ".json")) for step in STEPS}
        return {name: value for name, value in found.items() if value is not None}

    def note(self, name: str, known: dict[str, Any]) -> None:
        """Keep what is known of a step that is over."""
        write_json(os.path.join(self.state, name + ".json"), known)

    def lacking(self, name: str) -> list[str]:
        """Return the patterns of what a step must leave of which there is nothing."""
        return [pattern for pattern, paths in self._left(name).items() if not any(os.path.getsize(path) for path in paths)]

    def clear(self, name: str) -> None:
        """Remove what an earlier start of a step has left: it would pass for what this one must leave."""
        for paths in self._left(name).values():
            for path in paths:
                os.unlink(path)

    def _left(self, name: str) -> dict[str, list[str]]:
        step = next(step for step in STEPS if step.name == name)
        patterns = [pattern.format(tag=self.plan["tag"]) for pattern in step.leaves]
        return {pattern: glob.glob(os.path.join(self.base, pattern)) for pattern in patterns}

    @property
    def failed(self) -> dict[str, Any] | None:
        """The step after which nothing more is begun."""
        return read_json(os.path.join(self.state, "failed.json"))

    def fail(self, name: str, code: int, wrong: str) -> None:
        """Keep the first step that has failed."""
        if self.failed is None:
            write_json(os.path.join(self.state, "failed.json"), {"step": name, "exit_code": code, "wrong": wrong})

    def saved(self, kind: str) -> list[int]:
        """Return the steps at which a model was saved whole, oldest first; of the base with the optimizer's part of each process."""
        folder = os.path.join(self.base, kind, self.plan["tag"])
        numbers = sorted(int(found[1]) for name in names_in(folder) if (found := _SAVED.fullmatch(name)))
        ranks = range(max(1, self.plan["gpus"])) if kind == "base_checkpoints" and self.done("base") is None else range(0)
        names = ["meta_{:06d}.json", *(f"optim_{{:06d}}_rank{rank}.pt" for rank in ranks)]
        return [number for number in numbers if all(os.path.exists(os.path.join(folder, name.format(number))) for name in names)]


def die_with_parent() -> None:
    """Be told to stop when what began this process dies: on a machine of one's own nothing else ends a training that nobody reads."""
    with contextlib.suppress(OSError, AttributeError):  # Linux alone has it
        ctypes.CDLL(None).prctl(_PDEATHSIG, signal.SIGTERM)


def names_in(folder: str) -> list[str]:
    """Return what lies in a folder; nothing when it is none."""
    try:
        return sorted(os.listdir(folder))
    except OSError:
        return []


def read_json(path: str) -> dict[str, Any] | None:
    """Return what a file of JSON holds, None where there is no such file or it is torn."""
    try:
        with open(path, encoding="utf-8") as file:
            value: dict[str, Any] = json.load(file)
            return value
    except (OSError, ValueError):
        return None


def write_json(path: str, value: dict[str, Any]) -> None:
    """Write a file whole or not at all."""
    os.makedirs(os.path.dirname(path), exist_ok=True)
    partial = os.path.join(os.path.dirname(path), f".{os.path.basename(path)}.{os.getpid()}")
    with open(partial, "w", encoding="utf-8") as out:
        json.dump(value, out, indent=2)
    os.replace(partial, path)


def place(source: str, target: str) -> None:
    """Put a file at another place: a second name of the same bytes where it is large and the disk allows it, else a copy."""
    os.makedirs(os.path.dirname(target), exist_ok=True)
    partial = os.path.join(os.path.dirname(target), f".{os.path.basename(target)}.{os.getpid()}")
    if os.path.exists(target) and os.path.samefile(source, target):
        return
    with contextlib.suppress(FileNotFoundError):
        os.unlink(partial)
    try:
        if os.path.getsize(source) < SMALL:
            raise OSError
        os.link(source, partial)
    except OSError:
        shutil.copy2(source, partial)
    os.replace(partial, target)


def place_tree(source: str, target: str) -> None:
    """Put all files of a folder below another one."""
    for folder, _, names in os.walk(source):
        for name in names:
            path = os.path.join(folder, name)
            place(path, os.path.join(target, os.path.relpath(path, source)))
