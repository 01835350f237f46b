"""BucketLifecycle: the rules by which objects of the bucket expire. Only rules of ours are ever touched."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
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
    """Make exactly these the rules of ours."""
    typed = model.parse(LifecycleInputs, inputs)
    return typed.bucket, _put(call, typed)


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
    fresh: Properties = {**outputs, "rules": _as_inputs(current.rules), "kept_in": current.kept_in}
    if current.rules == _standing(outputs, inputs):
        return ReadResult(id, fresh, inputs)
    return ReadResult(id, fresh, {**inputs, "rules": _as_inputs(current.rules)})


def diff(call: Call, outputs: Properties, olds: Properties, news: Properties, plain: ResourceDiff) -> ResourceDiff:
    """Look at the store, too: a rule that somebody has switched off or changed is put right by the next up, without a refresh.

    A store that does not answer now is no change: the up that needs it says so.
    """
    if plain.changes or outputs.get("kept_in") not in ("store", "object"):
        return plain
    typed = model.parse(LifecycleInputs, news)
    from trainyard.storage import lifecycle

    try:
        settings = _settings(call, typed)
        current = lifecycle.get(settings) if settings else None
    except TrainyardError as error:
        if isinstance(error, StoreError) and error.code == lifecycle.DAMAGED:
            call.world.warn(error.message)
            return ResourceDiff({"rules": "update"})
        call.world.info(f"the lifecycle rules of bucket {typed.bucket} could not be looked at: {error.message}")
        return plain
    if current is None or current.kept_in == "unseen" or current.rules == _standing(outputs, news):
        return plain
    wrong = current.altered or tuple(sorted(rule.id for rule in set(current.rules) ^ set(_standing(outputs, news))))
    call.world.warn(f"lifecycle rules of bucket {typed.bucket} are not as declared any more: {', '.join(wrong)}")
    return ResourceDiff({"rules": "update"})


def update(call: Call, id: str, outputs: Properties, olds: Properties, news: Properties) -> Properties:
    """Make exactly these the rules of ours."""
    typed = model.parse(LifecycleInputs, news)
    if call.preview:
        return {**outputs, "rules": _as_inputs(_parse(list(typed.rules)))}
    return _put(call, typed)


def delete(call: Call, id: str, outputs: Properties, inputs: Properties) -> None:
    """Take our rules away; a store that does not answer must not hold up a teardown."""
    typed = model.parse(LifecycleInputs, inputs)
    try:
        settings = _settings(call, typed)
        if settings is not None:
            from trainyard.storage import lifecycle

            lifecycle.take_away(settings)
    except TrainyardError as error:
        call.world.warn(f"the lifecycle rules of bucket {typed.bucket} stay: {error}")


def _put(call: Call, typed: LifecycleInputs) -> Properties:
    rules = _parse(list(typed.rules))
    settings = _settings(call, typed)
    if settings is None:
        return _without_bucket(call, bool(rules))
    from trainyard.storage import lifecycle

    current = lifecycle.put(settings, rules, pause=call.world.sleep)
    for note in current.notes:
        (call.world.warn if current.dangerous or current.left_out else call.world.info)(note)
    return {"rules": _as_inputs(current.rules), "kept_in": current.kept_in, "left_out": list(current.left_out)}


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
    doc="The rules by which objects of the bucket expire; rules of others in the same bucket are left alone.",
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
