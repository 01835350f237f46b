"""Filters for texts: encodings, hashes, regular expressions, moments, comments."""

from __future__ import annotations

import base64
import datetime
import hashlib
import re
import secrets
import shlex
import shutil
import string
import subprocess
import time
import uuid
from collections.abc import Callable
from typing import Any

from trainyard.clock import parse_time

_NAMESPACE = uuid.UUID("361E6D51-FAEC-444A-9079-341386DA8E2E")
"""Of Ansible: by it the same text gives the same uuid there and here."""
_COMMENTS: dict[str, dict[str, str]] = {
    "plain": {"decoration": "# "}, "erlang": {"decoration": "% "}, "c": {"decoration": "// "},
    "cblock": {"beginning": "/*", "decoration": " * ", "end": " */"},
    "xml": {"beginning": "<!--", "decoration": " - ", "end": "-->"},
}  # fmt: skip
_CRYPT = {"md5": "-1", "sha256": "-5", "sha512": "-6"}


def _bytes(value: Any, encoding: str = "utf-8") -> bytes:
    return value if isinstance(value, bytes) else str(value).encode(encoding)


def _b64encode(value: Any, encoding: str = "utf-8", urlsafe: bool = False) -> str:
    encode = base64.urlsafe_b64encode if urlsafe else base64.b64encode
    return encode(_bytes(value, encoding)).decode()


def _b64decode(value: Any, encoding: str = "utf-8", urlsafe: bool = False) -> str:
    decode = base64.urlsafe_b64decode if urlsafe else base64.b64decode
    return decode(_bytes(value)).decode(encoding)


def _hash(value: Any, algorithm: str = "sha1") -> str:
    return hashlib.new(algorithm, _bytes(value)).hexdigest()


def _password_hash(password: Any, hashtype: str = "sha512", salt: str | None = None, rounds: int | None = None, **more: Any) -> str:
    """Hash a password as /etc/shadow has it; OpenSSL does it, and reads the password from a pipe."""
    if hashtype not in _CRYPT:
        raise ValueError(f"password_hash: {', '.join(_CRYPT)} are known here, not {hashtype}")
    if rounds is not None or set(more) - {"salt_size", "ident"}:
        raise ValueError("password_hash: the number of rounds is the system's own: leave 'rounds' out")
    if (program := shutil.which("openssl")) is None:
        raise ValueError("password_hash needs the program 'openssl' on this machine")
    length = int(more.get("salt_size") or (8 if hashtype == "md5" else 16))
    salt = salt or "".join(secrets.choice(string.ascii_letters + string.digits) for _ in range(length))
    command = [program, "passwd", _CRYPT[hashtype], "-salt", salt, "-stdin"]
    done = subprocess.run(command, input=_bytes(password) + b"\n", capture_output=True, check=False)
    if done.returncode or b"\n" in _bytes(password):
        raise ValueError(f"password_hash: {done.stderr.decode(errors='replace').strip() or 'a password is one line'}")
    return done.stdout.decode().strip()


def _flags(ignorecase: bool, multiline: bool) -> int:
    return (re.IGNORECASE if ignorecase else 0) | (re.MULTILINE if multiline else 0)


def _regex_search(text: Any, pattern: str, *groups: str, ignorecase: bool = False, multiline: bool = False) -> Any:
    chosen: list[int | str] = []
    for group in groups:
        known = re.fullmatch(r"\\(?:g<(\w+)>|(\d+))", group)
        if known is None:
            raise ValueError(rf"regex_search: a group is written '\1' or '\g<name>', not '{group}'")
        chosen.append(int(known[2]) if known[2] else known[1])
    match = re.search(pattern, str(text), _flags(ignorecase, multiline))
    if match is None:
        return None
    return [match[group] for group in chosen] if chosen else match[0]


def _regex_findall(text: Any, pattern: str, multiline: bool = False, ignorecase: bool = False) -> list[Any]:
    return re.findall(pattern, str(text), _flags(ignorecase, multiline))


def _regex_replace(
    text: Any = "", pattern: str = "", replacement: str = "", ignorecase: bool = False, multiline: bool = False, count: int = 0,
    mandatory_count: int = 0,
) -> str:  # fmt: skip
    result, times = re.subn(pattern, replacement, str(text), count=count, flags=_flags(ignorecase, multiline))
    if mandatory_count and times != mandatory_count:
        raise ValueError(f"regex_replace: '{pattern}' is there {times} times, not {mandatory_count}")
    return result


def _regex_escape(text: Any, re_type: str = "python") -> str:
    if re_type not in ("python", "posix_basic"):
        raise ValueError("regex_escape: re_type is python or posix_basic")
    return re.escape(str(text)) if re_type == "python" else re.sub(r"([].[^$*\\])", r"\\\1", str(text))


def _strftime(form: str, second: Any = None, utc: bool = False) -> str:
    moment = time.time() if second is None else float(second)
    return time.strftime(form, (time.gmtime if utc else time.localtime)(moment))


def _epoch(text: str) -> int:
    """Return a moment written as 2026-11-24T03:00:00Z in seconds."""
    moment = parse_time(text)
    if moment is None:
        raise ValueError(f"'{text}' is no moment like 2026-11-24T03:00:00Z")
    return round(moment.timestamp())


def _comment(text: str, style: str = "plain", **own: Any) -> str:
    if style not in _COMMENTS:
        raise ValueError(f"comment: the style is one of {', '.join(_COMMENTS)}")
    known = {"newline": "\n", "beginning": "", "end": "", "prefix_count": 1, "postfix_count": 1, **_COMMENTS[style], **own}
    bare = known["decoration"].rstrip()
    known = {"prefix": bare, "postfix": bare, **known}
    end = known["newline"]
    prefix = str(known["prefix"]) if known["prefix"] != end else ""
    lines = [f"{known['decoration']}{line}" for line in str(text).split(end)]
    body = [line if line != known["decoration"] or i == len(lines) - 1 else line.rstrip() for i, line in enumerate(lines)]
    head = ([known["beginning"]] if known["beginning"] else []) + ([prefix] * int(known["prefix_count"]) if known["prefix"] else [])
    tail = [known["postfix"]] * int(known["postfix_count"]) + ([known["end"]] if known["end"] else [])
    return str(end.join([*head, *body, *tail]))


FILTERS: dict[str, Callable[..., Any]] = {
    "b64decode": _b64decode, "b64encode": _b64encode, "checksum": _hash, "comment": _comment, "epoch": _epoch, "hash": _hash,
    "md5": lambda value: _hash(value, "md5"), "password_hash": _password_hash,
    "quote": lambda value: shlex.quote("" if value is None else str(value)),
    "regex_escape": _regex_escape, "regex_findall": _regex_findall, "regex_replace": _regex_replace, "regex_search": _regex_search,
    "sha1": _hash, "split": lambda value, *words: value.split(*words), "strftime": _strftime,
    "to_datetime": lambda text, form="%Y-%m-%d %H:%M:%S", **by: datetime.datetime.strptime(text, by.get("format", form)),
    "to_uuid": lambda text, namespace=_NAMESPACE: str(uuid.uuid5(uuid.UUID(str(namespace)), str(text))),
}  # fmt: skip
