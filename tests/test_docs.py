"""README tells the truth: commands it shows exist with their options, its tree is the tree, its exit codes are the code's."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from trainyard import commandline, errors
from trainyard.setup import console

ROOT = Path(__file__).resolve().parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.M | re.S)
COMMAND = re.compile(r"(?:\./bootstrap|\binvoke)((?: +[^\s`|#;)]+)*)")


@pytest.fixture(scope="module")
def verbs() -> dict[str, set[str]]:
    """Every verb with the flags it takes."""
    sys.path.insert(0, str(ROOT))
    try:
        import tasks
    finally:
        sys.path.remove(str(ROOT))
    found: dict[str, set[str]] = {}
    for name in tasks.ns.task_names:
        arguments: list[Any] = tasks.ns[name].get_arguments()
        found[name] = {"--" + flag.replace("_", "-") for argument in arguments for flag in argument.names if len(flag) > 1}
        found[name] |= {"-" + flag for argument in arguments for flag in argument.names if len(flag) == 1}
    return found


def shown(text: str) -> Iterator[list[str]]:
    """Yield the words behind each `./bootstrap` or `invoke` in code, inline or fenced."""
    code = [body for kind, body in FENCE.findall(text) if kind in ("sh", "console")]
    code += re.findall(r"`([^`\n]+)`", FENCE.sub("", text))
    for piece in code:
        for match in COMMAND.finditer(piece):
            yield match[1].split()


def problems(text: str, verbs: dict[str, set[str]]) -> list[str]:
    found = []
    for words in shown(text):
        while words and words[0] in ("--list", "--help", "-h", "-l"):
            words = words[1:]
        if not words or words[0].isupper():
            continue
        verb, *rest = words
        if verb not in verbs:
            found.append(f"there is no verb {verb}")
            continue
        flags = [word.partition("=")[0] for word in rest[: rest.index("--") if "--" in rest else None] if word.startswith("-")]
        found += [f"{verb} has no {flag}" for flag in flags if flag not in verbs[verb]]
    return found


def tree(text: str) -> dict[str, str]:
    """Return path -> description of the block marked ```tree."""
    (block,) = [body for kind, body in FENCE.findall(text) if kind == "tree"]
    return {line.split(maxsplit=1)[0]: line.split(maxsplit=1)[1] for line in block.splitlines() if line.strip()}


def tracked() -> list[str]:
    done = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True)
    return done.stdout.splitlines()


def test_every_command_that_is_shown_exists_with_its_options(verbs: dict[str, set[str]]) -> None:
    assert problems(README, verbs) == []


def test_a_shown_command_that_does_not_exist_is_found(verbs: dict[str, set[str]]) -> None:
    text = "`invoke fly` and\n```sh\n./bootstrap train --stak local  # --nothing here\ninvoke ssh RUN -- ls --all\n```\n"

    assert problems(text, verbs) == ["train has no --stak", "there is no verb fly"]


def test_every_verb_is_shown(verbs: dict[str, set[str]]) -> None:
    seen = {words[0] for words in shown(README) if words}

    assert sorted(set(verbs) - seen) == []


def test_everything_in_the_tree_exists_and_is_explained() -> None:
    missing = [path for path in tree(README) if not (ROOT / path).exists()]

    assert missing == []
    assert [path for path, text in tree(README).items() if len(text) < 5] == []


def test_everything_that_is_tracked_is_in_the_tree() -> None:
    known = tree(README)
    top = {path.split("/")[0] + ("/" if "/" in path else "") for path in tracked()} - {".gitignore"}
    packages = {"/".join(path.split("/")[:2]) + "/" for path in tracked() if path.startswith("trainyard/") and path.count("/") > 1}

    assert sorted((top | packages) - set(known)) == []


def test_every_exit_code_is_documented_and_no_other() -> None:
    documented = {int(code) for code in re.findall(r"^\| (\d+) \|", README, re.M)}
    tree_of_errors = [errors.TrainyardError]
    for error in tree_of_errors:
        tree_of_errors += error.__subclasses__()
    ours = {error.exit_code for error in tree_of_errors if error.__module__ == "trainyard.errors"}

    assert documented == ours | {0, console.NO_NETWORK, console.NO_SPACE, commandline.INTERRUPTED}


def test_the_readme_is_short_enough_to_be_read() -> None:
    assert len(README.splitlines()) <= 250


def test_the_changelog_has_a_place_for_what_is_not_released_yet() -> None:
    text = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")

    assert "## [Unreleased]" in text
    headings = set(re.findall(r"^### (.+)$", text, re.M))
    assert headings <= {"Added", "Changed", "Deprecated", "Removed", "Fixed", "Security"}


def test_ci_calls_the_command_that_the_readme_shows() -> None:
    script = (ROOT / ".ci" / "run").read_text(encoding="utf-8")

    assert "./bootstrap test" in script
    assert "set -eu" in script
