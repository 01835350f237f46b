"""Where a playbook once said or did something untrue: secrets that were shown, values that changed their meaning in silence."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import pytest

from tests.playbook.conftest import Run
from tests.remote.proxy import Proxy
from tests.remote.sshd import Server, start
from trainyard.errors import Unreachable, UserError
from trainyard.playbook import Host
from trainyard.playbook.__main__ import main
from trainyard.remote.reconnect import Reconnecting
from trainyard.remote.transport import LocalTransport, NoAnswer, Transport, connect
from trainyard.secret import Secret

NO_LOG = """
- name: items
  shell: echo {{ item }}; echo {{ item }} >&2
  loop: [hf_SECRET1]
  no_log: true
- name: failing item
  shell: 'echo {{ item.token }}; exit 1'
  loop: [{name: hf_SECRET2, token: hf_SECRET3}]
  loop_control: {label: "{{ item.name }}"}
  no_log: true
  ignore_errors: true
- name: changed file
  copy: {content: "hf_SECRET4 {{ item }}", dest: "{{ tmp }}/f"}
  loop: [hf_SECRET5]
  no_log: true
- name: skipped item
  shell: echo
  loop: [hf_SECRET6]
  when: false
  no_log: true
- name: wrong loop
  shell: echo
  loop: "{{ token }}"
  no_log: true
  ignore_errors: true
- name: wrong condition
  shell: echo
  when: token
  no_log: true
  ignore_errors: true
- name: wrong filter
  shell: "echo {{ token | regex_search('(' ~ token) }}"
  no_log: true
  ignore_errors: true
- name: too slow
  shell: export TOKEN={{ token }}; sleep 5
  timeout: 0.2
  no_log: true
  ignore_errors: true
- name: tried again
  shell: echo {{ token }}; exit 1
  retries: 1
  no_log: true
  ignore_errors: true
- block:
    - name: rescued
      shell: echo {{ token }}; exit 1
      no_log: true
  rescue:
    - debug: {var: failed_result}
- name: last
  shell: echo {{ token }} >&2; exit 1
  no_log: true
