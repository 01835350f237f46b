"""Record ``invoke train --stack local`` as a picture that plays: ``invoke docs --record`` writes docs/assets/train.svg.

What is shown is what a terminal got, at the times at which it got it, but for long pauses. Nothing is loaded from
anywhere: a picture in a README may not.
"""

from __future__ import annotations

import fcntl
import html
import os
import pty
import re
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from rich.cells import cell_len
from rich.console import Console
from rich.terminal_theme import DIMMED_MONOKAI
from rich.text import Text

ROOT = Path(__file__).resolve().parents[2]
PICTURE = ROOT / "docs" / "assets" / "train.svg"
WIDTH = 96
COMMAND = ("train", "--stack", "local")
ANSWER = 0.4
"""Seconds before the first line at which the command itself is shown."""
PAUSE = 0.8
"""A longer pause (s) is shown as one of this length."""
MOVES = 12
"""So many states of a line that is rewritten (the progress bar) are shown."""
CELL, LINE, PAD, TOP = 8.4, 19, 16, 52
BACKGROUND, INK, FAINT = "#1b1f23", "#d8dee4", "#8b949e"
_LINE = re.compile(r"(?:\r(?!\n))?(?:\x1b\[2K)?")
_BAR = re.compile("[━╸╺]")
_CURSOR = re.compile(r"\x1b\[\?25[lh]")


@dataclass
class Row:
    """One line of the screen: what it said, and from when on (seconds since the command)."""

    states: list[tuple[float, str]] = field(default_factory=list)


def main() -> None:
    """Bring the environment up, then record one run in it."""
    env = {**os.environ, "TRAINYARD_USER": "you", "TERM": "xterm-256color", "COLUMNS": str(WIDTH)}
    invoke = str(ROOT / ".venv" / "bin" / "invoke")
    subprocess.run([invoke, "up", "--stack", "local", "--yes"], cwd=ROOT, env=env, check=True)
    code, chunks = watch([invoke, *COMMAND], env)
    if code:
        sys.exit(f"the run has failed: {code}")
    PICTURE.parent.mkdir(exist_ok=True)
    PICTURE.write_text(picture("invoke " + " ".join(COMMAND), shortened(rows(chunks))), encoding="utf-8")
    print(f"written: {PICTURE.relative_to(ROOT)}")


def watch(command: Sequence[str], env: dict[str, str]) -> tuple[int, list[tuple[float, str]]]:
    """Run a command in a terminal; return its exit code and what came when."""
    pid, terminal = pty.fork()
    if not pid:
        os.chdir(ROOT)
        os.execve(command[0], list(command), env)
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", 50, WIDTH, 0, 0))
    began = time.monotonic()
    chunks: list[tuple[float, str]] = []
    while True:
        try:
            data = os.read(terminal, 1 << 16)
        except OSError:  # Linux says so when the other side is gone
            data = b""
        if not data:
            return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), chunks
        chunks.append((time.monotonic() - began, data.decode()))


def rows(chunks: Sequence[tuple[float, str]]) -> list[Row]:
    """Return the lines of the screen; one that is written anew keeps its earlier states."""
    screen = [Row()]
    for at, text in chunks:
        for number, piece in enumerate(_CURSOR.sub("", text).replace("\r\n", "\n").split("\n")):
            if number:
                screen.append(Row())
            line, states = _LINE.sub("", piece.rsplit("\r", 1)[-1]), screen[-1].states
            if line and (piece.startswith("\r") or not states):
                states.append((at, line))
            elif line:
                states[-1] = (states[-1][0], states[-1][1] + line)
    return [_tidied(row) for row in screen if row.states]


def shortened(screen: Sequence[Row]) -> list[Row]:
    """Return the same lines with no pause longer than PAUSE."""
    shown, clock, before = {}, 0.0, 0.0
    for at in sorted({at for row in screen for at, _ in row.states}):
        clock, before = clock + min(at - before, PAUSE), at
        shown[at] = clock
    return [Row([(shown[at], line) for at, line in row.states]) for row in screen]


