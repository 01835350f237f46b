"""README and docs/ tell the truth: shown commands exist with their options, links lead somewhere, tree and exit codes are the code's."""

from __future__ import annotations

import ast
import dataclasses
import importlib
import inspect
import json
import re
import shutil
import subprocess
import sys
import tomllib
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest

from tests import shown
from trainyard import errors
from trainyard.cli import ending
from trainyard.playbook import loader
from trainyard.recipes import contract
from trainyard.runs.records.summary import RunSummary
from trainyard.settings import reader
from trainyard.setup import console

ROOT = Path(__file__).resolve().parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
ARCHITECTURE = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
TROUBLESHOOTING = (ROOT / "docs" / "troubleshooting.md").read_text(encoding="utf-8")
FENCE = shown.FENCE


@pytest.fixture(scope="module")
def verbs() -> Any:
    """The verbs of tasks.py."""
    return shown.tasks().ns


def problems(found: Iterable[shown.Shown], verbs: Any) -> list[str]:
    told = ((one, shown.problem(one, verbs)) for one in found)
    return [f"{one.where}: {what}" for one, what in told if what is not None]


def tree(text: str) -> dict[str, str]:
    """Return path -> description of the block marked ```tree."""
    (block,) = [body for kind, body in FENCE.findall(text) if kind == "tree"]
    return {line.split(maxsplit=1)[0]: line.split(maxsplit=1)[1] for line in block.splitlines() if line.strip()}


def tracked() -> list[str]:
    done = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True)
    return done.stdout.splitlines()


def test_every_command_that_a_message_or_a_page_shows_would_work_as_it_is_shown(verbs: Any) -> None:
    found = shown.everything()

    assert problems(found, verbs) == []
    assert len([one for one in found if one.message]) > 30, "the messages are not found any more"
    vague = [one.where for one in found if one.message and re.search(r"--stack [A-Z]+( |$)", " ".join(one.words))]
    assert vague == [], "a message names the stack, or says how those that there are can be listed"


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("go on: invoke resurrect RUN", "there is no verb resurrect"),
        ("invoke train --stak local", "train has no --stak"),
        ("Run: invoke up", "it lacks --stack"),
        ("(or: invoke reap)", "it lacks --stack"),
        ("invoke end HOLE1", "it lacks --stack"),
        ("Again: invoke end", "required positional arguments: 'pod'"),
        ("invoke tunnel HOLE1", "required positional arguments: 'port'"),
        ("invoke up --stack", "needed value"),
        ("trainyard fly", "there is no verb fly"),
        ("invoke attach HOLE1 HOLE1", "No idea what"),
        ("python -m trainyard.engine destory --stack x", "the engine has no verb"),
        ("aws s3 synch s3://a b", "aws s3 has no"),
    ],
)
def test_a_message_whose_command_would_not_work_is_found(verbs: Any, text: str, says: str) -> None:
    (found,) = problems(shown.commands(text, "here", message=True), verbs)
    assert says in found


@pytest.mark.parametrize(
    "text",
    [
        "invoke attach HOLE1 comes back", "'invoke ssh' needs a client", "run ./bootstrap again", "invoke reap --all-stacks --dry-run",
        "invoke ssh HOLE1 -- ls --all", "Stop it (invoke cancel HOLE1 --nowHOLE1).", "invoke --list shows them", "invoke runs | logs",
    ],
)  # fmt: skip
def test_a_message_whose_command_works_is_let_be(verbs: Any, text: str) -> None:
    assert problems(shown.commands(text, "here", message=True), verbs) == []


def test_a_pages_command_that_does_not_exist_is_found(verbs: Any) -> None:
    asked = """invoke ask RUN "Where does it stand, --now?"\ninvoke ask RUN 'Where?' "And then?"\n"""
    text = f"`invoke fly` and\n```sh\n./bootstrap train --stak local  # --nothing here\ninvoke ssh RUN -- ls --all\n{asked}```\n"

    assert problems(shown.in_page(ROOT / "README.md", text), verbs) == [
        "README.md: train has no --stak",
        "README.md: ask RUN Where? And then?: No idea what 'And then?' is!",
        "README.md: there is no verb fly",
    ]


