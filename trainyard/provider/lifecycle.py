"""BucketLifecycle: the rules by which objects of the bucket expire. Only rules that this stack declares are touched."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from hashlib import sha256
from typing import TYPE_CHECKING, cast

from trainyard.errors import StoreError, TrainyardError, UserError
from trainyard.leases.store import settings_of
from trainyard.provider import model
from trainyard.provider.call import Call
from trainyard.provider.handler import CheckFailed, ReadResult, ResourceDiff, ResourceHandler
from trainyard.provider.model import CheckFailure, prop
from trainyard.provider.values import Properties, Tree, has_unknown
from trainyard.settings.table import NO_BUCKET

if TYPE_CHECKING:
    from trainyard.storage.client import StoreSettings
    from trainyard.storage.rules import Rule


@dataclass(frozen=True, slots=True, kw_only=True)
class LifecycleInputs:
    """Inputs of the rules."""

    bucket: str = prop("Bucket the rules are for.", replaces=True)
    store: str | None = prop("Kind of the store.", None, replaces=True)
    rules: tuple[Mapping[str, object], ...] = prop(
        "Rules: id, prefix, and at least one of expire_days, noncurrent_days, abort_uploads_days.", []
    )
    fence_id: str | None = prop(
        "Id of the environment's lease: who declares them, where several share a bucket. None: the stack's name.", None, ignored=True
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class LifecycleOutputs:
    """Outputs of the rules."""

    rules: tuple[Mapping[str, object], ...] = prop("The rules as they stand.")
    kept_in: str = prop(
        "'store': the store does it; 'object': kept in the bucket, for `invoke gc`; 'unseen': this key may not look; 'none': no bucket."
    )
    left_out: tuple[str, ...] = prop("Ids of rules without their `abort_uploads_days`, which this store does not take.", [])


def check(call: Call, olds: Properties | None, news: Properties) -> Properties:
    """Refuse rules that no store could keep."""
    rules = model.normal(LifecycleInputs, news)["rules"]
    if isinstance(rules, list) and not has_unknown(rules):
        from trainyard.storage.rules import declared_rules

        try:
            declared_rules(cast("list[Mapping[str, object]]", rules))
        except UserError as error:
            raise CheckFailed([CheckFailure("rules", str(error))]) from None
    return news


def create(call: Call, inputs: Properties) -> tuple[str, Properties]:
    """Let these rules stand in the bucket."""
    typed = model.parse(LifecycleInputs, inputs)
    return typed.bucket, _put(call, typed, None)


def foresee(call: Call, inputs: Properties) -> Properties:
    """Say that no rules will be kept, where there will be no bucket."""
    return _without_bucket(call, bool(inputs.get("rules"))) if inputs.get("bucket") == NO_BUCKET else {}


def read(call: Call, id: str, outputs: Properties, inputs: Properties) -> ReadResult:
    """Say which rules stand; those that drifted become inputs, so that the next up puts them right."""
    if not id:
        return ReadResult("", {}, inputs)
    typed = model.parse(LifecycleInputs, inputs)
    settings = _settings(call, typed)
    if settings is None:
        return ReadResult(id, outputs, inputs)
    from trainyard.storage import lifecycle

    current = lifecycle.get(settings)
    if current.kept_in == "unseen":
        return ReadResult(id, outputs, inputs)
    declared = _standing(outputs, inputs)
    standing = _of(current.rules, declared)
    fresh: Properties = {**outputs, "rules": _as_inputs(standing), "kept_in": current.kept_in}
    return ReadResult(id, fresh, inputs if standing == declared else {**inputs, "rules": _as_inputs(standing)})


def diff(call: Call, outputs: Properties, olds: Properties, news: Properties, plain: ResourceDiff) -> ResourceDiff:
    """Look at the store, too: a rule that somebody has switched off or changed is put right by the next up, without a refresh.

    A store that does not answer now is no change: the up that needs it says so.
    """
    if plain.changes or outputs.get("kept_in") not in ("store", "object"):
        return plain
    if has_unknown(news.get("fence_id")):
        return ResourceDiff({"fence_id": "update"})
    typed = model.parse(LifecycleInputs, news)
    from trainyard.storage import lifecycle

    try:
        wrong = _wrong(call, typed, _standing(outputs, news))
    except TrainyardError as error:
        if isinstance(error, StoreError) and error.code == lifecycle.DAMAGED:
            call.world.warn(error.message)
            return ResourceDiff({"rules": "update"})
        call.world.info(f"the lifecycle rules of bucket {typed.bucket} could not be looked at: {error.message}")
        return plain
    return ResourceDiff({wrong: "update"}) if wrong else plain


def update(call: Call, id: str, outputs: Properties, olds: Properties, news: Properties) -> Properties:
    """Let these rules stand in the bucket, and those that were declared before no more."""
    typed = model.parse(LifecycleInputs, news)
    if call.preview:
        return {**outputs, "rules": _as_inputs(_parse(list(typed.rules)))}
    return _put(call, typed, model.parse(LifecycleInputs, olds))


def delete(call: Call, id: str, outputs: Properties, inputs: Properties) -> None:
    """Take our rules away, but for those that others declare; a store that does not answer must not hold up a teardown."""
    typed = model.parse(LifecycleInputs, inputs)
    ids = {rule.id for rule in _parse(list(typed.rules))}
    try:
        settings = _settings(call, typed) if ids else None
        if settings is not None:
            from trainyard.storage import declared, lifecycle

            beside = declared.declared_beside(settings, _owner(call, typed))
            lifecycle.put(settings, (), before=ids, others=[rule for one in beside for rule in one.rules], default=False)
            declared.withdraw(settings, _owner(call, typed))
            for one in beside:
                if names := ", ".join(rule.id for rule in one.rules if rule.id in ids):
                    call.world.info(f"lifecycle rules of bucket {typed.bucket} stay, for stack '{one.stack}' declares them: {names}")
    except TrainyardError as error:
        call.world.warn(f"the lifecycle rules of bucket {typed.bucket} may stay: {error}")


def _put(call: Call, typed: LifecycleInputs, old: LifecycleInputs | None) -> Properties:
    rules, before = _parse(list(typed.rules)), {rule.id for rule in _parse(list(old.rules))} if old else set()
    settings = _settings(call, typed)
    if settings is None:
        return _without_bucket(call, bool(rules))
    from trainyard.storage import declared, lifecycle

    owner = _owner(call, typed)
    beside = declared.declared_beside(settings, owner) if rules or before else []
    if rules:  # before they stand: a destroy of another stack at this moment leaves them
        declared.declare(settings, declared.RuleDeclaration(owner, call.stack, rules))
    others = [rule for one in beside for rule in one.rules]
    current = lifecycle.put(settings, rules, before=before, others=others, pause=call.world.sleep)
    for former in {_owner(call, one) for one in (old, typed) if one and before} - ({owner} if rules else set()):
        declared.withdraw(settings, former)
    for one in beside:
        if names := ", ".join(rule.id for rule in set(one.rules) - set(rules) if rule.id in {own.id for own in rules}):
            hint = "they are as this stack says now; an `id:` of its own lets both stand"
            call.world.warn(
                f"stack '{one.stack}' declares other lifecycle rules under the same id in bucket {typed.bucket}: {names}; {hint}"
            )
    for note in current.notes:
        (call.world.warn if current.dangerous or current.left_out else call.world.info)(note)
    return {"rules": _as_inputs(_of(current.rules, rules)), "kept_in": current.kept_in, "left_out": list(current.left_out)}


def _wrong(call: Call, typed: LifecycleInputs, standing: tuple[Rule, ...]) -> str | None:
    """Say what is not in the bucket as it is declared, and return which property an update of would mend it."""
    settings = _settings(call, typed)
    if settings is None or not typed.rules:
        return None
    from trainyard.storage import declared, lifecycle

    current = lifecycle.get(settings)
    if current.kept_in == "unseen":
        return None
    if wrong := set(current.altered) & {rule.id for rule in standing} or {
        rule.id for rule in set(_of(current.rules, standing)) ^ set(standing)
    }:
        call.world.warn(f"lifecycle rules of bucket {typed.bucket} are not as declared any more: {', '.join(sorted(wrong))}")
        return "rules"
    record = declared.declared_by(settings, _owner(call, typed))
    if record is None or record.rules != _parse(list(typed.rules)):
        call.world.info(
            f"bucket {typed.bucket} has not on record that this stack declares its rules: a destroy of another could take them away"
        )
        return "fence_id"
    return None


def _owner(call: Call, typed: LifecycleInputs) -> str:
    return typed.fence_id or f"stack-{sha256(call.urn.encode()).hexdigest()[:16]}"


def _of(rules: tuple[Rule, ...], declared: tuple[Rule, ...]) -> tuple[Rule, ...]:
    """Return those of a bucket's rules that are declared, as they stand."""
    ids = {rule.id for rule in declared}
    return tuple(rule for rule in rules if rule.id in ids)


