"""Any error as one that a person can read; what is a fault of ours keeps its traceback in a file."""

from __future__ import annotations

import os
import sys
import tempfile
import time
import traceback
from collections.abc import Callable
from pathlib import Path

from trainyard.errors import Detached, OwnFault, StillThere, TrainyardError, disk_full, outside
from trainyard.secret import hide


def readable(error: BaseException, logs: Callable[[], Path]) -> TrainyardError:
    """Return the error itself, what the outside did in a sentence, or a fault of ours that names where its traceback is.

    ``logs`` gives the folder for it and may fail: then it goes to the system's folder for temporary files, else into
    the message.
    """
    if isinstance(error, (StillThere, Detached)):
        return error  # what costs money is told, whatever it came from
    if (full := disk_full(error)) is not None:
        return full  # whatever stands between it and us
    if isinstance(error, TrainyardError):
        return error
    known = outside(error)
    if known is not None:
        if isinstance(error, UnicodeError):
            known.hint = _keep_traceback(error, logs)
        return known
    return OwnFault(f"a fault of Trainyard itself: {type(error).__name__}: {error}\n{_keep_traceback(error, logs)}")


def _keep_traceback(error: BaseException, logs: Callable[[], Path]) -> str:
    text = hide(" ".join(sys.argv) + "\n\n" + "".join(traceback.format_exception(error)))
    name = f"fault-{time.strftime('%Y%m%d-%H%M%S')}-{os.getpid()}.txt"
    for folder in (logs, lambda: Path(tempfile.gettempdir())):
        try:
            path = folder() / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8", errors="backslashreplace")
        except OSError:
            continue
        return f"its traceback is in {path}"
    return text.rstrip("\n")
