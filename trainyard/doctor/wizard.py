"""`invoke setup --stack S`: keys are tried and written into .env, and a stack gets its file; at the end it is said what is ready.

Nothing is written before all has been tried, and nothing of a key is ever shown.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial

from trainyard.clouds import lack_of_package
from trainyard.clouds.rehearsal import is_rehearsal
from trainyard.config import git, stack_names
from trainyard.doctor.accounts import KeyHolder, Person, of_cloud, of_store, settle
from trainyard.envfile import read_env_file, write_env_file
from trainyard.errors import RefusedError, TrainyardError, UserError
from trainyard.files import write_atomic, write_new
from trainyard.nearest import suggest
from trainyard.runs.context import CommandContext
from trainyard.runs.planning import containers
from trainyard.runs.planning.asking import PATIENCE, ask_all
from trainyard.runs.verbs.clouds import look
from trainyard.settings import reader, writer
from trainyard.settings.clouds import CloudEntry, entries
from trainyard.settings.ofcloud import unmade, unsaid
from trainyard.settings.table import known_to
from trainyard.settings.variables import SETTABLE, groups
from trainyard.shipped import shipped
from trainyard.textfile import read_text


@dataclass(frozen=True, slots=True, kw_only=True)
class SetupRequest:
    """What a person wants to have ready."""

    stacks: tuple[str, ...] = ()
    stores: tuple[str, ...] = ()
    every: bool = False
    """All clouds and stores whose keys are there, or are typed."""
    keys: Mapping[str, str] = field(default_factory=dict, repr=False)
    """Values by their variables' names."""
    settings: Mapping[str, str] = field(default_factory=dict)
    """Settings of the stacks, as typed."""
    force: bool = False
    """Keys that are refused are written all the same."""
    patience: float = PATIENCE


@dataclass(slots=True, kw_only=True)
class StackSetup:
    """A stack and what is wanted of its file."""

    name: str
    cloud: CloudEntry
    new: bool
    text: str
    """The whole file as it shall be."""
    changed: tuple[str, ...]
    """Settings that are put into a file that is there."""
    holder: KeyHolder
    written: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class SetupReport:
    """What came of it."""

    stacks: tuple[StackSetup, ...]
    stores: tuple[KeyHolder, ...]
    written: tuple[str, ...]
    """Variables that were written into .env."""
    notes: tuple[str, ...]

    @property
    def ready(self) -> list[str]:
        """Stacks that a run can go to."""
        return [stack.name for stack in self.stacks if stack.holder.verdict == "ready"]

    @property
    def exit_code(self) -> int:
        """0; 2 where something is missing; 4 where keys were refused or nobody has answered."""
        verdicts = {holder.verdict for holder in (*(stack.holder for stack in self.stacks), *self.stores)}
        return 4 if verdicts & {"wrong", "untried"} else 2 if "missing" in verdicts else 0


def set_up(context: CommandContext, request: SetupRequest, person: Person | None) -> SetupReport:
    """Set up clouds and stores; ``person``: who is asked for what is missing.

    Raises UserError for names that nobody knows and settings that are wrong, RefusedError for a .env that git would carry away.
    """
    _refuse_unknown(request.keys)
    there = read_env_file(context.places.root / ".env")
    stacks, stores = _stacks(context, request, person), _stores(context, request)
    holders = [*(stack.holder for stack in stacks), *stores]
    for holder in holders:
        holder.gather(request.keys, context.env)
        if person:
            for lack in _package_lacks(request, holder):
                person.say(lack)
            holder.ask(person)
    settle(context, [holder for holder in holders if holder.keys], person, request.patience)
    if request.every:
        stores = [holder for holder in stores if holder.values.keys() & {*holder.keys, *holder.needed}]
    values = _values(request, [holder for holder in holders if holder.keys], there)
    notes = [lack for holder in holders if holder.verdict == "missing" for lack in _package_lacks(request, holder)]
    notes += _notes(context, values)
    if values:
        write_env_file(context.places.root / ".env", values)
    for stack in stacks:
        _write(context, stack, request)
    _try_named(context, stacks, request)
    _still_lacking(context, stacks, values)
    return SetupReport(stacks=tuple(stacks), stores=tuple(stores), written=tuple(values), notes=tuple(notes))


