"""Tasks that share a round trip: what comes of a play is what would come of it task by task, in fewer of them."""

from __future__ import annotations

import os
import random
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from tests.playbook.conftest import Run, Shown
from trainyard.errors import Unreachable
from trainyard.playbook import Host
from trainyard.remote.transport import CommandResult, LocalTransport, SshTransport

ROOT = Path(__file__).resolve().parents[2]


class Far:
    """This machine as if it were another one: it counts what is sent, and may be lost at the end of a certain answer."""

    def __init__(self, lost_after: str | None = None) -> None:
        self.inner, self.name, self.commands, self.lost_after = LocalTransport(), "pod", list[str](), lost_after

    def exec(self, command: str, *words: Any, **more: Any) -> CommandResult:
        self.commands.append(command)
        if self.lost_after is None:
            return self.inner.exec(command, *words, **more)
        given, mark = bytearray(), self.lost_after.encode()

        def on_stdout(data: bytes) -> None:
            # The last bytes that come through are those before the mark.
            before = len(given)
            given.extend(data)
            more["on_stdout"](bytes(given[before : given.find(mark) if mark in given else len(given)]))

        self.inner.exec(command, *words, **{**more, "on_stdout": on_stdout})
        self.lost_after = None
        raise Unreachable("the connection was lost")

    def close(self) -> None: ...

    def __enter__(self) -> Far:
        return self

    def __exit__(self, *_: object) -> None: ...


def far(run: Run, text: str, t: Far | None = None, **options: Any) -> tuple[Shown, Far]:
    t = t or Far()
    return run(text, hosts={"pod": Host(t)}, **options), t


def out(shown: Shown, name: str) -> object:
    result = shown.facts()[name]
    assert isinstance(result, Mapping)
    return result["stdout"]


def test_tasks_that_need_no_answer_of_each_other_go_in_one_round_trip(run: Run, tmp_path: Path) -> None:
    shown, t = far(run, """
        - file: {path: "{{ tmp }}/d", state: directory}
        - copy: {content: "one\\n", dest: "{{ tmp }}/d/one"}
        - {shell: 'cat {{ tmp }}/d/one; echo e >&2', register: one}
        - {command: "false", when: tmp == ''}
        - debug: {msg: here}
        - {shell: cat, args: {stdin: given}, register: two, when: no_answer is undefined}
        - {command: "echo {{ item }}", loop: [a, b], register: items_}
    """.replace("cat, args: {stdin: given}", "{cmd: cat, stdin: given}"))  # fmt: skip
    assert len(t.commands) == 1 and shown.report.exit_code == 0
    assert (out(shown, "one"), out(shown, "two")) == ("one", "given")
    items = shown.facts()["items_"]
    assert isinstance(items, Mapping) and [each["stdout"] for each in items["results"]] == ["a", "b"]
    assert str(shown.report.tallies["pod"]).split()[:2] == ["ok=6", "changed=5"] and "skipping: [pod]" in shown.lines


@pytest.mark.parametrize(
    "needs",
    [
        '{shell: "echo {{ first.stdout }}", register: last}',
        '{shell: echo 1, when: first.rc == 0, register: last}',
        '{shell: "echo {{ later }}", register: last}',
        '{shell: "echo {{ item }}", loop: "{{ first.stdout_lines }}", register: all_}',
        '{shell: echo $N, environment: {N: "{{ first.stdout }}"}, register: last}',
        '{shell: "echo {{ own }}", vars: {own: "{{ first.stdout }}"}, register: last}',
        '{template: {src: t.j2, dest: "{{ tmp }}/made"}}',
        '{shell: echo 1, when: first is defined, register: last}',
    ],
)  # fmt: skip
def test_a_task_that_needs_an_answer_waits_for_it(run: Run, tmp_path: Path, needs: str) -> None:
    (tmp_path / "t.j2").write_text("{{ later }}")
    shown, t = far(run, f"""
        - hosts: all
          vars: {{later: "{{{{ first.stdout }}}}"}}
          tasks:
            - {{shell: echo 0, register: first}}
            - {{shell: echo 1, register: first}}
            - {needs}
    """)  # fmt: skip
    assert len(t.commands) == 2 and shown.report.exit_code == 0
    made = (tmp_path / "made").read_text() if "made" in needs else out(shown, "last") if "last" in needs else "1"
    assert made == "1" and ("all_" not in needs or "=> (item=1)" in shown.text)


