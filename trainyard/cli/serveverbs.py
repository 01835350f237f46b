"""The verbs that have models of finished runs answer. Parsing only."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from invoke.context import Context

from trainyard.cli.common import context, finish, help_of, like_setting, optional_path, required, show_json, task, verb
from trainyard.cli.ending import INTERRUPTED
from trainyard.errors import UserError


@task(
    positional=["run"],
    help=help_of(
        "name", "json", "hours", "budget", "yes",
        run="a finished run of recipe lora or merge; or a run that serves already: come back to it; last: the run that was begun last",
        stack="stack to serve on; it must have the run's bucket (default: the one it ran on)",
        here="serve from this machine until Ctrl-C, without a pod",
        port="port of this machine",
        api_key_from="environment variable with the API key (default: one is made)",
        engine="vllm or transformers (default: vllm where the stack has a GPU)",
        model_name="what requests call the model (default: user/label of the run)",
        detach="leave as soon as it runs",
    ),
)  # fmt: skip
@verb
def serve_model(
    c: Context, run: str, stack: str | None = None, here: bool = False, hours: float | None = None, budget: float | None = None,
    port: str = "8000", api_key_from: str | None = None, model_name: str | None = None, engine: str | None = None, name: str | None = None,
    detach: bool = False,
    yes: bool = False, json: bool = False,
) -> int:  # fmt: skip
    """Serve the model of a finished run by OpenAI's API, on a leased pod with a tunnel to it, or on this machine."""
    from trainyard.runs.after.serve import ServeOptions, begin_serving, hold, left_lines, serve_here, served_run, serving_of
    from trainyard.runs.signals import NothingRented
    from trainyard.runs.verbs.reach import port_of

    work, options = context(as_json=json), ServeOptions(port_of(port), api_key_from, model_name, engine)
    if here:
        if any(option is not None for option in (stack, hours, budget, engine, name)) or detach:
            raise UserError(
                "--here is this machine, without a pod: no --stack, --hours, --budget, --engine, --name or --detach goes with it"
            )
        return serve_here(work, run, options)
    folder = served_run(work, run)
    if folder is None:
        request = replace(
            serving_of(work, run, stack, options), name=name, hours=like_setting("hours", hours), budget=like_setting("budget", budget),
            yes=yes,
        )  # fmt: skip
        try:
            summary = begin_serving(work, request)
        except NothingRented as left:
            work.ui.fail(str(left))
            return INTERRUPTED
        folder = work.folder(f"{summary.run}/{summary.attempt}")
        if summary.ended_at is not None:
            return finish(work, json, lambda: summary)
        if detach:
            for line in left_lines(folder):
                work.ui.say(line)
            return 0
    return finish(work, json, lambda: hold(work, folder, options.port))


@task(
    positional=["run"],
    help=help_of(
        "json",
        run="a finished run of recipe lora or merge, or one that serves its model now; last: the run that was begun last",
        prompts="file: a text with a prompt in each line, or rows with prompt and reference, or as recipe lora learns them",
        against="base (the default), or another run, finished or serving",
        alone="compare with nothing: its answers, times and scores only",
        judge="address of an OpenAI-compatible API that says which answer is better, like https://host/v1",
        judge_model="model of the judge",
        judge_key_from="environment variable with the judge's key",
        tokens="most tokens of an answer",
        to="folder of the report (default: one below out/compared)",
        stack="stack whose bucket has the runs (default: the one that they ran on)",
    ),
)  # fmt: skip
@verb
def compare_answers(
    c: Context, run: str, prompts: str | None = None, against: str | None = None, alone: bool = False, judge: str | None = None,
    judge_model: str | None = None, judge_key_from: str | None = None, tokens: int = 256, to: str | None = None, stack: str | None = None,
    json: bool = False,
) -> int:  # fmt: skip
    """Ask a run's model and its base (or another run's) the same prompts, on this machine: side by side, scored, judged if wanted."""
    from trainyard.runs.after import compareanswers, sides
    from trainyard.runs.after.judge import Judge

    work = context(as_json=json)
    if alone and against is not None:
        raise UserError("--alone and --against: say one of them")
    if (judge is None) != (judge_model is None):
        raise UserError("--judge and --judge-model belong together")
    wish = compareanswers.ComparisonWish(
        Path(required(prompts, "say which prompts: --prompts FILE")), None if alone else against or sides.BASE, tokens,
        Judge(judge, judge_model, judge_key_from) if judge is not None and judge_model is not None else None, optional_path(to),
    )  # fmt: skip
    folder, report = compareanswers.compare_answers(work, run, stack, wish)
    if json:
        show_json(report)
    else:
        for line in compareanswers.lines(folder, report):
            work.ui.say(line)
    return 0
