"""Each mechanism has one home: whoever writes it again elsewhere is found, and what stands elsewhere says here why."""

from __future__ import annotations

import itertools
import re
from pathlib import Path

import pytest

from trainyard.pod import podprogram

ROOT = Path(__file__).resolve().parent.parent
ENGINE = "the engine serves without the rest of Trainyard, and keeps locks as the Pulumi CLI does"
STREAM = "a file that arrives in pieces, proven by its hash before it gets its name"
RECORD = "a record that is appended to, line by line"
POD = "goes to the pod, where Trainyard is not"
SUPERVISOR = "runs inside a pod's supervisor: the standard library only, by descriptors of folders"

HOMES: dict[str, tuple[str, str, dict[str, str]]] = {
    "files are replaced whole": (
        r"\bos\.(replace|link)\(",
        "files.py",
        {
            "engine/backend.py": "a removed stack keeps its last record, a state the one before it, as the Pulumi CLI does",
            "storage/staging.py": STREAM,
            "storage/versitygw.py": "a log that is moved aside",
        },
    ),
    "tars are unpacked": (r"\btar\w*\.extract(all)?\(", "tars.py", {}),
    "files are brought to the disk": (
        r"\bos\.fsync\(",
        "files.py",
        {"storage/fetch.py": STREAM, "remote/download.py": STREAM, "leases/intents.py": RECORD},
    ),
    "locks": (
        r"\bfcntl\.(flock|lockf)\(",
        "filelock.py",
        {
            "engine/locks.py": ENGINE,
            "clouds/local/record.py": SUPERVISOR + "; a lock whose holder can be asked for",
            "clouds/local/gpulocks.py": SUPERVISOR + "; a file that another user has made",
        },
    ),
    "sha256 of a file": (r"\bfile_digest\(", "files.py", {}),
    "identity of a process": (
        r"random/boot_id|/proc/\{pid\}/stat\b",
        "processes.py",
        {"engine/locks.py": ENGINE, "clouds/local/sandbox.py": SUPERVISOR},
    ),
    "a moment as a text": (
        r"%Y-%m-%dT%H:%M|\bfromisoformat\(|\bisoformat\(|\bstrptime\(",
        "clock.py",
        {
            "engine/locks.py": ENGINE,
            "rehearsal/runpod/schema.py": "judges a text by the cloud's specification",
            "api/calls.py": "a caller's date, as --since reads it",
            "playbook/filters/texts.py": "a form of the playbook's own, as to_datetime reads it",
            "playbook/actions/files.py": "a time in the form that the task names",
        },
    ),
    "growing pauses": (
        r"\b(2|2\.0|1\.5) ?\*\* ?\(?(attempt|tries|round)|(pause|step|wait) ?\* ?(2|1\.5)\b|(2|1\.5) ?\* ?(pause|step|wait)\b",
        "retries.py",
        {},
    ),
    "JSON that something outside has written": (
        r"\bjson\.loads?\(|(?<!\w)json\.loads\b",
        "jsontext.py",
        {
            "rehearsal/replicate/cogplay.py": POD,
            "recipes/rows.py": POD,
            "recipes/images.py": POD,
            "recipes/forms.py": POD,
            "recipes/preferences.py": POD,
            "engine/shim.py": "the program's own Python may have no Trainyard",
            "clouds/local/record.py": SUPERVISOR,
            "clouds/local/gpulocks.py": SUPERVISOR,
            "clouds/ssh/loader.py": "runs before any module of ours is there",
            "clouds/local/launch.py": SUPERVISOR,
            "setup/bootstrap.py": "before any package is there; what it wrote itself",
            "setup/s3server.py": "before any package is there; what Go says",
        },
    ),
    "trees of Python programs, one thread at a time": (
        r"\bast\.parse\(",
        "pythontext.py",
        {"engine/foresee.py": "before the program runs, and any thread of ours"},
    ),
    "nearest words": (r"\bget_close_matches\(", "nearest.py", {}),
    "amounts of bytes": (
        r"\b[KMG]iB\b(?!.*\b(window|argument|\d))|/ 1e9:\.1f\} GB",
        "sizes.py",
        {"recipes/rows.py": POD},
    ),
    "values of Pulumi": (r"1b47061264138c4ac30d75fd1eb44270|04da6b54-80e4-46f7", "engine/kinds.py", {}),
}


def code(path: Path) -> str:
    """Return a file without its comments and docstrings."""
    text = re.sub(r'"""(?:.|\n)*?"""', "", path.read_text(encoding="utf-8"))
    return re.sub(r"(?m)^\s*#.*$|  # .*$", "", text)


SENT = {"watchdog", "entry", "allocation", *itertools.chain.from_iterable(podprogram._MODULES.values())}
FILES = {
    path.relative_to(ROOT / "trainyard").as_posix(): code(path)
    for path in (ROOT / "trainyard").rglob("*.py")
    # Sent to a pod, where there is nothing else of ours.
    if path.parent.name != "pod" or path.stem not in SENT
}


@pytest.mark.parametrize("mechanism", HOMES)
def test_a_mechanism_has_one_home(mechanism: str) -> None:
    pattern, home, elsewhere = HOMES[mechanism]
    found = {name for name, text in FILES.items() if re.search(pattern, text)}

    assert found - {home} == set(elsewhere), "a second home, or a reason that is over"
    assert home in found or mechanism in ("growing pauses", "amounts of bytes")