def test_what_is_said_of_the_host_is_waited_for(run: Run) -> None:
    shown, t = far(run, """
        - setup:
        - {shell: "echo {{ ansible_system | default('nothing') }}", register: system}
    """)  # fmt: skip
    assert out(shown, "system") == "Linux" and len(t.commands) == 2


def test_nothing_runs_behind_what_failed(run: Run, tmp_path: Path) -> None:
    for fails in (
        "shell: echo no >&2; exit 3",
        '{shell: "true", failed_when: true}',
        '{shell: "echo x", failed_when: "\'x\' in result.stdout"}',
        "assert: {that: 1 == 2}",
        '{shell: "true", changed_when: result.nothing.at_all}',
        'copy: {content: a, dest: "{{ tmp }}/"}',
        '{command: "test {{ item }} = a", loop: [a, b, a]}',
    ):
        shown, _ = far(run, f"- shell: 'true'\n- {fails}\n- shell: touch {{{{ tmp }}}}/far")
        assert shown.report.exit_code == 2 and not (tmp_path / "far").exists(), fails


def test_what_follows_a_failure_that_is_ignored_runs_once(run: Run, tmp_path: Path) -> None:
    shown, t = far(run, """
        - shell: echo 1 >>{{ tmp }}/log
        - {shell: "echo 2 >>{{ tmp }}/log; exit 1", ignore_errors: true}
        - shell: echo 3 >>{{ tmp }}/log
        - {shell: "echo {{ item }} >>{{ tmp }}/log; test {{ item }} != 5", loop: [4, 5, 6], ignore_errors: true}
        - block:
            - shell: echo 7 >>{{ tmp }}/log
            - shell: echo 8 >>{{ tmp }}/log; exit 1
            - shell: echo never >>{{ tmp }}/log
          rescue: [{shell: "echo 9 >>{{ tmp }}/log"}]
    """)  # fmt: skip
    assert (tmp_path / "log").read_text().split() == list("123456789") and shown.report.exit_code == 0
    assert len(t.commands) < 9


def test_a_lost_link_leaves_the_answers_that_came_and_names_what_may_have_run(run: Run, tmp_path: Path) -> None:
    shown, t = far(run, """
        - {name: one, shell: echo first}
        - {name: two, shell: echo second}
        - {name: three, shell: "echo third >>{{ tmp }}/log"}
    """, Far("second"))  # fmt: skip
    tally = shown.report.tallies["pod"]
    assert (tally.ok, tally.unreachable, shown.report.exit_code) == (1, 1, 5) and len(t.commands) == 1
    assert "may have run, up to 'three'" in shown.report.reason() and "TASK [three]" not in shown.text


def test_what_may_be_done_twice_is_done_again_when_all_that_was_sent_with_it_may_be(run: Run, tmp_path: Path) -> None:
    shown, t = far(run, """
        - hosts: all
          tasks:
            - {shell: echo first, register: one}
            - {copy: {content: a, dest: "{{ tmp }}/a"}}
            - {copy: {content: b, dest: "{{ tmp }}/b"}, notify: seen}
            - {stat: {path: "{{ tmp }}/b"}}
          handlers: [{name: seen, shell: "touch {{ tmp }}/seen"}]
    """, Far("first"))  # fmt: skip
    tally = shown.report.tallies["pod"]
    assert shown.report.exit_code == 5 and len(t.commands) == 1 and (tmp_path / "b").read_text() == "b", "a command is not sent twice"
    shown, t = far(run, """
        - hosts: all
          tasks:
            - {stat: {path: /nothing-is-there}}
            - {copy: {content: c, dest: "{{ tmp }}/c"}}
            - {copy: {content: d, dest: "{{ tmp }}/d"}, notify: seen}
            - {stat: {path: "{{ tmp }}/d"}}
          handlers: [{name: seen, shell: "touch {{ tmp }}/seen"}]
    """, Far("exists"))  # fmt: skip
    tally = shown.report.tallies["pod"]
    assert (shown.report.exit_code, tally.ok, tally.changed) == (0, 5, 3), shown.text
    assert (tmp_path / "seen").exists() and "done again" not in shown.text.partition("copy")[0]


def test_a_command_that_may_have_run_with_what_was_lost_is_not_sent_again(run: Run, tmp_path: Path) -> None:
    shown, _ = far(run, """
        - {name: one, copy: {content: a, dest: "{{ tmp }}/a"}, ignore_unreachable: true}
        - {name: two, shell: "echo x >>{{ tmp }}/log", ignore_unreachable: true}
        - {name: three, shell: "echo y >>{{ tmp }}/log"}
    """, Far("dest"))  # fmt: skip
    assert (tmp_path / "log").read_text() == "x\ny\n" and shown.report.exit_code == 5, shown.text
    assert "'three' was sent with what was lost before it, and may have run" in shown.report.reason()


