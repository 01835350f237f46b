"""The pages of what people had this server do: how each goes, and what it said."""

from __future__ import annotations

import re
import shlex

from fastapi import APIRouter, Request
from fastapi.responses import HTMLResponse, Response

from trainyard.jsontext import parse_json
from trainyard.ledger.operations import ServerOperation
from trainyard.web.guard.principal import Reader, TheSite
from trainyard.web.pages.render import page
from trainyard.web.rest.operations import OperationId, one_operation

router = APIRouter()
_SHOWN = 100
_RUN = re.compile(r"[a-z0-9][a-z0-9-]*/[a-z0-9][a-z0-9-]*(/[1-9][0-9]*)?")


@router.get("/operations", response_class=HTMLResponse)
def operations(request: Request, site: TheSite, who: Reader) -> Response:
    """Show what people had it do, newest first."""
    return page(request, "operations.html", who, operations=site.operations.newest(_SHOWN))


@router.get("/operations/{id}", response_class=HTMLResponse)
def operation(request: Request, site: TheSite, who: Reader, id: OperationId) -> Response:
    """Show one as it goes on."""
    one = one_operation(site, who, id)
    return page(request, "operation.html", who, operation=one, command=shlex.join(["trainyard", *one.words]), run=_run_of(one))


def _run_of(one: ServerOperation) -> str | None:
    """Return the run that it was about, or that has come of it."""
    for text in (_run_in(one.output), one.subject):
        if isinstance(text, str) and _RUN.fullmatch(text):
            return text
    return None


def _run_in(output: str | None) -> object:
    try:
        value = parse_json(output or "null")
    except ValueError:
        return None
    value = value[0] if isinstance(value, list) and value else value
    return value.get("run") if isinstance(value, dict) else None
