"""Run crash cases in one world: set up, crash, do what a user would do next, let the ledger judge."""

from __future__ import annotations

import copy
import shutil
import subprocess
import time
import traceback
from dataclasses import dataclass, field

from tests.e2e.yard import Done
from tests.faults import judge, processes
from tests.faults.cases import SITUATIONS, WAITS, Case
from tests.faults.endings import PREFLIGHT
from tests.faults.following import LABEL, PATIENCE, go_on
from tests.faults.pace import Pace
from tests.faults.points import POINTS, STALL, Scene
from tests.faults.processes import Process
from tests.faults.world import CloudYard, World
from trainyard.stacks import facade

LOOK = 0.003
"""Between two looks for a point, in times of an ``up`` with a pod: on a busy machine they would hold up what they look at."""


@dataclass
class Result:
    """How a case went."""

    case: Case
    problems: list[str] = field(default_factory=list)
    crashed: bool = True
    """False when the command was over before the point came: nothing was killed."""
    reaped: int = 0
    """Pods beyond their lease's end that only the scheduled reaper has ended."""
    seconds: float = 0.0
    notes: list[str] = field(default_factory=list)
    """What is no failure of the guarantee, but is told."""
    story: list[str] = field(default_factory=list)
    """What was printed, for a case that failed."""


@dataclass
class Bench:
    """One world, with a colleague whose stack has the same name and whose pod must outlive every case."""

    world: World
    pace: Pace = field(default_factory=lambda: Pace(4.0))
    colleague: CloudYard | None = None
    others: frozenset[str] = frozenset()
    """The colleague's pods."""
    _colleagues_runs: int = 0

    def calibrate(self) -> None:
        """Measure the pace and bring the colleague's pod up."""
        began = time.monotonic()
        self.ensure_colleague()
        self.pace = Pace(time.monotonic() - began)

    def ensure_colleague(self) -> None:
        """Bring the colleague's stack up, where it is not."""
        if self.others and self.others <= {r["id"] for r in self.world.pods()}:
            return
        self.colleague, colleague = None, self.colleague or self.world.yard("colleague")
        colleague.settings(pods=1 if self.world.row.ssh else None, hours=20)
        colleague.invoke(*self._colleagues_words(colleague), timeout=PATIENCE).expect()
        self.colleague = colleague  # one whose command failed is never met again: its pod is taken away with the case's
        self.others = frozenset(r["id"] for r in self.world.pods())

    def _colleagues_words(self, colleague: CloudYard) -> tuple[str, ...]:
        """Return the command of the colleague's pod: declared, or where nobody can log in to one, a run that goes on and on."""
        if self.world.row.ssh:
            return ("up", "--stack", self.world.stack)
        self._colleagues_runs += 1
        return colleague.train("--name", f"c{self._colleagues_runs}", "--detach", "--yes", steps=100_000, pause=5.0)

    def run(self, case: Case) -> Result:
        """Run one case; never raises for what the case finds."""
        began = time.monotonic()
        result = Result(case)
        story = Story(self, case, result)
        try:
            self.ensure_colleague()
            story.tell()
        except AssertionError as error:
            result.problems.append(str(error))
        except Exception:
            # A case that breaks the bench itself must be seen, and must not take the other cases with it.
            result.problems.append(traceback.format_exc())
        result.seconds = time.monotonic() - began
        self.clear(story)
        return result

    def clear(self, story: Story) -> None:
        """Take everything of a case away."""
        self.world.emulator.faults.off()
        processes.kill(process for process in story.seen.values() if process.lives())
        for record in self.world.pods():
            if record["id"] not in self.others:
                self.world.emulator.fleet.delete(record["id"], "cleared by the test")
        shutil.rmtree(story.yard.base, ignore_errors=True)


