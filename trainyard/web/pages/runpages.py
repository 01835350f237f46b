"""The pages of runs: all of them, one, and several beside each other."""

from __future__ import annotations

from pathlib import Path as FilePath
from typing import Annotated, Any

from fastapi import APIRouter, HTTPException, Path, Query, Request
from fastapi.responses import FileResponse, HTMLResponse, RedirectResponse, Response

from trainyard.errors import UserError
from trainyard.ledger.queue import QueueRows
from trainyard.ledger.runid import RunId
from trainyard.runs.records.record import RunFolder
from trainyard.runs.verbs.listing import SHOWN, STATES, ListedRun, RunListing, asked_for, list_known
from trainyard.web.guard.principal import Reader, TheSite
from trainyard.web.live.curves import SHELF
from trainyard.web.pages.render import page
from trainyard.web.pages.runacts import acts_of
from trainyard.web.pages.runlog import NOTHING_YET, log_piece
from trainyard.web.pages.runview import FETCHED, details, live_figures, shown_events, unfollowed
from trainyard.web.rest.runs import Attempt, Label, User, newest_attempt, one_attempt
from trainyard.web.site import Site

router = APIRouter()
PANELS = (
    ("Loss", ("loss", "eval_loss"), ""), ("Learning rate", ("lr",), ""), ("Speed", ("tokens_per_second",), "tokens/s"),
    ("GPU", ("gpu_percent",), "%"), ("GPU memory", ("gpu_memory_gb",), "GB"),
)  # fmt: skip
"""Title, figures of metrics.jsonl, unit."""
_ROWS, _BESIDE = 20, 12
"""Rows of a chart's table, runs that are compared at most."""


@router.get("/", response_class=HTMLResponse)
def runs(
    request: Request, site: TheSite, who: Reader, stack: str = "", recipe: str = "", user: str = "", state: str = "", since: str = "",
) -> Response:  # fmt: skip
    """Show the runs that fit, newest first."""
    said, wrong = {"stack": stack, "recipe": recipe, "user": user, "state": state, "since": since}, None
    try:
        asked = asked_for(stack or None, recipe or None, user or None, state or None, since or None, SHOWN)
        listing = list_known(site.context, site.ledger, asked)
    except UserError as error:
        listing, wrong = RunListing([]), error.message
    here = f"/?{request.url.query}" if request.url.query else "/"
    shown = list(reversed(listing.runs))
    return page(request, "runs.html", who, runs=shown, more=listing.more, said=said, states=STATES, wrong=wrong, here=here)


@router.get("/runs/{user}/{label}")
def newest(site: TheSite, who: Reader, user: User, label: Label) -> Response:
    """Lead to a run's newest attempt; to the queue, where it waits there."""
    if any(entry.state == "queued" for entry in QueueRows(site.ledger.database).named(label, user)):
        return RedirectResponse("/queue", 303)
    return RedirectResponse(f"/runs/{user}/{label}/{newest_attempt(site, who, user, label).attempt}", 303)


@router.get("/runs/{user}/{label}/{attempt}", response_class=HTMLResponse)
def run(
    request: Request, site: TheSite, who: Reader, user: User, label: Label, attempt: Attempt,
    offset: Annotated[int | None, Query(ge=0, le=1 << 62)] = None,
) -> Response:  # fmt: skip
    """Show one attempt: figures, curves, log, cost, result, events, what was done to it and what may be."""
    listed, folder = one_attempt(site, who, user, label, attempt), folder_of(site, user, label, attempt)
    known = details(folder) if listed.here else None
    book = SHELF.of(folder.metrics)
    curves, figures = book.shown(), live_figures(listed, book)
    here = f"{request.url.path}?offset={offset}" if offset is not None else request.url.path
    return page(
        request, "run.html", who, run=listed, more=known[1] if known else None, figures=figures, percent=figures["percent"],
        unfollowed=known is not None and unfollowed(known[0], folder), curves=curves, panels=PANELS, tables=_tables(curves),
        log=log_piece(folder.log, offset) or (NOTHING_YET if known and not listed.over else None),
        events=shown_events(site.ledger.events(RunId(user, label, attempt))), here=here,
        operations=site.operations.newest(10, subject=f"{user}/{label}"),
        acts=acts_of(listed, who, followed=known is not None and not unfollowed(known[0], folder)),
    )  # fmt: skip


