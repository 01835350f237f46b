"""The verbs of a person. Parsing only: each task turns words into values and calls trainyard/.

    invoke train --stack local          train and bring the result home
    invoke runs | logs | attach | cancel | recover
    invoke up | preview | refresh | destroy | outputs --stack local
    invoke doctor                       what this machine has, and what to do about what it lacks

Every verb exits with a documented code (README, "Exit codes").
"""

from __future__ import annotations

import dataclasses
import functools
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from invoke import Collection, Context, task

from trainyard import commandline
from trainyard.config import find_root

ROOT = find_root()


def verb(function: Callable[..., Any]) -> Callable[..., Any]:
    """Turn what a verb raises into a message for a person and a documented exit code."""

    @functools.wraps(function)
    def run(*args: Any, **kwargs: Any) -> None:
        commandline.ready()
        try:
            code = function(*args, **kwargs)
            sys.stdout.flush()
        except BaseException as error:
            if isinstance(error, SystemExit):
                raise
            code = commandline.told(error)
        if code:
            sys.exit(code)

    return run


def context(*, as_json: bool = False) -> Any:
    """Return what every verb works with: places, environment, and the way to talk to a person."""
    from trainyard import config, network
    from trainyard.runs.context import CommandContext as Work
    from trainyard.runs.ui import Ui

    ui = Ui(json=as_json)
    warning = config.env_file_warning(ROOT)
    if warning:
        ui.warn(warning)
    env = config.load_env(ROOT)
    network.apply(env)
    return Work(config.places(ROOT), env, ui)


def show_json(value: Any) -> None:
    """Print a value for scripts."""
    print(json.dumps(value, indent=1, default=str))


WORDS = {
    "stack": "environment (default: local)",
    "run": "label or user/label",
    "recipe": "what to train: a folder of templates/ (default: lora)",
    "data": "a file, a folder, s3://... or hf://... (default: the recipe's sample)",
    "config": "YAML or JSON file with the recipe's variables",
    "set": "one variable, e.g. --set lr=1e-4 (may be repeated; wins over --config)",
    "name": "label of the run (default: the local time)",
    "json": "print the result as JSON on stdout, everything else on stderr",
    "ref": "name of the image, e.g. ghcr.io/you/trainyard-trainer:1",
}
"""Options that several verbs take."""


def explained(*words: str, **more: str) -> dict[str, str]:
    """Return the help of a verb's options: those of WORDS by name, the others with their text."""
    return {word: WORDS[word] for word in words} | {name.replace("_", "-"): text for name, text in more.items()}


# --- runs -------------------------------------------------------------------------------------------------------------


@task(
    iterable=["set"],
    help=explained(
        "stack", "recipe", "data", "config", "set", "name", "json",
        hours="length of the lease; training is stopped then (default: the stack's setting, else 2)",
        budget="dollars after which the training is stopped and saved",
        yes="send your files to the stack's cloud without being asked",
        on_bad_row="stop or skip: what happens when rows cannot be trained (the same as --set on_bad_row=...)",
    ),
)  # fmt: skip
@verb
def train(
    c: Context, stack: str = "local", recipe: str = "lora", data: str | None = None, config: str | None = None, set: Any = None,
    name: str | None = None, hours: float | None = None, budget: float | None = None, on_bad_row: str | None = None,
    yes: bool = False, json: bool = False,
) -> int:  # fmt: skip
    """Train on a stack: rent, run, bring the result to safety, end the pod, prove it gone."""
    work = context(as_json=json)
    sets = (*(set or ()), *([f"on_bad_row={on_bad_row}"] if on_bad_row else []))
    return _train(work, json, stack, recipe, data, _path(config), sets, name, _number("--hours", hours), _number("--budget", budget), yes)


@task(positional=["run"], help=explained("run", "json"))
@verb
def attach(c: Context, run: str, json: bool = False) -> int:
    """Come back to a run: follow it and finish its story; beside a living controller, watch."""
    from trainyard.runs.verbs.attach import attach as come_back

    work = context(as_json=json)
    return _finish(work, json, lambda: come_back(work, run))


