"""Filters for paths, all of them on this machine's side, and for addresses of the web."""

from __future__ import annotations

import glob
import os
import posixpath
from collections.abc import Callable
from typing import Any
from urllib.parse import unquote_plus, urlsplit

_PARTS = ("fragment", "hostname", "netloc", "password", "path", "port", "query", "scheme", "username")


def _path_join(parts: Any) -> str:
    return parts if isinstance(parts, str) else posixpath.join(*parts)


def _fileglob(pattern: str) -> list[str]:
    return [path for path in glob.glob(pattern) if os.path.isfile(path)]


def _urlsplit(address: str, query: str = "") -> Any:
    split = urlsplit(address)
    parts = {name: getattr(split, name) for name in _PARTS}
    if query and query not in parts:
        raise ValueError(f"urlsplit: an address has no '{query}'")
    return parts[query] if query else parts


FILTERS: dict[str, Callable[..., Any]] = {
    "basename": posixpath.basename, "commonpath": posixpath.commonpath, "dirname": posixpath.dirname,
    "expanduser": os.path.expanduser, "expandvars": os.path.expandvars, "fileglob": _fileglob, "normpath": posixpath.normpath,
    "path_join": _path_join, "realpath": os.path.realpath, "relpath": os.path.relpath,
    "splitext": lambda path: list(posixpath.splitext(path)), "urldecode": unquote_plus, "urlsplit": _urlsplit,
}  # fmt: skip
