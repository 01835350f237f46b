"""get_url, uri, unarchive: what an address has, asked by the host itself with curl or wget, and what is unpacked there."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import cast
from urllib.parse import urlencode, urlsplit

from trainyard.errors import UserError
from trainyard.jsontext import parse_json
from trainyard.playbook.actions.answers import fields, script
from trainyard.playbook.actions.placement import BACKUP, OWNERSHIP, owned_by
from trainyard.playbook.schema import Arg, Schema
from trainyard.playbook.sources import no_file
from trainyard.playbook.steps import Outcome, Step
from trainyard.playbook.values import Variables
from trainyard.remote.protocol import CommandResult

_LOGIN = (Arg("url_username", aliases=("user",)), Arg("url_password", aliases=("password",)), Arg("force_basic_auth", "bool"))
_ASKING = (*_LOGIN, Arg("headers", "map"), Arg("timeout", "number"), Arg("validate_certs", "bool"), Arg("http_agent"))
_SUMS = {"md5": 32, "sha1": 40, "sha224": 56, "sha256": 64, "sha384": 96, "sha512": 128}
GET_URL = Schema(
    "get_url",
    (Arg("url", required=True), Arg("dest", "path", required=True), Arg("checksum"), Arg("force", "bool"), *_ASKING, *OWNERSHIP, *BACKUP),
    again="writes",
    does="have a file that an address names: whole, of the promised sum, or not at all",
)
URI = Schema(
    "uri",
    (
        Arg("url", required=True), Arg("method"), Arg("body", "any"), Arg("body_format", choices=("raw", "json", "form-urlencoded")),
        Arg("status_code", "words"), Arg("return_content", "bool"), Arg("dest", "path"), Arg("creates", "path", empty=True),
        Arg("removes", "path", empty=True), Arg("follow_redirects", choices=("all", "none", "safe", "yes", "no")),
        Arg("unix_socket", "path"), *_ASKING,
    ),
    does="ask an address and say what came: status, headers, json, content",
)  # fmt: skip
UNARCHIVE = Schema(
    "unarchive",
    (
        Arg("src", required=True, local="files"), Arg("dest", "path", required=True), Arg("remote_src", "bool"), Arg("copy", "bool"),
        Arg("creates", "path", empty=True), Arg("extra_opts", "list"), Arg("include", "words"), Arg("exclude", "words"),
        Arg("validate_certs", "bool"), *OWNERSHIP,
    ),
    again="writes",
    does="unpack an archive (tar of any compression, zip) below a folder, unless all of it lies there already",
)  # fmt: skip


def get_url(args: Mapping[str, object], folder: Path, variables: Variables) -> Step:
    """Bring a file from an address to the host."""
    url = _url(args["url"])
    algorithm, sum_, sums_url = _checksum(str(args.get("checksum") or ""))
    name = Path(urlsplit(url).path).name or "index.html"
    owned = owned_by(args)
    values = {
        "url": url, "path": args["dest"], "name": name, "algorithm": algorithm, "sum": sum_, "sums_url": sums_url,
        "force": bool(args.get("force")), "backup": bool(args.get("backup")),
        "mode": owned.mode, "owner": owned.owner, "group": owned.group,
        **_asking(args, 10),
    }  # fmt: skip
    return script("get_url", values, stdin=_head(args, {}))


def uri(args: Mapping[str, object], folder: Path, variables: Variables) -> Step:
    """Ask an address."""
    method = str(args.get("method", "GET")).upper()
    if not re.fullmatch("[A-Z]+", method):
        raise UserError(f"'method' of 'uri' is a word such as POST, not '{method}'")
    statuses = [str(code) for code in cast(list[object], args.get("status_code", [200]))]
    body, kind = _body(args)
    follow = str(args.get("follow_redirects", "safe"))
    values = {
        "url": _url(args["url"]), "method": method, "status": " ".join(statuses), "with_content": bool(args.get("return_content")),
        "follow": follow in ("all", "yes") or (follow == "safe" and method in ("GET", "HEAD")), "socket": args.get("unix_socket"),
        **{name: args.get(name) for name in ("dest", "creates", "removes")}, **_asking(args, 30),
    }  # fmt: skip
    step = script("uri", values, stdin=_head(args, kind) + b"\n" + body, read=lambda done: _answer(done, statuses))
    return replace(step, decides=True)


def unarchive(args: Mapping[str, object], folder: Path, variables: Variables) -> Step:
    """Unpack an archive of this machine, of the host or from an address."""
    there = bool(args.get("remote_src")) or args.get("copy") is False or "://" in str(args["src"])
    src = Path(str(args["src"])).expanduser()
    if not there and not (folder / src).is_file():
        raise UserError(f"'unarchive': {no_file(folder / src)}; one of the host is taken with 'remote_src: true'")
    owned = owned_by(args)
    values = {
        "src": args["src"] if there else "", "dest": args["dest"], "creates": args.get("creates"), "options": args.get("extra_opts"),
        "members": args.get("include"), "exclude": args.get("exclude"), "mode": owned.mode, "owner": owned.owner, "group": owned.group,
        **_asking(args, 10),
    }  # fmt: skip
    step = script("unarchive", values)
    return step if there else replace(step, file=folder / src)


def _url(url: object) -> str:
    text = str(url)
    if not re.match(r"(https?|ftp|file)://\S", text) or "\n" in text:
        raise UserError(f"'url' is an address such as https://example.org/file, not '{text}'")
    return text


def _asking(args: Mapping[str, object], timeout: float) -> dict[str, object]:
    insecure = "" if args.get("validate_certs", True) else "1"
    return {"timeout": round(cast(float, args.get("timeout", timeout))) or 1, "insecure": insecure, "agent": args.get("http_agent")}


def _head(args: Mapping[str, object], more: Mapping[str, object]) -> bytes:
    """Return the login and the headers, a line each: they may be keys, so they go to the host's stdin."""
    login = f"{args['url_username']}:{args.get('url_password', '')}" if args.get("url_username") else ""
    headers = {**more, **cast(Mapping[str, object], args.get("headers") or {})}
    lines = [login, *(f"{name}: {value}" for name, value in headers.items())]
    if any("\n" in line or "\r" in line for line in lines):
        raise UserError("a header or a login is one line")
    return "".join(f"{line}\n" for line in lines).encode()