@task(
    positional=["pod"],
    help=explained(
        "stack",
        "json",
        pod="id or name of the pod (invoke reap --stack NAME --dry-run lists them)",
        key="private SSH key of that stack",
    ),
)
@verb
def adopt(c: Context, pod: str, key: str | None = None, stack: str = "local", json: bool = False) -> int:
    """Take over the run on a pod whose controller is lost: needs the cloud's key and the SSH key, nothing else."""
    from trainyard.runs.life.drive import drive
    from trainyard.runs.verbs.adopt import adopt as take_over

    file = Path(_given(key, "say which key: invoke adopt POD --stack NAME --key FILE", hint="It is the private SSH key of the stack."))
    work = context(as_json=json)
    return _finish(work, json, lambda: drive(work, take_over(work, stack, pod, file)))


@task(help=explained("json"))
@verb
def recover(c: Context, json: bool = False) -> int:
    """Finish every run that no living process drives."""
    from trainyard.runs.verbs.attach import recover as finish_all

    work = context(as_json=json)
    summaries = finish_all(work)
    if json:
        show_json(summaries)
    else:
        for summary in summaries:
            _show_summary(work, summary, as_json=False)
        if not summaries:
            work.ui.say("nothing to recover: every run has ended")
    return 0 if all(summary["success"] or summary["cancelled"] for summary in summaries) else 1


@task(positional=["run"], help=explained("run", "json", now="do not save: end the pod at once"))
@verb
def cancel(c: Context, run: str, now: bool = False, json: bool = False) -> int:
    """End a run: its training saves and stops, what it left is kept, the pod is ended."""
    from trainyard.runs.verbs.attach import cancel as end_run

    work = context(as_json=json)
    summary = end_run(work, run, now=now)
    if summary is not None:
        _show_summary(work, summary, json)
    return 0


@task(help=explained("json"))
@verb
def runs(c: Context, json: bool = False) -> int:
    """List all runs of this checkout, newest last."""
    from trainyard.runs.verbs.listing import lines, list_runs

    work = context(as_json=json)
    rows = list_runs(work)
    if json:
        show_json(rows)
    else:
        work.ui.say("\n".join(lines(rows)))
    return 0


@task(
    iterable=["set"],
    help=explained("recipe", "data", "config", "set", "name", "json", stack="stack to rehearse (default: runpod)"),
)
@verb
def rehearse(
    c: Context, stack: str = "runpod", recipe: str = "lora", data: str | None = None, config: str | None = None, set: Any = None,
    name: str | None = None, json: bool = False,
) -> int:  # fmt: skip
    """Run the whole story of a stack against an emulator of its cloud, with real pods on this machine: costs nothing."""
    from trainyard import config as settings
    from trainyard.rehearsal.session import rehearsal
    from trainyard.runs.context import CommandContext as Work

    here = context(as_json=json)
    with rehearsal(stack, here.places, here.env) as world:
        work = Work(settings.places(world.root, world.env), world.env, here.ui)
        work.ui.say(f"rehearsal  of stack '{stack}' on this machine; the cloud is SIMULATED, nothing is rented")
        return _train(work, json, stack, recipe, data, _path(config), tuple(set or ()), name)


@task(positional=["run"], help=explained("run", follow="go on until the training ends"))
@verb
def logs(c: Context, run: str, follow: bool = False) -> int:
    """Print a run's log, byte for byte."""
    from trainyard.runs.verbs.listing import print_log

    return print_log(context(as_json=True), run, follow=follow, out=sys.stdout.buffer)


@task(positional=["run"], help=explained("run"), auto_shortflags=False)
@verb
def ssh(c: Context, run: str, command: str | None = None) -> int:
    """Open a shell on a run's pod (or: invoke ssh RUN -- COMMAND)."""
    from trainyard.runs.verbs.reach import shell

    return shell(context(), run, command or " ".join(_words_behind()) or None)


@task(positional=["run", "port"], help=explained("run", port="port on the pod", local_port="port here (default: the same)"))
@verb
def tunnel(c: Context, run: str, port: str, local_port: str | None = None) -> int:
    """Forward a local port to a port of the run's pod until Ctrl-C."""
    from trainyard.runs.verbs.reach import tunnel as forward

    return forward(context(), run, port, local_port)


