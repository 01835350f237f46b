"""How a file gets to its place on a host: with which mode and owner, checked by whom, and what becomes of the one that is there."""

from __future__ import annotations

import difflib
import hashlib
import os
import re
import shlex
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace

from trainyard.errors import UserError
from trainyard.playbook.actions.answers import fields
from trainyard.playbook.places import Owned, Placement
from trainyard.playbook.schema import Arg
from trainyard.playbook.steps import Outcome, Script
from trainyard.remote.protocol import CommandResult, ended_by_nul, quote
from trainyard.shellscript import load

OWNERSHIP = (Arg("mode", "mode"), Arg("owner"), Arg("group"))
BACKUP = (Arg("backup", "bool"),)
VALIDATE = (Arg("validate"), Arg("unsafe_writes", "bool"))
DIFF_LIMIT = 256 * 1024
_ACCOUNT = re.compile(r"[^\s*?\[\]:'\"\\-][^\s*?\[\]:'\"\\]*")


def owned_by(args: Mapping[str, object], preserved: str = "") -> Owned:
    """Return the mode, owner and group of a task; ``preserved`` is what stands for the mode "preserve"."""
    for name in ("owner", "group"):
        if args.get(name) and not _ACCOUNT.fullmatch(str(args[name])):
            raise UserError(f"'{name}': {args[name]!r} is no account's name or number")
    mode = str(args.get("mode") or "")
    if mode == "preserve":
        mode = preserved
    return Owned(mode, str(args.get("owner") or ""), str(args.get("group") or ""))


def plain_path(path: object) -> str:
    """Return a path of the host without a slash at its end or twice in a row."""
    return re.sub("//+", "/", str(path)).rstrip("/") or "/"


def put(data: bytes, to: Placement, *, was: str = "", said: Mapping[str, object] | None = None) -> Script:
    """Return the script that makes a file hold these bytes; ``was``: the sha256 that it must still have, or "absent"."""
    sums = {"checksum": hashlib.sha1(data).hexdigest(), "sha256": hashlib.sha256(data).hexdigest()}
    return _script(to, {"size": len(data), "was": was}, reader({**sums, **(said or {})}, data), data)


def place_from(path: str, to: Placement, *, folder: bool = False) -> Script:
    """Return the script that makes a file (or a folder; ``folder``: what it holds) a copy of another one of the host."""
    return replace(_script(to, {"from": path, "content": int(folder)}, reader({"src": path})), text=load(__package__, "copy_there"))


def take(part: str, to: Placement, said: Mapping[str, object]) -> Script:
    """Return the script that gives a file its place which has arrived under another name."""
    return _script(to, {"from": part, "take": 1}, reader(said))


def ask(to: Placement, said: Mapping[str, object]) -> Script:
    """Return the script that says whether a file is another one than that whose hash it reads: ``needs`` is where it goes."""
    tell = reader(said)

    def read(done: CommandResult) -> Outcome:
        # As bytes, for it is used as a path and not only shown.
        path = next((word.removeprefix(b"needs=") for word in done.stdout.split(b"\0") if word.startswith(b"needs=")), None)
        return {**tell(done), **({} if path is None else {"needs": os.fsdecode(path)})}

    script = _script(to, {}, read)
    return replace(script, text=f"IFS= read -r sha256 || exit 1\n{script.text}")


def own_all(top: str, owned: Owned, names: Iterable[str]) -> Script:
    """Return the script that gives what has these names below a folder its mode, owner and group."""
    return Script(
        load(__package__, "own_all"),
        {"top": top, "recurse": 0, "own": load(__package__, "own"), **owner_values(owned)},
        ended_by_nul(f"./{name}" for name in names),
        fields,
    )


def reader(said: Mapping[str, object], data: bytes | None = None) -> Callable[[CommandResult], Outcome]:
    """Return what makes a task's result of a script's words; the difference is made of what it says was there."""

    def read(done: CommandResult) -> Outcome:
        outcome = {**said, **fields(done)}
        before, binary = outcome.pop("before", None), outcome.pop("binary", False)
        if binary or before is not None:
            text = _difference(str(outcome.get("dest")), str(before or ""), data, binary=bool(binary))
            outcome["diff"] = f"{text}{outcome.get('diff', '')}"
        return outcome

    return read


def checked_by(validate: str) -> str:
    """Return the words of ``validate`` as sh runs them, its %s the file that is to be checked."""
    if validate and "%s" not in validate:
        raise UserError("'validate' must hold %s, which is the file to check")
    return " ".join('"$part"'.join(quote(piece) if piece else "" for piece in word.split("%s")) for word in shlex.split(validate))


def owner_values(owned: Owned) -> dict[str, object]:
    """Return the values that own.sh reads."""
    return {"mode": owned.mode, "owner": owned.owner, "group": owned.group}


def _script(to: Placement, values: Mapping[str, object], read: Callable[[CommandResult], Outcome], stdin: bytes | None = None) -> Script:
    every = {
        "path": to.path, "name": to.name, "into": int(to.into), "directory_mode": to.directory_mode, "part": f".part-{os.urandom(6).hex()}",
        "from": "", "take": 0, "sha256": "", "size": 0, "was": "", "fresh": to.fresh, "backup": int(to.backup),
        "force": int(to.force), "follow": int(to.follow), "validate": to.validate, "unsafe": int(to.unsafe), "parents": int(to.parents),
        "limit": DIFF_LIMIT, **owner_values(to.owned), **values,
    }  # fmt: skip
    return Script(load(__package__, "put"), every, stdin, read)


def _difference(path: str, before: str, data: bytes | None, *, binary: bool) -> str:
    """Return the unified difference of two texts, or a line that it is not shown."""
    if data is None or binary or len(data) > DIFF_LIMIT or b"\0" in data:
        return f"{path}: the difference is not shown (binary or large)\n"
    after = data.decode(errors="backslashreplace")
    lines = difflib.unified_diff(before.splitlines(keepends=True), after.splitlines(keepends=True), f"{path} (now)", f"{path} (then)")
    return "".join(line if line.endswith("\n") else line + "\n" for line in lines)
