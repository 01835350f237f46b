"""Mistakes are found when a playbook is read: at the word, with the word that was meant, before anything connects."""

from __future__ import annotations

import textwrap
from pathlib import Path

import pytest

from trainyard import playbook
from trainyard.errors import UserError
from trainyard.playbook import keywords
from trainyard.playbook.actions import ACTIONS
from trainyard.playbook.model import Block, Task, tasks_of

TASK = "- hosts: all\n  tasks:\n    - "

MISTAKES = [
    # text after "- hosts: all\n  tasks:\n    - ", place, words of the message
    ("shell: ls\n      regsiter: out", "4:7", "unknown keyword 'regsiter' in a task (did you mean 'register'?)"),
    ("name: x", "3:7", "the task has no action, such as shell"),
    ("shell: ls\n      command: ls", "4:7", "the task has two actions: shell and command"),
    ("shel: ls", "3:7", "unknown keyword 'shel' in a task (did you mean 'shell'?)"),
    ("shell: ls\n      deletgate_to: localhost", "4:7", "did you mean 'delegate_to'"),
    ("shell: ls\n      async: 60", "4:7", "'async' is not supported in a task: start it with the 'job' action"),
    ("ufw: {rule: allow}", "3:7", "use 'command: ufw ...'"),
    ("shell: ls\n      with_list_of: [1]", "4:7", "'with_list_of' is not supported in a task: there are with_items"),
    ("ansible.builtin.shel: ls", "3:7", "there is no action 'ansible.builtin.shel' (did you mean 'shell'?)"),
    ("community.docker.docker_container: {name: x}", "3:7", "is not supported in a task: use 'command: docker"),
    ("include: none.yml", "3:16", "there is no file"),
    ("include: '{{ x }}.yml'", "3:16", "cannot be an expression: use 'include_tasks'"),
    ("import_tasks: play.yml\n      register: y", "3:21", "includes itself"),
    ("block: [{shell: ls}]\n      register: y", "4:7", "unknown keyword 'register' in a block"),
    ("copy: {content: x, dset: /x}", "3:26", "'copy' has no argument 'dset' (did you mean 'dest'?)"),
    ("copy: {content: x}", "3:13", "'copy' needs 'dest'"),
    ("copy: {dest: /x}", "3:13", "'copy' needs exactly one of: src, content"),
    ("copy: {src: a, content: b, dest: /x}", "3:13", "needs exactly one of: src, content"),
    ("copy: {content: x, dest: /x, mode: 644}", "3:42", "must be a mode such as 0644 or u=rwX,go=r, not 644"),
    ("copy: /etc/passwd", "3:13", "'copy' takes arguments: src"),
    ("copy: {src: a, dest: b, sha256: abc}", "3:39", "64 hex characters"),
    ("shell:", "3:13", "'shell' needs 'cmd'"),
    ("shell: [a, b]", "3:14", "'shell' takes arguments: cmd"),
    (
        "file: {path: /x, state: dirctory}",
        "3:31",
        "touch, file, not 'dirctory' (did you mean 'directory'?)",
    ),
    ("wait_for: {path: /x, timeout: soon}", "3:37", "'timeout' of 'wait_for'"),
    ("wait_for: {port: 80, regex: x}", "3:17", "'regex' goes with 'path'"),
    ("job: {start: /j}", "3:12", "'start' goes with 'command'"),
    ("job: {wait: /j, command: x}", "3:12", "'command' goes with 'start'"),
    ("job: {start: /j, command: x, wait: /j}", "3:12", "exactly one of: start, wait, stop, status"),
    ("set_fact: {a-b: 1}", "3:18", "'a-b' is not a variable name"),
    ("debug: '{{ x + }}'", "3:14", "broken expression"),
    ("debug: |\n        one\n        {{ two", "5:1", "broken expression"),
    ("shell: ls\n      when: x ==", "4:13", "broken expression"),
    ("shell: ls\n      when: '{{ x }} and y'", "4:13", "a condition is a bare expression"),
    ("shell: ls\n      when: 3", "4:13", "expected a condition"),
    ("shell: ls\n      loop: 3", "4:13", "'loop' is a list or an expression"),
    ("shell: ls\n      loop: [1]\n      loop_control: {lable: x}", "5:22", "did you mean 'label'"),
    ("shell: ls\n      register: 1x", "4:17", "'1x' is not a variable name"),
    ("shell: ls\n      notify: nobody", "3:7", "there is no handler 'nobody'"),
    ("shell: ls\n      no_log: maybe", "4:15", "expected true or false, found 'maybe'"),
    ("shell: ls\n      environment: X=1", "4:20", "'environment' is a mapping"),
    ("shell: ls\n      vars: {1a: x}", "4:14", "is not a variable name"),
    ("shell: ls\n      shell: pwd", "4:7", "key 'shell' is given twice"),
    ("rescue: [{shell: ls}]", "3:7", "'rescue' and 'always' need a 'block'"),
    ("block: [{shell: ls}]\n      retries: 3", "4:7", "unknown keyword 'retries' in a block"),
    ("just words", "3:7", "a task is a mapping"),
]