def test_every_verb_is_shown(verbs: Any) -> None:
    seen = {one.words[0] for page in shown.pages() for one in shown.in_page(page) if one.words}

    assert sorted(name for name, others in verbs.task_names.items() if not {name, *others} & seen) == []


def test_links_lead_to_files_and_to_headings_that_are_there() -> None:
    assert [problem for page in shown.pages() for problem in shown.dead_links(page)] == []


def test_a_link_that_leads_nowhere_is_found() -> None:
    text = "[a](docs/no.md) [b](docs/engine.md#nothing) [c](#Compared) [d](docs/engine.md#secrets) `[e](no.md)` [f](#compared)"

    assert shown.dead_links(ROOT / "README.md", text + "\n## Compared\n") == [
        "README.md: docs/no.md", "README.md: docs/engine.md#nothing", "README.md: #Compared",
    ]  # fmt: skip


def test_every_block_of_code_says_what_it_is() -> None:
    known = {"sh", "console", "yaml", "json", "python", "toml", "typescript", "text", "tree"}
    kinds = {(page.name, kind) for page in shown.pages() for kind, _ in FENCE.findall(page.read_text(encoding="utf-8"))}

    assert sorted(one for one in kinds if one[1] not in known) == []


def test_every_block_of_yaml_json_or_python_is_read_by_what_reads_it(tmp_path: Path) -> None:
    (tmp_path / "config.ini.j2").touch()
    blocks = [(page, kind, body) for page in shown.pages() for kind, body in FENCE.findall(page.read_text(encoding="utf-8"))]
    read = Counter(wrote for page, kind, body in blocks if (wrote := _read(kind, body, tmp_path)))

    assert read.keys() == {"settings", "playbook", "json", "toml", "python"}


def _read(kind: str, body: str, folder: Path) -> str | None:
    """Read a block as its reader does, which raises for what is wrong; return what it was."""
    if kind == "json":
        json.loads(body)
    elif kind == "toml":
        tomllib.loads(body)
    elif kind == "python":
        names = [node for node in ast.walk(ast.parse(body)) if isinstance(node, ast.ImportFrom)]
        assert all(hasattr(importlib.import_module(str(node.module)), alias.name) for node in names for alias in node.names)
    elif kind == "yaml" and body.startswith("config:"):
        (folder / "Pulumi.runpod.yaml").write_text(body, encoding="utf-8")
        reader.load(folder, "runpod")
        return "settings"
    elif kind == "yaml" and body.startswith("- name:"):
        (folder / "play.yml").write_text(body, encoding="utf-8")
        loader.load(folder / "play.yml")
        return "playbook"
    else:
        return None  # a whole Pulumi program: tests/provider/test_page.py
    return kind


def test_tests_that_a_page_names_exist() -> None:
    sources = "\n".join(path.read_text(encoding="utf-8") for path in (ROOT / "tests").rglob("*.py"))
    named = {word for page in shown.pages() for word in re.findall(r"`((?:tests/|test_)[\w/.]+)`", page.read_text(encoding="utf-8"))}

    assert sorted(word for word in named if "/" in word and not (ROOT / word).exists()) == []
    assert sorted(word for word in named if "/" not in word and f"def {word}(" not in sources) == []
    assert len(named) > 40


def test_everything_in_the_tree_exists_and_is_explained() -> None:
    missing = [path for path in tree(ARCHITECTURE) if not (ROOT / path).exists()]

    assert missing == []
    assert [path for path, text in tree(ARCHITECTURE).items() if len(text) < 5] == []


def test_everything_that_is_tracked_is_in_the_tree() -> None:
    known = tree(ARCHITECTURE)
    top = {path.split("/")[0] + ("/" if "/" in path else "") for path in tracked()} - {".gitignore"}
    packages = {"/".join(path.split("/")[:2]) + "/" for path in tracked() if path.startswith("trainyard/") and path.count("/") > 1}

    assert sorted((top | packages) - set(known)) == []


