"""What of the server's own machine a request may reach: files of it and programs on it are an admin's, who could change everything anyway.

A program on stack `local` runs as the server's user, who may write to the ledger: whoever starts one there could make himself an admin.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Collection, Mapping
from pathlib import Path

from trainyard.errors import RefusedError, UserError
from trainyard.ledger.accounts import Scope
from trainyard.ledger.runid import RunId
from trainyard.recipes.basemodel import is_path
from trainyard.recipes.contract import load_recipe, recipe_names
from trainyard.recipes.variables import AUTO, FILES
from trainyard.settings.reader import cloud_of
from trainyard.web.rest.commands import CommandBody, GoOn, StartRun, Value
from trainyard.web.site import Site

_ELSEWHERE = re.compile(r"(?:s3|gs|hf|https)://.+|run:.+", re.S)
_PROGRAMS, _HERE = "command", "local"
"""The recipe that runs whatever it is told; the cloud that is the server's machine."""


def refuse_start(site: Site, asked: StartRun, scopes: Collection[Scope]) -> None:
    """Raise RefusedError for a run that reaches what only an admin may."""
    if "admin" in scopes:
        return
    if asked.data is not None and not _ELSEWHERE.fullmatch(asked.data):
        raise RefusedError("data: a path of the server's machine needs the scope 'admin'", hint="Use s3://, hf://, https:// or run:.")
    if asked.deliver is not None and not asked.deliver.startswith("hub:"):
        raise RefusedError("deliver: a place of the server's machine needs the scope 'admin'", hint="Use hub:OWNER/REPO.")
    _refuse_files(site, asked.values)
    if asked.command or asked.recipe == _PROGRAMS:
        _refuse_program(site, asked.stack)


def refuse_going_on(site: Site, run: str, asked: CommandBody, scopes: Collection[Scope]) -> None:
    """Raise RefusedError for a run that goes on, or is run again, with what only an admin may reach; the same again reaches no more."""
    if "admin" in scopes or not isinstance(asked, GoOn) or not (asked.stack or asked.values):
        return
    _refuse_files(site, asked.values)
    user, _, label = run.partition("/")
    label = label.partition("/")[0]
    newest = site.ledger.newest_attempts([(user, label)]).get((user, label))
    rows = site.ledger.rows_of([RunId(user, label, newest)]) if newest is not None else []
    stack = asked.stack or next((row.stack for row in rows), None)
    if stack is not None and (not rows or any(row.recipe in (_PROGRAMS, "") for row in rows)):
        _refuse_program(site, stack)


def _refuse_program(site: Site, stack: str) -> None:
    if _cloud(site.context.places.root, stack) == _HERE:
        raise RefusedError(f"a program of your own on stack '{stack}', the server's machine, needs the scope 'admin'")


def _refuse_files(site: Site, values: Mapping[str, Value]) -> None:
    kinds = _kinds(site.context.places.root)
    for name, value in values.items():
        kind, text = kinds.get(name, frozenset()), str(value)
        own = kind & {*FILES, "folder"} and text not in ("", AUTO, "none") and not _ELSEWHERE.fullmatch(text)
        if own or ("model" in kind and is_path(text)):
            raise RefusedError(f"{name}: a path of the server's machine needs the scope 'admin'")


@functools.lru_cache(maxsize=8)
def _kinds(root: Path) -> Mapping[str, frozenset[str]]:
    """Return of what kinds a value of a name is, in whichever recipe: which one goes on is told by the run alone."""
    kinds: dict[str, frozenset[str]] = {}
    for recipe in recipe_names(root):
        try:
            variables = load_recipe(root, recipe).variables
        except UserError:
            continue
        for variable in variables:
            for name in (variable.name, *variable.aliases):
                kinds[name] = kinds.get(name, frozenset()) | {variable.kind}
    return kinds


def _cloud(root: Path, stack: str) -> str | None:
    """Return a stack's cloud; None where its settings cannot be read, of which the verb tells."""
    try:
        return cloud_of(root, stack)
    except UserError:
        return None
