"""What people expect of plays: order, conditions, loops, retries, handlers, blocks, tags, counters, exit codes."""

from __future__ import annotations

import os
import threading
from pathlib import Path
from typing import Any

import pytest

from tests.playbook.conftest import Run
from tests.remote.quiet import is_quiet
from trainyard import playbook
from trainyard.errors import PodFailed, UserError
from trainyard.playbook import Host
from trainyard.remote.transport import CommandResult, LocalTransport, SshTransport
from trainyard.secret import Secret


def local(*names: str) -> dict[str, Host]:
    return {name: Host(LocalTransport(), {"me": name}) for name in names}


# ---- conditions and results


def test_a_registered_result_has_what_people_know(run: Run) -> None:
    shown = run("""
        - shell: printf 'a\\nb\\n'; echo e >&2; exit 3
          register: out
          ignore_errors: true
        - command: "true"
          when: false
          register: not_run
    """)
    out, not_run = shown.facts()["out"], shown.facts()["not_run"]
    assert isinstance(out, dict) and isinstance(not_run, dict)
    assert {key: out[key] for key in ("rc", "stdout", "stderr", "stdout_lines", "changed", "failed", "attempts")} == {
        "rc": 3, "stdout": "a\nb", "stderr": "e", "stdout_lines": ["a", "b"], "changed": True, "failed": True, "attempts": 1,
    }  # fmt: skip
    assert not_run["skipped"] is True and not_run["changed"] is False


def test_when_must_be_true_or_false(run: Run) -> None:
    shown = run("- command: 'true'\n  when: text", extra={"text": "yes"})
    assert shown.report.exit_code == 2 and "neither true nor false" in shown.report.reason()


def test_a_list_of_conditions_is_an_and(run: Run) -> None:
    shown = run("""
        - {set_fact: {a: 1}, when: [yes_, no_]}
        - {set_fact: {b: 1}, when: [yes_, not no_]}
    """, extra={"yes_": True, "no_": False})  # fmt: skip
    assert set(shown.facts()) == {"b"}


def test_output_of_a_pod_is_never_taken_for_a_template(run: Run) -> None:
    shown = run(
        """
        - shell: echo '{{ 7 * 7 }}'
          register: out
        - set_fact: {kept: "{{ out.stdout }}"}
        - shell: "printf %s {{ kept | quote }}"
          register: again
    """.replace("'{{ 7 * 7 }}'", "\"{{ '{' }}{ 7 * 7 }}\"")
    )
    assert shown.facts()["kept"] == "{{ 7 * 7 }}"
    again = shown.facts()["again"]
    assert isinstance(again, dict) and again["stdout"] == "{{ 7 * 7 }}"


def test_variables_are_rendered_when_read_and_keep_their_type(run: Run) -> None:
    shown = run("""
        - hosts: all
          vars: {path: "{{ base }}/x", base: "/{{ top }}", top: t, items_: "{{ count }}", count: [1, 2]}
          tasks:
            - set_fact: {path_: "{{ path }}", n: "{{ items_ | length }}", list_: "{{ items_ }}", text: "n={{ items_ | length }}"}
    """)
    assert shown.facts() == {"path_": "/t/x", "n": 2, "list_": [1, 2], "text": "n=2"}


def test_a_variable_defined_by_itself_is_told(run: Run) -> None:
    shown = run("- hosts: all\n  vars: {a: '{{ b }}', b: '{{ a }}'}\n  tasks:\n    - debug: '{{ a }}'")
    assert "is defined by itself" in shown.report.reason()


def test_precedence_is_host_then_play_then_task_then_result_then_extra(run: Run) -> None:
    def value(extra: dict[str, object], task: str, fact: str, host: dict[str, object], play: str = "v: play") -> object:
        shown = run(f"- hosts: all\n  vars: {{{play}}}\n  tasks:\n{fact}    - set_fact: {{out: '{{{{ v }}}}'}}\n{task}",
                    hosts={"pod": Host(LocalTransport(), host)}, extra=extra)  # fmt: skip
        return shown.facts()["out"]

    fact = "    - set_fact: {v: fact}\n"
    task = "      vars: {v: task}\n"
    assert value({}, "", "", {}) == "play"
    assert value({}, "", "", {"v": "host"}, "w: 1") == "host"
    assert value({}, "", "", {"v": "host"}) == "play"
    assert value({}, task, "", {"v": "host"}) == "task"
    assert value({}, task, fact, {"v": "host"}) == "fact"
    assert value({"v": "extra"}, task, fact, {"v": "host"}) == "extra"


def test_an_unknown_variable_is_found_before_anything_runs(run: Run, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"the variable 'workspce' is not defined \(did you mean 'workspace'\?\)") as caught:
        run("- shell: touch {{ tmp }}/ran\n- debug: '{{ workspce }}'", extra={"workspace": "/w"})
    assert str(caught.value.where).endswith("play.yml:4:14") and not (tmp_path / "ran").exists()


