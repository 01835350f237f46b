"""Make what runs what HEAD wants: cancel, finish, start, seal. One run per commit and file, whoever syncs, however often, killed or not.

Of two syncs at once one gets the attempt's claim in the bucket; in one checkout the second waits for the first's lock.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial

from trainyard.clock import REAL, Clock
from trainyard.errors import Busy, KeyRefused, NotInResult, PodFailed, StillThere, TrainyardError
from trainyard.filelock import hold_lock
from trainyard.recipes.since import NothingNew
from trainyard.runs.context import CommandContext
from trainyard.runs.gitops.labels import label_in
from trainyard.runs.gitops.links import WantedRun
from trainyard.runs.gitops.plan import GitopsPlan, look
from trainyard.runs.planning.waiting import Readiness
from trainyard.runs.records import attempts
from trainyard.runs.records.acts import record_act
from trainyard.runs.records.attempts import Overtaken
from trainyard.runs.records.notes import note_cancel
from trainyard.runs.records.record import RunFolder
from trainyard.runs.records.reservations import release_ended
from trainyard.runs.signals import how, leaving
from trainyard.runs.verbs import account
from trainyard.runs.verbs.adopt import adopt
from trainyard.runs.verbs.attach import cancel, seal_of_pods
from trainyard.runs.verbs.known import KnownRun
from trainyard.runs.verbs.takeup import folder_of, left_to_its_pod
from trainyard.runs.verbs.train import prepare
from trainyard.textfile import expanded


@dataclass(slots=True)
class SyncReport:
    """What a sync has done, by names of runs."""

    started: list[str] = field(default_factory=list)
    at_work: list[str] = field(default_factory=list)
    over: list[str] = field(default_factory=list)
    cancelled: list[str] = field(default_factory=list)
    uncommitted: list[str] = field(default_factory=list)
    waiting: list[str] = field(default_factory=list)
    """Runs that others must succeed before; the next sync looks again."""
    broken: dict[str, str] = field(default_factory=dict)
    """Runs that will not begin, because what they wait for did not succeed or has not left what they take, with the reason."""
    nothing_new: list[str] = field(default_factory=list)
    """Runs whose data an earlier one has had, all of them: they begin when there are new ones."""
    sealed: int = 0
    failed: dict[str, str] = field(default_factory=dict)
    """What could not be done, with the reason; the next sync tries again."""
    exit_status: int = 0


def sync(context: CommandContext, *, yes: bool = False, clock: Clock = REAL) -> SyncReport:
    """Carry the plan out and return what was done; one run's trouble keeps no other from it.

    Raises what look() does, before anything is done.
    """

    def say() -> None:
        context.ui.say("sync       another sync is at work in this checkout: waiting for it")

    report = SyncReport()
    try:
        with leaving(), hold_lock(context.places.home / "locks" / "gitops", say):
            _carry_out(context, report, yes=yes, clock=clock)
    except KeyboardInterrupt as left:
        context.ui.say("\n".join(lines(report)))
        said = f"left ({how(left)}): the next sync goes on with what was begun: invoke gitops.sync"
        if isinstance(left.__cause__, StillThere):
            raise StillThere(f"{said}\nUntil then something may cost money, see above") from left
        context.ui.warn(said)
        raise
    return report


def _carry_out(context: CommandContext, report: SyncReport, *, yes: bool, clock: Clock) -> None:
    plan = look(context, clock)
    for path in plan.committed.uncommitted:
        report.uncommitted.append(path)
        context.ui.warn(f"{path} is not committed as it is: it is left alone")
    kept = {name for known in plan.cancelled() if (name := _cancel(context, report, known)) is not None}
    for known in plan.known.values():
        orphan = plan.is_orphan(known)
        if orphan and known.standing == "claimed" and known.record is None:
            _attempted(context, report, known.run, partial(_give_back, context, known))
        if known.run not in report.cancelled and known.run not in report.failed:
            _finish(context, report, known, orphan=orphan)
    report.sealed, left = seal_of_pods(context)
    for folder in left:
        _go_on(context, report, folder)
    for one in plan.desired:
        if one.is_due and not one.held and one.file.name not in kept:
            _start(context, report, plan, one, yes=yes)


def _attempted(context: CommandContext, report: SyncReport, run: str, work: Callable[[], None]) -> bool:
    """Do something about one run; return whether it worked. The worst trouble gives the exit code: something may still cost money."""
    try:
        work()
        return True
    except Overtaken as other:
        context.ui.say(f"           left alone: {other.message}")
        report.at_work.append(run)
    except Busy as busy:
        context.ui.say(f"           left alone: {busy.message}")
        report.at_work.append(run)
    except NothingNew as nothing:
        context.ui.say(f"wait       {run}: {nothing.message}")
        report.nothing_new.append(run)
    except NotInResult as never:
        context.ui.warn(f"{run} will not begin: {never}")
        report.broken[run] = never.message
    except TrainyardError as error:
        context.ui.fail(str(error))
        report.failed[run] = error.message
        worst = report.exit_status == 0 or isinstance(error, StillThere)
        report.exit_status = error.exit_code if worst else report.exit_status
    return False


def _cancel(context: CommandContext, report: SyncReport, known: KnownRun) -> str | None:
    """Cancel a run; return its name where that failed: what takes its place must wait."""
    context.ui.say(f"cancel     {known.run}: no file of HEAD asks for it any more")

    def work() -> None:
        if known.folder is not None:
            cancel(context, f"{known.run}/{known.key.attempt}")
        else:
            _end_elsewhere(context, known)
        report.cancelled.append(known.run)

    label = label_in(known.key.run)
    return None if _attempted(context, report, known.run, work) or label is None else label.name


def _end_elsewhere(context: CommandContext, known: KnownRun) -> None:
    """Cancel a run of another machine: saved where the stack's SSH key is here, else its pod is ended by the cloud."""
    record = known.record
    if record is None or record.pod.pod_id is None:
        raise StillThere(
            f"{known.run} is begun by another sync ({known.says}), and has told of no pod yet",
            hint="The next sync cancels it when its pod is known; one that never rents is over an hour after its claim.",
        )
    settings = context.settings(record.environment)
    file = expanded(settings.ssh_key_file) if settings.ssh_key_file else context.places.ssh / record.environment / "id_ed25519"
    why = f"no SSH key of stack '{record.environment}' is here"
    if file.is_file():
        try:
            adopt(context, record.environment, record.pod.pod_id, file)
        except KeyRefused:  # each checkout's `up` makes a key of its own where none is named
            why = f"its pod was rented with another SSH key than {file}"
        except PodFailed as error:
            why = error.message
        else:
            cancel(context, f"{known.run}/{known.key.attempt}")
            return
    context.ui.warn(f"{why}, so {known.run} cannot save: its pod is ended as it stands")
    note_cancel(context, record)  # before the pod goes: whoever finds it gone is to know why
    account.end_pod(context, record.environment, record.pod.pod_id)


