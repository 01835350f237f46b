"""Start commands that carry the watchdog into a pod, so that it runs from the first second on any image."""

from __future__ import annotations

import ast
import base64
import functools
import gzip
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path

from trainyard.pythontext import parse_python
from trainyard.shellscript import load

OUR_IMAGE = "trainyard-trainer"
"""Last part of the name of images whose entrypoint starts the watchdog and sshd by itself."""

KEYS = ("SSH_HOST_ED25519_KEY", "RUNPOD_API_KEY", "CONTAINER_API_KEY", "JUPYTER_PASSWORD")
"""Variables of a container that are the pod's own keys: for its watchdog and its SSH server, for nothing that a person starts."""
FORGET_KEYS = f"unset {' '.join(KEYS)} $TRAINYARD_POD_KEYS\n"


def pod_keys(env: Mapping[str, str]) -> tuple[str, ...]:
    """Return the variables that hold keys of a pod: the known ones, and those that its create request names."""
    return tuple(dict.fromkeys((*KEYS, *env.get("TRAINYARD_POD_KEYS", "").split())))


def watchdog_source() -> str:
    """Return the text of watchdog.py as it is sent to pods."""
    return (Path(__file__).parent / "watchdog.py").read_text(encoding="utf-8")


def start_script() -> str:
    """Return the lines of sh that start the watchdog, detached, and go on; a second start does nothing."""
    return f"watchdog={_packed()}\n{load(__package__, 'start_watchdog')}"


def boot_command(then: Sequence[str] = ()) -> tuple[str, ...]:
    """Return the command that starts the watchdog and then becomes ``then`` (nothing: it exits)."""
    script = start_script()
    if then:
        script += f"{FORGET_KEYS}exec {shlex.join(then)}\n"
    return ("sh", "-c", script)


SECRETS = "TRAINYARD_SECRETS"
"""The one variable of a container without SSH that is a secret: where its bundle is, by which URLs it tells, what its job gets."""


def container_command(sha256: str) -> tuple[str, ...]:
    """Return all that a container without SSH runs: it fetches the bundle of that hash, proves it, and becomes what that says.

    The program for sh has one pair of double quotes and no other: where a cloud takes one string, one level around it is enough.
    """
    packed = _pack(_without_docstrings((Path(__file__).parent / "entry.py").read_text(encoding="utf-8")))
    start = "import base64,gzip,sys;exec(gzip.decompress(base64.b64decode(sys.argv.pop())))"
    lacks = "trainyard: this image has no python3, which a cloud without SSH needs"
    script = f'command -v python3 >/dev/null || {{ echo {lacks} >&2; exit 127; }}; exec python3 -I -X utf8 -c "{start}" {sha256} {packed}'
    return ("sh", "-c", script)


def starts_watchdog_itself(image: str | None) -> bool:
    """Tell whether an image's own entrypoint starts the watchdog."""
    name = (image or "").partition("@")[0].rpartition("/")[2].partition(":")[0]
    return name == OUR_IMAGE


@functools.cache
def _packed() -> str:
    return _pack(_without_docstrings(watchdog_source()))


def _pack(source: str) -> str:
    # A fixed time stamp: the same program gives the same bytes, so a retry sends the same request.
    return base64.b64encode(gzip.compress(source.encode(), 9, mtime=0)).decode()


def _without_docstrings(source: str) -> str:
    """Return a program's text without the lines that only people read; what a create request may have is little."""
    lines = source.splitlines(keepends=True)
    for node in ast.walk(parse_python(source)):
        body = getattr(node, "body", None)
        for one in body if isinstance(body, list) and len(body) > 1 else []:
            if isinstance(one, ast.Expr) and isinstance(one.value, ast.Constant) and isinstance(one.value.value, str):
                lines[one.lineno - 1 : one.end_lineno] = ["" for _ in range(one.lineno - 1, one.end_lineno or one.lineno)]
    return "".join(lines)
