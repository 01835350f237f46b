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
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from trainyard.config import Places
from trainyard.errors import TrainyardError, UserError
from trainyard.filelock import acquire, hold_lock
from trainyard.files import write_atomic
from trainyard.recipes import requirements
from trainyard.recipes.code import FOLDER, Code, place
from trainyard.recipes.contract import Recipe
from trainyard.recipes.requirements import PLAIN_VERSION, Requirements
from trainyard.recipes.summaries import Values
from trainyard.recipes.values import lock_for, python_of
from trainyard.setup import console, pipsettings

STAMP = ".complete"
_NETWORK = "The packages come from the index that pip is set up for; ask it with: python3 -m pip index versions uv\nThen say it again."
_PYTHON = (
    "uv finds no Python {version} here that works, and fetches one from github.com (UV_PYTHON_INSTALL_MIRROR names another place). "
    "Install Python {version} so that it is on the PATH, then say it again."
)
_OWN = (
    "Correct what it names, then say it again. --set requirements=FILE names another file, --set requirements=none takes the packages "
    "that this Python has."
)
_SHOWN = 30
"""Lines of uv's words that a person is shown: an unsatisfiable set is told in a few, a build that fails at its end."""
_SPACE = "Environments lie in {folder}, a recipe's takes about 6 GB; TRAINYARD_LOCAL_ROOT moves them to another disk."
# Uncompiled, or compiled into another place, the packages would cost each pod some 8 s more at its start.
_DROPPED = ("PYTHONDONTWRITEBYTECODE", "PYTHONPYCACHEPREFIX", "PYTHONPATH", "PYTHONHOME")
OnLine = Callable[[str], None]
_UNSATISFIABLE = 1
"""uv's exit code for requirements that nothing fits; other trouble, a missing network for one, is 2."""
_PYTHONS = ("3.12", "3.11", "3.10", "3.13")
"""What images of pods have, the likeliest first."""
_CHECK_SECONDS = 90.0
_REACHES_INDEX = (
    "UV_DEFAULT_INDEX", "UV_INDEX_URL", "UV_INDEX", "UV_EXTRA_INDEX_URL", "UV_INDEX_STRATEGY", "UV_FIND_LINKS", "UV_INSECURE_HOST",
    "UV_HTTP_TIMEOUT", "UV_SYSTEM_CERTS", "UV_NATIVE_TLS", "SSL_CERT_FILE", "SSL_CERT_DIR", "SSL_CLIENT_CERT", "HTTPS_PROXY",
    "HTTP_PROXY", "ALL_PROXY", "NO_PROXY",
)  # fmt: skip
UNVERSIONED = {"SETUPTOOLS_SCM_PRETEND_VERSION": "0"}
"""A project that takes its version from git has no git on a pod."""


def prepare(recipe: Recipe, values: Values, code: Code | None, places: Places, on_line: OnLine) -> Path | None:
    """Make the environment that local pods of this run need; None when it needs no packages, or names a Python that has them."""
    needs = requirements.of_run(code, values)
    if needs is not None:
        return ensure_code(code, needs, places, on_line)
    lock = lock_for(recipe, values) if values.get("python", "lock") == "lock" else None
    return ensure(lock, places, on_line, imports=recipe.imports, python=python_of(recipe)) if lock else None


def key_of(lock: Path, python: str | None = None) -> str:
    """Return the folder name of a lock's environment; run.sh on the pod looks for the same one."""
    return _folder_name(hashlib.sha256(lock.read_bytes()).hexdigest()[:16], python)


def ensure(
    lock: Path,
    places: Places,
    on_line: OnLine,
    *,
    imports: Sequence[str] = (),
    python: str | None = None,
    env: Mapping[str, str] | None = None,
) -> Path:
    """Return the ready environment of a lock under ``places.cloud/envs``, building it when needed.

    Two callers at once: the second waits and says so. ``imports`` are imported once at the end: it proves the
    environment and leaves their bytecode, which a pod cannot write. Raises SetupError when it cannot be built.
    """
    own = _own_python(python)
    build = _Build(
        name=f"{lock.parent.name}/{lock.name}",
        venv=(*(["--no-python-downloads"] if own == sys.executable else []), "--python", own),
        install=(("pip", "install", "--no-deps", "--require-hashes", "-r", str(lock)),), imports=tuple(imports),
    )  # fmt: skip
    return _ensure(envs(places) / key_of(lock, python), build, on_line, env)