def _without_bucket(call: Call, rules: bool) -> Properties:
    if rules:
        call.world.warn("there is no bucket: the lifecycle rules are not kept anywhere")
    return {"rules": [], "kept_in": "none", "left_out": []}


def _settings(call: Call, typed: LifecycleInputs) -> StoreSettings | None:
    return settings_of(call.world, typed.store, typed.bucket)


def _parse(rules: list[Mapping[str, object]] | list[Tree]) -> tuple[Rule, ...]:
    from trainyard.storage.rules import parse_rules

    return parse_rules(cast("list[Mapping[str, object]]", rules))


def _standing(outputs: Properties, inputs: Properties) -> tuple[Rule, ...]:
    """Return the rules that must stand: those declared, as far as the store has taken them."""
    from trainyard.storage.rules import without_aborts

    left_out = cast("list[str]", outputs.get("left_out") or [])
    declared = _parse(list(cast("list[Tree]", inputs.get("rules") or [])))
    return tuple(rule for rule in (without_aborts(one) if one.id in left_out else one for one in declared) if rule)


def _as_inputs(rules: tuple[Rule, ...]) -> list[Tree]:
    return [{key: value for key, value in asdict(rule).items() if value is not None} for rule in rules]


BUCKET_LIFECYCLE = ResourceHandler(
    token="trainyard:index:BucketLifecycle",
    doc="The rules by which objects of the bucket expire; rules of others in the same bucket are left alone, those of other stacks, too.",
    inputs=LifecycleInputs,
    outputs=LifecycleOutputs,
    check=check,
    diff=diff,
    create=create,
    foresee=foresee,
    read=read,
    update=update,
    delete=delete,
)
