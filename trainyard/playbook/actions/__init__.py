"""The actions: each a schema of its arguments and a pure function from arguments to one step."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from trainyard.playbook.actions import (
    assembling,
    commands,
    control,
    editing,
    files,
    job,
    looking,
    machine,
    pausing,
    s3,
    synchronizing,
    waiting,
)
from trainyard.playbook.actions.variables import INCLUDE_VARS, include_vars
from trainyard.playbook.schema import Schema
from trainyard.playbook.steps import Step
from trainyard.playbook.values import Variables

Build = Callable[[Mapping[str, object], Path, Variables], Step]


@dataclass(frozen=True, slots=True)
class Action:
    """One action."""

    schema: Schema
    build: Build


ACTIONS: dict[str, Action] = {
    "shell": Action(commands.SHELL, commands.shell),
    "command": Action(commands.COMMAND, commands.command),
    "raw": Action(commands.RAW, commands.raw),
    "script": Action(commands.SCRIPT, commands.script),
    "copy": Action(files.COPY, files.copy),
    "template": Action(files.TEMPLATE, files.template),
    "file": Action(files.FILE, files.file),
    "lineinfile": Action(editing.LINEINFILE, editing.lineinfile),
    "blockinfile": Action(editing.BLOCKINFILE, editing.blockinfile),
    "replace": Action(editing.REPLACE, editing.replace),
    "assemble": Action(assembling.ASSEMBLE, assembling.assemble),
    "ini_file": Action(assembling.INI_FILE, assembling.ini_file),
    "stat": Action(looking.STAT, looking.stat),
    "find": Action(looking.FIND, looking.find),
    "slurp": Action(looking.SLURP, looking.slurp),
    "tempfile": Action(looking.TEMPFILE, looking.tempfile),
    "s3": Action(s3.S3, s3.s3),
    "synchronize": Action(synchronizing.SYNCHRONIZE, synchronizing.synchronize),
    "fetch": Action(files.FETCH, files.fetch),
    "wait_for": Action(waiting.WAIT_FOR, waiting.wait_for),
    "assert": Action(control.ASSERT, control.assert_),
    "debug": Action(control.DEBUG, control.debug),
    "set_fact": Action(control.SET_FACT, control.set_fact),
    "include_vars": Action(INCLUDE_VARS, include_vars),
    "job": Action(job.JOB, job.job),
    "pause": Action(pausing.PAUSE, pausing.pause),
    "fail": Action(pausing.FAIL, pausing.fail),
    "ping": Action(pausing.PING, pausing.ping),
    "wait_for_connection": Action(pausing.WAIT_FOR_CONNECTION, pausing.wait_for_connection),
    **{name: Action(schema, build) for name, (schema, build) in machine.MACHINE.items()},
}
