"""The tables of docs/playbooks.md: words, actions, filters, lookups, and what differs from Ansible."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from tests.cases import compared
from trainyard.playbook import keywords
from trainyard.playbook.actions import ACTIONS
from trainyard.playbook.filters import FILTERS, TESTS
from trainyard.playbook.lookups import LOOKUPS
from trainyard.playbook.schema import Arg, Schema

Table = tuple[list[str], list[list[str]]]


def tables() -> Iterator[tuple[str, Table]]:
    """Yield each table's source, with its head and rows."""
    words = {"a play": keywords.PLAY, "a task": keywords.TASK, "a block": keywords.BLOCK, "`loop_control`": keywords.LOOP_CONTROL}
    yield "trainyard/playbook/keywords.py", (["of", "words"], [[what, _coded(names)] for what, names in words.items()])
    actions = [[f"`{name}`", action.schema.does, ", ".join(_arguments(action.schema))] for name, action in sorted(ACTIONS.items())]
    yield "trainyard/playbook/actions", (["action", "does", "arguments; what must be given is bold"], actions)
    listed = {"filters": FILTERS, "tests": TESTS, "lookups": LOOKUPS}
    rows = [[kind, _coded(name for name in sorted(names) if not name.startswith("win_"))] for kind, names in listed.items()]
    yield "trainyard/playbook/filters", (["of", "names, beside those of Jinja"], rows)
    differences = [[each.name, each.ansible, each.ours, each.why] for each in compared.differences()]
    yield "tests/cases/differences.yml", (["what", "Ansible", "Trainyard", "why"], differences)


def _arguments(schema: Schema) -> Iterator[str]:
    if schema.open_:
        yield "names of variables"
    for arg in schema.args:
        yield f"**{_argument(arg)}**" if arg.required else _argument(arg)


def _argument(arg: Arg) -> str:
    choices = f" ({', '.join(arg.choices)})" if arg.choices else ""
    return " or ".join(f"`{name}`" for name in (arg.name, *arg.aliases)) + choices


def _coded(names: Iterable[str]) -> str:
    return ", ".join(f"`{name}`" for name in names)
