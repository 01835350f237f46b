"""Main program of a container without SSH: it starts watchdog and job, tells how they stand, and ends with the job's exit code.

Standard library only, Python 3.8 or newer; runs ON the pod, made by entry.py out of a bundle that was proven. All that a controller
does over SSH elsewhere was decided before the pod was rented and stands in the bundle's order; the only road in and out is the
bucket, by signed URLs. The commit is the watchdog's (alone.py), as on pods whose controller is gone. What is secret lies in memory.

The first process keeps the second, which works; a second one that dies is made anew and goes on from what lies on the disk.
"""

from __future__ import annotations

import contextlib
import ctypes
import functools
import io
import json
import os
import re
import shlex
import signal
import subprocess
import sys
import tarfile
import time
from collections.abc import Callable
from typing import Any

from trainyard.pod.arrival import PATIENCE, Arrival, Refusal, loads
from trainyard.pod.live import Board, GrowingFile, open_wire
from trainyard.pod.signed import Lost

FAILED = 78
"""Exit code of a container whose job was not started."""
DIED = 86
"""Exit code of a worker that is made anew."""
TICK, SOONEST, LATEST, ASK, STILL = 0.5, 1.0, 5.0, 3.0, 20.0
"""Seconds: between two looks; between two writings of what has grown, at first and later; between two questions for orders;
between two statuses that say the same."""
LAST_WORDS = 30.0
LARGEST_REPORT = 1 << 16
PR_SET_DUMPABLE, PR_SET_CHILD_SUBREAPER = 4, 36


def main(descriptor: int) -> None:
    """Take the order out of memory and keep a worker on it; ends with the job's exit code."""
    with open(descriptor, "rb") as file:
        head, body = json.loads(file.readline()), file.read()
    for option, value in ((PR_SET_DUMPABLE, 0), (PR_SET_CHILD_SUBREAPER, 1)):
        with contextlib.suppress(OSError, AttributeError):
            ctypes.CDLL(None).prctl(option, value, 0, 0, 0)
    with contextlib.suppress(OSError), open("/proc/self/oom_score_adj", "w") as score:
        score.write("-998")
    keep(lambda: Worker(head["secrets"], head["keys"], body).run())


def keep(work: Callable[[], int]) -> None:
    """Run the worker in a child, another one whenever it dies, and bury whatever is left to this process."""
    while True:
        child = os.fork()
        if child == 0:
            code = DIED
            try:
                code = work()
            except BaseException as error:
                print(f"trainyard: {type(error).__name__}: {error}", file=sys.stderr, flush=True)
            finally:
                os._exit(code)
        signal.signal(signal.SIGTERM, functools.partial(forward, child))
        status = None
        while status is None:
            with contextlib.suppress(ChildProcessError):
                pid, word = os.wait()
                status = word if pid == child else None
        if os.WIFEXITED(status) and os.WEXITSTATUS(status) != DIED:
            os._exit(os.WEXITSTATUS(status))
        time.sleep(1)


def forward(child: int, number: int, _: object) -> None:
    """Hand a signal on to the worker."""
    with contextlib.suppress(ProcessLookupError):
        os.kill(child, number)