@task(positional=["recipe", "to"], iterable=["set"], help=explained("recipe", "data", "config", "set", to="folder to write"))
@verb
def render(c: Context, recipe: str, to: str, data: str | None = None, config: str | None = None, set: Any = None) -> int:
    """Write a run's bundle into a folder; `sh DIR/run.sh` runs it by hand on any machine."""
    from trainyard.runs.verbs.train import render_bundle

    work = context()
    made = render_bundle(work, recipe, data, _path(config), tuple(set or ()), Path(to))
    work.ui.say(f"{to}: bundle {made.sha256[:12]}; run it with: sh {to}/run.sh")
    return 0


@task(
    positional=["run", "to"],
    help=explained(
        run="label, user/label, any key or s3:// URL",
        to="folder to write",
        stack="stack whose bucket holds it (default: that of the run where it is known here, else local)",
        partial="take a result without _SUCCESS too",
        whole="the files beside the model too (metrics, reports), in the result's own folders",
    ),
)
@verb
def download(c: Context, run: str, to: str, stack: str | None = None, partial: bool = False, whole: bool = False) -> int:
    """Fetch a result: parallel, resumable, every file proved by its sha256."""
    from trainyard.runs.verbs.fetch import fetch

    to = _given(to.strip() or None, "DIR is empty: say where the result goes", "To fetch it into this folder: invoke download RUN .")
    return fetch(context(), stack, run, Path(to), partial=partial, whole=whole)


# --- environments -----------------------------------------------------------------------------------------------------


def _engine_verb(name: str, text: str) -> Any:
    @task(name=name, help=explained("stack", yes="do not ask", json="engine events as JSON lines"))
    @verb
    def operate(c: Context, stack: str = "local", yes: bool = False, json: bool = False) -> int:
        from trainyard.runs.verbs.environments import operate as run

        return run(context(as_json=json), stack, name, yes=yes, as_json=json)

    operate.__doc__ = text
    return operate


up = _engine_verb("up", "Make what a stack's settings declare; costs nothing until a pod is asked for.")
preview = _engine_verb("preview", "Show what `up` would do.")
refresh = _engine_verb("refresh", "Read the real world into the state.")
destroy = _engine_verb("destroy", "End what `up` made, and every run of the stack; the bucket and its results stay.")


@task(help=explained("stack", show_secrets="print secrets in clear"))
@verb
def outputs(c: Context, stack: str = "local", show_secrets: bool = False) -> int:
    """Print a stack's outputs as JSON."""
    from trainyard.runs.verbs.environments import shown_outputs

    show_json(shown_outputs(context(as_json=True), stack, show_secrets=show_secrets))
    return 0


@task
@verb
def env(c: Context) -> int:
    """Print the exports plain `pulumi` needs: eval "$(invoke env)"."""
    from trainyard.stacks.environ import export_lines

    work = context(as_json=True)
    print("\n".join(export_lines(work.places, work.env)))
    return 0


@task(positional=["pod"], help=explained("stack", pod="id or name of a pod of ours"))
@verb
def end(c: Context, pod: str, stack: str = "local") -> int:
    """End one pod of ours now, whatever its lease says, and prove it gone."""
    from trainyard.runs.verbs.account import end_pod

    return end_pod(context(), stack, pod)


@task(help=explained("stack", "json", dry_run="show, end nothing", all_stacks="every stack with credentials"))
@verb
def reap(c: Context, stack: str = "local", dry_run: bool = False, all_stacks: bool = False, json: bool = False) -> int:
    """End every pod whose lease is over; needs only the API key."""
    from trainyard.runs.verbs.account import reap_stacks

    return reap_stacks(context(as_json=json), None if all_stacks else stack, dry_run=dry_run, as_json=json)


@task(help=explained("stack", "json"))
@verb
def audit(c: Context, stack: str = "local", json: bool = False) -> int:
    """Show everything of the account that costs money now, per hour and per month."""
    from trainyard.runs.verbs.account import audit as show

    return show(context(as_json=json), stack, as_json=json)


# --- the machine ------------------------------------------------------------------------------------------------------


