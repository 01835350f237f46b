"""A team's server under load: 1,000 runs, 200 pages that follow live ones, pages and paths asked for at a steady rate, slow readers.

The server is a whole `serve` process. Each request counts from when it was due, so that one which waits for another is told as slow. Then
the events of an hour come in a minute, and the server's memory is looked at.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import re
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import cycle
from pathlib import Path

from bench.measure import machine, table
from trainyard.config import find_root
from trainyard.ledger.accounts import SCOPES, AccountRows, ServerAccount, TokenRows
from trainyard.ledger.ledger import Ledger
from trainyard.runs.records.record import RunFolder, RunRecord

P95_MS, GROWTH = 200.0, 1.10
"""Promised: of each page and path; and the memory at the end of the hour against that at its half."""
_LIVE, _SLOW, _STEPS, _HOUR = 20, 10, 500, 3600
_PATHS = (
    "/", "/?state=live", "/runs/{}/1", "/queue", "/operations", "/compare?run={}/1&run=u1/r1/1", "/api/v1/runs", "/api/v1/runs/{}",
    "/api/v1/runs/{}/1/log", "/api/v1/queue", "/api/v1/operations", "/api/v1/audit", "/api/v1/duties", "/readyz", "/metrics",
)  # fmt: skip


@dataclass
class Load:
    """The server that is asked, by whom, and what came of it."""

    port: int
    tokens: Sequence[str]
    home: Path
    times: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    answers: Counter[int] = field(default_factory=Counter)
    bytes_read: Counter[int] = field(default_factory=Counter)
    """Of each page that follows a run."""
    ended: int = 0

    def live(self, number: int) -> str:
        """Return the name of a live run."""
        return f"u{number % _LIVE}/r{number % _LIVE}"


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure and print; 1 when something is slower, or grows more, than promised."""
    parser = argparse.ArgumentParser(prog="python -m bench.server", description=__doc__)
    parser.add_argument("--runs", type=int, default=1_000)
    parser.add_argument("--open", type=int, default=200, help="pages that follow a run")
    parser.add_argument("--rate", type=float, default=10.0, help="pages and paths asked for in a second")
    parser.add_argument("--seconds", type=float, default=45.0, help="how long each of the two parts goes on")
    given = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory(prefix="bench-server-") as folder:
        home = Path(folder) / "home"
        for number in range(given.runs):
            _run(home, number)
        tokens = _tokens(home, given.open)
        with _server(home) as (process, port):
            load = Load(port, tokens, home)
            sizes = asyncio.run(_press(load, process.pid, given.open, given.rate, given.seconds))
        return _report(load, sizes, given.open)


def _run(home: Path, number: int) -> None:
    """Write a run as a controller leaves it; the first ones go on."""
    over = number >= _LIVE
    record = RunRecord(
        user=f"u{number % 20}", label=f"r{number}", attempt=1, environment="local", recipe="lora", values={"lr": 1e-4}, bundle_sha256="0",
        hours=4.0, created=time.time() - 3600 - number, token=f"{number:032x}", phase="ended" if over else "started",
        ended=time.time() - number if over else None, exit_code=0 if over else None, training_began=time.time() - 3600,
    )  # fmt: skip
    folder = RunFolder(record.id.folder(home / "runs"))
    folder.path.mkdir(parents=True)
    folder.save(record)
    _append(folder, 0, _STEPS)


def _append(folder: RunFolder, begin: int, end: int) -> None:
    rows = [
        json.dumps({"step": step, "total_steps": 10_000, "loss": 2.0 - step / 10_000, "lr": 1e-4, "tokens_per_second": 900 + step % 7,
                    "gpu_percent": 97.0, "gpu_memory_gb": 61.5})
        for step in range(begin, end)
    ]  # fmt: skip
    with folder.metrics.open("a") as metrics, folder.log.open("a") as log:
        metrics.write("".join(f"{row}\n" for row in rows))
        log.write("".join(f"step {step}: loss {2.0 - step / 10_000:.4f}, and more that a training says\n" for step in range(begin, end)))


def _tokens(home: Path, count: int) -> list[str]:
    """Return tokens of as many people."""
    database, now = Ledger(home / "ledger.db").database, time.time()
    people, rows = AccountRows(database), TokenRows(database)
    for number in range(count):
        people.put(ServerAccount(name=f"p{number}", role="view", created=now))
    return [rows.issue("api", f"p{number}", "bench", SCOPES[:1], now, now + 86_400)[1] for number in range(count)]


