"""Keep a pod's lease from inside: end the training at stop, end the pod at end. It asks nobody.

Started by the create request itself, so it runs from the pod's first second; a playbook only checks that
``status.json`` says ``armed``. One file, standard library only, Python 3.8 or newer: it is sent to machines that
have nothing else. It never holds an account key: only what the cloud itself put into the pod.

Environment   TRAINYARD_STOP, TRAINYARD_END (UTC), TRAINYARD_LEASE_ID, WORKSPACE,
              TRAINYARD_BUDGET and TRAINYARD_PRICE (dollars; dollars per hour), TRAINYARD_HEARTBEAT_MINUTES,
              TRAINYARD_POD_SOCKET (local pods), TRAINYARD_ENDINGS (how this cloud's pods prove and end themselves, as data;
              pod/endings.py writes it), TRAINYARD_POD_KEYS (names of the variables that hold the pod's own keys)
Folder        $WORKSPACE/.trainyard/watchdog/: status.json, log, deadlines.json (ours); heartbeat (touched by
              controllers), budget.json (budget, spent, price, time), keep.json. A lease that was extended or cut is asked from
              the cloud where it can tell (local pods: the pod's socket)

Stop          TERM to the process group of the job, once a job; the job saves; nothing else is killed before end.
End           every way the cloud has, in turn, with growing pauses, for ever. A pod without any kills its job instead.
Budget        used up means: stop, the rescue time, end; never later than the lease's own end.
Heartbeat     silent for too long ends the pod only while no job runs and no uncommitted result lies on it.
Idle          TRAINYARD_IDLE_MINUTES without a job and without an SSH session end it likewise.
Stall         TRAINYARD_STALL_MINUTES in which a job writes nothing and no GPU is busy mean: stop, the rescue time, end.
Keep          keep.json ({"seconds": ...}): a failed run's pod stays for a look for so long from now, and ends then by itself.
Alone         a controller may leave a plan here, in memory alone: the program and the signed URLs with which what the
              training left is committed when no controller comes back. Then the pod ends early
"""

from __future__ import annotations

import calendar
import contextlib
import ctypes
import email.utils
import fcntl
import hmac
import json
import mmap
import os
import re
import select
import shutil
import signal
import socket
import ssl
import subprocess
import sys
import tempfile
import threading
import time
import types
import urllib.error
import urllib.request
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

KEYS = ("RUNPOD_API_KEY", "CONTAINER_API_KEY", "SSH_HOST_ED25519_KEY", "JUPYTER_PASSWORD")
"""What of its environment only the watchdog and the SSH server are to know."""
TICK = 5.0
"""Longest time (s) between two looks."""
LONGEST_LEASE = 31 * 86400.0
"""Seconds that a pod may exist whose end cannot be read."""
RESCUE = 1800.0
"""Seconds between stop and end where the lease does not tell both."""
ASK_EVERY = 30.0
"""Seconds between two questions whether the lease was changed."""
LOOK_EVERY = 15.0
"""Seconds between two looks at whether anything is done here."""
BUSY_GPU = 3.0
"""Percent of a GPU's time above which it counts as working."""
TIMEOUT = 20.0
"""Longest time (s) for an answer of a cloud or of the pod's socket."""
ALONE_FLOOR = 100.0
"""No shorter silence (s) means that no controller is there: each beats twice a minute."""
LARGEST_PLAN = 8 << 20
"""Bytes that a plan may have, packed."""
MESSAGE_SECONDS = 3.0
"""How long a message may take: it comes from this very machine, and the clocks must be looked at meanwhile."""
PR_SET_PDEATHSIG, PR_SET_DUMPABLE = 1, 4
PLACEHOLDER = re.compile(r"\{([A-Z][A-Z0-9_]*)\}")
"""Stands for a variable of this pod."""
_REST, _GRAPHQL = "{RUNPOD_API_URL}/pods/{RUNPOD_POD_ID}", "{RUNPOD_GRAPHQL_URL}"
_POD = {"input": {"podId": "{RUNPOD_POD_ID}"}}
_READ = {"query": "query($input: PodFilter!) { pod(input: $input) { id } }", "variables": _POD}
_END = {"query": "mutation($input: PodTerminateInput!) { podTerminate(input: $input) }", "variables": _POD}
_CTL = ["run", "runpodctl", "get", "pod", "{RUNPOD_POD_ID}"]
_OWN, _KEY = {"id": "RUNPOD_POD_ID"}, {"key": "RUNPOD_API_KEY"}
UNTOLD: Sequence[Mapping[str, Any]] = (
    {**_OWN, **_KEY, "name": "RunPod REST", "prove": ["GET", _REST], "at": ["id"], "end": ["DELETE", _REST]},
    {
        **_OWN, **_KEY, "name": "RunPod GraphQL",
        "prove": ["POST", _GRAPHQL, _READ], "at": ["data", "pod", "id"], "end": ["POST", _GRAPHQL, _END],
    },
    {**_OWN, "name": "runpodctl", "prove": _CTL, "end": ["run", "runpodctl", "pod", "delete", "{RUNPOD_POD_ID}"]},
    {**_OWN, "name": "older runpodctl", "prove": _CTL, "end": ["run", "runpodctl", "remove", "pod", "{RUNPOD_POD_ID}"]},
)  # fmt: skip
"""What holds where the create request told nothing: an older version's, and then it was RunPod's."""


class PodClock:
    """The two clocks; the boot clock counts suspended time and cannot be set."""

    def wall(self) -> float:
        """Return UTC in seconds since 1970."""
        return time.time()

    def boot(self) -> float:
        """Return seconds since the machine booted."""
        return time.clock_gettime(getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC))

    def sleep(self, seconds: float, wake: Sequence[socket.socket | int] = ()) -> None:
        """Wait, no longer than until something can be read from one of ``wake``."""
        select.select(wake, (), (), seconds)


