"""What HEAD wants to run: each file with its run's name, its place in a chain and its due time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from trainyard.errors import UserError, together
from trainyard.runs.context import CommandContext
from trainyard.runs.gitops.committed import SHORT, CommittedFile, CommittedRuns, on_branch_since
from trainyard.runs.gitops.links import WantedRun, inherited, sorted_by_links, stems_of, wrong_links
from trainyard.runs.gitops.runfile import RunFile, read_run_file
from trainyard.runs.gitops.schedule import stamp
from trainyard.runs.gitops.standing import user_of
from trainyard.runs.records.identity import check_label
from trainyard.settings import reader


def desired_runs(context: CommandContext, committed: CommittedRuns, now: float) -> tuple[WantedRun, ...]:
    """Return what the files of HEAD want at a moment (epoch seconds), each behind what it waits for.

    Raises UserError with all that is wrong in all of them.
    """
    wrong: list[UserError] = []
    desired: list[WantedRun] = []
    commits = {each.path: each.commit for each in committed.files}
    for each in committed.files:
        try:
            desired.append(_run_of(context, each, desired, held=each.path in committed.uncommitted))
        except UserError as error:
            wrong.append(error)
    wrong += wrong_links([one.file for one in desired], stems_of(list(commits)))
    if wrong:
        raise together(wrong, "things in the run files")
    return _with_schedules(context, sorted_by_links(desired), commits, now)


def _run_of(context: CommandContext, each: CommittedFile, others: Sequence[WantedRun], *, held: bool) -> WantedRun:
    file = read_run_file(each.text, each.path)
    try:
        user = user_of(context, file.stack)
        _refuse_forgetful(context, file.path, file.stack)
    except UserError as error:
        raise error if error.where else UserError(error.message, where=file.where.get("stack"), hint=error.hint) from None
    label = _checked(file, user, f"{file.name}-{each.commit[:SHORT]}")
    if twin := next((one.file.path for one in others if (one.user, one.file.name) == (user, file.name)), None):
        raise UserError(f"{each.path}: '{file.name}' is the name of the run of {twin}, too", hint="One of them needs another 'name:'.")
    return WantedRun(file, user, label, held, file.schedule)


def _checked(file: RunFile, user: str, label: str) -> str:
    try:
        return check_label(label, user, file.stack)
    except UserError:
        raise UserError(
            f"{file.path}: its name makes the run's label too long", hint="Call the file otherwise, or say in it: name: a-name"
        ) from None


def _with_schedules(
    context: CommandContext, desired: Sequence[WantedRun], commits: dict[str, str], now: float
) -> tuple[WantedRun, ...]:  # fmt: skip
    """Return runs, each behind what it waits for, with their due times; what follows a run with a schedule has that run's."""
    done: dict[str, WantedRun] = {}
    wrong: list[UserError] = []
    for one in desired:
        try:
            leader = inherited(one.file, done)
            schedule, due = (leader.schedule, leader.due) if leader else (one.schedule, None)
            if one.schedule is not None:
                due = one.schedule.newest(now, on_branch_since(context.places.root, one.file.path))
            label = one.label if schedule is None else _checked(one.file, one.user, f"{one.label}-{stamp(due or now)}")
            done[one.file.stem] = replace(one, label=label, schedule=schedule, due=due)
        except UserError as error:
            wrong.append(error)
            done[one.file.stem] = one
    if wrong:
        raise together(wrong, "things in the run files")
    return tuple(done.values())


def _refuse_forgetful(context: CommandContext, path: str, stack: str) -> None:
    """Raise UserError in a CI job, whose disk ends with it, for a stack of which the next job would not find the same bucket."""
    if not context.env.get("CI"):
        return
    said = reader.partly(context.places.root, stack, "bucket", "env_id")
    if said.cloud == "local" or (said.has_bucket and {"bucket", "env_id"} & said.explicit):
        return
    hint = f"In Pulumi.{stack}.yaml: trainyard:bucket: NAME (or trainyard:env_id: 8 hex digits, which the bucket is called after)."
    raise UserError(f"{path}: stack '{stack}' names no bucket, and the next CI job would know nothing of its runs", hint=hint)
