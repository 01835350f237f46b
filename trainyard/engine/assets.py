"""Assets: texts and files that go to a provider with their contents, and are compared by their hash."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from trainyard.engine.hook import EngineError, RefusedError
from trainyard.engine.kinds import ASSET, SIGNATURE, Properties, SecretValue


def restore_assets(value: Any, known: Mapping[str, Properties]) -> Any:
    """Give assets that came back as a hash their contents again."""
    if isinstance(value, list):
        return [restore_assets(item, known) for item in value]
    if isinstance(value, dict):
        if value.get(SIGNATURE) == ASSET and not any(value.get(k) for k in ("text", "path", "uri")):
            return dict(known.get(value.get("hash", ""), value))
        return {key: restore_assets(item, known) for key, item in value.items()}
    return SecretValue(restore_assets(value.value, known)) if isinstance(value, SecretValue) else value


def assets_in(value: Any) -> dict[str, Properties]:
    """Return the assets in a value by hash."""
    if isinstance(value, SecretValue):
        return assets_in(value.value)
    items = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    if isinstance(value, dict) and value.get(SIGNATURE) == ASSET:
        return {value.get("hash", ""): value}
    result: dict[str, Properties] = {}
    for item in items:
        result |= assets_in(item)
    return result


def with_hash(asset: Properties, workdir: Path) -> Properties:
    """Return the asset with the hash of its contents; relative paths are the program's."""
    if asset.get("uri"):
        raise RefusedError("remote assets are not supported by the built-in engine; use a file, or the Pulumi CLI")
    if asset.get("hash"):
        return asset
    if asset.get("path"):
        path = workdir / asset["path"]
        try:
            data = path.read_bytes()
        except OSError as error:
            raise EngineError(f"the asset {path} cannot be read: {error.strerror}") from None
    else:
        data = asset.get("text", "").encode()
    return {**{key: item for key, item in asset.items() if item}, "hash": hashlib.sha256(data).hexdigest()}