@dataclass(frozen=True)
class Deadline:
    """One moment on both clocks: whichever comes first counts."""

    wall: float
    boot: float

    def left(self, clock: PodClock) -> float:
        """Return the seconds that are left."""
        return min(self.wall - clock.wall(), self.boot - clock.boot())


class Refused(Exception):
    """A way of ending the pod did not work this time."""


@dataclass(frozen=True)
class EndingMethod:
    """One way of ending this pod. ``prove`` returns the cloud's time where it tells one."""

    name: str
    prove: Callable[[], float | None]
    end: Callable[[str], object]
    lease: Callable[[], Mapping[str, object]] | None = None
    """Tells stop and end as they are now; nothing where the cloud does not tell."""


def main(arguments: Sequence[str] = ()) -> int:
    """Start the watchdog detached (``--foreground``: in this process) and return; a second one in the same pod does nothing."""
    take_keys(arguments)
    if "--foreground" not in arguments:
        if os.fork():
            return 0
        os.setsid()
        with open(os.devnull) as nothing:
            os.dup2(nothing.fileno(), 0)
    for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT):
        signal.signal(number, signal.SIG_IGN)
    lock = claim(os.environ)
    if lock is None:
        return 0
    with contextlib.suppress(OSError), open("/proc/self/oom_score_adj", "w") as score:
        score.write("-999")
    process_control(PR_SET_DUMPABLE, 0)
    held = HeldPlan(os.environ)
    if "--foreground" in arguments:
        Watchdog(os.environ, PodClock(), held=held).run()
    keep(lambda: Watchdog(os.environ, PodClock(), held=held).run())
    return 0


def process_control(option: int, value: int) -> None:
    """Set an attribute of this process, where the system has it: one that cannot be dumped no other of its user can look into."""
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(option, value, 0, 0, 0)


def take_keys(arguments: Sequence[str]) -> None:
    """Hold the pod's keys in memory alone: what was in the environment at the start, every process of the pod can read in /proc.

    The program starts itself anew without them and hands them over by a pipe. A watchdog that cannot do so goes on as it is.
    """
    if "--keys" in arguments:
        with open(int(arguments[arguments.index("--keys") + 1])) as pipe:
            os.environ.update(json.load(pipe))
        return
    rest = without_keys(os.environ)
    keys = {name: value for name, value in os.environ.items() if name not in rest}
    if not keys:
        return
    with contextlib.suppress(OSError):
        taken, write_end = os.pipe()
        os.write(write_end, json.dumps(keys).encode())
        os.close(write_end)
        os.set_inheritable(taken, True)
        os.execve(sys.executable, [sys.executable, os.path.abspath(__file__), *arguments, "--keys", str(taken)], rest)


def pod_keys(env: Mapping[str, str]) -> Sequence[str]:
    """Return the names of the variables that only the watchdog and the SSH server are to know."""
    return (*KEYS, *env.get("TRAINYARD_POD_KEYS", "").split())


def without_keys(env: Mapping[str, str]) -> dict[str, str]:
    """Return what of an environment every process of the pod may know."""
    names = pod_keys(env)
    return {name: value for name, value in env.items() if name not in names}


