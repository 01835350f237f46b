"""A controller with trouble built in: a verb of this checkout run in a process in which chosen calls fail.

``python -m tests.faults.crossings`` is a zygote: it imports everything once, wraps each function of the rooms that a run
passes through, and forks a controller for every line of JSON that it reads. A *crossing* is the entry or the return of
such a function; a plan says at which one the trouble comes, and whether it stays.
"""

from __future__ import annotations

import errno
import faulthandler
import functools
import importlib
import inspect
import json
import os
import pkgutil
import signal
import sqlite3
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from types import FunctionType, ModuleType
from typing import Any

SAVE = "runs.records.record.RunFolder.save"
"""Where a run's phase changes."""
ROOMS = ("runs", "storage", "remote", "stacks", "clouds")
"""Where a controller's own work is done; the engine's and the provider's processes have a matrix of their own (crash)."""
_NOT = ("trainyard.clouds.local.", "trainyard.clouds.modal.", "trainyard.remote.local", "trainyard.runs.trackers.to_")
"""What runs inside of pods, and what needs an extra."""
_DUNDERS = ("__init__", "__enter__", "__exit__", "__call__")

ONCE: dict[str, Callable[[], BaseException]] = {
    "ENOSPC": lambda: OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "somewhere"),
    "EROFS": lambda: OSError(errno.EROFS, os.strerror(errno.EROFS), "somewhere"),
    "EACCES": lambda: PermissionError(errno.EACCES, os.strerror(errno.EACCES), "somewhere"),
    "EMFILE": lambda: OSError(errno.EMFILE, os.strerror(errno.EMFILE), "somewhere"),
    "EIO": lambda: OSError(errno.EIO, os.strerror(errno.EIO)),
    "ETIMEDOUT": lambda: TimeoutError(errno.ETIMEDOUT, os.strerror(errno.ETIMEDOUT)),
    "MemoryError": MemoryError,
    "KeyError": lambda: KeyError("price"),
    "AssertionError": AssertionError,
    "RecursionError": lambda: RecursionError("maximum recursion depth exceeded"),
    "thread": lambda: RuntimeError("can't start new thread"),
    "Unicode": lambda: UnicodeDecodeError("utf-8", b"\xff", 0, 1, "invalid start byte"),
    "sqlite": lambda: sqlite3.OperationalError("database is locked"),
    "json": lambda: json.JSONDecodeError("Expecting value", "", 0),
    "import": lambda: ModuleNotFoundError("No module named 'trainyard.runs.life.finish'"),
    "exit": lambda: SystemExit(1),
    "Ctrl-C": KeyboardInterrupt,
}
"""What a call raises, once."""
SIGNALS = {"INT": signal.SIGINT, "TERM": signal.SIGTERM, "HUP": signal.SIGHUP, "KILL": signal.SIGKILL}
LASTING = {
    "full": (errno.ENOSPC, "w"), "readonly": (errno.EROFS, "w"), "closed": (errno.EACCES, "rw"), "broken": (errno.EIO, "rw"),
    "handles": (errno.EMFILE, "*"),
}  # fmt: skip
"""What the disk under this checkout's own files is from a crossing on: (errno, what fails: writing, reading, everything anywhere)."""
CLOCKS = {"a day ahead": 86400.0, "a day behind": -86400.0}
TROUBLES = (*ONCE, *SIGNALS, "INT twice", *LASTING, *CLOCKS)

_WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
_CHANGES = ("os.mkdir", "os.rename", "os.remove", "os.rmdir", "os.link", "os.symlink", "os.chmod", "os.truncate", "os.utime")


class Plan:
    """Where the trouble comes in this process, and what was crossed on the way."""

    def __init__(self, phase: str = "", name: str = "", when: str = "", nth: int = 0, trouble: str = "", census: str = "") -> None:
        self.phase, self.name, self.when, self.nth, self.trouble, self.census = phase, name, when, nth, trouble, census
        self.now, self.met, self.offset = "", False, 0.0
        self.seen: Counter[tuple[str, str, str]] = Counter()
        self.lock = threading.RLock()
        self.lasting: tuple[int, str] | None = None
        self.inside = threading.local()

    def cross(self, name: str, when: str) -> None:
        """Pass a crossing; raises what the plan says for it."""
        if not self.now:
            return
        with self.lock:
            here = (self.now, name, when)
            self.seen[here] += 1
            hit = not self.met and here == (self.phase, self.name, self.when) and self.seen[here] == self.nth
            self.met = self.met or hit
        if hit:
            _mark(self.census, "met\n")
            self._strike()

    def _strike(self) -> None:
        if self.trouble in LASTING:
            self.lasting = LASTING[self.trouble]
        elif self.trouble in CLOCKS:
            self.offset = CLOCKS[self.trouble]
        elif self.trouble in SIGNALS:
            os.kill(os.getpid(), SIGNALS[self.trouble])
        elif self.trouble == "INT twice":
            os.kill(os.getpid(), signal.SIGINT)
            threading.Timer(0.05, os.kill, (os.getpid(), signal.SIGINT)).start()
        else:
            raise ONCE[self.trouble]()

    def audit(self, event: str, told: tuple[Any, ...]) -> None:
        """Refuse what a disk like that refuses."""
        if self.lasting is None or getattr(self.inside, "audit", False):
            return
        self.inside.audit = True
        try:
            number, what = self.lasting
            if event in ("open", "sqlite3.connect", "os.listdir", "os.scandir", *_CHANGES):
                path = told[0] if told and isinstance(told[0], (str, bytes, os.PathLike)) else ""
                writes = event in _CHANGES or event == "sqlite3.connect" or (event == "open" and bool(int(told[2] or 0) & _WRITES))
                if what == "*" or (_ours(path) and (writes or "r" in what)):
                    raise OSError(number, os.strerror(number), os.fsdecode(path) or None)
            elif what == "*" and event in ("socket.__new__", "subprocess.Popen"):
                raise OSError(number, os.strerror(number))
        finally:
            self.inside.audit = False


