"""The verbs of those who work on Trainyard itself: they stand beside the others in this checkout's tasks.py, and in no wheel."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from invoke.collection import Collection
from invoke.context import Context
from invoke.tasks import task

from tests.measured import MEASURED
from trainyard.cli.common import help_of, verb, words_behind
from trainyard.config import find_root
from trainyard.setup.pipsettings import for_uv

_SIDE_BY_SIDE = ("-n", "6", "--dist", "worksteal")
"""How tests are run. Thrice the two cores that the time of the suite is promised for: more than half of a test is waiting for real
pods, leases and processes, and four leave a third of two cores idle."""
_PICTURES = tuple(f"dashboard-{name}.png" for name in ("run-desktop-light", "costs-desktop-dark"))
"""Those that docs/server.md shows."""
_BRANCHES = ("--cov=trainyard/runs", "--cov=trainyard/stacks", "--cov-branch", "--cov-report=term:skip-covered", "--cov-fail-under=85")


@task(help=help_of(coverage="measure what `invoke coverage` shows on the way, instead of in a run of its own"))
@verb
def test(c: Context, coverage: bool = False) -> int:
    """Run the tests (or some of them: invoke test -- tests/runs -k words)."""
    words = words_behind() or ()
    if coverage and not words:
        return python("pytest", *_SIDE_BY_SIDE, *_BRANCHES)  # tests/conftest.py leaves out what is not measured
    code = _coverage() if coverage else 0
    return python("pytest", *_SIDE_BY_SIDE, *words) or code


@task
@verb
def coverage(c: Context) -> int:
    """Show which branches of runs/ and stacks/ tests reach without a whole run in processes of its own; below 85 % is an error."""
    return _coverage()


def _coverage() -> int:
    return python("pytest", *_SIDE_BY_SIDE, *MEASURED, *_BRANCHES)


@task
@verb
def extras(c: Context) -> int:
    """Run the tests of what extras bring (plots, sweep, modal, trackers), with their pinned packages in a folder apart (build/extras)."""
    return _install_extras() or python("pytest", "-q", "-m", "extras")


@task
@verb
def server_look(c: Context) -> int:
    """Drive the dashboard's story in a real Chromium on the stack local; pictures in build/look, those of the docs in docs/assets."""
    place, assets = find_root() / "build" / "look", find_root() / "docs" / "assets"
    place.mkdir(parents=True, exist_ok=True)
    os.environ["TRAINYARD_LOOK"] = str(place)
    code = _install_extras() or python("pytest", "-q", "-m", "extras", "tests/look")
    for name in () if code else _PICTURES:
        shutil.copy(place / name, assets / name)
    return code


def _install_extras() -> int:
    """Bring the packages to where the processes that are started from now on find them."""
    place, pinned = find_root() / "build" / "extras", Path("tests") / "requirements-extras.txt"
    install = ("uv", "pip", "install", "--quiet", "--python", sys.executable, "--target", str(place), "--require-hashes", "-r", str(pinned))
    surroundings, more = for_uv(os.environ)  # a proxy or certificates that only pip was told of are uv's, too
    os.environ["PYTHONPATH"] = str(place)
    return subprocess.run([sys.executable, "-m", *install, *more], env=surroundings, cwd=find_root(), check=False).returncode


@task
@verb
def recipes_long(c: Context) -> int:
    """Run what takes recipes long: data sets of 1 GB, each method, several pods, failures (some: invoke recipes.long -- -k 200k)."""
    return python("pytest", "-q", "-s", "-m", "long", "tests/recipes", "tests/clouds/slurm", "tests/e2e", *(words_behind() or ()))


@task
@verb
def check(c: Context) -> int:
    """Run ruff, mypy, shellcheck and actionlint over all files (or some steps: invoke check -- types shell)."""
    return subprocess.run([sys.executable, find_root() / ".ci" / "check.py", *(words_behind() or ())], check=False).returncode


@task(
    help=help_of(
        write="first make anew what comes from the code: commands, settings, the provider's resources, recipes' variables",
        record="first record a run on the stack local for the picture in the README",
    )
)  # fmt: skip
@verb
def docs(c: Context, write: bool = False, record: bool = False) -> int:
    """Build the pages of docs/ into site/; a warning (a broken link, a page that nothing leads to) is an error."""
    os.environ["NO_MKDOCS_2_WARNING"] = "1"
    modules = (
        *(("tests.pages.generate", "trainyard.settings.page", "trainyard.runs.gitops.schema") if write else ()),
        *(("tests.pages.record",) if record else ()),
    )
    for module in modules:
        if code := python(module):
            return code
    return python("mkdocs", "build", "--strict")  # not --quiet: it hears no warning then


def _bench(module: str, text: str) -> Any:
    @task
    @verb
    def run(c: Context) -> int:
        return python(module)

    run.__doc__ = text
    return run