def _tidied(row: Row) -> Row:
    """Return a line with its home called ~, and not more states than can be seen; one whose bar alone has moved is none."""
    home, states = str(Path.home()), [row.states[0]]
    for at, line in row.states:
        same = _words(states[-1]) == _words((at, line))
        states = [*states[:-1], (states[-1][0], line)] if same else [*states, (at, line)]
    states = [(at, line.replace(home, "~")) for at, line in states]
    return Row([*states[: -1 : max(1, len(states) // MOVES)], states[-1]])


def _words(state: tuple[float, str]) -> str:
    return _BAR.sub("", Text.from_ansi(state[1]).plain)


def picture(command: str, screen: Sequence[Row]) -> str:
    """Return the SVG: each state of each line appears at its own time, and the last ones stay."""
    console = Console(width=WIDTH, color_system="truecolor", legacy_windows=False)
    drawn = [_text(0.0, None, 0, Text.assemble(("$ ", "dim"), (command, "bold")), console)]
    y = 1
    for row in screen:
        height = 0
        for number, (at, line) in enumerate(row.states):
            until = row.states[number + 1][0] if number + 1 < len(row.states) else None
            parts = Text.from_ansi(line).wrap(console, WIDTH, overflow="fold")
            drawn += [_text(at + ANSWER, until and until + ANSWER, y + offset, part, console) for offset, part in enumerate(parts)]
            height = max(height, len(parts))
        y += height
    width, tall = WIDTH * CELL + 2 * PAD, TOP + y * LINE + PAD
    dots = "".join(f'<circle cx="{20 + 18 * n}" cy="20" r="5.5" fill="{c}"/>' for n, c in enumerate(("#ff5f57", "#febc2e", "#28c840")))
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:.0f} {tall}" role="img" aria-label="A terminal: {command}">\n'
        f"<!-- Made by tests/pages/record.py from a run. Do not edit. -->\n<style>{STYLE}</style>\n"
        f'<rect width="100%" height="100%" rx="9" fill="{BACKGROUND}"/>{dots}\n' + "".join(drawn) + "</svg>\n"
    )


STYLE = f"""
text{{font:14px ui-monospace,SFMono-Regular,Menlo,Consolas,"DejaVu Sans Mono",monospace;fill:{INK};white-space:pre}}
.on{{animation:on 1ms linear both}} .move{{animation:on 1ms linear both,off 1ms linear forwards}}
@keyframes on{{from{{opacity:0}}to{{opacity:1}}}} @keyframes off{{to{{opacity:0}}}}
@media (prefers-reduced-motion){{.on{{animation:none}} .move{{animation:none;opacity:0}}}}
"""


def _text(at: float, until: float | None, line: int, text: Text, console: Console) -> str:
    y, x, spans = TOP + line * LINE, 0, []
    for segment in text.render(console):
        words, style = segment.text.rstrip("\n"), segment.style
        if words.strip():
            place = f'x="{PAD + x * CELL:.1f}" textLength="{cell_len(words) * CELL:.1f}"'
            spans.append(f"<tspan {place}{_look(style)}>{html.escape(words)}</tspan>")
        x += cell_len(words)
    when = f"{at:.2f}s" if until is None else f"{at:.2f}s,{until:.2f}s"
    kind = "on" if until is None else "move"
    return f'<text y="{y}" class="{kind}" style="animation-delay:{when}">{"".join(spans)}</text>\n'


def _look(style: object) -> str:
    color, bold, dim = getattr(style, "color", None), getattr(style, "bold", None), getattr(style, "dim", None)
    fill = FAINT if dim else "#{:02x}{:02x}{:02x}".format(*color.get_truecolor(DIMMED_MONOKAI)) if color else None
    return (f' fill="{fill}"' if fill else "") + (' font-weight="bold"' if bold else "")


if __name__ == "__main__":
    main()
