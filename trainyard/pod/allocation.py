"""What makes a cluster's allocation a pod: commands come in, the job outlives them, and the lease's end can be told.

A Slurm job has no sshd, and what a step of it starts dies with that step. So this program runs as long as the job, in its
batch script: a step's ``enter`` hands it a command with the step's own streams, and the command runs as its child. Only the
same user is let in. It also is the pod's socket for the watchdog, which ends the job through it.

    python3 allocation.py serve          in the batch script; ends with the job. $POD_BOOT: sh that starts the watchdog
    python3 allocation.py enter COMMAND  in a step: run the words there, end with their exit code (125: nobody lets it in)

Standard library only, Python 3.8 or newer: on the nodes of a cluster there may be nothing else. What the cluster has put back
into the queue and begun anew goes on by itself: the job's supervisor is started once more, with the newest checkpoint.
"""

from __future__ import annotations

import array
import contextlib
import ctypes
import fcntl
import glob
import json
import os
import select
import shutil
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, MutableMapping, Sequence

PR_SET_CHILD_SUBREAPER = 36
NOBODY = 125
"""What ``enter`` ends with when the pod is not there (yet): nothing was run."""
BOOTING = 60.0
"""Seconds that ``enter`` waits for the batch script of a job that has just begun."""
LONGEST = 1 << 20
"""Bytes of a command that is handed over."""
FOLDER = ".trainyard"
RESUME = "TRAINYARD_RESUME"
OF_THIS_START = ("SLURM_", "CUDA_", "ROCR_", "NVIDIA_", "GPU_", "MASTER_", "TRAINYARD_", "TMPDIR", "HOSTNAME")
"""How variables begin that the cluster gives anew: another node, other GPUs."""


def main(words: Sequence[str]) -> int:
    """Serve a job, or enter it."""
    if words[:1] == ["serve"]:
        return Allocation(os.environ).serve()
    return enter(os.environ, words[1:])


def socket_name(env: Mapping[str, str]) -> str:
    """Return the name under which commands are taken, of this job alone."""
    return "\0trainyard-allocation-{}-{}".format(os.getuid(), env.get("SLURM_JOB_ID", ""))


def enter(env: Mapping[str, str], words: Sequence[str]) -> int:
    """Let the words run in the job, with the streams of this process; return their exit code."""
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    until = time.time() + BOOTING
    while True:
        try:
            connection.connect(socket_name(env))
            break
        except OSError:
            if time.time() > until:
                sys.stderr.write("the job takes no commands\n")
                return NOBODY
            time.sleep(0.1)
    if peer(connection) != os.getuid():
        sys.stderr.write("somebody else answers for the job\n")
        return NOBODY
    text = json.dumps(words).encode()
    streams = array.array("i", [0, 1, 2])
    connection.sendmsg([struct.pack("!I", len(text))], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, streams)])
    connection.sendall(text)
    code = connection.recv(1)
    return code[0] if code else NOBODY


