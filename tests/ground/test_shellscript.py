"""Shell programs are files; what is sent of them is one piece that any POSIX sh reads."""

from __future__ import annotations

import ast
import re
import shutil
import subprocess
from pathlib import Path

import pytest

import trainyard
from tests.sources import trees
from trainyard.shellscript import load

ROOT = Path(trainyard.__file__).parent
PROGRAMS = sorted(ROOT.rglob("shell/*.sh"))
SHELLS = [shell for shell in ("dash", "bash", "busybox") if shutil.which(shell)]


def package(program: Path) -> str:
    return ".".join(program.parent.parent.relative_to(ROOT.parent).parts)


@pytest.mark.parametrize("program", PROGRAMS, ids=lambda path: path.stem)
def test_a_program_arrives_as_one_piece_that_every_shell_reads(program: Path) -> None:
    text = load(package(program), program.stem)

    assert "\n. " not in "\n" + text
    assert not any(line.lstrip().startswith("#") for line in text.splitlines())
    for shell in SHELLS:
        words = [shell, "sh"] if shell == "busybox" else [shell]
        done = subprocess.run([*words, "-n"], input=text, capture_output=True, text=True, check=False)
        assert (done.returncode, done.stderr) == (0, ""), shell


def test_a_program_that_is_not_given_a_value_ends_and_names_it() -> None:
    done = subprocess.run(["sh"], input=load("trainyard.remote", "job_status"), capture_output=True, text=True, check=False)

    assert done.returncode != 0
    assert "job" in done.stderr


def test_the_frame_is_one_line_that_other_shells_read_as_sh_does() -> None:
    line = " ".join(load("trainyard.remote", "frame").splitlines())

    assert not set("'!\n") & set(line)
    assert "\\ " not in line


SIGNS = re.compile(r"; do\b|\bdone\b|; then\b|\bfi\b|\|\| exit|>&2|2>&1|[<>] ?/dev/null|\"\$\w")
"""What stands in a shell program and hardly in prose."""


def programs_in(tree: ast.Module) -> list[int]:
    """Return the lines where a text of three lines or more that looks like a shell program begins."""
    nodes = list(ast.walk(tree))
    prose = {id(node.value) for node in nodes if isinstance(node, ast.Expr)}
    texts = [node for node in nodes if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in prose]
    return [node.lineno for node in texts if str(node.value).count("\n") >= 2 and SIGNS.search(str(node.value))]


def test_no_module_holds_a_shell_program_of_more_than_two_lines() -> None:
    assert {path: lines for path, tree in trees().items() if (lines := programs_in(tree))} == {}


@pytest.mark.parametrize(
    ("text", "lines"), [('X = """a\ncd "$job" || exit 1\nb\n"""', [1]), ('"""a\nb 2>&1\nc\n"""', []), ('X = "a; fi"', [])]
)
def test_a_shell_program_in_a_module_is_found(text: str, lines: list[int]) -> None:
    assert programs_in(ast.parse(text)) == lines
