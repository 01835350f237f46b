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