def peer(connection: socket.socket) -> int:
    """Return the user at the other end."""
    user: int = struct.unpack("3i", connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i")))[1]
    return user


class Allocation:
    """One job of the cluster, from its first second to its last."""

    def __init__(self, env: MutableMapping[str, str]) -> None:
        self.env = env
        self.workspace = env["WORKSPACE"]
        self.folder = os.path.join(self.workspace, FOLDER)
        self.restart = int(env.get("SLURM_RESTART_COUNT") or 0)
        self.running: dict[int, tuple[subprocess.Popen[bytes], socket.socket]] = {}
        self.leaving = False
        self.over = ""
        self.steps: socket.socket | None = None
        self.wake, self.woken = os.pipe()

    def serve(self) -> int:
        """Take commands until the lease is over, the watchdog says so or the cluster wants the nodes back."""
        with contextlib.suppress(OSError, AttributeError):
            ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
        for end in (self.wake, self.woken):
            os.set_blocking(end, False)
        signal.set_wakeup_fd(self.woken)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(number, self.leave)
        self.pod = listen(os.path.join(tempfile.mkdtemp(prefix="ty-"), "pod"))
        self.env["TRAINYARD_POD_SOCKET"] = self.pod.getsockname()
        self.go_on()
        boot = self.env.pop("POD_BOOT", "")
        if boot:
            subprocess.call(["sh", "-c", boot], stdin=subprocess.DEVNULL)
        self.steps = listen(socket_name(self.env))
        self.write("ready", "{}.{}".format(self.env.get("SLURM_JOB_ID", ""), self.restart))
        while not self.over:
            self.look()
        self.write("ended", self.over)
        end_children()
        if not self.uncommitted():
            shutil.rmtree(self.workspace, ignore_errors=True)
            with contextlib.suppress(OSError, KeyError):
                os.remove(self.env["POD_LOG"])
        return 0

    def leave(self, *_: object) -> None:
        """Take no more commands: the cluster has told all that runs here to end. A job may save as long as it lets it."""
        if not self.leaving:
            self.leaving = True
            if self.job_runs():
                self.write("told-by-cluster", str(int(time.time())))

    def look(self) -> None:
        """Wait for something to do, and do it."""
        if self.leaving and self.steps is not None:
            self.steps.close()
            self.steps = None
        if self.leaving and not self.job_runs():
            self.over = "ended by the cluster"
            return
        doors = [door for door in (self.pod, self.steps) if door is not None]
        wakers: list[socket.socket | int] = [*doors, self.wake]
        ready, _, _ = select.select(wakers, [], [], 0.5 if self.leaving else 30)
        if self.wake in ready:
            with contextlib.suppress(OSError):
                os.read(self.wake, 4096)
        self.reap()
        for door in doors:
            if door in ready:
                with contextlib.suppress(OSError, ValueError):
                    connection, _ = door.accept()
                    connection.settimeout(5)
                    (self.let_in if door is self.steps else self.answer)(connection)

    def let_in(self, connection: socket.socket) -> None:
        """Run what a step hands over, with that step's streams."""
        if peer(connection) != os.getuid():
            connection.close()
            return
        streams = array.array("i")
        head, more, _, _ = connection.recvmsg(4, socket.CMSG_SPACE(3 * streams.itemsize))
        for level, kind, data in more:
            if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
                streams.frombytes(data[: len(data) - len(data) % streams.itemsize])
        try:
            words = json.loads(receive(connection, struct.unpack("!I", head)[0]).decode())
            child = subprocess.Popen(
                words, stdin=streams[0], stdout=streams[1], stderr=streams[2], env=dict(self.env),
                cwd=self.env.get("HOME"), start_new_session=True,
            )  # fmt: skip
            self.running[child.pid] = (child, connection)
        except (OSError, ValueError, IndexError, TypeError, struct.error):
            connection.close()
        finally:
            for stream in streams:
                os.close(stream)

    def answer(self, connection: socket.socket) -> None:
        """Be the pod's socket: ``end REASON`` ends the job, ``lease`` tells stop and end, an empty line only that somebody listens."""
        with contextlib.closing(connection):
            if peer(connection) != os.getuid():
                return
            line = connection.makefile().readline().strip()
            if line.startswith("end"):
                self.over = line[4:] or "ended"
            elif line == "lease":
                connection.sendall(json.dumps({"stop": epoch(self.env, "STOP"), "end": epoch(self.env, "END")}).encode() + b"\n")

    def reap(self) -> None:
        """Tell steps how their commands have ended, and collect whatever else has."""
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if not pid:
                return
            if pid not in self.running:
                continue
            child, connection = self.running.pop(pid)
            child.returncode = os.WEXITSTATUS(status) if os.WIFEXITED(status) else 128 + os.WTERMSIG(status)
            with contextlib.suppress(OSError), connection:
                connection.sendall(bytes([child.returncode]))

    def job_runs(self) -> bool:
        """Tell whether the training runs: its lock is held."""
        try:
            with open(os.path.join(self.workspace, "job", "lock")) as lock:
                fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except FileNotFoundError:
            return False
        except OSError:
            return True
        return False

    def uncommitted(self) -> bool:
        """Tell whether something lies here that was not committed: then the folder stays when the job has ended."""
        output = os.path.join(self.workspace, "output")
        if any(os.path.exists(mark) for mark in (os.path.join(self.folder, "committed"), os.path.join(output, "_POD_COMMITTED"))):
            return False
        return os.path.isdir(os.path.join(self.workspace, "job")) or any(files for _, _, files in os.walk(output))

    def go_on(self) -> None:
        """Start the training once more when the cluster has begun the job anew and it had not come to its own end."""
        job, mark = os.path.join(self.workspace, "job"), os.path.join(self.folder, "told-by-cluster")
        ended = os.path.exists(os.path.join(job, "exit")) and not os.path.exists(mark)
        with contextlib.suppress(OSError):
            os.remove(mark)
        if not self.restart or ended or not os.path.exists(os.path.join(job, "environment")):
            return
        with contextlib.suppress(OSError):
            os.replace(os.path.join(job, "exit"), os.path.join(job, "exit.tmp"))
        newest = newest_checkpoint(self.workspace)
        env = {**saved_environment(job), **{name: value for name, value in self.env.items() if name.startswith(OF_THIS_START)}}
        env.update({RESUME: newest} if newest else {})
        where = "from " + os.path.basename(newest) if newest else "from its beginning"
        with open(os.path.join(job, "log"), "ab") as log:
            log.write(f"\ntrainyard: the cluster has begun this job anew ({self.restart}); the training goes on {where}\n".encode())
        start = "exec 9>lock; flock -w 60 9 && setsid sh ./supervisor </dev/null >/dev/null 2>&1 &"
        subprocess.call(["sh", "-c", start], cwd=job, env=env, stdin=subprocess.DEVNULL)

    def write(self, name: str, text: str) -> None:
        """Leave a word for who looks into the folder."""
        with contextlib.suppress(OSError):
            path = os.path.join(self.folder, name)
            with open(path + ".tmp", "w") as file:
                file.write(text + "\n")
            os.replace(path + ".tmp", path)


def listen(name: str) -> socket.socket:
    """Return a socket that waits under a name."""
    door = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    door.bind(name)
    door.listen(32)
    return door


def receive(connection: socket.socket, size: int) -> bytes:
    """Return so many bytes; raises ValueError when fewer come, or too many were announced."""
    data = b""
    while len(data) < size <= LONGEST:
        piece = connection.recv(size - len(data))
        if not piece:
            break
        data += piece
    if len(data) != size:
        raise ValueError("cut off")
    return data


def epoch(env: Mapping[str, str], name: str) -> float | None:
    """Return a moment of the lease in epoch seconds, None where it has none."""
    text = env.get("POD_" + name, "")
    return float(text) if text.isdigit() else None


def saved_environment(job: str) -> dict[str, str]:
    """Return the environment that a job was started with."""
    with open(os.path.join(job, "environment"), "rb") as file:
        pairs = (item.partition(b"=") for item in file.read().split(b"\0") if item)
        return {os.fsdecode(name): os.fsdecode(value) for name, _, value in pairs}


def newest_checkpoint(workspace: str) -> str:
    """Return the newest checkpoint that the recipe calls complete, an empty text when there is none."""
    try:
        with open(os.path.join(workspace, "run", "recipe.json")) as file:
            said = json.load(file)
        pattern, mark = said.get("checkpoints"), said.get("checkpoint_mark")
    except (OSError, ValueError, AttributeError):
        return ""
    output = os.path.join(workspace, "output")
    places = glob.glob(os.path.join(output, pattern)) if pattern else []
    whole = [place for place in places if not mark or os.path.exists(os.path.join(place, mark))]
    return max(whole, key=os.path.getmtime) if whole else ""


def end_children() -> None:
    """End all that was started here: where a cluster does not track processes by cgroup, a daemon would stay."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        until = time.time() + (1 if number == signal.SIGTERM else 3)
        while time.time() < until:
            left = children(os.getpid())
            for pid in left:
                with contextlib.suppress(OSError):
                    os.kill(pid, number)
            with contextlib.suppress(ChildProcessError):
                while os.waitpid(-1, os.WNOHANG)[0]:
                    pass
            if not left:
                return
            time.sleep(0.1)


def children(pid: int) -> list[int]:
    """Return all processes below one."""
    below: dict[int, list[int]] = {}
    for name in os.listdir("/proc"):
        if name.isdigit():
            with contextlib.suppress(OSError, ValueError, IndexError), open(f"/proc/{name}/stat") as file:
                state, parent = file.read().rpartition(")")[2].split()[:2]
                if state != "Z":
                    below.setdefault(int(parent), []).append(int(name))
    below_it, todo = [], [pid]
    while todo:
        for child in below.get(todo.pop(), []):
            below_it.append(child)
            todo.append(child)
    return below_it


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
