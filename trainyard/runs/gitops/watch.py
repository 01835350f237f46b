"""A poller that needs only git: fetch, fast-forward this clone, sync, wait. As a systemd unit it needs no CI and no open port."""

from __future__ import annotations

import subprocess
from collections.abc import Mapping
from pathlib import Path

from trainyard.clock import REAL, Clock
from trainyard.errors import TrainyardError
from trainyard.runs.context import CommandContext
from trainyard.runs.gitops import sync
from trainyard.runs.signals import leaving
from trainyard.runs.verbs.unit import unit_of

_FETCH = 120.0
"""Seconds after which a remote that does not answer is left for this round."""


def watch(context: CommandContext, *, every: float, yes: bool, rounds: int | None = None, clock: Clock = REAL) -> int:
    """Sync again and again, ``every`` so many seconds, until a signal; trouble of a round is told and is the next one's to mend.

    Returns the exit code of the last of ``rounds``; None: it never returns.
    """
    done = 0
    with leaving():  # a fetch is left in words, too
        while True:
            code = _round(context, yes=yes, clock=clock)
            done += 1
            if done == rounds:
                return code
            clock.pause(every)


def _round(context: CommandContext, *, yes: bool, clock: Clock) -> int:
    try:
        for problem in fast_forward(context.places.root):
            context.ui.warn(problem)
        report = sync.sync(context, yes=yes, clock=clock)
    except TrainyardError as error:
        if isinstance(error.__cause__, KeyboardInterrupt):
            raise
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


def unit(root: Path, env: Mapping[str, str], *, every: float, yes: bool) -> str:
    """Return a systemd unit that watches this clone."""
    words = ["gitops.watch", "--every", f"{every:g}", *(["--yes"] if yes else [])]
    return unit_of(root, env, "gitops", "what {} wants to run, runs", words)
