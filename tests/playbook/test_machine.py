"""Services, accounts, jobs, settings and facts: on files of the test's own, and by a systemctl and an init script of its own."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

import pytest

from tests.playbook.conftest import Run, Shown
from trainyard.playbook import Host
from trainyard.remote.local import CommandTransport

KEYS = [f"ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAI{letter * 43} {letter}@there" for letter in "AB"]
root = pytest.mark.skipif(os.geteuid() != 0, reason="who is not root gives nothing away")


def changes(shown: Shown) -> int:
    assert not shown.report.reason(), shown.text
    return shown.report.tallies["pod"].changed


def twice(run: Run, text: str) -> list[int]:
    """Say what check mode says, and what two runs change."""
    return [changes(run(text, check=True)), *(changes(run(text)) for _ in range(2))]


def test_a_job_of_a_crontab_is_known_by_its_name_and_files_of_others_are_understood(run: Run, tmp_path: Path) -> None:
    table = tmp_path / "table"
    table.write_text("# mine\n#Ansible: backup\n1 2 * * * root /bin/old\n0 0 * * * root /bin/other\n")
    job = "- cron: {name: backup, minute: '5', hour: '*/2', user: root, cron_file: '{{ tmp }}/table', job: 'echo \"a\\b\" 50%'}"
    assert twice(run, job) == [1, 1, 0]
    line = '5 */2 * * * root echo "a\\b" 50%'
    assert table.read_text() == f"# mine\n#Ansible: backup\n{line}\n0 0 * * * root /bin/other\n"
    more = "- cron: {name: boot, special_time: reboot, user: root, cron_file: '{{ tmp }}/table', job: x, disabled: true}"
    path = "- cron: {name: PATH, env: true, user: root, cron_file: '{{ tmp }}/table', job: /bin}"
    assert twice(run, more) == [1, 1, 0] and twice(run, path) == [1, 1, 0]
    assert (
        table.read_text() == f'PATH="/bin"\n# mine\n#Ansible: backup\n{line}\n0 0 * * * root /bin/other\n#Ansible: boot\n#@reboot root x\n'
    )
    gone = "- cron: {name: backup, state: absent, cron_file: '{{ tmp }}/table'}"
    assert twice(run, gone) == [1, 1, 0] and "backup" not in table.read_text()
    assert "one line each" in run('- cron: {name: x, job: "a\\nb", cron_file: x, user: root}').report.reason()


@root
def test_keys_that_may_log_in_are_added_replaced_and_the_only_ones(run: Run, tmp_path: Path) -> None:
    file = tmp_path / "ssh/keys"
    file.parent.mkdir()
    file.write_text(f"# mine\n{KEYS[0]}\n")

    def keys(words: str, key: str) -> str:
        return f"- authorized_key: {{user: root, path: '{{{{ tmp }}}}/ssh/keys', key: '{key}'{words}}}"

    assert twice(run, keys("", KEYS[0])) == [0, 0, 0]
    assert twice(run, keys(", key_options: 'no-pty,command=\"a b\"'", KEYS[1])) == [1, 1, 0]
    assert file.read_text() == f'# mine\n{KEYS[0]}\nno-pty,command="a b" {KEYS[1]}\n' and file.stat().st_mode & 0o777 == 0o600
    assert twice(run, keys(", state: absent", KEYS[0])) == [1, 1, 0] and KEYS[0] not in file.read_text()
    assert twice(run, keys(", exclusive: true", KEYS[0])) == [1, 1, 0] and file.read_text() == f"{KEYS[0]}\n"
    assert "not an address" in run(keys("", "https://example.org/me.keys")).report.reason()
    assert "is no public key" in run(keys("", "hello")).report.reason()


def test_a_host_is_known_by_one_key_of_a_kind(run: Run, tmp_path: Path) -> None:
    file = tmp_path / "known"
    file.write_text("other.org ssh-rsa AAAAB3Nz\n")
    kept = file.read_text()
    parts = [" ".join(key.split()[:2]) for key in KEYS]
    texts = [
        f"- hosts: all\n  tasks:\n    - known_hosts: {{name: example.org, path: '{{{{ tmp }}}}/known', key: 'example.org {part}'}}"
        for part in parts
    ]
    # The letters are no key: ssh-keygen passes over such a line when it looks for a host.
    assert changes(run(texts[0], check=True)) == 1 and file.read_text() == kept
    assert changes(run(texts[0])) == 1 and file.read_text() == f"{kept}example.org {parts[0]}\n"
    assert "is not for 'example.org'" in run(texts[0].replace("key: 'example.org", "key: 'evil.org")).report.reason()


def test_settings_of_the_kernel_and_lines_of_fstab_stand_once(run: Run, tmp_path: Path) -> None:
    (tmp_path / "fstab").write_text("# mine\nLABEL=root / ext4 defaults 0 1\n")
    setting = "- sysctl: {name: vm.swappiness, value: '10', sysctl_file: '{{ tmp }}/d/s.conf', reload: false}"
    assert twice(run, setting) == [1, 1, 0] and twice(run, setting.replace("'10'", "'11'")) == [1, 1, 0]
    assert (tmp_path / "d/s.conf").read_text() == "vm.swappiness=11\n"
    line = "- mount: {path: /mnt/a b, src: 'LABEL=data', fstype: ext4, opts: 'noatime', state: present, fstab: '{{ tmp }}/fstab'}"
    assert twice(run, line) == [1, 1, 0]
    assert (tmp_path / "fstab").read_text() == "# mine\nLABEL=root / ext4 defaults 0 1\nLABEL=data /mnt/a\\040b ext4 noatime 0 0\n"
    assert twice(run, line.replace("present", "absent_from_fstab")) == [1, 1, 0] and "data" not in (tmp_path / "fstab").read_text()


def test_what_a_machine_is_stands_in_facts(run: Run) -> None:
    shown = run("""
        - hosts: all
          gather_facts: true
          tasks:
            - getent: {database: passwd, key: root}
            - debug: {msg: "{{ ansible_architecture }} {{ ansible_facts.system }} {{ trainyard_gpus | length }}"}
              when: ansible_facts['system'] == 'Linux' and ansible_env.HOME is defined
    """)
    assert "TASK [Gathering Facts]" in shown.text and f"{os.uname().machine} Linux " in shown.text, shown.text
    facts = cast(Mapping[str, Any], shown.facts())
    known = facts["ansible_facts"]
    assert known["nodename"] == facts["ansible_nodename"] == os.uname().nodename and known["user_uid"] == os.geteuid()
    assert known["os_family"] and known["processor_nproc"] >= 1 and known["memtotal_mb"] > 0 and len(known["date_time"]["date"]) == 10
    assert known["getent_passwd"]["root"][1] == "0" and isinstance(facts["trainyard_gpus"], list)


@pytest.mark.skipif(Path("/run/systemd/system").exists(), reason="systemd runs here")
def test_where_systemd_does_not_run_that_is_said_with_what_to_write(run: Run) -> None:
    for text in ("- systemd: {name: x, state: started}", "- service: {name: x-y-z, state: started}"):
        assert "by 'job: {start:" in run(text).report.reason()
    assert "needs 'state' or 'enabled'" in run("- service: {name: x}").report.reason()
    assert "is a hash" in run("- user: {name: ada, password: secret}").report.reason()
    assert "is a line such as" in run("- apt_repository: {repo: 'ppa:some/thing'}").report.reason()


def test_a_run_that_only_checks_takes_for_made_what_an_earlier_task_would_make(run: Run) -> None:
    tasks = """
        - group: {name: t-group}
        - user: {name: t-user, group: t-group, groups: [t-other]}
        - authorized_key: {user: t-user, key: KEY}
        - service: {name: t-service, state: started}
        - timezone: {name: Nowhere/Here}
        - pip: {requirements: r.txt, chdir: /none/code, virtualenv: .venv}
        - get_url: {url: file:///none/data.tar, dest: /none/}
        - unarchive: {src: /none/data.tar, dest: /none/data, remote_src: true}
        - git: {repo: file:///none, dest: /none/code, key_file: /none/key}
    """.replace("KEY", KEYS[0])
    assert changes(run(tasks, check=True)) == 9
    for task in tasks.strip().splitlines()[1:]:
        assert run(task.strip()).report.exit_code == 2, task


SYSTEMCTL = """#!/bin/sh
state=$PWD/state
case "$*" in
  "show -p LoadState -- tick.timer") if [ -e $state/masked ]; then echo LoadState=masked; else echo LoadState=loaded; fi ;;
  "is-active -- tick.timer") if [ -e $state/active ]; then echo active; else echo inactive; fi ;;
  "mask -- tick.timer") : >$state/masked ;;
  "stop -- tick.timer") rm $state/active ;;
  "--global is-enabled -- all.service") [ -e $state/enabled ] && echo enabled || { echo disabled; exit 1; } ;;
  "--global enable -- all.service") : >$state/enabled ;;
  *) exit 1 ;;