bench_start = _bench("bench.start", "Time command -> create, create -> first output, end of training -> pod gone, per engine.")
bench_engine = _bench("bench.engine", "Time up, up without a change and destroy of the built-in engine against the Pulumi CLI.")


def _transfers(module: str, text: str) -> Any:
    @task(
        help=help_of(
            peers="which to measure beside ours, with commas (default: s5cmd,aws,rclone,boto3, installed apart at the first time)",
            only="which of one, shards, small",
            rounds="at most so many (default: as many as fit into 4 minutes, 5 at most)",
        )
    )
    @verb
    def run(c: Context, peers: str | None = None, only: str | None = None, rounds: int | None = None) -> int:
        return python(module, *_options({"--peers": peers, "--only": only, "--rounds": rounds}))

    run.__doc__ = text
    return run


bench_upload = _transfers("bench.upload", "Time a commit with its proof against uploads of s5cmd, aws, rclone and boto3, in one run.")
bench_download = _transfers("bench.download", "Time a proven download against s5cmd, aws, rclone and boto3, in one run.")
bench_billed = _bench(
    "bench.billed", "Count billed minutes of 6 minutes of training and a 5 GB model on the emulated cloud, by three roads."
)

bench_offers = _bench(
    "bench.offers", "Time the offers of all emulated clouds in one table, each 300 ms late; then with one down, one silent."
)
bench_reaper = _bench("bench.reaper", "Time the reaper over 10,000 pods of the emulated RunPod, and `invoke reap` as a whole command.")
bench_ledger = _bench("bench.ledger", "Time the list of 100,000 runs, in SQLite and in Postgres, and `invoke runs` as a whole command.")


@task(
    help=help_of(
        peers="which to measure beside ours: mux,ansible,pipelining,mitogen,pyinfra (default: all, installed apart at the first time)",
        rounds="of each (default: 5)",
        late="round trips of the link in ms (default: 0,80)",
    )
)
@verb
def bench_playbook(c: Context, peers: str | None = None, rounds: int | None = None, late: str | None = None) -> int:
    """Time 18 small tasks over SSH against ansible-core, mitogen, pyinfra and plain ssh, on loopback and with 80 ms between."""
    return python("bench.playbook", *_options({"--peers": peers, "--rounds": rounds, "--late": late}))


@task(
    help=help_of(
        peers="which to measure beside ours: scp,rsync,cat (default: all)",
        rounds="of each (default: 3)",
        late="round trips of the link in ms (default: 0,80)",
        megabytes="size of the file (default: 200)",
    )
)
@verb
def bench_transfer(
    c: Context, peers: str | None = None, rounds: int | None = None, late: str | None = None, megabytes: int | None = None
) -> int:
    """Time a large file to a host over SSH and back against scp, rsync and a pipe, on loopback and with 80 ms between."""
    return python("bench.transfer", *_options({"--peers": peers, "--rounds": rounds, "--late": late, "--megabytes": megabytes}))


@task(
    help=help_of(
        method="lora or dpo alone (default: one after the other)",
        base="tiny (default), or smollm2: a real one of 135 million weights, fetched once",
        rounds="of each (default: 3)",
        steps="of a training (default: 20)",
    )
)
@verb
def bench_lora(c: Context, method: str | None = None, base: str | None = None, rounds: int | None = None, steps: int | None = None) -> int:
    """Train by recipe lora and by TRL, answers and preferences: losses, seconds a step, memory (TRL is fetched apart)."""
    return python("bench.lora", *_options({"--method": method, "--base": base, "--rounds": rounds, "--steps": steps}))


@task(help=help_of(runs="how many estimates are held against a bill (default: 30)", seed="draw these runs (default: 1)"))
@verb
def bench_estimate(c: Context, runs: int | None = None, seed: int | None = None) -> int:
    """Hold the estimates of varied runs against the emulated cloud's bill, as their history grows."""
    return python("bench.estimate", *_options({"--runs": runs, "--seed": seed}))


@task(
    help=help_of(
        runs="how many are submitted (default: 1000)", minutes="stop the worker after that long, and count what is over by then",
        at_once="queue_at_once of the stack (default: 6)",
    )
)  # fmt: skip
@verb
def bench_queue(c: Context, runs: int | None = None, minutes: float | None = None, at_once: int | None = None) -> int:
    """Submit 1,000 runs and let one worker finish them on the emulated cloud: seconds a run, and the memory that worker holds."""
    return python("bench.queue", *_options({"--runs": runs, "--minutes": minutes, "--at-once": at_once}))


