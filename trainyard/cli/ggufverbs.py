"""The verbs that bring a training to llama.cpp and Ollama. Parsing only."""

from __future__ import annotations

from dataclasses import asdict, replace

from invoke.context import Context

from trainyard.cli.common import context, help_of, like_setting, show_json, task, verb
from trainyard.cli.driving import KEY, prepare_and_drive


@task(
    positional=["run"],
    help=help_of(
        "name", "json", "hours", "budget", "yes", "deliver",
        key=KEY,
        run="label, user/label or user/label/attempt of a finished run of recipe lora or merge; last: the run that was begun last",
        quant="how the weights are held, by llama.cpp's names (default: Q4_K_M; of an adapter F16)",
        what="merged: the whole model, an adapter put into its base first; adapter: the adapter alone",
        stack="stack to write it on; it must have the run's bucket (default: the one it ran on)",
    ),
)  # fmt: skip
@verb
def gguf(
    c: Context, run: str, quant: str | None = None, what: str = "merged", stack: str | None = None, name: str | None = None,
    hours: float | None = None, budget: float | None = None, yes: bool = False, deliver: str | None = None, key: str | None = None,
    json: bool = False,
) -> int:  # fmt: skip
    """Write what a finished run has left as GGUF, for llama.cpp and Ollama: a run of its own, whose result is that file."""
    from trainyard.runs.after.gguf import gguf_of

    work = context(as_json=json)
    request = replace(
        gguf_of(work, run, stack, what, quant), name=name, hours=like_setting("hours", hours), budget=like_setting("budget", budget),
        yes=yes, deliver=deliver,
    )  # fmt: skip
    return prepare_and_drive(work, request, json, key)


@task(
    positional=["run"],
    help=help_of(
        "json",
        run="label, user/label or user/label/attempt of a finished run of recipe gguf, or of one whose GGUF is known here; or last",
        tag="name of the model at the server, NAME:TAG (default: base and label, user and day)",
        host="address of the server (default: OLLAMA_HOST, else http://127.0.0.1:11434)",
        to="folder for file and Modelfile (default: one in .trainyard/ollama)",
        base="of an adapter: the server's model that it is put onto",
        system="a system text that the model always has",
        make="write the GGUF first where there is none: a run of its own, as invoke gguf begins it",
        quant="then: how the weights are held",
        dry_run="write file and Modelfile; send nothing",
        stack="stack whose bucket has the run (default: the one it ran on)",
        yes="with --make: send your files to the stack's cloud without being asked",
    ),
)
@verb
def ollama(
    c: Context, run: str, tag: str | None = None, host: str | None = None, to: str | None = None, base: str | None = None,
    system: str = "", make: bool = False, quant: str | None = None, dry_run: bool = False, stack: str | None = None, yes: bool = False,
    json: bool = False,
) -> int:  # fmt: skip
    """Bring a finished run to a server of Ollama: file and Modelfile fetched and written, the model made there and looked at."""
    from trainyard.runs.after import ollama as bringing
    from trainyard.runs.after.gguf import ADAPTER, MERGED, gguf_of

    work = context(as_json=json)
    wish = bringing.OllamaWish(tag=tag, host=host, folder=to, base=base, system=system, send=not dry_run)
    bringing.check(work, wish)
    if make and not bringing.gguf_there(work, run, stack):
        request = replace(gguf_of(work, run, stack, ADAPTER if base else MERGED, quant), yes=yes)
        if code := prepare_and_drive(work, request, False):
            return code
    done = bringing.to_ollama(work, run, stack, wish)
    if json:
        show_json(asdict(done))
    elif done.model:
        work.ui.say(f"made       {done.model} at {done.server}: ollama run {done.model}")
    else:
        work.ui.say(f"to make it: cd {done.folder} && ollama create NAME:TAG")
    return 0
