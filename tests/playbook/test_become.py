"""Another user of the host does what a task says, without anybody's password; a way that is closed is told."""

from __future__ import annotations

import os
import pwd
import shutil
from pathlib import Path

import pytest

from tests.playbook.conftest import Run
from trainyard.playbook import Host
from trainyard.remote.transport import LocalTransport

ROOT = pytest.mark.skipif(os.geteuid() != 0, reason="only root becomes another user without a password")
SUDO = """#!/bin/sh
echo "$*" | head -n 1 >>"{log}"
[ "$1 $2 $3 $5 $6 $7" = "-n -H -u -- sh -c" ] || {{ echo "sudo: usage" >&2; exit 1; }}
{first}
BECAME=$4 HOME=/home/$4 exec sh -c "$8"
"""


def host(folder: Path, first: str = ":") -> dict[str, Host]:
    """Return a host whose sudo checks its words and lets anybody be anybody."""
    sudo = folder / "bin" / "sudo"
    sudo.parent.mkdir()
    sudo.write_text(SUDO.format(log=folder / "log", first=first))
    sudo.chmod(0o755)
    return {"pod": Host(LocalTransport(env={**os.environ, "PATH": f"{sudo.parent}:{os.environ['PATH']}", "HOME": str(folder)}))}


def test_everything_of_a_task_is_done_by_sudo(run: Run, tmp_path: Path) -> None:
    text = """
        - hosts: all
          become: true
          become_user: other
          tasks:
            - {shell: "cat; echo $BECAME $GIVEN; exit 3", args: {stdin: in}, environment: {GIVEN: "a b"}, register: r, failed_when: false}
            - copy: {content: x, dest: "{{ tmp }}/f"}
            - {shell: "echo $BECAME", become: false, register: own}
            - {wait_for: {path: ~/, timeout: 1}, ignore_errors: true, register: home}
    """
    shown = run(text, hosts=host(tmp_path))
    facts = shown.facts()
    assert shown.report.reason() == "" and (tmp_path / "f").read_text() == "x"
    assert isinstance(r := facts["r"], dict) and isinstance(own := facts["own"], dict) and isinstance(home := facts["home"], dict)
    assert (r["stdout"], own["stdout"]) == ("in\nother a b", "") and "/home/other" in str(home["msg"])
    assert {line.split(" -- ")[0] for line in (tmp_path / "log").read_text().splitlines() if " -- " in line} == {"-n -H -u other"}


def test_who_is_that_user_already_needs_no_sudo(run: Run, tmp_path: Path) -> None:
    me = pwd.getpwuid(os.geteuid()).pw_name
    hosts = host(tmp_path, "exit 9")
    assert run(f"- {{shell: id -un, become: true, become_user: {me}}}", hosts=hosts).report.reason() == ""
    assert run(f"- {{shell: id -un, become: true, become_user: '{os.geteuid()}'}}", hosts=hosts).report.reason() == ""
    assert not (tmp_path / "log").exists()


def test_a_sudo_that_wants_a_password_is_told_with_what_to_do(run: Run, tmp_path: Path) -> None:
    shown = run("- {shell: id, become: true, become_user: other}", hosts=host(tmp_path, "echo 'sudo: a password is required' >&2; exit 1"))
    assert shown.report.exit_code == 2
    assert "does not lead to the user 'other' without a password or a terminal: sudo: a password is required" in shown.text
    me = pwd.getpwuid(os.geteuid()).pw_name
    assert f"echo '{me} ALL=(other) NOPASSWD: ALL' >>/etc/sudoers.d/" in shown.text


@pytest.mark.skipif(shutil.which("script") is None, reason="nothing here makes a terminal")
def test_a_sudo_that_wants_a_terminal_is_told_with_what_helps_there(run: Run, tmp_path: Path) -> None:
    hosts = host(tmp_path)
    (tmp_path / "bin" / "sudo").write_text("#!/bin/sh\n[ -t 1 ] || { echo 'sudo: no tty' >&2; exit 1; }\n")
    shown = run("- {shell: id, become: true, become_user: other}", hosts=hosts)
    assert "sudo: no tty" in shown.text and "!requiretty' >>/etc/sudoers.d/" in shown.text and "NOPASSWD" not in shown.text


def test_variables_of_the_host_and_other_ways_are_read(run: Run, tmp_path: Path) -> None:
    way = host(tmp_path)["pod"].transport
    hosts = {"pod": Host(way, {"ansible_become": "yes", "ansible_become_user": "some"})}
    shown = run("- {shell: echo $BECAME, register: r, become: false}", hosts=hosts)
    assert isinstance(r := shown.facts()["r"], dict) and r["stdout"] == "some"
    asked = run("- {shell: id, become: true, become_user: other, become_method: '{{ m }}'}", hosts={"pod": Host(way)}, extra={"m": "runas"})
    assert "'runas' is not supported: there are sudo, su, doas" in asked.report.reason()


@ROOT
@pytest.mark.skipif(shutil.which("su") is None, reason="there is no su here")
@pytest.mark.parametrize("method", ["su", "sudo"])
def test_root_becomes_a_real_user_by_su_also_where_there_is_no_sudo(run: Run, tmp_path: Path, method: str) -> None:
    tools = tmp_path / "tools"
    tools.mkdir()
    for name in (
        "sh",
        "id",
        "su",
        "cat",
        "mktemp",
        "cmp",
        "chmod",
        "mv",
        "rm",
        "stat",
        "printf",
        "dirname",
        "sha256sum",
        "head",
        "cut",
        "ls",
    ):
        if found := shutil.which(name):
            (tools / name).symlink_to(found)
    tmp_path.chmod(0o777)
    os.chmod(tmp_path.parent, 0o755)
    os.chmod(tmp_path.parent.parent, 0o755)
    where = {"pod": Host(LocalTransport(env={"PATH": str(tools), "HOME": "/root"}))}
    text = f"""
        - {{shell: '{shutil.which("id")} -un', become: true, become_user: nobody, become_method: {method}, register: r}}
    """
    shown = run(text, hosts=where)
    assert isinstance(r := shown.facts()["r"], dict) and (r["stdout"], shown.report.exit_code) == ("nobody", 0), shown.text
