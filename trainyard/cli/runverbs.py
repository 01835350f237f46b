"""The verbs about runs: train, follow, end, fetch. Parsing only."""

from __future__ import annotations

import shlex
import sys
from dataclasses import asdict, replace
from pathlib import Path
from shlex import quote
from typing import TYPE_CHECKING, Any

from invoke.context import Context

from trainyard.cli.common import (
    context,
    finish,
    help_of,
    like_setting,
    optional_path,
    recipe_of,
    required,
    show_json,
    show_summary,
    task,
    verb,
    words_behind,
)
from trainyard.cli.driving import KEY, drive_prepared, keyed, prepare_and_drive
from trainyard.cli.sweepoptions import OF_A_SWEEP, cancel_sweep, sweep_called, sweep_here, sweep_of
from trainyard.config import find_root, stack_names
from trainyard.errors import UserError

if TYPE_CHECKING:
    from trainyard.runs.verbs.train import TrainRequest


OF_A_RUN = help_of(
    "stack", "recipe", "data", "config", "set", "name", "json", "yes", "deliver",
    hours="length of the lease; training is stopped then (default: the stack's setting `hours`)",
    budget="dollars after which the training is stopped and saved",
    resume="how often the run is resumed by itself if its pod is lost (default: the stack's setting `resume`)",
    detach="end with code 0 as soon as the training runs and its pod can commit alone; `invoke attach` or `recover` finish the story",
    key=KEY,
    on_bad_row="stop or skip: what happens when rows cannot be trained (the same as --set on_bad_row=...)",
    from_="an edited create request of the stack's cloud, as `invoke render` writes it: what it says is what is sent",
)  # fmt: skip


@task(
    iterable=["set", "sweep"],
    help={
        **OF_A_RUN,
        **OF_A_SWEEP,
        **help_of(
            init_from="a finished run (user/label) whose adapter the training starts from, or last: your newest success of the recipe",
            since="a run (user/label/attempt), or last: only data that it has not had; where nothing is new no run begins (code 3)",
        ),
    },
)
@verb
def train(
    c: Context, stack: str = "local", recipe: str | None = None, data: str | None = None, config: str | None = None, set: Any = None,
    name: str | None = None, hours: float | None = None, budget: float | None = None, on_bad_row: str | None = None,
    yes: bool = False, resume: int | None = None, deliver: str | None = None, detach: bool = False,
    init_from: str | None = None, since: str | None = None, key: str | None = None, from_: str | None = None,
    sweep: Any = None, sampler: str | None = None, trials: str | None = None, seed: str | None = None, objective: str | None = None,
    prune: bool = False, parallel: str | None = None, max_trials: str | None = None, json: bool = False,
) -> int:  # fmt: skip
    """Train on a stack: rent, run, bring the result to safety, end the pod, prove it gone (a command of yours: -- COMMAND)."""
    request = asked_run(stack, recipe, data, config, set, name, hours, budget, on_bad_row, yes, resume, deliver, from_)
    request = replace(request, detach=detach, init_from=init_from, since=since)
    swept = sweep_of(request, sweep, sampler, trials, seed, objective, parallel, max_trials, prune=prune, key=key)
    work = context(as_json=json)
    return prepare_and_drive(work, request, json, key) if swept is None else sweep_here(work, swept, json)


def _stacks_here() -> str:
    """Return how a stack is named on the command line, with those that there are."""
    return f"--stack and one of {', '.join(stack_names(find_root()))}"


def asked_run(
    stack: str, recipe: str | None, data: str | None, config: str | None, sets: Any, name: str | None, hours: float | None,
    budget: float | None, on_bad_row: str | None, yes: bool, resume: int | None, deliver: str | None, from_: str | None = None,
) -> TrainRequest:  # fmt: skip
    """Return what the options of a run ask for; raises UserError for one that cannot be."""
    from trainyard.runs.verbs.train import TrainRequest

    if from_ == "":
        raise UserError("--from names no file: it is empty", hint="Without an edited request leave it out.")
    return TrainRequest(
        stack,
        recipe_of(recipe, config),
        data,
        optional_path(config),
        (*(sets or ()), *([f"on_bad_row={on_bad_row}"] if on_bad_row else [])),
        name,
        like_setting("hours", hours),
        like_setting("budget", budget),
        yes,
        words_behind(),
        None if resume is None else int(like_setting("resume", resume) or 0),
        deliver=deliver,
        request_file=optional_path(from_),
    )


