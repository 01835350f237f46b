"""Providers of GPU pods: one folder a cloud behind one protocol; which there are stands in settings/clouds.py."""

from __future__ import annotations

from collections.abc import Mapping
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
    if row not in BUILT_IN:
        return _of_package(row, env, places)
    module, _, function = row.opener.partition(":")
    try:
        opener = getattr(import_module(module), function)
    except ModuleNotFoundError as error:
        if not row.extra or (error.name or "").partition(".")[0] == "trainyard":
            raise
        raise UserError(f"{row.title} needs the package '{error.name}'", hint=f"pip install 'trainyard[{row.extra}]'") from None
    return cast(Cloud, opener(env, places))


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
