"""A folder on its way to a pod: asked by hash what it lacks, and only that is sent.

Small files travel packed together: 500 files of a repository are one or two round trips and compress to a quarter.
Big ones go up as slices (upload.py). With a store of files on the pod (a network volume keeps one) what an earlier pod
was sent is taken from there: each file lies in it under its sha256.
"""

from __future__ import annotations

import io
import os
import re
import stat
import tarfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import Literal

from trainyard.batches import batches
from trainyard.errors import PodFailed, UserError
from trainyard.files import sha256_of
from trainyard.remote.protocol import Transport, ended_by_nul, expect, with_values
from trainyard.remote.transfer import SMALL, local_tree, mode_of, nothing, put_file
from trainyard.remote.upload import CHANNELS, ByteCounter, OnProgress
from trainyard.shellscript import load

PACK = 8 * 1024 * 1024
"""Bytes of small files in one pack: each pack that has arrived is not sent again after a lost link."""
PACK_FILES = 2000
KEPT_DAYS = 30
"""Days after which a file that no run has used is removed from a pod's store."""


@dataclass(frozen=True, slots=True)
class LocalFile:
    """One file of a local folder as it shall lie on the pod."""

    name: str
    size: int
    mode: int
    sha256: str


@dataclass(frozen=True, slots=True)
class TreeRules:
    """What of a folder shall be the same on the pod, and what a file that is there may keep."""

    modes: Literal["plain", "keep", "same"] = "plain"
    """0755 for programs and 0644 for the rest; those for what is new, else as it is there; or all as they are here."""
    force: bool = True
    """Whether a file that is there and differs is replaced."""
    links: bool = False
    """Whether a link stays one; else what it leads to is sent."""
    skip: Callable[[str], bool] = nothing
    """What is left alone, here and there."""
    delete: bool = False
    """Whether what is there and not here is removed."""


PLAIN = TreeRules()


def put_tree(
    t: Transport, local_dir: Path, remote_dir: str, *,
    store: str | None = None, rules: TreeRules = PLAIN, on_progress: OnProgress | None = None,
) -> list[str]:  # fmt: skip
    """Make every file of a local folder the same on the pod; return what changed, relative, sorted.

    Files that the pod has beyond these stay. ``store`` is a folder on the pod that keeps files by their sha256; what lies
    in it is not sent. Raises PodFailed when the pod cannot take a file.
    """
    names, folders, links = local_tree(local_dir, links=rules.links, skip=rules.skip)
    fresh_folders = _make_folders(t, remote_dir, folders)
    changed = _differing(t, _described(local_dir, names, rules), remote_dir, rules)
    tally = ByteCounter(sum(file.size for file in changed), on_progress)
    stored = _in_store(t, changed, store)
    sent = [file for file in changed if file.sha256 not in stored]
    _take(t, [file for file in changed if file.sha256 in stored], remote_dir, store, tally)
    big = [file for file in sent if file.size > SMALL]

    def send(what: LocalFile | Sequence[LocalFile]) -> None:
        if isinstance(what, LocalFile):
            target = str(PurePosixPath(remote_dir) / what.name)
            put_file(t, local_dir / what.name, target, mode=what.mode, sha256=what.sha256, on_progress=tally.part())
        else:
            _run(t, "tree_unpack", remote_dir, store, _packed(local_dir, what, stored=store is not None))
            tally.add(sum(file.size for file in what))

    with ThreadPoolExecutor(CHANNELS) as pool:
        list(pool.map(send, [*big, *batches((file for file in sent if file.size <= SMALL), PACK_FILES, PACK)]))
    if store is not None and sent:
        words = [word for file in big for word in (file.sha256, file.name)]
        _run(t, "tree_keep", remote_dir, store, ended_by_nul(words), days=KEPT_DAYS)
    gone = _remove(t, remote_dir, {*names, *folders, *links}, rules, check=False)
    return sorted([*_changed(changed, fresh_folders, _link(t, remote_dir, links, check=False)), *gone])