"""


@pytest.mark.parametrize("options", [{}, {"check": True, "diff": True}, {"diff": True}])
def test_no_log_hides_everything_of_a_task_wherever_it_is_told(run: Run, options: dict[str, bool]) -> None:
    shown = run(NO_LOG, extra={"token": "hf_SECRET0"}, verbose=True, **options)
    assert "hf_SECRET" not in shown.text + shown.report.reason()
    assert "hidden (no_log)" in shown.text


def test_a_login_that_repeats_the_command_does_not_show_what_no_log_hides(run: Run, tmp_path: Path) -> None:
    server = start(tmp_path / "server", forced='echo "$SSH_ORIGINAL_COMMAND" | tr " " "\\n"; exit 1')
    with connect(server.address) as transport:
        shown = run("- {shell: 'echo hf_SECRET', no_log: true}", hosts={"pod": Host(transport)})
        assert shown.report.exit_code == 5 and "hf_SECRET" not in shown.text + shown.report.reason()
        shown = run("- {shell: 'echo {{ token }}'}", hosts={"pod": Host(transport)}, extra={"token": "plain"})
        assert "answered without running the command" in shown.text
    server.stop()


def test_a_command_that_takes_too_long_is_not_quoted_with_its_environment() -> None:
    with pytest.raises(NoAnswer) as caught:
        LocalTransport().exec("export TOKEN=hf_SECRET; sleep 5", timeout=0.1)
    assert "hf_SECRET" not in str(caught.value)


def test_secrets_of_the_variables_are_not_shown_by_an_unreachable_host(run: Run, tmp_path: Path) -> None:
    server = start(tmp_path / "server", forced="echo hf_SECRET")
    with connect(server.address) as transport:
        shown = run("- shell: echo", hosts={"pod": Host(transport)}, extra={"token": Secret("hf_SECRET")})
        assert "hf_SECRET" not in shown.text + shown.report.reason() and "***" in shown.text
        with pytest.raises(Exception, match="without running") as caught:
            shown.report.raise_for_failure()
        assert "hf_SECRET" not in str(caught.value)
    server.stop()


def test_a_text_that_is_more_than_one_expression_keeps_all_its_characters(run: Run, tmp_path: Path) -> None:
    run("""
        - copy:
            content: |
              {{ key }}
            dest: "{{ tmp }}/block"
        - copy: {content: "{{ n }}\\n", dest: "{{ tmp }}/newline"}
        - copy: {content: " {{ n }}", dest: "{{ tmp }}/space"}
        - shell: {cmd: "cat > {{ tmp }}/stdin", stdin: "{{ key }}\\n", stdin_add_newline: false}
        """, extra={"key": "a\nb", "n": 5})  # fmt: skip
    read = {name: (tmp_path / name).read_bytes() for name in ("block", "newline", "space", "stdin")}
    assert read == {"block": b"a\nb\n", "newline": b"5\n", "space": b" 5", "stdin": b"a\nb\n"}


def test_one_expression_keeps_its_type_though_it_ends_in_two_braces(run: Run) -> None:
    shown = run("""
        - set_fact: {d: "{{ {'a': {'b': 1}} }}", n: "{{- 5 -}}", t: "{{ 'a' }}{{ 'b' }}"}
        - assert: {that: [d.a.b == 1, n == 5, t == 'ab']}
        """)
    assert shown.report.reason() == ""


def test_a_loop_that_its_condition_skips_does_not_need_its_list(run: Run) -> None:
    shown = run("""
        - {shell: ls /, register: files, when: x}
        - {shell: "echo {{ item }}", loop: "{{ files.stdout_lines }}", when: x}
        """, extra={"x": False})  # fmt: skip
    assert shown.report.tallies["pod"].skipped == 2 and shown.report.exit_code == 0
    assert run("- {shell: 'true', loop: '{{ x.none }}', when: item != 1}", extra={"x": {}}).report.exit_code == 2


def test_the_mode_of_a_folder_behind_a_link_is_the_folders(run: Run, tmp_path: Path) -> None:
    tasks = """
        - file: {path: "{{ tmp }}/d", state: directory, mode: 0755}
        - file: {path: "{{ tmp }}/l", state: link, src: "{{ tmp }}/d"}
        - file: {path: "{{ tmp }}/l", state: directory, mode: 0755}
        """
    assert run(tasks).report.tallies["pod"].changed == 2
    assert run(tasks).report.tallies["pod"].changed == 0


def test_a_command_that_is_killed_is_not_said_to_have_taken_too_long(run: Run) -> None:
    shown = run("- {shell: 'kill -s KILL $$', timeout: 3600}")
    assert "killed by signal 9" in shown.text and "did not end" not in shown.text
    assert "did not end within 0.2 s" in run("- {shell: 'sleep 5', timeout: 0.2}").text


@pytest.mark.parametrize(("word", "rc"), [("yes", 0), ("on", 0), ("'True'", 0), ("no", 2), ("false", 2), ("'{{ w }}'", 0)])
def test_the_words_for_true_and_false_are_ansibles(run: Run, word: str, rc: int) -> None:
    assert run(f"- {{shell: exit 3, ignore_errors: {word}}}", extra={"w": "yes"}).report.exit_code == rc


def test_a_word_that_is_neither_is_refused_before_anything_runs(run: Run) -> None:
    with pytest.raises(UserError, match="expected true or false, found 'maybe'"):
        run("- {shell: exit 3, ignore_errors: maybe}")


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (["a=1 b=2"], "a=1 b=2"), (['{"a": 1, "b": x}'], "a=1 b=x"), (["a=one two"], "a=one two b=none"),
        (["a='one two' b=2"], "a=one two b=2"), (["a=[1, 2]"], "a=[1, 2] b=none"),
    ],
)  # fmt: skip
def test_variables_of_the_command_line_are_read_as_they_are_meant(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], given: list[str], said: str
) -> None:
    (tmp_path / "p.yml").write_text(
        "- hosts: localhost\n  tasks:\n    - debug: {msg: \"a={{ a }} b={{ b | default('none') }}\"}\n"
    )  # fmt: skip
    assert main([str(tmp_path / "p.yml"), *(word for text in given for word in ("-e", text))]) == 0
    assert said in capsys.readouterr().out


@pytest.mark.parametrize("given", ["{a", "[1]", "a", "1=2", "a=x y b=2 z"])
def test_variables_that_cannot_be_read_are_refused(tmp_path: Path, given: str) -> None:
    (tmp_path / "p.yml").write_text("- hosts: localhost\n  tasks:\n    - debug: {msg: hi}\n")
    assert main([str(tmp_path / "p.yml"), "-e", given]) == 2


def test_a_file_keeps_its_mode_when_none_is_given(run: Run, tmp_path: Path) -> None:
    run('- copy: {content: "token", dest: "{{ tmp }}/f", mode: 0600}')
    assert run('- copy: {content: "token2", dest: "{{ tmp }}/f"}', check=True).report.tallies["pod"].changed == 1
    assert run('- copy: {content: "token2", dest: "{{ tmp }}/f"}').report.tallies["pod"].changed == 1
    assert (tmp_path / "f").stat().st_mode & 0o777 == 0o600
    assert run('- copy: {content: "token2", dest: "{{ tmp }}/f"}').report.tallies["pod"].changed == 0


def test_a_file_of_one_host_is_not_overwritten_by_that_of_another(run: Run, tmp_path: Path, server: Server) -> None:
    hosts = {name: Host(LocalTransport()) for name in ("one", "two")}
    shown = run('- {shell: "echo x > {{ tmp }}/f"}\n- fetch: {src: "{{ tmp }}/f", dest: "{{ tmp }}/home/", flat: true}', hosts=hosts)
    assert shown.report.exit_code == 2 and "would overwrite it" in shown.report.reason()
    apart = '- fetch: {src: "{{ tmp }}/f", dest: "{{ tmp }}/{{ inventory_hostname }}/", flat: true}'
    assert run(apart, hosts=hosts).report.exit_code == 0 and (tmp_path / "two/f").read_text() == "x\n"
    by_host = '- fetch: {src: "{{ tmp }}/../{{ tmp | basename }}/f", dest: got}'
    assert run(by_host, hosts=hosts).report.exit_code == 0
    assert [(tmp_path / "got" / name / str(tmp_path).lstrip("/") / "f").read_text() for name in hosts] == ["x\n", "x\n"]


def test_a_file_to_fetch_that_is_missing_or_would_be_a_folder_here_is_told(run: Run, tmp_path: Path) -> None:
    (tmp_path / "f").write_text("x")
    (tmp_path / "home").mkdir()
    gone = '- fetch: {src: "{{ tmp }}/none", dest: "{{ tmp }}/home", fail_on_missing: MISSING}'
    assert run(gone.replace("MISSING", "false")).report.exit_code == 0 and run(gone.replace("MISSING", "true")).report.exit_code == 2
    shown = run('- fetch: {src: "{{ tmp }}/f", dest: "{{ tmp }}/home", flat: true}')
    assert shown.report.exit_code == 2 and "end 'dest' with a /" in shown.report.reason()


def test_files_with_odd_names_are_copied_in_a_loop_and_named_on_any_terminal(run: Run, tmp_path: Path) -> None:
    names = ["a\nb", "c\\d", os.fsdecode(b"\xff"), "it's"]
    (tmp_path / "from").mkdir()
    for name in names:
        (tmp_path / "from" / name).write_text(name.encode(errors="surrogateescape").hex())
    (tmp_path / "to").mkdir()
    shown = run(
        '- copy: {src: "{{ tmp }}/from/{{ item }}", dest: "{{ tmp }}/to/{{ item }}"}\n  loop: "{{ names }}"', extra={"names": names}
    )
    assert shown.report.reason() == "" and sorted(os.listdir(tmp_path / "to")) == sorted(names)
    "\n".join(shown.lines).encode()


@pytest.mark.parametrize(
    "task",
    [
        "{wait_for: {path: /nonexistent/x, timeout: 30}}",
        "{shell: sleep 30, register: r, until: r.rc == 0, retries: 3}",
        "{shell: sleep 30, timeout: 60, ignore_errors: true}",
        "{copy: {content: x, dest: '{{ tmp }}/f'}, loop: '{{ range(2000) | list }}'}",
    ],
)
def test_a_link_that_is_cut_in_the_middle_is_unreachable_never_failed_or_ok(run: Run, server: Server, task: str) -> None:
    proxy = Proxy(server.address)
    left = iter([proxy.address])

    def dial() -> Transport:
        if (address := next(left, None)) is None:
            raise Unreachable("the link is down")
        return connect(address)

    threading.Timer(1, proxy.cut).start()
    with Reconnecting(dial) as transport:
        shown = run(f"- {task}\n- shell: echo on", hosts={"pod": Host(transport)})
    proxy.close()
    tally = shown.report.tallies["pod"]
    assert (shown.report.exit_code, tally.unreachable, tally.failed, tally.ok, tally.ignored) == (5, 1, 0, 0, 0)


def test_a_host_that_answers_no_more_is_unreachable_when_a_tasks_time_is_over(run: Run, server: Server, tmp_path: Path) -> None:
    class Vanishing(LocalTransport):
        """Never answers the first command, and has no link for the next."""

        def exec(self, command, stdin=None, **more):  # type: ignore[no-untyped-def]
            if command.endswith("; :"):
                raise Unreachable("the connection was lost")
            raise NoAnswer("the command did not end within 1 s")

    shown = run("- {shell: 'true', timeout: 1, ignore_errors: true}", hosts={"pod": Host(Vanishing())})
    assert shown.report.exit_code == 5 and "the connection was lost" in shown.text


def test_a_path_means_what_it_means_in_a_shell_of_the_host(run: Run, tmp_path: Path) -> None:
    home, text = tmp_path / "ho me", tmp_path / "here.txt"
    (home / "x").mkdir(parents=True)
    text.write_text("t")
    hosts = {"pod": Host(LocalTransport(env={**os.environ, "HOME": str(home), "W": str(home / "x")}))}
    tasks = """
        - file: {path: ~/d, state: directory}
        - copy: {content: a, dest: "$W/a"}
        - copy: {src: "{{ tmp }}/here.txt", dest: "${W}/"}
        - shell: {cmd: "echo b > b.whl; pwd", chdir: ~/x, creates: "$W/*.whl"}
          register: made
        - shell: {cmd: mkdir -p ~/e, creates: ~/e}
        - shell: {cmd: rm -rf ~/e2, removes: "$E/e2"}
          environment: {E: "{{ tmp }}/ho me"}
        - fetch: {src: ~/x/a, dest: "{{ tmp }}/back", flat: true}
        - wait_for: {path: ~/x/a, timeout: 1}
        - job: {start: ~/job, command: pwd}
        - file: {path: "{{ tmp }}/$NOTHING", state: touch, modification_time: preserve, access_time: preserve}
        """
    first, second = run(tasks, hosts=hosts), run(tasks, hosts=hosts)
    assert first.report.reason() == second.report.reason() == ""
    assert (first.report.tallies["pod"].changed, second.report.tallies["pod"].changed) == (8, 0)
    assert sorted(path.name for path in home.iterdir()) == ["d", "e", "job", "x"]
    assert sorted(path.name for path in (home / "x").iterdir()) == ["a", "b.whl", "here.txt"] and (tmp_path / "$NOTHING").exists()
    with_user = run("- file: {path: ~nobody/d, state: directory}", hosts=hosts).report
    assert with_user.exit_code == 2 and "write the folder out" in with_user.reason()


@pytest.mark.parametrize(
    ("task", "said"),
    [
        ("debug: {var: 'a b'}", "broken expression: something stands behind"),
        ("copy: {content: '{{ range(3) }}', dest: '{{ tmp }}/o'}", "a range is no value"),
        ("copy: {content: x, dest: '{{ nothing }}'}", "'dest' of 'copy': is empty"),
        ("shell: {cmd: 'true', stdin: '{{ half }}'}", "'shell': 'utf-8' codec can't encode"),
        ("shell: 'echo {{ nul }}'", "a command cannot hold a NUL character"),
        ("template: {src: zero.j2, dest: '{{ tmp }}/o'}", "zero.j2:2:1: cannot be rendered: division by zero"),
        ("template: {src: bytes.j2, dest: '{{ tmp }}/o'}", "bytes.j2: is not text"),
        ("debug: {msg: \"{{ 'a' | regex_search('(') }}\"}", "the expression cannot be evaluated: missing )"),
    ],
)
def test_what_cannot_be_made_of_the_arguments_is_told_with_its_place_and_no_traceback(
    run: Run, tmp_path: Path, task: str, said: str
) -> None:
    (tmp_path / "zero.j2").write_text("first\n{{ 1 / 0 }}")
    (tmp_path / "bytes.j2").write_bytes(b"\xff\xfe")
    shown = run(f"- {task}", extra={"nothing": "", "half": "\ud800", "nul": "\0"})
    assert shown.report.exit_code == 2 and said in shown.text
