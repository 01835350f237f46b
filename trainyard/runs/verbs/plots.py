"""One run's curves: what it has reported, for a terminal or a picture."""

from __future__ import annotations

from collections.abc import Sequence

from trainyard.errors import UserError
from trainyard.runs.context import CommandContext
from trainyard.runs.records.curves import Panel, panels_of, plot
from trainyard.runs.verbs.past import seen


def panels(context: CommandContext, reference: str, stack: str | None, figures: Sequence[str]) -> list[Panel]:
    """Return the panels of the attempt that a person means; raises UserError for one that is nowhere, or has no curve to draw."""
    with seen(context, reference, stack) as attempt:
        metrics = attempt.folder.metrics.read_bytes() if attempt.folder.metrics.is_file() else b""
        shown = panels_of(metrics, figures)
        empty = [panel.figure_of for panel in shown if not panel.curves]
        if empty or not shown:
            what = f"no {' and no '.join(empty)}" if empty else "no figures"
            raise UserError(f"{attempt.key} has reported {what}", hint="What a program reports: docs/recipes/command.md")
        return shown


def lines(shown: Sequence[Panel], width: int) -> list[str]:
    """Return the panels one below the other, as wide as a person's terminal."""
    texts: list[str] = []
    for panel in shown:
        marks = "  ".join(f"{each.mark} {each.label}" for each in panel.curves)
        texts += [marks, *plot(panel.curves, width, panel.figure_of), ""]
    return texts[:-1]
