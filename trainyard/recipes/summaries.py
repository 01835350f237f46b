"""What is kept of a run's variables, data and code, in a format that other versions read, too.

Loads nothing: records are read by every command.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Value = str | int | float | bool | list[str] | None
Values = dict[str, Value]
"""The variables of a run by name."""


@dataclass(frozen=True, slots=True)
class DataFile:
    """One file: where it comes from, its name under input/, its sha256 (None: known only on the pod).

    ``etag`` and ``version`` are a store's words for the bytes of an object that is read where it lies.
    """

    src: str
    dest: str
    sha256: str | None
    bytes: int
    rows: int
    etag: str = ""
    version: str = ""


DataKind = Literal["none", "file", "folder", "s3", "url", "hf"]
"""s3: objects of a bucket, gs:// too, read where they lie. url: a file of the web."""


@dataclass(frozen=True, slots=True)
class PodDeletion:
    """The end of a pod's disk, with what was sent to it; None: not proved. A moment is UTC text."""

    pod_id: str
    gone_at: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class DataDeletion:
    """What has become of the files that a run sent, once it has ended. Moments are UTC text."""

    proved_at: str | None = None
    """When the cloud's proof that no pod is left was had."""
    pods: tuple[PodDeletion, ...] = ()
    bucket: str | None = None
    """Where the indexes and what they name lie; None: nothing of it was left in a bucket."""
    indexes: tuple[str, ...] = ()
    gone_by: str | None = None
    """When a rule has removed them at the latest, unless another run uses them; None: no rule does."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DataSummary:
    """What is kept of a run's data: where they come from and what they are, in a format that other versions read, too."""

    reference: str | None = None
    kind: DataKind = "none"
    form: str | None = None
    rows: int = 0
    bytes: int = 0
    files: tuple[DataFile, ...] = ()
    skipped_rows: int = 0
    unused: tuple[str, ...] = ()
    stored: str | None = None
    """The sha256 of the index under ``data/`` in the run's bucket by which a pod finds them; None: they went another way."""
    in_bucket: str | None = None
    """The same of data that went over SSH, and lie there for who goes on with the run elsewhere."""
    expire_days: int | None = None
    """After how many days the stack's rules remove them there; None: never."""
    deleted: DataDeletion | None = None
    since: str | None = None
    """The attempt whose data are left out, where only newer ones were asked for."""
    there: tuple[DataFile, ...] = ()
    """Then all that lay there, for the run after it."""


NO_DATA = DataSummary()


@dataclass(frozen=True, slots=True)
class CodeSummary:
    """What is kept of a run's code: where it was, git's word for it, what all of it is; a format that other versions read, too."""

    folder: str
    commit: str | None
    sha256: str
    files: int
    bytes: int
    stored: str | None = None
    """As of data."""