def ensure_code(code: Code | None, needs: Requirements, places: Places, on_line: OnLine, *, env: Mapping[str, str] | None = None) -> Path:
    """Return the ready environment of a person's program, built when needed from a copy: a build writes beside its sources.

    Raises UserError with uv's own words when it cannot be built, SetupError for a full disk and a missing network.
    """
    path = envs(places) / _folder_name(needs.key, needs.python)
    if _use(path):
        return path
    system = () if needs.kind == "uv.lock" else ("--system-site-packages",)
    with tempfile.TemporaryDirectory(prefix="trainyard-code-") as copy:
        build = _Build(
            name=f"{needs.describe()}{f' of {code.root}' if code else ''}", venv=("--python", _own_python(needs.python), *system),
            install=tuple(map(tuple, requirements.install_arguments(needs))), folder=_copied(code, needs, Path(copy)),
        )  # fmt: skip
        return _ensure(path, build, on_line, env)


def check_code(code: Code | None, needs: Requirements, on_line: OnLine, *, env: Mapping[str, str] | None = None) -> None:
    """Ask the package index from here whether a person's requirements can be had together, before a pod is paid for.

    Raises UserError with uv's own words when no Python of a pod could have them. What cannot be asked is said; a uv.lock
    was resolved when it was written.
    """
    if needs.kind == "uv.lock" and not needs.pip:
        return
    surroundings, more = pipsettings.for_uv({**(os.environ if env is None else env), **UNVERSIONED})
    uv = find_uv()
    with tempfile.TemporaryDirectory(prefix="trainyard-code-") as copy:
        folder, added = _copied(code, needs, Path(copy)), Path(copy, "pip.txt")
        added.write_text("".join(f"{item}\n" for item in needs.pip), encoding="utf-8")
        files = [str(added), *([needs.file] if needs.kind in ("requirements", "pyproject") else [])]
        for version in _likely(needs.python):
            where = ["--python-platform", "linux", "--python-version", version, "-o", os.devnull]
            asked = [uv, "pip", "compile", "--quiet", *where, *more, *files]
            done = console.run(asked, "checking", on_line=on_line, env=surroundings, cwd=folder, limit=_CHECK_SECONDS)
            if done.rc == 0:
                return
            if done.rc != _UNSATISFIABLE:
                on_line(f"the packages of {needs.describe()} could not be checked from here: {_last(done.output)}")
                return
    raise UserError(
        f"the packages of {needs.describe()} cannot be had together:\n{done.output.strip()}",
        hint="If only this machine cannot tell (a package that is built from source): --set check_requirements=false",
    )


def _copied(code: Code | None, needs: Requirements, top: Path) -> Path:
    """Lay out what an environment is built from, as a bundle does; return the folder in which uv is run."""
    requirements.place(needs, top)
    if code is None:
        return top
    place(code, top)
    return top / FOLDER


def _own_python(asked: str | None) -> str:
    """Return this Python where it is one that is asked for: pods of this machine see it. Else what uv shall look for."""
    version = platform.python_version()
    if asked is None or PLAIN_VERSION.fullmatch(asked):
        fits = f"{version}.".startswith(f"{asked or version}.")
    else:
        from packaging.specifiers import SpecifierSet

        fits = SpecifierSet(asked).contains(version)
    return sys.executable if fits else str(asked)


def _likely(asked: str | None) -> list[str]:
    """Return the versions of Python that a pod may use for what a project asks for."""
    if asked is None or PLAIN_VERSION.fullmatch(asked):
        return [asked] if asked else list(_PYTHONS)
    from packaging.specifiers import SpecifierSet

    return [version for version in _PYTHONS if SpecifierSet(asked).contains(version)] or list(_PYTHONS)


def _last(output: str) -> str:
    lines = [line.strip() for line in output.splitlines() if line.strip()]
    return lines[-1] if lines else f"no answer within {_CHECK_SECONDS:.0f} s"


