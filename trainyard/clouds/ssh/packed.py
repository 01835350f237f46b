"""What is sent to a machine of the user's: the loader, and the modules by which its pods are made and ended there."""

from __future__ import annotations

import functools
import hashlib
import io
import zipfile
from pathlib import Path

_HERE = Path(__file__).parent
MODULES = (
    "clock", "clouds/gpus", "clouds/local/cloud", "clouds/local/ending", "clouds/local/gpulocks", "clouds/local/hardware",
    "clouds/local/launch", "clouds/local/limits", "clouds/local/registry", "clouds/local/request", "clouds/local/sandbox",
    "clouds/marker", "clouds/protocol", "clouds/ssh/agent", "clouds/volume", "errors", "filelock", "files", "jsontext", "nearest",
    "pod/boot", "processes", "reading", "retries", "secret", "settings/clouds", "settings/setting", "settings/table", "shellscript",
    "sizes", "sshlogin",
)  # fmt: skip
"""Modules of trainyard/ that the agent loads there, itself among them (a test holds the list against their imports)."""
PROGRAMS = ("clouds/local/doors", "clouds/local/record", "clouds/local/sshserver", "clouds/local/supervisor")
"""Those that run by themselves."""


@functools.cache
def loader() -> bytes:
    """Return the program that runs first there."""
    return (_HERE / "loader.py").read_bytes()


@functools.cache
def packed() -> tuple[str, bytes]:
    """Return the modules as an archive, with the name of this version of them. Packages are empty there: nothing loads more."""
    root = _HERE.parents[1]
    files = {f"trainyard/{name}.py": (root / f"{name}.py").read_bytes() for name in (*MODULES, *PROGRAMS)}
    files |= {f"{folder}/__init__.py": b"" for path in files for folder in map(str, Path(path).parents) if folder != "."}
    content = hashlib.sha256()
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as into:
        for path, data in sorted(files.items()):
            content.update(f"{path} {len(data)}\n".encode() + data)
            into.writestr(zipfile.ZipInfo(path), data, zipfile.ZIP_DEFLATED)
    return content.hexdigest()[:16], archive.getvalue()
