"""Make ``.venv`` and put the pinned packages and Trainyard itself into it. Standard library only."""

from __future__ import annotations

import importlib.util
import os
import shlex
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path

from trainyard.setup import pipsettings, starter
from trainyard.setup.console import NO_SPACE, WRONG_MACHINE, OnLine, SetupError, failure, run
from trainyard.setup.starter import NETWORK_HINT, SPACE_HINT

NEEDED_MB = 600
"""What the packages (240 MB, measured) and uv's cache of them take, with room for the S3 server's program."""
UNFINISHED = "trainyard-unfinished"
"""Marker in .venv while packages are being written; one that is found there means that somebody was killed."""


MADE = "trainyard-made"
"""Marker in a .venv that we made: only such a one is ever emptied."""
GUEST = "trainyard-guest"
"""Marker in one that somebody else made, into which we installed."""


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
    settings = pipsettings.read(env, pipsettings.config_files(env, Path.home()))
    requirements = root / "requirements.txt"
    with tempfile.TemporaryDirectory(prefix="trainyard-", dir=venv) as folder:
        uv = venv / "bin" / "uv"
        pin = starter.pinned(requirements.read_text(encoding="utf-8"), "uv")
        if not starter.answers(uv, pin.version):
            uv = starter.get_uv(pin, python_of(venv), Path(folder), settings, env, on_line)
        _install_all(uv, root, settings, env, on_line, keep)
    (venv / UNFINISHED).unlink()


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
    # Debian splits ensurepip off into python3-venv; without it `venv` fails half-way.
    without = [] if importlib.util.find_spec("ensurepip") else ["--without-pip"]
    on_line(f"Making .venv with Python {sys.version.split()[0]}")
    _empty(venv)
    command: list[str | Path] = [base_python(), "-I", "-m", "venv", *without, venv]
    done = run(command, "making .venv", on_line=on_line, keep=[keep])
    if done.rc != 0 and not without:
        done = run([*command[:-1], "--without-pip", venv], "making .venv without pip", on_line=on_line, keep=[keep])
    if done.rc != 0:
        raise failure(done, "cannot make .venv", network=NETWORK_HINT, space=SPACE_HINT)


def _empty(venv: Path) -> None:
    """Start from nothing but the marker: `venv --clear` would have a moment without it."""
    venv.mkdir(exist_ok=True)
    (venv / UNFINISHED).touch()
    for child in venv.iterdir():
        if child.is_dir() and not child.is_symlink():
            shutil.rmtree(child)
        elif child.name != UNFINISHED:
            child.unlink()


def _install_all(uv: Path, root: Path, settings: pipsettings.PipSettings, env: Mapping[str, str], on_line: OnLine, keep: int) -> None:
    surroundings = pipsettings.uv_environment(settings, env)
    surroundings["UV_NO_PROGRESS"] = "1"
    surroundings.setdefault("UV_LINK_MODE", _link_mode(root, surroundings))
    install: list[str | Path] = [uv, "pip", "install", "--python", python_of(root / ".venv"), "--no-python-downloads"]
    install += pipsettings.uv_arguments(settings)
    if env.get("PYTHONDONTWRITEBYTECODE"):
        # Python may not keep what it compiles (as in many containers): else each process would compile its packages again.
        install.append("--compile-bytecode")
    on_line("Installing the packages of requirements.txt")
    done = run(
        [*install, "--require-hashes", "-r", root / "requirements.txt"],
        "installing packages",
        on_line=on_line,
        env=surroundings,
        keep=[keep],
    )
    if done.rc != 0:
        raise failure(done, "cannot install the packages of requirements.txt", network=NETWORK_HINT, space=SPACE_HINT)
    done = run(
        # A dot, not the path: uv would read a '#' or a '%' in it as parts of a URL.
        [*install, "--no-deps", "--no-build-isolation", "--editable", "."],
        "installing trainyard itself",
        on_line=on_line,
        env=surroundings,
        cwd=root,
        keep=[keep],
    )
    if done.rc != 0:
        raise failure(done, "cannot install the package itself", network=NETWORK_HINT, space=SPACE_HINT)


def _link_mode(root: Path, env: Mapping[str, str]) -> str:
    """Hard links save time and space, but not across file systems, where uv would warn for each start."""
    cache = Path(env.get("UV_CACHE_DIR") or Path(env.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "uv")
    while not cache.exists():
        cache = cache.parent
    return "hardlink" if cache.stat().st_dev == root.stat().st_dev else "copy"
