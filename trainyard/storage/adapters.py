"""The adapter of a finished run, for a training that starts from it: which files it is, and what its own settings say."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from trainyard.errors import StoreError, UserError
from trainyard.jsontext import parse_json
from trainyard.storage.checkpoints import StoredFile
from trainyard.storage.client import StoreSettings
from trainyard.storage.find import find
from trainyard.storage.manifest import MANIFEST, MODEL_FOLDER, Manifest, ResultKey, decode, sha256
from trainyard.storage.markers import refuse_unclaimed
from trainyard.storage.seal import read, read_result

CONFIG = "adapter_config.json"
_WEIGHTS = "adapter_model.safetensors"
_BESIDE = "result.json"


@dataclass(frozen=True, slots=True)
class StoredAdapter:
    """A finished adapter: its attempt, the hash of its manifest, and what ``adapter_config.json`` says."""

    key: ResultKey
    manifest_sha256: str
    config: Mapping[str, object]


def find_adapter(settings: StoreSettings, reference: str, user: str) -> StoredAdapter:
    """Return the adapter of the run that a person means: its newest success.

    Raises UserError where there is none, or where it is no adapter; StoreError where the bucket was changed, ForeignResult where
    another run's result lies in its place.
    """
    named = find(settings, reference, user=user)
    if (path := named.path.strip("/")) not in ("", MODEL_FOLDER.strip("/")):
        raise UserError(f"init_from {reference}: '{path}' is no attempt: they are counted from 1, and an adapter is taken as a whole")
    key = named.key
    result = read_result(settings, key)
    if result is None or result.ending is not None:
        raise UserError(f"init_from {reference}: {key} is no success: a training starts from a finished adapter")
    refuse_unclaimed(settings, key, result.manifest)
    names = {file.path for file in _files(result.manifest)}
    if not {CONFIG, _WEIGHTS} <= names:
        raise UserError(f"init_from {reference}: the result of {key} is no adapter (it has no {MODEL_FOLDER}{CONFIG})")
    try:
        config = parse_json(read(settings, key.model + CONFIG) or b"")
    except ValueError:
        config = None
    if not isinstance(config, dict):
        raise StoreError(f"{settings.url}/{key.model}{CONFIG} cannot be read")
    return StoredAdapter(key, result.manifest_sha256, config)


def files_of(settings: StoreSettings, prefix: str, manifest_sha256: str) -> tuple[StoredFile, ...]:
    """Return the files of an adapter below ``prefix``; raises StoreError where its manifest is another one now."""
    body = read(settings, prefix + MANIFEST)
    if body is None or sha256(body) != manifest_sha256:
        raise StoreError(f"{settings.url}/{prefix}{MANIFEST} is missing, or other than when this run was prepared")
    return tuple(_files(decode(body, f"{settings.url}/{prefix}{MANIFEST}")))


def _files(manifest: Manifest) -> list[StoredFile]:
    names = {MODEL_FOLDER + CONFIG: CONFIG, MODEL_FOLDER + _WEIGHTS: _WEIGHTS, _BESIDE: _BESIDE}
    return [StoredFile(manifest.key.prefix + e.path, names[e.path], e) for e in manifest.files if e.path in names]
