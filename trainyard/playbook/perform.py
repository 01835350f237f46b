"""Carry out one step over a transport and say what came of it. The only place of playbooks that touches a machine."""

from __future__ import annotations

import secrets
import signal
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Self

from trainyard.errors import PodFailed, Unreachable
from trainyard.playbook import placing
from trainyard.playbook.steps import (
    AssertAction,
    AwaitHost,
    BucketObject,
    CommandAction,
    Edit,
    Gather,
    Get,
    Job,
    Outcome,
    Pause,
    PutFile,
    PutTree,
    Say,
    Script,
    SetFacts,
    Step,
    Wait,
)
from trainyard.remote import jobs
from trainyard.remote.batch import BatchCommand
from trainyard.remote.fed import with_hidden
from trainyard.remote.follow import Tail, follow
from trainyard.remote.kept import MOST, KeptOutput
from trainyard.remote.protocol import CommandResult, NoAnswer, OnBytes, Stdin, Transport, quote, with_environment, with_values
from trainyard.shellscript import load

_LOG_TAIL = 64 * 1024
_GRACE = 15.0
"""Seconds beyond a task's timeout for the answer to arrive."""
_LINK_PATIENCE = 120.0
"""Seconds without link after which a waiting task gives the host up as unreachable."""


@dataclass(frozen=True, slots=True)
class Scene:
    """Where and how a step is carried out."""

    transport: Transport
    check: bool = False
    diff: bool = False
    timeout: float | None = None
    environment: Mapping[str, object] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Asking:
    """The one command that a step is, and how its answer is read; a code other than 0 says that it failed."""

    request: BatchCommand
    read: Callable[[CommandResult], Outcome]
    timeout: float | None = None


def asked(step: Step, scene: Scene) -> Asking | Outcome | None:
    """Return what a step asks its host, its outcome when that is nothing, or None when it asks more than once."""
    match step:
        case CommandAction():
            return _command(step, scene)
        case Script() if scene.timeout is None and step.file is None:
            text, first = placing.request(step, check=scene.check, diff=scene.diff, environment=scene.environment)
            return Asking(BatchCommand(text, first + (step.stdin or b"")), lambda done: step.read(_expected(done)))
        case Say():
            return (
                {"changed": False, "skipped": True, "msg": "the run is not verbose"}
                if step.quiet
                else {"changed": False, "msg": step.message}
            )
        case SetFacts():
            return {"changed": False, "included" if step.weak else "facts": dict(step.values)}
        case AssertAction():
            return _check(step)
    return None


_NOTHING_SAID: Mapping[str, object] = {"rc": 0, "stdout": "", "stderr": "", "stdout_lines": [], "stderr_lines": []}
"""What templates read of a command that was not run because nothing may change."""


def perform(step: Step, scene: Scene) -> Outcome:
    """Carry out a step. Raises PodFailed or UserError when it cannot be done, Unreachable when the link is lost."""
    question = asked(step, scene)
    if isinstance(question, Asking):
        return question.read(_answer(question, scene.transport))
    if question is not None:
        return question
    if scene.timeout is not None and not isinstance(step, Job):
        return perform(step, Scene(Deadlined(scene.transport, scene.timeout), scene.check, scene.diff, None, scene.environment))
    match step:
        case Script():
            return placing.run_script(step, scene.transport, check=scene.check, diff=scene.diff, environment=scene.environment)
        case Wait():
            return _wait(step, scene)
        case BucketObject():
            from trainyard.playbook import buckets  # what speaks to stores is loaded when one is meant

            return buckets.carry(step, scene.transport, check=scene.check)
        case PutFile() | PutTree() | Get() | Edit() | Gather():
            return placing.place(step, scene.transport, check=scene.check, diff=scene.diff)
        case Job():
            return _job(step, scene)
        case AwaitHost():
            return _await_host(step, scene)
        case Pause():
            time.sleep(0 if scene.check else step.seconds)
            return {"changed": False, "delta": step.seconds}
    raise AssertionError(step)


def _answer(question: Asking, t: Transport) -> CommandResult:
    """Ask, and keep of the answer what memory may hold."""
    out, err = KeptOutput(), KeptOutput()
    request = question.request
    done = t.exec(request.command, request.stdin or None, timeout=question.timeout, on_stdout=out.take, on_stderr=err.take)
    return CommandResult(done.rc, out.bytes(), err.bytes(), out.lost + err.lost)