def lines(report: SetupReport) -> Iterator[str]:
    """Yield what a person reads: each account, what was written, what is ready, the next command."""
    for name, holder in (*((one.name, one.holder) for one in report.stacks), *((one.of, one) for one in report.stores)):
        yield f"{name:<10} {_WORDS[holder.verdict]}: {holder.says}"
        takers = [one.name for one in report.stacks if one.holder.verdict == "ready" and set(one.holder.keys) & set(holder.keys)]
        if holder.verdict != "ready" and (how := _how(holder, takers)):
            yield f"{'':<10} {how}"
    if report.written:
        yield f".env       has {', '.join(report.written)} now; only you can read it"
    for stack in report.stacks:
        if stack.written:
            yield f"wrote      Pulumi.{stack.name}.yaml" + ("" if stack.new else f": {', '.join(stack.changed)}")
    yield from (f"note       {note}" for note in report.notes)
    if not report.ready:
        yield "ready      no stack yet; without any account: invoke train --stack local"
        return
    yield f"ready      {', '.join(report.ready)}"
    rented = [stack.name for stack in report.stacks if stack.name in report.ready and stack.cloud.rented]
    best = "auto" if len(rented) > 1 else report.ready[0]
    yield f"next       invoke train --stack {best} --data rows.jsonl" + ("   (prices: invoke offers --vram 24)" if rented else "")


_WORDS = {"ready": "ready", "missing": "not ready", "wrong": "refused", "untried": "not tried"}


def _how(holder: KeyHolder, takers: list[str]) -> str | None:
    if holder.verdict == "missing" and holder.cloud is not None and not holder.keys:
        return f"Say it: --setting {holder.cloud.needs[0]}=..."
    if holder.verdict == "missing" and holder.hint:
        return holder.hint
    if holder.verdict == "missing":
        where = f" made in {holder.page}," if holder.page else ""
        return f"Keys are{where} typed at a terminal, or come from the environment or --keys-from."
    if holder.verdict == "wrong" and takers:
        return f"The key itself is good, and kept: {', '.join(takers)} takes it."
    if holder.verdict == "wrong":
        return f"{holder.hint or 'Make a new key.'} It was not written (--force writes it all the same)."
    return holder.hint or "It is kept untried. To try it later: invoke clouds --check"


def _refuse_unknown(keys: Mapping[str, str]) -> None:
    known = [name for group in groups(*SETTABLE, "token") for name in group.names()]
    for name in keys:
        if name not in known:
            raise UserError(f"'{name}' is no variable of Trainyard's{suggest(name, known)}", hint="All of them: docs/settings.md")


def _stacks(context: CommandContext, request: SetupRequest, person: Person | None) -> list[StackSetup]:
    named = list(request.stacks)
    if request.every:
        named += [name for name, row in entries().items() if (row.keys or row.needs) and name not in named]
    else:  # keys that were handed in say themselves which clouds are meant
        held = {name: {*row.keys, *row.key_aliases} for name, row in entries().items()}
        meant = {reader.cloud_of(context.places.root, name) if name in stack_names(context.places.root) else name for name in named}
        theirs = {key for name in meant for key in held.get(name, ())}  # two clouds may share a key: the one that is named is meant
        named += [name for name, keys in held.items() if keys & (set(request.keys) - theirs)]
    return [_stack(context, request, name, person) for name in dict.fromkeys(named)]


def _stack(context: CommandContext, request: SetupRequest, name: str, person: Person | None) -> StackSetup:
    root = context.places.root
    there = name in stack_names(root)
    cloud = entries().get(reader.cloud_of(root, name) if there else name)
    if cloud is None:
        known = [*stack_names(root), *entries()]
        raise UserError(f"there is no stack and no cloud '{name}'{suggest(name, known)}", hint=f"Clouds: {', '.join(entries())}.")
    file = f"Pulumi.{name}.yaml"
    source = root / file if there else shipped(file)
    text = read_text(source, file) if source.is_file() else f"config:\n  trainyard:cloud: {cloud.name}\n"
    said = {key: value for key, value in request.settings.items() if not request.every or known_to(key, cloud.name)}
    if person and not said.keys() & set(cloud.needs):
        for need in unsaid(root, cloud):
            if typed := person.words(f"{cloud.title}: {need} (several with commas; Enter: leave it out)"):
                said[need] = typed
    typed_ones = {key: writer.typed_setting(key, value) for key, value in said.items()}
    text = writer.changed_file(text, file, typed_ones) if typed_ones else text
    if typed_ones or not there:
        writer.judge(text, name)
    return StackSetup(name=name, cloud=cloud, new=not there, text=text, changed=tuple(typed_ones), holder=of_cloud(cloud))


def _stores(context: CommandContext, request: SetupRequest) -> list[KeyHolder]:
    kinds = list(request.stores)
    kinds += [group.of for group in groups("store") if request.every or set(group.names()) & set(request.keys)]
    bucket = request.settings.get("bucket")
    return [of_store(kind, bucket) for kind in dict.fromkeys(kinds)]


