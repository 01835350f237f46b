"""stat, find, slurp, tempfile: what lies on the host, and a new place for something."""

from __future__ import annotations

import base64
import fnmatch
import os
import posixpath
import re
import secrets
import stat as bits
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import cast

from trainyard.errors import PodFailed, UserError
from trainyard.playbook.actions.answers import fields, script
from trainyard.playbook.actions.placement import plain_path
from trainyard.playbook.natives import Variables
from trainyard.playbook.schema import Arg, Schema
from trainyard.playbook.steps import Outcome, Step
from trainyard.remote.protocol import CommandResult, quote

_HASHES = ("md5", "sha1", "sha224", "sha256", "sha384", "sha512")
STAT = Schema(
    "stat",
    (
        Arg("path", "path", required=True, aliases=("dest", "name")), Arg("follow", "bool"), Arg("get_checksum", "bool"),
        Arg("checksum_algorithm", choices=_HASHES, aliases=("checksum", "checksum_algo")), Arg("get_mime", "bool", aliases=("mime",)),
        Arg("get_attributes", "bool", aliases=("attr", "attributes")),
    ),
    again="reads",
    does="what lies at a path: exists, isdir, mode, size, owner, times, checksum",
)  # fmt: skip
FIND = Schema(
    "find",
    (
        Arg("paths", "words", required=True, aliases=("path", "name")), Arg("patterns", "words", aliases=("pattern",)),
        Arg("excludes", "words", aliases=("exclude",)), Arg("use_regex", "bool"),
        Arg("file_type", choices=("file", "directory", "link", "any")),
        Arg("recurse", "bool"), Arg("depth", "int"), Arg("hidden", "bool"), Arg("follow", "bool"), Arg("contains"), Arg("age"),
        Arg("age_stamp", choices=("mtime", "atime", "ctime")), Arg("size"), Arg("get_checksum", "bool"),
        Arg("checksum_algorithm", choices=_HASHES, aliases=("checksum", "checksum_algo")),
    ),
    again="reads",
    does="files, folders or links below folders: by name, age, size, content",
)  # fmt: skip
SLURP = Schema("slurp", (Arg("src", "path", required=True, aliases=("path",)),), again="reads", does="the content of a file, as base64")
TEMPFILE = Schema(
    "tempfile",
    (Arg("state", choices=("file", "directory")), Arg("path", "path"), Arg("prefix"), Arg("suffix")),
    does="a new file or folder of its own name, which nobody else can read",
)  # fmt: skip
_KINDS = {"file": "isreg", "directory": "isdir", "link": "islnk"}
_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 604800}
_BYTES = {"b": 1, "k": 1024, "m": 1024**2, "g": 1024**3, "t": 1024**4}
_SLURP_LIMIT = 64 * 1024 * 1024


def stat(args: Mapping[str, object], folder: Path, variables: Variables) -> Step:
    """Say what lies at a path."""
    if args.get("get_attributes"):
        raise UserError("'stat': the attributes of a file system are not read; leave 'get_attributes' out")
    path = plain_path(args["path"])
    algorithm = str(args.get("checksum_algorithm", "sha1")) if args.get("get_checksum", True) else ""
    values = {"path": path, "follow": bool(args.get("follow")), "hash": algorithm, "mime": bool(args.get("get_mime"))}

    def read(done: CommandResult) -> Outcome:
        said = fields(done)
        if "line" not in said:
            return {"changed": False, "stat": {"exists": False}}
        line = str(said["line"]).split(" ")
        rights = {name: name in said for name in ("readable", "writeable", "executable")}
        more: dict[str, object] = {name: said[name] for name in ("lnk_target", "lnk_source", "checksum") if name in said}
        if "mime" in said:
            kind, _, charset = str(said["mime"]).partition("; charset=")
            more |= {"mimetype": kind or "unknown", "charset": charset or "unknown"}
        return {"changed": False, "stat": {"exists": True, "path": path, **_facts(line), **rights, **more}}

    return script("stat", values, read=read)


def slurp(args: Mapping[str, object], folder: Path, variables: Variables) -> Step:
    """Bring the content of a file into a variable."""
    src = plain_path(args["src"])

    def read(done: CommandResult) -> Outcome:
        content = base64.b64encode(done.stdout).decode()
        return {"changed": False, "content": content, "encoding": "base64", "source": src}

    return script("slurp", {"path": src, "limit": _SLURP_LIMIT}, read=read)


def tempfile(args: Mapping[str, object], folder: Path, variables: Variables) -> Step:
    """Make a file or a folder that was not there."""
    name = f"{args.get('prefix', 'ansible.')}{secrets.token_hex(4)}{args.get('suffix', '')}"
    if "/" in name:
        raise UserError("'tempfile': 'path' is the folder; 'prefix' and 'suffix' are parts of a name")
    state = str(args.get("state", "file"))
    return script("tempfile", {"folder": plain_path(args["path"]) if args.get("path") else "", "name": name, "state": state})


@dataclass(frozen=True, slots=True)
class _Wish:
    """What is looked for."""

    kind: str
    fits: Callable[[str], bool]
    age: float | None
    size: float | None
    stamp: str
    hidden: bool


