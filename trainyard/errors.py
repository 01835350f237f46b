"""The errors a person can meet, each with the exit code that scripts can rely on.

TrainyardError
├── UserError            2  a setting, recipe, playbook, data file or argument is wrong (says file:line:col)
├── RefusedError         3  a limit, a consent or a guarantee forbids it; nothing was created
│   └── LimitReached        a spending limit: another day, or another limit, may allow it
├── CloudError           4  the cloud said no, or could not be reached
│   ├── NoCapacity          definite: this offer is not to be had; the next one may be tried
│   ├── CloudRefused        definite: nothing was created (bad request, bad key, no balance)
│   └── CloudUnknown        no definite answer: something may have been created or may still exist
│       └── UnwantedPod     a create was refused, and a pod was made all the same
├── Unreachable          5  the pod does not answer over SSH (never used for a failed command)
│   ├── HostKeyChanged      the pod presents another host key than the pinned one
│   └── HostKeyUnknown      a machine presents a host key, and nothing tells which it shall be
├── BootFailed           5  a pod did not come up; it still exists, and another offer may do better
├── StillThere           6  something may still run and cost money; the message names it and the way to retry
├── StoreError           7  the bucket refused, or what arrived is not what was sent
│   ├── PodCannotUpload     the pod cannot send to this bucket by itself: the way over SSH is left
│   └── ForeignResult       definite: under this run's key lies the result of another run, which is left alone
├── Busy                 8  another living process holds the lock
├── EngineError          9  the Pulumi program or a provider failed
├── PodFailed           10  the pod answers, but cannot do what is needed (disk full, a tool missing, a check failed)
├── Detached            11  the person left; the training goes on and costs money
├── OwnFault            70  a fault of Trainyard itself; the traceback is kept in a file
└── DiskFull            74  a disk of this machine is full; what runs on a pod goes on

A training that failed by its own verdict (1) is no error of ours: the run's summary tells it.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from trainyard.secret import hide


@dataclass(frozen=True, slots=True)
class Location:
    """A place in a text file, counted from 1."""

    file: str
    line: int
    column: int = 1
    text: str | None = None

    def __str__(self) -> str:
        return f"{self.file}:{self.line}:{self.column}"


class TrainyardError(Exception):
    """Base of every error that is shown to a person without a traceback."""

    exit_code = 1

    def __init__(
        self, message: str, *, where: Location | None = None, hint: str | None = None, facts: Mapping[str, object] | None = None
    ) -> None:
        self.message = hide(message)
        super().__init__(self.message)
        self.where = where
        self.hint = hint and hide(hint)
        self.facts = dict(facts or {})

    def __str__(self) -> str:
        return render(self)

    def __reduce__(self) -> tuple[Any, ...]:
        # As it stands, not by its class's arguments: a pool of processes hangs on an error that it cannot read.
        return _unpickled, (type(self), self.args, self.__dict__)


def _unpickled(kind: type[TrainyardError], args: tuple[object, ...], state: Mapping[str, object]) -> TrainyardError:
    error = kind.__new__(kind, *args)
    error.__dict__.update(state)
    return error


class UserError(TrainyardError):
    """Something the user wrote or typed is wrong."""

    exit_code = 2


class SeveralWrong(UserError):
    """Several mistakes that are told as one; ``parts``: each of them."""

    def __init__(self, message: str, *, where: Location | None, hint: str, parts: Sequence[UserError]) -> None:
        super().__init__(message, where=where, hint=hint)
        self.parts = tuple(parts)


class UnknownRun(UserError):
    """No record here is of the run that a person means by ``reference``."""

    def __init__(self, message: str, *, reference: str, hint: str) -> None:
        super().__init__(message, hint=hint)
        self.reference = reference


class RefusedError(TrainyardError):
    """A limit, a consent or a guarantee forbids it; nothing was created."""

    exit_code = 3


class NotInResult(UserError):
    """What a run is to take of another's result is not in it: no waiting mends that."""