def test_a_variable_that_is_tested_for_may_be_missing(run: Run) -> None:
    shown = run("""
        - {set_fact: {a: "{{ maybe | default(3) }}"}}
        - {set_fact: {b: 1}, when: maybe is defined and maybe > 2}
    """)
    assert shown.facts() == {"a": 3}


# ---- loops and patience


def test_a_loop_reports_each_item_and_its_results(run: Run) -> None:
    shown = run("""
        - shell: echo {{ item.n }}; exit {{ item.rc }}
          loop: [{n: 1, rc: 0}, {n: 2, rc: 4}, {n: 3, rc: 0}]
          loop_control: {label: "number {{ item.n }}"}
          when: item.n != 3
          register: out
          ignore_errors: true
    """)
    out = shown.facts()["out"]
    assert isinstance(out, dict)
    assert [result.get("rc") for result in out["results"]] == [0, 4, None]
    assert [result["item"]["n"] for result in out["results"]] == [1, 2, 3]
    assert (out["changed"], out["failed"], out["skipped"]) == (True, True, False)
    assert "changed: [pod] => (item=number 1)" in shown.text and "skipping: [pod] => (item=number 3)" in shown.text


def test_a_loop_over_nothing_is_skipped(run: Run) -> None:
    shown = run("- {command: x, loop: '{{ none_ }}', register: out}", extra={"none_": []})
    assert shown.report.tallies["pod"].skipped == 1


def test_a_loop_needs_a_list(run: Run) -> None:
    assert "'loop' needs a list" in run("- {command: x, loop: '{{ text }}'}", extra={"text": "abc"}).report.reason()


def test_retries_are_further_attempts_and_the_delay_is_kept(run: Run, tmp_path: Path) -> None:
    shown = run("""
        - shell: echo x >>{{ tmp }}/tries; wc -l <{{ tmp }}/tries
          register: out
          until: out.stdout | int == 3
          retries: 5
          delay: 7
    """)
    out = shown.facts()["out"]
    assert isinstance(out, dict) and out["attempts"] == 3 and shown.clock.slept == [7, 7]
    assert "FAILED - RETRYING: [pod]: shell (5 retries left)." in shown.lines


@pytest.mark.parametrize("word", ["delay: 1e+308", "retries: 99999999999999999999", "timeout: 1e+12", "delay: 'nan'"])
def test_more_patience_than_a_life_has_is_refused_in_a_sentence(run: Run, word: str) -> None:
    shown = run(f"- {{command: 'false', retries: 1, {word}}}" if "retries" not in word else f"- {{command: 'false', {word}}}")
    assert "a number of tries or seconds must be" in shown.report.reason()


def test_what_a_host_prints_does_not_speak_to_the_terminal(run: Run) -> None:
    shown = run("""
        - shell: printf 'a\\033]0;title\\007\\tb'; exit 1
          ignore_errors: true
        - debug: {msg: "\\e[2Jgone"}
    """)
    assert "  stdout: a\\x1b]0;title\\x07\tb" in shown.lines and "  \\x1b[2Jgone" in shown.lines


def test_patience_ends_after_the_first_attempt_and_n_retries(run: Run, tmp_path: Path) -> None:
    shown = run("- {shell: 'echo x >>{{ tmp }}/tries', until: false, register: out}")
    assert shown.report.exit_code == 2 and "'until' does not hold after 4 attempts" in shown.report.reason()
    assert (tmp_path / "tries").read_text().count("x") == 4 and shown.clock.slept == [5, 5, 5]


def test_retries_without_until_repeat_a_failure(run: Run, tmp_path: Path) -> None:
    shown = run("- {shell: 'mkdir {{ tmp }}/d && false || test -e {{ tmp }}/second || { touch {{ tmp }}/second; false; }', retries: 2}")
    assert shown.report.exit_code == 0 and len(shown.clock.slept) == 1


# ---- changed, failed, ignored


def test_changed_when_and_failed_when_decide(run: Run) -> None:
    shown = run("""
        - {command: echo same, register: a, changed_when: "'other' in a.stdout"}
        - {shell: exit 1, register: b, failed_when: b.rc > 1}
        - {command: echo ERROR, register: c, failed_when: ["'ERROR' in c.stdout", "c.rc == 0"]}
    """)
    tally = shown.report.tallies["pod"]
    assert (tally.ok, tally.changed, tally.failed) == (2, 1, 1)
    assert "failed_when: 'ERROR' in c.stdout and c.rc == 0" in shown.report.reason()


def test_an_ignored_failure_is_counted_and_the_host_goes_on(run: Run) -> None:
    shown = run("- {command: 'false', ignore_errors: true}\n- {set_fact: {after: 1}}")
    assert shown.report.exit_code == 0 and shown.report.tallies["pod"].ignored == 1 and shown.facts()["after"] == 1
    assert "...ignoring" in shown.lines


