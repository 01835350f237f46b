"""Start train.py: once, or once for each GPU of a node, of a Slurm job or of several pods, as processes that live and die together.

Each is told RANK, LOCAL_RANK, WORLD_SIZE, LOCAL_WORLD_SIZE, MASTER_ADDR and MASTER_PORT, as torchrun tells them. What torchrun does
otherwise, and a training on a rented machine cannot have: it kills after 30 seconds what was told to save and stop, ends with a code
that says nothing, and leaves its workers behind when it is killed itself. Standard library only: no second copy of torch is loaded.

Rank 0 writes to this log, the others to rank-N.log. The exit code is rank 0's, or that of the rank that failed first.
"""

from __future__ import annotations

import contextlib
import ctypes
import functools
import json
import os
import runpy
import shutil
import signal
import socket
import subprocess
import sys
import time
from typing import Any

RUN_DIR = os.path.dirname(os.path.abspath(__file__))
OUTPUT_DIR = os.environ.get("OUTPUT_DIR") or os.path.join(RUN_DIR, "output")
LOGS = os.path.join(os.environ.get("WORKSPACE") or RUN_DIR, ".trainyard", "ranks")
NAMES = ("RANK", "LOCAL_RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT", "GROUP_RANK", "TORCHELASTIC_ERROR_FILE")
STOPPED, REFUSED = 75, 2
LOOPBACK = "127.0.0.1"
STOPS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1)
PODS, POD = "TRAINYARD_NODES", "TRAINYARD_NODE"
"""Variables that say how many pods train together, and which of them this is."""
NODE = "--node"
"""The word by which this program is one of those that a job has, one on each node."""
GRACE = {REFUSED: 10.0}
"""Seconds, by an exit code, that the others have to end by themselves once rank 0 has ended, or any has failed; else 3."""
SHOWN = 8192
"""Bytes of the log of a rank that has failed that are told."""


def main() -> int:
    """Train; return the exit code."""
    with open(os.path.join(RUN_DIR, "config.json"), encoding="utf-8") as file:
        config = json.load(file)
    count, nodes, place = processes(config), int(os.environ.get("SLURM_NNODES") or 1), os.environ.get("MASTER_ADDR")
    pods = int(os.environ.get(PODS) or 1)
    if pods == 1 and nodes > 1 and sys.argv[1:] != [NODE] and config.get("strategy") != "none":
        return lead(nodes)
    port = int(os.environ.get("MASTER_PORT") or 0)
    for name in NAMES:  # what an image or a cluster says of processes of its own
        os.environ.pop(name, None)
    if sys.argv[1:] == [NODE] and place:
        return Ranks(count, nodes, int(os.environ["SLURM_NODEID"]), (place, port)).run()
    if pods > 1:
        if config.get("strategy") == "none" or config.get("backend") == "unsloth":
            print(f"train: {pods} pods train together, and strategy none or Unsloth train on one GPU", file=sys.stderr, flush=True)
            return REFUSED
        _begin(f"pod {int(os.environ[POD]) + 1} of {pods}")
        return verdict(Ranks(count, pods, int(os.environ[POD]), (str(place), port)).run())
    if count > 1:
        _begin(f"{count} processes")
        return verdict(Ranks(count, 1, 0, (LOOPBACK, 0)).run())
    # Of several GPUs transformers would take all, in one process that waits for itself.
    os.environ.setdefault("CUDA_VISIBLE_DEVICES", "0")
    os.environ["CUDA_VISIBLE_DEVICES"] = os.environ["CUDA_VISIBLE_DEVICES"].partition(",")[0]
    train()
    return 0


def lead(nodes: int) -> int:
    """Start the processes of every node of a Slurm job, which share this folder; return the exit code."""
    _begin(f"{nodes} nodes")
    words = ["srun", f"--nodes={nodes}", "--ntasks-per-node=1", "--overlap", "--kill-on-bad-exit=1"]
    # In a session of its own: what stops this run is sent to all its processes, and srun, told to stop, kills. Another signal it passes on.
    began = functools.partial(_die_with, os.getpid(), signal.SIGTERM)
    order = [*words, sys.executable, os.path.abspath(__file__), NODE]
    with subprocess.Popen(order, stdin=subprocess.DEVNULL, start_new_session=True, preexec_fn=began) as step:
        for stop in STOPS:
            signal.signal(stop, lambda *_: step.send_signal(signal.SIGUSR1))
        code = step.wait()
    return verdict(code if code >= 0 else 128 - code)


