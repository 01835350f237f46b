"""The verbs about what comes after a training. Parsing only."""

from __future__ import annotations

from dataclasses import asdict
from dataclasses import replace as replaced

from invoke.context import Context

from trainyard.cli.common import context, help_of, like_setting, required, show_json, task, verb
from trainyard.cli.driving import KEY, prepare_and_drive
from trainyard.errors import UserError


@task(
    positional=["run"],
    help=help_of(
        "name", "json", "hours", "budget", "yes", "deliver",
        key=KEY,
        run="label, user/label or user/label/attempt of a finished run of recipe lora; last: the run that was begun last",
        stack="stack to merge on; it must have the run's bucket (default: the one it ran on)",
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
    request = replaced(
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


@task(
    positional=["run"],
    help=help_of(
        "json",
        run="label, user/label or user/label/attempt of a finished run, or last",
        hub="the repository: OWNER/NAME; made where there is none",
        public="anybody may read it; a repository that is there and private is refused",
        private="nobody else may read it (the default); a repository that is there and public is refused",
        revision="branch that it goes to, made where there is none (default: main)",
        license="id of the licence in the card, like apache-2.0 (default: that of the base, as the Hub says)",
        cost="say in the card what the training has cost",
        replace="the repository holds this result and its card alone afterwards: what else lies there goes, in the same commit",
        stack="stack whose bucket has the run (default: the one it ran on)",
        dry_run="show the card and which files would go; send nothing",
    ),
)
@verb
def push(
    c: Context, run: str, hub: str | None = None, public: bool = False, private: bool = False, revision: str = "main",
    license: str | None = None, cost: bool = False, replace: bool = False, stack: str | None = None, dry_run: bool = False,
    json: bool = False,
) -> int:  # fmt: skip
    """Bring the result of a run to the Hugging Face Hub with a model card, every file proven there; private unless said otherwise."""
    from trainyard.runs.after import push as pushing
    from trainyard.runs.after.tohub import HubWish

    work = context(as_json=json)
    repo = required(hub, "say which repository: --hub OWNER/NAME")
    if public and private:
        raise UserError("--public and --private: say one of them")
    wish = HubWish(repo=repo, public=public, branch=revision, cost=cost, alone=replace)
    if dry_run:
        print(pushing.shown(work, run, wish, stack, license))
        return 0
    done = pushing.push_run(work, run, wish, stack, license)
    if json:
        show_json(asdict(done))
    else:
        work.ui.say(f"pushed to {done.url} (revision {done.revision[:12]}), {'public' if done.public else 'private'}")
    return 0
