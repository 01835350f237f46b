"""job: detached processes under the job-directory protocol, instead of async and poll."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import cast

from trainyard.playbook.schema import Arg, Schema
from trainyard.playbook.steps import Job, Step
from trainyard.playbook.values import Variables
from trainyard.remote.protocol import quote

_VERBS = ("start", "wait", "stop", "status")
JOB = Schema(
    "job",
    (
        Arg("start", "path"), Arg("wait", "path"), Arg("stop", "path"), Arg("status", "path"),
        Arg("command"), Arg("chdir", "path", empty=True), Arg("env", "map"), Arg("keep_env", "list"),
        Arg("timeout", "number"), Arg("grace", "number"),
    ),
    one_of=(_VERBS,),
    again="writes",
    reads=frozenset({"wait", "status"}),
    does="start, wait for, stop or ask about a detached process",
    needs={
        "start": "command", "command": "start", "chdir": "start", "env": "start", "keep_env": "start", "timeout": "wait", "grace": "stop",
    },
)  # fmt: skip


def job(args: Mapping[str, object], folder: Path, variables: Variables) -> Step:
    """Start (once for ever), wait for, stop or ask about the job of a folder."""
    verb = next(name for name in _VERBS if name in args)
    where = str(args[verb])
    if verb == "start":
        command = str(args["command"])
        if args.get("chdir"):
            command = f"cd {quote(args['chdir'])} || exit 1\n{command}"
        keeps = tuple(str(name) for name in cast(list[object], args.get("keep_env", [])))
        return Job("start", where, command, cast(Mapping[str, object], args.get("env", {})), keeps)
    if verb == "wait":
        timeout = args.get("timeout")
        return Job("wait", where, timeout=None if timeout is None else float(cast(float, timeout)))
    if verb == "stop":
        return Job("stop", where, grace=float(cast(float, args.get("grace", 30))))
    return Job("status", where)
