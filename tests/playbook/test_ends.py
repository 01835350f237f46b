"""How a run of a playbook is broken off: what runs on the hosts is ended or named, and the recap is shown."""

from __future__ import annotations

import os
import secrets
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.playbook.conftest import Run
from tests.playbook.test_executor import local
from tests.remote.sshd import Server
from trainyard import shellscript
from trainyard.errors import Unreachable, UserError
from trainyard.playbook import Host
from trainyard.playbook.ending import BrokenOff, Endable, end_all, side_by_side
from trainyard.playbook.loader import load
from trainyard.remote.protocol import with_values
from trainyard.remote.transport import LocalTransport, connect

SLEEPING = """
- hosts: localhost
  tasks:
    - {name: first, shell: echo one}
    - {name: long, shell: "echo $$ >TMP/pid; sleep 300; touch TMP/end"}
    - {name: never, shell: touch TMP/end}
"""


def wait_for(path: Path) -> str:
    until = time.monotonic() + 90
    while not (path.exists() and path.read_text().strip()):
        assert time.monotonic() < until
        time.sleep(0.05)
    return path.read_text().strip()


def gone(pid: int) -> bool:
    until = time.monotonic() + 30
    while time.monotonic() < until:
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return True
        time.sleep(0.05)
    return False


@pytest.mark.parametrize(("number", "code", "last"), [(signal.SIGINT, 130, "interrupted"), (signal.SIGTERM, 143, "ended by SIGTERM")])
def test_a_signal_ends_the_command_that_runs_and_shows_the_recap(tmp_path: Path, number: int, code: int, last: str) -> None:
    (tmp_path / "p.yml").write_text(SLEEPING.replace("TMP", str(tmp_path)))
    command = [sys.executable, "-m", "trainyard.playbook", str(tmp_path / "p.yml")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True) as process:
        pid = int(wait_for(tmp_path / "pid"))
        process.send_signal(number)
        shown, said = process.communicate(timeout=90)
    assert process.returncode == code and said == f"{last}\n" and gone(pid) and not (tmp_path / "end").exists()
    assert "broken off: [localhost]: its command was ended" in shown and "localhost                : ok=1 " in shown


def test_a_pipe_that_nobody_reads_ends_the_run_without_a_traceback(tmp_path: Path) -> None:
    (tmp_path / "p.yml").write_text(SLEEPING.replace("TMP", str(tmp_path)).replace("sleep 300", "true"))
    reader, writer = os.pipe()
    os.close(reader)
    command = [sys.executable, "-m", "trainyard.playbook", str(tmp_path / "p.yml")]
    done = subprocess.run(command, stdout=writer, stderr=subprocess.PIPE, text=True, check=False, timeout=90)
    os.close(writer)
    assert (done.returncode, done.stderr) == (141, "") and not (tmp_path / "end").exists()


def interrupting(at: Path, work: Callable[[], object]) -> None:
    """Raise KeyboardInterrupt in this thread, as Ctrl-C does, as soon as a file is there."""

    def press() -> None:
        wait_for(at)
        os.kill(os.getpid(), signal.SIGINT)

    threading.Thread(target=press, daemon=True).start()
    with pytest.raises(KeyboardInterrupt):
        work()


def test_the_commands_of_all_hosts_are_ended_over_their_links(run: Run, server: Server, tmp_path: Path) -> None:
    with connect(server.address) as transport:
        hosts = {"pod": Host(transport), **local("here")}
        text = """
            - shell: echo $$ >{{ tmp }}/{{ inventory_hostname }}; sleep 300
        """
        lines: list[str] = []
        interrupting(tmp_path / "pod", lambda: run(text, hosts=hosts, lines=lines))
    assert gone(int((tmp_path / "pod").read_text()))
    assert "broken off: [pod]: its command was ended (jobs run on)" in lines
    assert any(line.startswith("broken off: [here]: ") for line in lines) and any("PLAY RECAP" in line for line in lines)