def _checksum(text: str) -> tuple[str, str, str]:
    if not text:
        return "sha256", "", ""
    algorithm, _, rest = text.partition(":")
    if algorithm not in _SUMS or not rest:
        raise UserError(f"'checksum' is ALGORITHM:SUM or ALGORITHM:URL with one of {', '.join(_SUMS)}, not '{text}'")
    if "://" in rest:
        return algorithm, "", rest
    if not re.fullmatch(f"[0-9a-fA-F]{{{_SUMS[algorithm]}}}", rest):
        raise UserError(f"'checksum': {algorithm} has {_SUMS[algorithm]} hex characters, and '{rest}' are others")
    return algorithm, rest, ""


def _body(args: Mapping[str, object]) -> tuple[bytes, dict[str, object]]:
    body, kind = args.get("body"), args.get("body_format", "raw")
    if body is None:
        return b"", {}
    if kind == "json":
        return (body if isinstance(body, str) else json.dumps(body)).encode(), {"Content-Type": "application/json"}
    if kind == "form-urlencoded":
        text = body if isinstance(body, str) else urlencode(cast(Mapping[str, object], body), doseq=True)
        return text.encode(), {"Content-Type": "application/x-www-form-urlencoded"}
    return str(body).encode(), {}


def _answer(done: CommandResult, statuses: list[str]) -> Outcome:
    """Return what was answered; JSON is read where the server says that it is JSON."""
    result = fields(done)
    with_content = result.pop("with_content", False)
    content = str(result.get("content", ""))
    if re.match(r"(application|text)/(.+\+)?(json|javascript)", str(result.get("content_type", ""))):
        with suppress(ValueError):
            result["json"] = parse_json(content)
    if not with_content:
        result.pop("content", None)
    if "status" in result and str(result["status"]) not in statuses:
        said = result.get("msg", f"{result.get('url')} answered {result['status']}, not {' or '.join(statuses)}")
        result |= {"failed": True, "msg": said}
    return result