class Deadlined:
    """A transport on which nothing takes longer than what is left of a task's time."""

    def __init__(self, inner: Transport, seconds: float) -> None:
        self._inner, self._until = inner, time.monotonic() + seconds
        self.name = inner.name

    def exec(
        self, command: str, stdin: Stdin = None, *,
        timeout: float | None = None, on_stdout: OnBytes | None = None, on_stderr: OnBytes | None = None,
    ) -> CommandResult:  # fmt: skip
        """Run a command within what is left; see Transport."""
        left = self._until - time.monotonic()
        if left <= 0:
            raise NoAnswer(f"{self.name}: the task's time is over")
        return self._inner.exec(
            command, stdin, timeout=left if timeout is None else min(left, timeout), on_stdout=on_stdout, on_stderr=on_stderr
        )

    def close(self) -> None:
        """The inner transport stays open."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _command(step: CommandAction, scene: Scene) -> Asking | Outcome:
    guarded = step.creates is not None or step.removes is not None
    nonce = secrets.token_hex(16)
    unless = (
        with_values(load(__package__, "unless"), creates=step.creates or "", removes=step.removes or "", nonce=nonce) if guarded else ""
    )
    if scene.check:
        if not guarded:
            return {**_NOTHING_SAID, "changed": False, "skipped": True, "msg": "commands do not run in check mode"}
        return Asking(BatchCommand(unless), lambda done: _foreseen(step, idle=done.text == nonce))
    text = step.command if step.chdir is None else f"cd {quote(step.chdir)} || exit 1\n{step.command}"
    text, first = with_hidden(with_environment("", scene.environment), text)
    text = unless + text
    if scene.timeout is not None:
        # On the pod itself, by process group: closing the channel would leave the command running there.
        text = f"exec timeout -k 5 {scene.timeout:g} sh -c {quote(text)}"
    begun = time.monotonic()

    def read(done: CommandResult) -> Outcome:
        if guarded and done.text == nonce:
            skipped: Outcome = {"skipped": True} if step.skips else {}
            return {**_NOTHING_SAID, "changed": False, **step.said, "msg": _idle(step), **skipped}
        outcome = {**command_outcome(done, strip=step.strip), **step.said, **_times(begun)}
        # 143: the timeout of busybox, whose code is that of what it ended.
        if scene.timeout is not None and done.rc in (124, 137, 143) and time.monotonic() - begun >= scene.timeout:
            outcome["msg"] = f"did not end within {scene.timeout:g} s and was ended"
        return outcome

    return Asking(BatchCommand(text, first + (step.stdin or b"")), read, None if scene.timeout is None else scene.timeout + _GRACE)


def _foreseen(step: CommandAction, *, idle: bool) -> Outcome:
    skipped: Outcome = {"skipped": True} if idle and step.skips else {}
    return {**_NOTHING_SAID, "changed": not idle, "msg": _idle(step) if idle else "would run", **skipped}


def _times(begun: float) -> Outcome:
    """Return when a command began and ended, as seen from here."""
    seconds = time.monotonic() - begun
    end = time.time()
    start, stop = (f"{time.strftime('%Y-%m-%d %H:%M:%S', time.localtime(at))}.{int(at % 1 * 1e6):06d}" for at in (end - seconds, end))
    return {"start": start, "end": stop, "delta": str(timedelta(seconds=seconds))}


def command_outcome(done: CommandResult, *, strip: bool = True) -> Outcome:
    """Return what a command did as a task's result."""
    stdout, stderr = (stream.decode(errors="backslashreplace") for stream in (done.stdout, done.stderr))
    if strip:
        stdout, stderr = stdout.rstrip("\r\n"), stderr.rstrip("\r\n")
    outcome: Outcome = {
        "changed": True, "rc": done.rc, "stdout": stdout, "stderr": stderr,
        "stdout_lines": stdout.splitlines(), "stderr_lines": stderr.splitlines(),
    }  # fmt: skip
    if done.lost:
        outcome["msg"] = f"{done.lost} bytes more were printed, which are not kept: redirect them into a file"
    if done.rc:
        outcome |= {"failed": True, "msg": f"exit code {done.rc}{_signal(done.rc)}"}
    return outcome


