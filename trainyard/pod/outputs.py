"""Which files of an output folder are the result, and which checkpoints of a training that was no success are kept.

Standard library only, Python 3.8 or newer; runs ON the pod.
"""

from __future__ import annotations

import json
import os
import re
import stat
from typing import Any

from trainyard.pod.files import (
    Changed,
    FolderEntry,
    compile_outputs,
    compile_pattern,
    is_output,
    literal,
    name_problem,
    open_file,
    printable,
    walk,
)


def sort_out(spec: dict[str, Any]) -> tuple[dict[str, FolderEntry], list[dict[str, Any]]]:
    """Return the files that the patterns want, and the report on all others: ``patterns`` are those that cannot be taken."""
    patterns = compile_outputs(spec["outputs"])
    unwanted = [compile_pattern(pattern, True) for pattern in spec["excludes"]]
    chosen: dict[str, FolderEntry] = {}
    left_out: list[dict[str, Any]] = []
    for seen in walk(spec["root"]):
        why, asked = None, False
        if any(pattern.match(seen.path) for pattern in unwanted):
            why = "excluded"
        elif seen.path and not is_output(seen.path, patterns):
            why = "no output pattern"
        else:
            why, asked = seen.why or untaken(seen, spec), True
        if why is None:
            chosen[seen.path] = seen
        else:
            size = seen.status.st_size if stat.S_ISREG(seen.status.st_mode) else 0
            name = seen.path or os.path.basename(spec["root"].rstrip("/"))  # the folder itself, which is none
            left_out.append({"path": printable(name), "size": size, "why": why, "wanted": asked})
    return chosen, left_out


def untaken(seen: FolderEntry, spec: dict[str, Any]) -> str | None:
    """Return why what lies there can be no file of the result, None when it can."""
    if not stat.S_ISREG(seen.status.st_mode):
        return "not a file"
    return "its name is kept for the commit itself" if seen.path.split("/")[0] in spec.get("reserved", ()) else name_problem(seen.path)


# ---- checkpoints (of a training that was no success)


def pick_checkpoints(root: str, pattern: str, mark: str | None) -> tuple[list[str], dict[str, str]]:
    """Return the checkpoints to keep, newest first, and why each other one is not.

    With ``mark`` the newest one that is complete: it holds a file of that name, which may list its files' sizes as JSON.
    Without it nobody can tell whether the newest one is whole: the two newest are kept.
    """
    newest, left = newest_first(root, pattern, mark)
    most = 1 if mark else 2
    left.update(dict.fromkeys(newest[most:], "an older checkpoint"))
    return newest[:most], left


def newest_first(root: str, pattern: str, mark: str | None) -> tuple[list[str], dict[str, str]]:
    """Return the checkpoints that lack no mark, newest first, and the others with what they lack."""
    left: dict[str, str] = {}
    whole = []
    for path in find_checkpoints(root, pattern):
        if mark and not is_complete(os.path.join(root, path), mark):
            left[path] = "a checkpoint that is not complete"
        else:
            whole.append((changed_at(os.path.join(root, path)), [int(n) for n in re.findall("[0-9]+", path)], path))
    return [path for _, _, path in sorted(whole, reverse=True)], left


def find_checkpoints(root: str, pattern: str) -> list[str]:
    """Return what matches the pattern of a recipe's checkpoints as a whole: folders, or single files; no links, no drafts (hidden)."""
    places = [""]
    for part in pattern.strip("/").split("/"):
        names = ((path, name) for path in places for name in names_in(os.path.join(root, path)))
        places = [os.path.join(path, name) for path, name in names if name.startswith(".") <= part.startswith(".")]
    matches = compile_pattern(pattern, False)
    return [path for path in places if matches.match(path) and not os.path.islink(os.path.join(root, path))]


def names_in(folder: str) -> list[str]:
    """Return what lies in a folder; nothing when it is none."""
    try:
        return os.listdir(folder)
    except OSError:
        return []


def changed_at(path: str) -> int:
    """Return when a checkpoint was last written to."""
    files = [os.path.join(folder, name) for folder, _, names in os.walk(path) for name in names] or [path]
    return max((os.lstat(file).st_mtime_ns for file in files if os.path.lexists(file)), default=0)


def is_complete(folder: str, mark: str) -> bool:
    """Tell whether a checkpoint has its mark, and every file that the mark lists in its size."""
    try:
        with open_file(os.path.join(folder, mark)) as file:
            sizes = json.loads(file.read())
    except ValueError:
        return True  # a mark of another form: that it is there says all
    except (OSError, Changed):
        return False
    if not isinstance(sizes, dict):
        return True
    try:
        return all(os.path.getsize(os.path.join(folder, name)) == size for name, size in sizes.items() if isinstance(size, int))
    except OSError:
        return False


def with_checkpoints(spec: dict[str, Any]) -> tuple[dict[str, Any], list[str], dict[str, str]]:
    """Return the spec with the chosen checkpoints among its outputs, their paths, and the others with the reason."""
    pattern = spec.get("checkpoints")
    if not pattern:
        return spec, [], {}
    chosen, left = pick_checkpoints(spec["root"], pattern["pattern"], pattern["mark"])
    return dict(spec, outputs=list(spec["outputs"]) + [literal(path) for path in chosen]), chosen, left