def test_every_exit_code_is_documented_and_no_other() -> None:
    documented = {int(code) for code in re.findall(r"^\| (\d+) \|", TROUBLESHOOTING, re.M)}
    tree_of_errors = [errors.TrainyardError]
    for error in tree_of_errors:
        tree_of_errors += error.__subclasses__()
    ours = {error.exit_code for error in tree_of_errors if error.__module__ == "trainyard.errors"}

    assert documented == ours | {0, console.NO_NETWORK, console.NO_SPACE, ending.INTERRUPTED}


def test_every_field_of_a_summary_is_explained_and_no_other() -> None:
    page = (ROOT / "docs" / "run-summary.md").read_text(encoding="utf-8")
    explained = [name for row in re.findall(r"^\| (`[^|]+) \|", page, re.M) for name in re.findall(r"`(\w+)`", row)]

    assert sorted(explained) == sorted(field.name for field in dataclasses.fields(RunSummary))


def test_every_key_of_a_recipe_is_explained_and_no_other() -> None:
    page = (ROOT / "docs" / "recipes" / "your-own.md").read_text(encoding="utf-8")
    source = inspect.getsource(contract)
    explained = [set(re.findall(r"`(\w+)`", "".join(re.findall(r"^\| (`[^|]+) \|", part, re.M)))) for part in page.split("\n## ")[1:3]]

    assert explained[0] == set(re.findall(r'top\.\w+\("(\w+)"', source))
    assert explained[1] == set(re.findall(r'fields\.\w+\("(\w+)"', inspect.getsource(contract._variable)))


def test_every_symptom_is_printed_somewhere() -> None:
    table = TROUBLESHOOTING.partition("## By symptom")[2].partition("## What ends a pod")[0]
    symptoms = [words for row in re.findall(r"^\| ([^|]+) \|", table, re.M) for words in re.findall(r'"([^"]{6,})"', row)]
    files = [ROOT / "bootstrap", *(ROOT / "trainyard").rglob("*.py"), *(ROOT / "templates").rglob("recipe.yaml")]
    sources = "\n".join(path.read_text(encoding="utf-8") for path in files)

    assert len(symptoms) > 20
    assert [words for words in symptoms if words not in sources] == []


def test_the_readme_is_short_enough_to_be_read() -> None:
    assert len(README.splitlines()) <= 255


def test_pages_that_are_made_from_the_code_are_as_the_code_is() -> None:
    # In a process of its own: Invoke forgets an option's help once it was asked for.
    done = subprocess.run([sys.executable, "-m", "tests.pages.generate", "--check"], cwd=ROOT, capture_output=True, text=True, check=False)

    assert done.returncode == 0, done.stdout + done.stderr + "run: invoke docs --write"


def test_the_changelog_has_a_place_for_what_is_not_released_yet() -> None:
    text = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")

    assert "## [Unreleased]" in text
    headings = set(re.findall(r"^### (.+)$", text, re.M))
    assert headings <= {"Added", "Changed", "Deprecated", "Removed", "Fixed", "Security"}


@pytest.mark.parametrize(("broken", "code"), [("", 0), ("check", 1), ("test", 1)])
def test_ci_takes_each_step_although_one_before_it_failed_and_fails_for_any(tmp_path: Path, broken: str, code: int) -> None:
    for name in (".ci/run", "bootstrap", ".venv/bin/uv"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(f'#!/bin/sh\necho "${{0##*/}} $1" >>log\n[ "$1" != "{broken}" ]\n')
        (tmp_path / name).chmod(0o755)
    shutil.copy(ROOT / ".ci" / "run", tmp_path / ".ci" / "run")

    done = subprocess.run([tmp_path / ".ci" / "run"], capture_output=True, check=False)

    assert done.returncode == code
    assert (tmp_path / "log").read_text().splitlines() == [
        "bootstrap check",
        "uv build",
        "bootstrap docs",
        "bootstrap test",
        "bootstrap extras",
    ]
