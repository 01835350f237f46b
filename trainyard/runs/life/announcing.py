"""What is told of a run to those who are not at the terminal: its start, its end with figures and the next command, its budget."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from trainyard.errors import StillThere, render
from trainyard.runs.context import CommandContext
from trainyard.runs.notices.announce import announce
from trainyard.runs.notices.notice import Notice, NoticeKind
from trainyard.runs.records.notes import note, shares_told
from trainyard.runs.records.record import RunRecord
from trainyard.runs.records.summary import RunSummary, cost, last_lines, verdict

_SHARES = (50, 80, 100)
"""Percent of a run's budget at which that is told."""


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
    text = "\n".join(last_lines(summary, None))
    kind: NoticeKind = "failure" if word == "failed" else "end"
    announce(context, Notice(kind=kind, title=title, text=text, stack=summary.stack, run=summary.run, data=data))


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
    """Tells once each time that a run has used another share of its budget, whichever controller follows it."""

    def __init__(self, context: CommandContext, record: RunRecord) -> None:
        self._context, self._record = context, record
        self._told: int | None = None

    def look(self, now: float) -> None:
        """Compare what was spent with what may be; costs nothing but a sum until a share is passed."""
        budget = self._record.budget
        if not budget:
            return
        spent = cost(self._record, now)
        share = max((share for share in _SHARES if 100 * spent >= share * budget), default=0)
        if not share or share <= (self._told or 0):
            return
        if self._told is None:
            self._told = shares_told(self._context, self._record)
            if share <= self._told:
                return
        self._told = share
        note(self._context, self._record, "budget", share=share)
        self._tell(share, spent, budget)

    def _tell(self, share: int, spent: float, budget: float) -> None:
        record = self._record
        title = f"run {record.id} has used {share} % of its budget: ${spent:.2f} of ${budget:.2f}{_simulated(record.pod.simulated)}"
        ending = "It has been told to stop and save." if share == 100 else "It is told to stop while the rest still pays for saving."
        text = f"{ending}\nLook at it: invoke attach {record.id}\nEnd it now: invoke cancel {record.id}"
        data: dict[str, str | float | bool | None] = {"share": share, "spent": round(spent, 6), "budget": budget}
        announce(self._context, Notice(kind="budget", title=title, text=text, stack=record.environment, run=str(record.id), data=data))


def _simulated(simulated: bool) -> str:
    return " (SIMULATED cloud)" if simulated else ""
