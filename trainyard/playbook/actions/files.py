"""copy, template, file, fetch: compared by content and mode, never by time; written whole or not at all."""

from __future__ import annotations

import posixpath
from collections.abc import Mapping
from pathlib import Path

from trainyard import templating
from trainyard.errors import UserError
from trainyard.playbook.expressions import render_template
from trainyard.playbook.natives import Variables
from trainyard.playbook.schema import Arg, Schema
from trainyard.playbook.steps import Get, PutFile, PutText, PutTree, Script, Step
from trainyard.shellscript import load

COPY = Schema(
    "copy",
    (
        Arg("src"), Arg("content", "any"), Arg("dest", "path", required=True), Arg("mode", "mode"), Arg("sha256", "sha256"),
        Arg("store", "path", empty=True),
    ),
    one_of=(("src", "content"),),
    again="writes",
)  # fmt: skip
TEMPLATE = Schema("template", (Arg("src", required=True), Arg("dest", "path", required=True), Arg("mode", "mode")), again="writes")
FILE = Schema(
    "file",
    (
        Arg("path", "path", required=True), Arg("state", choices=("directory", "absent", "link", "touch", "file")),
        Arg("mode", "mode"), Arg("src", "path"),
    ),
    again="writes",
)  # fmt: skip
FETCH = Schema("fetch", (Arg("src", "path", required=True), Arg("dest", required=True), Arg("sha256", "sha256")), again="reads")


def copy(args: Mapping[str, object], folder: Path, variables: Variables) -> Step:
    """Put a local file, a local folder or a text on the host."""
    dest = str(args["dest"])
    mode = args.get("mode")
    mode = mode if isinstance(mode, int) else None
    if "content" in args:
        data = args["content"]
        text = data if isinstance(data, str) else templating.environment().filters["json"](data) + "\n"
        return PutText(_into(dest, None), str(text).encode(), mode)
    src = folder / Path(str(args["src"])).expanduser()
    promised = args.get("sha256")
    if src.is_dir():
        if mode is not None or promised is not None:
            raise UserError(f"'copy': mode and sha256 are for one file, and {src} is a folder")
        return PutTree(src, dest, str(args["store"]) if args.get("store") else None)
    if not src.exists():
        raise UserError(f"'copy': there is no {src}")
    if not src.is_file():
        raise UserError(f"'copy': {src} is neither a file nor a folder (a pipe or a device?)")
    return PutFile(src, _into(dest, src.name), mode, promised if isinstance(promised, str) else None)


def template(args: Mapping[str, object], folder: Path, variables: Variables) -> Step:
    """Render a local Jinja file with the task's variables and put it on the host."""
    src = folder / Path(str(args["src"])).expanduser()
    mode = args.get("mode")
    text = render_template(src, variables)
    return PutText(_into(str(args["dest"]), src.name.removesuffix(".j2")), text.encode(), mode if isinstance(mode, int) else None)


def file(args: Mapping[str, object], folder: Path, variables: Variables) -> Step:
    """Make a path be a folder, a link, a file that exists, or nothing."""
    state = str(args.get("state", "file"))
    if (state == "link") != ("src" in args):
        raise UserError("'file': 'src' and 'state: link' go together")
    mode = args.get("mode")
    values = {"path": args["path"], "mode": f"{mode:04o}" if isinstance(mode, int) else "", "src": args.get("src", "")}
    return Script(load(__package__, f"file_{state}"), values)


def fetch(args: Mapping[str, object], folder: Path, variables: Variables) -> Step:
    """Bring a file or a folder home, proven by sha256; ``dest`` is the local path itself (below it with a final /)."""
    src, dest = str(args["src"]), str(args["dest"])
    local = Path(dest).expanduser()
    promised = args.get("sha256")
    return Get(src, local / posixpath.basename(src) if dest.endswith("/") else local, promised if isinstance(promised, str) else None)


def _into(dest: str, name: str | None) -> str:
    """Return the path itself, or the name below it when it ends in a slash."""
    if not dest.endswith("/"):
        return dest
    if name is None:
        raise UserError(f"'copy': with 'content' 'dest' is a file, not {dest}")
    return dest + name
