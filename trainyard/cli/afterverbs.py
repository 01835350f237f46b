"""The verbs about what comes after a training. Parsing only."""

from __future__ import annotations

from dataclasses import replace

from invoke.context import Context

from trainyard.cli.common import context, help_of, like_setting, task, verb
from trainyard.cli.driving import KEY, prepare_and_drive


@task(
    positional=["run"],
    help=help_of(
        "name", "json",
        key=KEY,
        run="label, user/label or user/label/attempt of a finished run of recipe lora; last: the run that was begun last",
        stack="stack to merge on; it must have the run's bucket (default: the one it ran on)",
        hours="length of the lease (default: the stack's setting `hours`)",
        budget="dollars after which it is stopped",
        yes="send your files to the stack's cloud without being asked",
        deliver="where the result goes after the run, in the background: local, local:DIR, hub:OWNER/REPO (default: the setting `deliver`)",
    ),
)  # fmt: skip
@verb
def merge(
    c: Context, run: str, stack: str | None = None, name: str | None = None, hours: float | None = None, budget: float | None = None,
    yes: bool = False, deliver: str | None = None, key: str | None = None, json: bool = False,
) -> int:  # fmt: skip
    """Put the adapter of a finished run into the weights of its base: a run of its own, whose result is the whole model."""
    from trainyard.runs.after.merge import merge_of

    work = context(as_json=json)
    request = replace(
        merge_of(work, run, stack), name=name, hours=like_setting("hours", hours), budget=like_setting("budget", budget), yes=yes,
        deliver=deliver,
    )  # fmt: skip
    return prepare_and_drive(work, request, json, key)


@task(
    positional=["run", "question"],
    help=help_of(
        run="label, user/label or user/label/attempt of a finished run of recipe lora or merge; last: the run that was begun last",
        question="what the model is asked, in quotes",
        stack="stack whose bucket has the run (default: the one it ran on)",
        tokens="most tokens of the answer",
    ),
)
@verb
def ask(c: Context, run: str, question: str, stack: str | None = None, tokens: int = 256) -> int:
    """Ask the model of a finished run a question, on this machine's CPU; the likeliest answer goes to stdout."""
    from trainyard.runs.after.ask import ask as answer_of

    print(answer_of(context(), run, question, stack, tokens))
    return 0