PLAN = Plan()


def _ours(path: Any) -> bool:
    text = os.path.abspath(os.fsdecode(path)) if path else ""
    return any(f"/w/{folder}" in text for folder in (".trainyard", "out"))


def _mark(path: str, text: str) -> None:
    if path:
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        os.write(handle, text.encode())
        os.close(handle)


def wrap_all() -> None:
    """Import every module of the rooms and wrap each of their functions, under all the names that it has."""
    modules = [*_modules()]
    wrapped: dict[int, FunctionType] = {}
    names: set[str] = set()
    for module in modules:
        for holder in [module, *(v for v in vars(module).values() if inspect.isclass(v) and v.__module__ == module.__name__)]:
            for key, value in list(vars(holder).items()):
                plain: Any = value.__func__ if isinstance(value, (staticmethod, classmethod)) else value
                if not _wrappable(plain, module, key):
                    continue
                name = f"{module.__name__.removeprefix('trainyard.')}.{plain.__qualname__}"
                new = wrapped.setdefault(id(plain), _wrapper(plain, name))
                names.add(name)
                if inspect.isclass(holder):
                    setattr(holder, key, type(value)(new) if value is not plain else new)
    assert SAVE in names, "the function that notes a run's phase has another name now"
    for module in [m for n, m in sys.modules.items() if n.startswith("trainyard") and m is not None]:
        for key, value in list(vars(module).items()):
            if id(value) in wrapped and inspect.isfunction(value):
                setattr(module, key, wrapped[id(value)])


def _modules() -> list[ModuleType]:
    import trainyard

    found = []
    for info in pkgutil.walk_packages(trainyard.__path__, "trainyard."):
        if info.name.split(".")[1] in ROOMS and not f"{info.name}.".startswith(_NOT):
            found.append(importlib.import_module(info.name))
    return found


def _wrappable(value: object, module: ModuleType, key: str) -> bool:
    return (
        inspect.isfunction(value)
        and value.__module__ == module.__name__
        and value.__code__.co_filename == module.__file__
        and (not key.startswith("__") or key in _DUNDERS)
    )


def _wrapper(function: FunctionType, name: str) -> Any:
    @functools.wraps(function)
    def crossed(*args: Any, **kwargs: Any) -> Any:
        PLAN.cross(name, "entry")
        result = function(*args, **kwargs)
        if name == SAVE:
            PLAN.now = str(args[1].phase)
        PLAN.cross(name, "return")
        return result

    return crossed


def serve() -> None:
    """Fork a controller for each line of stdin; answer with its pid and, when it is over, with how it ended."""
    real = time.time
    time.time = lambda: real() + PLAN.offset  # before anything keeps the clock that it finds at its import
    from trainyard.cli import commandline

    wrap_all()
    sys.addaudithook(lambda event, told: PLAN.audit(event, told))
    importlib.import_module("invoke.program")
    for line in sys.stdin:
        order = json.loads(line)
        pid = os.fork()
        if not pid:
            _become(order)
            commandline.main(order["argv"])
        print(json.dumps({"pid": pid}), flush=True)
        _, status = os.waitpid(pid, 0)
        print(json.dumps({"code": os.waitstatus_to_exitcode(status)}), flush=True)


def _become(order: dict[str, Any]) -> None:
    global PLAN
    os.setsid()
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background job is born with it ignored
    signal.signal(signal.SIGHUP, signal.SIG_DFL)
    os.chdir(order["cwd"])
    os.environ.clear()
    os.environ.update(order["env"])
    for number, path, flags in ((0, os.devnull, os.O_RDONLY), (1, order["out"], os.O_WRONLY | os.O_CREAT), (2, order["out"], 0)):
        handle = os.dup(1) if number == 2 else os.open(path, flags, 0o644)
        os.dup2(handle, number)
        os.close(handle)
    faulthandler.register(signal.SIGUSR1)  # where it hangs
    sys.argv = ["invoke", *order["argv"]]
    PLAN = Plan(**order["plan"])
    if PLAN.census and not PLAN.name:
        import atexit

        atexit.register(_write_census)


def _write_census() -> None:
    rows = [[*key, count] for key, count in sorted(PLAN.seen.items())]
    Path(PLAN.census).write_text(json.dumps(rows))


if __name__ == "__main__":
    from tests.faults import crossings

    crossings.serve()
