"""Serve the model of a finished run: the run of recipe serve on a pod or on this machine, its key, and the way to it."""

from __future__ import annotations

import hashlib
import json
import secrets
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path

from trainyard.errors import Detached, RefusedError, UserError
from trainyard.files import write_new
from trainyard.recipes.data import OF_RUN
from trainyard.runs.after.door import telling, tunnelled
from trainyard.runs.after.leftmodel import check, fetched, left_by, program_of
from trainyard.runs.context import CommandContext
from trainyard.runs.life.trouble import standing
from trainyard.runs.records.record import RunFolder, RunRecord
from trainyard.runs.records.summary import RunSummary
from trainyard.runs.signals import LEAVE, handled
from trainyard.runs.verbs.attach import attach
from trainyard.runs.verbs.reach import check_free
from trainyard.runs.verbs.through import begin
from trainyard.runs.verbs.train import TrainRequest, prepare

RECIPE = "serve"
POD_PORT = 8000
_SHORTEST = 16
"""Letters of an API key: a shorter one can be tried out."""


@dataclass(frozen=True, slots=True)
class ServeOptions:
    """How a model is to be served."""

    port: int
    """Port of this machine."""
    key_from: str | None
    """Environment variable with the API key; None: one is made."""
    model_name: str | None
    """What requests call the model; None: the run's name."""
    engine: str | None = None
    """What answers; None: as the recipe says for the stack."""


def serving_of(context: CommandContext, reference: str, stack: str | None, options: ServeOptions) -> TrainRequest:
    """Return the run that serves what a run has left, on the stack that it ran on unless another is named.

    Raises UserError for a run that leaves no model and for a port that is taken, RefusedError for a stack whose pods no port leads to.
    """
    model = left_by(context, reference, stack, "served")
    cloud = context.cloud(model.stack)
    if not cloud.capabilities.ssh or cloud.capabilities.queues:
        raise RefusedError(
            f"pods of stack '{model.stack}' have no port that this machine reaches: nothing was rented",
            hint="Another stack with the run's bucket: --stack; or this machine: --here",
        )
    here = cloud.name == "local"
    check_free(options.port, _other_port)
    values = {
        "base_model": model.base, "model_name": options.model_name or f"{model.key.user}/{model.key.run}",
        "key_sha256": _key_sha256(context, options.key_from), "port": options.port if here else POD_PORT,
    }  # fmt: skip
    if options.engine is not None:
        values["engine"] = options.engine
    return TrainRequest(
        model.stack, RECIPE, f"{OF_RUN}{model.key}", sets=[f"{name}={value}" for name, value in values.items()], detach=True
    )


def served_run(context: CommandContext, reference: str) -> RunFolder | None:
    """Return the folder of a run that serves and is known here, None for any other run; raises UserError for one that is over."""
    try:
        folder = context.folder(reference)
        record = folder.load()
    except UserError:
        return None
    if record.recipe != RECIPE:
        return None
    if record.reached("ended"):
        raise UserError(f"{record.id} has ended: it serves no more", hint="Name the run whose model shall be served.")
    return folder


def begin_serving(context: CommandContext, request: TrainRequest) -> RunSummary:
    """Begin the run and leave it to its pod as soon as its program runs; raises what begin() does."""
    return begin(context, lambda: prepare(context, request), detach=True)


def left_lines(folder: RunFolder) -> list[str]:
    """Return what is said of a server that is left to its pod."""
    record = folder.load()
    return [f"serve      {record.id} stands on {standing(record)}", *(f"           {line}" for line in _ways(record))]


def _ways(record: RunRecord) -> list[str]:
    return [
        f"Come to it with: invoke serve-model {record.id}", f"More time: invoke extend {record.id} 2h",
        f"End it with: invoke cancel {record.id}",
    ]  # fmt: skip