class Story:
    """One case from its set-up to its verdict."""

    def __init__(self, bench: Bench, case: Case, result: Result) -> None:
        self.bench = bench
        self.case: Case = case
        self.result = result
        self.world = bench.world
        self.yard = bench.world.yard(TRAINYARD_ENGINE=case.engine)
        self.since = time.time()
        self.lease = self._lease()
        self.seen: dict[int, Process] = {}
        self.secrets: dict[str, str] = {}
        self.killed_at = 0.0

    def tell(self) -> None:
        """Set up, crash, go on, judge."""
        self._settings()
        if self.case.operation in ("destroy", "replace"):
            began = time.monotonic()
            self.verb("up", "--stack", self.yard.stack).expect()
            self.bench.pace.took("up", self.case.engine, time.monotonic() - began)
        if self.case.operation == "replace":
            self._settings(disk_gb=6)
        self._situation(True)
        self._crash()
        self.secrets = judge.secrets_of(self.yard)
        self.problems(*judge.state(self.yard))
        self.problems(*judge.clear_text(self.yard, self.secrets, [p.argv for p in self.seen.values()], self.result.story))
        go_on(self)
        self._situation(False)
        self._judge()

    def problems(self, *found: str) -> None:
        """Note what is wrong."""
        self.result.problems += found

    def verb(self, *words: str, engine: str | None = None) -> Done:
        """Run a verb to its end in the case's checkout."""
        yard = copy.copy(self.yard)
        yard.extra = {**yard.extra, **({"TRAINYARD_ENGINE": engine} if engine else {})}
        try:
            done = yard.invoke(*words, timeout=PATIENCE)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"invoke {' '.join(words)} hangs") from None
        self.result.story.append(f"$ invoke {' '.join(words)}   -> {done.code}\n{done.out}{done.err}")
        return done

    def fresh(self) -> set[str]:
        """Return the ids of the case's pods that exist."""
        return {r["id"] for r in self.world.pods()} - self.bench.others

    def wait_for_late_pods(self) -> None:
        """Wait until a request that was under way at the crash must have made its pod."""
        time.sleep(max(0.0, self.killed_at + STALL + 1.0 - time.time()))

    def wait_for_the_end(self, grace: float = judge.GRACE) -> None:
        """Wait until every pod of the case is gone by itself, at the latest a while after its lease's end."""
        self.wait_for_late_pods()
        while fresh := self.fresh():
            ends = self.world.ends()
            if time.time() > max(ends.get(pod, time.time()) for pod in fresh) + grace:
                self.problems(*(f"outlives its lease: {pod}" for pod in fresh))
                return
            time.sleep(0.1)

    def destroy(self, engine: str | None = None) -> None:
        """Destroy as a user would; it must succeed, unless there is no state that could tell our pods from a colleague's."""
        known = facade.exists(judge.yard_stack(self.yard))
        done = self.verb("destroy", "--stack", self.yard.stack, "--yes", engine=engine)
        if done.code and (known or done.code != 6 or self.fresh()):
            self.problems(f"destroy exited {done.code}")

    def _settings(self, **changes: object) -> None:
        pods = None if self.case.operation == "train" else 1
        self.yard.settings(**{"pods": pods, "hours": round(self.lease / 3600, 6), "rescue_minutes": 0.05, **changes})

    def _lease(self) -> float:
        """Return seconds of lease: enough to reach the point at this machine's pace, little where it must be waited out."""
        case, pace = self.case, self.bench.pace
        if case.next not in WAITS:
            return 1200.0
        if case.operation != "train":
            after = 0.0 if case.operation == "up" else pace.of(case.operation, case.engine)
            return 1.5 * (pace.of("up", case.engine) + after) + 3
        return 1.2 * pace.of("train", case.engine) + 3 + (PREFLIGHT if case.slow and self.world.row.ssh else 0.0)

    def _situation(self, on: bool) -> None:
        fault = SITUATIONS.get(self.case.situation)
        if fault and on:
            self.world.emulator.faults.on(fault)
        elif fault:
            self.world.emulator.faults.off(fault)

    def _words(self) -> tuple[str, ...]:
        if self.case.operation == "train":
            return self.yard.train("--name", LABEL, steps=8, pause=0.1)
        verb = "up" if self.case.operation == "replace" else self.case.operation
        return (verb, "--stack", self.yard.stack, "--yes")

    def _crash(self) -> None:
        label = LABEL if self.case.operation == "train" else ""
        scene = Scene(self.yard, time.time(), label, frozenset(r["id"] for r in self.world.pods()))
        controller = self.yard.start(*self._words())
        try:
            self.result.crashed = self._kill_at_point(scene, controller)
        finally:
            kept = {f for f in (SITUATIONS.get(self.case.situation),) if f}
            for row in self.world.emulator.faults.active():
                if row["name"] not in kept:
                    self.world.emulator.faults.off(row["name"])
        try:
            printed, _ = controller.communicate(timeout=PATIENCE)
        except subprocess.TimeoutExpired:
            processes.kill(processes.tree(controller.pid))
            self.result.story.append(controller.communicate()[0])
            raise AssertionError("the controller hangs after the crash") from None
        self.result.story.append(f"$ invoke {' '.join(self._words())}   -> {controller.returncode}\n{printed}")
        # Pulumi's own language host outlives its engine; what is ours must not.
        ours = [process for process in self.seen.values() if process.role != "other"]
        hanging = processes.wait_until_gone(ours, 60)
        self.problems(*(f"still runs after the crash: {' '.join(p.argv[:4])}" for p in hanging))

    def _kill_at_point(self, scene: Scene, controller: subprocess.Popen[str]) -> bool:
        point = POINTS.get(self.case.point)
        pace, key = self.bench.pace, (self.case.operation, self.case.engine)
        began, at = time.monotonic(), self.case.fraction * pace.of(*key)
        armed = False
        while controller.poll() is None:
            if point is not None and not armed and point.arm(scene):
                armed = True
                if point.fault:
                    self.world.emulator.faults.on(point.fault, times=1, **point.does)
            if point is None and time.monotonic() - began >= at:
                pace.was_met(*key)
                return self._kill(controller.pid)
            if point is not None and armed and point.reached(scene):
                return self._kill(controller.pid)
            time.sleep(LOOK * pace.of("up", self.case.engine))
        if controller.returncode == 0:
            pace.took(*key, time.monotonic() - began)
        return False

    def _kill(self, pid: int) -> bool:
        found = processes.tree(pid)
        self.seen |= {process.pid: process for process in found}
        chosen = processes.pick(found, self.case.victim) or processes.pick(found, "controller")
        processes.kill(chosen)
        self.killed_at = time.time()
        return bool(chosen)

    def _judge(self) -> None:
        others = self.bench.others
        self.problems(*judge.left(self.world, others))
        gone = others - {r["id"] for r in self.world.pods()}
        self.problems(*(f"the colleague's pod {pod} was ended" for pod in gone))
        self.problems(*judge.bills(self.world, self.since, kept_by_reaper=self.case.next == "reaper"))
        self.problems(*judge.state(self.yard))
        self.problems(*judge.clear_text(self.yard, self.secrets, [p.argv for p in self.seen.values()], self.result.story))