esac
"""


@root
def test_what_is_masked_can_be_stopped_and_units_of_all_users_are_files(run: Run, tmp_path: Path) -> None:
    (tmp_path / "state").mkdir()
    (tmp_path / "state/active").touch()
    (tmp_path / "systemctl").write_text(SYSTEMCTL)
    (tmp_path / "systemctl").chmod(0o755)
    enter = f'mount -t tmpfs none /run && mkdir -p /run/systemd/system && cd {tmp_path} && PATH={tmp_path}:$PATH exec sh -c "$0"'
    if subprocess.run(["unshare", "-m", "sh", "-c", enter, "true"], capture_output=True, check=False).returncode:
        pytest.skip("this machine lets nobody mount")
    systemd = {"pod": Host(CommandTransport(["unshare", "-m", "sh", "-c", enter], "systemd"))}

    def unit(words: str) -> list[int]:
        text = f"- systemd: {{{words}}}"
        return [changes(run(text, hosts=systemd, check=True)), *(changes(run(text, hosts=systemd)) for _ in range(2))]

    assert unit("name: tick.timer, state: stopped, enabled: false, masked: true") == [1, 1, 0]
    assert not (tmp_path / "state/active").exists()
    assert "write 'masked: false'" in run("- systemd: {name: tick.timer, state: started}", hosts=systemd).report.reason()
    assert unit("name: all.service, scope: global, enabled: true") == [1, 1, 0]
    assert "no service none" in run("- systemd: {name: none, scope: global, enabled: true}", hosts=systemd).report.reason()
    assert "leave one out" in run("- systemd: {name: x, scope: global, state: started}").report.reason()
