"""From what a run is (recipe, values, data, code) to its folder: price, limits, consent, environment, claim, bundle, record.

What is new and what goes on from a checkpoint takes this one way. Nothing is rented here.
"""

from __future__ import annotations

import contextlib
import platform
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trainyard.clouds.protocol import Cloud
from trainyard.config import git
from trainyard.errors import RefusedError, TrainyardError
from trainyard.ledger.rows import Reservation
from trainyard.recipes import basecheck, bundle, distribution, requirements, venvs
from trainyard.recipes.code import Code
from trainyard.recipes.contract import Recipe
from trainyard.recipes.data import Data
from trainyard.recipes.program import check_program
from trainyard.recipes.summaries import CodeSummary, Values
from trainyard.recipes.values import lock_for, locked_packages
from trainyard.runs.context import CommandContext
from trainyard.runs.life.looking import minutes_of
from trainyard.runs.life.rent import write_run_settings
from trainyard.runs.notices import readiness
from trainyard.runs.planning import consent, containers, fit, jobkeys, leaseend, route
from trainyard.runs.planning.bucketcheck import require_bucket
from trainyard.runs.planning.estimate import Estimate, said_of
from trainyard.runs.planning.limitnotices import tell_limits
from trainyard.runs.planning.limits import limits_of, reserve_dollars
from trainyard.runs.planning.route import StoredFiles
from trainyard.runs.planning.upkeep import ensure_environment
from trainyard.runs.records import attempts, snapshot
from trainyard.runs.records.acts import record_act, record_limits
from trainyard.runs.records.environment import EnvironmentOutputs
from trainyard.runs.records.identity import new_label
from trainyard.runs.records.key import make_whole
from trainyard.runs.records.notes import note_row
from trainyard.runs.records.parts import RunBucket, StartedFrom
from trainyard.runs.records.record import RunFolder, RunRecord
from trainyard.runs.trackers import readiness as trackers
from trainyard.runs.verbs import pricing
from trainyard.settings.clouds import entry
from trainyard.settings.table import StackSettings
from trainyard.shipped import overlay
from trainyard.stacks import facade

if TYPE_CHECKING:
    from trainyard.ledger.keys import StartKey
    from trainyard.ledger.ledger import Ledger
    from trainyard.runs.planning.requestedits import EditedRequest

_LEFT_OUT = 5
"""So many changed files that are not kept are named."""
NAMED = ("torch", "transformers", "peft", "accelerate", "unsloth")


@dataclass(frozen=True, slots=True, kw_only=True)
class RunPlan:
    """A run that was found right. Nothing of it exists yet."""

    stack: str
    user: str
    recipe: Recipe
    values: Values
    data: Data
    code: Code | None
    code_summary: CodeSummary | None = None
    """What an earlier attempt's record says of the code; None: what it is now."""
    hours: float
    budget: float | None
    """Dollars that this attempt may use."""
    settings: StackSettings
    """The stack's settings, with what older variables say."""
    asked_data: str | None
    """What a person named as data; None: what the recipe ships, or what an earlier attempt has sent already."""
    yes: bool = False
    spent_before: float = 0.0
    deliver: str | None = None
    """Where the result goes after the run."""
    resumes: int = 0
    """How often the run may be resumed by itself."""
    resumed_from: StartedFrom | None = None
    init_from: StartedFrom | None = None
    tracked_as: str = ""
    """What trackers know the run by that it goes on from."""
    rerun_of: str | None = None
    """The attempt that is run again."""
    snapshot: Path | None = None
    """The snapshot of the attempt that is run again."""
    detach: bool = False
    """Nobody follows it: its pod must be able to commit alone."""
    attempt: int | None = None
    """The number that its attempt must get; None: the next."""
    key: StartKey | None = None
    """The idempotency key that it was asked for with."""
    after: int | None = None
    """The newest attempt that was known when it was decided what this one goes on from; None: no attempt was looked at."""
    edited: EditedRequest | None = None
    """The create request that a person has edited."""
    entry: str = ""
    """The entry of the queue that it is begun for."""
    confirm: Callable[[], object] = lambda: None
    """Called last of all before the run is one: what it raises keeps it from that."""


