"""Begin a run: validate everything, estimate, write the record and the bundle. Nothing is rented here."""

from __future__ import annotations

import platform
import shutil
import subprocess
import tempfile
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from importlib import metadata
from pathlib import Path
from typing import Any

from trainyard.config import user_name
from trainyard.errors import UserError
from trainyard.recipes import bundle, data, venvs
from trainyard.recipes.contract import Recipe, load_recipe
from trainyard.recipes.values import Values, lock_for, locked_packages, needs_of, resolve
from trainyard.runs import shape
from trainyard.runs.context import Context
from trainyard.runs.estimate import Estimate, check_limits, estimate
from trainyard.runs.identity import RunId, new_label
from trainyard.runs.ledger import Ledger
from trainyard.runs.record import Record, RunFolder
from trainyard.runs.rent import write_run_settings
from trainyard.runs.upkeep import ensure_environment
from trainyard.stacks import facade

DEFAULT_HOURS = 2.0
NAMED = ("torch", "transformers", "peft", "accelerate", "unsloth")


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a person asked ``invoke train`` for."""

    stack: str
    recipe: str = "lora"
    data: str | None = None
    config: Path | None = None
    sets: Sequence[str] = ()
    name: str | None = None
    hours: float | None = None
    budget: float | None = None


def prepare(context: Context, wanted: Wanted) -> RunFolder:
    """Validate, estimate and write the run's folder; return it, ready to be driven.

    Raises UserError, RefusedError or NoCapacity before anything is created.
    """
    ui = context.ui
    # Deriving the key of the secrets takes 0.4 s of one core: it passes while everything is validated.
    threading.Thread(target=facade.warm, args=(context.stack(wanted.stack),), daemon=True).start()
    settings = dict(facade.settings_of(wanted.stack, context.places))
    chosen = load_recipe(context.places.root, wanted.recipe)
    cloud = context.cloud(wanted.stack)
    settings, told_by_env = shape.from_environment(settings, context.env, cloud.name)
    for line in told_by_env:
        ui.say(f"settings   {line}")
    # What the stack rents decides which lock, and with it which refusals, hold; an emulator's GPUs are only told.
    device = "gpu" if settings.get("gpu") and not cloud.simulated else "cpu"
    values = resolve(chosen, wanted.config, wanted.sets, {"device": device, **settings})
    found = _data(context, wanted.data, chosen, settings)
    ui.say(f"recipe     {chosen.name}; data {found.describe()}")
    user = user_name(context.env, settings.get("user"))  # type: ignore[arg-type]
    new_label(context.places.runs, user, wanted.name, datetime.now(), wanted.stack)  # a bad name is refused before anything is made
    hours = _hours(wanted, settings)
    budget = wanted.budget if wanted.budget is not None else settings.get("budget")
    needs, ledger = needs_of(chosen, values), Ledger(context.places.ledger)
    shaped = shape.raised(settings, needs, cloud.name)
    told = estimate(cloud, shaped, hours, shape.failed_lately(ledger, cloud.name))
    for warning in shape.warnings(settings, shaped, needs):
        ui.warn(warning)
    if told.avoided:
        shaped["avoid_offers"] = list(told.avoided)
        ui.warn(f"not taken, because their pods did not boot in the last hours: {', '.join(told.avoided)}")
    for warning in check_limits(told, settings, ledger, None if budget is None else float(budget)):  # type: ignore[arg-type]
        ui.warn(warning)
    ui.say(f"estimate   {told.text()}")
    outputs = ensure_environment(context, wanted.stack)
    if cloud.name == "local" or cloud.simulated:
        # Shared by all local pods of this machine, built before a pod exists.
        venvs.prepare(chosen, values, context.places, ui.say)
    return _write(context, wanted, chosen, values, found, told, hours, budget, user, outputs, shaped)


def _write(
    context: Context, wanted: Wanted, chosen: Recipe, values: dict[str, Any], found: data.Data, told: Estimate,
    hours: float, budget: Any, user: str, outputs: dict[str, Any], shaped: dict[str, Any],
) -> RunFolder:  # fmt: skip
    runs = context.places.runs
    runs.mkdir(parents=True, exist_ok=True)
    label = new_label(runs, user, wanted.name, datetime.now(), wanted.stack)
    # The folder appears complete by one rename: a crash in here leaves no half run.
    draft = Path(tempfile.mkdtemp(prefix=".new-", dir=runs))
    try:
        folder = RunFolder(draft)
        made = bundle.build(chosen, values, found, folder.bundle)
        named = outputs.get("bucket") not in (None, "", "none")
        bucket = {key: outputs.get(key) for key in ("bucket", "store", "endpoint", "region")} if named else None
        record = Record(
            user=user, label=label, attempt=1, environment=wanted.stack, recipe=chosen.name, values=values, bundle_sha256=made.sha256,
            hours=hours, created=time.time(), budget=None if budget is None else float(budget), data=found.summary(), bucket=bucket,
            git_commit=git_commit(context.places.root), versions=versions(chosen, values),
        )  # fmt: skip
        write_run_settings(context, record, folder, outputs, shaped)
        folder.save(record)
        target = RunId(user, label).folder(runs)
        _claim(target.parent)
        draft.rename(target)
    except BaseException:
        shutil.rmtree(draft, ignore_errors=True)
        raise
    Ledger(context.places.ledger).add(record.id, "prepared", estimate=told.most, stack=wanted.stack, recipe=chosen.name)
    return RunFolder(target)


def render_bundle(context: Context, name: str, reference: str | None, config: Path | None, sets: Sequence[str], to: Path) -> bundle.Bundle:
    """Write a run's bundle into a folder with its data beside it; ``sh run.sh`` there runs it by hand."""
    chosen = load_recipe(context.places.root, name)
    found = data.inspect(reference, chosen)
    made = bundle.build(chosen, resolve(chosen, config, sets, {}), found, to)
    bundle.place_data(found, to / "input")
    return made


