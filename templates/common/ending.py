"""How a job that is no training begins and ends: its output, its result, and what it says of its end."""

from __future__ import annotations

import hashlib
import json
import os
import sys
import traceback
from collections.abc import Callable
from typing import Any

from models import Refused
from telemetry import Status

OUTPUT_DIR = os.environ["OUTPUT_DIR"]
_STEP = 1 << 20


def values() -> dict[str, Any]:
    """Return the values of the recipe's variables."""
    with open(os.path.join(os.environ["RUN_DIR"], "config.json"), encoding="utf-8") as file:
        found: dict[str, Any] = json.load(file)
    return found


def ended(name: str, work: Callable[[Status], str], *refused: type[Exception]) -> int:
    """Do ``work``, say the line that it returns or why there is none; return the exit code: 0 done, 2 wrong input, 1 failed.

    Wrong input is what ends with Refused, or with one of ``refused``.
    """
    status = Status(OUTPUT_DIR)
    wrong: tuple[type[Exception], ...] = (Refused, *refused)
    try:
        said = work(status)
    except wrong as error:
        message, code = str(error), 2
    except OSError as error:  # disk, network, port: it says itself what it is about
        message, code = str(error), 1
    except Exception as error:  # the traceback goes to the log, the line to status.json
        traceback.print_exc()
        message, code = f"{type(error).__name__}: {error}", 1
    else:
        status.write("done", said)
        print(f"{name}: {said}", flush=True)
        return 0
    print(f"{name}: {message}", file=sys.stderr, flush=True)
    status.write("failed", message[:2000])
    return code


def write_result(result: dict[str, Any]) -> None:
    """Write result.json, whole or not at all."""
    partial = os.path.join(OUTPUT_DIR, ".result.partial")
    with open(partial, "w", encoding="utf-8") as out:
        json.dump(result, out, indent=2)
    os.replace(partial, os.path.join(OUTPUT_DIR, "result.json"))


def sha256(path: str) -> str:
    """Return the sha256 of a file."""
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while block := file.read(_STEP):
            digest.update(block)
    return digest.hexdigest()