@task(help=explained(stack="check what this stack needs, too"))
@verb
def doctor(c: Context, stack: str | None = None) -> int:
    """Check every tool, port, credential, disk and isolation level, and say what to do. Prints no secret."""
    from trainyard.doctor.checks import checks, lines

    work = context()
    found = checks(work.places, work.env, stack)
    print("\n".join(lines(found)))
    return 2 if any(check.status == "fail" for check in found) else 0


@task
@verb
def store_start(c: Context) -> int:
    """Start the local S3 server (every verb that needs it does so by itself)."""
    from trainyard.storage import local

    work = context()
    settings = local.ensure(work.places)
    work.ui.say(f"the local S3 server answers at {settings.endpoint}")
    return 0


@task
@verb
def store_stop(c: Context) -> int:
    """Stop the local S3 server; what it holds stays."""
    from trainyard.storage import local

    work = context()
    work.ui.say("stopped" if local.stop(work.places) else "it was not running")
    return 0


@task
@verb
def store_status(c: Context) -> int:
    """Show where the local S3 server answers and where its objects lie."""
    from trainyard.storage import local

    show_json(dataclasses.asdict(local.status(context(as_json=True).places)))
    return 0


@task(help=explained(dry_run="show, remove nothing"))
@verb
def venvs_clean(c: Context, dry_run: bool = False) -> int:
    """Remove the Python environments of local pods that no recipe here and no living pod needs."""
    from trainyard.recipes import unused

    work = context()
    found = unused.survey(work.places)
    gone = [] if dry_run else unused.clean(work.places)
    work.ui.say("\n".join(unused.lines(found, gone)) or "there are none")
    return 0


# --- development ------------------------------------------------------------------------------------------------------


@task
@verb
def test(c: Context) -> int:
    """Run the tests (or some of them: invoke test -- tests/runs -k words)."""
    return _python("pytest", "-n", "2", "--dist", "worksteal", *_words_behind())


@task
@verb
def check(c: Context) -> int:
    """Run ruff (lint and format) and mypy over the sources."""
    return _python("ruff", "check", ".") or _python("ruff", "format", "--check", "--quiet", ".") or _python("mypy")


@task
@verb
def docs(c: Context) -> int:
    """Build the pages of docs/ into site/; a warning (a broken link, a page that nothing leads to) is an error."""
    os.environ["NO_MKDOCS_2_WARNING"] = "1"
    return _python("mkdocs", "build", "--strict")  # not --quiet: it hears no warning then


@task(help=explained("ref", refresh="ask the registry for the base image's digest again"))
@verb
def image_build(c: Context, ref: str | None = None, refresh: bool = False) -> int:
    """Build the trainer image (linux/amd64) with the Docker of this machine."""
    from trainyard.pod import image

    image.build(ROOT, _given(ref, "say which image: invoke image.build --ref NAME"), refresh=refresh)
    return 0


@task(help=explained("ref"))
@verb
def image_push(c: Context, ref: str | None = None) -> int:
    """Push the trainer image; print the digest and the size for the settings."""
    from trainyard.pod import image

    reference, gigabytes = image.push(_given(ref, "say which image: invoke image.push --ref NAME"))
    context().ui.say(f"trainyard:image: {reference}\ntrainyard:image_gb: {gigabytes}")
    return 0


def _bench(module: str, text: str) -> Any:
    @task
    @verb
    def run(c: Context) -> int:
        return _python(module)

    run.__doc__ = text
    return run


bench_start = _bench("bench.start", "Time command -> create, create -> first output, end of training -> pod gone, per engine.")
bench_engine = _bench("bench.engine", "Time up, up without a change and destroy of the built-in engine against the Pulumi CLI.")


@task(
    help=explained(
        cases="how many (default: 500)", seed="draw these cases again", engine="builtin or cli (default: all found)",
        workers="cases side by side (default: 2)",
    )
)  # fmt: skip
@verb
def faults_crash(c: Context, cases: int = 500, seed: int | None = None, engine: str | None = None, workers: int = 2) -> int:
    """Kill engine, provider and controller at named and random points against an emulated cloud; no pod may be left."""
    given = {"--cases": cases, "--seed": seed, "--engine": engine, "--workers": workers}
    return _python("tests.faults.crash", *(word for name, value in given.items() if value is not None for word in (name, str(value))))


