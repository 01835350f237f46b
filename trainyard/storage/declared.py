"""Which environments declare rules of a bucket: an object each, so that none takes away what another one counts on."""

from __future__ import annotations

from dataclasses import dataclass

from trainyard.jsontext import parse_json
from trainyard.storage.bucket import forget, listing
from trainyard.storage.client import StoreSettings
from trainyard.storage.rules import Rule, as_document, in_document
from trainyard.storage.seal import put_proven, read, read_each

_FOLDER = "lifecycle/declared/"


@dataclass(frozen=True, slots=True)
class RuleDeclaration:
    """What an environment declares: its id, the name of its stack for a person, its rules."""

    owner: str
    stack: str
    rules: tuple[Rule, ...]


def declare(settings: StoreSettings, declaration: RuleDeclaration) -> None:
    """Put on record what an environment declares, where the record says something else."""
    if declared_by(settings, declaration.owner) != declaration:
        put_proven(settings, _FOLDER + declaration.owner, as_document(declaration.rules, stack=declaration.stack))


def withdraw(settings: StoreSettings, owner: str) -> None:
    """Take an environment off the record."""
    forget(settings, _FOLDER + owner)


def declared_by(settings: StoreSettings, owner: str) -> RuleDeclaration | None:
    """Return what an environment has put on record."""
    return _parse(owner, read(settings, _FOLDER + owner))


def declared_beside(settings: StoreSettings, owner: str) -> list[RuleDeclaration]:
    """Return what all other environments have put on record."""
    keys = sorted(item.key for item in listing(settings, _FOLDER) if item.key != _FOLDER + owner)
    bodies = read_each(settings, keys) if keys else []
    records = (_parse(key.removeprefix(_FOLDER), body) for key, body in zip(keys, bodies, strict=True))
    return [one for one in records if one]


def _parse(owner: str, body: bytes | None) -> RuleDeclaration | None:
    """Return a record; None for what is none: its environment's next up writes it anew."""
    if body is None:
        return None
    try:
        return RuleDeclaration(owner, str(parse_json(body).get("stack", "")), in_document(body))
    except (ValueError, AttributeError):
        return None
