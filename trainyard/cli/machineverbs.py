"""The verbs about this machine: doctor, the local S3 server, environments of local pods, the trainer image. Parsing only."""

from __future__ import annotations

import dataclasses

from invoke.context import Context

from trainyard.cli.common import context, help_of, required, show_json, task, verb
from trainyard.config import find_root
from trainyard.errors import UserError
from trainyard.phrasing import as_typed


@task(help=help_of(stack="check what this stack needs, too"))
@verb
def doctor(c: Context, stack: str | None = None) -> int:
    """Check every tool, port, credential, disk and isolation level, and say what to do. Prints no secret."""
    from trainyard.doctor.checks import checks, lines

    work = context(anywhere=True)
    findings = checks(work.places, work.env, stack)
    print(as_typed("\n".join(lines(findings))))
    return 2 if any(check.status == "fail" for check in findings) else 0


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


@task(
    help=help_of(
        "ref",
        recipe="whose environment shall be ready in it (default: lora)",
        push="the same, and push it when it is built",
        lock="gpu (default) or cpu: which lock of the recipe",
        base="another base: Debian or Ubuntu with Python 3.11 or newer, best by its digest",
        tool="docker, podman or buildah (default: the first that is there and answers)",
        refresh="ask the registry for the base image's digest again",
    )
)
@verb
def image_build(
    c: Context,
    ref: str | None = None,
    recipe: str = "lora",
    push: str | None = None,
    lock: str = "gpu",
    base: str | None = None,
    tool: str | None = None,
    refresh: bool = False,
) -> int:
    """Build a recipe's trainer image (linux/amd64) with docker, podman or buildah, whichever is there."""
    from trainyard.recipes import image, imagetools

    ui, root = context().ui, find_root()
    if ref is not None and push is not None:
        raise UserError("--ref and --push name the image, each by itself", hint="Say one of them; --push builds it, too.")
    name = required(ref or push, "say which image: invoke image.build --ref NAME, or --push NAME")
    what = image.order(root, recipe, lock, name, base)
    builder = imagetools.find_tool(tool)
    ui.say(
        f"image {what.reference} by {builder.name}; ready in it: the {lock} environment of {', '.join(image.ready_for(root, what.lock))}"
    )
    ui.say(f"built on {image.build(root, what, builder, refresh=refresh)}")
    if push is not None:
        ui.say(_settings_lines(*image.push(what.reference, builder)))
    return 0


@task(help=help_of("ref", tool="docker, podman or buildah: the one that built it (default: the first that is there and answers)"))
@verb
def image_push(c: Context, ref: str | None = None, tool: str | None = None) -> int:
    """Push a trainer image; print the lines for Pulumi.<stack>.yaml: its digest and its size."""
    from trainyard.recipes import image, imagetools

    name = required(ref, "say which image: invoke image.push --ref NAME")
    context().ui.say(_settings_lines(*image.push(name, imagetools.find_tool(tool))))
    return 0


def _settings_lines(reference: str, gigabytes: int) -> str:
    return f"  trainyard:image: {reference}\n  trainyard:image_gb: {gigabytes}"
