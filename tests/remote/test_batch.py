"""Commands that share a round trip: each is what it would be alone, and what has no answer of its own has none."""

from __future__ import annotations

import itertools
import os
import random
import shutil
import stat
import threading
from pathlib import Path
from typing import Any

import pytest

from tests.remote import sshd
from tests.remote.proxy import Proxy
from tests.remote.quiet import is_quiet
from trainyard.errors import Unreachable, UserError
from trainyard.remote.batch import Batch, BatchCommand
from trainyard.remote.frame import LONGEST
from trainyard.remote.protocol import quote
from trainyard.remote.transport import CommandResult, LocalTransport, Transport, connect


def run(t: Transport, *requests: BatchCommand | str) -> list[CommandResult]:
    """Run commands as one batch and return their answers."""
    batch, answers = Batch(), list[CommandResult]()
    for request in requests:
        assert batch.add(request if isinstance(request, BatchCommand) else BatchCommand(request))
    batch.run(t, answers.append)
    return answers


def test_each_command_answers_for_itself_on_every_kind_of_way(transport: Transport) -> None:
    answers = run(
        transport, "echo a; echo b >&2", BatchCommand("cat", b"\0\xff'\n\n"), "cd /; umask 077; x=1; exec 2>&1; set -e",
        'pwd; echo "$x"; cat', "printf 'no end of line'", "exit 7", "echo never",
    )  # fmt: skip
    home = transport.exec("pwd").stdout
    assert [(one.rc, one.stdout, one.stderr) for one in answers] == [
        (0, b"a\n", b"b\n"), (0, b"\0\xff'\n\n", b""), (0, b"", b""), (0, home + b"\n", b""), (0, b"no end of line", b""), (7, b"", b""),
    ]  # fmt: skip


def test_a_command_leaves_nothing_of_its_input_to_the_next_and_takes_nothing_of_it(transport: Transport) -> None:
    first, second = os.urandom(300_000), os.urandom(70_000)
    answers = run(
        transport,
        BatchCommand("head -c 3", first),
        BatchCommand("cat", second),
        "cat",
        BatchCommand("true", first),
        BatchCommand("cat", b"z"),
    )
    assert [one.stdout for one in answers] == [first[:3], second, b"", b"", b"z"]


def test_any_bytes_of_output_come_back_as_they_are(transport: Transport) -> None:
    seed = random.randrange(1 << 32)
    chance = random.Random(seed)
    pieces = [b"\x1e", b"\n", b"\0", b"\xff", b"x0", b"0.o\n", b"text", os.urandom(5000)]
    inputs = [b"".join(chance.choices(pieces, k=chance.randrange(1, 30))) for _ in range(20)]
    answers = run(transport, *(BatchCommand("tee /dev/stderr", data) for data in inputs))
    assert [(one.stdout, one.stderr) for one in answers] == [(data, data) for data in inputs], f"seed {seed}"


def test_answers_are_handed_out_as_they_come(transport: Transport, tmp_path: Path) -> None:
    fifo = tmp_path / "go"
    os.mkfifo(fifo)
    batch, seen, came = Batch(), list[bytes](), threading.Event()
    for command in ("echo one", f"cat {fifo}; echo two"):
        batch.add(BatchCommand(command))

    def take(answer: CommandResult) -> None:
        seen.append(answer.stdout)
        came.set()

    thread = threading.Thread(target=batch.run, args=(transport, take))
    thread.start()
    assert came.wait(20) and seen == [b"one\n"]
    fifo.write_text("")
    thread.join(20)
    assert seen == [b"one\n", b"two\n"]


def test_a_command_that_kills_its_shell_or_its_group_has_failed_and_nothing_follows(transport: Transport) -> None:
    assert [one.rc for one in run(transport, "true", "kill -9 $$", "true")] == [0, 137]
    assert [one.rc for one in run(transport, "true", "kill -TERM 0; sleep 5", "true")] == [0, 143]


def test_what_a_command_leaves_running_keeps_nobody_waiting(transport: Transport) -> None:
    assert [one.stdout for one in run(transport, "sleep 30 & echo a", "echo b")] == [b"a\n", b"b\n"]