@task(help=explained(only="the faults whose name holds this text"))
@verb
def faults_cloud(c: Context, only: str | None = None) -> int:
    """Switch on each fault of the emulated cloud in turn; what is left must be nothing, or be said with its price."""
    return _python("tests.faults.cloud", *(("--only", only) if only else ()))


@task(
    help=explained(
        cases="how many (default: each crossing of a run once)", seed="draws what comes there, and the order", workers="how many at once"
    )
)  # fmt: skip
@verb
def faults_controller(c: Context, cases: int | None = None, seed: int | None = None, workers: int = 2) -> int:
    """Let each call of a controller fail in turn while a run is driven; its pod and its result must outlive it."""
    given = {"--cases": cases, "--seed": seed, "--workers": workers}
    return _python("tests.faults.controller", *(word for name, value in given.items() if value is not None for word in (name, str(value))))


# --- helpers ----------------------------------------------------------------------------------------------------------


def _train(work: Any, as_json: bool, *wanted: Any) -> int:
    """Prepare and drive a run; ``wanted`` are the fields of TrainRequest in their order."""
    from trainyard.runs.life.drive import drive
    from trainyard.runs.signals import how, leaving
    from trainyard.runs.verbs.train import TrainRequest, prepare

    try:
        with leaving():
            folder = prepare(work, TrainRequest(*wanted))
    except KeyboardInterrupt as left:
        work.ui.fail(f"interrupted ({how(left)}): nothing was rented")
        return commandline.INTERRUPTED
    return _finish(work, as_json, lambda: drive(work, folder))


def _finish(work: Any, as_json: bool, call: Callable[[], Any]) -> int:
    """Run something that ends in a summary; print it and return the run's exit code."""
    summary = call()
    _show_summary(work, summary, as_json)
    return int(summary["exit_status"])


def _show_summary(work: Any, summary: Any, as_json: bool) -> None:
    if as_json:
        return show_json(summary)
    from trainyard.runs.life.finish import sync_line
    from trainyard.runs.records.summary import last_lines

    for line in last_lines(summary, sync_line(work, summary)):
        work.ui.say(line)


def _words_behind() -> list[str]:
    """Return what stands behind ``--`` on the command line; Invoke keeps it from the tasks."""
    return sys.argv[sys.argv.index("--") + 1 :] if "--" in sys.argv else []


def _python(module: str, *words: str) -> int:
    """Run a module with this Python in the checkout; return its exit code."""
    return subprocess.run([sys.executable, "-m", module, *words], cwd=ROOT, check=False).returncode


def _given(value: str | None, message: str, hint: str | None = None) -> str:
    from trainyard.errors import UserError

    if value is None:
        raise UserError(message, hint=hint)
    return value


def _path(value: str | None) -> Path | None:
    return Path(value) if value else None


def _number(option: str, value: Any) -> float | None:
    from math import isfinite

    from trainyard.errors import UserError

    if value is None:
        return None
    try:
        number = float(value)
    except ValueError:
        number = float("nan")
    if not isfinite(number):
        raise UserError(f"{option} {value}: this is not a number")
    if number <= 0:
        raise UserError(f"{option} {value}: it must be more than 0")
    return number


VERBS = (
    train, rehearse, attach, adopt, recover, cancel, runs, logs, ssh, tunnel, render, download,
    up, preview, refresh, destroy, outputs, env, end, reap, audit,
    doctor, test, check, docs,
)  # fmt: skip
GROUPS = {
    "store": {"start": store_start, "stop": store_stop, "status": store_status},
    "venvs": {"clean": venvs_clean},
    "image": {"build": image_build, "push": image_push},
    "bench": {"start": bench_start, "engine": bench_engine},
    "faults": {"crash": faults_crash, "cloud": faults_cloud, "controller": faults_controller},
}
"""Verbs behind a word, as in store.start."""

ns = Collection(*VERBS)
for _word, _verbs in GROUPS.items():
    _group = Collection(_word)
    for _name, _verb in _verbs.items():
        _group.add_task(_verb, name=_name)
    ns.add_collection(_group)