def _begin(of: str) -> None:
    shutil.rmtree(LOGS, ignore_errors=True)
    os.makedirs(LOGS, exist_ok=True)
    print(f"train: {of} (rank 0 writes this log, the others {LOGS}/rank-N.log)", flush=True)


def processes(config: dict[str, Any]) -> int:
    """Return how many processes train here: so many as are asked for, else one for each GPU."""
    if config.get("strategy") == "none" or config.get("backend") == "unsloth":
        return 1
    wanted = int(config.get("gpus") or 0)
    return wanted or (1 if config.get("device") == "cpu" else max(1, _gpus()))


def train() -> None:
    """Be the training."""
    sys.argv = [os.path.join(RUN_DIR, "train.py")]
    runpy.run_path(sys.argv[0], run_name="__main__")


def _gpus() -> int:
    seen = os.environ.get("CUDA_VISIBLE_DEVICES")
    if seen is not None:
        return len([one for one in seen.split(",") if one.strip() not in ("", "-1")])
    try:
        said = subprocess.run(["nvidia-smi", "-L"], stdin=subprocess.DEVNULL, capture_output=True, timeout=60, check=True)
    except (OSError, subprocess.SubprocessError):
        return 0
    return len([line for line in said.stdout.splitlines() if line.startswith(b"GPU ")])


