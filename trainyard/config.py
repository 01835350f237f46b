"""The one reader of the environment: places on disk, ``.env``, secrets by reference, stack settings.

Everything else gets values. Order of precedence: shell, then ``.env`` beside Pulumi.yaml, then
``Pulumi.<stack>.yaml``.
"""

from __future__ import annotations

import os
import re
import subprocess
import unicodedata
from collections.abc import Mapping, MutableMapping
from dataclasses import dataclass
from pathlib import Path

from trainyard.envfile import read_env_file
from trainyard.errors import UserError
from trainyard.secret import Secret
from trainyard.shipped import checkout, shipped
from trainyard.textfile import expanded, read_text

PROJECT = "trainyard"
ACCOUNT = "TRAINYARD_ACCOUNT"
"""Variable with the account that a server does something for."""
_PROJECT_LINE = re.compile(rb"^name:[ \t]*[\"']?" + PROJECT.encode() + rb"[\"']?[ \t]*(?:#.*)?\r?$", re.M)
_STACK_NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,99}")
_ATTEMPT = re.compile(r"[1-9][0-9]{0,8}")


@dataclass(frozen=True, slots=True)
class Places:
    """Where things lie. ``home`` belongs to the controller and may be lost; ``outside`` plays the world outside."""

    root: Path
    home: Path
    outside: Path
    settings: Path

    @property
    def state(self) -> Path:
        """Root of the file:// backend."""
        return self.home / "state"

    @property
    def runs(self) -> Path:
        """One folder a run: ``runs/<user>/<label>/<attempt>``."""
        return self.home / "runs"

    @property
    def intents(self) -> Path:
        """Intent files of pod creations, one folder a lease."""
        return self.home / "intents"

    @property
    def ssh(self) -> Path:
        """Private keys, one folder a stack."""
        return self.home / "ssh"

    @property
    def logs(self) -> Path:
        """Logs of the tools themselves."""
        return self.home / "logs"

    @property
    def notices(self) -> Path:
        """Notices that wait to be sent."""
        return self.home / "notices"

    @property
    def trackers(self) -> Path:
        """What trackers keep on this machine."""
        return self.home / "trackers"

    @property
    def ledger(self) -> Path:
        """The record of all runs."""
        return self.home / "ledger.db"

    @property
    def cloud(self) -> Path:
        """Root of the local cloud."""
        return self.outside / "cloud"

    @property
    def store(self) -> Path:
        """Root of the local S3 server."""
        return self.outside / "store"


def find_root(start: Path | None = None) -> Path:
    """Return the repository: ``TRAINYARD_PROJECT_DIR``, else the nearest folder upwards that is one, else this package's own checkout.

    Raises UserError where there is none.
    """
    named = os.environ.get("TRAINYARD_PROJECT_DIR")
    if named:
        return Path(named).resolve()
    here = (start or Path.cwd()).resolve()
    root = next((folder for folder in (here, *here.parents) if is_repository(folder)), checkout())
    if root is None:
        raise UserError(f"{here} is in no repository of Trainyard's", hint="To make it one: trainyard init")
    return root


def is_repository(folder: Path) -> bool:
    """Tell whether a folder is the top of a repository of Trainyard's; another project's Pulumi.yaml is none."""
    try:
        return _PROJECT_LINE.search((folder / "Pulumi.yaml").read_bytes()) is not None
    except OSError:
        return False


def places(root: Path | None = None, env: Mapping[str, str] | None = None) -> Places:
    """Return the places for a checkout; ``TRAINYARD_HOME`` moves ``.trainyard/``, ``TRAINYARD_LOCAL_ROOT`` the outside world."""
    env = os.environ if env is None else env
    base = (root or find_root()).resolve()
    data = Path(env.get("XDG_DATA_HOME") or _home(env) / ".local" / "share")
    config = Path(env.get("XDG_CONFIG_HOME") or _home(env) / ".config")
    return Places(
        root=base,
        home=Path(env.get("TRAINYARD_HOME") or base / ".trainyard").resolve(),
        outside=Path(env.get("TRAINYARD_LOCAL_ROOT") or data / "trainyard").resolve(),
        settings=(config / "trainyard").resolve(),
    )


def _home(env: Mapping[str, str]) -> Path:
    try:
        return Path(env.get("HOME") or Path.home())
    except RuntimeError:
        raise UserError("where your home folder is is not known", hint="Set HOME.") from None


def load_env(root: Path, environ: MutableMapping[str, str] = os.environ) -> dict[str, str]:
    """Put what ``<root>/.env`` says into the environment, where the shell says nothing, and return a copy of all of it.

    Whoever looks there afterwards, our code or a library, finds the same. Raises UserError with file:line for a line
    that is not ``NAME=value``.
    """
    for name, value in read_env_file(root / ".env").items():
        environ.setdefault(name, value)
    return dict(environ)