@task(
    positional=["run"],
    iterable=["set"],
    help=help_of(
        "set", "json",
        key=KEY,
        run="label, user/label, user/label/attempt, or a key of the bucket; last: the run that was begun last",
        stack="stack to go on on; it must have the run's bucket (default: the one it ran on)",
        hours="length of the lease (default: as before)",
        budget="dollars of the whole run, earlier attempts included (default: what is left of its budget)",
        yes="send your files to the stack's cloud without being asked",
    ),
)  # fmt: skip
@verb
def resume(
    c: Context, run: str, stack: str | None = None, hours: float | None = None, budget: float | None = None, set: Any = None,
    yes: bool = False, key: str | None = None, json: bool = False,
) -> int:  # fmt: skip
    """Go on with a run that has ended, from its newest checkpoint: a new attempt, on any stack that has its bucket."""
    from trainyard.runs.verbs.resume import ResumeRequest
    from trainyard.runs.verbs.resume import prepare as prepare_next

    request = ResumeRequest(
        run, stack, like_setting("hours", hours), like_setting("budget", budget), tuple(set or ()), yes, words_behind()
    )  # fmt: skip
    work = context(as_json=json)
    return drive_prepared(
        work, json, lambda start: prepare_next(work, replace(request, key=start)), start=keyed(work, key, "resume", request)
    )


@task(positional=["run"], help=help_of("run", "json"))
@verb
def attach(c: Context, run: str, json: bool = False) -> int:
    """Come back to a run: follow it and finish its story; beside a living controller, watch."""
    from trainyard.runs.verbs.attach import attach as come_back

    work = context(as_json=json)
    return finish(work, json, lambda: come_back(work, run))


@task(
    positional=["pod"],
    help=help_of(
        "stack",
        "json",
        pod="id or name of the pod (invoke reap --all-stacks --dry-run lists them)",
        key="private SSH key of that stack",
    ),
)
@verb
def adopt(c: Context, pod: str, key: str | None = None, stack: str = "local", json: bool = False) -> int:
    """Take over the run on a pod whose controller is lost: needs the cloud's key and the SSH key, nothing else."""
    from trainyard.runs.verbs.adopt import adopt as take_over
    from trainyard.runs.verbs.through import through

    work = context(as_json=json)
    known = work.places.ssh / stack / "id_ed25519"
    named, hint = (quote(str(known)), None) if known.is_file() else ("FILE", f"It is the private SSH key of stack '{stack}'.")
    file = Path(required(key, f"say which key: invoke adopt {pod} --stack {stack} --key {named}", hint=hint))
    return finish(work, json, lambda: through(work, take_over(work, stack, pod, file)))


@task(help=help_of("json"))
@verb
def recover(c: Context, json: bool = False) -> int:
    """Finish every run that no living process drives; one that had no pod yet is rented one and trains."""
    from trainyard.runs.verbs.attach import recover as finish_all

    work = context(as_json=json)
    summaries = finish_all(work)
    if json:
        show_json([asdict(summary) for summary in summaries])
    else:
        for summary in summaries:
            show_summary(work, summary, as_json=False)
    return 0 if all(summary.success or summary.cancelled for summary in summaries) else 1


@task(positional=["run"], help=help_of("run", "json", now="do not save: end the pod at once"))
@verb
def cancel(c: Context, run: str, now: bool = False, json: bool = False) -> int:
    """End a run: its training saves and stops, what it left is kept, its pod ends; what is queued is taken out; of a sweep, all."""
    from trainyard.ledger.queue import QueueEntry
    from trainyard.runs.queue.changes import end

    work = context(as_json=json)
    if (sweep := sweep_called(work, run)) is not None:
        return cancel_sweep(work, sweep, now=now, as_json=json)
    ended = end(work, run, now=now)
    if isinstance(ended, QueueEntry):
        work.ui.say(f"withdrawn  {ended.run}: it had not begun, and nothing was rented")
    elif ended is not None:
        show_summary(work, ended, json)
    return 0


@task(positional=["run", "time"], help=help_of("run", "json", time="how much longer: 2h, 30m, 1.5h"))
@verb
def extend(c: Context, run: str, time: str, json: bool = False) -> int:
    """Move stop and end of a running run's lease, where its cloud can change them; asked within limits and budget."""
    from trainyard.runs.verbs.extend import extend as move

    work = context(as_json=json)
    moved = move(work, run, time)
    if json:
        show_json(asdict(moved))
    else:
        work.ui.say(f"extended   {moved.run}: {moved.hours:g} h, stop {moved.stop}, end {moved.end}, at most ${moved.most:.2f} in all")
    return 0


