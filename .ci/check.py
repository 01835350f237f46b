"""What must hold of every file before its tests run: ``invoke check``, or ``python .ci/check.py [STEP...]``.

lint, format, types    ruff and mypy --strict, over all Python of the checkout
bundles                the same for what pods run: each recipe is rendered in several shapes, and read as it is sent
shell                  shellcheck over every shell program: files, rendered ones, and those in playbooks
workflows              actionlint over .github/workflows

shellcheck and actionlint are no packages of the environment. They are fetched once per user, pinned by hash: shellcheck
as a wheel, actionlint as Go modules where there is a Go. One that cannot be had is named, and its step left out.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import yaml

from trainyard.recipes import bundle
from trainyard.recipes.code import of_run
from trainyard.recipes.contract import load_recipe
from trainyard.recipes.data import inspect
from trainyard.recipes.values import resolve
from trainyard.setup import pipsettings, s3server

ROOT = Path(__file__).resolve().parents[1]
HERE = Path(__file__).resolve().parent
SCRIPT = ROOT / "tests" / "recipes" / "data" / "count.sh"
CODE = ROOT / "tests" / "recipes" / "data" / "code"
SHAPES = {
    "lora": (
        (),
        ("base_model=Qwen/Qwen3-8B", "load_in_4bit=true"),
        ("base_model=Qwen/Qwen3-30B-A3B", "backend=unsloth"),
        ("base_model=Qwen/Qwen3-8B", "method=full"),
        ("method=dpo", "output=both"),
        ("base_model=Qwen/Qwen3-8B", "output=merged"),
    ),
    "dataset": ((),),
    "nanochat": ((),),
    "merge": (("base_model=Qwen/Qwen3-8B",),),
    "summarizer": ((),),
    "command": (
        (f"script={SCRIPT}",),
        (f"script={SCRIPT}", "interpreter=bash", "args=1 'a b'"),
        *(
            ("command=A=1 python train.py 'a b'", f"code={CODE}", f"requirements={file}")
            for file in ("none", "requirements.txt", "pyproject.toml", "uv.lock")
        ),
    ),
}
"""Values of recipes that render every part of their templates."""
ACTIONLINT = "github.com/rhysd/actionlint/cmd/actionlint"
LEFT_OUT = -1


def main(names: list[str]) -> int:
    """Run the steps that are asked for, else all; return 1 when one found something."""
    with tempfile.TemporaryDirectory(prefix="trainyard-check-") as folder:
        steps = _steps(Path(folder))
        unknown = [name for name in names if name not in steps]
        if unknown:
            print(f"check: there is no step {unknown[0]}; there are {', '.join(steps)}", file=sys.stderr)
            return 2
        failed = []
        for name in names or steps:
            began = time.monotonic()
            code = steps[name]()
            said = {0: "ok", LEFT_OUT: "LEFT OUT"}.get(code, "FAILED")
            print(f"check: {name:<10} {said}  {time.monotonic() - began:.1f} s", flush=True)
            failed += [name] if code > 0 else []
    return 1 if failed else 0


def _steps(folder: Path) -> dict[str, Callable[[], int]]:
    return {
        "lint": lambda: _module("ruff", "check", "--quiet", "."),
        "format": lambda: _module("ruff", "format", "--check", "--quiet", "."),
        "types": lambda: _module("mypy", "--no-error-summary"),
        "bundles": lambda: _bundles(folder / "bundles"),
        "shell": lambda: _shell(folder),
        "workflows": _workflows,
    }


def _module(module: str, *words: str | Path, env: dict[str, str] | None = None) -> int:
    return subprocess.run([sys.executable, "-m", module, *words], cwd=ROOT, env=env, check=False).returncode


# --- what pods run ----------------------------------------------------------------------------------------------------


def _bundles(folder: Path) -> int:
    code = 0
    for rendered in _render(folder):
        # A rendered file is laid out by its template: ruff looks at what it says, not at how it stands there.
        code |= _module("ruff", "check", "--quiet", "--config", ROOT / "pyproject.toml", "--ignore", "E402,I001", rendered)
        code |= _module("mypy", "--no-error-summary", *sorted(rendered.glob("*.py")), env={**os.environ, "MYPYPATH": str(rendered)})
    return code


def _render(folder: Path) -> list[Path]:
    made = []
    for name, shapes in SHAPES.items():
        recipe = load_recipe(ROOT, name)
        for number, sets in enumerate(shapes):
            made.append(folder / f"{name}-{number}")
            values = resolve(recipe, sets=sets)
            bundle.build(recipe, values, inspect(None, recipe), made[-1], code=of_run(recipe, values))
    return made


# --- shell programs ---------------------------------------------------------------------------------------------------


def _shell(folder: Path) -> int:
    program = _shellcheck()
    if program is None:
        return LEFT_OUT
    rendered = _render(folder / "shell")
    programs = [*_programs(), *(path for made in rendered for path in sorted(made.glob("*.sh"))), *_in_playbooks(folder / "playbooks")]
    return subprocess.run([program, "--rcfile", ROOT / ".shellcheckrc", *programs], cwd=ROOT, check=False).returncode


def _programs() -> Iterator[Path]:
    """Yield every file of the checkout that is a program for sh or bash."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"], cwd=ROOT, capture_output=True, check=True
    )
    for path in (ROOT / name for name in sorted(listed.stdout.decode().split("\0")) if name):
        if path.is_file() and (path.suffix == ".sh" or (path.suffix == "" and _first_line(path).endswith((b"/sh", b"/bash")))):
            yield path


