"""Reading programs from several threads."""

from __future__ import annotations

import ast
import threading

import pytest

from trainyard.pythontext import parse_python


def test_no_two_threads_are_in_pythons_parser_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    inside, most = [], []
    real, met = ast.parse, threading.Barrier(2)

    def slow(text: str) -> ast.Module:
        inside.append(text)
        most.append(len(inside))
        try:
            met.wait(0.2)  # who comes in beside us ends the wait
        except threading.BrokenBarrierError:
            met.reset()
        inside.remove(text)
        return real(text)

    monkeypatch.setattr(ast, "parse", slow)
    threads = [threading.Thread(target=parse_python, args=(f"a = {number}",)) for number in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert most == [1, 1]


def test_a_program_that_is_broken_leaves_the_parser_free_for_the_next_one() -> None:
    with pytest.raises(SyntaxError):
        parse_python("a =")

    assert isinstance(parse_python("a = 1").body[0], ast.Assign)