class LimitReached(RefusedError):
    """A spending limit forbids it now. ``most``: dollars that it may add; ``ever``: the limit would allow that on another day."""

    def __init__(self, message: str, *, hint: str, most: float, ever: bool) -> None:
        super().__init__(message, hint=hint)
        self.most, self.ever = most, ever


class CloudError(TrainyardError):
    """The cloud said no, or could not be reached."""

    exit_code = 4


class NoCapacity(CloudError):
    """This offer is definitely not to be had; the next one may be tried."""


class CloudRefused(CloudError):
    """The cloud definitely created nothing."""


class CloudUnknown(CloudError):
    """No definite answer: what was asked may or may not have happened."""


class UnwantedPod(CloudUnknown):
    """The cloud refused a create, and made the pod ``pod_id`` all the same: it costs money until it is ended."""

    def __init__(self, message: str, pod_id: str) -> None:
        super().__init__(message)
        self.pod_id = pod_id


class Unreachable(TrainyardError):
    """The pod does not answer; says nothing about what runs on it."""

    exit_code = 5


class KeyRefused(Unreachable):
    """The pod answers, and refuses this SSH key: trying again changes nothing."""


class HostKeyChanged(Unreachable):
    """Another host key than the pinned one: no byte is exchanged."""


class HostKeyUnknown(Unreachable):
    """A host key of which nothing tells whether it is the machine's: trying again changes nothing."""


class BootFailed(TrainyardError):
    """A pod did not come up. Facts: ``pod``, ``phase``, ``hosts_fault`` (the machine may be to blame), ``lease_over``."""

    exit_code = 5


class StillThere(TrainyardError):
    """Something may still run and cost money."""

    exit_code = 6


class StoreError(TrainyardError):
    """The bucket refused, or what arrived is not what was sent.

    ``code`` is the store's own word (empty when it said none); ``passing``: the same request may succeed in a moment.
    """

    exit_code = 7

    def __init__(
        self, message: str, *, where: Location | None = None, hint: str | None = None, facts: Mapping[str, object] | None = None,
        code: str = "", passing: bool = False,
    ) -> None:  # fmt: skip
        super().__init__(message, where=where, hint=hint, facts=facts)
        self.code = code
        self.passing = passing


class PodCannotUpload(StoreError):
    """The pod cannot send to this bucket by itself (no presigned URLs, not reachable, no Python): fetch over SSH."""


class ForeignResult(StoreError):
    """Under this run's key lies the result of another run; nothing was written, and asking again changes nothing."""


class Busy(TrainyardError):
    """Another living process holds the lock."""

    exit_code = 8


class EngineError(TrainyardError):
    """The Pulumi program or a provider failed."""

    exit_code = 9


class PodFailed(TrainyardError):
    """The pod answers, but cannot do what is needed."""

    exit_code = 10


class Detached(TrainyardError):
    """The person left, by Ctrl-C or a signal; the training goes on and costs money."""

    exit_code = 11


class OwnFault(TrainyardError):
    """Trainyard itself is wrong (sysexits' EX_SOFTWARE)."""

    exit_code = 70


class DiskFull(TrainyardError):
    """A disk of this machine is full (sysexits' EX_IOERR)."""

    exit_code = 74


KINDS: Mapping[str, type[TrainyardError]] = {
    "user": UserError, "refused": RefusedError, "cloud": CloudError, "no-capacity": NoCapacity, "cloud-refused": CloudRefused,
    "cloud-unknown": CloudUnknown, "unreachable": Unreachable, "boot-failed": BootFailed, "still-there": StillThere, "store": StoreError,
    "busy": Busy, "engine": EngineError, "pod-failed": PodFailed, "disk-full": DiskFull,
}  # fmt: skip
"""The names under which errors travel from process to process."""


def kind_of(error: BaseException) -> str:
    """Return the name of an error's nearest class that has one; what is not of this tree is the engine's.

    A full disk behind it comes first: whoever met it said what it kept from being done.
    """
    if disk_full(error) is not None:
        return "disk-full"
    names = {kind: name for name, kind in KINDS.items()}
    return next((names[kind] for kind in type(error).__mro__ if kind in names), "engine")


