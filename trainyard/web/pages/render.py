"""Templates into pages: everything that comes from outside is escaped, and every page has what forms send back."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import jinja2
from fastapi import Request
from fastapi.responses import HTMLResponse

from trainyard import __version__
from trainyard.ledger.accounts import Proven
from trainyard.runs.records.progress import duration, of_all
from trainyard.sizes import human_size
from trainyard.web.guard.principal import csrf_of, site_of
from trainyard.web.pages import wording

_HERE = Path(__file__).resolve().parent
STATIC = _HERE / "static"

_environment = jinja2.Environment(
    loader=jinja2.FileSystemLoader(_HERE / "templates"), autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True,
    lstrip_blocks=True,
)  # fmt: skip
_environment.filters.update(
    duration=duration, size=human_size, money=wording.money, rate=wording.rate, figure=wording.figure, epoch=wording.epoch, utc=wording.utc,
)  # fmt: skip
_environment.globals.update(version=__version__, of_all=of_all, shown_state=wording.shown_state, ago=wording.ago, phases=wording.PHASES)


def page(request: Request, template: str, who: Proven | None = None, *, status: int = 200, **values: Any) -> HTMLResponse:
    """Return a page; htmx gets the same, and takes the part that it asked for."""
    shown = _environment.get_template(template).render(
        who=who, csrf=csrf_of(request), path=request.url.path, now=site_of(request).now(), **values
    )
    return HTMLResponse(shown, status)