@task(
    help=help_of(
        runs="how many are in the ledger (default: 1,000)", open="pages that follow a run (default: 200)",
        rate="pages and paths asked for in a second (default: 10)", seconds="how long each of the two parts goes on (default: 45)",
    )
)  # fmt: skip
@verb
def bench_server(
    c: Context, runs: int | None = None, open: int | None = None, rate: float | None = None, seconds: float | None = None
) -> int:  # fmt: skip
    """Load a server with open pages, requests and slow readers: p50, p95, p99 of each path, and its memory over an hour of events."""
    return python("bench.server", *_options({"--runs": runs, "--open": open, "--rate": rate, "--seconds": seconds}))


@task(
    help=help_of(
        stack="the cloud: any that has an emulator (default: runpod)", cases="how many (default: 500)", seed="draw these cases again",
        engine="builtin or cli (default: all found)", workers="cases side by side (default: 2)",
    )
)  # fmt: skip
@verb
def faults_crash(
    c: Context, stack: str = "runpod", cases: int = 500, seed: int | None = None, engine: str | None = None, workers: int = 2
) -> int:
    """Kill engine, provider and controller at named and random points against an emulated cloud; no pod may be left."""
    given = {"--stack": stack, "--cases": cases, "--seed": seed, "--engine": engine, "--workers": workers}
    return python("tests.faults.crash", *_options(given))


@task(help=help_of(stack="the cloud: any that has an emulator (default: runpod)", only="the faults whose name holds this text"))
@verb
def faults_cloud(c: Context, stack: str = "runpod", only: str | None = None) -> int:
    """Switch on each fault of an emulated cloud in turn; what is left must be nothing, or be said with its price."""
    return python("tests.faults.cloud", *_options({"--stack": stack, "--only": only}))


@task(
    help=help_of(
        cases="how many (default: each crossing of a run once)", seed="draws what comes there, and the order", workers="how many at once"
    )
)  # fmt: skip
@verb
def faults_controller(c: Context, cases: int | None = None, seed: int | None = None, workers: int = 2) -> int:
    """Let each call of a controller fail in turn while a run is driven; its pod and its result must outlive it."""
    given = {"--cases": cases, "--seed": seed, "--workers": workers}
    return python("tests.faults.controller", *_options(given))


@task(
    help=help_of(
        cases="how many (default: 300)", seed="draw these cases again", server="versitygw, minio or ceph (default: versitygw)",
        workers="cases side by side (default: 2)",
    )
)  # fmt: skip
@verb
def faults_results(c: Context, cases: int = 300, seed: int | None = None, server: str | None = None, workers: int = 2) -> int:
    """Bring results of odd contents to safety through kills, cuts, full disks and lying stores; no byte may be lost or untrue."""
    given = {"--cases": cases, "--seed": seed, "--server": server, "--workers": workers}
    return python("tests.faults.results", *(word for name, value in given.items() if value is not None for word in (name, str(value))))


@task(help=help_of(cases="how many (default: 50)", seed="draw these cases again"))
@verb
def faults_gitops(c: Context, cases: int = 50, seed: int | None = None) -> int:
    """Kill gitops.sync at random instants in two clones; each commit and file must be one training, and nothing may be left."""
    return python("tests.faults.gitops", *_options({"--cases": cases, "--seed": seed}))


@task(help=help_of(cases="how many (default: 50)", seed="draw these cases again"))
@verb
def faults_queue(c: Context, cases: int = 50, seed: int | None = None) -> int:
    """Kill workers of the queue at random instants, one alone or two at once; each entry must be one training, and no pod may be left."""
    return python("tests.faults.queue_sample", *_options({"--cases": cases, "--seed": seed}))


@task(help=help_of(cases="how many (default: 10)", seed="draw these cases again", kills="servers killed in each (default: 4)"))
@verb
def faults_server(c: Context, cases: int = 10, seed: int | None = None, kills: int = 4) -> int:
    """Kill servers at random instants while they are asked for runs; each must be one run that succeeds, and nothing may be left."""
    return python("tests.faults.server", *_options({"--cases": cases, "--seed": seed, "--kills": kills}))


@task(help=help_of(cases="how many (default: 30)", seed="draw these cases again"))
@verb
def faults_slurm(c: Context, cases: int = 30, seed: int | None = None) -> int:
    """Whole runs on a real Slurm: kills, scancel, requeue, a lost node, its controller down; nothing may be left, lost or run twice."""
    return python("tests.faults.slurm", *_options({"--cases": cases, "--seed": seed}))


@task(help=help_of(rounds="how many, in SQLite and in Postgres (default: 200)", seed="draw these again"))
@verb
def faults_limits(c: Context, rounds: int = 200, seed: int | None = None) -> int:
    """Let two processes reserve against one limit at once; together they may never pass it."""
    return python("tests.faults.limits", *_options({"--rounds": rounds, "--seed": seed}))


