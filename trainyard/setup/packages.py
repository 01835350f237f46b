"""Make ``.venv`` and put the pinned packages and Trainyard itself into it. Standard library only."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from trainyard.setup import pipsettings
from trainyard.setup.console import NO_SPACE, SPACE_HINT, WRONG_MACHINE, OnLine, SetupError, failure, run

NEEDED_MB = 600
"""What the packages (240 MB, measured) and uv's cache of them take, with room for the S3 server's program."""
UNFINISHED = "trainyard-unfinished"
"""Marker in .venv while packages are being written; one that is found there means that somebody was killed."""


MADE = "trainyard-made"
"""Marker in a .venv that we made: only such a one is ever emptied."""
GUEST = "trainyard-guest"
"""Marker in one that somebody else made, into which we installed."""

_NO_PIP = (
    "Install your system's venv module (Debian, Ubuntu: apt-get update && apt-get install python3-venv), "
    "or name another Python: TRAINYARD_PYTHON=/path/to/python3 ./bootstrap"
)
_ELSEWHERE = ("PIP_TARGET", "PIP_PREFIX", "PIP_ROOT", "PIP_USER")


def python_of(venv: Path) -> Path:
    """Return the path of an environment's Python."""
    return venv / "bin" / "python"


def base_python() -> Path:
    """Return the Python that environments are made of, also when this one runs inside an environment."""
    return Path(os.path.realpath(getattr(sys, "_base_executable", None) or sys.executable))


def install(root: Path, env: Mapping[str, str], on_line: OnLine, keep: int, *, rebuild: bool = False, stamped: bool = False) -> None:
    """Bring ``.venv`` to what requirements.txt says; ``stamped``: it was ours before there were markers.

    Raises SetupError with what a person can do.
    """
    venv = root / ".venv"
    _check_space(root)
    ours, usable = is_ours(venv, stamped=stamped), _usable(venv)
    if not ours and (rebuild or not usable):
        raise _not_ours(venv)
    if ours and (rebuild or not usable or (venv / UNFINISHED).exists()):
        _make(venv, on_line, keep)
    (venv / (MADE if ours else GUEST)).touch()
    (venv / UNFINISHED).touch()
    _install_all(get_uv(root, env, on_line, keep), root, env, on_line, keep)
    (venv / UNFINISHED).unlink()


def get_uv(root: Path, env: Mapping[str, str], on_line: OnLine, keep: int) -> Path:
    """Return the pinned uv, which installs everything else: the environment's, the one on PATH, or one that pip puts into .venv."""
    lines = _pinned((root / "requirements.txt").read_text(encoding="utf-8"), "uv")
    own, version = root / ".venv" / "bin" / "uv", lines.partition("==")[2].split()[0]
    for uv in (own, shutil.which("uv", path=env.get("PATH"))):
        if uv and _version(uv) == version:
            return Path(uv)
    on_line(f"Fetching uv {version}")
    python: list[str | Path] = [python_of(root / ".venv"), "-I", "-m"]
    if run([*python, "pip", "--version"], "looking for pip").rc != 0:
        if run([*python[:-1], "-c", "import ensurepip"], "looking for ensurepip").rc != 0:
            raise SetupError("this Python has no 'ensurepip', so no pip can be put into .venv", hint=_NO_PIP, exit_code=WRONG_MACHINE)
        done = run([*python, "ensurepip"], "putting pip into .venv", on_line=on_line, keep=[keep])
        if done.rc != 0:
            raise failure(done, "cannot put pip into .venv")
    marker = root / ".venv" / "uv.txt"
    marker.write_text(lines, encoding="utf-8")
    # What the user has set for pip (index, certificates, proxy) is honoured by pip itself; not where it shall install to.
    install = ["pip", "install", "--require-hashes", "--only-binary", ":all:", "--no-deps", "--no-user", "--disable-pip-version-check"]
    surroundings = {name: value for name, value in env.items() if name not in _ELSEWHERE}
    done = run([*python, *install, "--retries", "2", "-r", marker], f"fetching uv {version}", on_line=on_line, env=surroundings,
               limit=600, keep=[keep])  # fmt: skip
    if done.rc != 0:
        # pip tells a network that is absent as "No matching distribution found", after its warnings.
        raise failure(done, f"cannot fetch uv {version}")
    marker.unlink()
    return own


def _pinned(requirements: str, name: str) -> str:
    """Return the lines of requirements.txt about one package: its version and its hashes."""
    match = re.search(rf"^{re.escape(name)}==[^\n]*\n(?:[ \t]+--hash[^\n]*\n?)+", requirements, re.M)
    if match is None:
        raise SetupError(f"requirements.txt: no pinned and hashed line for {name}")
    return match[0]