@pytest.mark.parametrize(("text", "place", "words"), MISTAKES, ids=[case[0].split("\n")[-1].strip()[:50] for case in MISTAKES])
def test_a_mistake_is_told_at_its_place(tmp_path: Path, text: str, place: str, words: str) -> None:
    path = tmp_path / "play.yml"
    path.write_text(TASK + text + "\n")
    with pytest.raises(UserError) as caught:
        playbook.load(path)
    assert words in caught.value.message
    assert str(caught.value.where) == f"{path}:{place}"
    assert caught.value.exit_code == 2


PLAYS = [
    ("", "1:1", "a playbook is a list of plays"),
    ("a: b", "1:1", "a playbook is a list of plays"),
    ("- tasks: []", "1:3", "a play needs 'hosts'"),
    ("- conection: local\n  hosts: all", "1:3", "unknown keyword 'conection' in a play"),
    ("- hosts: all\n  roles: [x]", "2:11", "there is no role 'x' in"),
    ("- hosts: all\n  strategy: debug", "2:13", "'strategy: debug' is not supported: there are linear, free"),
    ("- hosts: all\n  handlers:\n    - shell: ls", "3:7", "a handler needs a 'name'"),
    ("- hosts: all\n  handlers:\n    - {name: a, shell: ls}\n    - {name: a, shell: ls}", "4:8", "two handlers 'a'"),
    ("- hosts: all\n  tasks: {shell: ls}", "2:10", "'tasks' must be a list"),
    ("- hosts: [true]", "1:10", "'hosts' must be a text or a list of texts"),
    ("- hosts: all\n  tasks:\n   - shell: a\n  - b", "4:3", "not valid YAML"),
]


@pytest.mark.parametrize(("text", "place", "words"), PLAYS, ids=[case[2] for case in PLAYS])
def test_a_mistake_in_a_play_is_told_at_its_place(tmp_path: Path, text: str, place: str, words: str) -> None:
    path = tmp_path / "play.yml"
    path.write_text(text + "\n")
    with pytest.raises(UserError) as caught:
        playbook.load(path)
    assert words in caught.value.message
    assert str(caught.value.where) == f"{path}:{place}"


def test_a_missing_file_and_a_missing_vars_file_are_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="there is no such file"):
        playbook.load(tmp_path / "none.yml")
    (tmp_path / "p.yml").write_text("- hosts: all\n  vars_files: none.yml\n")
    with pytest.raises(UserError, match=r"there is no file .*none\.yml"):
        playbook.load(tmp_path / "p.yml")


def test_an_include_of_itself_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.yml").write_text("- include: b.yml\n")
    (tmp_path / "b.yml").write_text("- include: a.yml\n")
    (tmp_path / "p.yml").write_text("- hosts: all\n  tasks:\n    - include: a.yml\n")
    with pytest.raises(UserError, match="includes itself"):
        playbook.load(tmp_path / "p.yml")


def test_what_stands_around_a_task_is_inherited(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub/more.yml").write_text("- debug: inner\n  tags: d\n  vars: {v: task}\n")
    (tmp_path / "p.yml").write_text(
        textwrap.dedent("""
        - hosts: all
          tags: a
          environment: {E: play}
          tasks:
            - block:
                - include: sub/more.yml
                  tags: [c]
                  vars: {v: include, w: include}
                  when: two
              when: one
              tags: b
              environment: {E: block}
              ignore_errors: true
              timeout: 5
              no_log: true
              delegate_to: localhost
        """)
    )
    (play,) = playbook.load(tmp_path / "p.yml").plays
    task, _ = tasks_of(play.tasks)  # behind it stand the handlers
    assert isinstance(play.tasks[0], Block) and isinstance(task, Task)
    assert task.tags == {"a", "b", "c", "d"}
    assert [condition.sources for condition in task.when] == [("one",), ("two",)]
    assert [value.render({}) for value in task.environment] == [{"E": "play"}, {"E": "block"}]
    assert {name: value.render({}) for name, value in task.vars.items()} == {"v": "task", "w": "include"}
    assert task.delegate_to is not None and task.delegate_to.render({}) == "localhost"
    assert (task.no_log, task.folder) == (True, tmp_path / "sub")


@pytest.mark.parametrize("word", sorted(set(keywords.INSTEAD) - set(ACTIONS)))
def test_every_word_known_from_elsewhere_is_refused_with_a_sentence(tmp_path: Path, word: str) -> None:
    path = tmp_path / "play.yml"
    path.write_text(TASK + f"debug: x\n      {word}: 1\n")
    with pytest.raises(UserError, match=f"'{word}' is not supported"):
        playbook.load(path)
