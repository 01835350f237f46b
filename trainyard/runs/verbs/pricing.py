"""What a plan of a run costs at most, and the settings of its pod that follow from it. Nothing is rented here."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from trainyard.clouds.protocol import SETTING, VALUE, Cloud
from trainyard.errors import CloudRefused, RefusedError, UserError
from trainyard.recipes.values import needs_of
from trainyard.runs.context import CommandContext
from trainyard.runs.planning import fit, modelcache, shape, storageplan
from trainyard.runs.planning.estimate import Estimate, estimate, query_of
from trainyard.runs.planning.history import expect, expect_size, measured_runs
from trainyard.runs.planning.limits import check_at_start, limits_of, price_ceiling
from trainyard.runs.records.measured import MeasuredRun, workload_of
from trainyard.settings import reader
from trainyard.settings.table import StackSettings

if TYPE_CHECKING:
    from trainyard.runs.verbs.prepare import RunPlan


def estimated(context: CommandContext, cloud: Cloud, plan: RunPlan) -> tuple[Estimate, StackSettings]:
    """Return what the run costs at most, and the settings of its pod; what is to be known beforehand is said.

    Raises RefusedError or NoCapacity where it cannot be, UserError where an edited request cannot be sent so.
    """
    try:
        return _judged(context, cloud, plan)
    except (UserError, CloudRefused) as error:
        setting, value = error.facts.get(SETTING), str(error.facts.get(VALUE))
        if error.where is not None or not isinstance(setting, str):
            raise
        if plan.edited is not None and (where := plan.edited.place_of(setting)) is not None:
            raise UserError(error.message, where=where, hint=error.hint) from None
        said = setting in context.settings(plan.stack).explicit
        where = reader.place_of_item(context.places.root, plan.stack, setting, value) if said else None
        raise UserError(error.message, where=where, hint=error.hint) from None


def _judged(context: CommandContext, cloud: Cloud, plan: RunPlan) -> tuple[Estimate, StackSettings]:
    if plan.edited is not None:
        from trainyard.runs.planning.requestedits import as_edited

        values = fit.as_rented(plan.values, plan.settings)
        shaped = shape.raised(plan.settings, needs_of(plan.recipe, values), cloud.name)
        plan = replace(plan, settings=as_edited(plan.edited, cloud, shaped, plan.hours, plan.stack))
    return _estimate(context, cloud, plan)


def _estimate(context: CommandContext, cloud: Cloud, plan: RunPlan) -> tuple[Estimate, StackSettings]:
    """Return what the run costs at most, and the settings of its pod; what is to be known beforehand is said."""
    ledger, settings = context.ledger(), plan.settings
    values = fit.as_rented(plan.values, settings)
    needs = needs_of(plan.recipe, values)
    shape.refuse_idle_nodes(settings, needs, plan.stack)
    shape.refuse_lone_pods(settings, plan.recipe, plan.stack, detach=plan.detach)
    if cloud.name != "local" and not cloud.simulated and plan.resumed_from is None:  # what goes on has fitted once
        fit.refuse(plan.recipe, values, needs.get("vram_gb"), settings)
    shaped = shape.raised(settings, needs, cloud.name)
    for warning in shape.warnings(settings, shaped, needs):
        context.ui.warn(warning)
    need = modelcache.need_of(plan.recipe.name, needs, plan.values)
    shaped, cache = modelcache.plan(context, cloud, plan.stack, shaped, need, plan.hours)
    measured = measured_runs(ledger)
    summary = plan.data.summary()
    training = fit.training_of(values, summary.bytes, measured, summary.rows)
    if fit.is_auto(settings) and settings.only_offers is None:
        shaped = fit.chosen(shaped, cloud.offers(query_of(shaped)), training)
    expected = estimate(cloud, shaped, plan.hours, shape.failed_lately(ledger, cloud.name), cache)
    expected = _with_history(context, cloud, plan, expected, measured)
    offer = expected.offer
    reckoned = training.on(offer.gpu) if training else fit.declared(needs, offer.gpu, offer.gpu_count)
    reckoned = reckoned if plan.resumed_from is None else None
    expected = replace(expected, reckoned=reckoned)
    if expected.avoided:
        shaped = replace(shaped, avoid_offers=(*shaped.avoid_offers, *expected.avoided))
        context.ui.warn(f"not taken, because their pods did not boot or were lost in the last hours: {', '.join(expected.avoided)}")
    limits, before = limits_of(settings, stack=plan.stack, user=plan.user), plan.spent_before
    for warning in check_at_start(context, expected, limits, plan.budget, before):
        context.ui.warn(warning)
    _look_for_time(context, plan, expected)
    ceiling = price_ceiling(expected, shaped, limits, ledger, before=before)
    return replace(expected, ceiling=ceiling), replace(shaped, max_price=ceiling)


def _with_history(
    context: CommandContext, cloud: Cloud, plan: RunPlan, priced_at: Estimate, measured: Sequence[MeasuredRun]
) -> Estimate:  # fmt: skip
    """Add what like runs tell: how long it takes (what goes on from a checkpoint is like none), and what its result costs where it lies."""
    offer, settings = priced_at.offer, plan.settings
    workload = workload_of(
        plan.recipe.name, plan.values, plan.data.summary().bytes, cloud=settings.cloud, simulated=cloud.simulated, gpu=offer.gpu,
        gpu_count=offer.gpu_count,
    )  # fmt: skip
    storage = storageplan.storage_of(context, plan.stack, settings, cloud, plan.data, plan.code, expect_size(measured, workload))
    return replace(priced_at, expected=expect(measured, workload) if plan.resumed_from is None else None, storage=storage)


def _look_for_time(context: CommandContext, plan: RunPlan, expected: Estimate) -> None:
    """Warn of a budget that the rescue time alone uses up; who goes on with a run is refused, as it would be stopped at once again."""
    rescue = expected.pods * (expected.offer.price_per_hour + expected.disks_per_hour) * expected.rescue_hours
    if plan.budget is None or plan.budget > rescue:
        return
    said = (
        f"${plan.budget:.2f} of budget are no more than the {60 * expected.rescue_hours:.0f} minutes in which a training brings its result "
        f"to safety cost (${rescue:.2f}): it would be stopped as it begins"
    )
    if plan.spent_before:
        whole = 2 * (plan.spent_before + rescue)
        raise RefusedError(f"{said}; nothing was rented", hint=f"Allow the whole run more, like: --budget {whole:.2f}")
    context.ui.warn(said)
