"""Why a notice could not be sent."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class SendProblem:
    """Said without the address, which is a secret. ``again``: it may work in some seconds."""

    why: str
    again: bool = True
