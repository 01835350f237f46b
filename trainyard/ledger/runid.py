"""What one attempt of a run is called, wherever it is written down."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True, order=True)
class RunId:
    """One attempt of a run."""

    user: str
    label: str
    attempt: int = 1

    def __str__(self) -> str:
        return f"{self.user}/{self.label}"

    def stack_name(self, environment: str) -> str:
        """Return the name of this attempt's own Pulumi stack."""
        return f"{environment}.{self.user}.{self.label}.{self.attempt}"

    def folder(self, runs: Path) -> Path:
        """Return the attempt's folder at the controller."""
        return runs / self.user / self.label / str(self.attempt)

    def home(self, out: Path) -> Path:
        """Return where the attempt's files lie at home: ``<user>/<label>``, further attempts ``<label>.2``; no label has a dot."""
        return out / self.user / (self.label if self.attempt == 1 else f"{self.label}.{self.attempt}")