@pytest.mark.parametrize(
    "changing",
    [
        "{{ 1000000 | random }}", "{{ ['a', 'b', 'c', 'd', 'e', 'f', 'g'] | shuffle | join }}", "{{ '%s' | strftime }}{{ now() }}",
        "{{ 'x' | password_hash }}", "{{ lipsum() }}", "{{ lookup('pipe', 'mktemp -u', errors='ignore') }}", "{{ drawn }}",
    ],
)  # fmt: skip
def test_what_is_another_each_time_is_asked_for_once(run: Run, tmp_path: Path, changing: str) -> None:
    shown, t = far(run, """
        - hosts: all
          vars: {drawn: "{{ 1000000 | random }}"}
          tasks:
            - shell: "true"
            - {command: {argv: [printf, "%s", "CHANGING"]}, register: said}
            - shell: "true"
    """.replace("CHANGING", changing))  # fmt: skip
    said = shown.facts()["said"]
    assert isinstance(said, Mapping) and said["stdout"] == said["cmd"][2] != "" and len(t.commands) == 3


def test_a_host_that_can_do_nothing_with_several_at_once_is_tried_once(run: Run, tmp_path: Path) -> None:
    t = Far()
    (tmp_path / "dd").write_text("#!/bin/sh\nexit 1\n")
    (tmp_path / "dd").chmod(0o755)
    t.inner = LocalTransport(env={"PATH": f"{tmp_path}:{os.environ['PATH']}"})
    shown, _ = far(run, "- shell: 'true'\n- shell: 'true'\n- shell: 'true'\n- shell: 'true'", t)
    assert shown.report.exit_code == 0 and len(t.commands) == 5


def test_a_source_that_a_task_before_it_has_made_is_sent_as_it_is_then(run: Run, tmp_path: Path) -> None:
    (tmp_path / "src").write_text("old")
    shown, t = far(run, """
        - shell: printf new >{{ tmp }}/src
        - copy: {src: "{{ tmp }}/src", dest: "{{ tmp }}/dest"}
    """)  # fmt: skip
    assert (tmp_path / "dest").read_text() == "new" and shown.report.exit_code == 0 and len(t.commands) == 2


def test_a_lookup_that_runs_something_runs_it_once(run: Run, tmp_path: Path) -> None:
    far(run, """
        - shell: "true"
        - shell: "echo {{ lookup('pipe', 'echo x >>' ~ tmp ~ '/ran; echo y') }} >{{ tmp }}/out"
        - shell: "true"
    """)  # fmt: skip
    assert (tmp_path / "ran").read_text() == "x\n" and (tmp_path / "out").read_text() == "y\n"


def test_what_may_write_on_when_it_has_ended_is_the_last_of_its_round_trip(run: Run) -> None:
    _, t = far(run, "- shell: sleep 0.1 & echo a\n- shell: echo b\n- shell: echo c 2>&1 && true")
    assert len(t.commands) == 2
    for alone in ("timeout: 60", "until: result.rc == 0", "delegate_to: localhost"):
        _, t = far(run, f"- shell: echo a\n- {{shell: echo b, {alone}}}\n- shell: echo c")
        assert len(t.commands) == (2 if "delegate" in alone else 3), alone


def test_tasks_of_one_user_go_together_and_those_of_another_by_themselves(run: Run, tmp_path: Path) -> None:
    if os.geteuid():
        pytest.skip("only root becomes another user here without being asked")
    tmp_path.chmod(0o777)
    shown, t = far(run, """
        - hosts: all
          become: true
          become_user: nobody
          tasks:
            - {shell: id -un, register: a}
            - {shell: id -un, register: b}
            - {shell: id -un, register: c, become: false}
            - {shell: id -un, register: d, vars: {ansible_become: "{{ tmp == '' }}"}}
    """)  # fmt: skip
    assert [out(shown, name) for name in "abcd"] == ["nobody", "nobody", "root", "root"] and len(t.commands) == 2


def test_a_user_whom_nobody_can_become_fails_the_first_of_a_round_trip(run: Run, tmp_path: Path) -> None:
    shown, _ = far(run, """
        - hosts: all
          become: true
          become_user: nobody-is-called-so
          tasks:
            - shell: touch {{ tmp }}/a
            - shell: touch {{ tmp }}/b
    """)  # fmt: skip
    assert shown.report.exit_code == 2 and "does not lead to the user" in shown.report.reason()
    assert not (tmp_path / "a").exists() and not (tmp_path / "b").exists()


