"""The ``file://`` backend: checkpoints as the Pulumi CLI writes them, but never half written.

A checkpoint is replaced by fsync and rename, its predecessor stays as ``.bak``, and a file that cannot be
read is never overwritten. What is inside a deployment belongs to ``state.py``; locks to ``locks.py``.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from trainyard.engine import locks
from trainyard.engine.document import parse_json
from trainyard.engine.hook import EngineError, RefusedError, UserError, exact_time, hook, sync, write_atomic, write_new

_NAME = re.compile(r"^[A-Za-z0-9_.-]{1,100}$")
_KNOWN_KEYS = {"manifest", "secrets_providers", "resources", "pending_operations", "metadata"}
_FEATURES = ("replaceWith", "taint")  # named by the field of a resource that uses them
_SAFE_METADATA = {"integrity_error"}


class Backend:
    """The stacks below one folder; takes ``file:///abs/path``, ``file://./rel`` or a path."""

    __slots__ = ("root",)

    def __init__(self, url: str | os.PathLike[str]) -> None:
        self.root = folder_of(url) / ".pulumi"

    def stacks(self, project: str) -> list[str]:
        """Return the names of the project's stacks, sorted."""
        folder = self.root / "stacks" / project
        return sorted(p.name[: -len(".json")] for p in folder.glob("*.json") if not p.name.startswith("."))

    def checkpoint_path(self, project: str, stack: str) -> Path:
        """Return where the stack's checkpoint is (or would be)."""
        for what, name in (("project", project), ("stack", stack)):
            if not _NAME.match(name) or name in (".", ".."):
                raise UserError(f"'{name}' is no {what} name: use letters, digits, '.', '_' and '-', at most 100")
        return self.root / "stacks" / project / f"{stack}.json"

    def exists(self, project: str, stack: str) -> bool:
        """Say whether the stack exists."""
        return self.checkpoint_path(project, stack).exists()

    def create(self, project: str, stack: str, salt: str) -> None:
        """Make an empty stack whose state holds the salt; refuses one that exists."""
        path = self.checkpoint_path(project, stack)
        path.parent.mkdir(parents=True, exist_ok=True)
        meta = self.root / "meta.yaml"
        if not meta.exists():
            write_atomic(meta, b"version: 1\n", durable=True)
        if not write_new(path, checkpoint_text(project, stack, encode(new_deployment(salt))), durable=True):
            raise UserError(f"stack '{stack}' exists already")

    def load(self, project: str, stack: str) -> dict[str, Any]:
        """Return the ``checkpoint`` part of the file: ``{"stack": ..., "latest": {...}}``.

        Raises UserError when there is no such stack, EngineError when the file is damaged (it names the last
        good backup), RefusedError when it holds what this engine does not know.
        """
        path = self.checkpoint_path(project, stack)
        if path.with_name(path.name + ".gz").exists():
            raise RefusedError(f"{path.name}.gz: compressed checkpoints are not supported by the built-in engine; use the Pulumi CLI")
        try:
            data = path.read_bytes()
        except FileNotFoundError:
            known = ", ".join(self.stacks(project)) or "none"
            raise UserError(
                f"there is no stack '{stack}' of project '{project}' in {self.root.parent}", hint=f"Stacks there: {known}."
            ) from None
        try:
            checkpoint = _parse(data)
        except (ValueError, KeyError, TypeError) as error:
            raise self._damaged(project, stack, path, error) from None
        _refuse_unknown(path, checkpoint)
        result: dict[str, Any] = checkpoint["checkpoint"]
        return result

    def save(self, project: str, stack: str, deployment: bytes) -> None:
        """Replace the checkpoint by a deployment as JSON: on disk when this returns, the one before kept as ``.bak``."""
        path = self.checkpoint_path(project, stack)
        try:
            _keep_backup(path)
            draft = path.with_name(f".{path.name}.tmp")  # one name while the stack is locked: the next write takes what a crash leaves
            write_atomic(path, checkpoint_text(project, stack, deployment), durable=True, draft=draft)
            path.with_name(path.name + ".attrs").unlink(missing_ok=True)  # the CLI's side file: its MD5 is that of older content
        except OSError as error:
            raise EngineError(
                f"the state file {path} cannot be written: {error.strerror}", hint="It stays as it was written last."
            ) from None

    def remove(self, project: str, stack: str) -> None:
        """Remove a stack; refuses while resources or pending operations are recorded in it."""
        latest = self.load(project, stack).get("latest") or {}
        if latest.get("resources") or latest.get("pending_operations"):
            raise RefusedError(f"stack '{stack}' still has resources or pending operations: destroy it first")
        with locks.hold_lock(self.root, project, stack):
            path = self.checkpoint_path(project, stack)
            os.replace(path, path.with_name(path.name + ".bak"))  # as the CLI does: the last record stays readable
            for suffix in (".attrs", ".pulumi-tags", ".pulumi-tags.attrs"):
                path.with_name(path.name + suffix).unlink(missing_ok=True)
            sync(path.parent)

    def locks(self, project: str, stack: str) -> list[locks.Lock]:
        """Return the locks on the stack, dead ones included."""
        return locks.find(self.root, project, stack)

    def last_good_backup(self, project: str, stack: str) -> Path | None:
        """Return the newest older version of the checkpoint that can be read."""
        path = self.checkpoint_path(project, stack)
        folder = self.root / "backups" / project / stack
        newest_first = sorted((p for p in folder.glob("*.json")), key=lambda p: p.stat().st_mtime_ns, reverse=True)
        for candidate in (path.with_name(path.name + ".bak"), *newest_first):
            try:
                _parse(candidate.read_bytes())
            except (OSError, ValueError, KeyError, TypeError):
                continue
            return candidate
        return None

    def _damaged(self, project: str, stack: str, path: Path, error: Exception) -> EngineError:
        backup = self.last_good_backup(project, stack)
        hint = (
            f"The last good version is {backup}; look at it, then copy it over the damaged file."
            if backup
            else "There is no older version."
        )
        return EngineError(f"the state file {path} is damaged ({error}); nothing was changed", hint=hint)