def test_a_failed_host_drops_out_and_the_others_go_on_in_step(run: Run, tmp_path: Path) -> None:
    shown = run("""
        - {name: one, shell: "echo {{ me }} >>{{ tmp }}/order"}
        - {name: two, command: "{{ 'false' if me == 'b' else 'true' }}"}
        - {name: three, shell: "echo {{ me }} >>{{ tmp }}/order"}
    """, hosts=local("a", "b", "c"))  # fmt: skip
    written = (tmp_path / "order").read_text().split()
    assert sorted(written[:3]) == ["a", "b", "c"] and sorted(written[3:]) == ["a", "c"]
    assert [failure.host for failure in shown.report.failures] == ["b"] and shown.report.exit_code == 2
    with pytest.raises(PodFailed, match="b: two: exit code 1"):
        shown.report.raise_for_failure()


def test_hosts_work_on_a_task_at_the_same_time(run: Run) -> None:
    meeting = threading.Barrier(3, timeout=20)

    class Meeting(LocalTransport):
        """Comes to the end of a command only when two others run one, too."""

        def exec(self, *words: Any, **more: Any) -> CommandResult:
            meeting.wait()
            return super().exec(*words, **more)

    shown = run("- command: 'true'", hosts={name: Host(Meeting()) for name in "abc"})
    assert shown.report.exit_code == 0


# ---- around a task


def test_the_environment_is_data_and_the_inner_one_wins(run: Run, tmp_path: Path) -> None:
    shown = run("""
        - hosts: all
          environment: {A: play, B: play}
          tasks:
            - {shell: 'echo "$A" "$B"', environment: {B: "x; touch {{ tmp }}/pwned"}, register: out}
    """)
    out = shown.facts()["out"]
    assert isinstance(out, dict) and out["stdout"] == f"play x; touch {tmp_path}/pwned" and not (tmp_path / "pwned").exists()


def test_a_timeout_that_tells_the_signal_as_busybox_does_is_one_too(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "timeout").write_text("#!/bin/sh\nsleep 0.2\nexit 143\n")
    (tmp_path / "timeout").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    assert "did not end within 0.1 s" in run("- {shell: x, timeout: 0.1}").report.reason()


def test_a_timeout_ends_the_command_on_the_pod_itself(run: Run, ssh: SshTransport, tmp_path: Path) -> None:
    shown = run("- {shell: 'while sleep 0.2; do echo x >>{{ tmp }}/alive; done', timeout: 0.3}", hosts={"pod": Host(ssh)})
    assert "did not end within 0.3 s" in shown.report.reason()
    assert is_quiet(tmp_path / "alive")


def test_no_log_hides_output_error_and_reason(run: Run) -> None:
    shown = run("- {shell: 'echo s3cr3t; echo s3cr3t >&2; exit 1', no_log: true}")
    assert "s3cr3t" not in shown.text + shown.report.reason() and "hidden (no_log)" in shown.text


def test_a_secret_reaches_the_command_and_never_the_screen(tmp_path: Path) -> None:
    path = tmp_path / "p.yml"
    path.write_text("""
- hosts: all
  tasks:
    - shell: echo got "$T"; exit 1
      environment: {T: "{{ env[0].token }}"}
      register: out
""")
    lines: list[str] = []
    token = Secret("tok-12345")
    report = playbook.run(
        playbook.load(path), {"pod": Host(LocalTransport())}, {"env": [{"token": token}]}, reporter=playbook.TextReporter(lines.append)
    )
    out = report.facts["pod"]["out"]
    assert isinstance(out, dict) and out["stdout"] == "got tok-12345"
    assert "tok-12345" not in "\n".join(lines) and "got ***" in "\n".join(lines) and "got ***" in report.reason()


def test_delegated_tasks_run_here(run: Run, ssh: SshTransport) -> None:
    shown = run("""
        - {shell: 'echo "${SSH_CONNECTION:+ssh}"', register: there}
        - {shell: 'echo "${SSH_CONNECTION:+ssh}"', register: here, delegate_to: localhost}
    """, hosts={"pod": Host(ssh)})  # fmt: skip
    here = shown.facts()["here"]
    assert isinstance(here, dict) and here["stdout"] == ""


def test_the_recap_has_ansibles_form(run: Run) -> None:
    shown = run("- command: 'true'\n- {command: 'false', ignore_errors: true}\n- {command: x, when: false}")
    recap = [line for line in shown.lines if line.startswith("pod ")]
    assert recap == ["pod                      : ok=2    changed=2    unreachable=0    failed=0    skipped=1    rescued=0    ignored=1"]


def test_a_host_knows_better_than_a_role_that_only_has_a_default(run: Run, tmp_path: Path) -> None:
    (tmp_path / "roles/r/defaults").mkdir(parents=True)
    (tmp_path / "roles/r/tasks").mkdir()
    (tmp_path / "roles/r/defaults/main.yml").write_text("a: default\nb: default\n")
    (tmp_path / "roles/r/tasks/main.yml").write_text("- set_fact: {out: '{{ a }} {{ b }}'}\n")
    shown = run("- hosts: all\n  roles: [r]\n", hosts={"pod": Host(LocalTransport(), {"b": "host"})})
    assert shown.facts()["out"] == "default host"