def together(wrong: Sequence[UserError], what: str) -> UserError:
    """Return one error that tells all of them, the first with its line, each with its hint. ``what`` they are: "settings"."""
    each = [part for error in wrong for part in (error.parts if isinstance(error, SeveralWrong) else (error,))]
    first = each[0]
    if len(each) == 1:
        return first
    lines = [first.hint] if first.hint else []
    lines.append(f"{len(each)} {what} are wrong; beside this one:")
    said = {first.hint}
    for error in each[1:]:
        lines.append(f"{error.where}: {error.message}" if error.where else error.message)
        if error.hint and error.hint not in said:
            said.add(error.hint)
            lines += [f"  {line}" for line in error.hint.splitlines()]
    return SeveralWrong(first.message, where=first.where, hint="\n".join(lines), parts=each)


_SHOWN = 160
"""Letters of a line that are shown: a schema or a state may be a line of its own."""


def render(error: TrainyardError) -> str:
    """Return the error as a person reads it: place, message, the line with a caret, what to do."""
    lines = [f"{error.where}: {error.message}" if error.where else error.message]
    if error.where and error.where.text is not None:
        text, column = error.where.text.rstrip("\n"), error.where.column - 1
        start = max(0, column - _SHOWN // 2) if len(text) > _SHOWN else 0
        cut = ("..." if start else "") + text[start : start + _SHOWN] + ("..." if len(text) > start + _SHOWN else "")
        lines += ["  " + cut, "  " + " " * (column - start + (3 if start else 0)) + "^"]
    if error.hint:
        lines.append(error.hint)
    return "\n".join(lines)


def in_short(error: BaseException) -> str:
    """Return what went wrong without its place and hint, to stand inside another sentence."""
    return error.message if isinstance(error, TrainyardError) else str(error)


def outside(error: BaseException) -> TrainyardError | None:
    """Return what a file, a disk, a network or a text did as an error that a person can act on, None for a fault of ours."""
    if (full := disk_full(error)) is not None:
        return full
    if isinstance(error, MemoryError):
        return UserError("the memory of this machine is used up")
    if isinstance(error, OSError) and error.strerror:
        names = (error.filename, error.filename2)
        where = " -> ".join(_printable(name) for name in names if isinstance(name, (str, bytes, os.PathLike)))
        return UserError(f"{where}: {error.strerror}" if where else error.strerror)
    if isinstance(error, UnicodeError):
        return UserError(f"a text is not as it should be: {error}")
    return None


def _printable(name: str | bytes | os.PathLike[str] | os.PathLike[bytes]) -> str:
    return os.fsdecode(name).encode("utf-8", "backslashreplace").decode("utf-8")


def disk_full(error: BaseException, at: str | os.PathLike[str] | None = None) -> DiskFull | None:
    """Return the error of a full disk of this machine or of a quota, None when neither is behind this one.

    ``at`` is what was being written, for an error that does not say it; of a copy it is what was written, not what was read.
    """
    seen: BaseException | None = error
    walked: set[int] = set()
    while seen is not None and id(seen) not in walked:
        walked.add(id(seen))
        if isinstance(seen, DiskFull):
            return seen
        if isinstance(seen, OSError) and seen.errno in (errno.ENOSPC, errno.EDQUOT):
            return no_space(seen.filename2 or seen.filename or at, os.strerror(seen.errno))
        seen = seen.__cause__ or seen.__context__
    return None


def no_space(written: object, said: str = os.strerror(errno.ENOSPC)) -> DiskFull:
    """Return the error of a full disk, which names the file that was being written (None: it is not known) and its disk."""
    name = _printable(written) if isinstance(written, (str, bytes, os.PathLike)) else ""
    disk = os.path.realpath(name)
    while not os.path.ismount(disk):
        disk = os.path.dirname(disk)
    where = f" on the disk at {disk}" if name else ""
    return DiskFull(
        f"{said}{f': {name}' if name else ''}", hint=f"Free some space{where}, then say it again; nothing that was done is lost."
    )
