"""copy, template, file, fetch: compared by content and mode, never by time; written whole or not at all."""

from __future__ import annotations

import json
import posixpath
import stat
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path

from trainyard.errors import UserError
from trainyard.files import digest_of
from trainyard.playbook.actions import placement
from trainyard.playbook.actions.answers import script
from trainyard.playbook.actions.placement import BACKUP, OWNERSHIP, VALIDATE, owned_by, owner_values, plain_path
from trainyard.playbook.expressions import render_template
from trainyard.playbook.natives import Variables
from trainyard.playbook.places import PROGRAM, Placement
from trainyard.playbook.schema import Arg, Schema
from trainyard.playbook.sources import as_written
from trainyard.playbook.steps import Get, PutFile, PutTree, Step
from trainyard.remote.transfer import SMALL

_PLACING = (*OWNERSHIP, *BACKUP, Arg("force", "bool", aliases=("thirsty",)), Arg("follow", "bool"), *VALIDATE)
COPY = Schema(
    "copy",
    (
        Arg("src", local="files"), Arg("content", "any", ends=True), Arg("dest", "path", required=True), Arg("remote_src", "bool"),
        Arg("directory_mode", "mode"),
        Arg("local_follow", "bool"), Arg("checksum"), Arg("sha256", "sha256"), Arg("store", "path", empty=True), Arg("decrypt", "bool"),
        *_PLACING,
    ),
    one_of=(("src", "content"),),
    again="writes",
    does="put a local file, folder or text on the host, or copy what is there; compared by content, written whole or not at all",
)  # fmt: skip
_SWITCHES = ("trim_blocks", "lstrip_blocks")
_MARKS = tuple(f"{what}_{end}_string" for what in ("block", "variable", "comment") for end in ("start", "end"))
TEMPLATE_WISHES = (*_SWITCHES, *_MARKS)
_LINE_ENDS = {"\\n": "\n", "\\r\\n": "\r\n", "\\r": "\r"}
TEMPLATE = Schema(
    "template",
    (
        Arg("src", required=True, local="templates"), Arg("dest", "path", required=True), *(Arg(name, "bool") for name in _SWITCHES),
        *(Arg(name) for name in _MARKS), Arg("newline_sequence"), Arg("output_encoding"), *_PLACING,
    ),
    again="writes",
    does="render a local Jinja file with the task's variables and put it on the host",
)  # fmt: skip
FILE = Schema(
    "file",
    (
        Arg("path", "path", required=True, aliases=("dest", "name")),
        Arg("state", choices=("directory", "absent", "link", "hard", "touch", "file")), Arg("src", "path"), *OWNERSHIP,
        Arg("recurse", "bool"), Arg("force", "bool"), Arg("follow", "bool"), Arg("modification_time"), Arg("access_time"),
        Arg("modification_time_format"), Arg("access_time_format"),
    ),
    again="writes",
    does="make a path be a folder, a link, a file that exists, or nothing; its mode, owner, group and times",
)  # fmt: skip
FETCH = Schema(
    "fetch",
    (
        Arg("src", "path", required=True), Arg("dest", required=True), Arg("flat", "bool"), Arg("fail_on_missing", "bool"),
        Arg("sha256", "sha256"),
    ),
    does="bring a file or a folder of the host to this machine, proven by its hash",
    again="reads",
)  # fmt: skip


def copy(args: Mapping[str, object], folder: Path, variables: Variables) -> Step:
    """Put a local file, a local folder or a text on the host."""
    to = _placement(args)
    if "content" in args:
        data = args["content"]
        text = data if isinstance(data, str) else json.dumps(data) if isinstance(data, (dict, list)) else str(data)
        if to.into:
            raise UserError(f"'copy': with 'content' 'dest' is a file, not {args['dest']}")
        return placement.put(text.encode(errors="surrogateescape"), to)
    if args.get("remote_src"):
        return _copy_there(args)
    written = str(args["src"])
    src = folder / Path(written).expanduser()
    if src.is_dir():
        return _copy_folder(args, src, whole=not written.endswith("/"))
    if not src.exists():
        raise UserError(f"'copy': there is no {src}")
    if not src.is_file():
        raise UserError(f"'copy': {src} is neither a file nor a folder (a pipe or a device?)")
    status = src.stat()
    fresh = PROGRAM if status.st_mode & stat.S_IXUSR else to.fresh
    to = _placement(args, name=src.name, fresh=fresh, preserved=f"{stat.S_IMODE(status.st_mode):04o}")
    _promise(args, src)
    if status.st_size > SMALL:
        return PutFile(src, to)
    return placement.put(src.read_bytes(), to, said={"src": str(src)})


def template(args: Mapping[str, object], folder: Path, variables: Variables) -> Step:
    """Render a local Jinja file with the task's variables and put it on the host."""
    src = folder / Path(str(args["src"])).expanduser()
    wishes = {name: args[name] for name in TEMPLATE_WISHES if name in args}
    text = render_template(src, variables, wishes, as_written(args["src"]), str(args["dest"]))
    written = str(args.get("newline_sequence", "\n"))
    line_end = _LINE_ENDS.get(written, written)
    if line_end not in _LINE_ENDS.values():
        raise UserError(f"'template': 'newline_sequence' is \\n, \\r or \\r\\n, not {written!r}")
    try:
        data = text.replace("\n", line_end).encode(str(args.get("output_encoding", "utf-8")))
    except (LookupError, UnicodeEncodeError) as error:
        raise UserError(f"'template': 'output_encoding': {error}") from None
    preserved = f"{stat.S_IMODE(src.stat().st_mode):04o}"
    return placement.put(data, _placement(args, name=src.name.removesuffix(".j2"), preserved=preserved), said={"src": str(src)})


