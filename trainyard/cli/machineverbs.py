"""The verbs about this machine: doctor, the local S3 server, environments of local pods, the trainer image. Parsing only."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from invoke.context import Context

from trainyard.cli.common import context, help_of, required, show_json, task, verb, words_behind
from trainyard.config import find_root
from trainyard.phrasing import as_typed
from trainyard.shipped import find


@task(help=help_of(stack="check what this stack needs, too"))
@verb
def doctor(c: Context, stack: str | None = None) -> int:
    """Check every tool, port, credential, disk and isolation level, and say what to do. Prints no secret."""
    from trainyard.doctor.checks import checks, lines

    work = context(anywhere=True)
    findings = checks(work.places, work.env, stack)
    print(as_typed("\n".join(lines(findings))))
    return 2 if any(check.status == "fail" for check in findings) else 0


@task(positional=["playbook"], help=help_of(playbook="its file; one of playbooks/ may be named without the folder"))
@verb
def play(c: Context, playbook: str) -> int:
    """Run a playbook, here unless its options say where (they stand behind --; invoke play FILE -- --help shows them)."""
    from trainyard.playbook.__main__ import main

    file = Path(playbook) if Path(playbook).exists() else find(find_root(), f"playbooks/{playbook}")
    return main([str(file if file.exists() else playbook), *(words_behind() or ())], as_typed(f"invoke play {playbook} --"))


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
    from trainyard.runs.verbs.storestop import stop

    work = context()
    work.ui.say("stopped" if stop(work) else "it was not running")
    return 0


@task
@verb
def store_status(c: Context) -> int:
    """Show where the local S3 server answers and where its objects lie."""
    from trainyard.storage import local

    show_json(dataclasses.asdict(local.status(context(as_json=True).places)))
    return 0


@task(help=help_of("stack", "json"))
@verb
def store_check(c: Context, stack: str = "local", json: bool = False) -> int:
    """Try a stack's bucket with small objects and show what works with this key; 7 when no result could be kept in it."""
    from trainyard.runs.verbs import storecheck

    work = context(as_json=json)
    report, refused = storecheck.check(work, stack)
    if json:
        show_json(storecheck.as_data(report))
    else:
        storecheck.show(work, report)
    if refused:
        raise refused
    return 0


@task(help=help_of(dry_run="show, remove nothing"))
@verb
def venvs_clean(c: Context, dry_run: bool = False) -> int:
    """Remove the Python environments of local pods that no recipe here and no living pod needs."""
    from trainyard.recipes import unused

    work = context()
    venvs = unused.survey(work.places)
    gone = [] if dry_run else unused.clean(work.places)
    work.ui.say("\n".join(unused.lines(venvs, gone)) or "there are none")
    return 0


@task(help=help_of("ref", refresh="ask the registry for the base image's digest again"))
@verb
def image_build(c: Context, ref: str | None = None, refresh: bool = False) -> int:
    """Build the trainer image (linux/amd64) with the Docker of this machine."""
    from trainyard.pod import image

    image.build(find_root(), required(ref, "say which image: invoke image.build --ref NAME"), refresh=refresh)
    return 0


@task(help=help_of("ref"))
@verb
def image_push(c: Context, ref: str | None = None) -> int:
    """Push the trainer image; print the digest and the size for the settings."""
    from trainyard.pod import image

    reference, gigabytes = image.push(required(ref, "say which image: invoke image.push --ref NAME"))
    context().ui.say(f"trainyard:image: {reference}\ntrainyard:image_gb: {gigabytes}")
    return 0
