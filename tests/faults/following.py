"""What a user does after a crash, by name: each must leave nothing, whatever died and wherever."""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from tests.faults import judge
from tests.faults.world import CloudYard
from trainyard.config import PROJECT
from trainyard.errors import CloudError, TrainyardError
from trainyard.rehearsal.kit.ledger import gone
from trainyard.stacks import facade, installed
from trainyard.stacks.environ import pulumi_exports
from trainyard.stacks.state import backend

if TYPE_CHECKING:
    from tests.faults.bench import Story

PATIENCE = 400.0
"""Seconds any single command may take, on however busy a machine, before it counts as hanging."""
LABEL = "a"


def go_on(story: Story) -> None:
    """Do what the case says comes next."""
    FOLLOWING[story.case.next](story)


def _later(story: Story) -> None:
    story.wait_for_the_end()
    story.destroy()


def _reaper(story: Story) -> None:
    story.wait_for_late_pods()
    ends = story.world.ends()
    last = max((ends.get(pod, 0.0) for pod in story.fresh()), default=0.0)
    while time.time() < last + 1.2 and story.fresh():
        time.sleep(0.1)
    outlived = story.fresh()
    done = story.verb("reap", "--stack", story.yard.stack)
    story.result.reaped = len(outlived - story.fresh())
    if done.code:
        story.problems(f"reap exited {done.code}")


def _two_destroys(story: Story) -> None:
    words = ("destroy", "--stack", story.yard.stack, "--yes")
    both = [story.yard.start(*words) for _ in range(2)]
    for one in both:
        printed, _ = one.communicate(timeout=PATIENCE)
        story.result.story.append(f"$ invoke {' '.join(words)} (one of two)   -> {one.returncode}\n{printed}")
    if all(one.returncode for one in both):
        story.destroy()


def _colleague(story: Story) -> None:
    bench, mine = story.bench, story.fresh()
    assert bench.colleague is not None
    done = bench.colleague.invoke("destroy", "--stack", story.yard.stack, "--yes", timeout=PATIENCE)
    story.result.story.append(f"$ (colleague) invoke destroy   -> {done.code}\n{done.out}{done.err}")
    if done.code:
        story.problems(f"the colleague's destroy exited {done.code}")
    if bench.others & {r["id"] for r in story.world.pods()}:
        story.problems("the colleague's destroy left the colleague's pod")
    done_by_itself = {record["id"] for record in gone(story.world.emulator.root) if "exit_code" in record}
    if ended := mine - story.fresh() - done_by_itself:
        story.problems(f"the colleague's destroy ended ours: {ended}")
    bench.others = frozenset()
    story.destroy()
    bench.ensure_colleague()


def _again(story: Story) -> None:
    if story.case.operation == "train":
        done = story.verb(*story.yard.train("--name", "b", steps=3))
    else:
        done = story.verb("up", "--stack", story.yard.stack)
        if "Run refresh" in done.out + done.err:
            # An engine believes its state: a pod that an interrupted destroy has ended must be refreshed away first.
            story.verb("refresh", "--stack", story.yard.stack, "--yes")
            done = story.verb("up", "--stack", story.yard.stack)
        if not done.code and len(story.fresh()) != 1:
            story.problems(f"up again has {len(story.fresh())} pods")
    if done.code and not (done.code == CloudError.exit_code and story.case.operation == "train" and story.world.sold_out()):
        # The killed run trains on, or waits to be told from: where it has the last machine, a second run is to be refused.
        story.problems(f"{story.case.operation} again exited {done.code}")
    story.destroy()


def _attach(story: Story, *words: str) -> None:
    known = bool(story.yard.record(LABEL))
    done = story.verb(*words)
    if known and story.yard.record(LABEL).get("phase") != "ended":
        story.problems(f"{words[0]} did not end the run: {story.yard.record(LABEL).get('phase')} (exit code {done.code})")
    there = story.yard.has_model(LABEL)
    summary = story.yard.home / "runs" / story.yard.user / LABEL / "1" / "run-summary.json"
    if summary.is_file() and '"success": true' in summary.read_text() and not there:
        story.problems("the summary says success, the model is not there")
    if story.case.victim in ("controller", "all") and known and not there:
        story.problems(f"{words[0]} did not bring the model home")
    story.problems(*(f"{words[0]} left pod {pod}" for pod in story.fresh()))
    story.destroy()


def _lost(story: Story) -> None:
    shutil.rmtree(story.yard.home, ignore_errors=True)
    story.wait_for_the_end()


def _remove(story: Story) -> None:
    holds = bool(story.fresh())
    if stack_removed(story.yard, story.case.engine):
        if holds and story.case.operation != "train":
            story.problems("the stack was removed while it had a pod")
        if story.fresh():
            story.destroy()
        return
    story.destroy()
    if not stack_removed(story.yard, story.case.engine):
        story.problems("the stack cannot be removed after destroy")


def stack_removed(yard: CloudYard, engine: str) -> bool:
    """Remove the environment's stack, by ``pulumi stack rm`` on the CLI; False when that is refused. No stack counts as removed."""
    stack = judge.yard_stack(yard)
    store = backend(stack)
    binary = installed.find(os.environ) if engine == "cli" else None
    if store is None or not store.exists(PROJECT, yard.stack):
        return True
    if binary is not None:
        argv = [str(binary), "stack", "rm", "--stack", yard.stack, "--yes", "--preserve-config"]
        env = {**yard.env, **pulumi_exports(yard.places, yard.env)}
        return subprocess.run(argv, cwd=yard.root, env=env, capture_output=True, check=False, timeout=PATIENCE).returncode == 0
    try:
        facade.remove(stack)
    except TrainyardError:
        return False
    return True


FOLLOWING: dict[str, Callable[[Story], None]] = {
    "nothing": lambda story: story.wait_for_the_end(),
    "later": _later,
    "reaper": _reaper,
    "destroy": lambda story: story.destroy(),
    "other-engine": lambda story: story.destroy("cli" if story.case.engine == "builtin" else "builtin"),
    "two-destroys": _two_destroys,
    "colleague": _colleague,
    "again": _again,
    "attach": lambda story: _attach(story, "attach", LABEL),
    "recover": lambda story: _attach(story, "recover"),
    "lost": _lost,
    "remove": _remove,
}
