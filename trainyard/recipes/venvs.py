"""Ready Python environments for pods of this machine: one per (lock hash, Python, platform), built once with uv.

Pods bind the folder read-only: a copy per pod would cost 5.4 GB (hard links fail across bind mounts).
An environment without its stamp is no environment: a build that was killed is thrown away by the next.
Who uses one holds a shared lock on its stamp (a run.sh as long as its program lives); the stamp's time is that of
the last use. unused.py removes by these two what nobody needs.
"""

from __future__ import annotations

import hashlib
import os
import platform
import shutil
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from trainyard.config import Places
from trainyard.errors import TrainyardError
from trainyard.filelock import acquire, held
from trainyard.files import write_atomic
from trainyard.recipes.contract import Recipe
from trainyard.recipes.values import Values, lock_for
from trainyard.setup import console, pipsettings

STAMP = ".complete"
_NETWORK = "The packages come from the index that pip is set up for; check it with: pip download --no-deps torch"
_SPACE = "The environment needs about 6 GB; TRAINYARD_LOCAL_ROOT moves it to another disk."
# Uncompiled, or compiled into another place, the packages would cost each pod some 8 s more at its start.
_DROPPED = ("PYTHONDONTWRITEBYTECODE", "PYTHONPYCACHEPREFIX", "PYTHONPATH", "PYTHONHOME")
OnLine = Callable[[str], None]


def prepare(recipe: Recipe, values: Values, places: Places, on_line: OnLine) -> Path | None:
    """Make the environment that local pods of this recipe need; None when it needs no packages, or names a Python that has them."""
    lock = lock_for(recipe, values) if values.get("python", "lock") == "lock" else None
    return ensure(lock, places, on_line, imports=recipe.imports) if lock else None


def key_of(lock: Path) -> str:
    """Return the folder name of a lock's environment; run.sh on the pod looks for the same one."""
    digest = hashlib.sha256(lock.read_bytes()).hexdigest()[:16]
    return f"{digest}-py{sys.version_info[0]}.{sys.version_info[1]}-{platform.system().lower()}-{platform.machine()}"


def ensure(
    lock: Path,
    places: Places,
    on_line: OnLine,
    *,
    imports: Sequence[str] = (),
    env: Mapping[str, str] | None = None,
) -> Path:
    """Return the ready environment of a lock under ``places.cloud/envs``, building it when needed.

    Two callers at once: the second waits and says so. ``imports`` are imported once at the end: it proves the
    environment and leaves their bytecode, which a pod cannot write. Raises SetupError when it cannot be built.
    """
    path = envs(places) / key_of(lock)
    path.parent.mkdir(parents=True, exist_ok=True)
    if _use(path):
        return path
    with held(guard_of(path), lambda: on_line(f"another process is building {path.name}; waiting for it")) as guard:
        if not _use(path):
            _build(lock, path, guard, imports, on_line, os.environ if env is None else env)
    return path


def envs(places: Places) -> Path:
    """Return the folder that holds the environments of this machine's local pods."""
    return places.cloud / "envs"


def guard_of(path: Path) -> Path:
    """Return the file whose exclusive lock is the right to build or remove an environment."""
    return path.with_name(f".{path.name}.lock")


def _use(path: Path) -> bool:
    """Note that an environment is asked for now; False when there is none, or it is just being removed."""
    try:
        stamp = acquire(path / STAMP, create=False, shared=True)
    except FileNotFoundError:
        return False
    try:
        os.utime(stamp)
    finally:
        os.close(stamp)
    return True


def _build(lock: Path, path: Path, guard: int, imports: Sequence[str], on_line: OnLine, env: Mapping[str, str]) -> None:
    surroundings, more = pipsettings.for_uv({name: value for name, value in env.items() if name not in _DROPPED})
    uv, python, began = _find_uv(), path / "bin" / "python", time.monotonic()
    name = f"{lock.parent.name}/{lock.name}"

    def step(doing: str, *command: str | Path) -> None:
        # The children hold the lock too: were this process killed, uv would go on writing into the folder.
        done = console.run(command, doing, on_line=on_line, env=surroundings, keep=(guard,))
        if done.rc != 0:
            raise console.failure(done, f"{doing} of {name}", network=_NETWORK, space=_SPACE)

    on_line(f"building the Python environment of {name}: some GB, once for this machine")
    if path.exists():
        shutil.rmtree(path)
    step("making the environment", uv, "venv", "--quiet", "--no-python-downloads", "--python", sys.executable, path)
    install: list[str | Path] = [uv, "pip", "install", "--quiet", "--no-deps", "--require-hashes", "--python", python, "-r", lock]
    step("installing the packages", *install, *more)
    if imports:
        on_line(f"  packages installed after {time.monotonic() - began:.0f} s; importing them once")
        step("importing the packages", python, "-c", "import " + ", ".join(imports))
    write_atomic(path / STAMP, f"{name}\n", durable=True)
    on_line(f"environment ready after {time.monotonic() - began:.0f} s")


def _find_uv() -> str:
    beside = Path(sys.prefix) / "bin" / "uv"
    found = str(beside) if beside.is_file() else shutil.which("uv")
    if not found:
        hint = "It is one of Trainyard's own packages: install Trainyard again (in a checkout of it: ./bootstrap)."
        raise TrainyardError("uv is missing, which builds the recipe's Python environment", hint=hint)
    return found
