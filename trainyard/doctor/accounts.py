"""An account of a cloud or a store: which variables open it, where they come from, and whether it takes them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Literal, Protocol

from trainyard.clouds.keys import account_keys
from trainyard.errors import CloudRefused, StoreError, UserError
from trainyard.runs.context import CommandContext
from trainyard.runs.planning.asking import ask_all
from trainyard.runs.verbs.clouds import AccountLook, look
from trainyard.settings.clouds import CloudEntry
from trainyard.settings.variables import VariableGroup, groups
from trainyard.storage import canary
from trainyard.storage.stores import store_settings

KeyVerdict = Literal["ready", "missing", "wrong", "untried"]
"""missing: keys, or settings, are not there. wrong: they are, and no key or not this account's. untried: nobody has answered."""
TRIES = 3
"""How often a person is asked for keys that are refused."""


class Person(Protocol):
    """Somebody at a terminal."""

    def secret(self, name: str) -> str:
        """Return what is typed without being shown, an empty text for nothing."""

    def words(self, name: str) -> str:
        """Return what is typed, an empty text for nothing."""

    def say(self, text: str) -> None:
        """Show a line."""


@dataclass(slots=True, kw_only=True)
class KeyHolder:
    """One account and how far it has been set up. ``values`` are secrets: no repr shows them."""

    of: str
    """Name of the cloud or the kind of the store."""
    title: str
    keys: tuple[str, ...]
    aliases: tuple[str, ...] = ()
    """Other names of the first key."""
    needed: tuple[str, ...] = ()
    usual: tuple[str, ...] = ()
    more: tuple[str, ...] = ()
    """What may be there too, and nobody is asked for."""
    page: str = ""
    """Where keys are made."""
    cloud: CloudEntry | None = None
    """None: a store."""
    bucket: str | None = None
    """That a stack's settings name."""
    values: dict[str, str] = field(default_factory=dict, repr=False)
    verdict: KeyVerdict = "missing"
    says: str = ""
    hint: str | None = None

    @property
    def lacks(self) -> tuple[str, ...]:
        """What is needed and is not there."""
        alias = any(self.values.get(name) for name in self.aliases)
        return tuple(name for name in (*self.keys, *self.needed) if not self.values.get(name) and not (alias and name == self.keys[0]))

    @property
    def names(self) -> tuple[str, ...]:
        """All its variables."""
        return (*self.keys, *self.aliases, *self.needed, *self.usual, *self.more)

    def gather(self, handed: Mapping[str, str], env: Mapping[str, str]) -> None:
        """Take each variable as it was handed in, else from the environment."""
        for name in self.names:
            # Another address of a cloud's API belongs to the shell that sets it: an emulator's would be kept for ever.
            of_shell = self.cloud is not None and name in self.more
            value = handed.get(name, "").strip() or ("" if of_shell else env.get(name, "").strip())
            if value:
                self.values[name] = value

    def ask(self, person: Person, *, again: bool = False) -> None:
        """Ask a person for what is missing; ``again``: for all of it."""
        names = (*self.keys, *self.needed) if again else self.lacks
        if not names:
            return
        person.say(f"{self.title}: {f'keys are made in {self.page}' if self.page else 'keys of the store'} (Enter: leave it out)")
        for name in names:
            typed = person.secret(name) if name in self.keys else person.words(name)
            if not typed:
                return
            self.values[name] = typed
        for name in self.usual:
            if not self.values.get(name) and (typed := person.words(f"{name} (Enter: none)")):
                self.values[name] = typed


def of_cloud(cloud: CloudEntry) -> KeyHolder:
    """Return the account of a cloud; one without keys has none to ask for."""
    return KeyHolder(
        of=cloud.name, title=cloud.title, keys=cloud.keys, aliases=cloud.key_aliases, more=cloud.more, page=cloud.key_page, cloud=cloud
    )


def of_store(kind: str, bucket: str | None = None) -> KeyHolder:
    """Return the keys of a store; raises UserError for one that nobody knows."""
    kinds = {group.of: group for group in groups("store")}
    if kind not in kinds:
        raise UserError(f"there is no store '{kind}'", hint=f"Stores: {', '.join(kinds)}.")
    group: VariableGroup = kinds[kind]
    return KeyHolder(
        of=kind, title=group.says, keys=group.keys, needed=group.needed, usual=group.usual,
        more=(*group.more_keys, *group.more), bucket=bucket,
    )  # fmt: skip


def settle(context: CommandContext, holders: Iterable[KeyHolder], person: Person | None, patience: float) -> None:
    """Try all accounts that have their keys at once, and say of each what came of it; a person may type refused ones again."""
    left = list(holders)
    for turn in range(TRIES if person else 1):
        if person and turn:
            for holder in left:
                person.say(f"{holder.title}: {holder.says}")
                holder.values = {name: value for name, value in holder.values.items() if name in (*holder.usual, *holder.more)}
                holder.ask(person, again=True)
        for holder in left:
            holder.verdict, holder.says, holder.hint = "missing", f"{', '.join(holder.lacks)} not set", None
        _try_all(context, [holder for holder in left if not holder.lacks], patience)
        left = [holder for holder in left if holder.verdict == "wrong"]
        if not left:
            return


def _try_all(context: CommandContext, holders: list[KeyHolder], patience: float) -> None:
    answers = ask_all({f"{holder.of} {holder.cloud is None}": partial(_tried, context, holder) for holder in holders}, patience)
    for holder, answer in zip(holders, answers.values(), strict=True):
        trial = answer.value or KeyTrial("untried", answer.problem or "", answer.hint)
        holder.verdict, holder.says, holder.hint = trial.verdict, trial.says, trial.hint


@dataclass(frozen=True, slots=True)
class KeyTrial:
    """What an account has said to its keys."""

    verdict: KeyVerdict
    says: str
    hint: str | None = None


def _tried(context: CommandContext, holder: KeyHolder) -> KeyTrial:
    others = {name for group in groups("store") for name in group.names()} if holder.cloud is None else set()
    env = {name: value for name, value in context.env.items() if name not in {*holder.keys, *holder.aliases, *others}} | holder.values
    asked = replace(context, env=env)
    try:
        if holder.cloud is None:
            return KeyTrial("ready", _store_says(asked, holder))
        account_keys(holder.of, env)
    except UserError as error:
        return KeyTrial("wrong", error.message, error.hint)
    except StoreError as error:
        return KeyTrial("untried" if error.passing or not error.code else "wrong", error.message, error.hint)
    try:
        return KeyTrial("ready", _in_words(look(asked, holder.of)))
    except CloudRefused as error:
        return KeyTrial("wrong", error.message, error.hint)


def _store_says(context: CommandContext, holder: KeyHolder) -> str:
    settings = store_settings(context.env, None, holder.bucket, context.places)
    if settings is None:
        raise UserError("these are no keys of a store")
    if not settings.bucket:
        canary.believed(settings)
        return "the key is taken; a bucket is made at the first up"
    report = canary.check(settings, fresh=True)
    if report.failures:
        raise canary.refusal_of(settings, report)
    return f"bucket {settings.bucket} can hold results"


def _in_words(account: AccountLook) -> str:
    pods = "1 pod" if account.pods == 1 else f"{account.pods} pods"
    money = "" if account.balance is None else f", balance ${account.balance:.2f}"
    return f"{pods}{money}{' (an emulator)' if account.simulated else ''}"
