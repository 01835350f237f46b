"""Look at a pod's output. Standard library only, Python 3.8 or newer; runs ON the pod.

A scan takes the CRC32s that bind the requests; the sha256 of big files is taken while they are sent (uploader.py).

    scan    what to look at, on stdin -> one JSON object: files with hashes, what is left out and why
    look    the same while the training runs -> files that are final, with hashes, and the newest checkpoint
    sample  ranges of files on stdin -> the sha256 of each
"""

from __future__ import annotations

import base64
import concurrent.futures
import contextlib
import errno
import hashlib
import json
import os
import sys
import time
from collections.abc import Iterable, Iterator
from typing import Any

from trainyard.pod.files import Changed, FolderEntry, fingerprint, hash_file, open_file, read_blocks, walk
from trainyard.pod.orders import read_order
from trainyard.pod.outputs import names_in, newest_first, sort_out, with_checkpoints

# A log up to this size travels inside the scan's answer; a longer one is sent like the result.
INLINE = 256 * 1024


def scan(spec: dict[str, Any]) -> dict[str, Any]:
    """Hash what is wanted, and say what was left out, cannot be read or is still changing."""
    if not os.path.isdir(spec["root"]) and not spec.get("keep"):
        return {"error": "there is no folder " + spec["root"]}
    spec, checkpoints, other = with_checkpoints(spec)
    chosen, left_out = sort_out(spec)
    for entry in left_out:
        entry["why"] = next((why for path, why in other.items() if (entry["path"] + "/").startswith(path + "/")), entry["why"])
    files, unreadable, changed = [], [], {}

    def look(path: str) -> Any:
        try:
            return look_at_file(path, chosen[path], spec)
        except (OSError, Changed) as error:
            return error if not isinstance(error, FileNotFoundError) else Changed("it went away")

    # zlib and hashlib let go of the interpreter's lock: threads use all cores.
    with concurrent.futures.ThreadPoolExecutor(min(8, os.cpu_count() or 2)) as pool:
        for path, result in zip(chosen, pool.map(look, chosen)):  # noqa: B905 (Python 3.8)
            if isinstance(result, Changed):
                changed[path] = str(result)
            elif isinstance(result, OSError):
                why = f"cannot be read: {result.strerror}"
                passing = result.errno not in (errno.EACCES, errno.EPERM)
                unreadable.append({"path": path, "size": chosen[path].status.st_size, "why": why, "wanted": True, "passing": passing})
            else:
                files.append(result)
    note_changes(spec, chosen, changed)
    extra = [listing for listing in (look_at_log(entry, spec) for entry in spec["extra"]) if listing]
    files.sort(key=lambda entry: entry["path"])
    unstable = [{"path": path, "why": why} for path, why in sorted(changed.items())]
    return {"files": files, "left_out": left_out, "unreadable": unreadable, "changed": unstable, "extra": extra, "checkpoints": checkpoints}


def look_at_file(path: str, seen: FolderEntry, spec: dict[str, Any]) -> dict[str, Any]:
    """Return a file's hashes and fingerprint: known ones where it has not changed, else as they are taken now."""
    now = fingerprint(seen.status)
    known = spec.get("known", {}).get(path)
    if known and known["fingerprint"] == list(now):
        return dict(known, path=path, source=seen.source)
    most = spec.get("sha256_up_to")  # of bigger files it is taken while they are sent
    result, then = hash_file(seen.source, spec["part_size"], spec["md5"], sha256=most is None or seen.status.st_size <= most)
    if then != now:
        raise Changed("it was written to")
    return dict(result, path=path, source=seen.source, fingerprint=list(now))


def note_changes(spec: dict[str, Any], chosen: dict[str, Any], changed: dict[str, str]) -> None:
    """Add what is not as it was: a file hashed early may have been written while the others were; new ones may have come."""
    after, _ = sort_out(spec)
    prints = [{path: fingerprint(seen.status) for path, seen in listing.items()} for listing in (chosen, after)]
    for path in set(chosen) | set(after):
        if prints[0].get(path) != prints[1].get(path):
            changed.setdefault(path, "it appeared, changed or went away during the scan")


def look_at_log(entry: dict[str, Any], spec: dict[str, Any]) -> dict[str, Any] | None:
    """Return a file outside the result; its present length counts, as a log may grow. A missing one is no error."""
    try:
        with open_file(entry["path"]) as file:
            size = os.fstat(file.fileno()).st_size
            if size <= INLINE:
                return dict(entry, inline=base64.b64encode(b"".join(map(bytes, read_blocks(file, size)))).decode("ascii"))
        return dict(hash_file(entry["path"], spec["part_size"], spec["md5"], limit=size)[0], **entry)
    except (OSError, Changed):
        return None


# ---- look (while the training runs)


