"""Links that are cut, held and refused at random instants while a play runs on several hosts at once (``invoke faults.links``).

Held against each round: nothing is ok without its answer, nothing that must not be done twice is done twice or out of its order, a
link that is lost is unreachable and never failed, the recap is what was shown, and a play that comes after finds nothing broken.
"""

from __future__ import annotations

import argparse
import contextlib
import random
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tests.remote import sshd
from tests.remote.proxy import Proxy
from trainyard import playbook
from trainyard.playbook import Host
from trainyard.playbook.ahead import SentTogether
from trainyard.playbook.report import Report, Silent
from trainyard.remote.protocol import Address
from trainyard.remote.reconnect import Reconnecting
from trainyard.remote.transport import SshTransport, connect
from trainyard.sshlogin import parse_login

HOSTS = ("a", "b", "c")
SILENCE = 2.0
"""Seconds after which a link is given up while there is trouble; in peace only a slow machine is silent."""
PLAY = """
- hosts: all
  vars: {w: "{{ there }}/{{ inventory_hostname }}"}
  tasks:
    - {name: folder, file: {path: "{{ w }}/d", state: directory}, tags: files}
    - {name: once-1, shell: "echo once-1 >>{{ w }}/log"}
    - {name: once-2, shell: "echo once-2 >>{{ w }}/log; echo said", register: said}
    - {name: copy-1, copy: {content: "one\\n", dest: "{{ w }}/copy-1"}, notify: handler-1, tags: files}
    - {name: once-3, shell: "sleep 0.1; echo once-3-{{ said.stdout }} >>{{ w }}/log"}
    - {name: copy-2, copy: {src: big, dest: "{{ w }}/copy-2"}, tags: files}
    - {name: tree, copy: {src: tree/, dest: "{{ w }}/tree"}, tags: files}
    - {name: line, lineinfile: {path: "{{ w }}/lines", line: "x", create: true}, tags: files}
    - {name: fetched, fetch: {src: "{{ w }}/copy-2", dest: "{{ here }}/fetched/"}, tags: files}
    - {name: once-4, shell: "echo once-4-{{ item }} >>{{ w }}/log", loop: [x, y, z]}
    - block:
        - {name: once-5, shell: "echo once-5 >>{{ w }}/log"}
        - {name: copy-3, template: {src: small.j2, dest: "{{ w }}/copy-3"}, tags: files}
      rescue: [{name: rescued, shell: "echo rescued >>{{ w }}/log"}]
      always: [{name: once-6, shell: "echo once-6 >>{{ w }}/log"}]
    - {name: job-1, job: {start: "{{ w }}/job", command: "echo job-1 >>{{ w }}/log"}}
    - {name: job-2, job: {wait: "{{ w }}/job"}}
    - {name: once-7, script: "prog.sh {{ w }}"}
    - {name: waits, wait_for: {path: "{{ w }}/copy-1"}, tags: files}
    - {name: once-8, shell: "echo once-8 >>{{ w }}/log", timeout: 60}
  handlers:
    - {name: handler-1, shell: "echo handler-1 >>{{ w }}/log"}
"""
LOGGED = {
    "once-1": ["once-1"], "once-2": ["once-2"], "once-3": ["once-3-said"], "once-4": ["once-4-x", "once-4-y", "once-4-z"],
    "once-5": ["once-5"], "once-6": ["once-6"], "job-1": ["job-1"], "once-7": ["once-7"], "once-8": ["once-8"], "handler-1": ["handler-1"],
}  # fmt: skip
"""Task -> the lines that it leaves in its host's log, in the order of the play."""
CONTENT = {"copy-1": b"one\n", "lines": b"x\n", "copy-3": b"small one\n"}


class Heard(Silent):
    """Remembers how each task ended on each host."""

    def __init__(self) -> None:
        self.ends: dict[str, list[tuple[str, str]]] = {name: [] for name in HOSTS}

    def outcome(self, host, task, status, result, label) -> None:  # type: ignore[no-untyped-def]
        """Remember it."""
        self.ends[host].append((task.name, status))


class Impatient:
    """Waits a little between tries, whatever is asked."""

    def sleep(self, seconds: float) -> None:
        """Wait."""
        time.sleep(min(seconds, 0.05))


