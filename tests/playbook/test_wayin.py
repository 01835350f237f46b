"""Which hosts a command line means, and what plays know of them by themselves."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from trainyard.cli.playverbs import play
from trainyard.playbook.__main__ import main
from trainyard.playbook.hosts import sources

HOSTS = """\
[web]
w1.example size=3 ansible_host=10.0.0.1
w2.example size="{{ 2 + 2 }}"
[db]
d1
[all:vars]
ansible_connection=local
"""


@pytest.fixture
def hosts(tmp_path: Path) -> str:
    (tmp_path / "hosts").write_text(HOSTS)
    return str(tmp_path / "hosts")


def write(path: Path, text: str) -> str:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return str(path)


def recap(out: str) -> list[str]:
    return [line.split()[0] for line in out.partition("PLAY RECAP")[2].splitlines() if "ok=" in line]


def test_plays_know_which_hosts_there_are(tmp_path: Path, hosts: str, capsys: pytest.CaptureFixture[str]) -> None:
    checks = [
        "inventory_hostname_short == inventory_hostname.split('.')[0]",
        "groups.web == ['w1.example', 'w2.example'] and groups['all'] | length == 3 and groups.ungrouped == []",
        "group_names == (['db'] if inventory_hostname == 'd1' else ['web'])",
        "hostvars['w2.example'].size == 4 and hostvars['w1.example']['ansible_host'] == '10.0.0.1'",
        "hostvars.d1.ansible_host == 'd1' and hostvars.d1.kept == 'of d1' and 'nobody' not in hostvars",
        "hostvars | length == 3 and (hostvars.keys() | list) == groups.all",
        "ansible_play_hosts == groups.all and play_hosts == ansible_play_batch and ansible_play_hosts_all == groups.all",
        f"inventory_file == '{hosts}' and inventory_dir == '{tmp_path}' and playbook_dir == '{tmp_path}'",
        "ansible_play_name == 'first' and not ansible_check_mode and not ansible_diff_mode",
    ]
    tasks = "".join(f'        - "{check}"\n' for check in checks)
    text = (
        "- name: first\n  hosts: all\n  tasks:\n    - set_fact: {kept: 'of {{ inventory_hostname }}'}\n"
        f"    - assert:\n        that:\n{tasks}"
    )
    code = main([write(tmp_path / "play.yml", text), "-i", hosts])
    assert code == 0, capsys.readouterr().out


def test_a_host_that_fails_is_no_longer_among_those_of_the_play(tmp_path: Path, hosts: str, capsys: pytest.CaptureFixture[str]) -> None:
    text = """\
- hosts: web
  tasks:
    - assert: {that: "inventory_hostname != 'w1.example'"}
    - debug: {msg: "left {{ ansible_play_hosts }} of {{ ansible_play_hosts_all | length }}"}
"""
    assert main([write(tmp_path / "play.yml", text), "-i", hosts]) == 2
    assert "left ['w2.example'] of 2" in capsys.readouterr().out


def test_a_limit_leaves_of_the_plays_hosts_those_that_it_names(tmp_path: Path, hosts: str, capsys: pytest.CaptureFixture[str]) -> None:
    file = write(tmp_path / "play.yml", "- hosts: web\n  tasks: [{debug: {msg: a}}]\n- hosts: db\n  tasks: [{debug: {msg: b}}]\n")
    assert main([file, "-i", hosts, "--limit", "w*:!w2*"]) == 0
    assert recap(capsys.readouterr().out) == ["w1.example"]
    assert main([file, "-i", hosts, "-l", "db", "-l", "w2.example"]) == 0
    assert recap(capsys.readouterr().out) == ["w2.example", "d1"]
    assert main([file, "-i", hosts, "--limit", "all:!web:!db"]) == 2
    assert "--limit all:!web:!db leaves no host of any play" in capsys.readouterr().err
    assert main([file, "-i", hosts, "--limit", "d2"]) == 2
    assert "there is no host and no group 'd2'" in capsys.readouterr().err


def test_the_hosts_of_a_play_may_be_an_expression(tmp_path: Path, hosts: str, capsys: pytest.CaptureFixture[str]) -> None:
    text = '- hosts: "{{ target | default(wanted) }}"\n  vars: {wanted: [d1, "web[0]"]}\n  tasks: [{debug: {msg: a}}]\n'
    file = write(tmp_path / "play.yml", text)
    assert main([file, "-i", hosts]) == 0
    assert recap(capsys.readouterr().out) == ["d1", "w1.example"]
    assert main([file, "-i", hosts, "-e", "target=web"]) == 0
    assert recap(capsys.readouterr().out) == ["w1.example", "w2.example"]


def test_several_playbooks_run_one_after_the_other_with_one_recap(
    tmp_path: Path, hosts: str, capsys: pytest.CaptureFixture[str]
) -> None:  # fmt: skip
    one = write(tmp_path / "one/a.yml", "- hosts: web\n  tasks:\n    - set_fact: {kept: 1}\n    - assert: {that: size == 3}\n")
    two = write(tmp_path / "two/b.yml", "- hosts: all\n  tasks: [{debug: {msg: '{{ v }} {{ kept | default(0) }} {{ playbook_dir }}'}}]\n")
    write(tmp_path / "two/group_vars/web.yml", "v: beside two\n")
    write(tmp_path / "two/group_vars/db.yml", "v: the db\n")
    assert main([one, two, "-i", hosts, "-f", "1"]) == 2
    out = capsys.readouterr().out
    assert out.count("PLAY RECAP") == 1 and out.count("PLAY [") == 2
    assert recap(out) == ["w1.example", "w2.example", "d1"]
    assert f"beside two 1 {tmp_path}/two" in out and f"the db 0 {tmp_path}/two" in out
    assert "w2.example" not in out.partition("PLAY [b")[2].partition("PLAY RECAP")[0]


def test_variables_of_the_command_line_are_texts_unless_a_mapping_says_what_they_are(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:  # fmt: skip
    text = '- hosts: all\n  vars: {base: /b}\n  tasks: [{debug: {msg: "{{ [a, b, c, d, e] | to_json }}"}}]\n'
    words = ["-e", "a=5 b=yes", "-e", "{c: 5, d: yes}", "-e", "e={{ base }}/x y"]
    assert main([write(tmp_path / "play.yml", text), *words]) == 0
    assert '["5", "yes", 5, true, "/b/x y"]' in capsys.readouterr().out


def test_a_pipe_that_nobody_writes_into_keeps_nobody_waiting(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:  # fmt: skip
    monkeypatch.setattr(sources, "PIPE", 0.02)
    os.mkfifo(tmp_path / "pipe")
    file = write(tmp_path / "play.yml", "- hosts: all\n  tasks: [{debug: {msg: a}}]\n")
    assert main([file, "-i", f"{tmp_path}/pipe"]) == 2
    assert "is a pipe into which nobody has written" in capsys.readouterr().err


def test_a_playbook_of_a_folder_below_finds_what_it_names_beside_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:  # fmt: skip
    (tmp_path / "plays/files").mkdir(parents=True)
    write(tmp_path / "plays/files/a", "a {{ 1 }}")
    write(tmp_path / "plays/b", "b {{ 1 }}")
    write(tmp_path / "plays/v.yml", "v: 1")
    write(
        tmp_path / "plays/play.yml",
        f"""