def test_waiting_between_attempts_and_for_a_job_is_broken_off_and_the_job_runs_on(run: Run, tmp_path: Path) -> None:
    text = """
        - job: {start: "{{ tmp }}/job", command: "echo $$ >{{ tmp }}/pid; sleep 300"}
        - job: {wait: "{{ tmp }}/job"}
    """
    begun = time.monotonic()
    interrupting(tmp_path / "pid", lambda: run(text, clock=None))
    pid = int((tmp_path / "pid").read_text())
    os.kill(pid, 0)
    os.killpg(pid if os.getpgid(pid) == pid else os.getpgid(pid), signal.SIGKILL)
    (tmp_path / "pid").unlink()
    text = "- {shell: 'echo 1 >{{ tmp }}/pid; false', retries: 3, delay: 300}"
    interrupting(tmp_path / "pid", lambda: run(text, clock=None))
    assert time.monotonic() - begun < 60


def test_a_host_that_does_not_answer_is_named_as_one_whose_command_may_run_on() -> None:
    class Dead(LocalTransport):
        def exec(self, command, stdin=None, **more):  # type: ignore[no-untyped-def]
            if "sleep 60" in command:
                begun.set()
                released.wait(60)
            raise Unreachable("no link")

    begun, released = threading.Event(), threading.Event()
    way = Endable(Dead())
    failed: list[BaseException] = []

    def work() -> None:
        try:
            way.exec("sleep 60")
        except BaseException as error:
            failed.append(error)

    thread = threading.Thread(target=work)
    thread.start()
    begun.wait(30)
    assert end_all([way, Endable(LocalTransport())]) == ["unknown", "nothing"]
    released.set()
    thread.join(30)
    assert isinstance(failed[0], BrokenOff)
    with pytest.raises(BrokenOff):
        way.exec("true")


def test_the_first_error_of_work_side_by_side_is_raised() -> None:
    assert side_by_side(lambda item: item + 1, [1, 2, 3], 2, []) == [2, 3, 4]
    with pytest.raises(ZeroDivisionError):
        side_by_side(lambda item: 1 // item, [1, 0], 2, [])


@pytest.mark.parametrize(
    "task",
    [
        "template: {src: pipe, dest: '{{ tmp }}/o'}",
        "copy: {src: pipe, dest: '{{ tmp }}/o'}",
        "include_vars: {file: pipe}",
        "debug: {msg: \"{{ lookup('file', 'pipe') }}\"}",
        "fetch: {src: '{{ tmp }}/pipe', dest: '{{ tmp }}/home'}",
        "lineinfile: {path: '{{ tmp }}/pipe', line: x}",
        "copy: {content: x, dest: '{{ tmp }}/pipe'}",
    ],
)
def test_a_pipe_in_place_of_a_file_is_told_and_not_waited_for(run: Run, tmp_path: Path, task: str) -> None:
    os.mkfifo(tmp_path / "pipe")
    shown = run(f"- {{{task}, timeout: 20}}")
    assert shown.report.exit_code == 2 and "did not end" not in shown.text


def test_a_playbook_that_is_a_pipe_is_told(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "p.yml")
    with pytest.raises(UserError, match="is a pipe"):
        load(tmp_path / "p.yml")


def end_script(mark: str, patience: int = 1, alone: int = 1) -> str:
    values = {"first": mark[:4], "second": mark[4:], "patience": patience, "alone": alone}
    return with_values(shellscript.load("trainyard.playbook", "end"), **values)


@pytest.fixture
def mark() -> str:
    return secrets.token_hex(8)


NOBODY = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "env", "PATH=/usr/bin:/bin"]


@pytest.mark.skipif(os.geteuid() != 0, reason="needs two users")
def test_a_command_that_became_another_user_is_not_called_ended_while_it_lives(mark: str) -> None:
    command = subprocess.Popen(["sh", "-c", f": {mark}; sleep 60; :"], start_new_session=True)
    try:
        for alone, said in ((0, b"others\n"), (1, b"running\n")):
            assert subprocess.run([*NOBODY, "sh", "-c", end_script(mark, alone=alone)], capture_output=True, check=True).stdout == said
        assert command.poll() is None
        assert subprocess.run(["sh", "-c", end_script(mark, alone=0)], capture_output=True, check=True).stdout == b"ended\n"
    finally:
        command.kill()
        command.wait()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root mounts")
