"""The verb that goes through all of it: from data to a model that answers. Parsing only."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from invoke.context import Context

from trainyard.cli.common import context, help_of, like_setting, show_json, task, verb
from trainyard.errors import UserError
from trainyard.textfile import expanded

if TYPE_CHECKING:
    from trainyard.runs.after.cyclebook import CycleRequest


@task(
    positional=[],
    iterable=["data", "set", "data_set"],
    help=help_of(
        "config", "set", "json", "yes",
        data="a file or folder of memories, rows, chats, tables or documents (may be repeated); unless said: as the last time",
        stack="stack to train on (default: local)",
        name="what the cycle is called; its runs are NAME-1, NAME-2 ... (default: the name of the data)",
        data_set="NAME=VALUE of the data builder (may be repeated)",
        hours="length of each lease (default: the stack's setting `hours`)",
        budget="dollars after which the training is stopped",
        since="last: only rows that no earlier round has learnt; where there is none nothing is rented",
        init_from="last: the training goes on from the adapter of the round before",
        merge="put the adapter into its base, too",
        gguf="quantization of a GGUF that is written of it, like Q4_K_M",
        ollama="NAME or NAME:TAG that it gets at Ollama's server (with its GGUF)",
        prompts="file of prompts, one a line or rows, that the model is asked",
        against="whose answers stand beside: base, last (the round before) or none",
        hub="OWNER/NAME of the Hugging Face Hub that the result goes to, with a card",
        again="begin a new round although nothing has changed",
        print_cron="print what lets cron or systemd say this command every night; do nothing else",
    ),
)  # fmt: skip
@verb
def cycle(
    c: Context, data: Any = None, stack: str | None = None, name: str | None = None, config: str | None = None, set: Any = None,
    data_set: Any = None, hours: float | None = None, budget: float | None = None, since: str | None = None, init_from: str | None = None,
    merge: bool = False, gguf: str | None = None, ollama: str | None = None, prompts: str | None = None,
    against: str = "base", hub: str | None = None, again: bool = False, print_cron: bool = False,
    yes: bool = False, json: bool = False,
) -> int:  # fmt: skip
    """From data to a model that answers: build the rows, train, merge, ask, publish; said again it goes on, and rents nothing twice."""
    from trainyard.runs.after import cycle as cycles
    from trainyard.runs.after.cyclebook import CycleBook

    work = context(as_json=json)
    beside = {
        "--config": config, "--set": set, "--data-set": data_set, "--hours": hours, "--budget": budget, "--since": since,
        "--init-from": init_from, "--merge": merge, "--gguf": gguf, "--ollama": ollama, "--prompts": prompts, "--hub": hub,
    }  # fmt: skip
    if data:
        request = _request(
            tuple(data), stack or "local", name, data_sets=tuple(data_set or ()), config=_absolute(config), sets=tuple(set or ()),
            hours=like_setting("hours", hours), budget=like_setting("budget", budget), yes=yes, since_last=_is_last("--since", since),
            init_from_last=_is_last("--init-from", init_from), merge=merge, gguf=gguf, ollama=ollama,
            prompts=_absolute(prompts), against=against,
            hub=hub,
        )  # fmt: skip
        book = CycleBook(work, request.name, request.stack)
    else:
        _refuse_beside(name, [option for option, value in beside.items() if value])
        request, book = None, cycles.book_of(work, str(name), stack)
    if print_cron:
        work.ui.say("\n".join(cycles.cron_lines(book, request)))
        return 0
    done = cycles.run_cycle(work, book, request, again=again)
    if json:
        show_json(asdict(done))
    return 0


def _request(data: tuple[str, ...], stack: str, name: str | None, **more: Any) -> CycleRequest:
    from trainyard.runs.after.cycle import name_of
    from trainyard.runs.after.cyclebook import CycleRequest

    sources = tuple(source if "://" in source else str(expanded(source).absolute()) for source in data)
    return CycleRequest(name=name or name_of(sources[0]), stack=stack, data=sources, **more)


def _refuse_beside(name: str | None, said: list[str]) -> None:
    if name is None:
        raise UserError("say what it learns: --data memories/", hint="Or which cycle goes on: --name NAME")
    if said:
        raise UserError(f"{', '.join(said)}: without --data a cycle is gone on with as it was asked for", hint="Say --data with it.")


def _is_last(option: str, value: str | None) -> bool:
    if value not in (None, "last"):
        raise UserError(f"{option} {value}: of a cycle it is 'last'", hint="A training of its own takes any run: invoke train")
    return value is not None


def _absolute(path: str | None) -> str | None:
    return None if path is None else str(expanded(path).absolute())