def test_the_exit_code_of_a_script_says_that_an_action_has_failed_or_the_action_says_that_it_does_not() -> None:
    """What comes after it is sent together with it: a reader that finds a failure finds it too late."""
    for path in (ROOT / "trainyard/playbook/actions").glob("*.py"):
        text = path.read_text()
        assert '"failed"' not in text or "decides=True" in text, f"{path}: let its script end with another code than 0, or say decides=True"


@pytest.mark.parametrize("more", ["", "\n- shell: echo b"])
def test_what_a_command_prints_without_end_is_counted_and_not_kept(run: Run, more: str) -> None:
    shown, _ = far(run, "- {shell: 'yes | head -c 9000000', register: much}" + more)
    much = shown.facts()["much"]
    assert isinstance(much, Mapping) and len(much["stdout"]) == (8 << 20) - 1 and much["stdout"].endswith("y\ny")
    assert much["msg"] == f"{9000000 - (8 << 20)} bytes more were printed, which are not kept: redirect them into a file"


def test_several_rounds_of_a_real_server_are_one(run: Run, ssh: SshTransport, tmp_path: Path) -> None:
    shown = run("""
        - copy: {content: "{{ 'x' * 300000 }}", dest: ~/big-of-a-test}
        - {shell: "wc -c <~/big-of-a-test; rm ~/big-of-a-test", register: size}
        - {shell: 'echo "$0" "$PWD"; cat', register: sees}
    """, hosts={"pod": Host(ssh)})  # fmt: skip
    assert out(shown, "size") == "300000" and shown.report.exit_code == 0


def _play(chance: random.Random) -> str:
    """Return a play that writes what it does into a file, by tasks of all kinds, some of which fail."""
    lines = list[str]()

    def task(depth: int) -> str:
        number = len(lines)
        lines.append("")
        ends = chance.choice(["true", "true", "true", "true", "false", "exit 7"])
        say = f"echo {number}.{{{{ item | default('') }}}} >>{{{{ tmp }}}}/log; echo o{number}; {ends}"
        more = chance.choice([
            "", "", "", "ignore_errors: true", "when: r.rc | default(1) == 0", "when: r.changed | default(false)", "loop: [a, b]",
            "failed_when: false", "failed_when: result.rc == 7", "changed_when: false", "changed_when: \"'o' in result.stdout\"",
            "loop: [x, y], ignore_errors: true", "when: false", "notify: h", "loop: \"{{ r.stdout_lines | default([]) }}\"",
        ])  # fmt: skip
        kind = chance.randrange(8)
        body = {
            0: f'copy: {{content: "{number} {{{{ r.stdout | default(0) }}}}", dest: "{{{{ tmp }}}}/f{chance.randrange(3)}"}}',
            1: f"set_fact: {{v: {number}}}",
            2: "debug: {msg: \"{{ v | default('none') }} {{ r.rc | default('none') }}\"}",
            3: "assert: {that: v | default(0) != 5}",
            4: f'file: {{path: "{{{{ tmp }}}}/d{chance.randrange(3)}", state: {chance.choice(["directory", "absent", "file"])}}}',
        }.get(kind, f'shell: "{say}"')
        if kind >= 5:
            more = ", ".join(filter(None, (more, chance.choice(["", "register: r"]))))
        elif "result" in more or "notify" in more:
            more = ""
        return f"- {{name: t{number}, {body}{', ' if more else ''}{more}}}"

    def nodes(depth: int, count: int) -> list[str]:
        made = list[str]()
        for _ in range(count):
            if depth < 2 and chance.random() < 0.15:
                made.append("- block:")
                made += ["    " + line for line in nodes(depth + 1, chance.randrange(1, 4))]
                made.append(f"  {chance.choice(['rescue', 'always'])}:")
                made += ["    " + line for line in nodes(depth + 1, 1)]
            else:
                made.append(task(depth))
        return made

    tasks = "\n".join("    " + line for line in nodes(0, chance.randrange(3, 14)))
    return f"- hosts: all\n  tasks:\n{tasks}\n  handlers: [{{name: h, shell: 'echo h >>{{{{ tmp }}}}/log'}}]"


def side_by_side(run: Run, text: str) -> tuple[Shown, list[int]]:
    """Run a play on two hosts; return how many round trips each took."""
    hosts = {name: Far() for name in ("a", "b")}
    shown = run(text, hosts={name: Host(t) for name, t in hosts.items()})
    return shown, [len(t.commands) for t in hosts.values()]


