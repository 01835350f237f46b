"""What is sent to a machine of the user's: the loader, and the modules by which its pods are made and ended there."""

from __future__ import annotations

import functools
import hashlib
import io
import re
import zipfile
from pathlib import Path

_HERE = Path(__file__).parent
_ROOT = _HERE.parents[1]
AGENT = "clouds/ssh/agent"
PROGRAMS = ("clouds/local/doors", "clouds/local/record", "clouds/local/sshserver", "clouds/local/supervisor")
"""Those that run by themselves."""
_IMPORT = re.compile(r"^from trainyard\.?([\w.]*) import (?:\(([^)]*)\)|(.+))$", re.MULTILINE)
"""What a module imports when it is loaded: what only types or a function need stands further in."""


def needed(name: str = AGENT, known: frozenset[str] = frozenset()) -> frozenset[str]:
    """Return a module and all modules that are loaded with it, as paths below trainyard/ without their ending."""
    known = known | {name}
    for package, block, line in _IMPORT.findall((_ROOT / f"{name}.py").read_text(encoding="utf-8")):
        folder = package.replace(".", "/")
        parts = [part.split(" as ")[0].strip() for part in (block or line.partition("#")[0]).split(",")]
        for path in (folder, *(f"{folder}/{part}".lstrip("/") for part in parts if part)):
            if path and path not in known and (_ROOT / f"{path}.py").is_file():
                known = needed(path, known)
    return known


@functools.cache
def loader() -> bytes:
    """Return the program that runs first there."""
    return (_HERE / "loader.py").read_bytes()


@functools.cache
def packed() -> tuple[str, bytes]:
    """Return the modules as an archive, with the name of this version of them. Packages are empty there: nothing loads more."""
    files = {f"trainyard/{name}.py": (_ROOT / f"{name}.py").read_bytes() for name in (*needed(), *PROGRAMS)}
    files |= {f"{folder}/__init__.py": b"" for path in files for folder in map(str, Path(path).parents) if folder != "."}
    content = hashlib.sha256()
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as into:
        for path, data in sorted(files.items()):
            content.update(f"{path} {len(data)}\n".encode() + data)
            into.writestr(zipfile.ZipInfo(path), data, zipfile.ZIP_DEFLATED)
    return content.hexdigest()[:16], archive.getvalue()