- hosts: all
  tasks:
    - copy: {{src: a, dest: {tmp_path}/copied}}
    - template: {{src: b, dest: {tmp_path}/rendered}}
    - include_vars: v.yml
    - {{copy: {{src: "{{{{ item }}}}", dest: {tmp_path}/globbed}}, with_fileglob: "*"}}
    - {{copy: {{src: "{{{{ item }}}}", dest: {tmp_path}/first}}, with_first_found: [c, b]}}
    - fetch: {{src: {tmp_path}/copied, dest: fetched, flat: true}}
""",
    )
    monkeypatch.chdir(tmp_path)
    assert main(["plays/play.yml"]) == 0, capsys.readouterr()
    got = [(tmp_path / name).read_text() for name in ("copied", "rendered", "globbed", "first", "plays/fetched")]
    assert got == ["a {{ 1 }}", "b 1", "a {{ 1 }}", "b {{ 1 }}", "a {{ 1 }}"]


def test_each_play_says_the_way_to_its_hosts(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    play = "- hosts: all\n  VARS\n  tasks: [{shell: 'echo {{ ansible_connection }}'}]\n"
    local, file = "vars: {ansible_connection: local}", tmp_path / "play.yml"
    assert main([write(file, play.replace("VARS", local)), "-i", "h1,"]) == 0
    write(tmp_path / "v.yml", "ansible_connection: local")
    assert main([write(file, play.replace("VARS", "vars_files: v.yml")), "-i", "h1,"]) == 0
    other = play.replace("VARS", "vars: {ansible_connection: smoke}")
    assert main([write(file, play.replace("VARS", local) + other), "-i", "h1,"]) == 2
    said = capsys.readouterr()
    assert "play.yml:5:30: h1: there is no connection 'smoke'" in said.err and "PLAY" not in said.out.splitlines()[-3:]
    two = play.replace("all", "h1").replace("VARS", local) + "- hosts: h2\n  tasks: []\n"
    assert main([write(file, two), "-i", "h1,h2,"]) == 0


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--forks", "0"], "-f/--forks: a whole number above 0, not '0'\nAll options: python -m trainyard.playbook --help\n"),
        (["--fork-s"], "unrecognized arguments: --fork-s\nAll options: python -m trainyard.playbook --help\n"),
    ],
)
def test_an_option_that_is_wrong_is_told_in_a_sentence(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], words: list[str], said: str
) -> None:
    assert main([write(tmp_path / "play.yml", "- hosts: all\n  tasks: [{debug: {msg: a}}]\n"), *words]) == 2
    assert capsys.readouterr().err == said


def test_how_often_an_option_is_said_is_no_value_in_the_help() -> None:
    (verbose,) = (each for each in play.get_arguments() if each.names[0] == "verbose")
    assert (verbose.takes_value, verbose.kind) == (False, bool)
    verbose.set_value(True)
    verbose.set_value(True)
    assert verbose.value == 2


@pytest.mark.parametrize(
    ("option", "instead"), [("-K", "let sudo ask for none"), ("--private-key=k", "IdentityFile"), ("-J", "--vault-password-file")]
)
def test_an_option_that_people_know_from_ansible_is_refused_with_what_to_write(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], option: str, instead: str
) -> None:
    file = write(tmp_path / "play.yml", "- hosts: all\n  tasks: [{debug: {msg: a}}]\n")
    assert main([file, option]) == 2 and instead in capsys.readouterr().err
