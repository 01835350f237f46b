"""The supervisor of one pod: its first process, its SSH door, the subreaper of its end.

Started as ``python -P -S -E`` with the standard library alone, because its start is the largest part of a pod's
start. On the first isolation level it is pid 1 of the pod's own namespaces, so its death is the death of everything in the
pod; on the second a subreaper above it does that. It holds a POSIX lock on ``alive``: by that lock, and by nothing
else, others see that the pod exists. Closing any other descriptor of that file would drop it: open it once.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import select
import signal
import sys
import time
from typing import TYPE_CHECKING, Any, NoReturn

if TYPE_CHECKING:
    from trainyard.clouds.local import doors, gpulocks, limits, sandbox
    from trainyard.clouds.local.record import LocalPod, Stop
else:
    import doors
    import gpulocks
    import limits
    import sandbox
    from record import LocalPod, Stop

NOT_MINE = 75
"""Exit status of a supervisor that did not take over the pod: its subreaper leaves the pod to whoever serves it."""


def main() -> NoReturn:
    """Start the pod whose directory is the first argument; report on the descriptor that is the second."""
    pod, report = LocalPod(sys.argv[1]), int(sys.argv[2])
    os.set_inheritable(report, False)
    # Python's own handler would let a program in the pod interrupt pid 1.
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    # From before the lock: whoever sees the lock may send it, and unhandled it would kill the pod that it is to extend.
    signal.signal(signal.SIGHUP, lambda *_: None)
    os.umask(0o022)
    forced = pod.spec.get("isolation") or ""
    if forced != "process":
        why = _start_in_namespace(pod, report)
        if not why:
            os._exit(0)
        sandbox.say(f"no namespaces: {why}")
        if forced:
            _tell(report, {"error": f"no namespaces: {why}"})
            pod.remove(why)
            os._exit(1)
    _start_under_subreaper(pod, report)


_REFUSED_BY = {
    errno.ENOSPC: ": this system allows no user namespaces (user.max_user_namespaces)",
    errno.EPERM: ": refused by AppArmor, seccomp or a container",
    errno.EACCES: ": refused by AppArmor, seccomp or a container",
}


def probe() -> str:
    """Return why the first isolation level is refused on this machine, empty when it is not: the whole sequence, in a throw-away child."""
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        for name in ("root", "home", "workspace", "tmp", "pod/etc"):
            os.makedirs(f"{folder}/{name}")

        def build() -> None:
            sandbox.build_root(folder)
            sandbox.enter_root(folder)

        return _in_namespace(build, lambda: None)


def _start_in_namespace(pod: LocalPod, report: int) -> str:
    def build() -> None:
        try:
            enter()
        except gpulocks.GpuTaken as error:
            _tell(report, {"error": str(error.strerror), "taken": True})
            raise Stop("taken") from None
        except OSError as error:
            if error.errno not in (errno.ENOSPC, errno.EDQUOT):
                pod.let_go()
                raise
            # A full disk says nothing about namespaces: no reason to fall to the other isolation level.
            _tell(report, {"error": error.strerror})
            raise Stop("gone") from None

    def enter() -> None:
        pod.lock("alive")
        pod.take_gpus()
        # Opened before, it would be the root of the mount namespace that was left.
        os.close(pod.root_fd)
        pod.root_fd = os.open("/", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        sandbox.build_root(pod.path, mask=pod.spec["mask"], binds=pod.spec["binds"], volume=pod.spec.get("volume") or "")
        sandbox.enter_root(pod.path)

    def end(reason: str) -> None:
        sandbox.kill_namespace()
        sandbox.leave_root(pod.path, pod.root_fd)
        pod.remove(reason)

    return _in_namespace(build, lambda: _live(pod, report, "namespace", end), report)


def _in_namespace(build: Any, live: Any, report: int = -1) -> str:
    """Fork twice into new namespaces; return why that failed. This process stays outside, so that it can fall back."""
    ready, say = os.pipe()
    outer = os.fork()
    if not outer:
        try:
            sandbox.unshare()
            if os.fork():
                os._exit(0)
            build()
        except Stop as stop:
            _tell(report, {"state": str(stop)})
            os.write(say, b"ok")
            os._exit(0)
        except OSError as error:
            os.write(say, f"{error.strerror or error}{_REFUSED_BY.get(error.errno or 0, '')}".encode())
            os._exit(1)
        os.write(say, b"ok")
        os.close(say)
        os.close(ready)
        live()
        os._exit(0)
    os.close(say)
    os.waitpid(outer, 0)
    answer = os.read(ready, 4096).decode()
    os.close(ready)
    return "" if answer == "ok" else answer or "the first process died"


def _start_under_subreaper(pod: LocalPod, report: int) -> NoReturn:
    """The second isolation level: a subreaper adopts what a killed supervisor leaves, the supervisor does it for a killed subreaper."""
    if os.fork():
        os._exit(0)  # Else a dead subreaper would stay a zombie of whoever created the pod.
    sandbox.become_subreaper()
    signal.signal(signal.SIGTERM, lambda *_: _kill_tree())
    try:
        pod.lock("subreaper")
        pod.take_gpus()
    except Stop as stop:
        _tell(report, {"state": str(stop)})
        os._exit(0)
    except OSError as error:
        _tell(report, {"error": str(error.strerror), "taken": isinstance(error, gpulocks.GpuTaken)})
        os._exit(0)
    subreaper = os.getpid()
    child = os.fork()
    if not child:
        _supervise(pod, report, subreaper)
    os.close(report)
    while True:
        with contextlib.suppress(ChildProcessError):
            pid, status = os.waitpid(-1, 0)
            if pid != child:
                continue
            if os.waitstatus_to_exitcode(status) == NOT_MINE:
                os._exit(0)
        _end_tree(pod, "the supervisor was killed")


def _supervise(pod: LocalPod, report: int, subreaper: int) -> NoReturn:
    def end(reason: str) -> None:
        _end_tree(pod, reason)

    signal.signal(signal.SIGTERM, lambda *_: end("the subreaper was killed"))
    sandbox.become_subreaper()
    if not sandbox.die_with_parent(signal.SIGTERM, subreaper):
        os._exit(NOT_MINE)
    sandbox.set_marker(pod.spec["marker"])
    try:
        pod.lock("alive")
    except Stop as stop:
        _tell(report, {"state": str(stop)})
        os._exit(NOT_MINE)
    _live(pod, report, "process", end)
    os._exit(0)


def _kill_tree() -> NoReturn:
    """Whoever sends the subreaper a TERM takes the pod off the list and keeps the record."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    sandbox.kill_descendants()
    os._exit(0)


