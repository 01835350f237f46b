"""The environment a child engine gets: the backend, the passphrase by file, and no key it does not need."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Mapping, MutableMapping
from pathlib import Path

from trainyard import config, network
from trainyard.config import Places
from trainyard.engine.backend import folder_of
from trainyard.settings.variables import account_keys, groups
from trainyard.stacks.installed import OURS
from trainyard.stacks.passphrase import passphrase_file

PROVIDER_PROJECT = "TRAINYARD_PROVIDER_PROJECT"
"""The repository that the plugin works for. Not TRAINYARD_PROJECT_DIR: that would bind a shell's later commands to it."""


def pulumi_exports(places: Places, env: Mapping[str, str]) -> dict[str, str]:
    """Return what plain ``pulumi`` needs to work on the same state (``invoke env`` prints it). No secret is in it."""
    exports = {
        "PULUMI_BACKEND_URL": env.get("PULUMI_BACKEND_URL") or places.state.as_uri(),
        "PULUMI_IGNORE_AMBIENT_PLUGINS": "true",
        "PULUMI_FALLBACK_TO_STATE_SECRETS_MANAGER": "true",
        "PULUMI_SKIP_UPDATE_CHECK": "true",
        # The plugin starts in the program's folder, which may be a link to elsewhere.
        PROVIDER_PROJECT: str(places.root),
        # Program and plugin run in the environment of this process: a repository need not have one of its own.
        "TRAINYARD_PROVIDER_PYTHON": sys.executable,
    }
    exports |= network.loopback_direct(env)
    path = passphrase_file(places, env)
    if path is not None:
        exports["PULUMI_CONFIG_PASSPHRASE_FILE"] = str(path)
    return exports


def leave_other_repository(environ: MutableMapping[str, str], root: Path) -> None:
    """Drop what a shell still has from `invoke env` in another repository: who has gone on to this one means its own state."""
    other = environ.pop(PROVIDER_PROJECT, None)
    if other and Path(other) != root and environ.get("PULUMI_BACKEND_URL") == config.places(Path(other), environ).state.as_uri():
        del environ["PULUMI_BACKEND_URL"]


def export_lines(places: Places, env: Mapping[str, str]) -> list[str]:
    """Return the exports as lines of sh, with the programs of our own environment on PATH; the state's folder is there then."""
    folder = state_dir(places, env)
    if folder is not None:
        folder.mkdir(parents=True, exist_ok=True)  # the CLI stops without it
    lines = [f"export {name}={shlex.quote(value)}" for name, value in pulumi_exports(places, env).items()]
    return [*lines, f'export PATH={shlex.quote(str(OURS / "bin"))}:"$PATH"']


def child_env(places: Places, env: Mapping[str, str], cloud: str | None) -> dict[str, str]:
    """Return the environment for an engine: ours plus the exports, less the keys of other clouds and of training."""
    accounts = account_keys()  # two clouds may be one account's
    dropped = {key for keys in accounts.values() for key in keys} - set(accounts.get(cloud or "", ()))
    dropped |= {name for group in groups("token", "source") for name in group.names()}
    result = {key: value for key, value in env.items() if key not in dropped}
    # .env is read again by the provider's launcher; an empty variable keeps a dropped key from coming back that way.
    result.update({key: "" for key in dropped if key in env})
    result.update(pulumi_exports(places, env))
    result["PATH"] = f"{OURS / 'bin'}:{result.get('PATH', '')}"
    return result


def state_dir(places: Places, env: Mapping[str, str]) -> Path | None:
    """Return the folder of the file:// backend, None for another backend."""
    url = env.get("PULUMI_BACKEND_URL") or places.state.as_uri()
    return folder_of(url) if url.startswith("file://") else None
