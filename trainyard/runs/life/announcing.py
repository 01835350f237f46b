"""What is told of a run to those who are not at the terminal: its start, its end with figures and the next command, its budget."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from trainyard.errors import StillThere, TrainyardError, render
from trainyard.ledger.limits import SpendLimit
from trainyard.ledger.runid import RunId
from trainyard.runs.context import CommandContext
from trainyard.runs.notices.announce import announce
from trainyard.runs.notices.notice import Notice, NoticeKind
from trainyard.runs.planning.limitnotices import LIMIT, share_of, tell_limits
from trainyard.runs.planning.limits import limits_of
from trainyard.runs.records.record import RunRecord
from trainyard.runs.records.summary import RunSummary, cost, last_lines, verdict
from trainyard.settings import reader

_BUDGET = "its budget"


def started(context: CommandContext, record: RunRecord) -> None:
    """Tell that a training has begun."""
    pod = record.pod
    what = f"{pod.gpu_count or ''} {pod.gpu}".strip() if pod.gpu else record.cloud
    lines = [
        f"recipe {record.recipe} on {what}, ${pod.price:.2f} an hour, {record.hours:g} hours at most"
        + (f", budget ${record.budget:.2f}" if record.budget is not None else ""),
        f"Look at it: invoke attach {record.id}",
        f"End it: invoke cancel {record.id}",
    ]
    title = f"run {record.id} has started on {record.environment}{_simulated(pod.simulated)}"
    data = {"price_per_hour": pod.price, "gpu": pod.gpu, "pod_id": pod.pod_id}
    announce(context, Notice(kind="start", title=title, text="\n".join(lines), stack=record.environment, run=str(record.id), data=data))


def kept(context: CommandContext, record: RunRecord, lines: Sequence[str]) -> None:
    """Tell that a training has failed and its pod stays for a look, which costs."""
    title = f"run {record.id} failed, and its pod is kept for a look{_simulated(record.pod.simulated)}"
    text = "\n".join([(record.error or "").partition("\n")[0], *lines])
    announce(context, Notice(kind="failure", title=title, text=text, stack=record.environment, run=str(record.id)))


def ended(context: CommandContext, summary: RunSummary) -> None:
    """Tell how a run went, what it cost, where its result is and what comes next."""
    word = verdict(success=summary.success, cancelled=summary.cancelled, stopped=summary.stopped)
    title = f"run {summary.run} {word}: ${summary.cost:.2f}{_simulated(summary.simulated)}"
    data = {
        "success": summary.success,
        "cost": summary.cost,
        "s3_url": summary.s3_url,
        "loss": summary.final_loss,
        "resume": summary.resume,
    }
    text = "\n".join(last_lines(summary, None, context.rehearsal))
    kind: NoticeKind = "failure" if word == "failed" else "end"
    announce(context, Notice(kind=kind, title=title, text=text, stack=summary.stack, run=summary.run, data=data))
    tell_limits(context, summary.stack, RunId(summary.user, summary.label, summary.attempt))


@contextmanager
def leaks(context: CommandContext, record: RunRecord) -> Iterator[None]:
    """Tell when the end of a run's pod is not proved: it may go on billing."""
    try:
        yield
    except StillThere as error:
        title = f"LEAK: a pod of run {record.id} may still be there{_simulated(record.pod.simulated)}"
        announce(context, Notice(kind="leak", title=title, text=render(error), stack=record.environment, run=str(record.id)))
        raise


class BudgetShares:
    """Tells once each time that a run has used another share of its budget or of a limit per run, whichever controller follows it."""

    def __init__(self, context: CommandContext, record: RunRecord) -> None:
        self._context, self._record = context, record
        self._told: dict[str, int] = {}
        self._whole = {_BUDGET: record.budget} if record.budget else {}
        self._whole |= {limit.name: limit.dollars for limit in _limits_of_run(context, record)}

    def look(self, now: float) -> None:
        """Compare what was spent with what may be; costs nothing but a sum until a share is passed."""
        if not self._whole:
            return
        spent = cost(self._record, now)
        for name, whole in self._whole.items():
            used = spent if name == _BUDGET else spent + self._record.spent_before
            share = share_of(used, whole)
            if share > self._told.get(name, 0):
                self._told[name] = share
                if self._is_first(name, share):
                    self._tell(name, share, used, whole)

    def _is_first(self, name: str, share: int) -> bool:
        """Tell whether nobody else has told it; where the ledger cannot be used it is rather told twice."""
        record, of_budget = self._record, name == _BUDGET
        same = ("user", "label", "attempt") if of_budget else ("user", "label")
        try:
            ledger = self._context.ledger(1.0)
            return ledger.tell_share(record.id, "budget" if of_budget else LIMIT, share, limit="" if of_budget else name, same=same)
        except (OSError, TrainyardError):
            return True

    def _tell(self, name: str, share: int, spent: float, whole: float) -> None:
        record, of_budget = self._record, name == _BUDGET
        title = f"run {record.id} has used {share} % of {name}: ${spent:.2f} of ${whole:.2f}{_simulated(record.pod.simulated)}"
        ending = "It has been told to stop and save." if share == 100 else "It is told to stop while the rest still pays for saving."
        commands = f"Look at it: invoke attach {record.id}\nEnd it now: invoke cancel {record.id}"
        text = f"{ending}\n{commands}" if of_budget else commands
        data: dict[str, str | float | bool | None] = {"share": share, "spent": round(spent, 6), "budget" if of_budget else "amount": whole}
        kind: NoticeKind = "budget" if of_budget else "limit"
        announce(self._context, Notice(kind=kind, title=title, text=text, stack=record.environment, run=str(record.id), data=data))


def _limits_of_run(context: CommandContext, record: RunRecord) -> list[SpendLimit]:
    """Return the limits per run of a run's stack; settings that are wrong by now are no matter of its training."""
    try:
        settings = reader.partly(context.places.root, record.environment, "limits")
        limits = limits_of(settings, stack=record.environment, user=record.user)
    except (OSError, TrainyardError):
        return []
    return [limit for limit in limits if limit.seconds is None]


def _simulated(simulated: bool) -> str:
    return " (SIMULATED cloud)" if simulated else ""