def _end_tree(pod: LocalPod, reason: str) -> NoReturn:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    sandbox.kill_descendants()
    pod.remove(reason)
    os._exit(0)


def _live(pod: LocalPod, report: int, isolation: str, end: Any) -> None:
    """Open the pod's doors, say where they are, serve until it is over, end it."""
    if isolation == "namespace":
        sandbox.set_marker(pod.spec["marker"])
    sandbox.give_up_ptrace()
    os.nice(pod.spec["nice"])
    try:
        served = doors.open_doors(pod.spec, pod.path, isolation, limits.Memory(pod.spec, pod.fd))
        pod.write("port", served.address)
    except OSError as error:
        _tell(report, {"error": error.strerror or str(error)})
        end(str(error))
        return
    _tell(report, served.address)
    try:
        reason = _serve(pod, served)
    except Exception as error:
        # A supervisor that cannot go on must not leave a pod without one.
        reason = f"the supervisor failed: {error!r}"
        sandbox.say(reason)
    served.close()
    end(reason)


def _serve(pod: LocalPod, served: doors.Doors) -> str:
    """Loop over connections, deaths of children and the clocks; return why the pod is over."""
    wake, waker = os.pipe()
    os.set_blocking(waker, False)
    os.set_blocking(wake, False)
    signal.set_wakeup_fd(waker, warn_on_full_buffer=False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    poller = select.poll()
    for fd in (wake, *served.watched()):
        poller.register(fd, select.POLLIN)
    boot = _Entrypoint(pod, served)
    tick, next_look = min(float(pod.spec["tick"]), served.memory.wait()), 0.0
    while True:
        dead = _reap()
        boot.step(dead)
        served.step(set(dead))
        if time.monotonic() >= next_look:
            next_look = time.monotonic() + tick
            if not pod.is_recorded():
                return "its record was removed"
            served.memory.look()
        pod.read()
        left = pod.left()
        if left <= 0:
            return "end of the lease"
        for fd, _ in poller.poll(1000 * min(left + 0.001, tick, boot.wait(), served.wait())):
            if fd == wake:
                with contextlib.suppress(BlockingIOError):
                    os.read(wake, 4096)
                continue
            said = served.handle(fd, poller, pod.spec)
            if said is not None:
                return said


class _Entrypoint:
    """The pod's entrypoint: started once, or again a second after each exit where that is wanted."""

    def __init__(self, pod: LocalPod, served: doors.Doors) -> None:
        self.argv = pod.spec["boot"]
        self.restart = pod.spec["boot_restart"]
        self.log_fd = pod.log_fd
        self.write = pod.write
        self.null_fd = os.open("/dev/null", os.O_RDONLY | os.O_CLOEXEC)
        self.served = served
        self.pid = 0
        self.due: float | None = 0.0 if self.argv else None

    def step(self, dead: dict[int, int]) -> None:
        """Note a death (and its exit code, where it was the last), start what is due."""
        now = time.monotonic()
        if self.pid in dead:
            self.due = now + 1.0 if self.restart else None
            if not self.restart:
                with contextlib.suppress(OSError):
                    self.write("exit", {"code": dead[self.pid]})
            self.pid = 0
        if self.due is not None and now >= self.due:
            self.due = None
            try:
                self.pid = self.served.spawn(self.argv, self.null_fd, self.log_fd, self.log_fd)
            except OSError as error:
                # No room for a process now: the pod's entrypoint may be its watchdog, so it is tried again.
                sandbox.say(f"{self.argv[0]}: {error.strerror}", self.log_fd)
                self.due = now + 1.0

    def wait(self) -> float:
        """Return the seconds until something is due."""
        return 3600.0 if self.due is None else max(0.0, self.due - time.monotonic())


def _reap() -> dict[int, int]:
    """Return the children that have died, each with its exit code (as a shell counts: 128 and the signal)."""
    dead: dict[int, int] = {}
    with contextlib.suppress(ChildProcessError):
        while True:
            pid, status = os.waitpid(-1, os.WNOHANG)
            if not pid:
                break
            code = os.waitstatus_to_exitcode(status)
            dead[pid] = code if code >= 0 else 128 - code
    return dead


def _tell(report: int, answer: dict[str, Any]) -> None:
    """Report to whoever started this supervisor; it may be dead by now."""
    with contextlib.suppress(OSError):
        os.write(report, json.dumps(answer).encode())
        os.close(report)