@dataclass(frozen=True, slots=True)
class PricedRun:
    """A plan that is affordable."""

    plan: RunPlan
    estimate: Estimate
    settings: StackSettings
    """The settings of its pod: raised to what the recipe needs, with the price that no offer may exceed."""
    pod_secrets: list[str]


def warm(context: CommandContext, stack: str) -> None:
    """Begin in threads what takes a while and is needed at the end."""
    # Deriving the key of the secrets takes 0.4 s of one core: it passes while everything is validated.
    threading.Thread(target=facade.warm, args=(context.stack(stack),), daemon=True).start()
    threading.Thread(target=attempts.preload, daemon=True).start()


def priced(context: CommandContext, plan: RunPlan, cloud: Cloud) -> PricedRun:
    """Say what a plan needs and costs at most; raises RefusedError or NoCapacity where it cannot be."""
    ui = context.ui
    for line in basecheck.needs_lines(plan.recipe, plan.values):
        ui.say(f"needs      {line}")
    expected, shaped = pricing.estimated(context, cloud, plan)
    ui.say("\n".join(said_of(expected)))
    if lack_of_end := leaseend.only_from_outside(cloud, plan.stack):
        ui.warn(lack_of_end)
    if unkept := containers.unkept(cloud, plan.settings):
        ui.warn(unkept)
    if named := consent.pod_secrets(plan.settings, context.env):
        ui.say(f"secrets    the job gets {', '.join(named)} of yours (pod_secrets)")
    for warning in consent.keys_in(plan.values):
        ui.warn(warning)
    for lack in readiness.lacks(context.places.root, context.env, plan.stack):
        ui.warn(f"notify: {lack}; who is there is not told")
    for lack in trackers.lacks(context.places.root, context.env, plan.stack):
        ui.warn(f"trackers: {lack}; it is told later, once that is mended")
    if keys := jobkeys.asked(plan.settings):
        (ui.warn if keys.own else ui.say)(f"keys       {jobkeys.words(context, keys, plan.settings)}")
    return PricedRun(plan, expected, shaped, named)


def priced_to_begin(context: CommandContext, plan: RunPlan, cloud: Cloud) -> PricedRun:
    """Price a plan that is begun here; what need not be asked of the cloud refuses it before that is."""
    containers.refuse(context, cloud, plan.settings, plan.hours)
    return priced(context, plan, cloud)


def make(context: CommandContext, priced_plan: PricedRun, cloud: Cloud, name: str | None) -> RunFolder:
    """Ask for consent, see to the environment, claim the attempt and write its folder; return it, ready to be driven.

    ``name`` is the run's label, None for one by the time of day. Raises UserError, RefusedError or StoreError before anything is rented.
    """
    plan = priced_plan.plan
    here = cloud.name == "local" or cloud.simulated
    needs = requirements.of_run(plan.code, plan.values)
    row = entry(plan.settings.cloud)
    distribution.refuse(plan.values, on_this_machine=here, root=row is None or row.root, stack=plan.stack)
    _check_program(context, plan, None, certain=cloud.name == "local" and needs is None)
    if needs and not here and plan.values.get("check_requirements"):
        venvs.check_code(plan.code, needs, context.ui.say)
    own = consent.outgoing(plan.asked_data, plan.data, plan.recipe, plan.values, plan.code)
    consent.ask(context.ui, plan.stack, cloud, plan.settings.upload_consent, own, yes=plan.yes, by_bucket=plan.settings.has_bucket)
    outputs = ensure_environment(context, plan.stack)
    make_whole(context, outputs)
    jobkeys.refuse_impossible(context, jobkeys.asked(plan.settings), outputs.results)
    require_bucket(context, plan.stack, outputs.results, plan.hours + plan.settings.rescue_minutes / 60)
    containers.look_at_store(context, outputs.results, cloud)
    _tell_of_lone_pods(context, outputs.results, plan, here=here)
    if here:
        # Shared by all local pods of this machine, built before a pod exists.
        built = venvs.prepare(plan.recipe, plan.values, plan.code, context.places, context.ui.say)
        _check_program(context, plan, built, certain=cloud.name == "local" and not (needs and needs.project))
    stored = route.through_bucket(context, plan.settings, cloud, outputs.results, plan.data, plan.code)
    return _write(context, priced_plan, name, outputs, stored)


