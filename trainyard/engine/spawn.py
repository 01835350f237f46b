"""Find provider plugins where the CLI finds them, and start them as processes.

Starting is split in two, so that the processes come up while this one still imports: ``start()`` returns at
once, ``Process.address()`` waits for the port that the plugin prints.
"""

from __future__ import annotations

import contextlib
import os
import selectors
import shutil
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from trainyard.engine.hook import EngineError, RefusedError
from trainyard.engine.project import Project

_START_SECONDS = 60.0
_STOP_SECONDS = 5.0

Say = Callable[[str, str], None]


@dataclass(frozen=True, slots=True)
class PluginSource:
    """Where plugins may come from."""

    project: Project
    env: Mapping[str, str]

    @property
    def cache(self) -> Path:
        """The plugin cache of the CLI."""
        home = self.env.get("PULUMI_HOME") or os.path.join(self.env.get("HOME", "~"), ".pulumi")
        return Path(home).expanduser() / "plugins"


def find_plugin(source: PluginSource, package: str, version: str) -> Path | None:
    """Return the executable of a plugin, None when there is none.

    Order: the project's own folders, PATH (any version; not with PULUMI_IGNORE_AMBIENT_PLUGINS), the cache
    (exactly that version; without one the newest).
    """
    name = f"pulumi-resource-{package}"
    folder = source.project.plugins.get(package)
    if folder is not None:
        return _in_folder(folder, name)
    if source.env.get("PULUMI_IGNORE_AMBIENT_PLUGINS", "").lower() not in ("1", "true"):
        program = shutil.which(name, path=source.env.get("PATH"))
        if program:
            return Path(program)
    for candidate in _cached(source.cache, package, version):
        if (candidate / name).is_file():
            return candidate / name
    return None


def attached_port(source: PluginSource, package: str) -> int | None:
    """Return the port of a provider that is being debugged (PULUMI_DEBUG_PROVIDERS=name:port,...)."""
    for item in source.env.get("PULUMI_DEBUG_PROVIDERS", "").split(","):
        name, _, port = item.strip().partition(":")
        if name == package and port.isdigit():
            return int(port)
    return None


class Process:
    """A plugin's process. It runs in its own session, so that a Ctrl-C of ours does not reach it."""

    def __init__(self, package: str, path: Path, engine_address: str, source: PluginSource, say: Say) -> None:
        self.package = package
        self._say = say
        env = {**source.env, **{f"PULUMI_RUNTIME_{key.upper()}": str(value) for key, value in source.project.options.items()}}
        try:
            self._process = subprocess.Popen(
                [str(path), engine_address],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                cwd=source.project.workdir,
                env=env,
                start_new_session=True,
            )
        except OSError as error:
            raise EngineError(f"the plugin {path} cannot be started: {error.strerror}") from None
        self._address = ""
        self._drains = [threading.Thread(target=self._drain, args=(self._process.stderr,), daemon=True)]
        self._drains[0].start()

    @property
    def pid(self) -> int:
        """The process id."""
        return self._process.pid

    @property
    def exit_code(self) -> int | None:
        """The exit code, None while it runs."""
        return self._process.poll()

    def address(self) -> str:
        """Return where the plugin serves; waits for its first line."""
        if not self._address:
            port = self._first_line()
            if not (port.isascii() and port.isdigit() and 0 < int(port) < 65536):
                self.stop()
                said = f": it printed '{port[:100]}'" if port else f" (exit code {self._process.poll()})"
                raise EngineError(f"the plugin of package '{self.package}' did not start{said}")
            self._address = f"127.0.0.1:{port}"
            self._drains.append(threading.Thread(target=self._drain, args=(self._process.stdout,), daemon=True))
            self._drains[1].start()
        return self._address

    def stop(self) -> None:
        """Stop the plugin: SIGINT as the CLI does, SIGKILL when it does not listen."""
        with contextlib.suppress(ProcessLookupError):
            self._process.send_signal(signal.SIGINT)
        try:
            self._process.wait(_STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        if self._process.stdin:
            with contextlib.suppress(BrokenPipeError):
                self._process.stdin.close()
        for thread in self._drains:
            thread.join(1.0)

    def _first_line(self) -> str:
        """Read the first line of stdout byte by byte: what follows belongs to the drain."""
        assert self._process.stdout is not None
        descriptor = self._process.stdout.fileno()
        line = b""
        deadline = time.monotonic() + _START_SECONDS
        with selectors.DefaultSelector() as selector:
            selector.register(descriptor, selectors.EVENT_READ)
            while not line.endswith(b"\n"):
                if not selector.select(max(0.0, deadline - time.monotonic())):
                    raise EngineError(f"the plugin of package '{self.package}' printed no port within {_START_SECONDS:.0f} s")
                byte = os.read(descriptor, 1)
                if not byte:
                    with contextlib.suppress(subprocess.TimeoutExpired):
                        self._process.wait(2.0)
                    break
                line += byte
        return line.decode(errors="replace").strip()

    def _drain(self, stream: object) -> None:
        for line in stream:  # type: ignore[attr-defined]
            text = line.decode(errors="replace").rstrip()
            if text:
                self._say("info", f"{self.package}: {text}")


def start(source: PluginSource, package: str, version: str, engine_address: str, say: Say) -> Process:
    """Start the plugin of a package; raises EngineError when there is none."""
    path = find_plugin(source, package, version)
    if path is None:
        plugin = f"{package} {version}".strip()
        raise EngineError(
            f"there is no plugin for package '{plugin}'",
            hint=f"It is looked for in the project's packages, on PATH as pulumi-resource-{package}, and in {source.cache}.",
        )
    return Process(package, path, engine_address, source, say)


def _in_folder(folder: Path, name: str) -> Path:
    path = folder if folder.is_file() else folder / name
    if path.is_file():
        return path
    if (folder / "PulumiPlugin.yaml").exists():
        raise RefusedError(f"{folder}: plugins without an executable need a language host; the built-in engine wants {name} there")
    raise EngineError(f"{folder} holds no {name}")


def _cached(cache: Path, package: str, version: str) -> list[Path]:
    if version:
        return [cache / f"resource-{package}-v{version}"]
    return sorted(cache.glob(f"resource-{package}-v*"), key=lambda p: _version(p.name.rpartition("-v")[2]), reverse=True)


def _version(text: str) -> tuple[int, ...]:
    return tuple(int(part) for part in text.partition("-")[0].split(".") if part.isdigit())
