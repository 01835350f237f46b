"""What clouds there are, which of them have keys, what each can do, and whether it answers."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from textwrap import wrap
from typing import Literal

from trainyard.clouds import open_cloud
from trainyard.runs.context import CommandContext
from trainyard.runs.planning.asking import CloudAnswer, ask_all
from trainyard.settings.clouds import CloudEntry, added_clouds, entries, problems
from trainyard.settings.ofcloud import unsaid

HEADINGS = {
    "ssh": "SSH", "self_terminate": "own end", "deadline": "deadline", "change_markers": "extend",
    "spot": "spot", "volumes": "volumes", "bill": "bill", "emulator": "emulator",
}  # fmt: skip
"""What a cloud can do or not, as the table calls it."""
Keys = Literal["none", "set", "absent", "half"]
"""none: no key is needed. half: some are set, and others that are needed are not."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AccountLook:
    """What one cloud has said of the account."""

    pods: int
    """Of the whole account, ours and others'."""
    balance: float | None
    """Dollars; None where the cloud tells none."""
    simulated: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class CloudState:
    """One cloud as this machine has it."""

    entry: CloudEntry
    keys: Keys
    missing: tuple[str, ...] = ()
    """Variables that are needed and not set."""
    unnamed: tuple[str, ...] = ()
    """Settings that it needs and no stack of the repository says: there is nothing to ask."""
    added: bool = False
    """Another package brings it."""
    check: CloudAnswer[AccountLook] | None = None
    """None: it was not asked."""

    @property
    def answered(self) -> bool | None:
        """Tell whether it has answered; None: it was not asked."""
        return None if self.check is None or self.check.unready else self.check.problem is None


def all_clouds(context: CommandContext, *, check: bool, patience: float) -> list[CloudState]:
    """Return every cloud; with ``check`` those that have their keys are asked at once, and have ``patience`` seconds. Never raises."""
    added = {cloud.name for cloud in added_clouds()}
    missing = {cloud.name: tuple(_missing(context, cloud)) for cloud in entries().values()}
    unnamed = {cloud.name: unsaid(context.places.root, cloud) for cloud in entries().values()}
    ready = [name for name in missing if not missing[name] and not unnamed[name]] if check else []
    answers = ask_all({name: partial(look, context, name) for name in ready}, patience)
    return [
        CloudState(
            entry=cloud, keys=_keys(context, cloud, missing[cloud.name]), missing=missing[cloud.name],
            unnamed=unnamed[cloud.name], added=cloud.name in added, check=answers.get(cloud.name),
        )
        for cloud in entries().values()
    ]  # fmt: skip


def lines(states: list[CloudState]) -> Iterator[str]:
    """Yield the table for a person, on 80 columns; then what the clouds have said, what is wrong, and where keys are made."""
    yield _row("cloud", "keys", *HEADINGS.values())
    for state in states:
        yield _row(state.entry.name, state.keys, *("yes" if able else "-" for able in abilities(state.entry).values()))
    for state in states:
        if state.check is not None:
            yield from _wrapped(state.entry.name, _said(state.check))
    for problem in problems():
        yield from _wrapped(problem.name, problem.words)
    for state in states:
        if state.keys == "half":
            yield from _wrapped(state.entry.name, f"{', '.join(state.missing)} is not set, and the rest is: set all, or none")
    absent = [state.entry for state in states if state.keys == "absent"]
    if absent:
        yield "Keys are made in (invoke setup --all asks for them):"
        # Two clouds may be one account's.
        yield from dict.fromkeys(f"  {', '.join(cloud.keys):<24} {cloud.key_page}" for cloud in absent)
    if nameless := [state for state in states if state.unnamed]:
        yield "Named in a stack's settings, asked for by the command beside it:"
        yield from (
            f"  {state.entry.name:<10} {', '.join(state.unnamed):<13} invoke setup --stack {state.entry.name}" for state in nameless
        )


def abilities(cloud: CloudEntry) -> dict[str, bool]:
    """Return what a cloud can do, by the names of HEADINGS."""
    return {
        "ssh": cloud.ssh, "self_terminate": cloud.self_terminate, "deadline": cloud.deadline, "change_markers": cloud.change_markers,
        "spot": "spot" in cloud.settings, "volumes": "volume" in cloud.settings, "bill": cloud.bill, "emulator": bool(cloud.emulator),
    }  # fmt: skip


def _row(*words: str) -> str:
    widths = (11, 6, 4, 7, 8, 6, 4, 7, 4)
    return " ".join([*(f"{word:<{width}}" for word, width in zip(words, widths, strict=False)), words[-1]])


def _wrapped(name: str, text: str) -> list[str]:
    return wrap(text, 80, initial_indent=f"{name:<11} ", subsequent_indent=" " * 12)


def _said(check: CloudAnswer[AccountLook]) -> str:
    if check.value is None:
        return f"{'not asked' if check.unready else 'does not answer'}: {check.problem}"
    look = check.value
    pods = "1 pod" if look.pods == 1 else f"{look.pods} pods"
    money = "" if look.balance is None else f", balance ${look.balance:.2f}"
    return f"answers ({check.seconds:.1f} s): {pods}{money}{' (an emulator)' if look.simulated else ''}"


def look(context: CommandContext, name: str) -> AccountLook:
    """Return what a cloud says of the account; raises what it says against that."""
    cloud = open_cloud(name, context.env, context.places)
    account = cloud.account()
    return AccountLook(pods=len(cloud.list()), balance=account.balance if account else None, simulated=cloud.simulated)


def _missing(context: CommandContext, cloud: CloudEntry) -> Iterator[str]:
    for name in cloud.keys:
        others = cloud.key_aliases if name == cloud.keys[0] else ()
        if not any(context.env.get(one, "").strip() for one in (name, *others)):
            yield name


def _keys(context: CommandContext, cloud: CloudEntry, missing: tuple[str, ...]) -> Keys:
    if not cloud.keys:
        return "none"
    if not missing:
        return "set"
    return "absent" if len(missing) == len(cloud.keys) else "half"