@task(
    iterable=["set"],
    help={
        **{name: text for name, text in OF_A_RUN.items() if name not in ("detach", "key")},
        "stack": "stack to rehearse (default: runpod)",
        "yes": "as for train; nothing leaves this machine",
        "deliver": "as for train: looked at, and nothing is delivered",
        "rootfs": "folder with the files of a trainer image (as `buildah mount` gives it), which the pods then start; needs root",
    },
)
@verb
def rehearse(
    c: Context, stack: str = "runpod", recipe: str | None = None, data: str | None = None, config: str | None = None, set: Any = None,
    name: str | None = None, hours: float | None = None, budget: float | None = None, on_bad_row: str | None = None,
    yes: bool = False, resume: int | None = None, deliver: str | None = None, from_: str | None = None, json: bool = False,
    rootfs: str | None = None,
) -> int:  # fmt: skip
    """Run the whole story of a stack against an emulator of its cloud, with real pods on this machine: costs nothing."""
    from trainyard import config as settings
    from trainyard.rehearsal.session import rehearsal
    from trainyard.runs.context import CommandContext

    request = asked_run(stack, recipe, data, config, set, name, hours, budget, on_bad_row, yes, resume, deliver, from_)
    request = replace(request, rehearsed=True)
    here = context(as_json=json)
    with rehearsal(stack, here.places, here.env, optional_path(rootfs)) as world:
        work = CommandContext(settings.places(world.root, world.env), world.env, here.ui, world.root.parent)
        work.ui.say(f"rehearsal  of stack '{stack}' on this machine; the cloud is SIMULATED, nothing is rented")
        if world.otherwise:
            work.ui.say(f"rehearsal  {world.otherwise}")
        return prepare_and_drive(work, request, json)


@task(positional=["run"], help=help_of("run", follow="go on until the training ends"))
@verb
def logs(c: Context, run: str, follow: bool = False) -> int:
    """Print a run's log, byte for byte."""
    from trainyard.runs.verbs.logs import print_log

    return print_log(context(as_json=True), run, follow=follow, out=sys.stdout.buffer)


@task(positional=["run"], help=help_of("run"), auto_shortflags=False)
@verb
def ssh(c: Context, run: str, command: str | None = None) -> int:
    """Open a shell on a run's pod (or: invoke ssh RUN -- COMMAND)."""
    from trainyard.runs.verbs.reach import shell

    return shell(context(), run, command or " ".join(words_behind() or ()) or None)


@task(positional=["run", "port"], help=help_of("run", port="port on the pod", local_port="port here (default: the same)"))
@verb
def tunnel(c: Context, run: str, port: str, local_port: str | None = None) -> int:
    """Forward a local port to a port of the run's pod until Ctrl-C."""
    from trainyard.runs.verbs.reach import tunnel as forward

    return forward(context(), run, port, local_port)


@task(
    positional=["recipe", "to"],
    iterable=["set"],
    help=help_of(
        "recipe", "data", "config", "set",
        to="folder to write",
        stack="also write what its cloud would be asked for, in the cloud's own form, secrets as references; needs its key",
        hours="length of the lease in that request",
        from_="an edited request of that cloud, to see what would become of it",
    ),
)  # fmt: skip
@verb
def render(
    c: Context, recipe: str, to: str, data: str | None = None, config: str | None = None, set: Any = None, stack: str | None = None,
    hours: float | None = None, from_: str | None = None,
) -> int:  # fmt: skip
    """Write a run's bundle into a folder; `sh DIR/run.sh` runs it by hand on any machine."""
    from trainyard.runs.verbs.render import render_bundle, render_run

    work, words = context(), words_behind()
    if stack is None:
        if from_ is not None or hours is not None:
            raise UserError("--from and --hours are about the request of a stack", hint=f"Say which: {_stacks_here()}")
        written = render_bundle(work, recipe, data, optional_path(config), tuple(set or ()), Path(to), words)
    else:
        asked = asked_run(stack, recipe, data, config, set, None, hours, None, None, False, None, None, from_)
        written = render_run(work, asked, Path(to))
    work.ui.say(f"{to}: bundle {written.bundle.sha256[:12]}; run it with: sh {to}/run.sh")
    if written.request is not None:
        options = {"data": data, "config": config, "hours": hours and f"{hours:g}", "from": written.request}
        said = [*(f"--set={one}" for one in set or ()), *(f"--{name}={value}" for name, value in options.items() if value is not None)]
        again = shlex.join(["invoke", "train", f"--stack={stack}", f"--recipe={recipe}", *said, *(["--", *words] if words else [])])
        work.ui.say(f"{written.request}: what the cloud would be asked for; edit it, then: {again}")
    elif stack is not None:
        work.ui.say(f"request    none: stack '{stack}' is sent no request that could be read or edited; its settings say everything")
    return 0


@task(
    positional=["run", "to"],
    help=help_of(
        run="label, user/label, any key or s3:// URL; last: the run that was begun last",
        to="folder to write",
        stack="stack whose bucket holds it (default: that of the run where it is known here, else local)",
        partial="take a result without _SUCCESS too",
        whole="the files beside the model too (metrics, reports), in the result's own folders",
    ),
)
@verb
def download(c: Context, run: str, to: str, stack: str | None = None, partial: bool = False, whole: bool = False) -> int:
    """Fetch a result: parallel, resumable, every file proved by its sha256."""
    from trainyard.runs.verbs.fetch import fetch, tell

    to = required(to.strip() or None, "DIR is empty: say where the result goes", "To fetch it into this folder: invoke download RUN .")
    work = context()
    tell(work.ui, fetch(work, stack, run, Path(to), partial=partial, whole=whole), stack)
    return 0
