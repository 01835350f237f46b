"""One trial of the fault matrix: a fault of the cloud, a whole command, and the truth about what came of it."""

from __future__ import annotations

import json
import os
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from tests.e2e.yard import Done
from tests.faults import judge, processes
from tests.faults.points import Scene
from tests.faults.world import STACK, CloudYard, World
from trainyard.rehearsal.kit.ledger import gone

LABEL = "a"
PATIENCE = 400.0
SILENT = 60.0
"""Seconds after which a container counts as not heard of."""
WAITING_CREATES = ("modal",)
"""Clouds whose create returns when there is a machine: what waits too long is ended before its id is known, and is in no summary."""
When = Callable[[Scene], bool]
LEDGER_SECONDS = 3.0
"""What summary and ledger may differ by, for each pod: a request's way, and the seconds until a lost pod is missed."""
QUIET = 4 * (os.cpu_count() or 1)
"""The load up to which those seconds are enough; with more, all of that takes longer."""
AT_ONCE: When = lambda scene: True  # noqa: E731
PREPARED: When = lambda scene: scene.phase() != ""  # noqa: E731
TRAINING: When = lambda scene: scene.log("train.log")  # noqa: E731
TRAINED: When = lambda scene: scene.phase() in ("trained", "committed")  # noqa: E731


@dataclass(frozen=True)
class Fault:
    """A fault of the emulator, switched on at a moment."""

    name: str
    times: int | None = 1
    when: When = PREPARED
    does: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Trial:
    """One trial. ``codes``: exit codes that tell the truth here; ``says``: texts of which each must be printed."""

    name: str
    seen: str
    faults: tuple[Fault, ...] = ()
    codes: tuple[int, ...] = (0,)
    says: tuple[str, ...] = ()
    says_there: tuple[str, ...] = ()
    """Texts that are RunPod's own words, or its adapter's."""
    says_ended: str = ""
    """What is printed instead of ``says`` where a pod that was stopped, or whose command has ended, is history at once."""
    settings: Mapping[str, Any] = field(default_factory=dict)
    words: tuple[str, ...] = ()
    steps: int = 5
    least_pods: int = 0
    """Pods that must have been paid for the trial to have meant anything."""
    most_pods: int = 1
    slow: bool = False
    """Takes more than some seconds: not for the suite's sample."""
    missed: float = 0.0
    """Seconds after which it is noticed at the latest that the cloud took the pod: until then it counts as running."""
    needs: str = ""
    """A fault that the cloud's emulator must know, where it is no fault of the trial's."""
    ends_itself: bool = False
    """Only where pods can end themselves."""
    ssh: bool = False
    """Only where somebody logs in to pods: elsewhere none is declared, set up over SSH or adopted with its key."""
    starts: bool = False
    """Only where a create request brings the pod's host key: elsewhere no other machine knows one, and adopt takes none on trust."""
    judged_by_end: bool = True
    """The clock of the lease is this machine's."""
    own: Callable[[Stage], None] | None = None
    """A trial that is not one training runs itself."""


