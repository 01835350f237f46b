"""What those who watch a server ask: does it live, can it work, and its figures for Prometheus."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator

from fastapi import APIRouter, Request, Response
from fastapi.responses import JSONResponse, PlainTextResponse
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from trainyard.clock import format_time
from trainyard.errors import TrainyardError
from trainyard.ledger.duties import DutyRows
from trainyard.ledger.queue import QueueRows
from trainyard.ledger.rows import RunFilter
from trainyard.web.guard.hosts import asked_host, is_loopback
from trainyard.web.guard.principal import Needs, TheSite, proven
from trainyard.web.site import Site

router = APIRouter(tags=["health"])
_DAY = 86_400.0
_METHODS = frozenset(("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"))
"""What has a figure of its own: anybody may make others up."""


class SiteFigures(Collector):
    """What the ledger knows, read when it is asked for."""

    def __init__(self, site: Site) -> None:
        self.site = site

    def collect(self) -> Iterator[GaugeMetricFamily]:
        """Yield the figures of now; those of a ledger that does not answer are left out, and that is one of them."""
        answers = GaugeMetricFamily("trainyard_ledger_answers", "1 if the ledger answers, else 0.")
        try:
            figures = [*self._runs(), *self._queue(), *self._duties()]
        except TrainyardError:
            answers.add_metric([], 0)
            yield answers
            return
        answers.add_metric([], 1)
        yield answers
        yield from figures

    def _runs(self) -> Iterator[GaugeMetricFamily]:
        now, counts, spent = self.site.now(), defaultdict[tuple[str, str], int](int), defaultdict[str, float](float)
        for row in self.site.ledger.runs(RunFilter(state="live")):
            counts[row.stack, row.state] += 1
        stacks = {row.id: row.stack for row in self.site.ledger.runs(RunFilter(since=now - _DAY))}
        for run, dollars in self.site.ledger.costs_since(now - _DAY).items():
            spent[stacks.get(run, "")] += dollars
        runs = GaugeMetricFamily("trainyard_runs", "Runs that are not over, by stack and state.", labels=["stack", "state"])
        for (stack, state), count in sorted(counts.items()):
            runs.add_metric([stack, state], count)
        dollars_of_day = GaugeMetricFamily(
            "trainyard_spent_dollars", "Dollars that runs have cost which began in the last 24 hours, by stack.", labels=["stack"]
        )
        for stack, dollars in sorted(spent.items()):
            dollars_of_day.add_metric([stack], dollars)
        yield from (runs, dollars_of_day)

    def _queue(self) -> Iterator[GaugeMetricFamily]:
        waiting = [entry for entry in QueueRows(self.site.ledger.database).entries() if entry.state == "queued"]
        queued = GaugeMetricFamily("trainyard_queue_runs", "Runs that wait in the queue.")
        queued.add_metric([], len(waiting))
        oldest = GaugeMetricFamily("trainyard_queue_oldest_seconds", "Seconds for which the oldest of them has waited.")
        oldest.add_metric([], max((self.site.now() - entry.submitted for entry in waiting), default=0.0))
        approvals = GaugeMetricFamily("trainyard_queue_approvals", "Runs that wait for a person's word.")
        approvals.add_metric([], sum(entry.approval == "needed" for entry in waiting))
        yield from (queued, oldest, approvals)

    def _duties(self) -> Iterator[GaugeMetricFamily]:
        ended = GaugeMetricFamily("trainyard_duty_ended_timestamp_seconds", "When a duty of the schedule last ended.", labels=["duty"])
        well = GaugeMetricFamily("trainyard_duty_done", "1 if that went well, else 0.", labels=["duty"])
        held = GaugeMetricFamily("trainyard_duty_held", "1 while a server does it, else 0.", labels=["duty"])
        for row in DutyRows(self.site.ledger.database).all().values():
            held.add_metric([row.name], row.holder is not None)
            if row.ended is not None:
                ended.add_metric([row.name], row.ended)
                well.add_metric([row.name], row.outcome == "done")
        yield from (ended, well, held)


class ServerFigures:
    """The figures of one server: what it was asked for, and what the ledger knows."""

    def __init__(self, site: Site) -> None:
        self.registry = CollectorRegistry()
        labels = ["method", "route", "status"]
        self.requests = Counter("trainyard_requests", "Requests that were answered.", labels, registry=self.registry)
        self.seconds = Histogram("trainyard_request_seconds", "How long answers took.", labels[:2], registry=self.registry)
        self.registry.register(SiteFigures(site))

    def count(self, method: str, route: str, status: int, seconds: float) -> None:
        """Take a request that was answered into account; ``route`` is its template, so that there are few."""
        method = method if method in _METHODS else "other"
        self.requests.labels(method, route, str(status)).inc()
        self.seconds.labels(method, route).observe(seconds)


@router.get("/healthz", response_class=PlainTextResponse)
async def healthz() -> str:
    """Tell that the server's process lives."""
    return "ok\n"


@router.get("/readyz")
def readyz(site: TheSite, request: Request) -> Response:
    """Tell whether it can work: the ledger answers, and somebody keeps the schedule; 503 with what is missing."""
    missing: dict[str, str] = {}
    try:
        rows = DutyRows(site.ledger.database).all()
        keeper = request.app.state.keeper
        if keeper is not None and not keeper.is_alive():
            missing["schedule"] = "the thread that keeps it has ended"
        late = [row.name for row in rows.values() if row.holder is not None and row.until < site.now()]
        if late:
            missing["duties"] = f"nobody says any more that these are done: {', '.join(late)}"
    except TrainyardError as error:
        missing["ledger"] = error.message
    return JSONResponse({"ready": not missing, "missing": missing, "time": format_time(site.now())}, 503 if missing else 200)


@router.get("/metrics", response_class=PlainTextResponse)
async def metrics(request: Request) -> Response:
    """Tell the figures to Prometheus: without a token to this machine alone."""
    from starlette.concurrency import run_in_threadpool

    if request.headers.get("authorization") or not _is_here(request):
        await Needs("read")(await proven(request))
    figures: ServerFigures = request.app.state.figures
    return Response(await run_in_threadpool(generate_latest, figures.registry), media_type=CONTENT_TYPE_LATEST)


def _is_here(request: Request) -> bool:
    """Tell whether a request comes from this machine and asks it by name, not through a proxy that stands here or for a page's own host."""
    if request.client is None or any(name in request.headers for name in ("x-forwarded-for", "forwarded", "via")):
        return False
    return is_loopback(request.client.host) and is_loopback(asked_host(request.headers) or "")