@router.get("/runs/{user}/{label}/{attempt}/train.log")
def whole_log(site: TheSite, _who: Reader, user: User, label: Label, attempt: Attempt) -> Response:
    """Return a run's log as a file."""
    path = folder_of(site, user, label, attempt).log
    if not path.is_file():
        raise HTTPException(404, f"the log of run {user}/{label}/{attempt} is not on this server's machine")
    return FileResponse(path, media_type="application/octet-stream", filename=f"{label}-{attempt}.log")


@router.get("/runs/{user}/{label}/{attempt}/files/{name:path}")
def result_file(
    site: TheSite, _who: Reader, user: User, label: Label, attempt: Attempt, name: Annotated[str, Path(max_length=1000)]
) -> Response:  # fmt: skip
    """Return a file of a result that was fetched to this server, and proven there."""
    place = (folder_of(site, user, label, attempt).path / FETCHED).resolve()
    path = _below(place, name)
    if path is None:
        raise HTTPException(404, f"run {user}/{label}/{attempt} has no such file here: fetch its result first")
    return FileResponse(path, media_type="application/octet-stream", filename=path.name)


@router.get("/compare", response_class=HTMLResponse)
def compare(request: Request, site: TheSite, who: Reader, run: Annotated[list[str] | None, Query(max_length=_BESIDE)] = None) -> Response:
    """Show runs beside each other: what they were made of, and their curves in one picture."""
    chosen = [_chosen(site, who, text) for text in dict.fromkeys(run or ())]
    folders = [folder_of(site, each.user, each.label, each.attempt) for each in chosen]
    known = [details(folder) for folder in folders]
    values = [dict(each[1].values) if each else {} for each in known]
    differ = sorted({name for each in values for name in each if len({one.get(name) for one in values}) > 1})
    curves: list[dict[str, Any]] = [
        {"run": f"{each.run}/{each.attempt}", **SHELF.of(folder.metrics).shown()} for each, folder in zip(chosen, folders, strict=True)
    ]
    drawn = sorted({name for each in curves for name in each["curves"]}, key=_order)
    return page(request, "compare.html", who, runs=list(zip(chosen, values, strict=True)), differ=differ, curves=curves, figures=drawn)


def folder_of(site: Site, user: str, label: str, attempt: int) -> RunFolder:
    """Return the folder of an attempt, which need not be there."""
    return RunFolder(RunId(user, label, attempt).folder(site.context.places.runs))


def _chosen(site: Site, who: Reader, text: str) -> ListedRun:
    user, _, rest = text.partition("/")
    label, _, attempt = rest.partition("/")
    if not attempt.isdigit() or len(attempt) > 9:
        raise HTTPException(404, "a run to be compared is named user/label/attempt")
    return one_attempt(site, who, user, label, int(attempt))


def _order(name: str) -> tuple[int, str]:
    known = [each for _, names, _ in PANELS for each in names]
    return (known.index(name) if name in known else len(known), name)


def _tables(curves: dict[str, object]) -> dict[str, list[list[float | None]]]:
    """Return some rows of each chart as numbers, the newest last: for whoever sees no chart."""
    known: dict[str, tuple[list[int], list[float]]] = curves["curves"]  # type: ignore[assignment]
    tables: dict[str, list[list[float | None]]] = {}
    for title, names, _ in PANELS:
        by_name = [dict(zip(*known[name], strict=True)) for name in names if name in known]
        steps = sorted({step for points in by_name for step in points})
        every = max(1, -(-len(steps) // _ROWS))
        picked = sorted({*steps[::every], *steps[-1:]})
        tables[title] = [[step, *(points.get(step) for points in by_name)] for step in picked]
    return tables


def _below(place: FilePath, name: str) -> FilePath | None:
    """Return a file of a folder by its name; None for what is outside of it, a link, or nothing."""
    if "\0" in name:
        return None
    path = place / name
    if path.is_symlink() or not path.resolve().is_relative_to(place) or not path.is_file():
        return None
    return path
