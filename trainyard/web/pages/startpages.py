"""Start a run: a form made from the recipe, then what it would cost, and only then the button that puts it into the queue."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any

from fastapi import APIRouter, HTTPException, Path, Request
from fastapi.responses import HTMLResponse, RedirectResponse, Response
from pydantic import ValidationError

from trainyard.config import AUTO, stack_names
from trainyard.errors import TrainyardError, UserError
from trainyard.jsontext import parse_json
from trainyard.ledger.operations import ServerOperation
from trainyard.recipes.contract import Recipe, load_recipe, recipe_names
from trainyard.recipes.variables import Variable
from trainyard.web.guard.principal import Reader, Runner, TheSite
from trainyard.web.pages.asking import SaidForm
from trainyard.web.pages.render import page
from trainyard.web.pages.runview import shown
from trainyard.web.rest.commands import StartRun, start_words
from trainyard.web.rest.operations import OperationId, RequestId, one_operation
from trainyard.web.rest.reach import refuse_start
from trainyard.web.site import Site
from trainyard.web.work import begin

router = APIRouter()
RecipeName = Annotated[str, Path(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$")]
_FIRST = 8
"""So many values of a recipe are shown before the others."""
_OF_RUNS = ("merge", "gguf", "serve")
"""Recipes of verbs about finished runs: nobody starts them by hand."""
_PLAN, _VALUE = "--dry-run", "v-"
_NUMBERS = ("hours", "budget", "priority")


@dataclass(frozen=True, slots=True)
class FormField:
    """One value of a recipe as a form asks for it."""

    name: str
    help: str
    choices: Sequence[str]
    hint: str
    required: bool


@router.get("/start", response_class=HTMLResponse)
def choose(request: Request, site: TheSite, who: Reader) -> Response:
    """Show what can be run."""
    return page(request, "recipes.html", who, recipes=list(_recipes(site)))


@router.get("/start/{recipe}", response_class=HTMLResponse)
def form(request: Request, site: TheSite, who: Reader, recipe: RecipeName) -> Response:
    """Show the form of a recipe."""
    return _form(request, site, who, _recipe(site, recipe))


@router.post("/start/{recipe}")
def plan(request: Request, site: TheSite, who: Runner, request_id: RequestId, recipe: RecipeName, said: SaidForm) -> Response:
    """Have it said what would be submitted and what it costs; nothing is written yet."""
    known = _recipe(site, recipe)
    try:
        asked = _asked(recipe, said)
        refuse_start(site, asked, who.scopes)
        words = start_words(asked, None)
    except ValidationError as error:
        wrong = "\n".join(f"{'.'.join(str(part) for part in each['loc'])}: {each['msg']}" for each in error.errors())
        return _form(request, site, who, known, wrong=wrong, said=said)
    except TrainyardError as error:
        return _form(request, site, who, known, wrong=error.message, said=said)
    operation = begin(site, who, request_id, words, subject=f"plan of {recipe}")
    return RedirectResponse(f"/plans/{operation.id}", 303)


@router.get("/plans/{id}", response_class=HTMLResponse)
def planned(request: Request, site: TheSite, who: Reader, id: OperationId) -> Response:
    """Show what would be submitted, and the button that does it."""
    operation = _plan(site, who, id)
    options = [word.removeprefix("--") for word in operation.words[1:] if word not in (_PLAN, "--json", "--yes")]
    entry = _entry(operation)
    return page(request, "plan.html", who, operation=operation, entry=entry, options=options, recipe=_option(operation, "--recipe="))


@router.post("/plans/{id}")
def submit(site: TheSite, who: Runner, request_id: RequestId, id: OperationId) -> Response:
    """Put it into the queue, exactly as it was planned; pressed again, it begins no second run."""
    operation = _plan(site, who, id)
    if operation.account != who.account.name:
        raise HTTPException(403, "this was planned by somebody else")
    if operation.state != "done":
        raise HTTPException(409, "nobody knows yet what it would cost")
    verb, *words = (word for word in operation.words if word != _PLAN)
    agreed = [verb, f"--key=server-plan-{operation.id}", "--yes", *words]
    return RedirectResponse(f"/operations/{begin(site, who, request_id, agreed, subject=operation.subject).id}", 303)


def _recipes(site: Site) -> Iterator[tuple[str, Recipe | None, str | None]]:
    for name in recipe_names(site.context.places.root):
        if name not in _OF_RUNS:
            try:
                yield name, load_recipe(site.context.places.root, name), None
            except UserError as error:
                yield name, None, error.message


def _recipe(site: Site, name: str) -> Recipe:
    if name not in recipe_names(site.context.places.root):
        raise HTTPException(404, f"there is no recipe '{name}'")
    return load_recipe(site.context.places.root, name)


def _form(
    request: Request, site: Site, who: Reader, recipe: Recipe, *, wrong: str | None = None, said: Mapping[str, str] | None = None
) -> Response:  # fmt: skip
    fields = sorted(map(_field, recipe.variables), key=lambda field: not field.required)
    stacks = [*stack_names(site.context.places.root), AUTO]
    return page(
        request, "start.html", who, status=422 if wrong else 200, recipe=recipe, first=fields[:_FIRST], rest=fields[_FIRST:], stacks=stacks,
        wrong=wrong, said=said or {},
    )  # fmt: skip


def _field(variable: Variable) -> FormField:
    default = variable.default
    reckoned = isinstance(default, str) and default.startswith("=")
    hint = "" if default is None else "reckoned from the others" if reckoned else shown(default)
    choices = [shown(choice) for choice in variable.choices] or (["true", "false"] if variable.kind == "bool" else [])
    return FormField(variable.name, variable.help, choices, hint, variable.required)


def _asked(recipe: str, said: Mapping[str, str]) -> StartRun:
    """Return what a form says, as the REST API takes it; raises ValidationError."""
    fields: dict[str, Any] = {name: said[name] for name in ("stack", "name", "data") if name in said}
    fields |= {name: said[name] for name in _NUMBERS if name in said}
    values = {name.removeprefix(_VALUE): value for name, value in said.items() if name.startswith(_VALUE)}
    return StartRun.model_validate({**fields, "recipe": recipe, "values": values, "hold": "hold" in said, "dry_run": True})


def _plan(site: Site, who: Reader, id: str) -> ServerOperation:
    operation = one_operation(site, who, id)
    if operation.verb != "submit" or _PLAN not in operation.words:
        raise HTTPException(404, "there is no such plan")
    return operation


def _entry(operation: ServerOperation) -> Mapping[str, Any] | None:
    """Return the entry of the queue that a plan has told."""
    try:
        value = parse_json(operation.output or "null")
    except ValueError:
        return None
    first = value[0] if isinstance(value, list) and value else value
    return first if isinstance(first, dict) else None


def _option(operation: ServerOperation, name: str) -> str:
    return next((word.removeprefix(name) for word in operation.words if word.startswith(name)), "")
