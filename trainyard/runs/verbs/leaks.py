"""Tell those whom `notify` names of what costs money and belongs to nobody: pods whose lease is over, and what no list shows."""

from __future__ import annotations

from collections.abc import Sequence

from trainyard.config import stack_names
from trainyard.errors import UserError
from trainyard.runs.context import CommandContext
from trainyard.runs.notices.announce import announce
from trainyard.runs.notices.notice import Notice
from trainyard.runs.verbs.reap import Sighting
from trainyard.settings import reader


def stacks_of(context: CommandContext, cloud: str) -> list[str]:
    """Return the stacks whose pods are of a cloud; one whose settings cannot be read is none."""
    stacks = []
    for stack in stack_names(context.places.root):
        try:
            if reader.cloud_of(context.places.root, stack) == cloud:
                stacks.append(stack)
        except UserError:
            continue
    return stacks


def pods_found(context: CommandContext, stacks: Sequence[str], cloud: str, sightings: Sequence[Sighting]) -> None:
    """Tell of pods whose lease was over, and of what became of them; nothing where there are none."""
    leaks = [sighting for sighting in sightings if sighting.verdict == "over" or sighting.ended is False]
    if not leaks:
        return
    left = [sighting for sighting in leaks if sighting.ended is not True]
    what = "1 pod whose lease is over" if len(leaks) == 1 else f"{len(leaks)} pods whose leases are over"
    title = f"LEAK: {what} on {cloud}: " + (f"{len(left)} STILL THERE" if left else "ended, proved")
    lines = [_line(sighting) for sighting in leaks]
    for stack in stacks:
        _tell(context, stack, title, [*lines, f"Look again: invoke reap --stack {stack}"] if left else lines)


def charge_unseen(context: CommandContext, stacks: Sequence[str], cloud: str) -> None:
    """Tell that an account is charged for more than it lists."""
    for stack in stacks:
        lines = ["What it is can be seen at the cloud only.", f"What is listed: invoke audit --stack {stack}"]
        _tell(context, stack, f"LEAK: {cloud} charges for more than it lists", lines)


def _tell(context: CommandContext, stack: str, title: str, lines: Sequence[str]) -> None:
    announce(context, Notice(kind="leak", title=title, text="\n".join(lines), stack=stack))


def _line(sighting: Sighting) -> str:
    price = "price unknown" if sighting.pod.price_per_hour is None else f"${sighting.pod.price_per_hour:.2f} an hour"
    end = {None: "not ended (only looked at)", True: "ended, proved", False: "STILL THERE"}[sighting.ended]
    return f"pod {sighting.pod.id}, {price}: {end}"
