"""The example is the whole reference: each word of the tables stands in it, and what stands in it works."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator, Mapping
from pathlib import Path

from trainyard import playbook, yamlfile
from trainyard.playbook import Host, Report, keywords
from trainyard.playbook.__main__ import main
from trainyard.playbook.actions import ACTIONS
from trainyard.playbook.filters import FILTERS, TESTS
from trainyard.playbook.lookups import LOOKUPS
from trainyard.playbook.model import Task
from trainyard.playbook.report import Silent, Status
from trainyard.remote.transport import SshTransport
from trainyard.yamlfile import Map, Node, Seq

PLAYBOOKS = Path(__file__).resolve().parents[2] / "playbooks"
ELSEWHERE = {"dnf", "yum", "apk", "s3", "service", "systemd", "systemd_service", "modprobe", "uri", "fail", "gather_facts"}
"""Actions that the example skips where there is no such machine, bucket or address, and setup's other name; tests of their own run them."""

ONLY_SAID = {"Packages", "What runs beside, who may use it, what it is set to"}
"""Plays that say what they would do."""


def words_in(node: Node) -> Iterator[str]:
    if isinstance(node, Map):
        yield from node
    for item in node.values() if isinstance(node, Map) else node if isinstance(node, Seq) else ():
        yield from words_in(item)


class Done(Silent):
    """Keeps the actions that were carried out, and the tasks that changed something, with their plays."""

    def __init__(self) -> None:
        self.actions, self.changes = set[str](), list[tuple[str, str]]()

    def play(self, name: str, *, nobody: bool = False) -> None:
        self.head = name

    def outcome(self, host: str, task: Task, status: Status, result: Mapping[str, object], label: str | None) -> None:
        self.actions |= {task.action} if status != "skipped" else set()
        if status == "changed":
            self.changes.append((self.head, task.name))


def play(folder: Path, transport: SshTransport) -> tuple[Report, Done]:
    done = Done()
    told = {"workspace": str(folder / "ws"), "home": str(folder / "home")}
    return playbook.run(playbook.load(PLAYBOOKS / "example.yml"), {"pod": Host(transport)}, told, reporter=done), done


def test_the_example_has_every_keyword_every_action_and_every_argument() -> None:
    tables = (
        keywords.PLAY, keywords.BLOCK, keywords.TASK, keywords.HANDLER, keywords.LOOP_CONTROL, keywords.IMPORT_PLAYBOOK, keywords.PROMPT,
        keywords.ROLE_ENTRY, keywords.COURSE, ACTIONS,
    )  # fmt: skip
    schemas = (*(action.schema for action in ACTIONS.values()), *keywords.COURSE.values())
    known = {word for table in tables for word in table} | {arg.name for schema in schemas for arg in schema.args}
    known -= {"user", "systemd_service", "accept_hostkey", "minutes"}  # other names of what is there
    missing = known - {word for path in PLAYBOOKS.rglob("*.yml") for word in words_in(yamlfile.load(path))}
    assert not missing, f"playbooks/example*.yml do not show: {sorted(missing)}"


def test_the_example_has_every_filter_every_test_and_every_lookup() -> None:
    text = (PLAYBOOKS / "example-values.yml").read_text()
    shown = {r"\| {0}\b|map\('{0}'": FILTERS, r"\bis (not )?{0}\b": TESTS, r"(lookup|query)\('{0}'": LOOKUPS}
    missing = [name for use, names in shown.items() for name in names if not re.search(use.format(name), text)]
    assert not missing


def test_the_example_does_all_that_it_shows_and_a_second_run_changes_nothing(ssh: SshTransport, tmp_path: Path) -> None:
    (first, done), (second, again) = play(tmp_path, ssh), play(tmp_path, ssh)
    assert not first.reason() and set(ACTIONS) - done.actions <= ELSEWHERE, set(ACTIONS) - done.actions
    assert not second.reason() and {head for head, _ in again.changes} <= ONLY_SAID
    assert (tmp_path / "home/config.ini").read_text() == "# written for pod\nlearning_rate = 0.0001\ngreeting = hello world\n"


def test_the_command_that_the_example_names_only_checks_without_a_failure_and_makes_nothing(tmp_path: Path) -> None:
    command = next(line for line in (PLAYBOOKS / "example.yml").read_text().splitlines() if "invoke play" in line)
    words = shlex.split(command.lstrip("# ").replace("/tmp", str(tmp_path)).replace("playbooks/", f"{PLAYBOOKS}/"))
    assert words[:2] == ["invoke", "play"] and main([*words[2:], "--check"]) == 0 and not list(tmp_path.iterdir())
