"""The emulators of the clouds, by the table of clouds; each is imported when it is asked for."""

from __future__ import annotations

import importlib

from trainyard.errors import UserError
from trainyard.rehearsal.kit import EmulatedCloud, OwnService
from trainyard.settings.clouds import emulated, entry


def emulators() -> tuple[str, ...]:
    """Return the clouds of which an emulator answers; the others that can be rehearsed are run themselves."""
    return tuple(name for name in emulated() if isinstance(rehearsed(name), EmulatedCloud))


def emulator_of(cloud: str) -> EmulatedCloud:
    """Return a cloud as the kit takes it; raises UserError for one without emulator, and for packages that it lacks."""
    played = rehearsed(cloud)
    if isinstance(played, OwnService):
        raise UserError(f"{played.title} itself is run, and no emulator of it", hint=f"invoke rehearse --stack {played.name}")
    return played


def rehearsed(cloud: str) -> EmulatedCloud | OwnService:
    """Return what stands for a cloud in a rehearsal; raises UserError for one without emulator, and for packages that it lacks."""
    row = entry(cloud)
    named = (row.emulator or row.service) if row is not None else ""
    if not named:
        raise UserError(f"there is no emulator of the cloud '{cloud}'", hint=f"Clouds that can be rehearsed: {', '.join(emulated())}.")
    module, _, name = named.partition(":")
    try:
        played: EmulatedCloud | OwnService = getattr(importlib.import_module(module), name)
    except ModuleNotFoundError as error:
        hint = "In a checkout: ./bootstrap. Elsewhere: pipx install --force 'trainyard[rehearsal]', or the same with pip or uv."
        raise UserError(f"a rehearsal needs the package '{error.name}', which this Python does not have", hint=hint) from None
    return played
