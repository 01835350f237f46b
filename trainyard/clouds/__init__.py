"""Providers of GPU pods: one folder a cloud behind one protocol; which there are stands in settings/clouds.py."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from importlib import import_module
from typing import cast

from trainyard.clouds.protocol import Cloud
from trainyard.config import Places
from trainyard.errors import TrainyardError, UserError
from trainyard.nearest import suggest
from trainyard.settings.clouds import BUILT_IN, CloudEntry, entries, entry, problem_of


def open_cloud(name: str, env: Mapping[str, str], places: Places) -> Cloud:
    """Return the adapter of a cloud, with the credentials found in ``env``.

    Raises UserError for an unknown cloud, a missing or half-set credential, and a package that the cloud needs and
    that is not installed. Makes no request.
    """
    row = entry(name)
    if row is None:
        if lost := problem_of(name):
            raise UserError(f"cloud '{name}': {lost.words}", hint=lost.hint)
        raise UserError(f"unknown cloud '{name}'{suggest(name, entries())}", hint=f"Clouds: {', '.join(entries())}.")
    return cast(Cloud, _opener(row)(env, places)) if row in BUILT_IN else _of_package(row, env, places)


def lack_of_package(row: CloudEntry) -> UserError | None:
    """Return which package a cloud needs that is not installed, and how it is; None where none is missing."""
    try:
        if row in BUILT_IN and row.extra:
            _opener(row)
    except UserError as error:
        return error
    return None


def _opener(row: CloudEntry) -> Callable[[Mapping[str, str], Places], object]:
    module, _, function = row.opener.partition(":")
    try:
        return cast(Callable[[Mapping[str, str], Places], object], getattr(import_module(module), function))
    except ModuleNotFoundError as error:
        if not row.extra or (error.name or "").partition(".")[0] == "trainyard":
            raise
        raise UserError(f"{row.title} needs the package '{error.name}'", hint=f"pip install 'trainyard[{row.extra}]'") from None


def _of_package(row: CloudEntry, env: Mapping[str, str], places: Places) -> Cloud:
    """Open a cloud of somebody else's package; raises UserError for whatever fails there, so that who asks several asks the others."""
    module, _, function = row.opener.partition(":")
    try:
        cloud = getattr(import_module(module), function)(env, places)
    except TrainyardError:
        raise
    except (Exception, SystemExit) as error:
        why = f"{type(error).__name__}: {error}"
    else:
        if all(hasattr(cloud, part) for part in ("name", "capabilities", "create", "get", "list", "terminate")):
            return cast(Cloud, cloud)
        why = f"what it gives is no Cloud: {cloud!r:.80}"
    hint = "Mend that package, or remove it."
    raise UserError(f"cloud '{row.name}' cannot be opened by its package ({row.opener}): {why}", hint=hint)
