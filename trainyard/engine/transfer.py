"""Outputs, export and import of a stack's deployment, without running anything."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from trainyard.engine import locks
from trainyard.engine import urn as urns
from trainyard.engine.backend import Backend, check_version, refuse_unknown_deployment, salt_of, version_of
from trainyard.engine.document import parse_json
from trainyard.engine.hook import EngineError, RefusedError, UserError
from trainyard.engine.kinds import SECRET, SIGNATURE
from trainyard.engine.project import Project
from trainyard.engine.secrets import Crypter, passphrase
from trainyard.engine.state import StackState, parse_resource
from trainyard.engine.values import Wire, display


def outputs(backend: Backend, project: Project, stack: str, env: Mapping[str, str], show_secrets: bool) -> dict[str, Any]:
    """Return the outputs of a stack; without secrets no passphrase is needed."""
    latest = backend.load(project.name, stack).get("latest") or {}
    crypter = _crypter(latest, env) if show_secrets else None
    for item in latest.get("resources") or []:
        if item["type"] == urns.STACK_TYPE:
            resource = parse_resource(item, crypter)
            return {key: display(value, secrets=show_secrets) for key, value in sorted(resource.outputs.items())}
    return {}


def hide(backend: Backend, project: Project, stack: str, env: Mapping[str, str]) -> Callable[[str], str]:
    """Return what masks the secrets of a stack in a text; without the passphrase nobody knows them, and it masks none."""
    latest = backend.load(project.name, stack).get("latest") or {}
    sealed, wire = list(_ciphertexts(latest.get("resources"))), Wire(Path())
    if sealed and ("PULUMI_CONFIG_PASSPHRASE" in env or env.get("PULUMI_CONFIG_PASSPHRASE_FILE")):
        crypter = _crypter(latest, env)
        for text in sealed:
            wire.remember(parse_json(crypter.decrypt(text)))
    return wire.hide


def _ciphertexts(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        if value.get(SIGNATURE) == SECRET and "ciphertext" in value:
            yield value["ciphertext"]
        for item in value.values():
            yield from _ciphertexts(item)
    elif isinstance(value, list):
        for item in value:
            yield from _ciphertexts(item)


def export(backend: Backend, project: Project, stack: str, env: Mapping[str, str], show_secrets: bool) -> str:
    """Return the deployment as the CLI's ``stack export`` writes it."""
    latest = backend.load(project.name, stack).get("latest") or {}
    if show_secrets:
        latest = _revealed(latest, _crypter(latest, env))
    return json.dumps({**version_of(latest), "deployment": latest}, indent=4, ensure_ascii=False)


def import_(backend: Backend, project: Project, stack: str, env: Mapping[str, str], text: str) -> int:
    """Put an exported deployment in the place of the stack's; returns how many resources it has."""
    try:
        document = parse_json(text)
        deployment = document["deployment"] or {}
        version = document["version"]
    except (ValueError, KeyError, TypeError):
        raise UserError("this is no exported deployment: expected {'version': 3, 'deployment': {...}}") from None
    check_version(version, document.get("features") or [], _refuse)
    refuse_unknown_deployment(deployment, _refuse)
    _check_integrity(deployment, project, stack)
    with locks.hold_lock(backend.root, project.name, stack):
        current = backend.load(project.name, stack).get("latest") or {}
        if not salt_of({"latest": deployment}) and current.get("secrets_providers"):
            deployment = {**deployment, "secrets_providers": current["secrets_providers"]}
        state = StackState(deployment, _crypter(deployment, env), Wire(Path()), None)
        backend.save(project.name, stack, state.encoded())
    return len(state.olds)


def _refuse(what: str) -> RefusedError:
    return RefusedError(f"{what}, which the built-in engine does not know")


def _crypter(latest: Mapping[str, Any], env: Mapping[str, str]) -> Crypter:
    salt = salt_of({"latest": latest})
    if salt is None:
        raise EngineError("the state has no salt: its secrets cannot be read")
    return Crypter(passphrase(env), salt)


def _revealed(value: Any, crypter: Crypter) -> Any:
    if isinstance(value, dict):
        if value.get(SIGNATURE) == SECRET and "ciphertext" in value:
            return {SIGNATURE: SECRET, "plaintext": crypter.decrypt(value["ciphertext"])}
        return {key: _revealed(item, crypter) for key, item in value.items()}
    return [_revealed(item, crypter) for item in value] if isinstance(value, list) else value


def _check_integrity(deployment: Mapping[str, Any], project: Project, stack: str) -> None:
    """Refuse a deployment whose resources belong elsewhere or stand before what they need."""
    prefix = f"urn:pulumi:{stack}::{project.name}::"
    seen: set[str] = set()
    for item in deployment.get("resources") or []:
        resource = parse_resource(item, None)
        if not resource.urn.startswith(prefix):
            raise UserError(f"{resource.urn} does not belong to stack {stack} of project {project.name}")
        missing = sorted(resource.needs() - seen)
        if missing and not resource.delete:
            raise UserError(f"{resource.urn} stands before what it needs: {missing[0]}")
        seen.add(resource.urn)
