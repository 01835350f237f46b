"""wait_for: a port that answers, a path that is there, a text in a file."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import cast

from trainyard.errors import UserError
from trainyard.playbook.schema import Arg, Schema, text_or_none
from trainyard.playbook.steps import Step, Wait
from trainyard.playbook.values import Variables
from trainyard.shellscript import load

WAIT_FOR = Schema(
    "wait_for",
    (
        Arg("port", "int"), Arg("host"), Arg("path", "path"), Arg("regex", aliases=("search_regex",)),
        Arg("state", choices=("present", "absent", "started", "stopped")), Arg("timeout", "number"), Arg("sleep", "number"),
        Arg("delay", "number"), Arg("msg"),
    ),
    needs={"regex": "path", "host": "port"},
    again="reads",
    does="wait for a port that answers, a path that is there, a text in a file; without any, just so long",
)  # fmt: skip
_STATES = {"started": "present", "stopped": "absent"}


def wait_for(args: Mapping[str, object], folder: Path, variables: Variables) -> Step:
    """Wait on the host itself until it is there (or gone)."""
    state = str(args.get("state", "present"))
    state = _STATES.get(state, state)
    timeout = float(cast(float, args.get("timeout", 300)))
    values = {"wanted": state, "seconds": max(1, round(timeout)), "pause": args.get("sleep", 1), "delay": args.get("delay", 0)}
    gone = " to be gone" if state == "absent" else ""
    if "port" in args and "path" in args:
        raise UserError("'wait_for' takes one of: port, path")
    if "port" in args:
        port, host = cast(int, args["port"]), str(args.get("host", "127.0.0.1")).replace("localhost", "127.0.0.1")
        values |= {"host": host, "port": port, "hex": f"{port:04X}"}
        script, what = "wait_for_port", f"port {port} of {host}{gone}"
    elif "path" in args:
        values |= {"path": args["path"], "regex": args.get("regex", "")}
        script, what = (
            ("wait_for_regex", f"'{args['regex']}' in {args['path']}{gone}")
            if "regex" in args
            else ("wait_for_path", f"{args['path']}{gone}")
        )
    else:
        script, what = "wait_for_nothing", "nothing"
    return Wait(load(__package__, script), values, what, timeout, text_or_none(args, "msg"))