def file(args: Mapping[str, object], folder: Path, variables: Variables) -> Step:
    """Make a path be a folder, a link, a file that exists, or nothing."""
    state = str(args.get("state", ""))
    if (bool(args.get("src")) and state not in ("link", "hard")) or (
        state == "link" and args.get("follow") is False and not args.get("src")
    ):
        raise UserError("'file': 'src' goes with 'state: link' or 'state: hard'")
    if args.get("recurse") and state not in ("directory", ""):
        raise UserError("'file': 'recurse' goes with 'state: directory'")
    path = plain_path(args["path"])
    values = {
        "path": path, "state": state, "src": args.get("src", ""), "recurse": bool(args.get("recurse")), "force": bool(args.get("force")),
        "follow": bool(args.get("follow", True)), **owner_values(owned_by(args)),
        "modified": _time(args, "modification_time", state), "accessed": _time(args, "access_time", state),
    }  # fmt: skip
    name = "dest" if state in ("link", "hard", "touch") else "path"
    return script("file", values, read=placement.reader({name: path}))


def fetch(args: Mapping[str, object], folder: Path, variables: Variables) -> Step:
    """Bring a file or a folder home, proven by sha256: to DEST/HOST/SRC, with ``flat`` to DEST itself (below it with a final /)."""
    src, dest = str(args["src"]), str(args["dest"])
    local = Path(str(variables.get("playbook_dir") or folder)) / Path(dest).expanduser()
    if not args.get("flat"):
        # Behind a slash ".." leads nowhere: no host's file is written into the folder of another.
        local = local / str(variables["inventory_hostname"]) / posixpath.normpath(f"/{src}").lstrip("/")
    elif dest.endswith("/"):
        local = local / posixpath.basename(src)
    promised = args.get("sha256")
    return Get(src, local, promised if isinstance(promised, str) else None, bool(args.get("fail_on_missing", True)))


def _placement(args: Mapping[str, object], *, name: str = "", fresh: str = "0666", preserved: str = "") -> Placement:
    """Return where and how a file shall lie; a path with a slash at its end is the folder that it goes into."""
    dest = str(args["dest"])
    return Placement(
        plain_path(dest), owned_by(args, preserved), name, dest.endswith("/"), str(args.get("directory_mode") or ""),
        backup=bool(args.get("backup")), force=bool(args.get("force", True)), follow=bool(args.get("follow")),
        unsafe=bool(args.get("unsafe_writes")), validate=placement.checked_by(str(args.get("validate") or "")), fresh=fresh,
    )  # fmt: skip


def _copy_there(args: Mapping[str, object]) -> Step:
    """Copy what lies on the host itself."""
    if args.get("checksum") or args.get("sha256") or args.get("store"):
        raise UserError("'copy': checksum, sha256 and store are for what comes from here, and 'remote_src' is on the host")
    src = str(args["src"])
    named = _placement(args, name=posixpath.basename(src.rstrip("/")), preserved="preserve")
    return placement.place_from(plain_path(src), named, folder=src.endswith("/"))


def _copy_folder(args: Mapping[str, object], src: Path, *, whole: bool) -> Step:
    """Put a local folder below ``dest``, or with a slash at its end only what it holds."""
    for name in ("sha256", "checksum", "validate", "backup"):
        if args.get(name):
            raise UserError(f"'copy': '{name}' is for one file, and {src} is a folder")
    dest = plain_path(args["dest"])
    return PutTree(
        src, posixpath.join(dest, src.resolve().name if src.name in ("", ".", "..") else src.name) if whole else dest,
        str(args["store"]) if args.get("store") else None, owned_by(args, "preserve"), str(args.get("directory_mode") or ""),
        links=args.get("local_follow") is False, force=bool(args.get("force", True)),
    )  # fmt: skip


def _promise(args: Mapping[str, object], src: Path) -> None:
    """Refuse a local file that is not the one which was promised."""
    for name, algorithm in (("sha256", "sha256"), ("checksum", "sha1")):
        if (promise := args.get(name)) and (digest := digest_of(src, algorithm)) != promise:
            raise UserError(f"{src} is not the file that was promised: its {algorithm} is {digest}, not {promise}")


def _time(args: Mapping[str, object], name: str, state: str) -> str:
    """Return a time as touch reads it; a file that is touched gets the present one."""
    when = str(args.get(name, "now" if state == "touch" else "preserve"))
    if when in ("now", "preserve", ""):
        return "now" if when == "now" else ""
    try:
        return datetime.strptime(when, str(args.get(f"{name}_format", "%Y%m%d%H%M.%S"))).strftime("%Y%m%d%H%M.%S")
    except ValueError as error:
        raise UserError(f"'file': {name}: {error}; or 'now', 'preserve'") from None
