"""synchronize: a folder made the same there or here, by our own transfers: only what differs travels, and goes on after a cut."""

from __future__ import annotations

import posixpath
import shlex
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import cast

from trainyard.errors import UserError
from trainyard.playbook.actions.files import copy
from trainyard.playbook.actions.placement import plain_path
from trainyard.playbook.natives import Variables
from trainyard.playbook.places import Owned
from trainyard.playbook.schema import Arg, Schema
from trainyard.playbook.steps import Get, PutTree, Step

SYNCHRONIZE = Schema(
    "synchronize",
    (
        Arg("src", required=True), Arg("dest", required=True), Arg("mode", choices=("push", "pull")), Arg("delete", "bool"),
        Arg("excludes", "words"), Arg("rsync_opts", "list"), Arg("recursive", "bool"), Arg("archive", "bool"), Arg("checksum", "bool"),
        Arg("links", "bool"), Arg("copy_links", "bool"), Arg("perms", "bool"), Arg("compress", "bool"),
    ),
    again="writes",
    does="a folder made the same on the host (or here, by 'mode: pull'); only what differs travels, and it goes on after a cut",
)  # fmt: skip
_OURS = {
    "--delete": "delete", "--links": "links", "-l": "links", "--copy-links": "copy_links", "-L": "copy_links", "--checksum": "checksum",
    "-c": "checksum", "--archive": "archive", "-a": "archive", "--recursive": "recursive", "-r": "recursive", "--compress": "compress",
    "-z": "compress", "--perms": "perms", "-p": "perms",
}  # fmt: skip


def synchronize(args: Mapping[str, object], folder: Path, variables: Variables) -> Step:
    """Make a folder the same there, or here."""
    excludes, switches = _options(cast(list[object], args.get("rsync_opts") or []))
    excludes = (*cast(list[str], args.get("excludes") or []), *excludes)
    said = {**dict.fromkeys(switches, True), **args}
    src, dest = str(args["src"]), str(args["dest"])
    if not said.get("archive", True) and not said.get("recursive"):
        raise UserError("'synchronize': without 'archive' and 'recursive' no folder is copied: use 'copy' for one file")
    there = src if args.get("mode") == "pull" else dest
    if there.startswith(("~", "$")):
        raise UserError(f"'synchronize': write the folder of the host out, {there} is not looked up")
    if args.get("mode") == "pull":
        if said.get("delete") and not src.endswith("/"):
            raise UserError("'synchronize': 'delete' of a pull needs a folder with a slash at its end as 'src'")
        name = "" if src.endswith("/") else posixpath.basename(src)
        return Get(plain_path(src), Path(dest).expanduser(), name=name, excludes=excludes, delete=bool(said.get("delete")))
    local = folder / Path(src).expanduser()
    keep = bool(said.get("perms", said.get("archive", True)))
    if not local.exists():
        raise UserError(f"'synchronize': there is no {local}")
    if not local.is_dir():
        return copy({"src": src, "dest": dest, **({"mode": "preserve"} if keep else {})}, folder, variables)
    path = plain_path(dest)
    links = bool(said.get("links", said.get("archive", True))) and not said.get("copy_links")
    top = "" if src.endswith("/") else local.resolve().name
    return PutTree(
        local, posixpath.join(path, top) if top else path, owned=Owned("preserve" if keep else ""), links=links, excludes=excludes,
        delete=bool(said.get("delete")), top=top,
    )  # fmt: skip


def _options(words: list[object]) -> tuple[tuple[str, ...], list[str]]:
    """Return what options of rsync leave out, and the switches among them that are arguments here."""
    excludes: list[str] = []
    switches: list[str] = []
    each: Iterator[str] = iter([part for word in words for part in shlex.split(str(word))])
    for word in each:
        if word == "--exclude":
            excludes.append(next(each, ""))
        elif word.startswith("--exclude="):
            excludes.append(word.removeprefix("--exclude="))
        elif word in _OURS:
            switches.append(_OURS[word])
        else:
            raise UserError(f"'synchronize': '{word}' of rsync is not here: --exclude=PATTERN and {', '.join(_OURS)} are")
    return tuple(excludes), switches
