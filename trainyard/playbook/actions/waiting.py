"""wait_for: a port that answers, a path that is there, a text in a file."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import cast

from trainyard.playbook.schema import Arg, Schema
from trainyard.playbook.steps import Step, Wait
from trainyard.playbook.values import Variables
from trainyard.shellscript import load

WAIT_FOR = Schema(
    "wait_for",
    (
        Arg("port", "int"), Arg("host"), Arg("path", "path"), Arg("regex"), Arg("state", choices=("present", "absent")),
        Arg("timeout", "number"), Arg("sleep", "number"),
    ),
    one_of=(("port", "path"),),
    needs={"regex": "path", "host": "port"},
    again="reads",
)  # fmt: skip


def wait_for(args: Mapping[str, object], folder: Path, variables: Variables) -> Step:
    """Wait on the host itself until it is there (or gone)."""
    state = str(args.get("state", "present"))
    timeout = float(cast(float, args.get("timeout", 300)))
    values = {"wanted": state, "seconds": max(1, round(timeout)), "pause": args.get("sleep", 1)}
    gone = " to be gone" if state == "absent" else ""
    if "port" in args:
        port, host = cast(int, args["port"]), str(args.get("host", "127.0.0.1")).replace("localhost", "127.0.0.1")
        values |= {"host": host, "port": port, "hex": f"{port:04X}"}
        return Wait(load(__package__, "wait_for_port"), values, f"port {port} of {host}{gone}", timeout)
    values |= {"path": args["path"], "regex": args.get("regex", "")}
    if "regex" in args:
        return Wait(load(__package__, "wait_for_regex"), values, f"'{args['regex']}' in {args['path']}{gone}", timeout)
    return Wait(load(__package__, "wait_for_path"), values, f"{args['path']}{gone}", timeout)