@task(
    help=help_of(
        rounds="how many (default: 200)", seed="draw these again", at="USER@HOST:PORT of another server of this machine, say Dropbear's",
        key="the key for it",
    )
)  # fmt: skip
@verb
def faults_links(c: Context, rounds: int = 200, seed: int | None = None, at: str | None = None, key: str | None = None) -> int:
    """Cut, hold and refuse links at random instants while a play runs on three hosts; nothing may be told untrue, done twice or left."""
    return python("tests.faults.links", *_options({"--rounds": rounds, "--seed": seed, "--at": at, "--key": key}))


@task(
    help=help_of(
        write="write what comes of them as what is expected", ansible="hold them against ansible-core, and ask it for those that changed",
        again="with --ansible: ask it for all of them", ssh="reach the hosts by a real SSH server",
    )
)  # fmt: skip
@verb
def playbook_cases(c: Context, write: bool = False, ansible: bool = False, again: bool = False, ssh: bool = False) -> int:
    """Run tests/cases/ok: playbooks, and beside each what comes of it (some: invoke playbook.cases -- NAME NAME)."""
    if ansible and (code := _install_extras()):
        return code
    given = {"--write": write, "--ansible": ansible, "--again": again, "--ssh": ssh}
    return python("tests.cases", *(name for name, value in given.items() if value), *(words_behind() or ()))


@task(help=help_of(cases="how many (default: 10000)", seed="draw these cases again"))
@verb
def playbook_fuzz(c: Context, cases: int = 10_000, seed: int | None = None) -> int:
    """Read mutated playbooks, then random expressions and templates: whatever they hold, it ends in a sentence."""
    given = _options({"--cases": cases, "--seed": seed})
    return python("tests.playbook.fuzz", *given) or python("tests.playbook.fuzzed", *given)


@task
@verb
def playbook_public(c: Context) -> int:
    """Run playbooks in the shape of public ones on a Debian of their own, by mmdebstrap (some: invoke playbook.public -- -k docker)."""
    return python("pytest", "-q", "-m", "long", "tests/cases", *(words_behind() or ()))


def _server(name: str, text: str) -> Any:
    @task(help=help_of(serve="run it until Ctrl-C, and say how to reach it"))
    @verb
    def get(c: Context, serve: bool = False) -> int:
        return python("tests.servers", name, *(("--serve",) if serve else ()))

    get.__doc__ = text
    return get


servers_minio = _server("minio", "Build MinIO for `pytest tests/storage --store minio` (5 minutes, once per user; never shipped).")
servers_ceph = _server("ceph", "Unpack Ceph's gateway from Debian's packages for `pytest tests/storage --store ceph` (75 MB, once).")

servers_registry = _server("registry", "Build a registry of images for `invoke recipes.long -- -k image` (2 minutes, once; never shipped).")
servers_slurm = _server("slurm", "Unpack Slurm from Debian's packages for the tests of that cloud, where this machine has none.")
servers_postgres = _server("postgres", "Unpack Postgres from Debian's packages for the tests of the ledger, where this machine has none.")


def _options(given: Mapping[str, object]) -> list[str]:
    """Return the options that were given, as words of a command line."""
    return [word for name, value in given.items() if value is not None for word in (name, str(value))]


def development(ns: Collection) -> None:
    """Put these verbs beside the others."""
    alone: Any
    for alone in (test, extras, coverage, check, docs):
        ns.add_task(alone)
    groups = {
        "bench": {
            "start": bench_start,
            "engine": bench_engine,
            "upload": bench_upload,
            "download": bench_download,
            "billed": bench_billed,
            "ledger": bench_ledger,
            "queue": bench_queue,
            "estimate": bench_estimate,
            "offers": bench_offers,
            "reaper": bench_reaper,
            "lora": bench_lora,
            "playbook": bench_playbook,
            "transfer": bench_transfer,
            "server": bench_server,
        },
        "recipes": {"long": recipes_long},
        "playbook": {"cases": playbook_cases, "public": playbook_public, "fuzz": playbook_fuzz},
        "server": {"look": server_look},
        "servers": {
            "minio": servers_minio,
            "ceph": servers_ceph,
            "postgres": servers_postgres,
            "registry": servers_registry,
            "slurm": servers_slurm,
        },
        "faults": {
            "crash": faults_crash,
            "cloud": faults_cloud,
            "controller": faults_controller,
            "results": faults_results,
            "gitops": faults_gitops,
            "queue": faults_queue,
            "server": faults_server,
            "limits": faults_limits,
            "links": faults_links,
            "slurm": faults_slurm,
        },
    }
    for word, tasks in groups.items():
        group = Collection(word)
        for name, each in tasks.items():
            group.add_task(each, name=name)
        ns.add_collection(group)


def python(module: str, *words: str) -> int:
    """Run a module with this Python in the checkout; return its exit code."""
    return subprocess.run([sys.executable, "-m", module, *words], cwd=find_root(), check=False).returncode
