"""The verbs of workers: what works on the queue here, and machines that join a server. Parsing only."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from invoke.context import Context

from trainyard.cli.common import context, help_of, optional_path, show_json, task, verb
from trainyard.errors import UserError
from trainyard.phrasing import as_typed

if TYPE_CHECKING:
    from trainyard.runs.context import CommandContext
    from trainyard.web.workers.joining import JoinOptions

_FOLDER = "~/.trainyard-worker"
_NAME = "the worker's name, as `invoke workers` lists it"
_DAYS = "how long the token lasts (default: 365)"


@task(
    iterable=["label"],
    help=help_of(
        "json",
        once="one look at each entry, and end: for cron",
        until_empty="end when nothing is left that goes on without a person",
        every="seconds between two looks (default: 15)",
        unit="print a systemd unit that does it, and nothing else",
        join="take leases on this machine instead, for the server at this address",
        token="with --join: what `invoke worker.add` has printed; others of this machine can see it",
        token_file="with --join: the file that has it; a new one in there is taken by itself",
        label="with --join: what stacks can ask for, e.g. gpu=a100 (may be repeated)",
        folder=f"with --join: where pods and keys lie (default: {_FOLDER})",
    ),
)
@verb
def worker(
    c: Context, once: bool = False, until_empty: bool = False, every: float = 15.0, unit: bool = False, join: str | None = None,
    token: str | None = None, token_file: str | None = None, label: Any = None, folder: str | None = None, json: bool = False,
) -> int:  # fmt: skip
    """Begin what is queued when it is its turn, leave it to its pods, and finish it; or, with --join, be a machine that runs are put on."""
    if join is not None:
        if once or until_empty:
            raise UserError("--join has no --once and no --until-empty", hint="A machine leaves by Ctrl-C, or when it is drained.")
        return _join(context(anywhere=True), join, token, optional_path(token_file), list(label or ()), optional_path(folder), unit=unit)
    if token or token_file or label or folder:
        raise UserError("--token, --token-file, --label and --folder belong to --join")
    return _work(context(as_json=json), once=once, until_empty=until_empty, every=every, unit=unit, as_json=json)


def _work(work: CommandContext, *, once: bool, until_empty: bool, every: float, unit: bool, as_json: bool) -> int:
    from trainyard.runs.queue import worker as queue
    from trainyard.runs.sweeps.work import hook
    from trainyard.runs.verbs.unit import unit_of

    if not every >= 1:
        raise UserError(f"--every must be at least 1 second, not {every:g}")
    if once and until_empty:
        raise UserError("--once and --until-empty are two ends", hint="Say one of the two.")
    if unit:
        words = ["worker", "--every", f"{every:g}"]
        print(as_typed(unit_of(work.places.root, work.env, "worker", "the queue of {} is worked on", words)), end="")
        return 0
    report = queue.work(work, until="pass" if once else "empty" if until_empty else "stopped", every=every, hook=hook())
    if as_json:
        show_json(asdict(report))
    else:
        work.ui.say("\n".join(queue.lines(report)))
    return report.exit_status


def _join(
    work: CommandContext, url: str, token: str | None, file: Path | None, labels: list[str], folder: Path | None, *, unit: bool
) -> int:  # fmt: skip
    from trainyard.runs.verbs.unit import unit_of

    if (token is None) == (file is None):
        raise UserError("--join needs --token-file FILE, or --token T", hint="On the server: invoke worker.add NAME prints one.")
    place = (folder or Path(_FOLDER).expanduser()).resolve()
    if unit:
        if file is None:
            raise UserError("a unit needs --token-file: whoever can read the unit would read the token")
        words = ["worker", "--join", url, "--token-file", str(file.resolve()), "--folder", str(place)]
        words += [word for each in labels for word in ("--label", each)]
        print(as_typed(unit_of(work.places.root, work.env, "joined-worker", f"this machine takes leases for {url}", words)), end="")
        return 0
    try:
        from trainyard.web.workers.joining import join
    except ModuleNotFoundError as error:
        hint = "In a checkout: ./bootstrap. Elsewhere: pipx install --force 'trainyard[server]', or the same with pip or uv."
        raise UserError(f"a worker needs the package '{error.name}', which this Python does not have", hint=hint) from None
    join(_options(url, token, file, labels, place), work.ui.say)
    return 0


def _options(url: str, token: str | None, file: Path | None, labels: list[str], folder: Path) -> JoinOptions:
    import re

    from trainyard.web.workers.joining import JoinOptions
    from trainyard.web.workers.words import LABEL

    pairs = [label.partition("=") for label in labels]
    for name, sign, value in pairs:
        if not (sign and re.fullmatch(LABEL, name) and value.isprintable() and 0 < len(value) <= 100):
            raise UserError(f"--label {name}{sign}{value}: it is no label", hint="As in --label gpu=a100")
    return JoinOptions(
        url=url, token=_reader(token, file), labels={name: value for name, _, value in pairs}, folder=folder, renews=file is not None
    )  # fmt: skip


def _reader(token: str | None, file: Path | None) -> Callable[[], str]:
    from trainyard.textfile import read_text

    def read() -> str:
        if file is None:
            return str(token)
        try:
            return read_text(file).strip()
        except FileNotFoundError:
            raise UserError(f"there is no file {file}", hint="Put the token into it that `invoke worker.add` has printed.") from None

    return read


@task(help=help_of("json"))
@verb
def workers(c: Context, json: bool = False) -> int:
    """List the machines that join a server of this ledger: how they stand, what they have, when they last said that they live."""
    from trainyard.runs.verbs.workers import all_workers

    now = time.time()
    rows = all_workers(context(as_json=json))
    if json:
        show_json([{**asdict(row), "state": row.state(now)} for row in rows])
        return 0
    for row in rows:
        labels = " ".join(f"{name}={value}" for name, value in row.labels.items())
        words = [f"{len(row.gpus)} x {row.gpus[0]}" if row.gpus else "no GPU", f"pods {row.pods}", labels, row.version or ""]
        seen = f"seen {now - row.beat:.0f} s ago" if row.beat is not None else "never seen"
        print(as_typed("  ".join([f"{row.name:<20}", f"{row.state(now):<9}", *filter(None, words), seen])))
    return 0


@task(positional=["name"], help=help_of(name="what it is called", days=_DAYS))
@verb
def worker_add(c: Context, name: str, days: str = "365") -> int:
    """Make a worker: print, once, the token by which one machine joins as it."""
    from trainyard.runs.verbs.workers import add_worker

    print(as_typed(add_worker(context(), name, _days(days))))
    return 0


@task(positional=["name"], help=help_of(name=_NAME, days=_DAYS))
@verb
def worker_rotate(c: Context, name: str, days: str = "365") -> int:
    """Give a worker another token, and print it; the old one proves nothing any more."""
    from trainyard.runs.verbs.workers import rotate_worker

    print(as_typed(rotate_worker(context(), name, _days(days))))
    return 0


@task(positional=["name"], help=help_of(name=_NAME, undo="let it take leases again"))
@verb
def worker_drain(c: Context, name: str, undo: bool = False) -> int:
    """Let a worker take no new lease; it leaves by itself when its last one is over."""
    from trainyard.runs.verbs.workers import drain_worker

    work = context()
    row = drain_worker(work, name, drains=not undo)
    work.ui.say(
        f"working    {row.name} takes leases again" if undo else f"draining   {row.name}, with {row.pods} pods; look: invoke workers"
    )
    return 0


@task(positional=["name"], help=help_of(name=_NAME))
@verb
def worker_remove(c: Context, name: str) -> int:
    """Forget a worker on which no lease can be any more; its token proves nothing from then on."""
    from trainyard.runs.verbs.workers import remove_worker

    work = context()
    remove_worker(work, name)
    work.ui.say(f"removed    {name}")
    return 0


def _days(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise UserError(f"--days {text}: it is no number") from None