def _tell_of_lone_pods(context: CommandContext, bucket: RunBucket | None, plan: RunPlan, *, here: bool) -> None:
    """Say, before anything is rented, that a pod cannot commit alone; refuse to leave a rented one to itself then."""
    from trainyard.runs.records.stores import store_of  # by now S3's libraries are loaded
    from trainyard.storage.stores import can_sign

    minutes = plan.settings.commit_alone_minutes
    why = can_sign(store_of(context, bucket)) if minutes else "`commit_alone_minutes` is 0" if plan.detach else None
    if why is not None and plan.detach and not here:
        hint = "Without --detach it is followed to its end. What a pod needs to commit alone: docs/results.md, When nobody comes back."
        raise RefusedError(f"--detach: the pod could not commit alone ({why}); nothing was rented", hint=hint)
    if why is not None:
        context.ui.say(f"alone      the pod cannot commit alone ({why}): with no controller its result waits on it until the lease ends")


def _check_program(context: CommandContext, plan: RunPlan, built: Path | None, *, certain: bool) -> None:
    """Refuse a command whose program is nowhere; ``built``: the environment of its packages, where that is known by now."""
    words = plan.values.get("command")
    if not isinstance(words, list):
        return
    path = context.env.get("PATH", "")
    check_program(words, f"{built / 'bin'}:{path}" if built else path, certain=certain)


def _write(
    context: CommandContext, priced_plan: PricedRun, name: str | None, outputs: EnvironmentOutputs, stored: StoredFiles
) -> RunFolder:
    plan, runs, priced = priced_plan.plan, context.places.runs, priced_plan.estimate
    runs.mkdir(parents=True, exist_ok=True)
    label = new_label(runs, plan.user, name, datetime.now(), plan.stack)
    # The folder appears complete by one rename: a crash in here leaves no half run.
    with attempts.reserved(runs, plan.user, label) as draft:
        folder = RunFolder(draft.path)
        content = bundle.build(plan.recipe, plan.values, plan.data, folder.bundle, code=plan.code)
        attempt = attempts.claim(
            context, draft, plan.user, label, outputs.results, recipe=plan.recipe.name, after=plan.after, exactly=plan.attempt
        )
        record = RunRecord(
            user=plan.user, label=label, attempt=attempt, token=draft.token, environment=plan.stack, recipe=plan.recipe.name,
            values=plan.values, bundle_sha256=content.sha256, hours=plan.hours, created=time.time(), budget=plan.budget,
            disks_per_hour=priced.disks_per_hour, cache=priced.cache, spent_before=plan.spent_before, resumes=plan.resumes,
            resumed_from=plan.resumed_from, init_from=plan.init_from, tracked_as=plan.tracked_as, job_keys=jobkeys.asked(plan.settings),
            pod_secrets=priced_plan.pod_secrets, pod_env=priced_plan.settings.pod_env_names, rerun_of=plan.rerun_of, entry=plan.entry,
            data=replace(plan.data.summary(), stored=stored.data, expire_days=route.expire_days(plan.settings)), deliver=plan.deliver,
            code=_code_summary(plan, stored), bucket=outputs.results, container=containers.container_of(priced_plan.settings.cloud),
            cloud=priced_plan.settings.cloud, git_commit=git_commit(context.places.root), versions=versions(plan.recipe, plan.values),
            keep_checkpoints=plan.settings.keep_checkpoints, checkpoint_minutes=plan.settings.checkpoint_minutes,
            keep_minutes=minutes_of(plan.settings.keep_on_failure), commit_alone_minutes=plan.settings.commit_alone_minutes,
            key=plan.key.key if plan.key else None, reckoned=fit.reckoned_of(plan.values, priced_plan.settings),
        )  # fmt: skip
        take_snapshot(context, plan, record, folder)
        write_run_settings(context, record, folder, outputs, priced_plan.settings)
        overlay(context.places.root, "playbooks", folder.playbooks)
        folder.save(record)
        ledger, target, most = context.ledger(), record.id.folder(runs), priced.most
        _reserve(ledger, plan, record, most)
        try:
            # Last of all: what was interrupted before is no run, and counts towards no limit.
            draft.path.rename(target)
        except BaseException:
            ledger.end(record.id, record.created, None, cost=0.0)
            raise
    _record(context, plan, record, most)
    return RunFolder(target)