_LOGGED = """
- hosts: all
  MORE
  tasks:
    - {name: one, shell: "echo {{ inventory_hostname }}1 >>{{ tmp }}/log", register: one, failed_when: "result.rc != 0 or STOPS"}
    - {name: two, shell: "echo {{ inventory_hostname }}2 >>{{ tmp }}/log; sleep 0"}
    - {name: three, shell: "echo {{ inventory_hostname }}3 >>{{ tmp }}/log"}
"""


def test_hosts_that_need_not_wait_for_each_other_share_round_trips_too(run: Run, tmp_path: Path) -> None:
    shown, trips = side_by_side(run, _LOGGED.replace("MORE", "strategy: free").replace(', failed_when: "result.rc != 0 or STOPS"', ""))
    assert trips == [1, 1] and shown.report.exit_code == 0
    assert sorted((tmp_path / "log").read_text().split()) == ["a1", "a2", "a3", "b1", "b2", "b3"]
    shown, trips = side_by_side(run, """
        - hosts: all
          strategy: free
          tasks:
            - {shell: "echo {{ inventory_hostname }}", register: one}
            - {shell: "echo {{ hostvars['b'].one.stdout | default('nothing') }}", register: two}
            - {shell: "echo {{ ansible_play_hosts | length }}"}
            - {shell: exit 1, when: inventory_hostname == 'a'}
            - {shell: "echo {{ ansible_play_hosts | join }}", register: left}
    """)  # fmt: skip
    assert shown.facts("a")["two"]["stdout"] == "b" and shown.facts("b")["left"]["stdout"] == "b"  # type: ignore[index]


@pytest.mark.parametrize("more", ["gather_facts: false", "strategy: linear", "{strategy: free, any_errors_fatal: true}"])
def test_hosts_that_wait_for_each_other_do_each_task_before_any_does_the_next(run: Run, tmp_path: Path, more: str) -> None:
    fatal = "fatal" in more
    more = more.strip("{}").replace(", ", "\n  ")
    stops = "inventory_hostname == 'a'" if fatal else "false"
    shown, _ = side_by_side(run, _LOGGED.replace("MORE", more).replace("STOPS", stops))
    assert [word[1] for word in (tmp_path / "log").read_text().split()] == (["1", "1"] if fatal else list("112233"))
    assert shown.report.exit_code == (2 if fatal else 0)


def test_what_only_reads_shares_round_trips_on_several_hosts(run: Run, tmp_path: Path) -> None:
    shown, trips = side_by_side(run, """
        - {stat: {path: "{{ tmp }}"}, register: one}
        - {stat: {path: "{{ tmp }}/none"}, register: two}
        - {slurp: {src: "{{ tmp }}/play.yml"}, register: three}
        - {copy: {content: x, dest: "{{ tmp }}/{{ inventory_hostname }}"}}
        - {stat: {path: "{{ tmp }}/a"}, register: four}
    """)  # fmt: skip
    assert trips == [3, 3] and shown.report.exit_code == 0
    assert [shown.facts("b")[name]["stat"]["exists"] for name in ("one", "two", "four")] == [True, False, True]  # type: ignore[index]


def test_any_play_comes_to_the_same_as_task_by_task(run: Run, tmp_path: Path) -> None:
    seed = random.randrange(1 << 32)
    chance = random.Random(seed)
    sent = [0, 0]
    for number in range(12):
        text, seen = _play(chance), list[object]()
        for way in (0, 1):
            here = tmp_path / f"{number}-{way}"
            here.mkdir()
            t = Far()
            host = Host(t if way else Counting(t.commands))
            shown = run(text, hosts={"pod": host}, extra={"tmp": str(here)})
            files = {path.name: path.read_text() for path in here.iterdir() if path.is_file()}
            seen.append((shown.text.replace(str(here), ""), shown.report.exit_code, files, shown.report.reason().replace(str(here), "")))
            sent[way] += len(t.commands)
        assert seen[0] == seen[1], f"seed {seed}, play {number}:\n{text}"
    assert sent[1] < sent[0], f"seed {seed}: {sent}"


class Counting(LocalTransport):
    """This machine, which is asked task by task."""

    def __init__(self, commands: list[str]) -> None:
        super().__init__()
        self.commands = commands

    def exec(self, command: str, *words: Any, **more: Any) -> CommandResult:
        self.commands.append(command)
        return super().exec(command, *words, **more)
