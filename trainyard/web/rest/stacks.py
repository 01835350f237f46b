"""Environments over HTTP: what their state holds, what is done to them and to their pods, and the recipes that run there."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any

from fastapi import APIRouter, HTTPException, Path, Response
from pydantic import BaseModel

from trainyard.config import stack_names
from trainyard.ledger.accounts import Proven
from trainyard.ledger.operations import ServerOperation
from trainyard.recipes.contract import Recipe, load_recipe, recipe_names
from trainyard.recipes.variables import Variable
from trainyard.settings.reader import cloud_of
from trainyard.stacks import facade
from trainyard.web.guard.principal import Admin, Reader, Runner, TheSite
from trainyard.web.rest.actions import IdempotencyKey, once
from trainyard.web.rest.operations import RequestId
from trainyard.web.rest.reports import StackName
from trainyard.web.site import Site
from trainyard.web.work import begin

router = APIRouter(tags=["stacks"])
RecipeName = Annotated[str, Path(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$")]
PodId = Annotated[str, Path(pattern=r"^[A-Za-z0-9][A-Za-z0-9._:-]{0,199}$")]
_TYPES: Mapping[str, Mapping[str, Any]] = {
    "int": {"type": "integer"}, "float": {"type": "number"}, "bool": {"type": "boolean"},
    "list": {"type": "array", "items": {"type": "string"}},
}  # fmt: skip
"""Every other kind is written as text."""


class RecipeList(BaseModel):
    """Recipes by name."""

    recipes: list[str]


class RecipeDeclared(BaseModel):
    """A recipe: what it does, and its values as a JSON Schema."""

    name: str
    summary: str
    data: str
    values: dict[str, Any]


class StackResource(BaseModel):
    """A resource of a state, without its inputs and outputs: these may hold secrets."""

    kind: str
    name: str
    id: str | None
    modified: str | None


class EnvironmentState(BaseModel):
    """An environment as its state tells it; outputs that hold a secret are left out."""

    stack: str
    cloud: str
    resources: list[StackResource]
    outputs: dict[str, Any]


@router.get("/recipes")
def recipes(site: TheSite, _who: Reader) -> RecipeList:
    """List what can be run."""
    return RecipeList(recipes=recipe_names(site.context.places.root))


@router.get("/recipes/{recipe}")
def one_recipe(site: TheSite, _who: Reader, recipe: RecipeName) -> RecipeDeclared:
    """Return one recipe."""
    if recipe not in recipe_names(site.context.places.root):
        raise HTTPException(404, f"there is no recipe '{recipe}'")
    known = load_recipe(site.context.places.root, recipe)
    return RecipeDeclared(name=known.name, summary=known.summary, data=str(known.data), values=_schema(known))


@router.get("/stacks/{stack}")
def one_stack(site: TheSite, _who: Reader, stack: StackName) -> EnvironmentState:
    """Return what an environment's state holds; no cloud is asked."""
    _check(site, stack)
    known = site.context.stack(stack)
    return EnvironmentState(
        stack=stack, cloud=cloud_of(site.context.places.root, stack), resources=list(_resources(facade.resources(known))),
        outputs=facade.plain_outputs(known),
    )  # fmt: skip


@router.post("/stacks/{stack}/preview", status_code=202, response_model=ServerOperation)
def preview_stack(site: TheSite, who: Runner, request_id: RequestId, stack: StackName, key: IdempotencyKey = None) -> Response:
    """Tell what `up` would do now, and so what has drifted."""
    return _operate(site, who, request_id, stack, "preview", key)


@router.post("/stacks/{stack}/refresh", status_code=202, response_model=ServerOperation)
def refresh_stack(site: TheSite, who: Runner, request_id: RequestId, stack: StackName, key: IdempotencyKey = None) -> Response:
    """Read the real world into an environment's state."""
    return _operate(site, who, request_id, stack, "refresh", key)


@router.post("/stacks/{stack}/up", status_code=202, response_model=ServerOperation)
def up_stack(site: TheSite, who: Admin, request_id: RequestId, stack: StackName, key: IdempotencyKey = None) -> Response:
    """Make what an environment's settings declare."""
    return _operate(site, who, request_id, stack, "up", key)


@router.post("/stacks/{stack}/destroy", status_code=202, response_model=ServerOperation)
def destroy_stack(site: TheSite, who: Admin, request_id: RequestId, stack: StackName, key: IdempotencyKey = None) -> Response:
    """End what `up` made and every run of the environment; its bucket and results stay."""
    return _operate(site, who, request_id, stack, "destroy", key)


@router.post("/pods/{stack}/{pod}/end", status_code=202, response_model=ServerOperation)
def end_one_pod(site: TheSite, who: Admin, request_id: RequestId, stack: StackName, pod: PodId, key: IdempotencyKey = None) -> Response:
    """End a pod of ours now, whatever its lease says, and prove it gone."""
    _check(site, stack)
    words = ["end", pod, f"--stack={stack}"]
    return once(site, who, key, words, lambda: begin(site, who, request_id, words, subject=stack))


def _operate(site: Site, who: Proven, request_id: str, stack: str, action: str, key: str | None) -> Response:
    _check(site, stack)
    words = [action, f"--stack={stack}", "--yes", "--json"]
    return once(site, who, key, words, lambda: begin(site, who, request_id, words, subject=stack))


def _check(site: Site, stack: str) -> None:
    if stack not in stack_names(site.context.places.root):
        raise HTTPException(404, f"there is no stack '{stack}' here")


def _resources(state: Sequence[Mapping[str, Any]]) -> list[StackResource]:
    return [
        StackResource(
            kind=str(each.get("type", "")).rpartition(":")[2], name=str(each.get("urn", "")).rpartition("::")[2], id=each.get("id"),
            modified=each.get("modified"),
        )
        for each in state
        if each.get("custom") and not str(each.get("type", "")).startswith("pulumi:providers")
    ]  # fmt: skip


def _schema(recipe: Recipe) -> dict[str, Any]:
    """Return a recipe's values as JSON Schema: https://json-schema.org/draft/2020-12/schema."""
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema", "type": "object", "additionalProperties": False,
        "properties": {each.name: _property(each) for each in recipe.variables},
        "required": [each.name for each in recipe.variables if each.required],
    }  # fmt: skip


def _property(variable: Variable) -> dict[str, Any]:
    """Return one value; a default that is reckoned from others is said in words."""
    shape = dict(_TYPES.get(variable.kind, {"type": "string"}))
    if variable.optional:
        shape["type"] = [shape["type"], "null"]
    bounds = {"minimum": variable.minimum, "maximum": variable.maximum, "exclusiveMinimum": variable.above}
    shape |= {name: bound for name, bound in bounds.items() if bound is not None}
    if variable.choices:
        shape["enum"] = [*variable.choices, *([None] if variable.optional else [])]
    if isinstance(variable.default, str) and variable.default.startswith("="):
        shape["$comment"] = f"default: {variable.default}"
    elif variable.default is not None:
        shape["default"] = variable.default
    return shape | ({"description": variable.help} if variable.help else {})