def differing(t: Transport, local_dir: Path, remote_dir: str, *, rules: TreeRules = PLAIN) -> list[str]:
    """Return what ``put_tree`` would change, sorted; nothing is made."""
    names, folders, links = local_tree(local_dir, links=rules.links, skip=rules.skip)
    fresh_folders = _make_folders(t, remote_dir, folders, check=True)
    changed = _differing(t, _described(local_dir, names, rules), remote_dir, rules)
    gone = _remove(t, remote_dir, {*names, *folders, *links}, rules, check=True)
    return sorted([*_changed(changed, fresh_folders, _link(t, remote_dir, links, check=True)), *gone])


def _changed(files: Sequence[LocalFile], folders: Sequence[str], links: Sequence[str]) -> list[str]:
    """Return the names of what changed; of new folders those in which nothing else is new."""
    names = {file.name for file in files}.union(links)
    filled = {str(parent) for name in names.union(folders) for parent in PurePosixPath(name).parents}
    return sorted(names.union(f"{name}/" for name in folders if name not in filled))


def _described(folder: Path, names: Sequence[str], rules: TreeRules) -> list[LocalFile]:
    files = []
    for name in names:
        path = folder / name
        try:
            status = path.stat()
            mode = stat.S_IMODE(status.st_mode) if rules.modes == "same" else mode_of(status)
            files.append(LocalFile(name, status.st_size, mode, sha256_of(path)))
        except OSError as error:
            raise UserError(f"{path}: cannot be read: {error.strerror or error}") from None
    return files


def _make_folders(t: Transport, top: str, folders: Sequence[str], *, check: bool = False) -> list[str]:
    """Make the folders that are not there; return which."""
    text = with_values(load(__package__, "tree_folders"), top=top, check=int(check))
    return _names(expect(t.exec(text, ended_by_nul([".", *folders])), f"{t.name}: {top} cannot be made").stdout)


def _link(t: Transport, top: str, links: Mapping[str, str], *, check: bool) -> list[str]:
    """Make the links that are not as they shall be; return which."""
    if not links:
        return []
    words = [word for name, target in links.items() for word in (name, target)]
    text = with_values(load(__package__, "tree_links"), top=top, check=int(check))
    return _names(expect(t.exec(text, ended_by_nul(words)), f"{t.name}: {top} cannot be written").stdout)


def _remove(t: Transport, top: str, known: set[str], rules: TreeRules, *, check: bool) -> list[str]:
    """Remove what is there and not here, if that is asked for; return the names of it."""
    if not rules.delete:
        return []
    asked = t.exec(with_values('[ ! -d "$top" ] || { cd "$top" && find . -mindepth 1 -print0; }', top=top))
    there = [name.removeprefix("./") for name in _names(expect(asked, f"{t.name}: {top} cannot be read").stdout)]
    kept = {str(parent) for name in there if rules.skip(name) for parent in PurePosixPath(name).parents}
    extra = {name for name in there if name not in known and name not in kept and not rules.skip(name)}
    highest = sorted(name for name in extra if not any(str(parent) in extra for parent in PurePosixPath(name).parents))
    if highest and not check:
        words = ended_by_nul(f"./{name}" for name in highest)
        expect(t.exec(with_values('cd "$top" && xargs -0 rm -rf --', top=top), words), f"{t.name}: {top} cannot be cleared")
    return [f"{name} (removed)" for name in highest]


def _names(answer: bytes) -> list[str]:
    return [os.fsdecode(name) for name in answer.split(b"\0") if name]


