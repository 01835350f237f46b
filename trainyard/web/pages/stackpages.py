"""The pages of environments: what their Pulumi state holds, and what a preview says has drifted from it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from fastapi import APIRouter, HTTPException, Request
from fastapi.responses import HTMLResponse, RedirectResponse, Response

from trainyard.config import stack_names
from trainyard.errors import TrainyardError
from trainyard.settings.reader import cloud_of
from trainyard.stacks import facade
from trainyard.web.guard.principal import Reader, TheSite
from trainyard.web.pages.asking import StackName, ask_page, begun
from trainyard.web.pages.reading import reading
from trainyard.web.pages.render import page
from trainyard.web.pages.runacts import PageAction
from trainyard.web.rest.operations import RequestId
from trainyard.web.rest.reports import Reports
from trainyard.web.site import Site

router = APIRouter()
_ACTIONS = (
    PageAction(
        path="up", words="Make it", question="Make what its settings declare?", scope="admin", icon="plus",
        tells=(
            "Bucket, keys and rules are made: they cost nothing until something lies in the bucket.",
            "Pods that the settings declare cost money from then on.",
        ),
    ),
    PageAction(
        path="refresh", words="Read the world", question="Read the real world into its state?", scope="admin", icon="eye",
        tells=("The state is brought to what the cloud and the store say now. Nothing of theirs is changed.",),
    ),
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class ShownStack:
    """One environment, as its files here tell it; ``problem``: why they do not."""

    name: str
    cloud: str | None
    resources: Sequence[dict[str, Any]]
    problem: str | None = None


@router.get("/stacks", response_class=HTMLResponse)
def stacks(request: Request, site: TheSite, who: Reader) -> Response:
    """Show all environments of the repository."""
    return page(request, "stacks.html", who, stacks=[_shown(site, name) for name in stack_names(site.context.places.root)])


@router.get("/stacks/{stack}", response_class=HTMLResponse)
def stack(request: Request, site: TheSite, who: Reader, reports: Reports, stack: StackName, ask: bool = False) -> Response:
    """Show one: the resources of its state, and what `up` would do to them now."""
    _check(site, stack)
    one = _shown(site, stack)
    known = reading(reports, "the preview", ["preview", f"--stack={stack}", "--json"], anew=ask) if one.resources else None
    drift = [step for step in (known.value if known and isinstance(known.value, list) else []) if _differs(step)]
    acts = [action for action in _ACTIONS if action.scope in who.scopes and (one.resources or action.path == "up")]
    return page(request, "stack.html", who, stack=one, reading=known, drift=drift, acts=acts, here=f"/stacks/{stack}")


@router.get("/stacks/{stack}/do/{action}", response_class=HTMLResponse)
def ask_of_stack(request: Request, site: TheSite, who: Reader, stack: StackName, action: str) -> Response:
    """Ask whether something is to be done to an environment."""
    _check(site, stack)
    return ask_page(request, who, _ACTIONS, action, stack, f"/stacks/{stack}")


@router.post("/stacks/{stack}/do/{action}")
def do_to_stack(site: TheSite, who: Reader, request_id: RequestId, stack: StackName, action: str) -> RedirectResponse:
    """Begin what was agreed to."""
    _check(site, stack)
    return begun(site, who, request_id, _ACTIONS, action, [action, f"--stack={stack}", "--yes"], stack)


def _check(site: Site, stack: str) -> None:
    if stack not in stack_names(site.context.places.root):
        raise HTTPException(404, f"there is no stack '{stack}' here")


def _shown(site: Site, name: str) -> ShownStack:
    try:
        resources = [_resource(each) for each in facade.resources(site.context.stack(name)) if each.get("custom")]
        return ShownStack(name, cloud_of(site.context.places.root, name), [each for each in resources if each["kind"] != "provider"])
    except TrainyardError as error:
        return ShownStack(name, None, (), error.message)


def _resource(each: Any) -> dict[str, Any]:
    """Return what is shown of a resource; its inputs and outputs may hold secrets, and are not."""
    kind = str(each.get("type", ""))
    shown = "provider" if kind.startswith("pulumi:providers") else kind.rpartition(":")[2]
    return {"kind": shown, "name": str(each.get("urn", "")).rpartition("::")[2], "id": each.get("id"), "modified": each.get("modified")}


def _differs(step: Any) -> bool:
    return isinstance(step, dict) and step.get("event") == "step" and step.get("op") not in ("same", "read", None)