@dataclass
class Stage:
    """The world of one trial and what went wrong in it."""

    world: World
    yard: CloudYard
    trial: Trial
    problems: list[str] = field(default_factory=list)
    story: list[str] = field(default_factory=list)
    since: float = field(default_factory=time.time)

    def play(self) -> None:
        """Run the trial and judge it."""
        if self.trial.own is not None:
            self.trial.own(self)
        else:
            self.yard.settings(**self.trial.settings)
            self.tells_the_truth(self.train(*self.trial.words, faults=self.trial.faults, steps=self.trial.steps))
        self.world.emulator.faults.off()
        self.judge()

    def train(self, *words: str, faults: Sequence[Fault] = (), steps: int = 5, pause: float = 0.1) -> Done:
        """Run a training, switching each fault on at its moment."""
        scene = Scene(self.yard, time.time(), LABEL, frozenset(r["id"] for r in self.world.pods()))
        waiting = list(faults)
        began = time.monotonic()
        self._switch(scene, waiting, only=AT_ONCE)
        child = self.yard.start(*self.yard.train("--name", LABEL, *words, steps=steps, pause=pause))
        while child.poll() is None and waiting:
            self._switch(scene, waiting)
            time.sleep(0.02)
        return self.ended(child, "train", PATIENCE - (time.monotonic() - began))

    def ended(self, child: subprocess.Popen[str], what: str, patience: float = PATIENCE) -> Done:
        """Wait for a command and note what it printed; one that hangs is ended and is a problem."""
        try:
            printed, _ = child.communicate(timeout=patience)
        except subprocess.TimeoutExpired:
            processes.kill(processes.tree(child.pid))
            printed, _ = child.communicate()
            self.problems.append(f"{what} hangs")
        self.story.append(f"$ invoke {what}   -> {child.returncode}\n{printed}")
        return Done(child.returncode, printed, "")

    def verb(self, *words: str, code: int | None = 0) -> Done:
        """Run a verb; its exit code must be this one."""
        done = self.yard.invoke(*words, timeout=PATIENCE)
        self.story.append(f"$ invoke {' '.join(words)}   -> {done.code}\n{done.out}{done.err}")
        if code is not None and done.code != code:
            self.problems.append(f"{words[0]} exited {done.code}, not {code}")
        return done

    def expect(self, truth: object, otherwise: str) -> None:
        """Note a problem unless something is true."""
        if not truth:
            self.problems.append(otherwise)

    def summary(self) -> dict[str, Any]:
        """Return the run's summary, {} where there is none."""
        path = self.yard.home / "runs" / self.yard.user / LABEL / "1" / "run-summary.json"
        return json.loads(path.read_text()) if path.is_file() else {}

    def tells_the_truth(self, done: Done) -> None:
        """Compare what a training said with what is: its code, its summary, its model, its pod."""
        home = self.world.stack == STACK
        # What RunPod tells by one status, other clouds tell by another: a refusal instead of no capacity.
        codes = self.trial.codes if home else {*self.trial.codes, 0, 4}
        self.expect(done.code in codes, f"exit code {done.code}, expected {codes}")
        ended = self.trial.says_ended if self.world.emulator.cloud.forgets_ended else ""
        says = (ended,) if ended else self.trial.says + (self.trial.says_there if home else ())
        says = says if done.code in self.trial.codes else ()
        missing = [text for text in says if text not in done.out]
        self.expect(not missing, f"it does not say: {missing}")
        success = bool(self.summary().get("success"))
        self.expect((done.code == 0) == success, f"exit code {done.code}, but the summary says success: {success}")
        self.expect(done.code != 0 or self.yard.has_model(LABEL), "success without a model")
        self.counts_like_the_books(done)
        if done.code == 6:
            self.says_what_is_left(done)

    def counts_like_the_books(self, done: Done) -> None:
        """Each pod in the ledger, booted or not, stands in an ended run's summary, and its cost is that of the ledger."""
        summary = self.summary()
        if done.code == 6 or not summary:
            return
        told, books = {pod["pod_id"] for pod in summary["pods"]}, self.world.paid(self.since)
        never = {r["id"] for r in gone(self.world.emulator.root) if r["started"] is None} if self.world.stack in WAITING_CREATES else set()
        paid = [item for item in books if item.pod in told or item.pod not in never]
        self.expect(told == {item.pod for item in paid}, f"the summary names {sorted(told)}, the ledger {sorted({p.pod for p in paid})}")
        ledger = sum(item.price * ((item.end or time.time()) - item.start) / 3600 for item in paid)
        slack = sum(item.price for item in paid) * LEDGER_SECONDS * max(1.0, os.getloadavg()[0] / QUIET) / 3600
        silence = 0.0 if self.world.row.ssh or not self.trial.missed else SILENT  # without SSH only that tells that nothing runs
        missed = sum(item.price for item in paid) * (self.trial.missed + silence) / 3600
        self.expect(-slack <= summary["cost"] - ledger <= slack + missed, f"summary: ${summary['cost']:.6f}, ledger: ${ledger:.6f}")

    def says_what_is_left(self, done: Done) -> None:
        """A pod that could not be ended is told with id, price and command, and the command ends it."""
        left = [r["id"] for r in self.world.pods()]
        by_itself = [item.pod for item in self.world.paid(self.since) if item.why.startswith("its command ended")]
        self.expect(left or by_itself, "it says that something is left, and nothing is, nor has it ended by itself since")
        for pod in left:
            self.expect(pod in done.out and "/h" in done.out, f"pod {pod} is left and not told with its price")
        self.expect(any(f"invoke {verb}" in done.out for verb in ("cancel", "attach", "destroy")), "no command to end it is told")
        self.world.emulator.faults.off()
        self.verb("cancel", LABEL, "--now", code=None)
        self.expect(not self.world.pods(), "the command it told does not end the pod")

    def judge(self) -> None:
        """Let the ledger judge."""
        self.problems += judge.left(self.world)
        self.problems += judge.bills(self.world, self.since, kept_by_reaper=not self.trial.judged_by_end)
        self.problems += judge.state(self.yard)
        paid = len({paid.pod for paid in self.world.paid(self.since)})
        least = self.trial.least_pods if self.world.stack == STACK or self.summary().get("success") else 0
        if not least <= paid <= self.trial.most_pods:
            self.problems.append(f"{paid} pods were paid, expected {least} to {self.trial.most_pods}")
        if any("Traceback (most recent call last)" in part and not _python_was_starting(part) for part in self.story):
            self.problems.append("a traceback was shown to the user")

    def _switch(self, scene: Scene, waiting: list[Fault], only: When | None = None) -> None:
        for fault in [f for f in waiting if (only is None or f.when is only) and f.when(scene)]:
            waiting.remove(fault)
            self.world.switch(fault.name, times=fault.times, **fault.does)


def play(world: World, trial: Trial) -> Stage:
    """Play one trial in a fresh checkout and take everything of it away."""
    stage = Stage(world, world.yard(), trial)
    try:
        stage.play()
    except Exception as error:
        stage.problems.append(f"{type(error).__name__}: {error}")
    if stage.problems:
        stage.story.append("requests: " + ", ".join(f"{r['method']} {r['path']} {r['status']}" for r in world.emulator.requests()[-12:]))
    world.clear()
    return stage


def up_and_destroy(stage: Stage) -> None:
    """Bring a declared pod up and destroy it, the trial's faults on from the beginning of each."""
    stage.yard.settings(pods=1, **stage.trial.settings)
    for fault in stage.trial.faults:
        stage.world.switch(fault.name, times=fault.times, **fault.does)
    stage.verb("up", "--stack", stage.yard.stack)
    stage.verb("destroy", "--stack", stage.yard.stack, "--yes")


def _python_was_starting(text: str) -> bool:
    """Tell whether a Ctrl-C met Python before a line of ours ran: then no code of ours could have caught it."""
    return text.rstrip().endswith("KeyboardInterrupt") and "/trainyard/" not in text and "tasks.py" not in text