def versions(chosen: Recipe, values: Values) -> dict[str, str]:
    """Return the versions that shape a run: this Python, the Pulumi SDK, what the recipe's lock pins of NAMED."""
    pinned = locked_packages(lock_for(chosen, values))
    known = {"python": platform.python_version(), "pulumi": metadata.version("pulumi")}
    return known | {name: pinned[name] for name in NAMED if name in pinned}


def git_commit(root: Path) -> str | None:
    """Return the commit of the checkout, ``-dirty`` behind it when files differ; None outside git."""
    done = subprocess.run(
        ["git", "-C", str(root), "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"], capture_output=True, text=True
    )
    return done.stdout.strip() or None if done.returncode == 0 else None


def _data(context: Context, reference: str | None, chosen: Recipe, settings: dict[str, Any]) -> data.Data:
    if reference is None or not reference.startswith("s3://"):
        return data.inspect(reference, chosen)
    from trainyard.runs.bucketdata import resolver

    return data.inspect(reference, chosen, resolver(context, settings.get("store") or _default_store(settings)))


def _default_store(settings: dict[str, Any]) -> str | None:
    return "local" if settings.get("cloud") == "local" else None


def _claim(folder: Path) -> None:
    try:
        folder.mkdir(parents=True)
    except FileExistsError:
        raise UserError(
            f"the label '{folder.name}' was taken by another command just now", hint="Say it again, or give another --name."
        ) from None


def _hours(wanted: Wanted, settings: dict[str, Any]) -> float:
    value = wanted.hours if wanted.hours is not None else settings.get("hours", DEFAULT_HOURS)
    if not isinstance(value, (int, float)) or isinstance(value, bool) or not 0 < value <= 24 * 31:
        raise UserError(f"hours: {value!r} is not a number of hours between 0 and 744")
    return float(value)
