"""Get the Pulumi CLI and its command plugin where the network allows, within a short time limit.

Nothing here is ever a failure: without them the built-in engine does the same work on the same state.
What did not work is remembered for a day, so that the next start does not wait for it again.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from trainyard.files import write_atomic
from trainyard.jsontext import parse_json
from trainyard.setup import s3server
from trainyard.setup.bootstrap import AGAIN_AFTER
from trainyard.setup.console import CommandEnd, OnLine, run
from trainyard.stacks.installed import COMMAND_PLUGIN, MINIMUM, find, has_command_plugin

LIMIT = 20.0
HOW = "To use the CLI: install it from https://www.pulumi.com/docs/iac/download-install/ and run: invoke setup"
_INSTALL = """
import sys
from pulumi.automation import PulumiCommand
print(PulumiCommand.install(root=sys.argv[1]).command)
"""


@dataclass(frozen=True, slots=True)
class CliInstallation:
    """What there is of the CLI, and one sentence about it."""

    cli: Path | None
    plugin: bool
    text: str

    @property
    def complete(self) -> bool:
        """Tell whether nothing is left to be fetched."""
        return self.cli is not None and self.plugin


def ensure(prefix: Path, env: Mapping[str, str], on_line: OnLine, *, limit: float = LIMIT, now: float | None = None) -> CliInstallation:
    """Find the CLI and the command plugin, fetching what is missing; returns what there is and never raises for it.

    ``prefix`` is the environment that a CLI is put into.
    """
    now = time.time() if now is None else now
    cli = find(env, prefix)
    if cli is None and not _failed_lately(env, "cli", now):
        on_line(f"Asking Pulumi's own installer for the Pulumi CLI (at most {limit:.0f} s; it is optional)")
        done = run([sys.executable, "-c", _INSTALL, prefix], "installing the Pulumi CLI", on_line=on_line, env=env, limit=limit)
        cli = find(env, prefix)
        if cli is None:
            _remember(env, "cli", now, _reason(done))
    if cli is None:
        return CliInstallation(
            None, False, f"No Pulumi CLI {_dotted(MINIMUM)} or newer: the built-in engine is used, on the same state. {HOW}"
        )
    if not has_command_plugin(env) and not _failed_lately(env, f"plugin of {cli}", now):
        on_line(f"Installing Pulumi's command plugin {COMMAND_PLUGIN} (at most {limit:.0f} s; it is optional)")
        command: list[str | Path] = [cli, "plugin", "install", "resource", "command", COMMAND_PLUGIN, "--exact"]
        quiet = {**env, "PULUMI_SKIP_UPDATE_CHECK": "true", "PATH": f"{cli.parent}{os.pathsep}{env.get('PATH', '')}"}
        done = run(command, "installing the command plugin", on_line=on_line, env=quiet, limit=limit)
        if not has_command_plugin(env):
            _remember(env, f"plugin of {cli}", now, _reason(done))
    if not has_command_plugin(env):
        how = f"pulumi plugin install resource command {COMMAND_PLUGIN}"
        return CliInstallation(
            cli, False, f"The Pulumi CLI is there without its command plugin: the built-in engine is used. To use the CLI: {how}"
        )
    return CliInstallation(cli, True, f"Pulumi CLI {cli} with command plugin {COMMAND_PLUGIN}: stacks use it (setting 'engine: auto').")


def last_failure(env: Mapping[str, str], what: str = "cli") -> str | None:
    """Return why fetching failed last, None when it never did."""
    entry = _memory(env).get(what)
    return str(entry["why"]) if isinstance(entry, dict) and "why" in entry else None


def _dotted(version: tuple[int, ...]) -> str:
    return ".".join(map(str, version))


def _reason(done: CommandEnd) -> str:
    if done.rc is None:
        return "not done within the time limit"
    lines = [line.strip() for line in done.output.splitlines() if line.strip()]
    return lines[-1][:200] if lines else f"exit {done.rc}"


def _failed_lately(env: Mapping[str, str], what: str, now: float) -> bool:
    entry = _memory(env).get(what)
    at = entry.get("at") if isinstance(entry, dict) else None
    return isinstance(at, int | float) and 0 <= now - at < AGAIN_AFTER


def _file(env: Mapping[str, str]) -> Path:
    return s3server.cache(env).parent / "pulumi-failures.json"


def _memory(env: Mapping[str, str]) -> dict[str, object]:
    try:
        value = parse_json(_file(env).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return value if isinstance(value, dict) else {}


def _remember(env: Mapping[str, str], what: str, now: float, why: str) -> None:
    path = _file(env)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomic(path, json.dumps({**_memory(env), what: {"at": now, "why": why}}), durable=False)