def _version(uv: str | Path) -> str | None:
    try:
        done = subprocess.run([uv, "--version"], capture_output=True, text=True, timeout=20, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    words = done.stdout.split()
    return words[1] if len(words) > 1 else None


def _check_space(root: Path) -> None:
    free = shutil.disk_usage(root).free // 1_000_000
    if not (root / ".venv" / "bin" / "invoke").exists() and free < NEEDED_MB:
        raise SetupError(f"the disk is full: {free} MB free in {root}, {NEEDED_MB} MB needed", hint=SPACE_HINT, exit_code=NO_SPACE)


def is_ours(venv: Path, *, stamped: bool) -> bool:
    """Tell whether an environment is one that we made and may empty; one that is not there yet will be."""
    if venv.is_symlink():
        return False  # whatever it points to may serve others
    if not venv.exists():
        return True
    if not venv.is_dir() or (venv / GUEST).exists():
        return False
    return stamped or any((venv / name).exists() for name in (MADE, UNFINISHED)) or not any(venv.iterdir())


def _not_ours(venv: Path) -> SetupError:
    what = f"a link to {os.readlink(venv)}" if venv.is_symlink() else "not one that Trainyard made"
    command = "rm" if venv.is_symlink() or venv.is_file() else "rm -r"
    return SetupError(
        f"{venv} cannot be used as it is, and it is {what}: nothing in it was touched",
        hint=f"Remove it yourself, then run ./bootstrap again: {command} {shlex.quote(str(venv))}",
        exit_code=WRONG_MACHINE,
    )


def _usable(venv: Path) -> bool:
    test = "import sys; sys.exit(sys.version_info < (3, 11) or sys.prefix == sys.base_prefix)"
    try:
        done = subprocess.run([python_of(venv), "-I", "-c", test], stdin=subprocess.DEVNULL, capture_output=True, check=False)
    except OSError:
        return False
    return done.returncode == 0


def _make(venv: Path, on_line: OnLine, keep: int) -> None:
    on_line(f"Making .venv with Python {sys.version.split()[0]}")
    _empty(venv)
    done = run([base_python(), "-I", "-m", "venv", "--without-pip", venv], "making .venv", on_line=on_line, keep=[keep])
    if done.rc != 0:
        raise failure(done, "cannot make .venv")


def _empty(venv: Path) -> None:
    """Start from nothing but the marker: `venv --clear` would have a moment without it."""
    venv.mkdir(exist_ok=True)
    (venv / UNFINISHED).touch()
    for child in venv.iterdir():
        if child.is_dir() and not child.is_symlink():
            shutil.rmtree(child)
        elif child.name != UNFINISHED:
            child.unlink()


def _install_all(uv: Path, root: Path, env: Mapping[str, str], on_line: OnLine, keep: int) -> None:
    surroundings, more = pipsettings.for_uv(env)
    surroundings["UV_NO_PROGRESS"] = "1"
    surroundings.setdefault("UV_LINK_MODE", _link_mode(root, surroundings))
    install: list[str | Path] = [uv, "pip", "install", "--python", python_of(root / ".venv"), "--no-python-downloads", *more]
    if env.get("PYTHONDONTWRITEBYTECODE"):
        # Python may not keep what it compiles (as in many containers): else each process would compile its packages again.
        install.append("--compile-bytecode")

    def step(doing: str, failed: str, *arguments: str | Path, cwd: Path | None = None) -> None:
        done = run([*install, *arguments], doing, on_line=on_line, env=surroundings, cwd=cwd, keep=[keep])
        if done.rc != 0:
            raise failure(done, failed)

    on_line("Installing the packages of requirements.txt")
    sources = ("--require-hashes", "-r", root / "requirements.txt")
    step("installing packages", "cannot install the packages of requirements.txt", *sources)
    # A dot, not the path: uv would read a '#' or a '%' in it as parts of a URL.
    itself = ("--no-deps", "--no-build-isolation", "--editable", ".")
    step("installing trainyard itself", "cannot install the package itself", *itself, cwd=root)
    if env.get("PYTHONDONTWRITEBYTECODE"):
        run([python_of(root / ".venv"), "-I", "-m", "compileall", "-q", root / "trainyard"], "compiling trainyard itself", keep=[keep])


def _link_mode(root: Path, env: Mapping[str, str]) -> str:
    """Hard links save time and space, but not across file systems, where uv would warn for each start."""
    cache = Path(env.get("UV_CACHE_DIR") or Path(env.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "uv")
    while not cache.exists():
        cache = cache.parent
    return "hardlink" if cache.stat().st_dev == root.stat().st_dev else "copy"
