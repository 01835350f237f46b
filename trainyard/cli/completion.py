"""What a shell offers behind a verb: runs and stacks of this repository, read from this disk alone; verbs and options are Invoke's."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from trainyard.config import Places, stack_names
from trainyard.runs.records.identity import RunId, all_runs

_RUNS = ("run", "other", "result", "name")
"""Arguments that name a run."""
_QUOTED = {
    "${COMP_WORDS[*]}": '"${COMP_WORDS[@]}"',
    "-- ${words}": '-- "${words[@]}"',
    "(commandline --tokenize)": "(commandline -opc) (commandline -ct)",
}
"""Invoke's scripts leave an empty word out, and with it whether the word before it is whole."""


def with_empty_words(script: str) -> str:
    """Return Invoke's completion script of a shell, changed so that the word at the cursor is handed on when it is empty, too."""
    for plain, quoted in _QUOTED.items():
        script = script.replace(plain, quoted)
    return script


def candidates(words: Sequence[str], collection: Any, places: Places) -> list[str] | None:
    """Return what may stand for the last of the words behind the program's name; None where verbs or options may.

    An empty list: nothing of ours, so the shell offers its files.
    """
    *before, last = words or [""]
    at = next((number for number, word in enumerate(before) if not word.startswith("-")), None)
    if at is None or last.startswith("-"):
        return None
    try:
        arguments = collection[before[at]].get_arguments()
    except KeyError:
        return None
    valued = {("--" if len(name) > 1 else "-") + name for each in arguments if each.takes_value for name in each.names}
    if before[-1] in ("--stack", "-s") and before[-1] in valued:
        return _stacks(places)
    if before[-1] in valued:
        return []
    behind = range(at + 1, len(before))
    number = sum(not before[one].startswith("-") and before[one - 1] not in valued for one in behind)
    positional = [each.name for each in arguments if each.positional]
    if any(each.name == "playbook" for each in arguments):
        # Files come first, and runs behind them; where no run begins like that, it is one more file.
        return [run for run in _runs(places, last) if run.startswith(last)] if number else []
    if number >= len(positional):
        # A list of runs has no end.
        return _runs(places, last) if any(each.kind is list and each.name in _RUNS for each in arguments) else None
    return _runs(places, last) if positional[number] in _RUNS else []


def _runs(places: Places, last: str) -> list[str]:
    """Return the names of the runs here, as long as the word that is being written: label, user/label, user/label/attempt."""
    runs = all_runs(places.runs)
    if last.count("/") > 1:
        return sorted(f"{run}/{run.attempt}" for run in runs)
    users: dict[str, set[str]] = {}
    for run in runs:
        users.setdefault(run.label, set()).add(run.user)

    def name(run: RunId) -> str:
        return str(run) if "/" in last or len(users[run.label]) > 1 else run.label

    return sorted({name(run) for run in runs})


def _stacks(places: Places) -> list[str]:
    return stack_names(places.root)