@dataclass(frozen=True, slots=True)
class _Build:
    """How an environment is made: what uv is told, and in which folder."""

    name: str
    venv: tuple[str, ...]
    install: tuple[tuple[str, ...], ...]
    imports: tuple[str, ...] = ()
    folder: Path | None = None

    def network_hint(self, command: str) -> str:
        """Return what helps where a command of uv does not reach the network: only ``venv`` fetches a Python."""
        return _PYTHON.format(version=self.venv[self.venv.index("--python") + 1]) if command == "venv" else _NETWORK


def _folder_name(digest: str, python: str | None = None) -> str:
    version = python if python and PLAIN_VERSION.fullmatch(python) else f"{sys.version_info[0]}.{sys.version_info[1]}"
    return f"{digest}-py{version}-{platform.system().lower()}-{platform.machine()}"


def _ensure(path: Path, build: _Build, on_line: OnLine, env: Mapping[str, str] | None) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    if _use(path):
        return path
    with hold_lock(guard_of(path), lambda: on_line(f"another process is building {path.name}; waiting for it")) as guard:
        if not _use(path):
            _make(build, path, guard, on_line, os.environ if env is None else env)
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


def _make(build: _Build, path: Path, guard: int, on_line: OnLine, env: Mapping[str, str]) -> None:
    surroundings, more = pipsettings.for_uv({name: value for name, value in env.items() if name not in _DROPPED})
    uv, python, began = find_uv(), path / "bin" / "python", time.monotonic()
    # A copy of the code is gone when the environment is used: nothing in it may lead there.
    surroundings |= {"UV_NO_EDITABLE": "1", "UV_PROJECT_ENVIRONMENT": str(path), **UNVERSIONED}

    def step(doing: str, *command: str | Path) -> None:
        # The children hold the lock too: were this process killed, uv would go on writing into the folder.
        done = console.run(command, doing, on_line=on_line, env=surroundings, cwd=build.folder, keep=(guard,))
        if done.rc != 0:
            raise _failure(done, doing, build, path.parent, network=build.network_hint(str(command[1])))

    on_line(f"building the Python environment of {build.name}: {'' if build.folder else 'some GB, '}once for this machine")
    if path.exists():
        shutil.rmtree(path)
    step("making the environment", uv, "venv", "--quiet", *build.venv, path)
    for install in build.install:
        where: list[str | Path] = ["--python", python] if install[0] == "pip" else []
        step("installing the packages", uv, *install, "--quiet", *where, *more)
    if build.imports:
        on_line(f"  packages installed after {time.monotonic() - began:.0f} s; importing them once")
        step("importing the packages", python, "-c", "import " + ", ".join(build.imports))
    write_atomic(path / STAMP, f"{build.name}\n", durable=True)
    on_line(f"environment ready after {time.monotonic() - began:.0f} s")


def _failure(done: console.CommandEnd, doing: str, build: _Build, folder: Path, network: str) -> TrainyardError:
    """Return why an environment could not be made; what a person's own files ask for is theirs to correct."""
    error = console.failure(done, f"{doing} of {build.name}", network=network, space=_SPACE.format(folder=folder))
    if build.folder is None or error.exit_code != console.FAILED:
        return error
    said = "\n".join("  " + line for line in done.output.strip().splitlines()[-_SHOWN:])
    return UserError(f"{doing} of {build.name} failed; uv says:\n{said}", hint=_OWN)


def for_local_pods(env: Mapping[str, str]) -> dict[str, str]:
    """Return what a job in a pod of this machine needs to install packages as this machine does: its uv, index and proxy."""
    arguments, more = pipsettings.for_uv(env)
    names = {name for each in _REACHES_INDEX for name in (each, each.lower())}
    environment = {name: value for name, value in arguments.items() if name in names and value}
    return environment | {"TRAINYARD_UV": find_uv()} | ({"UV_NO_INDEX": "1"} if more else {})


def find_uv() -> str:
    """Return the uv that this Trainyard was installed with; raises TrainyardError without one."""
    beside = Path(sys.prefix) / "bin" / "uv"
    path = str(beside) if beside.is_file() else shutil.which("uv")
    if not path:
        hint = "It is one of Trainyard's own packages: install Trainyard again (in a checkout of it: ./bootstrap)."
        raise TrainyardError("uv is missing, which builds the recipe's Python environment", hint=hint)
    return path
