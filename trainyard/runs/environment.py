"""Ready Python environments for pods of this machine: one per (lock hash, Python, platform), built once with uv.

Pods bind the folder read-only: a copy per pod would cost 5.4 GB (hard links fail across bind mounts).
An environment without its stamp is no environment: a build that was killed is thrown away by the next.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import platform
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from trainyard.config import Places
from trainyard.errors import TrainyardError
from trainyard.runs.recipe import Recipe, Values, lock_for

STAMP = ".complete"
OnLine = Callable[[str], None]


def prepare(recipe: Recipe, values: Values, places: Places, on_line: OnLine) -> Path | None:
    """Make the environment that local pods of this recipe need; None when it needs no packages."""
    lock = lock_for(recipe, values)
    return ensure_environment(lock, places, on_line, imports=recipe.imports) if lock else None


def environment_key(lock: Path) -> str:
    """Return the folder name of a lock's environment; run.sh on the pod forms the same one."""
    digest = hashlib.sha256(lock.read_bytes()).hexdigest()[:16]
    return f"{digest}-py{sys.version_info[0]}.{sys.version_info[1]}-{platform.system().lower()}-{platform.machine()}"


def ensure_environment(lock: Path, places: Places, on_line: OnLine, *, imports: Sequence[str] = ()) -> Path:
    """Return the ready environment of a lock under ``places.cloud/envs``, building it when needed.

    Two callers at once: the second waits and says so. ``imports`` are imported once at the end: it proves the
    environment and leaves their bytecode, which a pod cannot write (saves about 8 of 12 s in each run).
    """
    envs = places.cloud / "envs"
    envs.mkdir(parents=True, exist_ok=True)
    path = envs / environment_key(lock)
    if (path / STAMP).is_file():
        return path
    with (envs / f".{path.name}.lock").open("a") as guard:
        _wait_for(guard.fileno(), path, on_line)
        if not (path / STAMP).is_file():
            _build(lock, path, guard.fileno(), imports, on_line)
    return path


def _wait_for(guard: int, path: Path, on_line: OnLine) -> None:
    try:
        fcntl.flock(guard, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        on_line(f"another process is building {path.name}; waiting for it")
        fcntl.flock(guard, fcntl.LOCK_EX)


def _build(lock: Path, path: Path, guard: int, imports: Sequence[str], on_line: OnLine) -> None:
    uv = _find_uv()
    began = time.monotonic()
    on_line(f"building the Python environment of {lock.parent.name}/{lock.name}, once for this machine (some GB, under a minute on a fast line)")
    shutil.rmtree(path, ignore_errors=True)
    # The children hold the lock too: were this process killed, uv would go on writing into the folder.
    _run([uv, "venv", "--quiet", "--relocatable", "--python", sys.executable, str(path)], guard)
    _run([uv, "pip", "install", "--quiet", "--no-deps", "--require-hashes", "--python", str(path / "bin" / "python"), "-r", str(lock)], guard)
    on_line(f"packages installed after {time.monotonic() - began:.0f} s")
    if imports:
        _run([str(path / "bin" / "python"), "-c", "import " + ", ".join(imports)], guard)
    with (path / STAMP).open("w") as stamp:
        stamp.write(f"{lock.name}\n")
        stamp.flush()
        os.fsync(stamp.fileno())
    on_line(f"environment {path.name} ready after {time.monotonic() - began:.0f} s")


def _find_uv() -> str:
    beside = Path(sys.prefix) / "bin" / "uv"
    found = str(beside) if beside.is_file() else shutil.which("uv")
    if not found:
        raise TrainyardError("uv is missing, which builds the recipe's Python environment", hint="Run ./bootstrap again: it installs uv.")
    return found


def _run(command: Sequence[str], guard: int) -> None:
    done = subprocess.run(command, env=_uv_env(), pass_fds=(guard,), stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
    if done.returncode:
        tail = "\n".join((done.stderr or done.stdout).strip().splitlines()[-12:])
        raise TrainyardError(f"{' '.join(Path(command[0]).name if n == 0 else c for n, c in enumerate(command[:3]))} failed:\n{tail}",
                             hint="Nothing was rented. The next run builds the environment anew.")


def _uv_env() -> dict[str, str]:
    """Return the environment with pip's settings under uv's names, and bytecode allowed."""
    env = {key: value for key, value in os.environ.items() if key not in ("PYTHONDONTWRITEBYTECODE", "VIRTUAL_ENV", "PYTHONPATH")}
    for ours, theirs in (("PIP_INDEX_URL", "UV_DEFAULT_INDEX"), ("PIP_EXTRA_INDEX_URL", "UV_INDEX"), ("PIP_CERT", "SSL_CERT_FILE")):
        if env.get(ours):
            env.setdefault(theirs, env[ours])
    if env.get("PIP_FIND_LINKS"):
        env.setdefault("UV_FIND_LINKS", ",".join(env["PIP_FIND_LINKS"].split()))
    return env
