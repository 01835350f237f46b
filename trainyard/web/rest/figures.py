"""Figures over HTTP: a run's curves, what was spent by day, and what is left of limits and quotas."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query
from pydantic import BaseModel

from trainyard.ledger.limits import LimitRest
from trainyard.ledger.quotas import quotas_of
from trainyard.runs.records.record import RunFolder
from trainyard.web.guard.principal import Reader, TheSite
from trainyard.web.live.curves import SHELF, thin
from trainyard.web.live.following import TheRun
from trainyard.web.spending import DaySpent, days_spent, stack_limits

router = APIRouter(tags=["figures"])


class RunFigures(BaseModel):
    """Columns of figures: `steps[i]` is where `values[i]` was logged."""

    steps: list[int]
    values: list[float]


class RunMetrics(BaseModel):
    """Each figure of a run; `next` is the first byte of its metrics that this has not read: where to follow from."""

    figures: dict[str, RunFigures]
    next: int


class LimitLeft(BaseModel):
    """A limit in dollars: of what, what is spent of it, what running runs may still use, and what is left."""

    name: str
    stack: str | None
    dollars: float
    seconds: float | None
    blocks: bool
    spent: float
    committed: float
    left: float


class LimitList(BaseModel):
    """What is left of all that the asking account's runs are held to; `problems`: stacks whose settings cannot be read."""

    limits: list[LimitLeft]
    problems: dict[str, str]


class DayList(BaseModel):
    """Days, oldest first."""

    days: list[DaySpent]


@router.get("/runs/{user}/{label}/{attempt}/metrics")
def run_metrics(
    site: TheSite, _who: Reader, run: TheRun, since: Annotated[int, Query(ge=0, le=1 << 53)] = 0,
    points: Annotated[int, Query(ge=4, le=2000)] = 1000,
) -> RunMetrics:  # fmt: skip
    """Return a run's figures from a step on, thinned to so many points; of what is left out the lowest and highest stay."""
    book = SHELF.of(RunFolder(run.folder(site.context.places.runs)).metrics)
    with book.reading:
        kept = {name: thin({step: known[step] for step in known if step >= since}, points) for name, known in sorted(book.points.items())}
        figures = {name: RunFigures(steps=list(each), values=list(each.values())) for name, each in kept.items()}
        return RunMetrics(figures=figures, next=book.next)


@router.get("/costs/days")
def cost_days(site: TheSite, _who: Reader, days: Annotated[int, Query(ge=1, le=366)] = 30) -> DayList:
    """Return what runs have cost by the day (UTC) on which each began, without a cloud being asked."""
    return DayList(days=days_spent(site, days))


@router.get("/limits")
def limits(site: TheSite, who: Reader) -> LimitList:
    """Return what is left of each stack's limits, and of the quotas of the asking account and its team."""
    stacks = stack_limits(site, who.account.name)
    own = site.ledger.left_of(quotas_of(site.ledger.database, who.account.name))
    rests = [(each.stack, rest) for each in stacks for rest in each.rests] + [(None, rest) for rest in own]
    return LimitList(
        limits=[_left(stack, rest) for stack, rest in rests],
        problems={each.stack: each.problem for each in stacks if each.problem},
    )


def _left(stack: str | None, rest: LimitRest) -> LimitLeft:
    limit = rest.limit
    return LimitLeft(
        name=limit.name, stack=stack, dollars=limit.dollars, seconds=limit.seconds, blocks=limit.blocks, spent=rest.spent,
        committed=rest.committed, left=rest.dollars,
    )  # fmt: skip
