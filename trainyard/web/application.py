"""The application: what stands before every request, and behind which paths what is found."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator

from fastapi import FastAPI
from fastapi.staticfiles import StaticFiles
from starlette.concurrency import run_in_threadpool

from trainyard import __version__
from trainyard.web import health
from trainyard.web.guard.bodies import BodyLimit
from trainyard.web.guard.flood import FloodGuard
from trainyard.web.guard.headers import SafeHeaders
from trainyard.web.guard.hosts import HostGuard
from trainyard.web.guard.requestlog import RequestLog
from trainyard.web.guard.slow import SlowReaders
from trainyard.web.health import ServerFigures
from trainyard.web.live.hub import LiveHub
from trainyard.web.pages import asking, live, login, moneypages, operationpages, queuepages, runpages, stackpages, startpages, workerpages
from trainyard.web.pages.problem import problem_page
from trainyard.web.pages.render import STATIC
from trainyard.web.reports import VerbReports
from trainyard.web.rest import actions, duties, figures, files, following, operations, people, problems, reports, runs, stacks, workers
from trainyard.web.schedule.keeper import ScheduleKeeper
from trainyard.web.site import Site
from trainyard.web.workers import routes
from trainyard.web.workers.yard import WorkerYard

API = "/api/v1"


def create_application(site: Site, keeper: ScheduleKeeper | None = None) -> FastAPI:
    """Return the server's application over a site; it opens no socket. A keeper is started and ended with it."""

    @contextlib.asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
        if keeper is not None:
            keeper.start()
        yield
        if keeper is not None:
            await run_in_threadpool(keeper.stop)

    app = FastAPI(
        title="Trainyard", version=__version__, summary="Train on rented GPUs: runs, queue, costs, and the verbs that change them.",
        openapi_url=f"{API}/openapi.json", docs_url=None, redoc_url=None, swagger_ui_oauth2_redirect_url=None,
        separate_input_output_schemas=False, redirect_slashes=False, lifespan=lifespan,
    )  # fmt: skip
    counts = ServerFigures(site)
    app.state.site, app.state.reports, app.state.figures, app.state.keeper = site, VerbReports(site), counts, keeper
    app.state.hub, app.state.yard = LiveHub(site), WorkerYard(site)
    for router in (
        runs.router, actions.router, operations.router, duties.router, people.router, reports.router, following.router, workers.router,
        figures.router, stacks.router, files.router,
    ):  # fmt: skip
        app.include_router(router, prefix=API, responses=problems.RESPONSES)
    app.include_router(routes.router, prefix=API)
    app.include_router(health.router, include_in_schema=False)
    for page in (login, runpages, asking, queuepages, operationpages, moneypages, stackpages, startpages, workerpages, live):
        app.include_router(page.router, include_in_schema=False)
    app.mount("/static", StaticFiles(directory=STATIC), name="static")
    problems.install(app, problem_page)
    # What is added last stands first: each request is logged, whatever refuses it.
    app.add_middleware(BodyLimit)
    app.add_middleware(SlowReaders)
    app.add_middleware(HostGuard, secure=site.secure)
    app.add_middleware(SafeHeaders, secure=site.secure)
    app.add_middleware(FloodGuard)
    app.add_middleware(RequestLog, count=counts.count)
    return app
