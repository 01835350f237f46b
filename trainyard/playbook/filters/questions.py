"""Tests that stand behind ``is``: how a task ended, what a text matches, what a path of this machine is."""

from __future__ import annotations

import functools
import math
import operator as compare
import os
import re
import urllib.parse
from collections.abc import Callable, Mapping
from typing import Any

_COMPARED = {
    "==": "eq", "=": "eq", "eq": "eq", "<": "lt", "lt": "lt", "<=": "le", "le": "le", ">": "gt", "gt": "gt", ">=": "ge", "ge": "ge",
    "!=": "ne", "<>": "ne", "ne": "ne",
}  # fmt: skip


def _is(key: str, expected: bool = True) -> Callable[[object], bool]:
    def test(result: object) -> bool:
        if not isinstance(result, Mapping):
            raise TypeError("this test is for the result of a task")
        return bool(result.get(key, False)) is expected

    return test


def _regex(text: Any, pattern: str = "", ignorecase: bool = False, multiline: bool = False, match_type: str = "search") -> bool:
    flags = (re.IGNORECASE if ignorecase else 0) | (re.MULTILINE if multiline else 0)
    if match_type not in ("search", "match", "fullmatch"):
        raise ValueError("regex: match_type is search, match or fullmatch")
    return getattr(re, match_type)(pattern, str(text), flags) is not None


def _version(value: Any, version: Any, operator: str = "==", strict: bool | None = None, version_type: str | None = None) -> bool:
    how = _COMPARED.get(operator)
    if how is None:
        raise ValueError(f"version: compares by {', '.join(_COMPARED)}")
    if not str(value) or not str(version):
        raise ValueError("version: an empty text is no version")
    keys: dict[str, Callable[[str], Any]] = {"loose": _loose, "strict": _strict, "semver": _semver, "semantic": _semver, "pep440": _pep440}
    if strict is not None and version_type is not None:
        raise ValueError("version: strict and version_type exclude each other")
    kind = "strict" if strict else version_type or "loose"
    if kind not in keys:
        raise ValueError(f"version: version_type is one of {', '.join(keys)}")
    return bool(getattr(compare, how)(keys[kind](str(value)), keys[kind](str(version))))


def _loose(text: str) -> list[Any]:
    parts = [part for part in re.split(r"(\d+|[a-z]+|\.)", text) if part and part != "."]
    return [int(part) if part.isdigit() else part for part in parts]


def _strict(text: str) -> tuple[Any, ...]:
    match = re.fullmatch(r"(\d+)\.(\d+)(?:\.(\d+))?(?:([ab])(\d+))?", text)
    if match is None:
        raise ValueError(f"version: '{text}' is no strict version like 1.2.3b4")
    return int(match[1]), int(match[2]), int(match[3] or 0), (match[4] or "z", int(match[5] or 0))


def _semver(text: str) -> tuple[Any, ...]:
    match = re.fullmatch(r"(\d+)\.(\d+)\.(\d+)(?:-([0-9A-Za-z.-]+))?(?:\+[0-9A-Za-z.-]+)?", text)
    if match is None:
        raise ValueError(f"version: '{text}' is no semantic version like 1.2.3-rc.1")
    before = [(0, int(part), "") if part.isdigit() else (1, 0, part) for part in (match[4] or "").split(".") if part]
    return int(match[1]), int(match[2]), int(match[3]), not before, before


def _pep440(text: str) -> Any:
    try:
        from packaging.version import Version
    except ImportError:
        raise ValueError("version: pep440 needs the Python package 'packaging'") from None
    return Version(text)


def _truthy(value: Any, convert_bool: bool = False) -> bool:
    if convert_bool and isinstance(value, str):
        word = value.strip().lower()
        if word in ("y", "yes", "on", "1", "true", "t", "n", "no", "off", "0", "false", "f"):
            return word in ("y", "yes", "on", "1", "true", "t")
    return bool(value)


def _changed(result: object) -> bool:
    if isinstance(result, Mapping) and "changed" not in result and isinstance(items := result.get("results"), list):
        return any(isinstance(item, Mapping) and item.get("changed") for item in items)
    return _is("changed")(result)


def _uri(value: Any, schemes: list[str] | None = None) -> bool:
    return isinstance(value, str) and (not schemes or urllib.parse.urlsplit(value).scheme in schemes)


def _url(value: Any, schemes: list[str] | None = None) -> bool:
    return _uri(value, schemes) and (parts := urllib.parse.urlsplit(value)) is not None and bool(parts.netloc or parts.scheme == "file")


def _urn(value: Any) -> bool:
    return _uri(value, ["urn"])


def _nan(value: Any) -> bool:
    return isinstance(value, float) and math.isnan(value)


TESTS: dict[str, Callable[..., bool]] = {
    **dict.fromkeys(("failed", "failure"), _is("failed")), **dict.fromkeys(("succeeded", "success", "successful"), _is("failed", False)),
    **dict.fromkeys(("changed", "change"), _changed), **dict.fromkeys(("skipped", "skip"), _is("skipped")),
    "unreachable": _is("unreachable"), "reachable": _is("unreachable", False),
    "regex": _regex, "match": functools.partial(_regex, match_type="match"), "search": _regex,
    **dict.fromkeys(("version", "version_compare"), _version),
    **dict.fromkeys(("subset", "issubset"), lambda one, other: set(one) <= set(other)),
    **dict.fromkeys(("superset", "issuperset"), lambda one, other: set(one) >= set(other)),
    "contains": lambda items, item: item in items, "any": lambda items: any(items), "all": lambda items: all(items),
    "truthy": _truthy, "falsy": lambda value, convert_bool=False: not _truthy(value, convert_bool),
    **dict.fromkeys(("nan", "isnan"), _nan), "vault_encrypted": lambda value: str(value).startswith("$ANSIBLE_VAULT;"),
    "exists": os.path.exists, "link_exists": os.path.lexists,
    **dict.fromkeys(("file", "is_file"), os.path.isfile), **dict.fromkeys(("directory", "is_dir"), os.path.isdir),
    **dict.fromkeys(("link", "is_link"), os.path.islink), **dict.fromkeys(("abs", "is_abs"), os.path.isabs),
    **dict.fromkeys(("mount", "is_mount"), os.path.ismount), **dict.fromkeys(("same_file", "is_same_file"), os.path.samefile),
    "uri": _uri, "url": _url, "urn": _urn,
}  # fmt: skip