def claim(env: Mapping[str, str]) -> int | None:
    """Return the lock of this pod's watchdog, None when another holds it.

    It lies on the pod's own disk: a network volume under WORKSPACE may be shared with other pods.
    """
    name = "trainyard-watchdog-{}-{}".format(own_id(env), env.get("TRAINYARD_LEASE_ID", ""))
    try:
        descriptor = os.open(os.path.join(tempfile.gettempdir(), name), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError:
        return -1  # A full or read-only disk is no reason to leave the pod without a watchdog.
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(descriptor)
        return None
    return descriptor


def keep(run: Callable[[], None]) -> None:
    """Run the watchdog in a child and start another whenever it dies (out of memory, a bug)."""
    while True:
        child = os.fork()
        if child == 0:
            try:
                run()
            finally:
                os._exit(1)
        os.waitpid(child, 0)
        time.sleep(1)


class Watchdog:
    """The state of one pod's lease; ``tick`` is one look at it."""

    def __init__(
        self, env: Mapping[str, str], clock: PodClock, ways: Sequence[EndingMethod] | None = None, held: HeldPlan | None = None
    ) -> None:
        self.env, self.clock = env, clock
        self.alone = LoneCommit(self, held) if held is not None else None
        self.workspace = env.get("WORKSPACE") or "/workspace"
        self.folder = os.path.join(self.workspace, ".trainyard", "watchdog")
        with contextlib.suppress(OSError):
            os.makedirs(self.folder, exist_ok=True)
        self.ways = find_ways(env) if ways is None else list(ways)
        self.started = clock.wall()
        self.budget_fired: float | None = None
        self.stop, self.end = self._first_deadlines()
        self.leased = {name: deadline.wall for name, deadline in (("stop", self.stop), ("end", self.end)) if deadline is not None}
        self.state, self.reason = "watching", ""
        self.proven, self.proof = False, "no way to end this pod from inside" if not self.ways else "not asked yet"
        self.next_proof, self.proofs = clock.boot(), 0
        self.stopped_jobs: set[str] = set()
        self.attempts = 0
        self.seen: dict[str, float] = {}
        self.heard = self.asked = clock.boot()
        self.asked_due = False
        self.patience = 60 * (float_or_none(env.get("TRAINYARD_HEARTBEAT_MINUTES")) or 0.0)
        self.idle = IdleWatch(60 * (float_or_none(env.get("TRAINYARD_IDLE_MINUTES")) or 0.0), clock)
        self.stall = StallWatch(60 * (float_or_none(env.get("TRAINYARD_STALL_MINUTES")) or 0.0), self.workspace, clock)
        self.stalled = False
        self.keep_until: float | None = None
        self.budget_stop: Deadline | None = self._budget_deadline(float_or_none(env.get("TRAINYARD_BUDGET")), 0.0, self.started)

    def run(self) -> None:
        """Watch until the pod is gone."""
        self.log("armed: stop {}, end {}, ways {}".format(utc(self.stop), utc(self.end), ", ".join(w.name for w in self.ways) or "none"))
        self.write_status()
        while True:
            self.clock.sleep(self.tick(), self.alone.wakers() if self.alone else ())

    def tick(self) -> float:
        """Do what is due now; return the seconds until the next look."""
        self._reread()
        if self.alone is not None:
            self.alone.listen()
        if (reason := self._due_end()) is not None:
            return self.end_pod(reason)
        if self.stop is not None and self.stop.left(self.clock) <= 0:
            self.stop_job("the lease's stop has come")
        elif self.budget_stop is not None and self.budget_stop.left(self.clock) <= 0:
            self._stop_early("the budget is used up")
        elif self.stall.is_stalled(self.job_runs()):
            self.stalled = True
            self._stop_early(f"the job has stalled: for {self.stall.patience / 60:g} minutes it wrote nothing, and no GPU was busy")
        if not self.proven and self.ways and self.clock.boot() >= self.next_proof:
            self._prove()
        nearest = [d.left(self.clock) for d in (self.stop, self.end, self.budget_stop) if d is not None]
        nearest += [self.heard + self.patience - self.clock.boot()] if self.patience else []
        return max(0.05, min([TICK] + [left for left in nearest if left > 0]))

    def _due_end(self) -> str | None:
        """Return why the pod is to end now, None while it is not."""
        if self.end is not None and self.end.left(self.clock) <= 0:
            return "the lease is over"
        if self.keep_until is not None:
            return "it was kept for a look until now" if self.clock.wall() >= self.keep_until else None
        if self._idle_and_silent():
            return "no controller was heard of, and nothing here is worth keeping"
        if self.alone is not None and self.alone.step():
            return "no controller was heard of, and what the training left is committed"
        if self.idle.over(lambda: self.job_runs() or self.uncommitted()):
            return f"idle for {self.idle.patience / 60:g} minutes: no job runs, and nobody is logged in"
        return None

    def stop_job(self, reason: str) -> None:
        """Send TERM to the job's process group, once a job; its supervisor still writes the verdict."""
        if self.state == "watching":
            self._change("stopping", reason)
        started = read_text(os.path.join(self.workspace, "job", "pid"))
        if started and started not in self.stopped_jobs and self.job_runs():
            self.stopped_jobs.add(started)
            self._signal_job(signal.SIGTERM)

    def end_pod(self, reason: str) -> float:
        """Try the ways to end the pod; return the pause before the next try.

        The first round trusts the first way that says yes; later rounds use all of them, because one said
        yes and the pod is still here.
        """
        if self.state != "ending" or self.reason != reason:
            self._change("ending", reason)
        if not self.ways:
            self._signal_job(signal.SIGKILL)  # the lease is over, and somebody else has to end the pod
        for way in self.ways:
            try:
                way.end(reason)
                self.log(f"{way.name}: accepted")
                if self.attempts == 0:
                    break
            except Refused as error:
                self.log(f"{way.name}: {error}")
        self.attempts += 1
        return min(60.0, 2.0 ** min(self.attempts, 6))

    def _signal_job(self, number: signal.Signals) -> None:
        """Send a signal to the process group of the job that runs; nothing where none does."""
        started = read_text(os.path.join(self.workspace, "job", "pid"))
        if not started or not self.job_runs():
            return
        try:
            os.killpg(int(started), number)
            self.log(f"{number.name[3:]} sent to the job (process group {started})")
        except (OSError, ValueError) as error:
            self.log(f"the job could not be signalled: {error}")

    def job_runs(self) -> bool:
        """Tell whether a job runs: it has no verdict yet and its lock is held."""
        job = os.path.join(self.workspace, "job")
        if os.path.exists(os.path.join(job, "exit")) or not os.path.exists(os.path.join(job, "pid")):
            return False
        try:
            with open(os.path.join(job, "lock")) as lock:
                fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except FileNotFoundError:
            return False
        except OSError:
            return True
        return False

    def uncommitted(self) -> bool:
        """Tell whether something lies here that was not committed: a job's folder or any output, and no mark of a commit."""
        marks = (os.path.join(self.workspace, ".trainyard", "committed"), os.path.join(self.workspace, "output", "_POD_COMMITTED"))
        if any(os.path.exists(mark) for mark in marks):
            return False
        output = os.path.join(self.workspace, "output")
        return os.path.isdir(os.path.join(self.workspace, "job")) or any(files for _, _, files in os.walk(output))

    def log(self, text: str) -> None:
        """Append one line to the log and to the container's own output; a full disk does not matter."""
        line = f"{format_time(self.clock.wall())} watchdog: {text}\n"
        with contextlib.suppress(OSError, ValueError):
            # A container log that nobody reads any more must not hold the watchdog up.
            if select.select([], [2], [], 0)[1]:
                os.write(2, line.encode())
        with contextlib.suppress(OSError), open(os.path.join(self.folder, "log"), "a") as file:
            file.write(line)

    def write_status(self) -> None:
        """Say how things stand in ``status.json``."""
        status = {
            "armed": self.end is not None,
            "pid": os.getpid(),
            "lease_id": self.env.get("TRAINYARD_LEASE_ID"),
            "pod_id": own_id(self.env) or None,
            "state": self.state,
            "reason": self.reason,
            "stalled": self.stalled and self.state == "stopping",
            "stop": utc(self.stop),
            "end": utc(self.end),
            "ways": [way.name for way in self.ways],
            "self_terminate": bool(self.ways),
            "key_sees_pod": self.proven,
            "proof": self.proof,
            "alone": self.alone.text if self.alone else None,
            "started": format_time(self.started),
            "time": format_time(self.clock.wall()),
        }
        write_json(os.path.join(self.folder, "status.json"), status)

    def _first_deadlines(self) -> tuple[Deadline | None, Deadline | None]:
        """Return stop and end; after a restart in the same boot the earlier boot-clock deadlines stay."""
        text = self.env.get("TRAINYARD_END")
        end, stop = parse_time(text), parse_time(self.env.get("TRAINYARD_STOP"))
        if end is None and text:
            end = self.started + LONGEST_LEASE
        kept = read_json(os.path.join(self.folder, "deadlines.json"))
        if kept.get("key") != self._key():
            kept = {}
        else:
            self.started = min(self.started, float_or_none(kept.get("started")) or self.started)
            self.budget_fired = float_or_none(kept.get("budget_fired"))
        deadlines = [self._deadline(moment, kept.get(name)) for name, moment in (("stop", stop), ("end", end))]
        self._remember(deadlines[0], deadlines[1])
        return deadlines[0], deadlines[1]

    def _key(self) -> Sequence[str | None]:
        return [read_text("/proc/sys/kernel/random/boot_id"), own_id(self.env) or None, self.env.get("TRAINYARD_LEASE_ID")]

    def _remember(self, stop: Deadline | None, end: Deadline | None) -> None:
        pairs = {name: [d.wall, d.boot] for name, d in (("stop", stop), ("end", end)) if d is not None}
        kept = {"key": self._key(), "started": self.started, "budget_fired": self.budget_fired, **pairs}
        write_json(os.path.join(self.folder, "deadlines.json"), kept)

    def _deadline(self, moment: float | None, kept: object = None) -> Deadline | None:
        if moment is None:
            return None
        boot = self.clock.boot() + moment - self.clock.wall()
        if isinstance(kept, list) and len(kept) == 2 and kept[0] == moment:
            boot = min(boot, float(kept[1]))
        return Deadline(moment, boot)

    def _reread(self) -> None:
        """Take in what controllers changed: lease, heartbeat, budget."""
        self._ask_cloud()
        if self._changed("heartbeat"):
            self.heard = self.clock.boot()
        if self._changed("budget.json"):
            news = read_json(os.path.join(self.folder, "budget.json"))
            budget, spent = float_or_none(news.get("budget")), float_or_none(news.get("spent")) or 0.0
            if budget is None:
                return  # half a file tells nothing: what was known holds
            when = float_or_none(news.get("time")) or self.seen["budget.json"]
            self.budget_stop = self._budget_deadline(budget, spent, when, float_or_none(news.get("price")))
            self.log(f"budget: stop for it at {utc(self.budget_stop)}")
        if self._changed("keep.json"):
            seconds = float_or_none(read_json(os.path.join(self.folder, "keep.json")).get("seconds"))
            if seconds is not None:
                self.keep_until = self.seen["keep.json"] + seconds
                self.log(f"kept for a look until {format_time(self.keep_until)}")

    def _mtime(self, name: str) -> float:
        try:
            return os.stat(os.path.join(self.folder, name)).st_mtime
        except OSError:
            return 0.0

    def _changed(self, name: str) -> bool:
        mtime, before = self._mtime(name), self.seen.get(name, 0.0)
        self.seen[name] = mtime
        return mtime not in (0.0, before)

    def _ask_cloud(self) -> None:
        """Take over a changed lease: now and then, and always before acting on the one that is known."""
        due = any(d is not None and d.left(self.clock) <= 0 for d in (self.stop, self.end))
        path = self.env.get("TRAINYARD_POD_SOCKET")
        asks = [lambda: ask_lease(path)] if path else [way.lease for way in self.ways if way.lease is not None]
        patience = 0.0 if due and not self.asked_due else TICK if due else ASK_EVERY
        if not asks or self.clock.boot() - self.asked < patience:
            return
        self.asked, self.asked_due = self.clock.boot(), due
        self.take_lease(next(filter(None, (ask() for ask in asks)), {}))

    def take_lease(self, said: Mapping[str, object]) -> None:
        """Take over stop and end as who may move them tells them (epoch seconds); what was told before moves no early end back."""
        for name in ("stop", "end"):
            moment, known = float_or_none(said.get(name)), self.leased.get(name)
            if moment is not None and (known is None or abs(moment - known) >= 1):
                self.leased[name] = moment
                setattr(self, name, self._deadline(moment))
                self.log(f"{name} is now {format_time(moment)}")
                self._remember(self.stop, self.end)
                self.write_status()
        if self.state == "stopping" and self.stop is not None and self.stop.left(self.clock) > 0:
            self._change("watching", "the lease was extended")

    def _budget_deadline(self, budget: float | None, spent: float, when: float, price: float | None = None) -> Deadline | None:
        price = price or float_or_none(self.env.get("TRAINYARD_PRICE"))
        if budget is None or not price or price <= 0:
            return None
        return self._deadline(when + (budget - spent) / price * 3600 - self._rescue())

    def _rescue(self) -> float:
        return max(0.0, self.end.wall - self.stop.wall) if self.stop is not None and self.end is not None else RESCUE

    def _stop_early(self, reason: str) -> None:
        """Stop now; the end moves up to the rescue time from now, never further back than the lease's own.

        A restart of the container does not start the rescue time again.
        """
        self.budget_fired = self.budget_fired or self.clock.wall()
        self._remember(self.stop, self.end)
        end = self._deadline(self.budget_fired + self._rescue())
        if end is not None and (self.end is None or end.left(self.clock) < self.end.left(self.clock)):
            self.end = end
        self.stop, self.budget_stop = self._deadline(self.clock.wall()), None
        self.stop_job(reason)
        self.write_status()

    def _idle_and_silent(self) -> bool:
        if not self.patience or self.clock.boot() - self.heard < self.patience:
            return False
        return not self.job_runs() and not self.uncommitted()

    def _prove(self) -> None:
        """Ask each way whether it reaches this very pod; the cloud's own time makes the boot-clock deadline exact."""
        said = []
        for way in self.ways:
            try:
                moment = way.prove()
            except Refused as error:
                said.append(f"{way.name}: {error}")
                continue
            self.proven, self.proof = True, f"{way.name} sees this pod"
            if moment is not None:
                self._believe_cloud_time(moment)
            break
        else:
            self.proof = "; ".join(said)
        self.proofs += 1
        self.next_proof = self.clock.boot() + min(300.0, 2.0 ** min(self.proofs, 9))
        self.log(self.proof)
        self.write_status()

    def _believe_cloud_time(self, moment: float) -> None:
        for name in ("stop", "end"):
            current = getattr(self, name)
            if current is not None:
                boot = self.clock.boot() + current.wall - moment
                setattr(self, name, Deadline(current.wall, min(current.boot, boot)))

    def _change(self, state: str, reason: str) -> None:
        self.state, self.reason = state, reason
        self.log(f"{state}: {reason}")
        self.write_status()


class IdleWatch:
    """How long a pod has been of no use to anybody."""

    def __init__(self, patience: float, clock: PodClock, people: Callable[[], bool] | None = None) -> None:
        self.patience, self.clock, self.people = patience, clock, people or somebody_is_logged_in
        self.used, self.looked = clock.boot(), 0.0

    def over(self, works: Callable[[], bool]) -> bool:
        """Tell whether nothing has worked here, and nobody was logged in, for the whole time; always False where none is set."""
        now = self.clock.boot()
        if not self.patience or now - self.looked < min(LOOK_EVERY, self.patience / 4):
            return False
        self.looked = now
        if works() or self.people():
            self.used = now
        return now - self.used >= self.patience


class StallWatch:
    """How long a job has shown no life: no byte in its folders, no GPU at work."""

    def __init__(self, patience: float, workspace: str, clock: PodClock, gpus: Callable[[], bool] | None = None) -> None:
        self.patience, self.workspace, self.clock, self.gpus = patience, workspace, clock, gpus or gpu_is_busy
        self.moved, self.looked, self.trace = clock.boot(), 0.0, 0.0

    def is_stalled(self, runs: bool) -> bool:
        """Tell whether a job that runs has stalled; always False where no time is set."""
        now = self.clock.boot()
        if not self.patience or now - self.looked < min(LOOK_EVERY, self.patience / 4):
            return False
        self.looked = now
        trace = newest_change([os.path.join(self.workspace, name) for name in ("job", "output")]) if runs else -1.0
        if trace != self.trace or self.gpus():
            self.moved, self.trace = now, trace
        return runs and now - self.moved >= self.patience


def newest_change(folders: Sequence[str]) -> float:
    """Return when anything below these folders was last changed (epoch seconds), 0 where nothing is there."""
    newest = 0.0
    for top in folders:
        for folder, _, names in os.walk(top):
            for name in [*names, ""]:
                with contextlib.suppress(OSError):
                    newest = max(newest, os.lstat(os.path.join(folder, name)).st_mtime)
    return newest


def gpu_is_busy() -> bool:
    """Tell whether any GPU of this pod works; True where its driver does not answer, for then nobody knows."""
    if not shutil.which("nvidia-smi"):
        return False
    words = ["nvidia-smi", "--query-gpu=utilization.gpu", "--format=csv,noheader,nounits"]
    env = without_keys(os.environ)  # every process of the pod can read it in /proc
    try:
        said = subprocess.run(words, stdin=subprocess.DEVNULL, capture_output=True, timeout=20, check=True, env=env).stdout.decode()
        return any(float(line) > BUSY_GPU for line in said.split())
    except (OSError, ValueError, subprocess.SubprocessError):
        return True


def somebody_is_logged_in() -> bool:
    """Tell whether an SSH session, or what one has started and left behind (tmux), lives on this pod."""
    for pid in filter(str.isdigit, os.listdir("/proc")):
        if int(pid) == os.getpid():
            continue
        title = read_text(f"/proc/{pid}/cmdline") or ""
        if re.match(r"sshd(-session)?: .*(@|\[priv\])", title):
            return True
        if "\0SSH_CONNECTION=" in "\0" + (read_text(f"/proc/{pid}/environ") or "") and not title.startswith("sshd"):
            return True
    return False


class HeldPlan:
    """What a controller has left here: a plan, and the socket on which it comes.

    Both are made before the first fork: the memory is shared by whoever takes over from a watchdog that died and never on a
    disk, and the socket's name is taken from the pod's first second, so that nothing else can listen there.
    """

    def __init__(self, env: Mapping[str, str]) -> None:
        self.room = mmap.mmap(-1, 8 + 2 * LARGEST_PLAN)
        self.socket: socket.socket | None = None
        lease = env.get("TRAINYARD_LEASE_ID")
        if not lease:
            return
        listener = socket.socket(socket.AF_UNIX)
        try:
            listener.bind(f"\0trainyard-watchdog-{lease}-{own_id(env)}")
            listener.listen(8)
            listener.setblocking(False)
            self.socket = listener
        except OSError:
            listener.close()  # Then no plan can come; stop and end are kept all the same.

    def load(self) -> dict[str, object]:
        """Return what is held; nothing when there is none."""
        half, length = self.room[0], int.from_bytes(self.room[1:8], "big")
        start = 8 + half * LARGEST_PLAN
        try:
            value = json.loads(zlib.decompress(self.room[start : start + length])) if length else {}
        except (ValueError, zlib.error):
            return {}
        return value if isinstance(value, dict) else {}

    def save(self, value: dict[str, object]) -> bool:
        """Hold something instead, in one step; False when there is no room for it."""
        body = zlib.compress(json.dumps(value).encode(), 1)
        if len(body) > LARGEST_PLAN:
            return False
        half = 1 - self.room[0] if self.room[0] in (0, 1) else 0
        start = 8 + half * LARGEST_PLAN
        self.room[start : start + len(body)] = body
        self.room[0:8] = bytes([half]) + len(body).to_bytes(7, "big")
        return True

    def serve(self, answer: Callable[[dict[str, object]], dict[str, object]]) -> None:
        """Answer one who has connected: one JSON object, ended by the end of what is sent. Who waits is next after a look at the clocks."""
        if self.socket is None:
            return
        try:
            connection, _ = self.socket.accept()
        except OSError:
            return
        with connection, contextlib.suppress(OSError, ValueError, zlib.error, RecursionError):
            said = json.loads(zlib.decompress(read_all(connection)))
            if isinstance(said, dict):
                connection.sendall(json.dumps(answer(said)).encode())


def read_all(connection: socket.socket) -> bytes:
    """Return all that is sent; raises OSError when it takes too long, or is too much."""
    until, size = time.monotonic() + MESSAGE_SECONDS, 0
    pieces: list[bytes] = []
    while True:
        connection.settimeout(max(0.01, until - time.monotonic()))
        piece = connection.recv(1 << 16)
        if not piece:
            return b"".join(pieces)
        pieces.append(piece)
        size += len(piece)
        if size > LARGEST_PLAN or time.monotonic() > until:
            raise OSError("too long")


class LoneCommit:
    """The commit of what a training left, when no controller comes back to do it."""

    def __init__(self, watchdog: Watchdog, held: HeldPlan) -> None:
        self.watchdog, self.held = watchdog, held
        self.content = held.load()
        self.child, self.lines, self.rest = 0, -1, b""
        self.tries, self.next_try = 0, 0.0
        self.text = "committed" if self.content.get("committed") else self._ready()

    def wakers(self) -> list[socket.socket | int]:
        """Return what is worth waking up for."""
        return [item for item in (self.held.socket, self.lines if self.child else None) if item is not None]

    def listen(self) -> None:
        """Answer controllers, and take what the fork says."""
        self.held.serve(self.answer)
        self._hear()

    def step(self) -> bool:
        """Do what is due; tell whether the pod has nothing left to do."""
        if not self.content.get("plan") or not self._silent():
            self._kill()
            return False
        if self.content.get("committed"):
            return not self.watchdog.job_runs()
        why = self._due()
        if why is not None and not self.child and self.watchdog.clock.boot() >= self.next_try:
            self._start(why)
        return False

    def answer(self, said: dict[str, object]) -> dict[str, object]:
        """Take a message of a controller: the first secret of this pod is the only one that counts."""
        secret = said.get("secret")
        first = self.content.get("secret")
        if not isinstance(secret, str) or len(secret) < 32:
            return {"error": "no secret"}
        if first is not None and not hmac.compare_digest(str(first), secret):
            return {"error": "another"}
        self.watchdog.heard = self.watchdog.clock.boot()
        self.watchdog.take_lease(said)
        content = dict(self.content, secret=secret)
        if isinstance(said.get("why"), str):
            content["why"] = said["why"]
        if isinstance(said.get("plan"), dict):
            plan = content.get("plan")
            same = isinstance(plan, dict) and plan.get("upload") == said["plan"].get("upload")  # type: ignore[attr-defined]
            content.update(plan=said["plan"], until=said.get("until"), pending=content.get("pending") if same else None)
        if content != self.content:
            if not self.held.save(content):
                return {"error": "too large"}
            self._kill()
            self.content = content
            self._tell(self._ready())
        plan = content.get("plan")
        upload = plan.get("upload") if isinstance(plan, dict) else None
        return {"until": content.get("until") if plan else None, "upload": upload, "disk": disk_of(self.watchdog.workspace)}

    def _ready(self) -> str:
        until = float_or_none(self.content.get("until"))
        return "no plan" if not self.content.get("plan") or until is None else f"ready, with URLs until {format_time(until)}"

    def _silent(self) -> bool:
        """Tell whether no controller is there; near the end of the lease a shorter silence says so."""
        plan, end = self.content.get("plan"), self.watchdog.end
        said = float_or_none(plan.get("silence") if isinstance(plan, dict) else None)
        patience = 300.0 if said is None else said
        if end is not None:
            patience = min(patience, max(ALONE_FLOOR, end.left(self.watchdog.clock) / 8))
        return self.watchdog.clock.boot() - self.watchdog.heard >= patience

    def _due(self) -> dict[str, object] | None:
        """Return how the training ended, None while it may still end by itself."""
        w, job = self.watchdog, os.path.join(self.watchdog.workspace, "job")
        reason = w.reason if w.state == "stopping" else str(self.content.get("why") or "")
        verdict = read_text(os.path.join(job, "exit"))
        if verdict:
            return {"exit_code": int(verdict) if re.fullmatch("-?[0-9]{1,9}", verdict) else None, "reason": reason}
        if not os.path.exists(os.path.join(job, "pid")):
            return None
        if not w.job_runs():
            return {"exit_code": None, "reason": "it is no more, and left no exit code (out of memory?)"}
        if w.stop is None or w.end is None or w.stop.left(w.clock) > 0:
            return None
        if w.end.left(w.clock) > max(ALONE_FLOOR, (w.end.wall - w.stop.wall) / 2):
            return None
        return {"exit_code": None, "reason": f"{reason or 'told to stop'}; it still ran when its time to save was half over", "runs": True}

    def _start(self, ending: dict[str, object]) -> None:
        """Fork, and let the fork do it: it is as closed to others as this process, and no command line or pipe holds the plan."""
        self.tries += 1
        end = self.watchdog.end
        order = {"plan": self.content["plan"], "secret": self.content["secret"], "pending": self.content.get("pending"), "ending": ending}
        order["deadline"] = None if end is None else self.watchdog.clock.wall() + end.left(self.watchdog.clock) - 10
        reading, writing = os.pipe()
        self.watchdog.log("no controller is heard of: committing alone")
        child = os.fork()
        if child == 0:
            os.close(reading)
            carry_out(order, writing)
        os.close(writing)
        os.set_blocking(reading, False)
        self.child, self.lines, self.rest = child, reading, b""
        self._tell("committing")

    def _hear(self) -> None:
        """Take what the fork says, and its death."""
        if not self.child:
            return
        dead = os.waitpid(self.child, os.WNOHANG)[0] != 0
        with contextlib.suppress(BlockingIOError):
            while True:
                piece = os.read(self.lines, 1 << 16)
                if not piece:
                    break
                self.rest += piece
        *lines, self.rest = self.rest.split(b"\n")
        for line in lines:
            self._note(json.loads(line))
        if dead:
            os.close(self.lines)
            self.child, self.lines = 0, -1
            self.next_try = self.watchdog.clock.boot() + min(300.0, 5.0 * 2 ** min(self.tries, 6))
            if not self.content.get("committed"):
                self._tell(self.text if self.text.startswith("failed") else "failed: it was killed")

    def _note(self, event: dict[str, object]) -> None:
        if event.get("event") == "pending":
            self._keep(pending=event["state"])
        elif event.get("event") == "committed":
            self._keep(committed=True)
            self._tell("committed: {}".format(event.get("what")))
        elif event.get("event") == "failed":
            self._tell("failed: {}".format(event.get("why")))
        else:
            self._tell("committing: {}".format(event.get("text")))

    def _keep(self, **news: object) -> None:
        self.content = dict(self.content, **news)
        self.held.save(self.content)

    def _kill(self) -> None:
        """A controller is there: it is in charge."""
        if self.child:
            os.kill(self.child, signal.SIGKILL)
            os.waitpid(self.child, 0)
            os.close(self.lines)
            self.child, self.lines = 0, -1
            if not self.content.get("committed"):
                self._tell("a controller came back")
        self.tries, self.next_try = 0, 0.0

    def _tell(self, text: str) -> None:
        self.text = text
        self.watchdog.log(f"alone: {text}")
        self.watchdog.write_status()


def disk_of(folder: str) -> int:
    """Return how many bytes the file system of a folder can hold; 0 when it does not say."""
    try:
        size = os.statvfs(folder)
    except OSError:
        return 0
    return size.f_blocks * size.f_frsize


def carry_out(order: dict[str, object], writing: int) -> None:
    """Run a plan's own program in this process, and end it; what it says goes down the pipe, a line each."""
    code = 1
    try:
        process_control(PR_SET_PDEATHSIG, signal.SIGKILL)
        with contextlib.suppress(OSError), open("/proc/self/oom_score_adj", "w") as score:
            score.write("0")  # rather this process than the watchdog
        lock = threading.Lock()

        def say(**event: object) -> None:
            with lock, contextlib.suppress(OSError):
                line = json.dumps(event).encode() + b"\n"
                while line:
                    line = line[os.write(writing, line) :]

        plan = order["plan"]
        assert isinstance(plan, dict)
        try:
            code = load_program(plan["program"]).commit_alone(order, say)
        except Exception as error:
            say(event="failed", why=f"{type(error).__name__}: {error}")
    finally:
        os._exit(code)


def load_program(sources: Sequence[Sequence[str]]) -> types.ModuleType:
    """Make modules of texts, each known by its name to those after it; return the last one."""
    module = types.ModuleType("none")
    for name, text in sources:
        for parent in (name.rpartition(".")[0].rpartition(".")[0], name.rpartition(".")[0]):
            sys.modules.setdefault(parent, types.ModuleType(parent))
        module = types.ModuleType(name)
        sys.modules[name] = module
        setattr(sys.modules[name.rpartition(".")[0]], name.rpartition(".")[2], module)
        exec(compile(text, name, "exec"), module.__dict__)
    return module


def find_ways(env: Mapping[str, str]) -> list[EndingMethod]:
    """Return the ways this pod can be ended from inside, the narrowest first."""
    ways = []
    path = env.get("TRAINYARD_POD_SOCKET")
    if path:
        ways.append(EndingMethod("pod socket", lambda: prove_socket(path), lambda reason: tell_socket(path, f"end {reason}\n")))
    for ending in told_endings(env):
        with contextlib.suppress(LookupError, TypeError, ValueError):  # a variable that this pod lacks, or half a text: then not this way
            ways.append(ending_method(ending, env))
    return ways


def told_endings(env: Mapping[str, str]) -> Sequence[Mapping[str, Any]]:
    """Return what the create request told of how pods of this cloud prove and end themselves."""
    try:
        items = json.loads(env.get("TRAINYARD_ENDINGS", ""))
    except ValueError:
        return UNTOLD
    return [one for one in items if isinstance(one, dict)] if isinstance(items, list) else UNTOLD


def own_id(env: Mapping[str, str]) -> str:
    """Return this pod's id as the cloud has told it; an empty text where it tells none."""
    return next((env[name] for one in told_endings(env) for name in [str(one.get("id"))] if env.get(name)), "")


def ending_method(ending: Mapping[str, Any], env: Mapping[str, str]) -> EndingMethod:
    """Return a way as the create request tells it; raises LookupError where this pod lacks what it needs."""
    prove, end = filled(ending["prove"], env), filled(ending["end"], env)
    if end[0] == "run":
        if not shutil.which(end[1]):
            raise LookupError(end[1])
        return EndingMethod(ending["name"], lambda: run_tool(prove[1:]), lambda _: run_tool(end[1:]))
    own, key = filled("{" + ending["id"] + "}", env), ending.get("key")
    header = (ending.get("header") or "Authorization: Bearer {}").replace("{}", filled("{" + key + "}", env) if key else "")
    place, label = ending.get("at") or [], ending.get("lease")
    lease = (lambda: read_lease(header, prove, label, env.get("TRAINYARD_LEASE_ID", ""))) if label else None
    return EndingMethod(ending["name"], lambda: prove_pod(header, prove, place, own), lambda _: ask_cloud(header, end), lease)


def filled(value: Any, env: Mapping[str, str]) -> Any:
    """Return data with the pod's variables in their places; raises LookupError for one that is not set, or empty."""
    if isinstance(value, dict):
        return {name: filled(item, env) for name, item in value.items()}
    if isinstance(value, list):
        return [filled(item, env) for item in value]
    if not isinstance(value, str):
        return value
    missing = [name for name in PLACEHOLDER.findall(value) if not env.get(name)]
    if missing:
        raise LookupError(missing[0])
    return PLACEHOLDER.sub(lambda match: env[match[1]], value)


def tell_socket(path: str, line: str, answered: bool = False) -> str:
    """Send a line to the pod's own socket (an empty one only proves that somebody listens); return the answer's first line."""
    try:
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(TIMEOUT)
            connection.connect(path)
            connection.sendall(line.encode())
            return connection.makefile().readline() if answered else ""
    except (OSError, ValueError) as error:
        raise Refused(str(error)) from None


def prove_socket(path: str) -> None:
    """Find somebody listening on the pod's own socket; it tells no time."""
    tell_socket(path, "")


def ask_lease(path: str) -> dict[str, object]:
    """Return the lease as the local cloud keeps it, nothing when it does not tell."""
    try:
        answer = json.loads(tell_socket(path, "lease\n", answered=True) or "{}")
    except (Refused, ValueError):
        return {}
    return answer if isinstance(answer, dict) else {}


def ask_cloud(header: str, call: Sequence[Any]) -> tuple[object, float | None]:
    """Make one request (method, URL, JSON body); return the JSON answer (None without one) and the server's time. Raises Refused."""
    data = json.dumps(call[2]).encode() if len(call) > 2 else None
    name, _, value = header.partition(": ")
    # RunPod's edge refuses urllib's own name as a bot.
    headers = {name: value, "Content-Type": "application/json", "User-Agent": "trainyard-watchdog/1"}
    try:
        ask = urllib.request.Request(call[1], data=data, method=call[0], headers=headers)
        with urllib.request.urlopen(ask, timeout=TIMEOUT, context=trust()) as answer:
            text = answer.read(1 << 20)
            date = email.utils.parsedate_tz(answer.headers.get("Date", ""))
            said = json.loads(text) if text.strip() else None
    except urllib.error.HTTPError as error:
        raise Refused(f"HTTP {error.code}") from None
    except (OSError, ValueError) as error:
        raise Refused(str(error) or type(error).__name__) from None
    if isinstance(said, dict) and (said.get("errors") or said.get("success") is False):
        raise Refused("the answer holds an error")
    return said, (email.utils.mktime_tz(date) if date else None)


def trust() -> ssl.SSLContext:
    """Return a context with a CA bundle; bare images have none, but pip brings its own."""
    context = ssl.create_default_context()
    if not context.cert_store_stats()["x509_ca"]:
        for module in ("certifi", "pip._vendor.certifi"):
            with contextlib.suppress(ImportError, OSError):
                context.load_verify_locations(__import__(module, fromlist=["where"]).where())
                break
    return context


def prove_pod(header: str, call: Sequence[Any], place: Sequence[str], own: str) -> float | None:
    """Read this very pod with its own key: its id must stand at a place of the answer."""
    answer, moment = ask_cloud(header, call)
    if place and str(at_place(answer, place)) != own:
        raise Refused("the answer is not this pod")
    return moment


def read_lease(header: str, call: Sequence[Any], place: Sequence[str], lease_id: str) -> dict[str, object]:
    """Return stop and end as this pod's label says them (``NAME STOP END``); nothing for a label of another lease, or of a person."""
    with contextlib.suppress(Refused):
        name, *moments = str(at_place(ask_cloud(header, call)[0], place)).split()[:3] or [""]
        if lease_id and lease_id in name and len(moments) == 2:
            return {"stop": parse_time(moments[0]), "end": parse_time(moments[1])}
    return {}


def at_place(answer: object, place: Sequence[str]) -> object:
    """Return what stands at a place of an answer, None where there is nothing."""
    for step in place:
        answer = answer.get(step) if isinstance(answer, dict) else None
    return answer


def run_tool(words: Sequence[str]) -> None:
    """Run a program that the cloud has put into the pod."""
    try:
        done = subprocess.run(words, stdin=subprocess.DEVNULL, capture_output=True, timeout=60, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise Refused(str(error)) from None
    if done.returncode:
        raise Refused(f"exit code {done.returncode}")


def parse_time(text: object) -> float | None:
    """Return the moment of ``2026-11-24T03:00:00Z``, None for anything else."""
    try:
        return float(calendar.timegm(time.strptime(str(text), "%Y-%m-%dT%H:%M:%SZ")))
    except ValueError:
        return None


def format_time(moment: float) -> str:
    """Return a moment as UTC text."""
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(moment))


def utc(deadline: Deadline | None) -> str | None:
    """Return a deadline's wall-clock time as text."""
    return None if deadline is None else format_time(deadline.wall)


def float_or_none(value: object) -> float | None:
    """Return a number, None for anything that is not a finite one."""
    try:
        number = float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        return None
    return number if abs(number) < 1e15 else None


def read_text(path: str) -> str:
    """Return a small file's text, empty when it cannot be read."""
    try:
        with open(path) as file:
            return file.read().strip()
    except (OSError, ValueError):
        return ""


def read_json(path: str) -> dict[str, object]:
    """Return a JSON object, an empty one when there is none."""
    try:
        value = json.loads(read_text(path) or "{}")
    except ValueError:
        return {}
    return value if isinstance(value, dict) else {}


def write_json(path: str, value: object) -> None:
    """Replace a file in one step; a full disk does not matter."""
    with contextlib.suppress(OSError):
        with open(path + ".tmp", "w") as file:
            json.dump(value, file)
            file.flush()
            os.fsync(file.fileno())
        os.replace(path + ".tmp", path)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
