"""What a run would send, written down to be read: its bundle, and its pod's create request in the cloud's own form. Nothing is rented."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from trainyard.clouds.keys import MISSING
from trainyard.errors import RefusedError, UserError
from trainyard.recipes import bundle, data
from trainyard.recipes.contract import load_recipe
from trainyard.recipes.values import resolve, sets_with
from trainyard.runs.context import CommandContext
from trainyard.runs.planning import containers
from trainyard.runs.verbs import pricing
from trainyard.runs.verbs.train import TrainRequest, code_of, planned_run
from trainyard.settings.clouds import entry


@dataclass(frozen=True, slots=True)
class RenderedRun:
    """What was written."""

    bundle: bundle.Bundle
    request: Path | None
    """The file with the create request; None where no stack was named, or its cloud is sent none."""


def render_bundle(
    context: CommandContext, name: str, reference: str | None, config: Path | None, sets: Sequence[str], to: Path,
    words: Sequence[str] | None = None,
) -> RenderedRun:  # fmt: skip
    """Write a run's bundle into a folder with its data beside it; ``sh run.sh`` there runs it by hand."""
    bundle.refuse_full(to)
    chosen = load_recipe(context.places.root, name)
    values = resolve(chosen, config, sets_with(chosen, sets, words), {}, on_note=context.ui.say)
    dataset = data.inspect(reference, chosen, values=values)
    for remark in dataset.remarks():
        context.ui.warn(remark)
    content = bundle.build(chosen, values, dataset, to, code=code_of(context, chosen, values))
    bundle.place_data(dataset, to / "input")
    return RenderedRun(content, None)


def render_run(context: CommandContext, request: TrainRequest, to: Path) -> RenderedRun:
    """Write the bundle as a stack would be sent it, and beside it what its cloud would be asked for.

    Raises what `invoke train` would before it rents: what is asked for is found right, priced, and held against what there is.
    """
    bundle.refuse_full(to)
    _open(context, request.stack)
    plan, cloud = planned_run(context, request)
    try:
        containers.refuse(context, cloud, plan.settings, plan.hours)
    except RefusedError as error:
        context.ui.warn(f"a run would be refused as it stands: {error.message}. {error.hint or ''}".rstrip())
    row, asked = entry(plan.settings.cloud), None
    if row is not None and row.request_file:
        from trainyard.runs.planning.cloudrequest import cloud_request  # brings the provider

        expected, shaped = pricing.estimated(context, cloud, plan)
        context.ui.say(f"estimate   {expected.text()}")
        # The price above which no pod is kept is the market's, as it is now.
        asked = cloud_request(cloud, replace(shaped, max_price=plan.settings.max_price), expected.offer, plan.hours)
    content = bundle.build(plan.recipe, plan.values, plan.data, to, code=plan.code)
    bundle.place_data(plan.data, to / "input")
    if asked is None:
        return RenderedRun(content, None)
    file = to / asked.file
    file.write_text(asked.text, encoding="utf-8")
    return RenderedRun(content, file)


def _open(context: CommandContext, stack: str) -> None:
    """Raise UserError for an account that cannot be opened, with why it is needed here."""
    try:
        context.cloud(stack)
    except UserError as error:
        row = entry(context.settings(stack).cloud)
        if row is None or MISSING not in error.facts:
            raise
        hint = f"{error.hint}\nThe bundle alone needs none: leave --stack out."
        if row.emulator:
            hint += (
                f"\nTo see such a file without an account: python -m trainyard.rehearsal {row.name} --root DIR (docs/clouds/requests.md)"
            )
        said = f"{error.message}: a request names an offer and its price, and only {row.title} tells them; nothing is rented by asking"
        raise UserError(said, hint=hint) from None