def _give_back(context: CommandContext, known: KnownRun) -> None:
    """Let go of what a killed sync of this checkout had claimed and no file asks for any more: else others take it for one at work."""
    release_ended(context)  # what it had reserved is told by the same traces
    if known.store is not None and attempts.give_back_abandoned(known.store, context.places.runs, known.key):
        context.ui.say(f"given back {known.run}: a killed sync had claimed it and rented nothing")


def _finish(context: CommandContext, report: SyncReport, known: KnownRun, *, orphan: bool) -> None:
    """Go on with a run whose story is not over, no further than to a training that runs; an orphan's lost pod has no successor."""
    folder = folder_of(context, known)
    if folder is None:
        return
    if orphan and known.folder is None:
        record = folder.load()
        record.resumes = 0  # whoever ended its pod may have done so because its file is gone
        folder.save(record)
    context.ui.say(f"go on      {known.run} ({known.says})")
    _go_on(context, report, folder)


def _go_on(context: CommandContext, report: SyncReport, folder: RunFolder) -> None:
    def work() -> None:
        summary = left_to_its_pod(context, folder)
        (report.at_work if summary.ended_at is None else report.over).append(summary.run)

    _attempted(context, report, str(folder.load().id), work)


def _start(context: CommandContext, report: SyncReport, plan: GitopsPlan, one: WantedRun, *, yes: bool) -> None:
    known, run = plan.known.get((one.user, one.label)), one.run
    if known is not None and known.standing != "claimed":
        if run not in (*report.at_work, *report.over, *report.failed):
            (report.at_work if known.standing == "at work" else report.over).append(run)
        return
    attempt = known.next_attempt if known is not None else 1

    def work() -> None:
        links = plan.links(context)
        if not _may_begin(context, report, run, links.readiness(one)):
            return
        context.ui.say(f"start      {run} ({one.file.path}, stack {one.file.stack})")
        file = links.with_inputs(one)
        folder = prepare(context, file.request(context.places.root, user=one.user, label=one.label, attempt=attempt, yes=yes))
        # Before anything is rented, and not for what prepare() refuses: every sync asks for that again.
        record_act(context, "gitops.sync", f"{run}/{attempt}", file=one.file.path, stack=one.file.stack)
        summary = left_to_its_pod(context, folder)
        report.started.append(run)
        if summary.error:
            report.failed[run] = summary.error
            report.exit_status = report.exit_status or summary.exit_status

    _attempted(context, report, run, work)


def _may_begin(context: CommandContext, report: SyncReport, run: str, ready: Readiness) -> bool:
    """Tell whether what a run waits for lets it begin; what keeps it is said."""
    if ready.state == "waits":
        context.ui.say(f"wait       {run}: {ready}")
        report.waiting.append(run)
    elif ready.state == "broken":
        context.ui.warn(f"{run} {ready}\n{ready.way_out()}")
        report.broken[run] = str(ready)
    return ready.state == "ready"


def lines(report: SyncReport) -> list[str]:
    """Return what a person reads at the end."""
    words = {
        "started": report.started, "at work": report.at_work, "over": report.over, "cancelled": report.cancelled,
        "waiting": report.waiting, "will not begin": list(report.broken), "without new data": report.nothing_new,
        "not committed": report.uncommitted,
    }  # fmt: skip
    counts = [f"{len(runs)} {word}" for word, runs in words.items() if runs]
    counts += [f"{report.sealed} sealed"] if report.sealed else []
    counts += [f"{len(report.failed)} failed"] if report.failed else []
    return [
        *(f"failed     {run}: {why.splitlines()[0]}" for run, why in report.failed.items()),
        f"sync       {', '.join(counts) or 'nothing to do'}",
    ]
