"""Lifecycle rules as data: what a person declares, what S3 wants, and one normal form to compare in. No network."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from typing import Any

from trainyard.clock import parse_iso
from trainyard.errors import Location, UserError
from trainyard.fields import Fields
from trainyard.jsontext import parse_json
from trainyard.settings.blocks import RULE, RULE_ACTIONS
from trainyard.yamlfile import Map

OURS = "trainyard-"
KEPT = ("models/", "attempts/", "closed/", "events/", "audit/", "lifecycle/")
"""Never expired: results, the markers that say which run a result belongs to and which environment is closed, what happened.

``checkpoints/`` and ``data/`` may expire: a result holds what it needs, and data go up again from where they came."""

_HINT = (
    "Name what may go: checkpoints/, logs/, data/, tmp/ or a prefix of your own; abort_uploads_days and noncurrent_days alone delete none."
)


@dataclass(frozen=True, slots=True)
class Rule:
    """What happens below a prefix ('' is the whole bucket), in whole days. The ID has no mark of ours; the wire's has."""

    id: str
    prefix: str = ""
    expire_days: int | None = None
    noncurrent_days: int | None = None
    abort_uploads_days: int | None = None


def declared_rules(rules: Sequence[Mapping[str, Any]]) -> tuple[Rule, ...]:
    """Read rules as a person declares them; raises UserError also for one that would expire results."""
    for number, (raw, rule) in enumerate(zip(rules, parse_each(rules), strict=True), 1):
        if lost := expires(rule.prefix) if rule.expire_days is not None else None:
            where = f"everything below '{rule.prefix}'" if rule.prefix else "the whole bucket"
            raise UserError(
                f"lifecycle rule {number}: expire_days over {where} would delete {lost}; results never expire",
                where=_where(raw, "prefix" if rule.prefix else "expire_days"),
                hint=_HINT,
            )
    return parse_rules(rules)


def expires(prefix: str) -> str | None:
    """Return what an expiration below a prefix would take away that must stay, None when nothing."""
    return next((kept for kept in KEPT if prefix.startswith(kept) or kept.startswith(prefix)), None)


def parse_rules(rules: Sequence[Mapping[str, Any]]) -> tuple[Rule, ...]:
    """Read rules as a stack's settings or state hold them; raises UserError naming the rule and what is wrong with it."""
    return tuple(sorted(parse_each(rules), key=lambda rule: rule.id))


def as_document(rules: Sequence[Rule], **more: object) -> bytes:
    """Return rules as an object of a bucket keeps them."""
    ordered = sorted(rules, key=lambda rule: rule.id)
    return (json.dumps({"version": 1, "rules": [asdict(rule) for rule in ordered], **more}, indent=1, sort_keys=True) + "\n").encode()


def in_document(body: bytes) -> tuple[Rule, ...]:
    """Return the rules that an object of a bucket keeps; raises ValueError for anything else."""
    try:
        document = parse_json(body)
        return parse_rules([{name: value for name, value in rule.items() if value is not None} for rule in document["rules"]])
    except (KeyError, TypeError, AttributeError, UserError) as error:
        raise ValueError(str(error)) from None


def parse_each(rules: Sequence[Mapping[str, Any]]) -> list[Rule]:
    """Read rules in the order they are declared in."""
    by_id: dict[str, Rule] = {}
    for number, raw in enumerate(rules, 1):
        rule = _parse(raw, f"lifecycle rule {number}")
        if rule.id in by_id:
            hint = "Give one of them an `id:` of its own."
            raise UserError(f"lifecycle rule {number}: a rule '{rule.id}' is there already", where=_where(raw), hint=hint)
        by_id[rule.id] = rule
    return list(by_id.values())


def expiring(wire: Mapping[str, Any]) -> bool:
    """Tell whether a rule of a store, ours or not, would expire results."""
    if wire.get("Status") != "Enabled" or not {"Days", "Date"} & set(wire.get("Expiration") or {}):
        return False
    return expires(str(_filter(wire).get("Prefix", ""))) is not None


def to_wire(rule: Rule) -> dict[str, Any]:
    """Return a rule as S3 wants it: always with an ID, always with Filter."""
    wire: dict[str, Any] = {"ID": OURS + rule.id, "Status": "Enabled", "Filter": {"Prefix": rule.prefix}}
    if rule.expire_days is not None:
        wire["Expiration"] = {"Days": rule.expire_days}
    if rule.noncurrent_days is not None:
        wire["NoncurrentVersionExpiration"] = {"NoncurrentDays": rule.noncurrent_days}
    if rule.abort_uploads_days is not None:
        wire["AbortIncompleteMultipartUpload"] = {"DaysAfterInitiation": rule.abort_uploads_days}
    return wire