def new_deployment(salt: str) -> dict[str, Any]:
    """Return a deployment without resources."""
    provider = {"type": "passphrase", "state": {"salt": salt}}
    return {"manifest": manifest(), "secrets_providers": provider, "metadata": {}}


def manifest() -> dict[str, str]:
    """Return the manifest of a deployment written now: the CLI checks magic against version."""
    return {"time": exact_time(), "magic": hashlib.sha256(hook().name.encode()).hexdigest(), "version": hook().name}


def checkpoint_text(project: str, stack: str, deployment: bytes) -> bytes:
    """Return the whole content of a checkpoint file."""
    used = sorted(name for name in _FEATURES if f'"{name}":'.encode() in deployment)
    version = version_of(parse_json(deployment)) if used else {"version": 3}  # a property may have the name of a feature
    head = encode({**version, "checkpoint": {"stack": f"organization/{project}/{stack}"}})
    return b"".join((head[:-2], b',"latest":', deployment, b"}}"))


def version_of(deployment: Mapping[str, Any]) -> dict[str, Any]:
    """Return format version and features of a deployment as the CLI writes them: 4 only when a feature is used."""
    used = {name for resource in deployment.get("resources") or [] for name in _FEATURES if resource.get(name)}
    return {"version": 4, "features": sorted(used)} if used else {"version": 3}


def check_version(version: object, features: Iterable[str], refuse: Callable[[str], RefusedError]) -> None:
    """Raise what ``refuse(text)`` returns for a format or a feature that is not known."""
    if version not in (3, 4):
        raise refuse(f"deployment format {version}")
    unknown = sorted(set(features) - set(_FEATURES))
    if unknown:
        raise refuse(f"features {', '.join(unknown)}")


def encode(document: object) -> bytes:
    """Return the JSON bytes of a document: compact, and never with what JSON does not know (NaN)."""
    return json.dumps(document, ensure_ascii=False, separators=(",", ":"), allow_nan=False).encode()


def salt_of(checkpoint: Mapping[str, Any]) -> str | None:
    """Return the salt kept in a checkpoint, None when it has none."""
    provider = (checkpoint.get("latest") or {}).get("secrets_providers") or {}
    salt = (provider.get("state") or {}).get("salt")
    return salt if isinstance(salt, str) else None


def folder_of(url: str | os.PathLike[str]) -> Path:
    """Return the folder that a path or a file:// URL names; raises RefusedError for another kind of backend."""
    text = os.fspath(url)
    if "://" not in text:
        return Path(text).expanduser().absolute()
    parts = urlsplit(text)
    if parts.scheme != "file":
        raise RefusedError(
            f"the built-in engine keeps state in file:// backends only, not in {parts.scheme}://",
            hint=hook().advice,
        )
    path = unquote(text[len("file://") :].partition("?")[0])
    return Path(path if path else "/").expanduser().absolute()


def _parse(data: bytes) -> dict[str, Any]:
    document = parse_json(data)
    if not isinstance(document, dict) or not isinstance(document["checkpoint"], dict):
        raise ValueError("not a checkpoint")
    if not isinstance(document["version"], int):
        raise ValueError("its version is no number")
    latest = document["checkpoint"].get("latest") or {}
    if not isinstance(latest, dict):
        raise ValueError("'latest' is no object")
    for resource in latest.get("resources") or []:
        if not isinstance(resource["urn"], str) or not isinstance(resource["type"], str):
            raise ValueError("a resource without urn or type")
    return document


def _refuse_unknown(path: Path, document: Mapping[str, Any]) -> None:
    def refuse(what: str) -> RefusedError:
        return RefusedError(f"{path.name}: {what}, which the built-in engine does not know; use the Pulumi CLI for this stack")

    check_version(document["version"], document.get("features") or [], refuse)
    refuse_unknown_deployment(document["checkpoint"].get("latest") or {}, refuse)


def refuse_unknown_deployment(latest: Mapping[str, Any], refuse: Callable[[str], RefusedError]) -> None:
    """Raise what ``refuse(text)`` returns when a deployment holds anything this engine would lose."""
    for key in latest:
        if key not in _KNOWN_KEYS and latest[key]:
            raise refuse(f"it holds '{key}'")
    for key, value in (latest.get("metadata") or {}).items():
        if key not in _SAFE_METADATA and value:
            raise refuse(f"its metadata hold '{key}'")
    provider = latest.get("secrets_providers") or {}
    if provider.get("type") not in (None, "", "passphrase"):
        raise refuse(f"its secrets are kept by '{provider['type']}'")
    for resource in latest.get("resources") or []:
        if resource.get("viewOf"):
            raise refuse(f"{resource['urn']} is a view of another resource")


def _keep_backup(path: Path) -> None:
    """Keep the present file as ``.bak`` by a hard link: no byte is copied, and it is never half written."""
    temporary = path.with_name(f".{path.name}.bak")
    temporary.unlink(missing_ok=True)
    try:
        os.link(path, temporary)
    except FileNotFoundError:
        return
    except OSError:  # a file system without hard links
        temporary.write_bytes(path.read_bytes())
    os.replace(temporary, path.with_name(path.name + ".bak"))
