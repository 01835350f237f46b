"""Silence and noise of a real SSH server: neither is ever taken for an answer, neither changes one."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.remote import sshd
from trainyard import playbook
from trainyard.errors import Unreachable
from trainyard.playbook import Host
from trainyard.remote import channel, jobs, transfer
from trainyard.remote.follow import Tail, follow
from trainyard.remote.reconnect import Reconnecting
from trainyard.remote.transport import CommandResult, NotRun, SshTransport, Transport, connect

Serve = Callable[..., SshTransport]
_NOISE = 'echo "Welcome to your pod"; echo "no locale" >&2; printf "half a line"; set -e; trap "echo bye" EXIT\n'


@pytest.fixture
def serve(tmp_path: Path) -> Iterator[Serve]:
    """Start a server of some kind, log in, end both with the test."""
    open_: list[tuple[sshd.Server, SshTransport]] = []

    def start(forced: str | None = None, shell: str | None = None) -> SshTransport:
        server = sshd.start(tmp_path / f"server{len(open_)}", forced=forced, shell=shell)
        open_.append((server, connect(server.address)))
        return open_[-1][1]

    yield start
    for server, transport in open_:
        transport.close()
        server.stop()


@pytest.fixture
def noisy(tmp_path: Path) -> Iterator[SshTransport]:
    """Give a login whose start-up file prints on both streams, ends no line and changes the shell's options."""
    server = sshd.start(tmp_path / "noisy", shell="/bin/bash")
    (tmp_path / "noisy" / ".bashrc").write_text(_NOISE)
    with connect(server.address) as transport:
        yield transport
    server.stop()


@pytest.mark.parametrize(
    "kind", [{"forced": "echo This account is managed"}, {"shell": "/bin/true"}, {"shell": "/bin/cat"}, {"shell": "/usr/sbin/nologin"}]
)
def test_a_login_that_runs_nothing_of_ours_is_never_ok(serve: Serve, kind: dict[str, str]) -> None:
    with pytest.raises(NotRun, match="answered without running the command"):
        serve(**kind).exec("true")


def test_a_login_that_says_nothing_and_never_ends_is_not_waited_for(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(channel, "BEGUN", 0.5)
    with pytest.raises(NotRun, match=r"did not begin the command within 0\.5 s: it said nothing"):
        serve(forced="sleep 30").exec("true")


def test_a_command_that_has_begun_may_be_silent_for_as_long_as_it_likes(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    transport = serve()
    transport.exec("true")
    monkeypatch.setattr(channel, "BEGUN", 0.5)
    assert transport.exec("sleep 1; echo late").stdout == b"late\n"


def test_a_playbook_on_a_login_with_a_forced_command_ends_at_its_first_task(serve: Serve, tmp_path: Path) -> None:
    book = tmp_path / "fc.yml"
    book.write_text("- hosts: all\n  tasks:\n    - file: {path: /nonexistent/w, state: directory}\n    - shell: echo done\n")
    report = playbook.run(playbook.load(book), {"pod": Host(serve(forced="echo This account is managed"), {})}, {})
    assert report.exit_code == 5 and "This account is managed" in report.reason()
    assert (report.tallies["pod"].ok, report.tallies["pod"].unreachable) == (0, 1)


def test_a_forced_command_that_prints_and_then_runs_ours_changes_no_answer(serve: Serve) -> None:
    t = serve(forced='echo Hello; echo warned >&2; sh -c "$SSH_ORIGINAL_COMMAND"; echo Bye; exit 9')
    assert t.exec("cat; echo err >&2; exit 3", b"in\n") == CommandResult(3, b"in\n", b"err\n")


def test_a_start_up_file_that_prints_changes_no_answer_and_no_file(noisy: SshTransport, tmp_path: Path) -> None:
    data = os.urandom(3_000_000)
    (tmp_path / "here").write_bytes(data)
    assert noisy.exec("cat; false; echo on", data) == CommandResult(0, data + b"on\n", b"")
    assert transfer.put_file(noisy, tmp_path / "here", str(tmp_path / "there"))
    assert not transfer.put_file(noisy, tmp_path / "here", str(tmp_path / "there"))
    assert transfer.put_bytes(noisy, str(tmp_path / "small"), b"x") and not transfer.put_bytes(noisy, str(tmp_path / "small"), b"x")
    transfer.get_file(noisy, str(tmp_path / "there"), tmp_path / "back")
    assert (tmp_path / "there").read_bytes() == (tmp_path / "back").read_bytes() == data


def test_a_start_up_file_that_prints_does_not_touch_a_job(noisy: SshTransport, tmp_path: Path) -> None:
    job, log = str(tmp_path / "job"), bytearray()
    assert jobs.start(noisy, job, "for i in 1 2 3; do echo line $i; sleep 0.1; done; exit 5")
    assert not jobs.start(noisy, job, "echo again")
    status = follow(noisy, job, [Tail(f"{job}/log", log.extend)], patience=5)
    assert (status.state, status.exit_code, bytes(log)) == ("exited", 5, b"line 1\nline 2\nline 3\n")


@pytest.mark.parametrize("shell", ["fish", "csh", "tcsh", "zsh", "dash"])
def test_another_login_shell_runs_the_same_sh(serve: Serve, shell: str) -> None:
    found = shutil.which(shell)
    if found is None:
        pytest.skip(f"no {shell} here")
    t = serve(shell=found)
    assert t.exec("printf '%s\\n' 'it'\\''s! \\\\ $x'\nexit 6") == CommandResult(6, b"it's! \\\\ $x\n", b"")


def test_an_old_answer_that_is_given_again_is_none(serve: Serve, tmp_path: Path) -> None:
    kept = tmp_path / "kept"
    t = serve(forced=f'if [ -s {kept} ]; then cat {kept}; else sh -c "$SSH_ORIGINAL_COMMAND" | tee {kept}; fi')
    assert t.exec("echo once").stdout == b"once\n"
    with pytest.raises(NotRun):
        t.exec("echo twice")


def test_half_an_answer_is_unreachable_not_ok(serve: Serve) -> None:
    t = serve(forced='sh -c "$SSH_ORIGINAL_COMMAND" | head -c 80')
    with pytest.raises(Unreachable, match="its end was not told"):
        t.exec(f"echo {'x' * 200}")


def test_a_command_that_signals_its_whole_group_still_tells_its_end(transport: Transport) -> None:
    assert transport.exec("kill -s TERM 0; sleep 5").rc == 143
    with pytest.raises(Unreachable, match=r"its end was not told|connection was lost"):
        transport.exec("kill -s KILL $PPID; sleep 0.2")


def test_a_shell_that_is_killed_costs_no_connection(serve: Serve) -> None:
    dialled: list[SshTransport] = []

    def dial() -> Transport:
        dialled.append(serve())
        return dialled[-1]

    way = Reconnecting(dial)
    with pytest.raises(Unreachable, match="its end was not told"):
        way.exec("kill -s KILL $PPID; sleep 0.2")
    assert way.exec("echo on").stdout == b"on\n" and len(dialled) == 1


def test_what_a_command_leaves_in_the_background_holds_nobody_up(transport: Transport) -> None:
    begun = time.monotonic()
    assert transport.exec("sleep 60 & echo begun") == CommandResult(0, b"begun\n", b"")
    assert time.monotonic() - begun < 40