@dataclass
class Round:
    """One play under trouble, and what is wrong with what it left."""

    address: Address
    folder: Path
    dice: random.Random
    troubles: list[str] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)
    parts: int = 0

    def play(self) -> Report:
        """Play it while links are lost, then once more in peace, and judge both."""
        _files(self.folder)
        book = playbook.load(self.folder / "play.yml")
        heard = Heard()
        with self._hosts(SILENCE) as (hosts, proxies):
            stop = threading.Event()
            threads = [threading.Thread(target=self._trouble, args=(name, proxies[name], stop)) for name in HOSTS]
            for thread in threads:
                thread.start()
            report = playbook.run(book, hosts, self._extra(), reporter=heard, clock=Impatient())
            stop.set()
            for thread in threads:
                thread.join()
        self._quiet()
        for name in HOSTS:
            self._judge(name, heard.ends[name], report)
        self.parts = sum(1 for path in (self.folder / "there").rglob(".*") if ".part" in path.name)
        with self._hosts(15.0) as (hosts, _):
            again = playbook.run(book, hosts, self._extra(), tags=["files"], clock=Impatient())
        if again.failures:
            self.wrong.append(f"in peace: {again.reason()}")
        self._judge_files(HOSTS)
        self.wrong += [f"left for ever: {path}" for path in (self.folder / "there").rglob(".*") if "job" not in path.parts]
        return report

    def _extra(self) -> dict[str, object]:
        return {"there": str(self.folder / "there"), "here": str(self.folder)}

    @contextlib.contextmanager
    def _hosts(self, silence: float) -> Iterator[tuple[dict[str, Host], dict[str, Proxy]]]:
        proxies = {name: Proxy(self.address) for name in HOSTS}

        def dial(proxy: Proxy) -> Callable[[], SshTransport]:
            return lambda: connect(proxy.address, silence=silence, timeout=3 * silence, on_new_host_key=lambda key: None)

        hosts = {name: Host(Reconnecting(dial(proxies[name]), name)) for name in HOSTS}
        try:
            yield hosts, proxies
        finally:
            for name in HOSTS:
                hosts[name].transport.close()
                proxies[name].close()

    def _trouble(self, name: str, proxy: Proxy, stop: threading.Event) -> None:
        """Bring trouble upon a host's link, each at a random byte or instant."""
        for _ in range(self.dice.choice([0, 1, 1, 2, 3])):
            kind = self.dice.choice(["bytes", "bytes", "instant", "hold", "refuse"])
            size = int(10 ** self.dice.uniform(2, 5.3))
            self.troubles.append(f"{name}: {kind} {size}")
            if kind == "bytes":
                proxy.cut_after = proxy.carried + size
                until = time.monotonic() + 10
                while proxy.cut_after is not None and time.monotonic() < until and not stop.wait(0.02):
                    pass
                continue
            if stop.wait(self.dice.uniform(0, 3)):
                return
            if kind == "hold":
                proxy.swallow(True)
                stop.wait(self.dice.choice([0.3, 1, 3, 5]))
                proxy.swallow(False)
            elif kind == "refuse":
                proxy.refuse(True)
                proxy.cut()
                stop.wait(self.dice.choice([0.1, 0.5, 2]))
                proxy.refuse(False)
            else:
                proxy.cut()

    def _quiet(self) -> None:
        """Wait until nothing of ours runs there any more: what a lost link has left behind may be at it for a while."""
        mark, until = str(self.folder).encode(), time.monotonic() + 60
        while left := _running(mark):
            if time.monotonic() > until:
                self.wrong.append(f"runs on: {left[0]!r}")
                return
            time.sleep(0.05)

    def _judge(self, name: str, ends: Sequence[tuple[str, str]], report: Report) -> None:
        said = Counter(status for _, status in ends)
        lost = next((one for one in report.failures if one.host == name), None)
        where = f"{name} ({ends[-1] if ends else 'nothing'})"
        if said["failed"] or any(task == "rescued" for task, _ in ends) or (lost and lost.unreachable is None):
            self.wrong.append(f"{where}: failed: {lost and lost.message}")
        if bool(lost) != bool(said["unreachable"]) or said["unreachable"] > 1 or (lost and ends[-1][1] != "unreachable"):
            self.wrong.append(f"{where}: unreachable {said['unreachable']} times, or went on")
        tally = report.tallies[name]
        shown = sum(1 for task, status in ends if task == "once-4" and status == "changed")
        items = shown - 1 if shown == len(LOGGED["once-4"]) else shown  # a loop counts once, when it is over
        if (tally.unreachable, tally.failed, tally.ok) != (said["unreachable"], 0, said["ok"] + said["changed"] - items):
            self.wrong.append(f"{where}: the recap is {tally}, shown was {dict(said)}")
        self._judge_log(name, where, ends, lost is not None and isinstance(lost.unreachable, SentTogether))
        done = {task for task, status in ends if status in ("ok", "changed")}
        self._judge_files([name] if not lost else [], done, name)

    def _judge_log(self, name: str, where: str, ends: Sequence[tuple[str, str]], together: bool) -> None:
        path = self.folder / "there" / name / "log"
        log = path.read_text().splitlines() if path.exists() else []
        whole = [line for lines in LOGGED.values() for line in lines]
        if log != whole[: len(log)]:
            self.wrong.append(f"{where}: done twice or out of order: {log}")
        tasks = [task for task, _ in ends]
        done = [line for task, lines in LOGGED.items() for line in lines[: tasks.count(task)] if (task, "unreachable") not in ends]
        last = [line for task, lines in LOGGED.items() if (task, "unreachable") in ends for line in lines]
        if log[: len(done)] != done:
            self.wrong.append(f"{where}: shown as done, and is not: {sorted(set(done) - set(log))}")
        elif len(log) > len(done) + len(last) and not together:
            self.wrong.append(f"{where}: done, and never shown: {log[len(done) + len(last) :]}")

    def _judge_files(self, names: Sequence[str], done: set[str] | None = None, one: str = "") -> None:
        big = (self.folder / "big").read_bytes()
        for name in [*names, *([one] if one else [])]:
            top = self.folder / "there" / name
            for file, content in {**CONTENT, "copy-2": big}.items():
                task = {"lines": "line"}.get(file, file)
                if (done is None or task in done) and (not (top / file).is_file() or (top / file).read_bytes() != content):
                    self.wrong.append(f"{name}: {file} is not what it should be")
            trees = sorted(path.name for path in (top / "tree").glob("*")) if (done is None or "tree" in done) else TREE
            fetched = self.folder / "fetched" / name / str(top / "copy-2").lstrip("/")
            if trees != TREE or ((done is None or "fetched" in done) and (not fetched.is_file() or fetched.read_bytes() != big)):
                self.wrong.append(f"{name}: the tree or what was fetched is not what it should be: {trees}")


