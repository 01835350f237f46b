"""Curves of what trainings report, as text for a terminal and as a picture; which figures of a run are worth one."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from trainyard.errors import UserError
from trainyard.jsontext import parse_json
from trainyard.runs.records.progress import Curve, loss_curve

_HEIGHT, _SCALE = 16, 23
"""Lines of a plot, and columns beside it that its scales need."""
_WIDTH, _PANEL = 9.0, 4.0
"""Inches of a picture, and of each of its panels' height."""
_LOSSES, _RATE, _GPU = ("loss", "eval_loss"), "lr", "gpu_"


@dataclass(frozen=True, slots=True)
class Drawn:
    """One curve of a picture."""

    mark: str
    """What it is drawn with in a terminal."""
    label: str
    curve: Curve


@dataclass(frozen=True, slots=True)
class Panel:
    """Curves that have an axis in common."""

    figure_of: str
    curves: Sequence[Drawn]


def panels_of(metrics: bytes, figures: Sequence[str] = ()) -> list[Panel]:
    """Return a panel for each figure that is asked for; else the losses in one, the learning rate, and what is known of GPUs."""
    usual: list[tuple[str, ...]] = [_LOSSES, (_RATE,), *((name,) for name in _gpu_figures(metrics))]
    groups = [(name,) for name in figures] if figures else usual
    return [panel for panel in (_panel(metrics, group) for group in groups) if panel.curves or figures]


def _panel(metrics: bytes, group: Sequence[str]) -> Panel:
    curves = ((name, loss_curve(metrics, name)) for name in group)
    return Panel(group[0], [Drawn(mark, name, curve) for mark, (name, curve) in zip("*o", curves, strict=False) if curve])


def _gpu_figures(metrics: bytes) -> Iterator[str]:
    """Yield the figures of GPUs that the last line with a step has."""
    for line in reversed(metrics.splitlines()):
        try:
            row = parse_json(line)
        except ValueError:
            continue
        if isinstance(row, dict) and any(str(name).startswith(_GPU) for name in row):
            yield from sorted(str(name) for name in row if str(name).startswith(_GPU))
            return


def plot(curves: Sequence[Drawn], width: int, figure_of: str = "loss") -> list[str]:
    """Return curves as text: each is drawn with its run's mark, so that no colour is needed."""
    drawn = [each for each in curves if len(each.curve) > 1]
    if not drawn:
        return [f"no run has logged a {figure_of} twice: there is no curve to draw"]
    import plotille

    values = [value for each in drawn for _, value in each.curve]
    steps = [step for each in drawn for step, _ in each.curve]
    room = (max(values) - min(values)) * 0.02 or 1.0
    figure = plotille.Figure()
    figure.width, figure.height, figure.with_colors = max(20, width - _SCALE), _HEIGHT, False
    figure.x_label, figure.y_label = "step", figure_of
    figure.x_ticks_fkt = lambda value, _: f"{value:.0f}"
    figure.y_ticks_fkt = lambda value, _: f"{value:.4f}"
    figure.set_x_limits(min_=min(steps), max_=max(max(steps), min(steps) + 1))
    figure.set_y_limits(min_=min(values) - room, max_=max(values) + room)
    for each in drawn:
        figure.plot([step for step, _ in each.curve], [value for _, value in each.curve], marker=each.mark)
    return str(figure.show()).splitlines()


def picture(panels: Sequence[Panel], to: Path) -> None:
    """Draw panels below each other into a picture (PNG, or what the file's ending says).

    Raises UserError where matplotlib is missing, the ending is none of a picture, or the file cannot be written.
    """
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ModuleNotFoundError as error:
        elsewhere = "Elsewhere: pipx install --force 'trainyard[plots]', or the same with pip or uv."
        hint = f"In a checkout: .venv/bin/pip install matplotlib\n{elsewhere}"
        raise UserError(f"a picture needs the package '{error.name}', which this Python does not have", hint=hint) from None
    figure = Figure(figsize=(_WIDTH, 1 + _PANEL * len(panels)), layout="constrained")
    FigureCanvasAgg(figure)
    for axes, panel in zip(figure.subplots(len(panels), squeeze=False)[:, 0], panels, strict=True):
        for each in panel.curves:
            axes.plot([step for step, _ in each.curve], [value for _, value in each.curve], label=each.label)
        axes.set_xlabel("step")
        axes.set_ylabel(panel.figure_of)
        axes.grid(visible=True, alpha=0.3)
        if panel.curves:
            axes.legend(fontsize="small")
    draft = to.with_name(f".{to.name}.new{to.suffix}")  # who looks at it sees a whole picture, or none
    try:
        figure.savefig(draft, dpi=150)
        draft.replace(to)
    except (OSError, ValueError) as error:
        raise UserError(f"{to}: the picture cannot be written: {error}") from None
