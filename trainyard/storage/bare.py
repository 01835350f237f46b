"""A pod without Python: what the uploader's scan says is put together from find, wc and sha256sum."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Sequence
from typing import Any

from trainyard.errors import PodFailed, StoreError
from trainyard.pod.files import compile_outputs, compile_pattern, is_output, name_problem, printable
from trainyard.remote.protocol import Transport, expect, with_values
from trainyard.shellscript import load
from trainyard.storage.manifest import RESERVED, Keep

OWN = ("status.json", "metrics.jsonl")
"""What a run itself writes into its output folder."""
MOVE_THEM = "With invoke ssh they can be moved to where a pattern finds them; then attach goes on."


def listed(transport: Transport, root: str, outputs: Sequence[str], excludes: Sequence[str], keep: Keep | None) -> dict[str, Any]:
    """Do with a shell and sha256sum on the pod what the scan does, CRC32s apart; links are not followed, but named."""
    patterns = compile_outputs(list(outputs))
    unwanted = [compile_pattern(pattern, True) for pattern in excludes]
    files: list[dict[str, Any]] = []
    left_out: list[dict[str, Any]] = []
    lines = [
        line.split(b" ", 2)
        for line in _answer(transport, with_values(load(__package__, "list_output"), root=root), b"").split(b"\0")
        if line
    ]
    seen = [(kind, int(size), raw.decode("utf-8", "surrogateescape")) for kind, size, raw in lines]
    checkpoints = _newest_named([path for _, _, path in seen], keep)
    for kind, size, path in seen:
        why, asked = None, False
        if any(pattern.match(path) for pattern in unwanted):
            why = "excluded"
        elif not path.startswith(tuple(f"{folder}/" for folder in checkpoints)) and not is_output(path, patterns):
            why = "no output pattern"
        else:
            why, asked = _untaken(kind, path), True
        if why is None:
            files.append({"path": path, "size": size, "source": posixpath.join(root, path)})
        else:
            left_out.append({"path": printable(path), "size": size, "why": why, "wanted": asked})
    if not files and keep is None and any(entry["path"] not in OWN for entry in left_out):
        raise StoreError(f"no file in {root} matches the outputs ({', '.join(outputs)})", hint=MOVE_THEM)
    files.sort(key=lambda file: str(file["path"]))
    names = b"".join(str(file["path"]).encode() + b"\0" for file in files)
    sums = _answer(transport, with_values(load(__package__, "sum_output"), root=root), names).split(b"\n") if files else []
    for file, line in zip(files, sums, strict=False):
        file["sha256"] = line[:64].decode("ascii", "replace")
    return {"files": files, "left_out": left_out, "unreadable": [], "checkpoints": checkpoints}


def _untaken(kind: bytes, path: str) -> str | None:
    if kind != b"f":
        return "a link, and the pod has no python3 to follow it" if kind == b"l" else "not a file"
    return "its name is kept for the commit itself" if path.split("/")[0] in RESERVED else name_problem(path)


def _newest_named(paths: Sequence[str], keep: Keep | None) -> list[str]:
    """Return the two newest checkpoints by the numbers in their names: without Python nobody tells whether one is whole."""
    if keep is None or not keep.checkpoints:
        return []
    deep, matches = keep.checkpoints.strip("/").count("/") + 1, compile_pattern(keep.checkpoints, False)
    roots = {"/".join(path.split("/")[:deep]) for path in paths if path.count("/") >= deep}
    whole = [root for root in roots if matches.match(root) and (not keep.mark or f"{root}/{keep.mark}" in paths)]
    return sorted(whole, key=lambda root: [int(number) for number in re.findall("[0-9]+", root)])[:-3:-1]


def _answer(transport: Transport, command: str, stdin: bytes) -> bytes:
    try:
        return expect(transport.exec(command, stdin), f"{transport.name}: the output cannot be read").stdout
    except PodFailed as error:
        raise StoreError(error.message) from error
