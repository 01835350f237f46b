"""From an empty container to a job: watchdog, checks, files, data, start. All of it may be done again.

Standard library only, Python 3.8 or newer; runs ON the pod. What the container's main program (container.py) does first.
"""

from __future__ import annotations

import base64
import contextlib
import json
import os
import re
import shlex
import shutil
import socket
import subprocess
import sys
import tarfile
import threading
import time
import zlib
from collections.abc import Callable
from typing import Any

MARK = b"/@workspace@"
"""Stands for the workspace in all that was written before the pod was there."""
PATIENCE = 900.0
"""Seconds without any progress for which a bucket that does not answer is waited for."""
WATCHDOG_SECONDS = 20.0


class Refusal(Exception):
    """The job is not started; the text says why. ``phase`` says what became of it."""

    def __init__(self, why: str, phase: str = "failed") -> None:
        super().__init__(why)
        self.phase = phase


class Arrival:
    """A bundle that is laid out in a container. ``say`` is called while something takes long, with what is being done."""

    def __init__(self, tar: tarfile.TarFile, secrets: dict[str, Any], keys: dict[str, str], say: Callable[[str], None]) -> None:
        self.tar, self.secrets, self.keys, self.say = tar, secrets, keys, say
        self.workspace = os.environ.get("WORKSPACE") or "/workspace"
        self.order = loads(self.member("order.json"))
        self.sha256: dict[str, str] = {}
        """Of fetched files that nobody had read before."""

    def path(self, *parts: str) -> str:
        """Return a path below the workspace."""
        return os.path.join(self.workspace, *parts)

    def member(self, name: str) -> bytes:
        """Return a file of the bundle, as it is meant for this workspace."""
        file = self.tar.extractfile(name)
        assert file is not None
        return self.here(file.read())

    def here(self, text: bytes) -> bytes:
        """Return what was written beforehand with this workspace in it."""
        return text.replace(MARK, self.workspace.encode())

    def is_done(self) -> bool:
        """Tell whether the job was started on this disk."""
        return os.path.exists(self.path("job", "started_at"))

    def begin(self) -> None:
        """Lay out what the job needs and start it; raises Refusal."""
        self.check()
        self.unpack()
        for step in self.order["steps"]:
            self.fetch(step)
        self.start_job()

    def start_watchdog(self) -> None:
        """Start it with the keys that only it may know, and give it the plan to commit by; raises Refusal where it takes none."""
        if not re.fullmatch("[A-Za-z0-9@%+=:,./_-]+", self.workspace):
            raise Refusal(f"WORKSPACE is '{self.workspace}': only letters, digits and @%+=:,./_- can be in it")
        program = os.path.join(os.path.dirname(__file__), "watchdog.py")
        env = {**os.environ, **self.keys, "WORKSPACE": self.workspace}
        with open(os.devnull) as nothing:
            subprocess.run([sys.executable, program], env=env, stdin=nothing, check=False, timeout=60)
        until = time.monotonic() + WATCHDOG_SECONDS
        while True:
            answer = self.tell(plan=self.order["plan"], until=self.order["until"])
            if "error" not in answer:
                return
            if time.monotonic() > until:
                raise Refusal(f"the watchdog takes no plan to commit by: {answer['error']}")
            time.sleep(0.1)

    def tell(self, **message: Any) -> dict[str, Any]:
        """Hand a message to the watchdog; its answer says what is wrong, if anything is."""
        lease = os.environ.get("TRAINYARD_LEASE_ID", "")
        for name in dict.fromkeys([*own_ids(), ""]):
            with contextlib.suppress(OSError, ValueError), socket.socket(socket.AF_UNIX) as connection:
                connection.settimeout(20)
                connection.connect(f"\0trainyard-watchdog-{lease}-{name}")
                connection.sendall(zlib.compress(json.dumps(dict(message, secret=self.secrets["secret"])).encode(), 6))
                connection.shutdown(socket.SHUT_WR)
                with connection.makefile("rb") as answer:
                    said = json.loads(answer.read())
                return said if isinstance(said, dict) else {"error": "it says nothing"}
        return {"error": "it does not listen"}

    def check(self) -> None:
        """Prove that this machine can do the work; raises Refusal."""
        needs, free = self.order["needs"], shutil.disk_usage(self.workspace).free / 1e9
        if free < needs["disk_gb"]:
            raise Refusal(f"{free:.1f} GB are free in {self.workspace}, {needs['disk_gb']:g} GB are needed")
        if needs["gpu_count"]:
            try:
                done = subprocess.run(["nvidia-smi", "-L"], stdin=subprocess.DEVNULL, capture_output=True, timeout=90, check=False)
                lines, said = re.findall(rb"(?m)^GPU [0-9]+:", done.stdout), (done.stdout + done.stderr).decode("utf-8", "replace")
            except (OSError, subprocess.TimeoutExpired) as error:
                lines, said = [], str(error)
            if len(lines) != needs["gpu_count"]:
                raise Refusal(f"{needs['gpu_count']} GPUs were rented; nvidia-smi says: {said.strip()[:300]}")

    def unpack(self) -> None:
        """Lay out the recipe's bundle as every run has it."""
        for folder in self.order["folders"]:
            os.makedirs(self.path(folder), exist_ok=True)
        for item in self.tar.getmembers():
            if item.name.startswith("run/") and item.isdir():
                os.makedirs(self.path(item.name), exist_ok=True)
            elif item.name.startswith("run/") and item.isfile():
                file = self.tar.extractfile(item)
                assert file is not None
                place(self.path(item.name), file.read(), 0o755 if item.mode & 0o100 else 0o644)

    def fetch(self, step: dict[str, Any]) -> None:
        """Carry out one order of the fetcher, again while its trouble may pass; raises Refusal."""
        best, until, pause = 0, time.monotonic() + PATIENCE, 1.0
        while True:
            done, failed, code = self.fetch_once(step)
            if code == 0 and not failed:
                return
            if done > best:
                best, until = done, time.monotonic() + PATIENCE
            final = any(one.get("code") in self.order["definite"] for one in failed)
            if final or time.monotonic() > until:
                words = [f"{step['files'][one['id']]}: {one.get('message')} ({one.get('code')})" for one in failed[:5]]
                raise Refusal(f"the {step['what']} cannot be fetched: {'; '.join(words) or f'the fetcher ended with {code}'}")
            time.sleep(pause)
            pause = min(30.0, pause * 2)

    def fetch_once(self, step: dict[str, Any]) -> tuple[int, list[dict[str, Any]], int]:
        """Run the fetcher; returns the bytes that are there, what failed, and its exit code."""
        done, failed = 0, []
        process = subprocess.Popen(
            ["sh", "-c", step["command"]], stdin=subprocess.PIPE, stdout=subprocess.PIPE, preexec_fn=as_others, cwd=self.workspace
        )
        threading.Thread(target=feed, args=(process, self.member(step["stdin"])), daemon=True).start()
        assert process.stdout is not None
        for line in process.stdout:
            event = loads(line)
            if event.get("event") == "failed":
                failed.append(event)
            elif event.get("event") == "file" and event["id"] in step["unread"]:
                self.sha256[step["files"][event["id"]]] = event["sha256"]
            elif event.get("event") in ("progress", "done"):
                done = int(event.get("done", 0))
            self.say(f"{done} bytes of the {step['what']} are there")
        return done, failed, process.wait()

    def start_job(self) -> None:
        """Start the job once, by the program that starts it on every pod; raises Refusal."""
        job = self.order["job"]
        script = job["script"].encode()
        secrets = "".join(f"export {name}={shlex.quote(value)}\n" for name, value in self.secrets["job"].items())
        stdin = base64.b64encode(secrets.encode()) + b"\n" + script
        text = f"job={shlex.quote(self.path('job'))}\nsize={len(script)}\n{job['start']}"
        done = subprocess.run(["sh", "-c", text], input=stdin, capture_output=True, preexec_fn=as_others, timeout=120, check=False)
        if done.stdout.strip() not in (b"started", b"already"):
            raise Refusal(f"the job cannot be started: {(done.stderr or done.stdout).decode('utf-8', 'replace').strip()[-500:]}")


def as_others() -> None:
    """Let a program that is not this one's equal die before it when memory is short."""
    with contextlib.suppress(OSError), open("/proc/self/oom_score_adj", "w") as score:
        score.write("0")


def feed(process: subprocess.Popen[bytes], body: bytes) -> None:
    """Give a program its input."""
    assert process.stdin is not None
    with contextlib.suppress(OSError), process.stdin as stdin:
        stdin.write(body)


def own_ids() -> list[str]:
    """Return what this pod may be called by its cloud, as the create request tells it to the watchdog."""
    try:
        endings = json.loads(os.environ.get("TRAINYARD_ENDINGS", "[]"))
        return [os.environ[one["id"]] for one in endings if one.get("id") in os.environ]
    except (ValueError, TypeError, LookupError, AttributeError):
        return []


def place(path: str, body: bytes, mode: int = 0o600) -> None:
    """Write a file in one step, with its folders."""
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path + ".new", "wb") as file:
        file.write(body)
    os.chmod(path + ".new", mode)
    os.replace(path + ".new", path)


def loads(body: bytes) -> dict[str, Any]:
    """Return a JSON object, an empty one for anything else."""
    try:
        value = json.loads(body)
    except ValueError:
        return {}
    return value if isinstance(value, dict) else {}