def hold(context: CommandContext, folder: RunFolder, port: int) -> RunSummary:
    """Follow a run that serves to its end, with a port of this machine that leads to it as long as this process is there.

    Raises Detached, in a server's words, when a person leaves, and what attach() does.
    """
    record = folder.load()
    pod_port = int(str(record.values["port"]))
    local = record.cloud == "local"
    if local and port != pod_port:
        context.ui.say(f"port       {pod_port}: a local pod shares this machine's network")
    here = pod_port if local else port
    tunnel = nullcontext() if local else tunnelled(context, str(record.id), here, pod_port)
    with tunnel, telling(here, lambda at: _tell(context, folder.load(), at)):
        try:
            return attach(context, f"{record.id}/{record.attempt}")
        except Detached:
            now = folder.load()
            if now.reached("trained"):
                raise
            raise Detached(
                f"left: the server goes on, whoever is there.\n{now.id} stands on {standing(now)}",
                hint="\n".join(_ways(now)),
            ) from None


def serve_here(context: CommandContext, reference: str, options: ServeOptions) -> int:
    """Serve what a run has left from this machine until Ctrl-C; no pod, no lease, no record. Returns 0."""
    model = left_by(context, reference, None, "served")
    check_free(options.port, _other_port)
    digest = _key_sha256(context, options.key_from)
    folder = fetched(context, model, None)
    program = program_of(context, RECIPE, "serve.py")
    name = options.model_name or f"{model.key.user}/{model.key.run}"
    with tempfile.TemporaryDirectory(prefix="trainyard-serve-") as scratch:
        config = {
            "base_model": model.base, "model_name": name, "key_sha256": digest, "port": options.port, "max_tokens": 512, "max_waiting": 16,
            "engine": "transformers", "device": "cpu", "with_parent": True,
        }  # fmt: skip
        Path(scratch, "config.json").write_text(json.dumps(config))
        env = {**program.env, "RUN_DIR": scratch, "OUTPUT_DIR": scratch, "INPUT_DIR": str(folder)}
        with _child(program.argv, env) as process, telling(options.port, lambda at: _say(context, name, digest, at)):
            code = process.wait()
    check(code, model, "served")
    return 0


@contextmanager
def _child(argv: list[str], env: dict[str, str]) -> Iterator[subprocess.Popen[bytes]]:
    """Give a program that gets our Ctrl-C, SIGTERM and SIGHUP as a request to end, and ends with us."""
    with (
        subprocess.Popen(argv, env=env, stdin=subprocess.DEVNULL, start_new_session=True) as process,
        handled(LEAVE, lambda *_: process.terminate()),
    ):
        yield process


def _other_port(port: int) -> str:
    return f"--port {port}"


def _key_sha256(context: CommandContext, variable: str | None) -> str:
    """Return the sha256 of the API key of a variable, or of one that is made and kept under that name."""
    if variable is not None:
        key = context.env.get(variable, "").strip()
        if len(key) < _SHORTEST or not key.isascii() or not key.isprintable() or " " in key:
            raise UserError(f"the variable {variable} holds no API key: {_SHORTEST} letters or more, without blanks")
        return hashlib.sha256(key.encode()).hexdigest()
    key = f"ty-{secrets.token_urlsafe(32)}"
    digest = hashlib.sha256(key.encode()).hexdigest()
    path = key_file(context, digest)
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    write_new(path, key + "\n", durable=False, mode=0o600)
    return digest


def key_file(context: CommandContext, digest: str) -> Path:
    """Return where the API key of this sha256 lies, when it was made here."""
    return context.places.home / "apikeys" / f"{digest[:16]}.key"


def _tell(context: CommandContext, record: RunRecord, port: int) -> None:
    _say(context, str(record.values["model_name"]), str(record.values["key_sha256"]), port)
    context.ui.say(f"stands on  {standing(record)}; Ctrl-C leaves it to go on")


def _say(context: CommandContext, name: str, digest: str, port: int) -> None:
    path = key_file(context, digest)
    context.ui.say(f'serving    http://127.0.0.1:{port}/v1, OpenAI-compatible, model "{name}"')
    if path.is_file():
        context.ui.say(f'its key    export OPENAI_API_KEY="$(cat {path})" OPENAI_BASE_URL=http://127.0.0.1:{port}/v1')
    else:
        context.ui.say("its key    is the one that it was given; it is not kept here")
