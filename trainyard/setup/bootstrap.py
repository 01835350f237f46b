"""What ``./bootstrap`` does once it has found a Python: make the checkout ready, then hand over to Invoke.

A stamp in ``.venv`` holds the hash of everything that this depends on; while it fits, starting costs the reading
of a few small files. Standard library only.
"""

from __future__ import annotations

import hashlib
import json
import os
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass
from pathlib import Path

from trainyard.filelock import hold_lock
from trainyard.files import write_atomic
from trainyard.phrasing import TYPED, typed
from trainyard.setup import packages, s3server
from trainyard.setup.console import FAILED, INCOMPLETE, SETUP_VERBS, OnLine, SetupError, end_on_signals, os_failure, say

STAMP = "trainyard-stamp.json"
AGAIN_AFTER = 24 * 3600.0
"""Seconds after which a download that failed (the Pulumi CLI) is tried again."""
CLOUD_VERBS = frozenset({"reap", "audit", "end", "gc"})
"""Verbs that ask clouds and stores and nothing else: a reaper neither waits for the S3 server's build nor fails with it."""
_INPUTS = ("bootstrap", "requirements.txt", "pyproject.toml", "hatch_build.py", "trainyard/__init__.py", "tools/*", "trainyard/setup/*.py")


@dataclass(frozen=True, slots=True)
class Stamp:
    """What the environment was made of and which tools were found; written last."""

    root: str
    python: str
    inputs: str
    pulumi: str | None = None
    """Where ``pulumi`` was found; another place, or none any more, means to look again."""
    tools_at: float = 0.0
    """When the tools were looked at, in seconds since 1970."""
    tools_complete: bool = False


def main(root: Path, arguments: Sequence[str]) -> int:
    """Make ready, then become Invoke. Returns an exit code only where there is nothing to hand over."""
    end_on_signals()
    # Who starts it this way has no `invoke` on PATH: commands that are printed begin as this one did.
    name = "./bootstrap" if Path.cwd() == root else shlex.quote(str(root / "bootstrap"))
    typed(name, SETUP_VERBS)
    env = {**os.environ, TYPED: name}
    try:
        prepare(root, env, say, tools=not arguments or arguments[0] not in CLOUD_VERBS)
    except SetupError as error:
        say(f"bootstrap: {error}")
        return error.exit_code
    except OSError as error:
        failed = os_failure(error, "cannot write")
        say(f"bootstrap: {failed}")
        return failed.exit_code
    except KeyboardInterrupt:
        say("bootstrap: interrupted; run it again, it goes on where it stopped")
        return 130
    if not arguments:
        say("Ready. 'invoke --list' shows what there is, 'invoke train --stack local' trains. After '. .venv/bin/activate' it is 'invoke'.")
        return 0
    # Files on the command line stay relative to where the person stands, who may stand in another checkout.
    invoke = root / ".venv" / "bin" / "invoke"
    os.execve(invoke, [str(invoke), *arguments], {**env, "TRAINYARD_PROJECT_DIR": str(root)})


def prepare(root: Path, env: Mapping[str, str], on_line: OnLine, *, tools: bool = True) -> None:
    """Bring packages and tools to what the checkout asks for; at once when the stamp says that they are there."""
    if _fits(root, env, tools):
        return
    _check_cache(env)
    with _locked(root, on_line) as lock:
        if _fits(root, env, tools):
            return
        stamp = _read(root)
        current = Stamp(str(root), _python(), _inputs(root))
        if stamp is None or (stamp.root, stamp.python, stamp.inputs) != (current.root, current.python, current.inputs):
            (root / ".venv" / STAMP).unlink(missing_ok=True)
            moved = stamp is not None and (stamp.root, stamp.python) != (current.root, current.python)
            packages.install(root, env, on_line, lock, rebuild=moved, stamped=stamp is not None)
        if not tools:
            _write(root, current)
            return
        complete = _tools(root, env, lock)
        _write(root, Stamp(current.root, current.python, current.inputs, _pulumi(root, env), time.time(), complete))


def _check_cache(env: Mapping[str, str]) -> None:
    folder = s3server.cache(env)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        failed = os_failure(error, "the folder for caches cannot be made")
        failed.hint = failed.hint or "Point XDG_CACHE_HOME (or HOME) to a folder that you can write."
        raise failed from None


def _locked(root: Path, on_line: OnLine) -> AbstractContextManager[int]:
    """One bootstrap at a time in a checkout; handed on to what it starts, so that killing it alone frees nothing early."""
    return hold_lock(
        root / ".trainyard" / "bootstrap.lock", lambda: on_line("Another bootstrap is at work in this checkout: waiting for it")
    )


def _fits(root: Path, env: Mapping[str, str], tools: bool) -> bool:
    stamp = _read(root)
    if stamp is None or (stamp.root, stamp.python, stamp.inputs) != (str(root), _python(), _inputs(root)):
        return False
    venv = root / ".venv"
    if (venv / packages.UNFINISHED).exists() or not os.access(venv / "bin" / "invoke", os.X_OK):
        return False
    if not tools:
        return True
    if stamp.pulumi != _pulumi(root, env) or s3server.find(env) is None:
        return False
    return stamp.tools_complete or 0 <= time.time() - stamp.tools_at < AGAIN_AFTER


def _tools(root: Path, env: Mapping[str, str], lock: int) -> bool:
    """Run the second half, which needs the packages; tell whether nothing is missing."""
    command = [str(packages.python_of(root / ".venv")), "-I", "-m", "trainyard.setup.tools", str(root)]
    child = subprocess.Popen(command, env=dict(env), stdin=subprocess.DEVNULL, pass_fds=[lock])
    try:
        code = child.wait()
    except BaseException:
        # It ends what it started in turn, where a kill would leave a compiler at work.
        child.terminate()
        child.wait()
        raise
    if code not in (0, INCOMPLETE):
        raise SetupError("the tools could not be set up, see above", exit_code=code if code > 0 else FAILED)
    return code == 0


def _python() -> str:
    return f"{packages.base_python()} {sys.version.split()[0]}"


def _inputs(root: Path) -> str:
    digest = hashlib.sha256()
    for pattern in _INPUTS:
        for path in sorted(root.glob(pattern)):
            digest.update(f"{path.relative_to(root)}\0".encode())
            digest.update(hashlib.sha256(path.read_bytes()).digest())
    return digest.hexdigest()


def _pulumi(root: Path, env: Mapping[str, str]) -> str | None:
    return shutil.which("pulumi", path=f"{root / '.venv' / 'bin'}{os.pathsep}{env.get('PATH', '')}")


def _read(root: Path) -> Stamp | None:
    try:
        return Stamp(**json.loads((root / ".venv" / STAMP).read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return None


def _write(root: Path, stamp: Stamp) -> None:
    write_atomic(root / ".venv" / STAMP, json.dumps(asdict(stamp), indent=1) + "\n", durable=False)
