"""What there is to know beyond one run, over HTTP: the queue, costs, offers, what an account pays for now, results, the audit log."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends, Path, Query, Request
from pydantic import BaseModel

from trainyard.jsontext import parse_json
from trainyard.ledger.queue import QueueEntry, QueueRows
from trainyard.runs.verbs.auditing import log
from trainyard.settings import reader
from trainyard.web.guard.principal import Reader, TheSite
from trainyard.web.reports import VerbReport, VerbReports
from trainyard.web.rest.commands import RunName
from trainyard.web.rest.operations import Words
from trainyard.web.rest.runs import Attempt, Label, User

router = APIRouter(tags=["reports"])
StackName = Annotated[str, Path(pattern=r"^[a-z0-9][a-z0-9._-]{0,99}$")]
_SINCE = r"^[0-9A-Za-z:.+-]{1,40}$"


def _reports(request: Request) -> VerbReports:
    kept: VerbReports = request.app.state.reports
    return kept


Reports = Annotated[VerbReports, Depends(_reports)]


class SaidReport(BaseModel):
    """What a verb says with `--json`, and when (epoch seconds)."""

    as_of: float
    value: Any


class QueueList(BaseModel):
    """What is not over, in the order of submission."""

    entries: list[QueueEntry]


class AuditLine(BaseModel):
    """Who did what to what, when (epoch seconds); each row has the hash of the one before it."""

    sequence: int
    time: float
    actor: str
    machine: str
    action: str
    subject: str
    data: Any
    previous: str
    hash: str


class AuditList(BaseModel):
    """Rows of the audit log, oldest first."""

    rows: list[AuditLine]


def _said(report: VerbReport) -> SaidReport:
    return SaidReport(as_of=report.as_of, value=report.value)


@router.get("/queue")
def queue(site: TheSite, _who: Reader, over: bool = False) -> QueueList:
    """List what is queued; `over`: what is over, too."""
    return QueueList(entries=QueueRows(site.ledger.database).entries(over=over))


@router.get("/queue/plan")
def queue_plan(reports: Reports, _who: Reader) -> SaidReport:
    """Tell what a worker would begin next, and why not the rest, as `invoke queue --plan` does."""
    return _said(reports.get(["queue", "--plan", "--json"], 10.0))


@router.get("/costs")
def costs(
    reports: Reports, _who: Reader, by: Literal["stage", "stack", "user", "recipe"] = "stage",
    since: Annotated[str | None, Query(pattern=_SINCE, examples=["7d"])] = None,
) -> SaidReport:  # fmt: skip
    """Tell what runs have cost, as `invoke costs` does."""
    return _said(reports.get(["costs", f"--by={by}", *([f"--since={since}"] if since else []), "--json"], 15.0))


@router.get("/offers")
def offers(
    reports: Reports, _who: Reader, gpu: Annotated[str | None, Query(pattern=r"^[A-Za-z0-9][A-Za-z0-9 ._-]{0,40}$")] = None,
    vram: Annotated[float | None, Query(gt=0, le=100_000)] = None, max_price: Annotated[float | None, Query(gt=0, le=1e6)] = None,
    limit: Annotated[int, Query(ge=1, le=200)] = 50,
) -> SaidReport:  # fmt: skip
    """Tell what all clouds have now, by price, as `invoke offers` does."""
    said = {"gpu": gpu, "vram": vram, "max-price": max_price, "limit": limit}
    return _said(reports.get(["offers", *(f"--{name}={value}" for name, value in said.items() if value is not None), "--json"], 60.0))


@router.get("/clouds")
def clouds(reports: Reports, _who: Reader) -> SaidReport:
    """Tell what each cloud can do, as `invoke clouds` does."""
    return _said(reports.get(["clouds", "--json"], 600.0))


@router.get("/stacks")
def stacks(site: TheSite, _who: Reader) -> dict[str, str | None]:
    """Return each stack of the repository and its cloud; None where its settings cannot be read."""
    from trainyard.config import stack_names
    from trainyard.errors import UserError

    named: dict[str, str | None] = {}
    for name in stack_names(site.context.places.root):
        try:
            named[name] = reader.cloud_of(site.context.places.root, name)
        except UserError:
            named[name] = None
    return named


@router.get("/stacks/{stack}/account")
def account(reports: Reports, _who: Reader, stack: StackName) -> SaidReport:
    """Tell all of a cloud account that costs money now, as `invoke audit` does."""
    return _said(reports.get(["audit", f"--stack={stack}", "--json"], 30.0))


@router.get("/stacks/{stack}/results")
def results(reports: Reports, _who: Reader, stack: StackName) -> SaidReport:
    """List what a stack's bucket holds, as `invoke results` does."""
    return _said(reports.get(["results", f"--stack={stack}", "--json"], 30.0))


@router.get("/runs/{user}/{label}/{attempt}/page")
def page(
    reports: Reports, _who: Reader, user: User, label: Label, attempt: Attempt,
) -> SaidReport:  # fmt: skip
    """Tell all that is known of one attempt, as `invoke show` does: values, data, code, stages, events, commands."""
    return _said(reports.get(["show", f"{user}/{label}/{attempt}", "--json"], 5.0))


@router.get("/compare")
def compare(
    reports: Reports, _who: Reader, run: Annotated[list[RunName], Query(min_length=1, max_length=20)],
) -> SaidReport:  # fmt: skip
    """Tell runs side by side, as `invoke compare` does."""
    return _said(reports.get(["compare", *(f"--run={name}" for name in run), "--json"], 10.0))


@router.get("/audit")
def audit_log(
    site: TheSite, _who: Reader, since: Annotated[str | None, Query(pattern=_SINCE)] = None, actor: Words = None,
    action: Words = None, subject: Words = None, limit: Annotated[int, Query(ge=1, le=1000)] = 100,
) -> AuditList:  # fmt: skip
    """Tell who did what when: runs begun and ended, pods, stacks, approvals, accounts, limits."""
    rows = log(site.context, since, actor, action, subject, limit)
    return AuditList(rows=[AuditLine(**{**asdict(row), "data": parse_json(row.data)}) for row in rows])


@router.get("/audit/verify")
def audit_verify(reports: Reports, _who: Reader) -> SaidReport:
    """Prove the audit log, as `invoke audit.verify` does: no row changed, removed, moved or cut off."""
    return _said(reports.get(["audit.verify", "--json"], 60.0))
