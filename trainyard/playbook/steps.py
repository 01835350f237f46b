"""What a task does and what came of it, as data. Actions build steps; perform.py is the one place that carries them out."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from trainyard.playbook.places import Owned, Placement
from trainyard.remote.protocol import CommandResult

Outcome = dict[str, object]
"""A plain mapping, because templates read it: changed, failed, skipped, msg, and for commands rc, stdout, stderr,
stdout_lines, stderr_lines."""


def word_changed(done: CommandResult) -> Outcome:
    """Read what most scripts of ours say: ``changed``, or nothing."""
    return {"changed": b"changed" in done.stdout.split()}


@dataclass(frozen=True, slots=True)
class CommandAction:
    """Run a command; ``creates``/``removes`` say when there is nothing to do."""

    command: str
    stdin: bytes | None = None
    chdir: str | None = None
    creates: str | None = None
    removes: str | None = None
    strip: bool = True
    """Whether the ends of lines at the end of its output are left out."""
    said: Mapping[str, object] = field(default_factory=dict)
    """What the result says beside what the command did."""
    skips: bool = False
    """Whether a task that has nothing to do is skipped, and not ok."""


@dataclass(frozen=True, slots=True)
class Script:
    """Run a script of our own, which with check=1 only says what it would do; one that ends with another code than 0 has failed."""

    text: str
    values: Mapping[str, object] = field(default_factory=dict)
    stdin: bytes | None = None
    read: Callable[[CommandResult], Outcome] = word_changed
    """Returns the task's result of what the script said."""
    decides: bool = False
    """Whether that may be a failure although the script ended with 0, or facts: nothing that comes after is sent together with it."""
    file: Path | None = None
    """A file of this machine that is its stdin."""
    hidden: Mapping[str, object] = field(default_factory=dict)
    """Those of its values that no ps of the host shall show."""


@dataclass(frozen=True, slots=True)
class Edit:
    """Change the text of a file of the host: what is there (None: nothing) goes into ``change``, what it returns is put there."""

    to: Placement
    change: Callable[[bytes | None], Edited]


@dataclass(frozen=True, slots=True)
class Gather:
    """Make a file of the files in a folder of the host: what they hold, by name, goes into ``make``, what it returns is put there."""

    src: str
    to: Placement
    make: Callable[[Mapping[str, bytes]], bytes]


@dataclass(frozen=True, slots=True)
class Edited:
    """A file's new content (None: it stays as it is), and what else belongs into the task's result."""

    data: bytes | None
    result: Mapping[str, object] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Wait:
    """Run a script of our own that comes to its end when what is waited for is there."""

    text: str
    values: Mapping[str, object]
    what: str
    timeout: float
    message: str | None = None
    """What is said when it was in vain."""


@dataclass(frozen=True, slots=True)
class AwaitHost:
    """Wait until the host answers."""

    timeout: float
    delay: float
    pause: float


@dataclass(frozen=True, slots=True)
class Pause:
    """Do nothing for a while."""

    seconds: float


@dataclass(frozen=True, slots=True)
class PutFile:
    """Make a file a copy of a local one that is too big to be sent in vain."""

    src: Path
    to: Placement


@dataclass(frozen=True, slots=True)
class PutTree:
    """Make a folder hold the files of a local one; ``store``: a folder of the host that keeps files by their sha256."""

    src: Path
    path: str
    store: str | None = None
    owned: Owned = field(default_factory=Owned)
    """Of its files; "preserve" as a mode gives each the one that it has here."""
    directory_mode: str = ""
    links: bool = False
    """Whether links stay links; else what they lead to is copied."""
    force: bool = True
    excludes: tuple[str, ...] = ()
    """Patterns of what is left alone."""
    delete: bool = False
    """Whether what is only there is removed."""
    top: str = ""
    """The folder's own name, for patterns that stand at the top of what is copied."""


@dataclass(frozen=True, slots=True)
class Get:
    """Fetch a file or a folder."""

    path: str
    dest: Path
    sha256: str | None = None
    needed: bool = True
    """Whether it is a failure that nothing is there."""
    name: str = ""
    """What it is called in a folder here, when ``dest`` is one or it is a folder itself."""
    excludes: tuple[str, ...] = ()
    delete: bool = False
    """Whether what is only here is removed."""


@dataclass(frozen=True, slots=True)
class BucketObject:
    """Bring an object of a bucket to the host, a file of the host into the bucket, or list objects."""

    mode: str
    bucket: str
    key: str
    to: Placement
    store: str | None = None
    overwrite: str = "different"
    sha256: str | None = None


@dataclass(frozen=True, slots=True)
class Job:
    """Start, wait for, stop, or ask about a job."""

    verb: Literal["start", "wait", "stop", "status"]
    folder: str
    command: str = ""
    env: Mapping[str, object] = field(default_factory=dict)
    keeps: tuple[str, ...] = ()
    """Variables of the login that the job gets beside those every job has."""
    timeout: float | None = None
    grace: float = 30.0


@dataclass(frozen=True, slots=True)
class Say:
    """Show a message or a value."""

    message: object
    quiet: bool = False
    """Whether the run is not verbose enough for it."""


@dataclass(frozen=True, slots=True)
class SetFacts:
    """Keep values for the rest of the run; those of include_vars are ``weak``: what is registered counts before them."""

    values: Mapping[str, object]
    weak: bool = False


@dataclass(frozen=True, slots=True)
class AssertAction:
    """Hold when everything that was asserted is true."""

    failed: tuple[str, ...]
    fail_message: str | None = None
    success_message: str | None = None


Step = (
    CommandAction | Script | Edit | Gather | Wait | AwaitHost | Pause | PutFile | PutTree | Get | BucketObject | Job | Say | SetFacts
    | AssertAction
)  # fmt: skip
