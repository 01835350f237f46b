"""A case that is a whole run: command, pod, watchdog, teardown; the store behind a proxy that lies, the processes killed on the way."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
import traceback
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from tests.e2e.yard import Yard, kill_tree
from tests.faults.controller import JOB, RESULT
from tests.faults.jobs import shards
from tests.faults.results import judge
from tests.faults.results.cases import Case
from tests.faults.results.stage import Result, fill, small_disk
from tests.faults.results.troubles import TROUBLES, fault_of
from tests.faults.results.world import client_of
from tests.storage import lying_proxy
from tests.storage.lying_proxy import Fault
from trainyard.storage import local
from trainyard.storage.client import StoreSettings

FORGER, HASTY = JOB.with_name("forger.sh"), Path(__file__).with_name("hasty.py")
FILLS = 'cat /dev/zero >"$WORKSPACE/ballast" 2>/dev/null\necho full\n'
POD_DISK, OWN_DISK = "size=1100m", "size=48m"
"""A pod's has as much free as a start asks for, and a little more."""
STACK, LONE, BUCKET = "lab", "lone", "lab-results"
REQUESTS = 45
"""So many requests an honest run makes from the start of its training on."""
LONE_REQUESTS = 10
"""And so many a pod that commits alone."""
ALONE = 60.0
COMMANDS = 4
LONGEST = 300.0
METRICS = "".join(f'{{"time": 1.0, "step": {step}, "total_steps": 5, "loss": 1.5}}\n' for step in range(1, 6)).encode()
SHARDS = {f"model/model-{number}.safetensors": shards.shard(number) for number in range(shards.COUNT)}
WANTED = {path: hashlib.sha256(body).hexdigest() for path, body in {**RESULT, "metrics.jsonl": METRICS}.items()}
SHARDED = {path: hashlib.sha256(body).hexdigest() for path, body in SHARDS.items()}


class Works:
    """A checkout with its own cloud and store, for one run after the other."""

    def __init__(self, server: StoreSettings | None) -> None:
        self.yard = Yard(Path(tempfile.mkdtemp(prefix="tw", dir="/tmp")))
        self.disks = ExitStack()
        for disk, size in ((self.yard.base / "o/cloud", POD_DISK), (self.yard.home, OWN_DISK)) if os.getuid() == 0 else ():
            self.disks.enter_context(small_disk(disk, size))
        settings = server or local.ensure(self.yard.places)
        self.client: Any = client_of(settings)
        self.proxy = lying_proxy.start(urlsplit(settings.endpoint or "").port or 0)
        self.yard.extra = {
            "AWS_ACCESS_KEY_ID": settings.access_key.reveal(), "AWS_SECRET_ACCESS_KEY": settings.secret_key.reveal(),
            "AWS_ENDPOINT_URL": self.proxy.endpoint,
        }  # fmt: skip
        for stack, minutes in ((STACK, 0), (LONE, 0.03)):
            lines = ["cloud: local", "store: s3", f"bucket: {BUCKET}", f"commit_alone_minutes: {minutes}"]
            (self.yard.root / f"Pulumi.{stack}.yaml").write_text("config:\n" + "".join(f"  trainyard:{line}\n" for line in lines))
        (self.yard.base / "job.sh").write_text(JOB.read_text())
        slow = JOB.read_text().replace("seq ", "sleep 4\nseq ", 1)
        (self.yard.base / "slow.sh").write_text(slow)
        (self.yard.base / "forger.sh").write_text(FORGER.read_text() + slow)
        (self.yard.base / "fills.sh").write_text(JOB.read_text() + FILLS)
        (self.yard.base / "shards.py").write_text(Path(shards.__file__).read_text())
        self.count = 0

    def close(self) -> None:
        """End everything."""
        self.proxy.server.shutdown()
        self.proxy.server.server_close()
        for stack in (STACK, LONE):
            self.yard.invoke("destroy", "--stack", stack, "--yes")
        self.yard.close()
        self.disks.close()
        shutil.rmtree(self.yard.base, ignore_errors=True)

    def watchdogs(self, lease: str) -> list[int]:
        """Return the processes of a pod's watchdog but the first, which keeps the plan: whoever kills that, too, takes the plan away."""
        return self._running(b".trainyard-watchdog.py", lease)[1:]

    def uploaders(self) -> list[int]:
        """Return the processes of uploaders on this cloud's pods."""
        return self._running(b"trainyard.pod.files", str(self.yard.base))

    def _running(self, program: bytes, mark: str) -> list[int]:
        found = []
        for folder in Path("/proc").iterdir():
            if folder.name.isdigit():
                with contextlib.suppress(OSError):
                    if mark.encode() in (folder / "environ").read_bytes() and program in (folder / "cmdline").read_bytes():
                        found.append(int(folder.name))
        return sorted(found)