def from_wire(wire: Mapping[str, Any]) -> Rule:
    """Return one of our rules as the store holds it; what we never send is not part of a Rule."""
    return Rule(
        id=str(wire["ID"])[len(OURS) :],
        prefix=_filter(wire).get("Prefix", ""),
        expire_days=wire.get("Expiration", {}).get("Days"),
        noncurrent_days=wire.get("NoncurrentVersionExpiration", {}).get("NoncurrentDays"),
        abort_uploads_days=wire.get("AbortIncompleteMultipartUpload", {}).get("DaysAfterInitiation"),
    )


def altered(wire: Mapping[str, Any]) -> bool:
    """Tell whether one of our rules is not as we would send it: switched off, with another filter, or with more actions."""
    return normal([wire]) != normal([to_wire(from_wire(wire))])


def without_aborts(rule: Rule) -> Rule | None:
    """Return a rule without its word on open uploads, None where it says nothing else."""
    return None if rule.expire_days is None and rule.noncurrent_days is None else replace(rule, abort_uploads_days=None)


def normal(rules: Sequence[Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
    """Return rules as a map from ID to the form in which equal rules are equal, whichever store wrote them."""
    return {str(rule.get("ID", "")): _normal(rule) for rule in rules}


def _parse(raw: Mapping[str, Any], what: str) -> Rule:
    if not isinstance(raw, Mapping):
        raise UserError(f"{what}: expected a mapping with prefix and days")
    fields = Fields(raw, what)
    said = {name: fields.shaped(name, shape) for name, shape in RULE.items()}
    fields.done()
    if not any(said[name] for name in RULE_ACTIONS):
        raise UserError(f"{what}: says nothing to do", where=fields.where(), hint=f"Give at least one of: {', '.join(RULE_ACTIONS)}.")
    prefix = str(said["prefix"] or "")
    identity = said["id"] or re.sub(r"[^a-z0-9]+", "-", prefix.lower()).strip("-")[:100] or "bucket"
    return Rule(**{**said, "id": identity, "prefix": prefix})  # type: ignore[arg-type]


def _where(raw: Mapping[str, Any], key: str | None = None) -> Location | None:
    """Return where a rule of a settings file stands, None for one that comes from elsewhere."""
    return raw.where(key) if isinstance(raw, Map) else None


def _normal(rule: Mapping[str, Any]) -> dict[str, Any]:
    result = {key: value for key, value in rule.items() if key not in ("ID", "Filter", "Prefix") and value not in (None, {}, [])}
    selected = _filter(rule)
    if selected:
        result["Filter"] = selected
    for name in ("Transitions", "NoncurrentVersionTransitions"):
        if name in result:
            moves = [_dated(move) for move in result[name]]
            result[name] = sorted(moves, key=lambda m: (m.get("Days") or m.get("NoncurrentDays") or 0, str(m.get("StorageClass"))))
    if "Expiration" in result:
        result["Expiration"] = _dated({key: value for key, value in result["Expiration"].items() if value is not False})
    return result


def _filter(rule: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a rule selects by, flat: 'And' and a top-level Prefix dissolved, the empty forms all {}."""
    selected: dict[str, Any] = {"Prefix": rule.get("Prefix")}
    conditions = dict(rule.get("Filter") or {})
    tags = list((conditions.get("And") or {}).get("Tags") or [])
    if conditions.get("Tag"):
        tags.append(conditions["Tag"])
    for source in (conditions, conditions.get("And") or {}):
        selected |= {key: value for key, value in source.items() if key not in ("And", "Tag", "Tags")}
    if tags:
        selected["Tags"] = sorted((str(tag["Key"]), str(tag["Value"])) for tag in tags)
    return {key: value for key, value in selected.items() if value not in (None, "", [])}


def _dated(value: Mapping[str, Any]) -> dict[str, Any]:
    result = dict(value)
    date = result.get("Date")
    if isinstance(date, str):
        date = parse_iso(date)
    if isinstance(date, datetime):
        aware = date if date.tzinfo else date.replace(tzinfo=UTC)
        result["Date"] = aware.astimezone(UTC).strftime("%Y-%m-%d")
    return result