def _differing(t: Transport, files: Sequence[LocalFile], top: str, rules: TreeRules) -> list[LocalFile]:
    if not files:
        return []
    asked = t.exec(with_values(load(__package__, "tree_ask"), top=top, id=os.urandom(6).hex()), ended_by_nul(file.name for file in files))
    answer = expect(asked, f"{t.name}: {top} cannot be read").stdout
    if answer == b"absent\n":
        return list(files)
    kinds, sums, modes = (part.split() for part in _sections(answer))
    if len(kinds) != len(files):
        raise PodFailed(f"{t.name}: {len(files)} files of {top} were asked for, and {len(kinds)} answers came")
    blocked = next((file.name for file, kind in zip(files, kinds, strict=True) if kind == b"d"), None)
    if blocked is not None:
        raise PodFailed(f"{t.name}: {top}/{blocked} is a directory")
    there = [file for file, kind in zip(files, kinds, strict=True) if kind == b"f"]
    if len(sums) != len(there) or len(modes) != len(there):
        return list(files)  # one of them cannot be read: none is trusted
    as_there = {file.name: (digest, int(mode, 8)) for file, digest, mode in zip(there, sums, modes, strict=True)}
    return [replaced for file in files if (replaced := _needed(file, as_there.get(file.name), rules)) is not None]


def _needed(file: LocalFile, there: tuple[bytes, int] | None, rules: TreeRules) -> LocalFile | None:
    """Return a file as it shall be sent, None when what is there may stay."""
    if there is None:
        return file
    digest, mode = there
    if not rules.force or (digest == file.sha256.encode() and (rules.modes == "keep" or mode == file.mode)):
        return None
    return replace(file, mode=mode) if rules.modes == "keep" else file


def _sections(answer: bytes) -> Iterator[bytes]:
    """Yield the three answers; of a line of sha256sum only the hash, for the rest may be any name."""
    kinds, _, rest = answer.partition(b"\n\n") if not answer.startswith(b"\n") else (b"", b"", answer[1:])
    sums, modes = (b"", rest[1:]) if rest.startswith(b"\n") else rest.partition(b"\n\n")[::2]
    yield kinds
    yield b" ".join(re.findall(rb"^\\?([0-9a-f]{64}) ", sums, re.MULTILINE))
    yield modes


def _packed(folder: Path, files: Sequence[LocalFile], *, stored: bool) -> bytes:
    """Return files as a pack: f/NAME, and with ``stored`` a second name s/SHA256, by which a store keeps them."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w:gz", format=tarfile.GNU_FORMAT, compresslevel=6) as tar:
        for file in files:
            try:
                data = (folder / file.name).read_bytes()
            except OSError as error:
                raise UserError(f"{folder / file.name}: cannot be read: {error.strerror or error}") from None
            member = _member(f"f/{file.name}", file.mode)
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))
        for digest, name in {file.sha256: file.name for file in files}.items() if stored else ():
            member = _member(f"s/{digest}", 0o644)
            member.type, member.linkname = tarfile.LNKTYPE, f"f/{name}"
            tar.addfile(member)
    return out.getvalue()


def _member(name: str, mode: int) -> tarfile.TarInfo:
    member = tarfile.TarInfo(name)
    member.mode, member.mtime = mode, int(time.time())
    return member


def _in_store(t: Transport, files: Sequence[LocalFile], store: str | None) -> set[str]:
    """Return the hashes of those that the pod's store holds whole."""
    if store is None or not files:
        return set()
    asked = t.exec(with_values(load(__package__, "tree_stored"), store=store), ended_by_nul({file.sha256 for file in files}))
    lines = expect(asked, f"{t.name}: {store} cannot be read").text.splitlines()
    return {name for digest, name in (line.split() for line in lines) if digest == name}


def _take(t: Transport, files: Sequence[LocalFile], top: str, store: str | None, tally: ByteCounter) -> None:
    if not files:
        return
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w:gz", format=tarfile.GNU_FORMAT) as tar:
        for file in files:
            member = _member(f"{'x' if file.mode & 0o100 else 'n'}/{file.name}", 0o777)
            member.type, member.linkname = tarfile.SYMTYPE, f"{store}/{file.sha256}"
            tar.addfile(member)
    _run(t, "tree_take", top, store, out.getvalue())
    tally.add(sum(file.size for file in files))


def _run(t: Transport, script: str, top: str, store: str | None, stdin: bytes, **values: object) -> None:
    text = with_values(load(__package__, script), top=top, store=store or "", id=os.urandom(6).hex(), **values)
    expect(t.exec(text, stdin), f"{t.name}: {top} cannot be written")