@contextlib.contextmanager
def works(server: StoreSettings | None = None) -> Iterator[Works]:
    """Make a checkout with its cloud, and a store of its own where none is given; everything it started ends with it."""
    made = Works(server)
    try:
        yield made
    finally:
        made.close()


def play_whole(made: Works, case: Case) -> Result:
    """Play a case and return what came of it."""
    began, run = time.monotonic(), WholeRun(made, case)
    try:
        run.play()
    except Exception:  # a case that cannot be judged is a failed one, and the others go on
        run.result.problems.append(traceback.format_exc())
    finally:
        made.proxy.reset()
    run.result.story, run.result.seconds = "\n".join(run.story), time.monotonic() - began
    return run.result


class WholeRun:
    """One run from its command to its end."""

    def __init__(self, made: Works, case: Case) -> None:
        self.made, self.case, self.trouble = made, case, TROUBLES[case.trouble][0]
        made.count += 1
        self.label = f"c{made.count}"
        self.chance = random.Random(case.seed)
        self.result, self.story = Result(case), list[str]()
        self.passed: Path = made.yard.base / f"{self.label}.passed"
        self.outage: float | None = None
        self.ballast = made.yard.home / "ballast"
        self.lone = case.level == "alone"
        stack = LONE if self.lone else STACK
        scripts = {"shards": "shards.py", "forger": "forger.sh", "pod": "fills.sh"}
        script = scripts.get(case.content, "slow.sh" if self.lone else "job.sh")
        self.wanted = SHARDED if case.content == "shards" else WANTED
        given = ("--set", f"script={made.yard.base / script}", "--name", self.label)
        self.words = ("train", "--stack", stack, "--recipe", "command", *given)

    def play(self) -> None:
        """Train, in trouble; then whatever comes next until the story has ended."""
        yard = self.made.yard
        self.made.proxy.reset()
        # What comes to the store for a while, or for good, is waited for: by a clock of the command's own.
        process = self._hasty() if self.trouble.act == "fail" and not self.lone else yard.start(*self.words)
        code = self._alone(process) if self.lone else self._first(process)
        self._look(code, self.story[-1])
        if self.trouble.seconds and (code or self.result.where != "bucket"):
            self.result.problems.append(f"the store came back in time: exit code {code}, result in {self.result.where or 'no place'}")
        following = self.chance.choice((("recover",), ("attach", self.label)))
        for _ in range(COMMANDS):
            if self.result.where == "bucket" and not yard.pods() and self._over():
                break
            recorded = (yard.home / "runs/tester" / self.label).is_dir()
            done = yard.invoke(*(following if recorded else self.words), timeout=LONGEST)
            self.story.append(f"--- {' '.join(following if recorded else self.words)}: {done.code}\n{done.out}{done.err}")
            self._look(done.code, done.out + done.err)
        if self.result.where != "bucket":
            self.result.problems.append(f"the story has no end: the result is {self.result.where or 'nowhere that counts'}")
        if pods := yard.pods():
            self.result.problems.append(f"pods are left: {pods}")
        if left := judge.open_uploads(self.made.client, BUCKET, f"models/tester/{self.label}/"):
            self.result.problems.append(f"uploads are left open: {left[:5]}")

    def _first(self, process: subprocess.Popen[str]) -> int:
        """Let the trouble come to the first command; returns its exit code."""
        spoken: list[str] = []
        listener = threading.Thread(target=lambda: spoken.extend(self.made.yard.output(process)), daemon=True)
        listener.start()
        until = time.monotonic() + LONGEST
        log = self.made.yard.home / "runs/tester" / self.label / "1/train.log"
        while not log.exists() and process.poll() is None and time.monotonic() < until:
            time.sleep(0.02)
        after = int(self.case.moment * REQUESTS)
        fault = fault_of(self.trouble, after, self.chance, self._passed)
        if self.trouble.kills:
            fault = Fault("any", "call after", after=after, then=lambda: self._strike(process))
        if self.case.content == "state":
            fault = Fault("any", "call", after=after, then=lambda: fill(self.ballast))
        if fault is not None:
            self.made.proxy.faults.append(fault)
        try:
            process.wait(LONGEST)
        except subprocess.TimeoutExpired:
            self.result.problems.append(f"it hung: nothing came of it in {LONGEST:g} s")
            kill_tree(process)
        listener.join(10)
        self.result.met = fault.done > 0 if fault is not None else self.case.content == "pod"
        self.made.proxy.reset()
        self.ballast.unlink(missing_ok=True)
        self.story.append(f"--- {' '.join(self.words)}: {process.returncode}\n{''.join(spoken)}")
        return process.returncode

    def _hasty(self) -> subprocess.Popen[str]:
        yard = self.made.yard
        argv = [sys.executable, str(HASTY), str(self.passed), *self.words]
        process = subprocess.Popen(
            argv, env=yard.env, cwd=yard.root, text=True, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
            start_new_session=True,
        )  # fmt: skip
        yard.started.append(process)
        return process

    def _passed(self) -> bool:
        """Tell whether the outage is over, by the command's clock."""
        now = float(self.passed.read_text()) if self.passed.exists() else 0.0
        self.outage = self.outage if self.outage is not None else now
        return self.trouble.seconds > 0 and now - self.outage >= self.trouble.seconds

    def _alone(self, process: subprocess.Popen[str]) -> int:
        """Kill the controller for good when its pod knows what to do alone; the trouble comes to the pod."""
        yard = self.made.yard
        yard.wait_for(lambda: self._record(1).get("commits_alone") or process.poll() is not None, LONGEST)
        kill_tree(process)
        self.made.proxy.reset()
        fault = fault_of(self.trouble, int(self.case.moment * LONE_REQUESTS), self.chance, lambda: False)
        if self.trouble.kills:
            lease = str(self._record(1)["pod"]["lease_id"])
            fault = Fault("any", "call", after=int(self.case.moment * LONE_REQUESTS), then=lambda: _kill(self.made.watchdogs(lease)))
        if fault is not None:
            self.made.proxy.faults.append(fault)
        until = time.monotonic() + ALONE
        while yard.pods() and time.monotonic() < until:
            time.sleep(0.1)
        self.result.met = fault is None or fault.done > 0
        if yard.pods():
            self.result.notes.append("the pod waited for a controller")
        self.made.proxy.reset()
        self.story.append(f"--- {' '.join(self.words)}: killed for good")
        return -signal.SIGKILL

    def _strike(self, process: subprocess.Popen[str]) -> None:
        for victim in self.trouble.kills:
            _kill([process.pid] if victim == "controller" else self.made.uploaders())

    def _look(self, code: int, story: str) -> None:
        """Judge what is true after a command."""
        if code != -signal.SIGKILL:
            self.result.problems += judge.said(code, story)
        where = self._where()
        self.result.where = where
        begun = self._record(1).get("phase") in ("started", "trained", "committed", "ended")
        marked = f"models/tester/{self.label}/1/_POD_COMMITTED"
        if begun and not where and not self.made.yard.pods() and not judge.snapshot(self.made.client, BUCKET, marked):
            self.result.problems.append(f"exit code {code}: the pod is gone and its result is nowhere")
        if code == 0 and not where:
            self.result.problems.append("success was said, and the result is neither in the bucket nor at home")
        if code not in (0, -signal.SIGKILL) and self.made.yard.pods() and not ("invoke attach" in story or "invoke recover" in story):
            self.result.problems.append(f"exit code {code}: a pod is kept, and no command that goes on was named")

    def _over(self) -> bool:
        """Tell whether the run's own record says that nothing is left to do."""
        record = self._record(1)
        return record.get("phase") == "ended" and not (record.get("result") or {}).get("owed")

    def _where(self) -> str:
        for attempt in (1, 2):
            record = self._record(attempt)
            wanted = judge.Wanted(str(record.get("token", "")), "_SUCCESS", self.wanted, frozenset())
            home = self.made.yard.root / "out/tester" / (self.label if attempt == 1 else f"{self.label}.{attempt}")
            there = judge.snapshot(self.made.client, BUCKET, f"models/tester/{self.label}/{attempt}/")
            if any(key.endswith("/_SUCCESS") for key in there):
                found = judge.look(self.made.client, BUCKET, f"models/tester/{self.label}/{attempt}/", Path("/nowhere"), wanted)
                self.result.problems += found.problems
                return "bucket" if found.committed else ""
            if all((home / path).is_file() and _sha256(home / path) == digest for path, digest in self.wanted.items()):
                return "home"
        return ""

    def _record(self, attempt: int) -> dict[str, Any]:
        path = self.made.yard.home / "runs/tester" / self.label / str(attempt) / "run.json"
        with contextlib.suppress(OSError, ValueError):
            found: dict[str, Any] = json.loads(path.read_text())
            return found
        return {}


def _kill(pids: Sequence[int]) -> None:
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