def _first_line(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.readline(100).strip() if file.read(2) == b"#!" else b""


def _in_playbooks(folder: Path) -> Iterator[Path]:
    """Write the programs of playbooks that are the same in every run to files; yield them."""
    folder.mkdir()
    for path in sorted((ROOT / "playbooks").rglob("*.yml")):
        for number, text in enumerate(_values_of("shell", yaml.safe_load(path.read_text(encoding="utf-8")))):
            if "{{" not in text and "{%" not in text:
                target = folder / f"{path.stem}-{number + 1}.sh"
                target.write_text(text, encoding="utf-8")
                yield target


def _values_of(keyword: str, node: object) -> Iterator[str]:
    if isinstance(node, dict):
        found = node.get(keyword)
        if found is not None:
            yield str(found["cmd"] if isinstance(found, dict) else found)
    for inner in node.values() if isinstance(node, dict) else node if isinstance(node, list) else ():
        yield from _values_of(keyword, inner)


def _shellcheck() -> Path | None:
    """Return the pinned shellcheck, fetched when it is not there yet; None, said aloud, when it cannot be."""
    pins = HERE / "shellcheck.txt"

    def fetch(folder: Path) -> list[str | Path]:
        surroundings, more = pipsettings.for_uv(os.environ)
        os.environ.update(surroundings)
        uv = Path(sys.prefix) / "bin" / "uv"
        options = ("--quiet", "--no-deps", "--require-hashes", "--only-binary", ":all:", "--target", folder)
        return [uv, "pip", "install", "--python", sys.executable, *options, "-r", pins, *more]

    return _kept("shellcheck", pins, fetch, Path("bin") / "shellcheck")


# --- workflows --------------------------------------------------------------------------------------------------------


def _workflows() -> int:
    program = _actionlint()
    if program is None:
        return LEFT_OUT
    shellcheck = _shellcheck()
    more = ["-shellcheck", str(shellcheck or "")]
    return subprocess.run([program, *more, *sorted((ROOT / ".github" / "workflows").glob("*.yml"))], cwd=ROOT, check=False).returncode


def _actionlint() -> Path | None:
    go = shutil.which("go")
    if go is None:
        print("check: there is no actionlint: it is built where a Go 1.25 or newer is on PATH", flush=True)
        return None
    modules = HERE / "actionlint"

    def build(folder: Path) -> list[str | Path]:
        return [go, "-C", modules, "build", "-mod=readonly", "-trimpath", "-buildvcs=false", "-o", folder / "actionlint", ACTIONLINT]

    return _kept("actionlint", modules / "go.sum", build, Path("actionlint"))


def _kept(name: str, pins: Path, command: Callable[[Path], list[str | Path]], program: Path) -> Path | None:
    """Return a program of the user's cache, made by a command that fills a folder; None, said aloud, when that fails."""
    folder = s3server.cache(os.environ).parent / "check" / f"{name}-{hashlib.sha256(pins.read_bytes()).hexdigest()[:12]}"
    if not (folder / program).exists():
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder.parent, ignore_cleanup_errors=True) as new:
            made = Path(new) / name
            made.mkdir()
            done = subprocess.run(
                command(made), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False
            )
            if done.returncode:
                print(f"check: there is no {name}, it cannot be fetched: {done.stdout.strip()[-500:]}", flush=True)
                return None
            if not folder.exists():
                made.rename(folder)
    return folder / program


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