def env_file_warning(root: Path) -> str | None:
    """Return a warning when others can read ``.env``."""
    path = root / ".env"
    if path.is_file() and path.stat().st_mode & 0o077:
        return f".env can be read by other users of this machine; close it with: chmod 600 {path}"
    return None


def resolve_secret(value: str, env: Mapping[str, str], what: str) -> Secret:
    """Return the secret itself, following one reference: ``env:NAME``, ``file:PATH`` or ``cmd:COMMAND``.

    Raises UserError, which names the variable and never shows the value, for what no key can be.
    """
    kind, _, rest = value.partition(":")
    if kind == "env" and rest:
        if rest not in env:
            raise UserError(f"{what}: refers to env:{rest}, which is not set")
        value = env[rest]
    elif kind == "file" and rest:
        try:
            path = expanded(rest)
            value = read_text(path)
        except FileNotFoundError:
            raise UserError(f"{what}: cannot read {rest}: there is no such file") from None
        except UserError as error:
            raise UserError(f"{what}: {error.message}", where=error.where, hint=error.hint) from None
    elif kind == "cmd" and rest:
        done = subprocess.run(["sh", "-c", rest], stdout=subprocess.PIPE, text=True, errors="replace", check=False)
        if done.returncode:
            raise UserError(f"{what}: its command exited {done.returncode}")
        value = done.stdout
    return Secret(_checked_key(value, what))


def _checked_key(value: str, what: str) -> str:
    """Return a key without the line end that an editor or a file of another system left behind it."""
    key = value.strip(" \t\r\n")
    if not key:
        raise UserError(f"{what}: is empty")
    for character in key:
        if not "!" <= character <= "~":
            name = unicodedata.name(character, "").lower() or f"character U+{ord(character):04X}"
            raise UserError(f"{what}: holds what no key has: {name}", hint="Copy the key again, alone, without quotes or line ends.")
    return key


def secret(env: Mapping[str, str], name: str) -> Secret | None:
    """Return the secret held (or referred to) by a variable, None when unset or empty."""
    value = env.get(name, "")
    return resolve_secret(value, env, name) if value.strip() else None


def group(env: Mapping[str, str], names: tuple[str, ...], *, optional: tuple[str, ...] = ()) -> dict[str, str] | None:
    """Return a group of variables: all set, or None when none is set.

    Raises UserError naming what is missing when only some of ``names`` are set.
    """
    have = [name for name in names if env.get(name)]
    if not have:
        return None
    missing = [name for name in names if not env.get(name)]
    if missing:
        raise UserError(f"{', '.join(have)} set, but not {', '.join(missing)}: set all of them, or none")
    return {name: env[name] for name in (*names, *optional) if env.get(name)}


def is_stack_name(word: str) -> bool:
    """Tell whether an environment can be called so."""
    return _STACK_NAME.fullmatch(word) is not None


def settings_file(root: Path, stack: str) -> Path:
    """Return the path of a stack's settings; raises UserError for an impossible or unknown stack name."""
    if not is_stack_name(stack):
        raise UserError(f"'{stack}' is no stack name: use a-z, 0-9, '.', '_' and '-'")
    path = root / f"Pulumi.{stack}.yaml"
    if not path.is_file():
        remedy = f"\nOne of that cloud is written by: invoke setup --stack {stack}" if shipped(path.name).is_file() else ""
        raise UserError(
            f"there is no stack '{stack}' ({path.name} is missing)", hint=f"Stacks here: {', '.join(stack_names(root)) or 'none'}.{remedy}"
        )
    return path


AUTO = "auto"
"""In place of a stack's name: the cheapest."""


def stack_names(root: Path) -> list[str]:
    """Return the environments of a repository, by the names of their settings files."""
    return sorted(path.name[len("Pulumi.") : -len(".yaml")] for path in root.glob("Pulumi.*.yaml") if path.name.count(".") == 2)


def git(*words: str, at: Path | None = None) -> str:
    """Return what git says, an empty text where it says nothing: outside a repository, or where there is none on this machine."""
    where = ["-C", str(at)] if at is not None else []
    try:
        done = subprocess.run(["git", *where, *words], capture_output=True, text=True, errors="replace", check=False)
    except OSError:
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""


def slug(text: str, limit: int = 40) -> str:
    """Return the text as ``[a-z0-9-]``, at most ``limit`` characters; raises UserError when nothing is left."""
    result = re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")[:limit].strip("-")
    if not result:
        raise UserError(f"'{text}' has no letter or digit to make a name of")
    return result


def attempt_number(word: str) -> int | None:
    """Return the number of an attempt, None for a word that is none: 0, 01, -1, other alphabets' digits, a billion and more."""
    return int(word) if _ATTEMPT.fullmatch(word) else None
