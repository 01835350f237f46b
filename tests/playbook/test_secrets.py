"""Secrets of playbooks: read where they are encrypted, and in nothing that is shown."""

from __future__ import annotations

import textwrap
from pathlib import Path
from typing import Any

import pytest

from tests.playbook.conftest import Run
from trainyard.errors import UserError
from trainyard.playbook import Host
from trainyard.playbook.__main__ import main
from trainyard.playbook.vault import Sealed
from trainyard.remote.transport import CommandResult, LocalTransport

VALUE = """\
$ANSIBLE_VAULT;1.1;AES256
37303036646461346435383833396366353232393739306131653330396634333537356564373835
6537333463326334303564323462383439623234313666360a393530643333383062346165326235
35636661303361663332653331376230363564383133383039656663316361373766653337366230
3862353866396338610a306533613636323631623737393434656365333738353463343031663363
3436
"""
"""a-secret-value, encrypted with the password below by ansible-vault 2.19."""
FILE = """\
$ANSIBLE_VAULT;1.1;AES256
35303561303664663433383531363564383361363938313436303265346464626632306635623537
6362356638653030376236313066363166303434363762650a613232303464656130326431663763
39326366623234316534663233326264396464613961623937626339613635623064653262313232
6137653461393235630a613932386532656434363562343232353963383061376361393262393238
39333637653166326536656133323461663265663630356364336334643061653638653636626364
36383530316339333837326433303335336637396134653733343262343562626538306538303337
65346435616433643063663935396664376134313739346533333432336131656538343730623062
66633134613933343763346633643739316265306334656164643666396533313564663064356431
61373835623338376166666563343662353063363835656462336132306365643765
"""
"""db_password: in "quotes" it is; key: a private key of three lines."""


@pytest.fixture
def password(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "password"
    path.write_text("made-up password\n")
    monkeypatch.setenv("TRAINYARD_VAULT_PASSWORD_FILE", str(path))
    return path


def test_an_encrypted_value_is_read_and_never_shown(run: Run, tmp_path: Path, password: Path) -> None:
    shown = run(f"""
- hosts: all
  vars:
    token: !vault |
{textwrap.indent(VALUE, "      ")}
  tasks:
    - copy: {{content: "{{{{ token }}}}", dest: "{{{{ tmp }}}}/out"}}
    - debug: {{msg: "token={{{{ token }}}}"}}
    - shell: echo {{{{ token }}}}; exit 3
      loop: ["{{{{ token }}}}"]
      ignore_errors: true
    - assert: {{that: token == 'other', fail_msg: "{{{{ token }}}}"}}
    """)
    assert (tmp_path / "out").read_text() == "a-secret-value"
    assert "a-secret-value" not in shown.text and "token=***" in shown.text and shown.report.exit_code == 2
    assert "a-secret-value" not in shown.report.reason()


def test_a_file_of_variables_may_be_encrypted(run: Run, tmp_path: Path, password: Path) -> None:
    (tmp_path / "secret.yml").write_text(FILE)
    shown = run("""
- hosts: all
  vars_files: secret.yml
  tasks:
    - copy: {content: "{{ db_password }}", dest: "{{ tmp }}/out"}
    - debug: {msg: {all: "{{ [db_password, key] }}"}}
    - shell: printf '%s\\n' "$KEY"; exit 1
      environment: {KEY: "{{ key }}"}
    """)
    assert (tmp_path / "out").read_text() == 'in "quotes" it is'
    assert not any(word in shown.text for word in ("quotes", "BEGIN KEY", "c2VjcmV0LWxpbmU"))


def test_a_password_may_be_what_a_program_prints(tmp_path: Path, password: Path) -> None:
    password.write_text("#!/bin/sh\necho made-up password\n")
    password.chmod(0o755)
    assert Sealed(VALUE).render({}) == "a-secret-value"


@pytest.mark.parametrize(
    ("text", "word", "said"),
    [
        (VALUE, "another\n", "the password of .*/.* does not open this value"),
        (VALUE, "", "is empty"),
        (VALUE[:-40] + "\n", "made-up password\n", "no longer whole"),
        (VALUE.replace("1.1", "1.0"), "made-up password\n", "is for what ansible-vault has made"),
        ("plain", "made-up password\n", "is for what ansible-vault has made"),
        ("$ANSIBLE_VAULT;1.1;AES256\n6z\n", "made-up password\n", "no longer whole"),
    ],
)
def test_what_cannot_be_opened_is_told_without_a_word_of_it(password: Path, text: str, word: str, said: str) -> None:
    password.write_text(word)
    with pytest.raises(UserError, match=said):
        Sealed(text).render({})


def test_without_a_password_it_is_said_where_to_name_its_file(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TRAINYARD_VAULT_PASSWORD_FILE", raising=False)
    with pytest.raises(UserError, match="name its file: --vault-password-file, or TRAINYARD_VAULT_PASSWORD_FILE"):
        Sealed(VALUE).render({})


@pytest.mark.parametrize(
    ("tasks", "extra"),
    [
        ("- {name: one, shell: 'echo {{ token }}; exit 3'}", ["hf_token=hf_made_up_1"]),
        ("- {name: one, shell: 'exit 3'}", ['{"db": {"password": "hf_made_up_1"}}']),
        ("- {name: one, shell: 'exit 3', no_log: true}", ["rows=hf_made_up_1"]),
    ],
)
def test_the_command_that_goes_on_shows_no_secret_of_the_command_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], tasks: str, extra: list[str]
) -> None:
    path = tmp_path / "play.yml"
    path.write_text(f"- hosts: localhost\n  vars: {{token: x}}\n  tasks:\n    {tasks}\n")
    assert main([str(path), *(f"--extra-vars={text}" for text in extra)]) == 2
    shown = capsys.readouterr()
    assert "hf_made_up_1" not in shown.out + shown.err
    assert "to go on at that task, with the --extra-vars of this call that are not shown: " in shown.out + shown.err


