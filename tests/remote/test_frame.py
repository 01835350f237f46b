"""The frame in which an answer comes: every byte between the marks, nothing from outside them, no answer without them."""

from __future__ import annotations

import subprocess
from typing import Any

import pytest

from trainyard.errors import Unreachable, UserError
from trainyard.remote.frame import Frame, NotRun
from trainyard.remote.protocol import CommandResult


def answer_of(frame: Frame) -> tuple[bytes, bytes]:
    """Run the frame's command and return both streams as a target sends them."""
    done = subprocess.run(frame.words, stdin=subprocess.DEVNULL, capture_output=True, check=False)
    return done.stdout, done.stderr


def test_what_comes_before_and_after_the_marks_is_not_the_answer() -> None:
    frame = Frame("pod", "echo out; echo err >&2; exit 3")
    out, err = answer_of(frame)
    frame.out(b"Welcome!\n" + out + b"Bye\n")
    frame.err(b"locale?" + err + b"logged")
    assert frame.whole and frame.result(None) == CommandResult(3, b"out\n", b"err\n")


@pytest.mark.parametrize("size", [1, 2, 3, 7, 50])
def test_every_byte_arrives_in_pieces_of_any_size_even_what_looks_like_a_mark(size: int) -> None:
    taken: list[bytes] = []
    frame = Frame("pod", r"printf '\036'; cat /proc/$PPID/cmdline; printf '\000\036\036abc\377'", taken.append)
    out, err = answer_of(frame)
    for start in range(0, len(out), size):
        frame.out(out[start : start + size])
    frame.err(err)
    assert frame.result(None).rc == 0
    payload = b"".join(taken)
    assert payload.startswith(b"\x1esh\0-c\0") and payload.endswith(b"\0\x1e\x1eabc\xff")


def test_an_answer_is_not_held_back_until_the_next_one_comes() -> None:
    taken: list[bytes] = []
    frame = Frame("pod", "echo one", taken.append)
    out, _ = answer_of(frame)
    begin = out.index(b"one\n")
    frame.out(out[:begin] + b"one\n")
    assert taken == [b"one\n"] and not frame.complete


@pytest.mark.parametrize("answer", [b"", b"This account is managed.\n", b"\x1enot.o\nok\n\x1enot.x0\n"])
def test_an_answer_without_our_marks_is_none_and_what_came_instead_is_told(answer: bytes) -> None:
    frame = Frame("pod", "true")
    frame.out(answer)
    with pytest.raises(NotRun, match=r"pod: the target answered without running the command: .*\(exit code 0\)") as caught:
        frame.result(0)
    assert caught.value.exit_code == 5 and ("managed" in str(caught.value)) is (b"managed" in answer)


def test_the_marks_of_an_earlier_answer_prove_nothing() -> None:
    earlier, now = Frame("pod", "echo yes"), Frame("pod", "echo no")
    out, err = answer_of(earlier)
    now.out(out)
    now.err(err)
    with pytest.raises(NotRun):
        now.result(0)


def test_an_answer_that_breaks_off_is_unreachable() -> None:
    frame = Frame("pod", "echo half")
    out, _ = answer_of(frame)
    frame.out(out[: out.index(b"half") + 2])
    for status in (0, None):
        with pytest.raises(Unreachable, match="its end was not told" if status == 0 else "connection was lost") as caught:
            frame.result(status)
        assert not isinstance(caught.value, NotRun)


def test_a_target_that_repeats_the_command_does_not_make_its_secrets_known() -> None:
    frame = Frame("pod", "export TOKEN=hf_verysecret\ntrue")
    frame.err(b"+ " + frame.line + b"\nfish: Unsupported\n")
    with pytest.raises(NotRun, match="fish: Unsupported") as caught:
        frame.result(1)
    assert "hf_verysecret" not in str(caught.value)


def test_who_prints_for_ever_is_not_listened_to_for_ever() -> None:
    frame = Frame("pod", "true")
    with pytest.raises(NotRun):
        for _ in range(100):
            frame.out(b"y\n" * 32768)


def test_streams_that_the_target_joins_lose_no_output_and_no_code() -> None:
    frame = Frame("pod", "echo out; echo err >&2; exit 4")
    done = subprocess.run(frame.words, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False)
    frame.out(done.stdout)
    assert frame.complete and frame.result(None) == CommandResult(4, b"out\nerr\n", b"")


@pytest.mark.parametrize("text", ["echo 'a\\'", "printf '%s' \"\\\\n!\"", "cat <<'X'\n$a\\\n'\nX", "printf 'ä\\377'"])
def test_any_text_of_sh_comes_to_the_target_as_it_is(text: str) -> None:
    plain = subprocess.run(["sh", "-c", text], capture_output=True, check=False)
    for command in (["words"], ["sh", "-c"], ["bash", "-c"]):
        frame = Frame("pod", text)
        words: list[Any] = frame.words if command == ["words"] else [*command, frame.line]
        done = subprocess.run(words, capture_output=True, check=False)
        frame.out(done.stdout)
        frame.err(done.stderr)
        assert frame.result(None) == CommandResult(plain.returncode, plain.stdout, plain.stderr)


def test_what_no_target_could_take_is_refused_before_it_is_sent() -> None:
    with pytest.raises(UserError, match="put it into a file"):
        Frame("pod", "echo " + "x" * 200_000)
    with pytest.raises(UserError, match="NUL"):
        Frame("pod", "echo \0")