def _values(request: SetupRequest, holders: list[KeyHolder], there: Mapping[str, str]) -> dict[str, str]:
    """Return what goes into .env: what is not there already, of accounts that have not refused it."""
    good = [holder for holder in holders if holder.verdict in ("ready", "untried") or (request.force and holder.verdict == "wrong")]
    of_nobody = {name: value for name, value in request.keys.items() if not any(name in holder.names for holder in holders)}
    values = of_nobody | {name: value for holder in good for name, value in holder.values.items()}
    return {name: value for name, value in values.items() if there.get(name) != value}


def _package_lacks(request: SetupRequest, holder: KeyHolder) -> Iterator[str]:
    """Yield what is not installed of a cloud that is meant: its keys can then not be tried, and nothing rented."""
    if holder.cloud is not None and (holder.values or not request.every) and (lack := lack_of_package(holder.cloud)):
        yield f"{lack.message}: {lack.hint}"


def _notes(context: CommandContext, values: Mapping[str, str]) -> Iterator[str]:
    """Yield what is to be known of a .env that is about to be written; raises RefusedError where git has it."""
    root = context.places.root
    if not values:
        return
    path = root / ".env"
    for each in {path, path.resolve()}:
        if git("ls-files", "--", each.name, at=each.parent):
            hint = "git rm --cached .env, and make the keys anew that are in its history; then say it again. Nothing was written."
            raise RefusedError("git keeps .env: whoever has the repository would have the keys", hint=hint)
    if git("rev-parse", "--is-inside-work-tree", at=root) == "true" and not git("check-ignore", ".env", at=root):
        yield "git does not ignore .env: echo .env >> .gitignore"
    for name, value in values.items():
        if context.env.get(name, value) != value:
            yield f"{name} is set in this shell to another value, which wins over .env: unset {name}"


def _write(context: CommandContext, stack: StackSetup, request: SetupRequest) -> None:
    """Write a stack's file where it is missing or settings are said, unless its account has no keys that work."""
    if not (stack.new or stack.changed) or (stack.holder.keys and stack.holder.verdict in ("missing", "wrong") and not request.force):
        return
    path = context.places.root / f"Pulumi.{stack.name}.yaml"
    if stack.new:
        if stack.cloud.needs and not stack.changed:
            return
        if not write_new(path, stack.text, durable=False):
            raise UserError(f"{path.name} has appeared while this was at work", hint="Say it again: it is left as it is.")
    else:
        write_atomic(path.resolve(), stack.text, durable=False, mode=path.stat().st_mode & 0o777)
    stack.written = True


def _try_named(context: CommandContext, stacks: list[StackSetup], request: SetupRequest) -> None:
    """Try the clouds without keys, whose machines a stack's file names by now."""
    for stack in stacks:
        if stack.holder.keys:
            continue
        lacks = unsaid(context.places.root, stack.cloud)
        stack.holder.verdict = "missing" if lacks else "ready"
        stack.holder.says = f"no stack says {', '.join(lacks)}" if lacks else "needs no keys"
    asked = [stack for stack in stacks if stack.cloud.needs and stack.holder.verdict == "ready"]
    answers = ask_all({stack.name: partial(look, context, stack.cloud.name) for stack in asked}, request.patience)
    for stack in asked:
        answer = answers[stack.name]
        if answer.value is None:
            stack.holder.verdict, stack.holder.says, stack.holder.hint = "untried", answer.problem or "", answer.hint
        else:
            stack.holder.says = f"it answers, {answer.value.pods} pods of ours"


def _still_lacking(context: CommandContext, stacks: list[StackSetup], kept: Mapping[str, str]) -> None:
    """Say of each stack whose key is taken what a run there needs besides."""
    for stack in stacks:
        if stack.holder.verdict == "ready" and (lack := _lack(context, stack, {**context.env, **kept})):
            stack.holder.verdict, stack.holder.hint = "missing", lack.hint
            stack.holder.says = f"{stack.holder.says}; {lack.message}"


def _lack(context: CommandContext, stack: StackSetup, env: Mapping[str, str]) -> TrainyardError | None:
    settings = reader.load(context.places.root, stack.name)
    if lack := unmade(settings):
        return UserError(lack, hint=f"How: docs/clouds/{stack.cloud.name}.md")
    if not stack.cloud.ssh:
        try:
            emulated = any(is_rehearsal(stack.holder.values.get(key, "")) for key in stack.cloud.keys)
            containers.refuse_bucket(env, context.places, stack.cloud.name, settings, emulated=emulated)
        except TrainyardError as error:
            error.hint = f"A store's keys: invoke setup --store r2 (or aws). {error.hint or ''}".strip()
            return error
    return None
