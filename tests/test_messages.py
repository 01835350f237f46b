"""No message is parsed: what an error is, its class and its facts say; its sentence is for people.

Every comparison of, search in, and cut of an error's text in the project is found; what may stay is named here with its
reason: an outside program that tells no more than a sentence, or a text that is only shown.
"""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent

ALLOWED = {
    ("trainyard/engine/shim.py", "is_terminated"): "Pulumi's SDK makes this error from a code and keeps nothing but the sentence",
    ("trainyard/engine/program.py", "_program_error"): "Pulumi's SDK tells by a sentence what it asks of an engine that is not served",
    ("trainyard/recipes/rows.py", "item"): "Python's json tells by its sentence alone that a text was cut off inside quotes",
    ("trainyard/setup/console.py", "failure"): "pip, uv and Go exit with 1 for a full disk, a dead network and all else",
}
TEXTS = {"message", "msg", "hint", "stderr", "output", "stderr_tail"}
ERRORS = ("err", "exc", "problem", "trouble", "refusal", "caught", "failure", "why", "full")
CUTS = {"startswith", "endswith", "find", "rfind", "index", "count", "split", "partition", "rpartition", "removeprefix"}
SEARCHES = {"search", "match", "fullmatch", "findall", "finditer"}


def is_text_of_an_error(node: ast.AST) -> bool:
    """Tell whether an expression is the sentence of an error: ``error.message``, ``str(error)``, in whichever case."""
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in ("lower", "upper", "strip", "casefold"):
        return is_text_of_an_error(node.func.value)
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in ("str", "repr") and node.args:
        inside = node.args[0]
        name = inside.id if isinstance(inside, ast.Name) else inside.attr if isinstance(inside, ast.Attribute) else ""
        return name.lstrip("_").startswith(ERRORS)
    return isinstance(node, ast.Attribute) and node.attr in TEXTS and not (isinstance(node.value, ast.Name) and node.value.id == "sys")


def is_parsed(node: ast.AST) -> bool:
    """Tell whether an expression compares, searches or cuts the sentence of an error."""
    if isinstance(node, ast.Compare) and len(node.ops) == 1:
        left, right = node.left, node.comparators[0]
        if isinstance(node.ops[0], ast.In | ast.NotIn):
            return is_text_of_an_error(right)
        if isinstance(node.ops[0], ast.Eq | ast.NotEq):
            return any(
                is_text_of_an_error(a) and isinstance(b, ast.Constant) and isinstance(b.value, str) and b.value
                for a, b in ((left, right), (right, left))
            )
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
        if node.func.attr in CUTS:
            return is_text_of_an_error(node.func.value)
        return node.func.attr in SEARCHES and any(map(is_text_of_an_error, node.args))
    return False


def parsed(text: str) -> list[tuple[str, int]]:
    """Return the function and the line of each place where a message is parsed."""
    tree = ast.parse(text)
    owner = {
        id(inner): function.name
        for function in ast.walk(tree)
        if isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef)
        for inner in ast.walk(function)
    }
    return [(owner.get(id(node), ""), node.lineno) for node in ast.walk(tree) if isinstance(node, ast.expr) and is_parsed(node)]


def test_no_message_is_parsed() -> None:
    found: dict[tuple[str, str], int] = {}
    for path in sorted([*(ROOT / "trainyard").rglob("*.py"), *(ROOT / "infra").rglob("*.py")]):
        name = path.relative_to(ROOT).as_posix()
        found |= {(name, function): line for function, line in parsed(path.read_text(encoding="utf-8"))}

    assert {f"{name}:{line} ({function})" for (name, function), line in found.items() if (name, function) not in ALLOWED} == set()
    assert set(ALLOWED) - set(found) == set(), "nothing is parsed there any more"


@pytest.mark.parametrize(
    "expression",
    [
        "'not found' in error.message",
        "WORDS in str(error)",
        "'x' not in str(error).lower()",
        "outcome.error.message == 'gone'",
        "str(exc).startswith('pod ')",
        "re.search('a', done.stderr)",
        "PATTERN.match(error.hint)",
        "problem.message.partition(':')[0]",
    ],
)
def test_a_message_that_is_parsed_is_found(expression: str) -> None:
    assert parsed(f"def f():\n    return {expression}") == [("f", 2)]


@pytest.mark.parametrize("expression", ["error.kind == 'busy'", "print(error.message)", "str(path).startswith('/')", "x in str(optim)"])
def test_what_is_no_sentence_may_be_compared(expression: str) -> None:
    assert parsed(expression) == []
