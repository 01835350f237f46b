"""Tar files whose writer is not this process: unpacked without anything being written outside of their folder."""

from __future__ import annotations

import os
import tarfile
from pathlib import Path


def unpack(tar: tarfile.TarFile, folder: Path) -> None:
    """Unpack into a new folder; raises tarfile.TarError for what leads out of it, and for devices and the like."""
    if hasattr(tarfile, "data_filter"):
        tar.extractall(folder, filter="data")
        return
    members = tar.getmembers()  # Python before 3.11.4, as Debian 12 has it, knows no filter
    for member in members:
        if not _is_plain(member):
            raise tarfile.ExtractError(f"{member.name!r} is, or points to, something outside of the folder")
        member.uid, member.gid = os.getuid(), os.getgid()
        member.mode = (member.mode & 0o755) | (0o700 if member.isdir() else 0o600)
    tar.extractall(folder, members)


def _is_plain(member: tarfile.TarInfo) -> bool:
    """Tell whether a member is a file or folder below the folder, or a link to a place there."""
    paths = [member.name]
    if member.issym() or member.islnk():
        paths.append(os.path.join(os.path.dirname(member.name) if member.issym() else "", member.linkname))
    elif not (member.isfile() or member.isdir()):
        return False
    return not any(os.path.isabs(path) or os.path.normpath(path).split(os.sep)[0] == os.pardir for path in paths)