TREE = [f"file{number}" for number in range(8)]


def _files(folder: Path) -> None:
    (folder / "play.yml").write_text(PLAY)
    (folder / "big").write_bytes(random.Random(1).randbytes(2_500_000))
    (folder / "small.j2").write_text("small {{ 'one' }}\n")
    (folder / "prog.sh").write_text('#!/bin/sh\necho once-7 >>"$1/log"\n')
    (folder / "tree").mkdir()
    for name in TREE:
        (folder / "tree" / name).write_text(name * 50)


def _running(mark: bytes) -> list[bytes]:
    """Return the command lines of shells that are at something of a round."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            words = path.read_bytes()
            if mark in words and b"sh\0-c" in words:
                found.append(words)
    return found


def rounds(address: Address, seed: int, count: int, say: Callable[[str], object]) -> tuple[list[str], Mapping[str, int]]:
    """Play rounds; return what was wrong, and how often hosts were lost."""
    wrong: list[str] = []
    figures: Counter[str] = Counter()
    for number in range(count):
        with tempfile.TemporaryDirectory(prefix="ty", dir="/tmp") as folder:
            Path(folder).chmod(0o777)
            one = Round(address, Path(folder), random.Random(f"{seed}/{number}"))
            begun = time.monotonic()
            report = one.play()
            figures["hosts"] += len(HOSTS)
            figures["unreachable"] += len(report.failures)
            figures["troubles"] += len(one.troubles)
            figures["parts left until the next play"] += one.parts
            wrong += [f"round {number}: {text} (troubles: {'; '.join(one.troubles)})" for text in one.wrong]
            say(f"{number:4} {'WRONG' if one.wrong else 'ok'} {time.monotonic() - begun:5.1f} s  {'; '.join(one.troubles)}")
            for text in one.wrong:
                say(f"     {text}")
    return wrong, figures


def main(arguments: Sequence[str]) -> int:
    """Play rounds; the exit code says whether all was right."""
    parser = argparse.ArgumentParser(prog="invoke faults.links")
    parser.add_argument("--rounds", type=int, default=200)
    parser.add_argument("--seed", type=int, default=random.randrange(10**6))
    parser.add_argument("--at", help="USER@HOST:PORT of another server of this machine, such as Dropbear's")
    parser.add_argument("--key", type=Path, help="the key for it")
    asked = parser.parse_args(arguments)
    print(f"seed {asked.seed}: again with --seed {asked.seed}", flush=True)
    with tempfile.TemporaryDirectory(prefix="ty", dir="/tmp") as folder:
        server = None if asked.at else sshd.start(Path(folder))
        if server is None:
            login = parse_login(f"ssh://{asked.at}")
            address = Address(login.address or login.name, login.port or 22, login.user or "root", None, asked.key)
        else:
            address = server.address
        try:
            wrong, figures = rounds(address, asked.seed, asked.rounds, lambda line: print(line, flush=True))
        finally:
            if server is not None:
                server.stop()
    print(f"{asked.rounds} rounds by {sshd.kind() if server else asked.at} (seed {asked.seed}): {len(wrong)} wrong; {dict(figures)}")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
