"""What is looked at before a minute of training is paid for: programs, GPUs, repository, downloads. Standard library only."""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import subprocess
import sys
import urllib.error
import urllib.request

from steps import STEPS, Book

SPEEDRUN = ("runs/speedrun.sh", "speedrun.sh")
"""Where the official script lies, the newer place first."""
_ADDRESSES = (
    ("data", "nanochat/dataset.py", r'BASE_URL = "(.*?)"', "/shard_00000.parquet"),
    ("base-eval", "scripts/base_eval.py", r'EVAL_BUNDLE_URL = "(.*?)"', ""),
    ("identity", "runs/speedrun.sh", r"curl -L -o .*?(\w+://\S+)", ""),
    ("sft", "tasks/spellingbee.py", r'WORD_LIST_URL = "(.*?)"', ""),
)
_TIMEOUT = 30
_FP8 = 8.9


class NotReady(Exception):
    """This machine or these settings cannot do it: said in one line. Exit code 2."""


def look_at_machine(gpus: int) -> str:
    """Look for programs and GPUs; return in words what there is. Raises NotReady."""
    if lacking := [name for name in ("bash", "git", "curl") if shutil.which(name) is None]:
        raise NotReady(f"the speedrun needs {', '.join(lacking)}, and this machine has not: take an image that has")
    if not gpus:
        return "no GPU asked for"
    found = _gpus()
    if len(found) < gpus:
        fewer = max((number for number in (1, 2, 4) if number <= len(found)), default=0)
        instead = f": --set gpus={fewer} trains on fewer, as much longer" if fewer else " (nvidia-smi tells of none)"
        raise NotReady(f"{gpus} GPUs are asked for, and this machine has {len(found)}{instead}")
    return f"{len(found)} GPUs ({found[0][0]})"


def has_fp8() -> bool:
    """Tell whether every GPU reckons in 8 bits."""
    return bool(found := _gpus()) and all(capability >= _FP8 for _, capability in found)


def _gpus() -> list[tuple[str, float]]:
    """Return name and compute capability of each GPU."""
    order = ["nvidia-smi", "--query-gpu=name,compute_cap", "--format=csv,noheader"]
    try:
        done = subprocess.run(order, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return []
    rows = [line.rpartition(",") for line in done.stdout.splitlines() if line.strip()]
    return [(name.strip(), float(capability) if re.fullmatch(r"[0-9.]+", capability.strip()) else 0.0) for name, _, capability in rows]


def clone(book: Book, repo: str, commit: str) -> None:
    """Bring the repository at exactly that commit; raises NotReady where it cannot be had or is not what it is called."""
    if _git(book.repo, "rev-parse", "HEAD") != commit:
        shutil.rmtree(book.repo, ignore_errors=True)
        for order in (
            ["git", "clone", "--quiet", "--no-checkout", repo, book.repo],
            ["git", "-C", book.repo, "checkout", "--quiet", "--detach", commit],
        ):
            if subprocess.run(order, check=False).returncode:
                raise NotReady(f"{repo} at {commit} cannot be had (git says why above)")
    if _git(book.repo, "rev-parse", "HEAD") != commit or not is_unmodified(book):
        raise NotReady(f"what lies in {book.repo} is not {commit}")


def is_unmodified(book: Book) -> bool:
    """Tell whether every file that git knows is as the commit has it."""
    return subprocess.run(["git", "-C", book.repo, "diff", "--quiet", "HEAD"], check=False).returncode == 0


def speedrun(book: Book, *, keep_alive: bool) -> str:
    """Return the official script's path in the repository; raises NotReady for a commit that this recipe cannot run."""
    script = next((name for name in SPEEDRUN if os.path.exists(os.path.join(book.repo, name))), None)
    if script is None:
        raise NotReady("the commit has no runs/speedrun.sh")
    modules = [step.module for step in STEPS if "." in step.module]
    if lacking := [name for name in modules if not os.path.exists(os.path.join(book.repo, name.replace(".", "/") + ".py"))]:
        raise NotReady(f"the commit has no {', '.join(lacking)}: this recipe knows the speedrun as it is since 2026-03")
    if keep_alive and not os.path.exists(os.path.join(book.repo, "scripts", "chat_web.py")):
        raise NotReady(
            "keep_alive needs scripts/chat_web.py, which this commit has not (removed on 2026-07-03): leave commit at its default"
        )
    return script


def look_at_addresses(book: Book) -> None:
    """Ask for what is downloaded hours from now; raises NotReady naming what does not answer."""
    for step, name, pattern, more in _ADDRESSES:
        path = os.path.join(book.repo, name)
        found = re.search(pattern, _text(path))
        if found is None or book.done(step) is not None or _is_brought(book, step):
            continue
        request = urllib.request.Request(found[1] + more, method="HEAD", headers={"User-Agent": "trainyard"})
        try:
            urllib.request.urlopen(request, timeout=_TIMEOUT).close()
        except (OSError, ValueError) as error:
            raise NotReady(f"{found[1] + more}, which the speedrun downloads, does not answer: {error}") from None


def _text(path: str) -> str:
    if not os.path.exists(path):
        return ""
    with open(path, encoding="utf-8") as file:
        return file.read()


def _is_brought(book: Book, step: str) -> bool:
    places = {"data": "base_data_climbmix", "base-eval": "eval_bundle", "sft": "words_alpha.txt"}
    return os.path.exists(os.path.join(book.base, places.get(step, "-")))


def find_uv(folder: str, lock: str) -> str:
    """Return the real uv: TRAINYARD_UV, that on PATH, else the pinned one, which pip fetches. Raises NotReady."""
    found = os.environ.get("TRAINYARD_UV") or shutil.which("uv")
    if found:
        return found
    if importlib.util.find_spec("pip") is None:
        raise NotReady("there is neither uv nor pip on this machine: take an image that has one of them")
    target = os.path.join(folder, "uv")
    order = [sys.executable, "-m", "pip", "install", "--quiet", "--require-hashes", "--target", target, "-r", lock]
    if subprocess.run(order, check=False).returncode:
        raise NotReady("uv could not be fetched by pip (see above)")
    return os.path.join(target, "bin", "uv")


def _git(folder: str, *words: str) -> str:
    done = subprocess.run(["git", "-C", folder, *words], capture_output=True, text=True, check=False)
    return done.stdout.strip() if done.returncode == 0 else ""