def test_the_command_line_names_the_file_of_the_password(tmp_path: Path, password: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRAINYARD_VAULT_PASSWORD_FILE", str(tmp_path / "none"))
    (tmp_path / "secret.yml").write_text(FILE)
    path = tmp_path / "play.yml"
    path.write_text("- hosts: localhost\n  vars_files: secret.yml\n  tasks:\n    - assert: {that: '\"quotes\" in db_password'}\n")
    assert main([str(path), f"--vault-password-file={password}"]) == 0


def test_what_an_expression_hides_is_hidden_and_shown_only_where_it_holds_for_nothing(run: Run) -> None:
    shown = run("""
- hosts: all
  vars: {hide: true}
  tasks:
    - shell: echo secret-one; exit 1
      no_log: "{{ hide }}"
      ignore_errors: true
    - debug: {msg: not hidden}
      no_log: "{{ not hide }}"
    - debug: {msg: "{{ item }}"}
      no_log: "{{ item == 'secret-two' }}"
      loop: [secret-two, not hidden either]
    - block:
        - shell: echo secret-four; exit 1
      rescue:
        - debug: {msg: "{{ failed_result.stdout | default('nothing of it') }}"}
          no_log: false
      no_log: "{{ hide }}"
    """)
    assert "secret" not in shown.text and all(words in shown.text for words in ("not hidden\n", "not hidden either", "nothing of it"))


class Overheard(LocalTransport):
    """This machine; what it is sent as a command, anybody may read there."""

    def __init__(self) -> None:
        super().__init__()
        self.commands = list[str]()

    def exec(self, command: str, *words: Any, **more: Any) -> CommandResult:
        self.commands.append(command)
        return super().exec(command, *words, **more)


def test_no_ps_of_the_host_shows_what_is_in_environment_cron_or_the_address_of_git(run: Run, tmp_path: Path) -> None:
    t, value = Overheard(), "s3cret 'and' \\0101 ü\n$HOME!"
    shown = run("""
        - environment: {TOKEN: "{{ value }}"}
          hosts: all
          tasks:
            - shell: cat /proc/[0-9]*/cmdline 2>/dev/null >{{ tmp }}/ps; printf %s "$TOKEN" >{{ tmp }}/token; cat >{{ tmp }}/rest
              args: {stdin: its own, stdin_add_newline: false, creates: "{{ tmp }}/none", chdir: /}
            - {shell: cat, register: nothing, timeout: 60}
            - {file: {path: "$TOKEN", state: directory}, environment: {TOKEN: "{{ tmp }}/made"}}
            - {cron: {name: job, job: echo s3cret, cron_file: "{{ tmp }}/table", user: root}}
            - {git: {repo: "file://s3cret@{{ tmp }}/none", dest: "{{ tmp }}/checkout"}, ignore_errors: true}
    """, hosts={"pod": Host(t)}, extra={"value": value})  # fmt: skip
    assert shown.report.exit_code == 0 and "s3cret" not in "".join(t.commands)
    assert "s3cret" not in (tmp_path / "ps").read_bytes().decode(errors="replace")
    assert (tmp_path / "token").read_text() == value and (tmp_path / "rest").read_text() == "its own"
    assert shown.facts()["nothing"]["stdout"] == "" and (tmp_path / "made").is_dir()  # type: ignore[index]
    assert "* * * * * root echo s3cret" in (tmp_path / "table").read_text()
