"""A cycle: from a person's data to a model that answers, in one command that is said again and again.

Each stage is a verb that exists. A round is known by the bytes that it was begun with: the same said again goes on with it, and
rents nothing twice. Its runs have names of their own (NAME-3, NAME-3-merge), so a stage whose process died is found by them.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

from trainyard.clock import format_time
from trainyard.config import AUTO, slug
from trainyard.errors import Busy, Detached, TrainyardError, UserError, outside
from trainyard.recipes.basemodel import MADE
from trainyard.recipes.contract import load_recipe
from trainyard.runs.after import cyclerows, ollama
from trainyard.runs.after.compareanswers import ComparisonWish, compare_answers, lines
from trainyard.runs.after.cyclebook import CycleBook, CycleRequest, CycleRound, CycleStage
from trainyard.runs.after.cycletimes import lines_of
from trainyard.runs.after.gguf import MERGED, gguf_of, refuse_quant
from trainyard.runs.after.merge import leaves_whole, merge_of
from trainyard.runs.after.ollama import OllamaWish, to_ollama
from trainyard.runs.after.prompts import load_prompts
from trainyard.runs.after.push import push_run, repository
from trainyard.runs.after.tohub import HubWish
from trainyard.runs.context import CommandContext
from trainyard.runs.life.finish import sync_line
from trainyard.runs.notices.announce import announce
from trainyard.runs.notices.notice import Notice
from trainyard.runs.planning.deliverymeans import need_means
from trainyard.runs.records.identity import check_label, is_there
from trainyard.runs.records.summary import RunSummary, last_lines, resume_command, summarize
from trainyard.runs.verbs.attach import attach
from trainyard.runs.verbs.auto import begin_training
from trainyard.runs.verbs.keyed import KeyedRun, came_to_nothing, start_key, state_line
from trainyard.runs.verbs.train import TrainRequest, values_of
from trainyard.textfile import expanded

_AGAINST = ("base", "last", "none")


class StageFailed(TrainyardError):
    """A stage of a cycle that was no success; its exit code is that of what it ran."""

    def __init__(self, message: str, code: int, hint: str | None = None) -> None:
        super().__init__(message, hint=hint)
        self.exit_code = code


@dataclass(frozen=True, slots=True)
class _Work:
    context: CommandContext
    book: CycleBook
    round: CycleRound

    @property
    def request(self) -> CycleRequest:
        return self.round.request

    @property
    def folder(self) -> Path:
        return self.book.folder(self.round.number)

    @property
    def trained(self) -> str:
        return self.round.outcome("train") or f"{self.round.user}/{self.round.label}"


def run_cycle(context: CommandContext, book: CycleBook, asked: CycleRequest | None, *, again: bool = False) -> CycleRound:
    """Go through all stages that are left of a round, or of a new one; return it.

    ``asked``: None for what was asked for the last time. Raises UserError for wrong settings, Busy while another process is at it,
    and what a stage raises: the round is gone on with by the same command.
    """
    if book.stack == AUTO:
        raise UserError("--stack auto: the rounds of a cycle are in the bucket of one stack", hint="What is cheapest now: invoke offers")
    for label in (book.name, f"{book.name}-999-merge"):
        check_label(label, book.user, book.stack)
    with book.held():
        current = _round(context, book, asked, again=again)
        for stage in current.request.stages:
            if (outcome := current.outcome(stage)) is not None:
                context.ui.say(f"cycle      {stage}: done already ({outcome})")
            elif current.nothing_new:
                continue
            else:
                _go_through(_Work(context, book, current), stage)
        if not current.over:
            current.over = True
            book.save(current)
            _announce(context, current)
        return current


def book_of(context: CommandContext, name: str, stack: str | None) -> CycleBook:
    """Return the book of a cycle that was begun before, on the stack of its newest round here unless another is named."""
    here = CycleBook(context, name, stack or "local")
    number = here.newest_here()
    return here if stack or not number else CycleBook(context, name, here.read(number).request.stack)


def cron_lines(book: CycleBook, request: CycleRequest | None) -> Sequence[str]:
    """Return what lets a machine say a request every night, the last one where none is given."""
    return lines_of(request or request_again(book), book.context.places.root)


def request_again(book: CycleBook) -> CycleRequest:
    """Return what was asked for the last time; raises UserError where nothing was."""
    newest = book.newest()
    if newest is None:
        raise UserError(
            f"there is no cycle {book.name}", hint=f"Begin it: invoke cycle --data memories/ --name {book.name} --stack {book.stack}"
        )
    return newest.request


def _round(context: CommandContext, book: CycleBook, asked: CycleRequest | None, *, again: bool) -> CycleRound:
    """Return the round that is to be gone on with, or a new one."""
    newest = book.newest()
    if newest is not None and not newest.over and asked is None and not again:
        context.ui.say(f"cycle      {book.name}, round {newest.number} of {newest.begun} goes on")
        return newest
    request = asked or request_again(book)
    digest = cyclerows.digest_of(context, request)
    if newest is not None and not again and (newest.digest == digest or _is_at_work(context, newest)):
        _say_known(context, newest, changed=newest.digest != digest)
        if newest.digest == digest:
            newest.request = request
        return newest
    _refuse(context, request)
    current = CycleRound(number=book.next_number(), user=book.user, digest=digest, begun=format_time(time.time()), request=request)
    context.ui.say(f"cycle      {book.name}, round {current.number}: {', '.join(request.stages)}")
    book.save(current)
    return current


def _say_known(context: CommandContext, newest: CycleRound, *, changed: bool) -> None:
    state = "is done" if newest.over else "its training is at work" if changed else "goes on"
    context.ui.say(f"cycle      {newest.request.name}, round {newest.number} of {newest.begun}: {state}")
    if changed:
        context.ui.say("cycle      what has changed since is for the next round: say it again then")
    elif newest.over:
        context.ui.say("cycle      its data and settings are as they were: nothing is trained again (--again does)")


def _refuse(context: CommandContext, request: CycleRequest) -> None:
    """Raise UserError for what a later stage would refuse, before anything is built or rented."""
    _refuse_settings(context, request)
    if request.prompts is not None:
        load_prompts(Path(request.prompts))
    if request.against not in _AGAINST:
        raise UserError(f"--against {request.against}: it is {', '.join(_AGAINST)}")
    if request.ollama is not None:
        ollama.check(context, OllamaWish(tag=request.ollama))
    if request.hub is not None:
        need_means(context.env, repository(request.hub))


def _refuse_settings(context: CommandContext, request: CycleRequest) -> None:
    training = TrainRequest(request.stack, "lora", None, Path(request.config) if request.config else None, request.sets)
    settings, root = context.settings(request.stack), context.places.root
    values = values_of(training, load_recipe(root, "lora"), settings, context.cloud(request.stack))
    if request.init_from_last and values["base_model"] in MADE:
        said = f"--init-from last: {values['base_model']} is made anew from each round's rows, so no adapter fits the next one's"
        raise UserError(said, hint="Name a base that stays: --set base_model=Qwen/Qwen3-0.6B")
    for option, asked in (("--init-from last", request.init_from_last), ("--merge", request.merge)):
        if asked and leaves_whole(values):
            raise UserError(f"{option}: the training leaves a whole model, no adapter", hint=f"Leave {option} out, or train an adapter.")
    cyclerows.refuse_settings(context, request)
    if request.gguf is not None:
        refuse_quant("--gguf", request.gguf, root)


def _is_at_work(context: CommandContext, current: CycleRound) -> bool:
    try:
        return not context.folder(f"{current.user}/{current.label}").load().reached("ended")
    except UserError:
        return False


def _go_through(work: _Work, stage: CycleStage) -> None:
    """Do a stage, and write down how it has ended."""
    current, ui, name = work.round, work.context.ui, work.book.name
    ui.say(f"cycle      {stage}: begins")
    try:
        outcome = _STAGES[stage](work)
    except KeyboardInterrupt:
        ui.warn(f"cycle {name} was interrupted in stage {stage}; go on with: invoke cycle --name {name} --stack {work.book.stack}")
        raise
    except (TrainyardError, OSError) as raised:
        error = raised if isinstance(raised, TrainyardError) else outside(raised) or StageFailed(f"{stage}: {raised}", 1)
        if not isinstance(error, (Busy, Detached)):
            current.note(stage, "failed", error=error.message)
            with suppress(OSError):  # what has failed may be this very disk: who is named is told all the same
                work.book.save(current)
            _announce(work.context, current)
        again = f"Go on with: invoke cycle --name {name} --stack {work.book.stack}"
        error.hint = f"{error.hint}\n{again}" if error.hint else again
        raise error from None
    current.note(stage, "done", outcome=outcome)
    work.book.save(current)
    ui.say(f"cycle      {stage}: {outcome}")


def _data(work: _Work) -> str:
    """Build the rows; where nothing is new that is the end of the round."""
    request, number = work.request, work.round.number
    before = next((work.book.folder(each) for each in range(number - 1, 0, -1) if work.book.has_learnt(each)), None)
    rows = cyclerows.build(work.context, request, work.folder, before if request.since_last else None)
    if request.since_last and rows.rows == 0:
        work.round.nothing_new = True
        return f"nothing new: all {rows.known} rows were learnt by earlier rounds"
    known = f", {rows.known} were learnt before" if rows.known else ""
    return f"{rows.rows} row{'' if rows.rows == 1 else 's'}, {rows.held} held back{known}"


def _train(work: _Work) -> str:
    request, rows = work.request, work.folder / cyclerows.ROWS
    sets = list(request.sets)
    held = work.folder / cyclerows.HELD
    if held.is_file() and not any(text.partition("=")[0].strip() in _EVAL for text in sets):
        sets.append(f"eval_file={held}")
    init_from = None
    if request.init_from_last:
        init_from = next(iter(_trained_before(work.book, work.round.number)), None)
        work.context.ui.say(f"last       {init_from or 'no round has trained yet: it begins from the base model'}")
    config = Path(request.config) if request.config else None
    training = TrainRequest(
        request.stack, "lora", str(rows), config, tuple(sets), hours=request.hours, budget=request.budget, yes=request.yes, attempt=1,
        init_from=init_from,
    )  # fmt: skip
    return _driven(work, work.round.label, lambda: training)


_EVAL = ("eval_file", "eval_data", "validation_file", "eval_fraction", "val_set_size", "val_size")


def _trained_before(book: CycleBook, number: int) -> list[str]:
    """Return the trainings of earlier rounds, the newest first."""
    rounds = [each for each in range(number - 1, 0, -1) if book.has_learnt(each)]
    return [str(book.read(each).outcome("train")) for each in rounds]


def _merge(work: _Work) -> str:
    request = work.request

    def asked() -> TrainRequest:
        merging = merge_of(work.context, work.trained, request.stack)
        return replace(merging, hours=request.hours, yes=request.yes, attempt=1)

    return _driven(work, f"{work.round.label}-merge", asked)


def _gguf(work: _Work) -> str:
    request = work.request

    def asked() -> TrainRequest:
        writing = gguf_of(work.context, work.trained, request.stack, MERGED, request.gguf)
        return replace(writing, hours=request.hours, yes=request.yes, attempt=1)

    return _driven(work, f"{work.round.label}-gguf", asked)


def _ollama(work: _Work) -> str:
    outcome = to_ollama(work.context, str(work.round.outcome("gguf")), work.request.stack, OllamaWish(tag=work.request.ollama))
    return f"{outcome.model} at {outcome.server}"


def _prompts(work: _Work) -> str:
    """Ask the test prompts, the round's model and another one's; return where the page lies."""
    request = work.request
    last = next(iter(_trained_before(work.book, work.round.number)), "base")
    against = {"last": last, "none": None}.get(request.against, "base")
    wish = ComparisonWish(prompts=Path(str(request.prompts)), against=against, to=work.folder / "answers")
    folder, report = compare_answers(work.context, work.trained, request.stack, wish)
    for line in lines(folder, report):
        work.context.ui.say(line)
    return str(folder / "report.html")


def _push(work: _Work) -> str:
    wish = HubWish(repo=str(work.request.hub), public=False)
    return push_run(work.context, work.round.outcome("merge") or work.trained, wish, work.request.stack, None).url


_STAGES: Mapping[CycleStage, Callable[[_Work], str]] = {
    "data": _data, "train": _train, "merge": _merge, "gguf": _gguf, "ollama": _ollama, "prompts": _prompts, "push": _push,
}  # fmt: skip


def _driven(work: _Work, label: str, asked: Callable[[], TrainRequest]) -> str:
    """Begin a run of the round, or come back to it; return its attempt. Raises StageFailed for one that is no success."""
    context, name = work.context, f"{work.round.user}/{label}"
    if is_there(context.places.runs, name):
        record = (folder := context.folder(name)).load()
        if not record.reached("ended"):
            run = attach(context, f"{record.id}/{record.attempt}")
        elif came_to_nothing(record):
            run = _begun(work, label, replace(asked(), attempt=record.attempt + 1))
        else:
            run = summarize(record, folder)
    elif work.book.is_claimed_elsewhere(label):
        run = attach(context, name)  # another machine has begun it: what its pod has left is taken up
    else:
        run = _begun(work, label, asked())
    for line in last_lines(run, sync_line(context, run), context.rehearsal):
        context.ui.say(line)
    if run.exit_status:
        record = context.folder(name).load()
        onward = f"Go on from its checkpoint: {resume}" if (resume := resume_command(record)) else None
        mend = f"{onward or f'What it said: invoke logs {name}'}\nFrom the start, with other settings or data, it is another round."
        raise StageFailed(f"run {name} is no success: {run.error or 'it was stopped'}", run.exit_status, mend)
    return f"{run.run}/{run.attempt}"


def _begun(work: _Work, label: str, request: TrainRequest) -> RunSummary:
    start = start_key(work.context, f"cycle:{work.round.user}/{label}", "cycle", replace(request, data=None))
    run = begin_training(work.context, replace(request, name=label), start)
    if isinstance(run, KeyedRun):
        raise Busy(state_line(run).removeprefix("run").strip())
    return run


def _announce(context: CommandContext, current: CycleRound) -> None:
    """Tell who is not at the terminal how a round has ended; of one that had nothing to do nobody is told."""
    failed = next((step for step in current.steps if step.state == "failed"), None)
    if current.nothing_new:
        return
    how = f"stage {failed.stage} failed" if failed else "done"
    lines = [f"{step.stage}: {step.error or step.outcome}" for step in current.steps]
    text = "\n".join(
        [*lines, *([f"Go on with: invoke cycle --name {current.request.name} --stack {current.request.stack}"] if failed else [])]
    )
    title = f"Trainyard: cycle {current.request.name}, round {current.number}: {how}"
    announce(context, Notice(kind="failure" if failed else "end", title=title, text=text, stack=current.request.stack))


def name_of(source: str) -> str:
    """Return what a cycle is called by its first source, where nobody says it."""
    return slug(expanded(source).stem if "://" not in source else source.rpartition("/")[2]) or "cycle"