class Ranks:
    """The processes of one training."""

    def __init__(self, count: int, nodes: int, node: int, meeting: tuple[str, int]) -> None:
        self._count, self._world, self._first, self._pids = count, count * nodes, count * node, dict[int, int]()
        self._ended: dict[int, tuple[int, float]] = {}
        """Rank -> its exit code (negative: the signal that killed it), and when that was seen."""
        self._killed, self._told = set[int](), False
        # Rank 0 takes it over, so that nobody else can take the port in the seconds until then.
        self._meeting = None if node else socket.create_server((meeting[0] if nodes == 1 or meeting[0] == LOOPBACK else "", meeting[1]))
        self._address = meeting[0], self._meeting.getsockname()[1] if self._meeting else meeting[1]

    def run(self) -> int:
        """Start all, and wait until all are over; return the exit code."""
        for stop in STOPS:
            signal.signal(stop, self._pass_on)
        signal.signal(signal.SIGALRM, self._kill)
        for number in range(self._count):
            self._start(number)
        if self._meeting:
            self._meeting.close()
        if self._told:  # while they were started
            self._pass_on()
        while self._pids:
            pid, how = os.wait()
            for rank in [rank for rank, each in self._pids.items() if each == pid]:
                del self._pids[rank]
                self._note(rank, os.waitstatus_to_exitcode(how))
        signal.setitimer(signal.ITIMER_REAL, 0)
        failed = [rank for rank in self._ended if self._has_failed(rank)]
        # A stop is told by rank 0's code alone: Slurm ends a step whose task ends with another code than 0.
        code = self._ended[failed[0] if failed else self._first][0] if failed or not self._first else 0
        return code if code >= 0 else 128 - code

    def _start(self, number: int) -> None:
        parent, rank = os.getpid(), self._first + number
        sys.stdout.flush()
        pid = os.fork()
        if pid:
            self._pids[rank] = pid
            return
        for each in (*STOPS, signal.SIGALRM):
            signal.signal(each, signal.SIG_IGN if each == signal.SIGUSR1 else signal.SIG_DFL)
        _die_with(parent)
        told = (rank, number, self._world, self._count, *self._address, self._first // self._count, _failure(rank))
        os.environ |= {name: str(value) for name, value in zip(NAMES, told, strict=True)}
        os.environ.setdefault("OMP_NUM_THREADS", str(max(1, (os.cpu_count() or 1) // (2 * self._count))))
        os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")  # each rank would warn of the same
        if sys.platform == "linux" and (self._world == self._count or self._address[0] == LOOPBACK):
            os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")
        if rank:
            log = os.open(_log(rank), os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
            os.dup2(log, 1)
            os.dup2(log, 2)
        elif self._meeting:
            os.environ["RANKS_MEETING"] = str(os.dup(self._meeting.fileno()))
        train()
        sys.exit(0)

    def _pass_on(self, *_: object) -> None:
        self._told = True
        for pid in self._pids.values():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGTERM)

    def _kill(self, *_: object) -> None:
        for rank, pid in self._pids.items():
            self._killed.add(rank)
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)

    def _note(self, rank: int, code: int) -> None:
        """Note that a rank has ended. Where the others would wait for it for ever, they get some time, then an end."""
        self._ended[rank] = code, time.time()
        if self._has_failed(rank):
            _write(_failure(rank), {"time": time.time(), **_record(rank), "code": code})
        if self._pids and (rank == 0 or self._has_failed(rank)) and not signal.getitimer(signal.ITIMER_REAL)[0]:
            signal.setitimer(signal.ITIMER_REAL, GRACE.get(code, 3.0), 1.0)

    def _has_failed(self, rank: int) -> bool:
        """Tell whether a rank has ended before its part was done; what happens to it afterwards costs nothing."""
        code = self._ended[rank][0]
        was_stopped = code in (0, STOPPED) or (self._told and code == -signal.SIGTERM)
        return not was_stopped and rank not in self._killed and not _record(rank).get("done")


def verdict(own: int) -> int:
    """Return the exit code of all; where another rank than 0 has failed first, or one was killed, tell of it."""
    found = {int(name[5:-5]): _record(int(name[5:-5])) for name in os.listdir(LOGS) if name.endswith(".json")}
    failed = {rank: record for rank, record in found.items() if not record.get("done") and "time" in record}
    if own in (0, STOPPED) or not failed:
        return own

    def order(rank: int) -> tuple[bool, float]:
        # A cause before its consequences: who loses a partner fails, or aborts, and may tell so before its death is seen.
        code = failed[rank].get("code", 1)
        return code >= 0 or code == -signal.SIGABRT, failed[rank]["time"]

    rank = min(failed, key=order)
    code = failed[rank].get("code", 1)
    said = failed[0].get("message") if 0 in failed else None
    if code > 0 and (rank == 0 or (said and said == failed[rank].get("message"))):
        return int(code)  # rank 0 has said itself what was wrong
    message = f"has failed: {failed[rank].get('message') or f'it ended with exit code {code}'}"
    if code < 0:
        name = signal.Signals(-code).name if -code in set(signal.Signals) else "it has no name here"
        why = ", most often because the machine's memory was full" if code == -signal.SIGKILL else ""
        message = f"was killed by signal {-code} ({name}){why}"
    _tell(rank, f"rank {rank} {message}", with_log=code != -signal.SIGKILL)
    return int(code if code > 0 else 128 - code)


def _log(rank: int) -> str:
    return os.path.join(LOGS, f"rank-{rank}.log")


def _failure(rank: int) -> str:
    return os.path.join(LOGS, f"rank-{rank}.json")


def _record(rank: int) -> dict[str, Any]:
    """Return what a rank has left of its end (session.py): that its part was done, or when it failed of what."""
    try:
        with open(_failure(rank), encoding="utf-8") as file:
            known: dict[str, Any] = json.load(file)
            return known
    except (OSError, ValueError):
        return {}


def _tell(rank: int, message: str, *, with_log: bool) -> None:
    """Put the end of a rank's own log and why it ended into this one, and the reason into status.json."""
    if with_log and rank:
        with contextlib.suppress(OSError), open(_log(rank), "rb") as log:
            log.seek(max(0, os.path.getsize(_log(rank)) - SHOWN))
            print(f"train: the last of {_log(rank)}:\n{log.read().decode(errors='replace')}", file=sys.stderr)
    print(f"train: {message}", file=sys.stderr, flush=True)
    path = os.path.join(OUTPUT_DIR, "status.json")
    with contextlib.suppress(OSError, ValueError):
        with open(path, encoding="utf-8") as file:
            known = json.load(file)
        _write(path, known | {"state": "failed", "message": message[:2000], "time": time.time()})


def _write(path: str, value: dict[str, Any]) -> None:
    with contextlib.suppress(OSError), open(path + ".partial", "w", encoding="utf-8") as out:
        json.dump(value, out)
    with contextlib.suppress(OSError):
        os.replace(path + ".partial", path)


def _die_with(parent: int, number: int = signal.SIGKILL) -> None:
    """Have the kernel end this process when the one that started it is gone."""
    with contextlib.suppress(OSError, AttributeError):  # Linux alone has it
        ctypes.CDLL(None).prctl(1, number)
    if os.getppid() != parent:
        os._exit(1)


if __name__ == "__main__":
    sys.exit(main())
