"""A poller that needs only git: fetch, fast-forward this clone, sync, wait. As a systemd unit it needs no CI and no open port."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from trainyard.clock import REAL, Clock
from trainyard.errors import TrainyardError
from trainyard.runs.context import CommandContext
from trainyard.runs.gitops import sync
from trainyard.runs.signals import leaving

_FETCH = 120.0
"""Seconds after which a remote that does not answer is left for this round."""


def watch(context: CommandContext, *, every: float, yes: bool, rounds: int | None = None, clock: Clock = REAL) -> int:
    """Sync again and again, ``every`` so many seconds, until a signal; trouble of a round is told and is the next one's to mend.

    Returns the exit code of the last of ``rounds``; None: it never returns.
    """
    done = 0
    while True:
        code = _round(context, yes=yes, clock=clock)
        done += 1
        if done == rounds:
            return code
        with leaving():
            clock.pause(every)


def _round(context: CommandContext, *, yes: bool, clock: Clock) -> int:
    try:
        for problem in fast_forward(context.places.root):
            context.ui.warn(problem)
        report = sync.sync(context, yes=yes, clock=clock)
    except TrainyardError as error:
        context.ui.fail(str(error))
        return error.exit_code
    context.ui.say("\n".join(sync.lines(report)))
    return report.exit_status


def fast_forward(root: Path) -> list[str]:
    """Bring a clone to where its branch's upstream is; return what kept it from that. Nothing of it is ever thrown away."""
    for words, problem in (
        (("fetch", "--quiet"), "the remote cannot be asked for new commits"),
        (("merge", "--quiet", "--ff-only", "@{upstream}"), "this clone does not follow its upstream: it has commits or changes of its own"),
    ):
        try:
            done = subprocess.run(
                ["git", "-C", str(root), *words], capture_output=True, text=True, errors="replace", check=False, timeout=_FETCH,
                stdin=subprocess.DEVNULL,
            )  # fmt: skip
        except subprocess.TimeoutExpired:
            return [f"{problem}: no answer in {_FETCH:.0f} s"]
        if done.returncode:
            return [f"{problem}: {(done.stderr.strip().splitlines() or ['git says nothing'])[-1]}"]
    return []


def unit(root: Path, *, every: float, yes: bool) -> str:
    """Return a systemd unit that watches this clone."""
    words = [sys.executable, "-m", "trainyard", "gitops.watch", "--every", f"{every:g}", *(["--yes"] if yes else [])]
    return f"""# ~/.config/systemd/user/trainyard-gitops.service
# systemctl --user daemon-reload && systemctl --user enable --now trainyard-gitops; loginctl enable-linger
[Unit]
Description=Trainyard: what {_specifiers(str(root))} wants to run, runs
Wants=network-online.target
After=network-online.target

[Service]
WorkingDirectory={_specifiers(str(root))}
ExecStart={" ".join(_quoted(word) for word in words)}
Restart=always
RestartSec=30
# Pods of the stack local are processes of this machine: they outlive the watcher as rented ones do.
KillMode=process

[Install]
WantedBy=default.target
"""


def _specifiers(text: str) -> str:
    return text.replace("%", "%%")


def _quoted(word: str) -> str:
    """Return a word of ExecStart as systemd reads it back."""
    plain = word.replace("\\", "\\\\").replace('"', '\\"').replace("%", "%%").replace("$", "$$")
    return f'"{plain}"' if set(plain) & set(" \t'\"\\;") else plain
