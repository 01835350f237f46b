"""Each button asks first: a page (a dialog, where there is a script) says what it does; only its answer begins the verb."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Annotated

from fastapi import APIRouter, Depends, HTTPException, Path, Request
from fastapi.responses import HTMLResponse, RedirectResponse, Response
from pydantic import ValidationError

from trainyard.errors import UserError
from trainyard.ledger.accounts import Proven
from trainyard.ledger.queue import QueueRows
from trainyard.ledger.runid import RunId
from trainyard.web.guard.principal import Admin, Reader, TheSite
from trainyard.web.pages.queueacts import QUEUE_ACTIONS
from trainyard.web.pages.render import page
from trainyard.web.pages.runacts import ACTIONS, AskField, PageAction
from trainyard.web.pages.runpages import folder_of
from trainyard.web.pages.runview import FETCHED
from trainyard.web.pages.wording import money
from trainyard.web.rest.commands import OF_RUNS, words_of
from trainyard.web.rest.operations import RequestId
from trainyard.web.rest.runs import Attempt, Label, User
from trainyard.web.site import Site
from trainyard.web.work import begin

router = APIRouter()
StackName = Annotated[str, Path(pattern=r"^[a-z0-9][a-z0-9._-]{0,99}$")]
PodId = Annotated[str, Path(pattern=r"^[A-Za-z0-9][A-Za-z0-9._:-]{0,199}$")]
ActionName = Annotated[str, Path(pattern=r"^[a-z.]{1,32}$")]


async def said_form(request: Request) -> dict[str, str]:
    """Return what a form says; who asks for it this way works in a thread, and a slow ledger holds up nobody else."""
    form = await request.form()
    return {str(name): value.strip() for name, value in form.items() if isinstance(value, str) and name != "csrf" and value.strip()}


SaidForm = Annotated[dict[str, str], Depends(said_form)]
_END = PageAction(
    path="end", words="End", question="End this pod now?", ends=True,
    tells=(
        "It is ended whatever its lease says; what is on it and not in the bucket is lost.",
        "It is ended on the cloud's own proof, or is said to stand.",
    ),
)  # fmt: skip


@router.get("/runs/{user}/{label}/{attempt}/do/{action}", response_class=HTMLResponse)
def ask_of_run(
    request: Request, site: TheSite, who: Reader, user: User, label: Label, attempt: Attempt, action: ActionName
) -> Response:  # fmt: skip
    """Ask whether something is to be done to a run, and say what it has cost."""
    asked, run = _run_action(who, action), RunId(user, label, attempt)
    costs = [
        f"This attempt has cost {money(row.cost)}" + ("." if row.estimate is None else f", and was to cost {money(row.estimate)} at most.")
        for row in site.ledger.rows_of([run])
    ]
    return _ask(request, who, asked, f"{user}/{label}", f"/runs/{user}/{label}/{attempt}", more=costs)


@router.post("/runs/{user}/{label}/{attempt}/do/{action}")
def do_to_run(
    request: Request, site: TheSite, who: Reader, request_id: RequestId, user: User, label: Label, attempt: Attempt, action: ActionName,
    said: SaidForm,
) -> Response:  # fmt: skip
    """Begin what was agreed to."""
    asked = _run_action(who, action)
    run = f"{user}/{label}"
    try:
        words = _words(site, asked, user, label, attempt, said)
    except UserError as error:
        return _ask(request, who, asked, run, f"/runs/{run}/{attempt}", wrong=error.message, said=said)
    return _begun(site, who, request_id, words, run)


@router.get("/queue/{user}/{label}/do/{action}", response_class=HTMLResponse)
def ask_of_entry(request: Request, site: TheSite, who: Reader, user: User, label: Label, action: ActionName) -> Response:
    """Ask whether something is to be done to what is queued, and say what it may cost."""
    asked = _queue_action(who, action)
    entries = [entry for entry in QueueRows(site.ledger.database).named(label, user) if entry.state != "over"]
    costs = [f"It runs {entry.recipe} on {entry.where}, and may cost {money(entry.estimate)} at most." for entry in entries[-1:]]
    return _ask(request, who, asked, f"{user}/{label}", "/queue", more=costs)


@router.post("/queue/{user}/{label}/do/{action}")
def do_to_entry(
    request: Request, site: TheSite, who: Reader, request_id: RequestId, user: User, label: Label, action: ActionName, said: SaidForm
) -> Response:  # fmt: skip
    """Begin what was agreed to."""
    asked = _queue_action(who, action)
    run = f"{user}/{label}"
    try:
        words = _command_words(asked, run, said)
    except UserError as error:
        return _ask(request, who, asked, run, "/queue", wrong=error.message, said=said)
    return _begun(site, who, request_id, words, run)


@router.get("/pods/{stack}/{pod}/end", response_class=HTMLResponse)
def ask_of_pod(request: Request, who: Admin, stack: StackName, pod: PodId) -> Response:
    """Ask whether a pod is to be ended."""
    return _ask(request, who, _END, f"{pod} on {stack}", f"/account?stack={stack}")


@router.post("/pods/{stack}/{pod}/end")
def end_pod(site: TheSite, who: Admin, request_id: RequestId, stack: StackName, pod: PodId) -> Response:
    """End it."""
    return _begun(site, who, request_id, ["end", pod, f"--stack={stack}"], f"{stack}/{pod}")


def ask_page(request: Request, who: Proven, actions: Sequence[PageAction], name: str, subject: str, back: str) -> Response:
    """Return the page that asks for one of some actions; raises 404 and 403."""
    return _ask(request, who, _allowed(who, actions, name), subject, back)


def begun(
    site: Site, who: Proven, request_id: str, actions: Sequence[PageAction], name: str, words: Sequence[str], subject: str
) -> RedirectResponse:  # fmt: skip
    """Begin one of some actions and lead to the page of its operation; raises 404 and 403."""
    _allowed(who, actions, name)
    return _begun(site, who, request_id, words, subject)


def _ask(
    request: Request, who: Proven, action: PageAction, subject: str, back: str, *, wrong: str | None = None,
    said: Mapping[str, str] | None = None, more: Sequence[str] = (),
) -> Response:  # fmt: skip
    tells = [*action.tells, *more]
    return page(
        request, "ask.html", who, status=422 if wrong else 200, action=action, tells=tells, subject=subject, back=back, wrong=wrong,
        said=said or {},
    )  # fmt: skip


def _begun(site: Site, who: Proven, request_id: str, words: Sequence[str], subject: str) -> RedirectResponse:
    return RedirectResponse(f"/operations/{begin(site, who, request_id, words, subject=subject).id}", 303)


def _run_action(who: Proven, name: str) -> PageAction:
    return _allowed(who, [action for action, _ in ACTIONS], name)


def _queue_action(who: Proven, name: str) -> PageAction:
    return _allowed(who, QUEUE_ACTIONS, name)


def _allowed(who: Proven, actions: Sequence[PageAction], name: str) -> PageAction:
    action = next((each for each in actions if each.path == name), None)
    if action is None:
        raise HTTPException(404, "there is no such thing to do")
    if action.scope not in who.scopes:
        raise HTTPException(403, f"this needs the scope '{action.scope}'; you have: {', '.join(sorted(who.scopes)) or 'none'}")
    return action


def _words(site: Site, action: PageAction, user: str, label: str, attempt: int, said: Mapping[str, str]) -> list[str]:
    run = f"{user}/{label}"
    if action.path == "attach":
        return ["attach", run]
    if action.path == "download":
        return ["download", f"{run}/{attempt}", "--whole", f"--to={folder_of(site, user, label, attempt).path / FETCHED}"]
    return _command_words(action, f"{run}/{attempt}" if action.path in ("resume", "rerun", "remove") else run, said)


def _command_words(action: PageAction, run: str, said: Mapping[str, str]) -> list[str]:
    """Return the verb as the REST API has it, of what a form says; raises UserError for what does not fit."""
    command = next(each for each in OF_RUNS if each.path == action.path)
    fields = {field.name: _value(field, said[field.name]) for field in action.fields if field.name in said}
    if "yes" in command.body.model_fields:
        fields["yes"] = True  # whoever pressed the button has read what goes where
    try:
        return words_of(command, run, command.body.model_validate(fields), None)
    except ValidationError as error:
        raise UserError("; ".join(f"{_named(action, str(each['loc'][0]))}: {each['msg']}" for each in error.errors())) from None


def _value(field: AskField, text: str) -> object:
    if field.kind == "checkbox":
        return True
    return float(text) if field.kind == "number" and re.fullmatch(r"-?[0-9]{1,12}(\.[0-9]{1,9})?", text) else text


def _named(action: PageAction, name: str) -> str:
    return next((field.words for field in action.fields if field.name == name), name)