class Worker:
    """One container's work."""

    def __init__(self, secrets: dict[str, Any], keys: dict[str, str], body: bytes) -> None:
        tar = tarfile.open(fileobj=io.BytesIO(body), mode="r:gz")  # noqa: SIM115
        self.arrival = Arrival(tar, secrets, keys, self.working)
        self.order, self.path = self.arrival.order, self.arrival.path
        links, self.wire = self.order["links"], open_wire()
        self.board = Board(self.wire, links, secrets["secret"], read_text("/proc/sys/kernel/random/uuid") or str(time.time()))
        self.files = {name: GrowingFile(self.path(*place), links[name], links["part"]) for name, place in self.order["files"].items()}
        self.phase, self.why, self.note, self.job = "preparing", "", "", "absent"
        self.began = time.monotonic()
        self.wrote = self.asked = self.sent = self.looked = -1e9
        self.last: dict[str, Any] = {}
        self.stopping: subprocess.Popen[bytes] | None = None
        signal.signal(signal.SIGTERM, lambda *_: self.stop(10.0))

    def run(self) -> int:
        """Do all of it; returns what the container ends with."""
        try:
            code = self.already()
            if code is None:
                self.begin()
                code = self.watch()
        except (Refusal, Lost, OSError) as error:
            self.phase, self.why, code = getattr(error, "phase", "failed"), str(error), FAILED
            print(f"trainyard: {error}", file=sys.stderr, flush=True)
        self.last_words()
        self.wire.close()
        return code

    def already(self) -> int | None:
        """Return the exit code of a job that an earlier container of the run has committed; None where there is none."""
        self.wire.deadline = time.time() + PATIENCE
        answer = self.wire.ask("GET", self.order["plan"]["urls"]["marker"]["get"])
        said = self.board.proven(answer.body) if answer.status == 200 else {}
        if not said:
            return None
        code = said["exit_code"] if isinstance(said.get("exit_code"), int) else 1
        self.phase, self.job = "committed", f"exited\nexit {code}\n"
        return code

    def begin(self) -> None:
        """Start watchdog and job, unless they were started here before; raises Refusal."""
        is_done = self.arrival.is_done()
        if not is_done and self.board.earlier().get("phase") in ("training", "ended", "committed"):
            raise Refusal("the container was started anew, and what the training had written is gone with the old one", "lost")
        self.arrival.start_watchdog()
        if not is_done:
            self.arrival.begin()
        self.phase = "training"

    def working(self, note: str) -> None:
        """Tell how far it is before the job, to the bucket and to the watchdog, which sees nothing worth keeping by then."""
        self.phase, self.note = "data", note
        with contextlib.suppress(OSError), open(self.path(".trainyard", "watchdog", "heartbeat"), "w"):
            pass
        self.say()

    # -- while it runs

    def watch(self) -> int:
        """Look, tell and listen until what the job left is committed; returns the job's exit code."""
        while True:
            watchdog = self.watchdog()
            over = watchdog.get("state") == "ending"
            self.look(now=over)
            if over and self.phase != "ended":
                self.why = str(watchdog.get("reason"))
                self.stop(0.0)
                with contextlib.suppress(subprocess.TimeoutExpired):
                    assert self.stopping is not None
                    self.stopping.wait(15)
                self.look(now=True)
            if self.phase == "ended" and str(watchdog.get("alone", "")).startswith("committed"):
                self.phase = "committed"
            if over or self.phase == "committed":
                return self.code()
            self.say()
            self.hear()
            time.sleep(TICK)

    def look(self, *, now: bool = False) -> None:
        """Ask how the job stands, by the program that tells it of every pod."""
        if time.monotonic() - self.looked < 1.0 and not now:
            return
        self.looked = time.monotonic()
        text = f"job={shlex.quote(self.path('job'))}\n{self.order['job']['status']}"
        try:
            done = subprocess.run(["sh", "-c", text], stdin=subprocess.DEVNULL, capture_output=True, timeout=60, check=False)
            self.job = done.stdout.decode("utf-8", "replace") if done.returncode == 0 else "unknown"
        except (OSError, subprocess.TimeoutExpired) as error:
            self.job = f"unknown {error}"
        if self.job.startswith(("exited", "lost", "absent")) and self.phase != "ended":
            self.phase = "ended"
            self.arrival.tell()  # the watchdog need not sleep on

    def code(self) -> int:
        """Return the job's exit code, 1 where it left none."""
        text = read_text(self.path("job", "exit"))
        return int(text) & 255 if re.fullmatch("[0-9]{1,9}", text) else 1

    def watchdog(self) -> dict[str, Any]:
        """Return what the watchdog says of itself."""
        return loads(read_text(self.path(".trainyard", "watchdog", "status.json")).encode())

    def say(self) -> None:
        """Send what has grown and the status, when they are due."""
        now = time.monotonic()
        every = min(LATEST, max(SOONEST, (now - self.began) / 30))
        if now - self.sent >= every:
            self.sent = now
            for file in self.files.values():
                file.send(self.wire)
            said = self.status()
            if said != self.last or now - self.wrote >= STILL:
                self.wrote = now
                self.last = said if self.board.write(dict(said, time=time.time())) else {}

    def status(self) -> dict[str, Any]:
        """Return how everything stands."""
        watchdog = self.watchdog()
        kept = ("armed", "state", "reason", "stalled", "stop", "end", "alone", "key_sees_pod", "proof", "self_terminate")
        sizes = {name: {"sent": file.sent, "size": file.size(), "room": file.room} for name, file in self.files.items()}
        reports = {name: text for name in self.order["reports"] if (text := report(self.path("output", name))) is not None}
        return {
            "phase": self.phase, "why": self.why, "note": self.note, "job": self.job, "files": sizes, "sha256": self.arrival.sha256,
            "reports": reports, "watchdog": {name: watchdog.get(name) for name in kept}, "until": self.order["until"],
        }  # fmt: skip

    def hear(self) -> None:
        """Carry out what controllers have ordered since the last look."""
        if time.monotonic() - self.asked < ASK:
            return
        self.asked = time.monotonic()
        order = self.board.orders()
        if "lease" in order:
            self.arrival.tell(stop=order["lease"]["stop"], end=order["lease"]["end"])
        if "links" in order:  # longer lives for a longer lease
            self.order.update(links=order["links"], until=order["until"])
            self.board.links = order["links"]
            for name, file in self.files.items():
                file.urls = order["links"][name]
            self.arrival.tell(plan=loads(self.arrival.here(json.dumps(order["plan"]).encode())), until=order["until"])
        if "stop" in order:
            self.arrival.tell(why=order["stop"]["why"])
            self.stop(float(order["stop"]["grace"]))

    def stop(self, grace: float) -> None:
        """Tell the job to save and end, end it after ``grace`` seconds; the looks go on meanwhile."""
        if self.stopping is not None and self.stopping.poll() is None and grace:
            return
        text = f"job={shlex.quote(self.path('job'))}\ntenths={round(grace * 10)}\n{self.order['job']['stop']}"
        self.stopping = subprocess.Popen(["sh", "-c", text], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)

    def last_words(self) -> None:
        """Tell the end, for a while at most: the result is safe by now, or the reason is all that there is."""
        until = time.monotonic() + LAST_WORDS
        while True:
            done = [file.send(self.wire) for file in self.files.values()]
            if self.board.write(dict(self.status(), time=time.time())) and all(done):
                return
            if time.monotonic() > until:
                return
            time.sleep(1)


def report(path: str) -> str | None:
    """Return a small report of the training, None for one that is not there, no text, or not small."""
    try:
        with open(path, encoding="utf-8") as file:
            text = file.read(LARGEST_REPORT + 1)
    except (OSError, ValueError):
        return None
    return text if len(text) <= LARGEST_REPORT else None


def read_text(path: str) -> str:
    """Return a small file's text, empty when it cannot be read."""
    try:
        with open(path, encoding="utf-8") as file:
            return file.read().strip()
    except (OSError, ValueError):
        return ""