def _record(context: CommandContext, plan: RunPlan, record: RunRecord, most: float) -> None:
    """Write down how the run stands, who begins it, and what held its money back; tell what of the limits is used by now."""
    note_row(context, record, most)
    tell_limits(context, plan.stack, record.id)
    action = "rerun" if plan.rerun_of else "resume" if plan.resumed_from else "train"
    facts: dict[str, Any] = {
        "stack": plan.stack,
        "recipe": plan.recipe.name,
        "hours": plan.hours,
        "estimate": round(most, 4),
        "budget": plan.budget,
    }
    record_act(context, action, f"{record.id}/{record.attempt}", **facts, of=plan.rerun_of, detach=plan.detach, key=record.key)
    record_limits(context, plan.stack, plan.settings)
    limits = [limit for limit in limits_of(plan.settings, stack=plan.stack, user=plan.user) if not limit.blocks]
    with contextlib.suppress(OSError, TrainyardError):  # the run is on the ledger: it goes on
        for rest in context.ledger().left_of(limits, record.id):
            if rest.is_passed_by(0.0):
                record_act(context, "pass limit", f"{record.id}/{record.attempt}", limit=rest.limit.name, dollars=rest.limit.dollars)


def _reserve(ledger: Ledger, plan: RunPlan, record: RunRecord, most: float) -> None:
    plan.confirm()
    facts = {"estimate": most, "stack": plan.stack, "recipe": plan.recipe.name, "token": record.token}
    limits = limits_of(plan.settings, stack=plan.stack, user=record.user)
    reserve_dollars(ledger, limits, Reservation(run=record.id, added=most, kind="prepared", data=facts, key=plan.key, token=record.token))


def take_snapshot(context: CommandContext, plan: RunPlan, record: RunRecord, folder: RunFolder) -> None:
    """Keep what the run is made of, and say what of it that is."""
    taken = snapshot.take(
        snapshot.SnapshotSource(
            root=context.places.root, recipe=plan.recipe, values=plan.values, code=None if plan.code_summary else plan.code,
            settings=plan.settings, data=plan.data.files, bundle=folder.bundle, bundle_sha256=record.bundle_sha256,
            again=plan.rerun_of, before=plan.snapshot, 
            request=(plan.edited.row.request_file, plan.edited.text) if plan.edited else None,
        ),
        folder.snapshot,
    )  # fmt: skip
    record.snapshot_sha256 = snapshot.digest(folder.snapshot)
    if plan.snapshot is not None:
        record.git_commit = next((one.described for one in taken.repositories if one.of == snapshot.CHECKOUT), None)
    for one in taken.repositories:
        context.ui.say(f"snapshot   {one}")
    if left_out := taken.left_out():
        more = f"; and {len(left_out) - _LEFT_OUT} more" if len(left_out) > _LEFT_OUT else ""
        context.ui.warn(f"changed, and not in the snapshot: {'; '.join(left_out[:_LEFT_OUT])}{more}")


def _code_summary(plan: RunPlan, stored: StoredFiles) -> CodeSummary | None:
    summary = plan.code_summary or (plan.code.summary() if plan.code else None)
    return replace(summary, stored=stored.code) if summary and stored.code else summary


def versions(chosen: Recipe, values: Values) -> dict[str, str]:
    """Return the versions that shape a run: this Python, the Pulumi SDK, what the recipe's lock pins of NAMED."""
    pinned, known = locked_packages(lock_for(chosen, values)), {"python": platform.python_version(), "pulumi": metadata.version("pulumi")}
    return known | {name: pinned[name] for name in NAMED if name in pinned}


def git_commit(root: Path) -> str | None:
    """Return the commit of the checkout, ``-dirty`` behind it when files differ; None outside git."""
    return git("describe", "--always", "--dirty", "--abbrev=40", "--exclude=*", at=root) or None