def look(spec: dict[str, Any]) -> dict[str, Any]:
    """Hash what is final of a result that is still being made, at most ``most`` bytes of it (one file at least).

    ``known`` are fingerprints of what was told before, by path; ``now`` those of what is there. ``after`` are the seconds
    that a file must not have been written to, renamed or linked (ctime, which no program can set) to count as final:
    ``whole``, one that says itself that it is whole; ``quiet``, any other; ``again``, one that was told and has changed;
    ``unmarked``, all of a checkpoint without a mark.
    """
    if not os.path.isdir(spec["root"]):
        return {"files": [], "now": {}, "checkpoint": None}
    chosen = {path: seen for path, seen in sort_out(spec)[0].items() if seen.status.st_size >= spec["least"]}
    fresh = {path: seen for path, seen in chosen.items() if spec["known"].get(path) != list(fingerprint(seen.status))}
    settled = {path: seen for path, seen in fresh.items() if is_settled(seen, path in spec["known"], spec["after"])}
    written = written_now(seen.status for seen in settled.values())
    files: list[dict[str, Any]] = []
    for path, seen in sorted(settled.items(), key=lambda one: one[1].status.st_ctime_ns):
        if file_id(seen.status) in written or sum(entry["size"] for entry in files) >= spec["most"]:
            continue
        try:
            files.append(look_at_file(path, seen, {"part_size": spec["part_size"], "md5": spec["md5"]}))
        except (OSError, Changed):
            continue  # the next look sees it, or the end
    now = {path: list(fingerprint(seen.status)) for path, seen in chosen.items()}
    return {"files": files, "now": now, "checkpoint": newest_whole(spec)}


def is_settled(seen: FolderEntry, was_known: bool, after: dict[str, float]) -> bool:
    """Tell whether a file looks final; whether somebody has it open to write is asked afterwards."""
    age = time.time() - seen.status.st_ctime
    if was_known:
        return age >= after["again"]
    return age >= after["quiet"] or (age >= after["whole"] and seen.path.endswith(".safetensors") and is_whole_safetensors(seen.source))


def is_whole_safetensors(path: str) -> bool:
    """Tell whether a file of safetensors has all the bytes that its own header names."""
    try:
        with open_file(path) as file:
            length = int.from_bytes(file.read(8), "little")
            header = json.loads(file.read(length)) if length <= 100 << 20 else {}
            ends = [entry["data_offsets"][1] for name, entry in header.items() if name != "__metadata__"]
            return bool(os.fstat(file.fileno()).st_size == 8 + length + max(ends))
    except (OSError, Changed, ValueError, TypeError, AttributeError, KeyError, IndexError):
        return False


def file_id(status: os.stat_result) -> tuple[int, int]:
    """Return what makes a file itself, whatever it is called."""
    return status.st_dev, status.st_ino


def written_now(files: Iterable[os.stat_result]) -> set[tuple[int, int]]:
    """Return which of some files a process that can be seen may be writing to. Asks /proc alone, which disturbs nobody."""
    asked = {file_id(status) for status in files}
    processes = ["/proc/" + name for name in names_in("/proc") if name.isdigit()] if asked else []
    return {one for process in processes for held in (opened_to_write, mapped_to_write) for one in held(process, asked)}


def opened_to_write(process: str, asked: set[tuple[int, int]]) -> Iterator[tuple[int, int]]:
    """Give which of some files a process (its folder in /proc) has open to write."""
    for number in names_in(process + "/fd"):
        try:
            one = file_id(os.stat(process + "/fd/" + number))
            if one in asked:
                with open(process + "/fdinfo/" + number, "rb") as file:
                    flags = next((line.split()[1] for line in file if line.startswith(b"flags:")), b"0")
                if int(flags, 8) & os.O_ACCMODE != os.O_RDONLY:
                    yield one
        except OSError:
            continue  # the process has ended, or closed it


def mapped_to_write(process: str, asked: set[tuple[int, int]]) -> Iterator[tuple[int, int]]:
    """Give which of some files a process writes to through its memory: that needs no open file, and ctime may not change for long."""
    try:
        with open(process + "/maps", "rb") as file:
            lines = [line.rstrip(b"\n").split(None, 5) for line in file if b"s " in line[:80]]
    except OSError:
        return  # it has ended, or is another user's
    for path in {line[5] for line in lines if len(line) == 6 and line[1][1:2] == b"w" and line[1][3:4] == b"s"}:
        with contextlib.suppress(OSError):
            one = file_id(os.stat(path))
            if one in asked:
                yield one


def newest_whole(spec: dict[str, Any]) -> str | None:
    """Return the newest checkpoint that is complete: by its mark or, where the recipe has none, because it rests."""
    pattern = spec.get("checkpoints")
    if not pattern:
        return None
    # Of all: where they come faster than one has rested, the two newest never have.
    newest, _ = newest_first(spec["root"], pattern["pattern"], pattern["mark"])
    after = spec["after"]["unmarked"]
    return next((path for path in newest if pattern["mark"] or rests(os.path.join(spec["root"], path), after)), None)


def rests(place: str, after: float) -> bool:
    """Tell whether nothing of a checkpoint was written to for some seconds, and nobody has it open to write."""
    try:
        files = [entry.status for entry in walk(place)] if os.path.isdir(place) else [os.lstat(place)]
        quiet = all(time.time() - status.st_ctime >= after for status in [*files, os.lstat(place)])
    except OSError:
        return False
    return bool(files) and quiet and not written_now(files)


def sample(spec: dict[str, Any]) -> dict[str, Any]:
    """Return the sha256 of ranges of files; of what is not there any more an empty one, which agrees with nothing."""
    result = []
    for item in spec["ranges"]:
        digest = hashlib.sha256()
        try:
            with open_file(item["path"]) as file:
                file.seek(item["offset"])
                for block in read_blocks(file, item["length"]):
                    digest.update(block)
            result.append(digest.hexdigest())
        except (OSError, Changed):
            result.append("")
    return {"sha256": result}


def main(verb: str) -> int:
    """Answer the order on stdin."""
    json.dump({"scan": scan, "look": look, "sample": sample}[verb](read_order()), sys.stdout)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