def test_where_others_are_hidden_nothing_is_called_ended_that_sudo_may_have_begun(tmp_path: Path, mark: str) -> None:
    sudo = tmp_path / "sudo"
    sudo.write_text("#!/bin/sh\nexit 1\n")
    for path in (sudo, tmp_path, *list(tmp_path.parents)[:3]):
        path.chmod(0o755)
    inside = 'mount -t proc -o hidepid=2 proc /proc && exec "$@"'
    hiding = ["unshare", "-m", "sh", "-c", inside, "sh"]
    if subprocess.run([*hiding, "true"], capture_output=True, check=False).returncode:
        pytest.skip("/proc cannot be mounted here")
    nobody = [*NOBODY[:-1], f"PATH={tmp_path}:/usr/bin:/bin", "sh", "-c"]
    for alone, said in ((0, b"others\n"), (1, b"unknown\n")):
        assert subprocess.run([*hiding, *nobody, end_script(mark, alone=alone)], capture_output=True, check=True).stdout == said
    sudo.unlink()
    if not any(Path(folder, name).exists() for folder in ("/usr/bin", "/bin") for name in ("sudo", "doas")):
        assert subprocess.run([*hiding, *nobody, end_script(mark)], capture_output=True, check=True).stdout == b"ended\n"


def test_what_a_command_began_in_groups_of_its_own_is_ended_and_what_outlives_it_is_not(tmp_path: Path) -> None:
    inner = f"echo $$ >{tmp_path}/inner; sleep 60"
    text = f"setsid sh -c 'echo $$ >{tmp_path}/job; sleep 60' & timeout 50 sh -c '{inner}'"
    way = Endable(LocalTransport())

    def work() -> None:
        with pytest.raises(BrokenOff):
            way.exec(text)

    thread = threading.Thread(target=work)
    thread.start()
    inner_pid, job = int(wait_for(tmp_path / "inner")), int(wait_for(tmp_path / "job"))
    assert way.end() == "ended" and gone(inner_pid)
    os.kill(job, signal.SIGKILL)
    thread.join(30)


def test_who_shares_the_group_of_a_command_lives_on_as_where_dropbear_serves(tmp_path: Path, mark: str) -> None:
    child = f'a={mark[:4]}; sh -c ": ${{a}}{mark[4:]}; echo \\$\\$ >{tmp_path}/pid; sleep 60; :" &'
    ours = f"{child} until [ -s {tmp_path}/pid ]; do sleep 0.1; done"
    both = ["sh", "-c", f'{ours}; sh -c "$1"; echo and on', "sh", end_script(mark, patience=20)]
    done = subprocess.run(both, capture_output=True, check=False, start_new_session=True, timeout=60)
    assert (done.returncode, done.stdout) == (0, b"ended\nand on\n") and gone(int((tmp_path / "pid").read_text()))


def test_how_a_command_ends_that_was_ended_is_no_answer() -> None:
    class Batching(LocalTransport):
        def exec(self, command, stdin=None, *, on_stdout=None, **more):  # type: ignore[no-untyped-def]
            if on_stdout:
                on_stdout(b"before ")
                way.end()
                on_stdout(b"143")
            return super().exec("echo ended")

    way, heard = Endable(Batching()), bytearray()
    with pytest.raises(BrokenOff):
        way.exec("sleep 60", on_stdout=heard.extend)
    assert heard == b"before "


def test_what_was_shown_of_a_task_that_is_broken_off_is_in_the_recap(run: Run, tmp_path: Path) -> None:
    class Late(LocalTransport):
        """Is broken off when the other host has its answer."""

        def exec(self, command, stdin=None, **more):  # type: ignore[no-untyped-def]
            wait_for(tmp_path / "shown")
            raise KeyboardInterrupt

    class Heard(list[str]):
        def append(self, line: str) -> None:
            super().append(line)
            if line.startswith("fatal: [a]"):
                threading.Timer(0.3, (tmp_path / "shown").write_text, ["x"]).start()

    lines = Heard()
    with pytest.raises(KeyboardInterrupt):
        run("- command: 'false'", hosts={**local("a"), "b": Host(Late())}, lines=lines)
    assert any(line.startswith("a ") and "failed=1 " in line for line in lines)