def test_when_the_way_is_closed_no_further_command_begins(server: sshd.Server, tmp_path: Path) -> None:
    if sshd.kind() != "sshd":
        pytest.skip("the asyncssh server of the tests keeps the pipes of a session open")
    batch, first = Batch(), threading.Event()
    for command in ("true", f"while sleep 0.1; do [ -e {tmp_path}/go ] && exit 0; done", f"touch {tmp_path}/far"):
        batch.add(BatchCommand(command))
    lost = list[BaseException]()
    with connect(server.address) as t:

        def work() -> None:
            try:
                batch.run(t, lambda answer: first.set())
            except Unreachable as error:
                lost.append(error)

        thread = threading.Thread(target=work)
        thread.start()
        assert first.wait(20)
    thread.join(20)
    (tmp_path / "go").touch()
    assert len(lost) == 1 and is_quiet(tmp_path / "far") and not (tmp_path / "far").exists()


def test_a_link_that_is_cut_leaves_the_answers_that_had_come(server: sshd.Server) -> None:
    proxy = Proxy(server.address)
    batch, answers = Batch(), list[CommandResult]()
    for command in ("echo a", "echo b", "sleep 30", "echo c"):
        batch.add(BatchCommand(command))

    def take(answer: CommandResult) -> None:
        answers.append(answer)
        if len(answers) == 2:
            proxy.cut()

    with connect(proxy.address) as t, pytest.raises(Unreachable):
        batch.run(t, take)
    proxy.close()
    assert [one.stdout for one in answers] == [b"a\n", b"b\n"]


def test_a_target_without_the_dd_that_is_needed_runs_none_of_them(tmp_path: Path) -> None:
    tools = tmp_path / "bin"
    tools.mkdir()
    for name in ("sh", "cat", "touch"):
        (tools / name).symlink_to(str(shutil.which(name)))
    (tools / "dd").write_text("#!/bin/sh\ncase $* in *fullblock*) exit 1 ;; esac\n")
    (tools / "dd").chmod(stat.S_IRWXU)
    t = LocalTransport(env={"PATH": str(tools)})
    assert run(t, f"touch {tmp_path}/ran", "true") == [] and not (tmp_path / "ran").exists()


def test_a_batch_takes_a_mebibyte_and_no_command_that_could_not_be_sent_alone() -> None:
    batch = Batch()
    taken = sum(1 for _ in itertools.takewhile(batch.add, itertools.repeat(BatchCommand("x" * 1000))))
    assert 1030 < taken < 1049 and len(batch) == taken and batch.add(BatchCommand("y"))
    answers = list[CommandResult]()
    batch.run(LocalTransport(), answers.append)
    assert [one.rc for one in answers] == [127]
    assert Batch().add(BatchCommand("cat", bytes((1 << 20) - 99))) and not Batch().add(BatchCommand("cat", bytes(1 << 20)))
    assert Batch().add(BatchCommand("x" * LONGEST)) and not Batch().add(BatchCommand("x" * (LONGEST + 1)))
    # What becomes another user or is ended from here quotes a command once more: it is the batch's own, however long its programs are.
    quotes = BatchCommand(": " + "'a'" * 8_000)
    assert [one.rc for one in run(Quoting(), quotes, quotes, quotes, BatchCommand("cat", b"z"))] == [0, 0, 0, 0]


class Quoting(LocalTransport):
    """This machine, by way of another sh."""

    def exec(self, command: str, *words: Any, **more: Any) -> CommandResult:
        return super().exec(f"exec sh -c {quote(command)}", *words, **more)


def test_programs_that_do_not_arrive_whole_are_not_begun(tmp_path: Path) -> None:
    class Cut(LocalTransport):
        """This machine, behind a link that is lost while the input is sent."""

        def exec(self, command: str, stdin: Any = None, **more: Any) -> CommandResult:
            return super().exec(command, stdin[:-1], **more)

    assert run(Cut(), f"touch {tmp_path}/ran", "true") == [] and not (tmp_path / "ran").exists()


def test_programs_of_a_batch_stand_in_no_list_of_processes_of_others() -> None:
    (answer, _) = run(LocalTransport(), "cat /proc/[0-9]*/cmdline 2>/dev/null; true", ": what-comes-later")
    assert b"what-comes-later" not in answer.stdout and b"fullblock" in answer.stdout
    with pytest.raises(UserError, match="NUL"):
        Batch().add(BatchCommand("a\0b"))