def _signal(rc: int) -> str:
    """Return which signal an exit code of sh stands for, nothing when it stands for none."""
    number = rc - 128
    return f" (killed by signal {number}, {signal.Signals(number).name})" if number in set(signal.Signals) else ""


def _idle(step: CommandAction) -> str:
    return f"{step.creates} is there already" if step.creates is not None else f"{step.removes} is not there"


def _expected(done: CommandResult) -> CommandResult:
    if done.rc:
        raise PodFailed(done.error_text or f"exit code {done.rc}")
    if done.lost:
        raise PodFailed(f"the answer is longer than the {MOST} bytes that are kept of one")
    return done


def _wait(step: Wait, scene: Scene) -> Outcome:
    if scene.check:
        return {"changed": False, "skipped": True, "msg": "nothing is waited for in check mode"}
    begun = time.monotonic()
    done = scene.transport.exec(with_values(step.text, **step.values), timeout=step.timeout + 2 * _GRACE)
    elapsed = round(time.monotonic() - begun, 1)
    if done.rc == 1:
        return {
            "changed": False,
            "failed": True,
            "elapsed": elapsed,
            "msg": step.message or f"waited {step.timeout:g} s in vain for {step.what}",
        }
    _expected(done)
    return {"changed": False, "elapsed": elapsed}


def _await_host(step: AwaitHost, scene: Scene) -> Outcome:
    if scene.check:
        return {"changed": False, "skipped": True, "msg": "nothing is waited for in check mode"}
    begun = time.monotonic()
    time.sleep(step.delay)
    while True:
        try:
            scene.transport.exec(":", timeout=_GRACE)
            return {"changed": False, "elapsed": round(time.monotonic() - begun, 1)}
        except Unreachable:
            if time.monotonic() - begun > step.timeout:
                raise
            time.sleep(step.pause)


def _check(step: AssertAction) -> Outcome:
    if step.failed:
        reason = step.fail_message or "does not hold: " + "; ".join(step.failed)
        return {"changed": False, "failed": True, "msg": reason, "assertions": list(step.failed)}
    return {"changed": False, "msg": step.success_message or "all assertions hold"}


def _job(step: Job, scene: Scene) -> Outcome:
    t = scene.transport
    if step.verb == "start":
        if scene.check:
            changed = jobs.status(t, step.folder).state == "absent"
        else:
            changed = jobs.start(t, step.folder, step.command, {**scene.environment, **step.env}, step.keeps)
        return {"changed": changed, **_job_facts(jobs.status(t, step.folder))}
    if step.verb == "stop":
        before = jobs.status(t, step.folder)
        after = before if scene.check else jobs.stop(t, step.folder, step.grace)
        return {"changed": before.state == "running", **_job_facts(after)}
    if step.verb == "wait" and not scene.check:
        return _await_job(step, scene)
    return {"changed": False, **_job_facts(jobs.status(t, step.folder))}


def _await_job(step: Job, scene: Scene) -> Outcome:
    limit = step.timeout if step.timeout is not None else scene.timeout
    until = None if limit is None else time.monotonic() + limit
    log = bytearray()

    def take(data: bytes) -> None:
        log.extend(data)
        del log[:-_LOG_TAIL]

    def tick() -> None:
        if until is not None and time.monotonic() > until:
            raise NoAnswer(f"the job in {step.folder} did not end within {limit:g} s; it goes on")

    try:
        status = follow(scene.transport, step.folder, [Tail("log", take)], tick=tick, patience=_LINK_PATIENCE)
    except NoAnswer as error:
        return {"changed": False, "failed": True, "state": "running", "msg": error.message, **_output(log)}
    outcome: Outcome = {"changed": False, **_job_facts(status), **_output(log)}
    if status.state != "exited" or status.exit_code:
        outcome |= {"failed": True, "msg": f"the job in {step.folder} {jobs.verdict(status)}"}
    return outcome


def _job_facts(status: jobs.JobStatus) -> Outcome:
    return {
        "state": status.state, "exit_code": status.exit_code, "started_at": status.started_at, "ended_at": status.ended_at,
        "verdict": jobs.verdict(status),
    }  # fmt: skip


def _output(log: bytearray) -> Outcome:
    text = bytes(log).decode(errors="backslashreplace").rstrip("\r\n")
    return {"stdout": text, "stdout_lines": text.splitlines()}
