"""Every command in a message is printed with the name by which Trainyard was called: nothing is printed past phrasing.py."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from trainyard.phrasing import TYPED, as_typed, typed
from trainyard.setup.console import SETUP_VERBS, say

ROOT = Path(__file__).resolve().parent.parent
PRODUCT = ROOT / "trainyard"
PROGRAMS = {"engine", "provider", "rehearsal", "pod", "clouds"}
"""Rooms whose output other programs read, or whose command is a module of their own."""
ALLOWED = {
    ("cli/accountverbs.py", "token_create"): "a token alone",
    ("cli/webverbs.py", "serve_link"): "a path with a token",
    ("cli/ending.py", "_say"): "tell() hands it what was phrased",
    ("cli/afterverbs.py", "ask"): "what a model says, as it is",
    ("cli/stackverbs.py", "env"): "a shell reads it",
    ("cli/invokeprogram.py", "_complete"): "a shell reads it",
    ("cli/invokeprogram.py", "_script_mended"): "a shell reads it",
    ("cli/repoverbs.py", "upgrade"): "lines of files, as they are",
    ("playbook/__main__.py", "main"): "that nothing is wrong with a file",
    ("playbook/__main__.py", "write"): "what a playbook and its hosts say",
    ("playbook/__main__.py", "_list"): "names of hosts and tasks",
    ("settings/page.py", "main"): "for who develops Trainyard",
    ("runs/life/start.py", "_play"): "a log of what a playbook says",
    ("runs/verbs/storecheck.py", "show"): "each cell of its table was phrased",
    ("cli/afterverbs.py", "push"): "a card for others, which names no command",
    ("runs/ui.py", "stage"): "the seconds of a stage",
    ("runs/ui.py", "engine_event"): "an engine's names",
    ("runs/gitops/schema.py", "main"): "for those who work on it",
}
PHRASED = {"as_typed", "dumps"}


def printed() -> Iterator[tuple[str, str, int]]:
    """Yield (file, function, line) of each print of more than a fixed text without a command, past as_typed()."""
    for path in sorted(PRODUCT.rglob("*.py")):
        name = path.relative_to(PRODUCT).as_posix()
        if name.partition("/")[0] in PROGRAMS:
            continue
        tree = ast.parse(path.read_text(encoding="utf-8"))
        for function in (node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)):
            for call in (node for node in ast.walk(function) if isinstance(node, ast.Call) and node.args and is_print(node)):
                if not is_phrased(call.args[0]):
                    yield name, function.name, call.lineno


def is_print(call: ast.Call) -> bool:
    """Tell whether a call prints for a person."""
    return (isinstance(call.func, ast.Name) and call.func.id == "print") or (
        isinstance(call.func, ast.Attribute) and call.func.attr == "print"
    )


def is_phrased(text: ast.expr) -> bool:
    """Tell whether a text went through phrasing.py, is for a program, or is fixed and names no command."""
    if isinstance(text, ast.Call):
        return (text.func.attr if isinstance(text.func, ast.Attribute) else getattr(text.func, "id", "")) in PHRASED
    return isinstance(text, ast.Constant) and "invoke " not in str(text.value)


def test_nothing_that_may_name_a_command_is_printed_past_phrasing() -> None:
    places = list(printed())

    assert [place for place in places if place[:2] not in ALLOWED] == []
    assert set(ALLOWED) - {place[:2] for place in places} == set(), "nothing is printed there any more"


def test_every_command_that_the_set_up_names_can_be_phrased_before_packages_are_there() -> None:
    nodes = [node for path in (PRODUCT / "setup").rglob("*.py") for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))]
    texts = [node.value for node in nodes if isinstance(node, ast.Constant) and isinstance(node.value, str)]
    messages = [text for text in texts if "invoke " in text and "``" not in text]  # docstrings are for readers of the source
    typed("./bootstrap", SETUP_VERBS)
    try:
        assert messages and [text for text in messages if "invoke " in as_typed(text)] == []
    finally:
        typed("invoke")


def test_set_up_says_the_command_that_it_was_called_by(capsys: pytest.CaptureFixture[str]) -> None:
    typed("trainyard", SETUP_VERBS)
    try:
        say("and run: invoke setup")
    finally:
        typed("invoke")

    assert capsys.readouterr().err == "and run: trainyard setup\n"


def test_the_tools_half_takes_the_name_from_the_environment(tmp_path: Path) -> None:
    code = (
        "import runpy, sys\nimport trainyard.setup.pulumicli as cli, trainyard.setup.s3server as s3\n"
        "def fail(*a): raise s3.SetupError('none; then: invoke setup')\n"
        "s3.ensure = fail\ncli.ensure = lambda *a: cli.CliInstallation(None, False, cli.HOW)\n"
        f"sys.argv = ['tools', {str(tmp_path)!r}]\nrunpy.run_module('trainyard.setup.tools', run_name='__main__')"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], env={**os.environ, TYPED: "./bootstrap"}, capture_output=True, text=True, check=False
    )

    assert done.returncode == 3 and done.stderr.count("./bootstrap setup") == 3 and "invoke" not in done.stderr