@contextlib.contextmanager
def _server(home: Path) -> Iterator[tuple[subprocess.Popen[str], int]]:
    env = {**os.environ, "TRAINYARD_HOME": str(home), "TRAINYARD_LOCAL_ROOT": str(home.parent / "outside"), "TRAINYARD_USER": "admin"}
    env.pop("TRAINYARD_LEDGER", None)
    words = [sys.executable, "-m", "trainyard", "serve", "--port=0", "--no-schedule"]
    process = subprocess.Popen(words, cwd=find_root(), env=env, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    try:
        assert process.stdout is not None
        port = re.search(r":(\d+)/login", process.stdout.readline())
        if port is None:
            sys.exit("the server has not started: try `invoke serve`")
        yield process, int(port[1])
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(60)


async def _press(load: Load, pid: int, pages: int, rate: float, seconds: float) -> list[float]:
    """Do all of it; return the MB that the server holds, second by second of the hour."""
    asking = asyncio.Semaphore(64)
    for path in _PATHS:  # whoever comes first compiles templates and takes the records in
        await _ask(load, path, 0, time.perf_counter(), asking)
    load.times.clear()
    followers = [asyncio.create_task(_follow(load, number)) for number in range(pages)]
    slow = [asyncio.create_task(_crawl(load, number)) for number in range(_SLOW)]
    await asyncio.sleep(3)
    steps = await _events(load, _STEPS, 1, seconds, rate, asking)
    sizes: list[float] = []
    watch = asyncio.create_task(_watch(pid, sizes))
    await _events(load, steps, max(1, round(_HOUR / seconds)), seconds, 0.0, asking)
    await asyncio.sleep(2)
    load.ended = sum(task.done() for task in [*followers, *slow])
    for task in (watch, *followers, *slow):
        task.cancel()
    await asyncio.gather(watch, *followers, *slow, return_exceptions=True)
    return sizes


async def _events(load: Load, step: int, each: int, seconds: float, rate: float, asking: asyncio.Semaphore) -> int:
    """Let live runs say so many steps a second, and ask for pages meanwhile; return the step that comes next."""
    folders = [RunFolder(load.home / "runs" / load.live(number) / "1") for number in range(_LIVE)]
    began, asked, paths, requests = time.perf_counter(), 0, cycle(_PATHS), []
    for second in range(round(seconds)):
        for folder in folders:
            await asyncio.to_thread(_append, folder, step, step + each)
        step += each
        while rate and asked < (second + 1) * rate:
            due = began + asked / rate
            await asyncio.sleep(max(0.0, due - time.perf_counter()))
            requests.append(asyncio.create_task(_ask(load, next(paths), asked, due, asking)))
            asked += 1
        await asyncio.sleep(max(0.0, began + second + 1 - time.perf_counter()))
    await asyncio.gather(*requests)
    return step


async def _ask(load: Load, path: str, number: int, due: float, asking: asyncio.Semaphore) -> None:
    async with asking, _connection(load, path.format(load.live(number)), number) as reader:
        status = int((await reader.readline()).split(b" ")[1])
        await reader.read()
        load.times[path].append(1000 * (time.perf_counter() - due))
        load.answers[status] += 1


async def _follow(load: Load, number: int) -> None:
    """Follow a run as its page does."""
    async with _connection(load, f"/live/runs/{load.live(number)}/1", number) as reader:
        while piece := await reader.read(1 << 16):
            load.bytes_read[number] += len(piece)


async def _crawl(load: Load, number: int) -> None:
    """Follow a run over a link of a byte a second."""
    async with _connection(load, f"/live/runs/{load.live(number)}/1", number, most=64) as reader:
        while await reader.read(1):
            await asyncio.sleep(1)


@contextlib.asynccontextmanager
async def _connection(load: Load, path: str, number: int, most: int = 1 << 16) -> AsyncIterator[asyncio.StreamReader]:
    reader, writer = await asyncio.open_connection("127.0.0.1", load.port, limit=most)
    token = load.tokens[number % len(load.tokens)]
    headers = (f"GET {path} HTTP/1.1", f"Host: 127.0.0.1:{load.port}", f"Authorization: Bearer {token}", "Connection: close", "", "")
    writer.write("\r\n".join(headers).encode())
    try:
        yield reader
    finally:
        writer.close()


async def _watch(pid: int, sizes: list[float]) -> None:
    while True:
        pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
        sizes.append(pages * os.sysconf("SC_PAGE_SIZE") / 1e6)
        await asyncio.sleep(1)


def _report(load: Load, sizes: Sequence[float], pages: int) -> int:
    rows, slow = [], []
    for path, times in load.times.items():
        cuts = statistics.quantiles(times, n=100, method="inclusive") if len(times) > 1 else times * 99
        rows.append([path, str(len(times)), *(f"{cuts[at - 1]:.0f}" for at in (50, 95, 99))])
        slow += [path] if cuts[94] > P95_MS else []
    print(table(["asked for", "times", "p50 ms", "p95 ms", "p99 ms"], rows))
    half, end = sizes[len(sizes) // 2], sizes[-1]
    print(f"\nanswers: {dict(load.answers)}; memory at the beginning, half and end of the hour: {sizes[0]:.0f}, {half:.0f}, {end:.0f} MB "
          f"(promised: x{GROWTH:g} at most since its half)")  # fmt: skip
    silent = pages - sum(count > 0 for count in load.bytes_read.values())
    sent = sum(load.bytes_read.values()) / 1e6
    print(f"{pages} pages followed {_LIVE} runs, {sent:.0f} MB; {silent} got nothing, {load.ended} ended early; "
          f"{_SLOW} readers of a byte a second beside them; {machine()}")  # fmt: skip
    if slow:
        print(f"p95 over {P95_MS:.0f} ms: {', '.join(slow)}")
    return 1 if slow or silent or load.ended or set(load.answers) != {200} or end > GROWTH * half else 0


if __name__ == "__main__":
    sys.exit(main())