def find(args: Mapping[str, object], folder: Path, variables: Variables) -> Step:
    """Say what lies below folders."""
    paths = [plain_path(path) for path in cast(list[str], args["paths"])]
    if bad := next((path for path in paths if path.startswith(("~", "$"))), None):
        raise UserError(f"'find': write the folder out, {bad} is not looked up")
    kind = str(args.get("file_type", "file"))
    depth = int(cast(int, args["depth"])) if args.get("depth") is not None else None
    deepest = depth if args.get("recurse") else 1
    tests = ["-mindepth 1", *([f"-maxdepth {deepest}"] if deepest else [])]
    contains = str(args.get("contains") or "").replace(r"\d", "[0-9]")
    if contains and kind != "file":
        raise UserError("'find': 'contains' goes with 'file_type: file'")
    wish = _Wish(
        _KINDS.get(kind, ""),
        _named(args),
        _amount(args, "age", _SECONDS),
        _amount(args, "size", _BYTES),
        str(args.get("age_stamp", "mtime")),
        bool(args.get("hidden")),
    )
    values = {
        "paths": " ".join(quote(path if path.startswith("/") else f"./{path}") for path in paths),
        "options": "-L" if args.get("follow") else "", "tests": " ".join(tests), "contains": contains,
        "hash": str(args.get("checksum_algorithm", "sha1")) if args.get("get_checksum") else "",
    }  # fmt: skip
    return script("find", values, read=lambda done: _matches(done, wish))


def _matches(done: CommandResult, wish: _Wish) -> Outcome:
    """Return the task's result of what find.sh says: a time, then for each path its name, its numbers and its hash."""
    now, *words = done.stdout.split(b"\0")
    if words[-1:] != [b""]:
        raise PodFailed("what lies there was not said to its end")
    entries = list(_entries(words[:-1]))
    files = [entry for entry in entries if _fits(entry, wish, int(now))]
    skipped = dict(
        line.rsplit(": ", 1) for line in done.stderr.decode(errors="backslashreplace").splitlines() if line.endswith(": is not a folder")
    )
    files.sort(key=lambda entry: str(entry["path"]))
    return {"changed": False, "files": files, "matched": len(files), "examined": len(entries), "skipped_paths": skipped, "msg": ""}


def _entries(words: list[bytes]) -> Iterator[dict[str, object]]:
    for name, line, digest in zip(words[::3], words[1::3], words[2::3], strict=True):
        path = os.fsdecode(name).removeprefix("./") if name.startswith(b"./") else os.fsdecode(name)
        yield {"path": path, **_facts(line.decode().split(" ")), **({"checksum": digest.decode()} if digest else {})}


def _fits(entry: Mapping[str, object], wish: _Wish, now: int) -> bool:
    name = posixpath.basename(str(entry["path"]))
    if (wish.kind and not entry[wish.kind]) or entry.get("checksum") == "-":
        return False
    if (name.startswith(".") and not wish.hidden) or not wish.fits(name):
        return False
    old, size = now - cast(float, entry[wish.stamp]), cast(int, entry["size"])
    return _beyond(old, wish.age) and _beyond(size, wish.size)


def _beyond(value: float, limit: float | None) -> bool:
    """Tell whether a value is at least the limit, or at most it when the limit is less than zero."""
    return limit is None or (value >= limit if limit >= 0 else value <= -limit)


def _named(args: Mapping[str, object]) -> Callable[[str], bool]:
    patterns, excludes = (cast(list[str], args.get(name) or []) for name in ("patterns", "excludes"))
    if args.get("use_regex"):
        try:
            wished, unwished = ([re.compile(pattern) for pattern in some] for some in (patterns, excludes))
        except re.error as error:
            raise UserError(f"'find': {error}") from None
        return lambda name: (not wished or any(one.match(name) for one in wished)) and not any(one.match(name) for one in unwished)
    return lambda name: (
        (not patterns or any(fnmatch.fnmatchcase(name, one) for one in patterns))
        and not any(fnmatch.fnmatchcase(name, one) for one in excludes)
    )


def _amount(args: Mapping[str, object], name: str, units: Mapping[str, int]) -> float | None:
    if args.get(name) is None:
        return None
    parts = re.fullmatch(r"(-?\d+)([a-z]?)", str(args[name]).strip().lower())
    if not parts or (parts[2] and parts[2] not in units):
        raise UserError(f"'find': '{name}' is a number with one of {', '.join(units)}, such as -2{list(units)[1]}, not {args[name]!r}")
    return int(parts[1]) * units.get(parts[2], 1)


def _facts(line: list[str]) -> dict[str, object]:
    """Return what stat says of a path: %f %u %g %s %i %d %h %X %Y %Z %U %G."""
    raw = int(line[0], 16)
    numbers = dict(zip(("uid", "gid", "size", "inode", "dev", "nlink"), map(int, line[1:7]), strict=True))
    times = dict(zip(("atime", "mtime", "ctime"), map(float, line[7:10]), strict=True))
    kinds = {
        "isdir": bits.S_ISDIR, "ischr": bits.S_ISCHR, "isblk": bits.S_ISBLK, "isreg": bits.S_ISREG, "isfifo": bits.S_ISFIFO,
        "islnk": bits.S_ISLNK, "issock": bits.S_ISSOCK,
    }  # fmt: skip
    rights: dict[str, bool] = {}
    for shift, who in ((6, "usr"), (3, "grp"), (0, "oth")):
        rights |= {f"{letter}{who}": bool(raw >> shift & bit) for letter, bit in (("r", 4), ("w", 2), ("x", 1))}
    return {
        "mode": f"{bits.S_IMODE(raw):04o}", **{name: is_kind(raw) for name, is_kind in kinds.items()}, **numbers, **times, **rights,
        "isuid": bool(raw & bits.S_ISUID), "isgid": bool(raw & bits.S_ISGID), "pw_name": line[10], "gr_name": line[11],
    }  # fmt: skip
