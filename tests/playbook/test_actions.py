"""Actions are functions from arguments to a step (golden cases), and steps do on a machine what they say."""

from __future__ import annotations

import hashlib
import os
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.playbook.conftest import Run, Shown
from trainyard.errors import UserError
from trainyard.playbook import Host, placing
from trainyard.playbook.actions import ACTIONS
from trainyard.playbook.schema import compile_args, render_args
from trainyard.playbook.steps import CommandAction as RunStep
from trainyard.playbook.steps import Get, Job, Script, Step
from trainyard.remote.transport import LocalTransport, SshTransport
from trainyard.yamlfile import parse


def build(action: str, yaml: str, folder: Path = Path("/pb"), **variables: object) -> Step:
    chosen = ACTIONS[action]
    args = compile_args(chosen.schema, parse(yaml, "case"), None)
    return chosen.build(render_args(chosen.schema, args, variables), folder, variables)


GOLDEN: list[tuple[str, str, Step]] = [
    ("shell", "ls | wc", RunStep("ls | wc", said={"cmd": "ls | wc"})),
    ("shell", "{cmd: x, creates: /a, removes: /b, chdir: /c, stdin: in}", RunStep("x", b"in\n", "/c", "/a", "/b", said={"cmd": "x"})),
    ("command", "echo 'a b' $HOME;", RunStep("echo 'a b' \"${HOME-\\$HOME}\"';'", said={"cmd": ["echo", "a b", "$HOME;"]})),
    ("command", "{argv: [echo, 'a b', 1]}", RunStep("echo 'a b' 1", said={"cmd": ["echo", "a b", "1"]})),
    ("fetch", "{src: /a/b, dest: /home/, flat: true}", Get("/a/b", Path("/home/b"))),
    ("fetch", "{src: /a/b, dest: /home/c, flat: true}", Get("/a/b", Path("/home/c"))),
    ("job", "{start: /j, command: x, chdir: /a b, env: {A: 1}}", Job("start", "/j", "cd '/a b' || exit 1\nx", {"A": 1})),
    ("job", "{wait: /j, timeout: 3}", Job("wait", "/j", timeout=3.0)),
    ("job", "{stop: /j}", Job("stop", "/j", grace=30.0)),
]


@pytest.mark.parametrize(("action", "yaml", "step"), GOLDEN, ids=[f"{case[0]} {case[1]}" for case in GOLDEN])
def test_arguments_become_a_step(action: str, yaml: str, step: Step) -> None:
    assert build(action, yaml) == step


def test_a_local_file_is_looked_for_beside_the_playbook(tmp_path: Path) -> None:
    (tmp_path / "f").write_text("x")
    step = build("copy", "{src: f, dest: /d/}", tmp_path)
    assert isinstance(step, Script) and (step.stdin, step.values["path"], step.values["name"]) == (b"x", "/d", "f")
    with pytest.raises(UserError, match="there is no"):
        build("copy", "{src: none, dest: /d}", tmp_path)


@pytest.mark.parametrize(
    ("action", "yaml", "words"),
    [
        ("command", "echo 'open", "No closing quotation"),
        ("command", "''", "nothing to run"),
        ("file", "{path: /x, src: y}", "goes with"),
        ("copy", "{content: x, dest: /d/}", "'dest' is a file"),
        ("copy", "{src: ., dest: /d, backup: true}", "for one file"),
        ("copy", "{src: ., dest: /d, owner: 'a b'}", "no account"),
        ("copy", "{content: x, dest: /d, validate: sshd}", "must hold %s"),
    ],
)
def test_arguments_that_make_no_sense_together(tmp_path: Path, action: str, yaml: str, words: str) -> None:
    with pytest.raises(UserError, match=words):
        build(action, yaml, tmp_path)


# ---- on a machine: here and over SSH


@pytest.fixture(params=["local", "ssh"])
def do(request: pytest.FixtureRequest, run: Run, ssh: SshTransport) -> Iterator[Run]:
    transport = LocalTransport() if request.param == "local" else ssh

    def on_host(text: str, **options: object) -> Shown:
        return run(text, hosts={"pod": Host(transport)}, **options)

    yield on_host


def counts(shown: Shown) -> tuple[int, int, int, int]:
    tally = shown.report.tallies["pod"]
    assert not tally.unreachable, f"{shown.report!r}\n{shown.text}"
    return tally.ok, tally.changed, tally.failed, tally.skipped


def test_creates_and_removes_decide_even_when_the_command_prints_the_same(do: Run, tmp_path: Path) -> None:
    text = "- shell: {cmd: 'touch {{ tmp }}/x', creates: '{{ tmp }}/x'}"
    assert counts(do(text, check=True)) == (1, 1, 0, 0) and not (tmp_path / "x").exists()
    assert counts(do(text)) == (1, 1, 0, 0)
    assert counts(do(text)) == (1, 0, 0, 0)
    removing = "- shell: {cmd: 'rm {{ tmp }}/x', removes: '{{ tmp }}/x'}"
    assert [counts(do(removing))[1] for _ in range(2)] == [1, 0]


def test_a_command_that_check_mode_leaves_out_has_its_fields_and_says_why_others_are_missing(do: Run) -> None:
    text = """
    - hosts: all
      tasks:
        - {command: echo hi, register: said}
        - {debug: {msg: "<{{ said.stdout }}> {{ said.stdout_lines }} {{ said.rc }}"}}
        - {debug: {msg: "{{ said.elapsed }}"}}
"""
    shown = do(text, check=True).text
    assert "<> [] 0" in shown
    assert "there is no 'elapsed': the task that registers it was skipped (commands do not run in check mode)" in shown


FILES = """
    - hosts: all
      tasks:
        - {file: {path: "{{ tmp }}/w/d", state: directory, mode: 0750}}
        - {copy: {content: "hi\\n", dest: "{{ tmp }}/w/d/a b", mode: 0600}}
        - {copy: {src: tree/, dest: "{{ tmp }}/w/tree"}}
        - {copy: {src: tree/big, dest: "{{ tmp }}/w/big"}}
        - {template: {src: t.j2, dest: "{{ tmp }}/w/d/"}}
        - {file: {path: "{{ tmp }}/w/link", state: link, src: d}}
        - {file: {path: "{{ tmp }}/w/touched", state: touch, mode: 0600, modification_time: preserve, access_time: preserve}}
        - {fetch: {src: "{{ tmp }}/w/tree", dest: "{{ tmp }}/home", flat: true}}
        - {fetch: {src: "{{ tmp }}/w/d/t", dest: "{{ tmp }}/home/", flat: true}}
"""


def snapshot(folder: Path) -> dict[str, tuple[int, int, str]]:
    found = {}
    for path in sorted(folder.rglob("*")):
        text = path.read_text(errors="replace")[:50] if path.is_file() else ""
        # A folder's time changes by the temporary file that is compared and thrown away.
        found[str(path.relative_to(folder))] = (path.lstat().st_mode, 0 if path.is_dir() else path.lstat().st_mtime_ns, text)
    return found


def test_files_are_made_once_predicted_by_check_and_left_alone_after(do: Run, tmp_path: Path) -> None:
    (tmp_path / "tree/sub").mkdir(parents=True)
    (tmp_path / "tree/sub/x").write_text("x")
    (tmp_path / "tree/big").write_bytes(os.urandom(1_500_000))
    (tmp_path / "t.j2").write_text("{% for i in range(2) %}\n{{ i }} {{ inventory_hostname }}\n{% endfor %}\n")
    checked = do(FILES, check=True)
    assert counts(checked) == (7, 7, 0, 2) and not (tmp_path / "w").exists()
    assert counts(do(FILES)) == (9, 9, 0, 0)
    assert (tmp_path / "w/d/t").read_text() == "0 pod\n1 pod\n" and (tmp_path / "home/sub/x").read_text() == "x"
    assert (tmp_path / "w/d").stat().st_mode & 0o777 == 0o750 and (tmp_path / "w/link/a b").read_text() == "hi\n"
    before = snapshot(tmp_path / "w")
    assert counts(do(FILES)) == (9, 0, 0, 0) and counts(do(FILES, check=True)) == (9, 0, 0, 0)
    assert snapshot(tmp_path / "w") == before
    (tmp_path / "w/d/a b").write_text("changed by hand")
    assert counts(do(FILES, check=True))[1] == 1 and (tmp_path / "w/d/a b").read_text() == "changed by hand"
    assert counts(do(FILES))[1] == 1


def test_diff_shows_what_changes_and_only_then(do: Run, tmp_path: Path) -> None:
    (tmp_path / "f").write_text("one\ntwo\n")
    text = "- copy: {content: \"one\\nthree\\n\", dest: '{{ tmp }}/f'}"
    assert "-two\n+three" in do(text, diff=True, check=True).text and (tmp_path / "f").read_text() == "one\ntwo\n"
    assert "-two\n+three" in do(text, diff=True).text
    assert "three" not in do(text, diff=True).text


def test_diff_shows_who_owned_it_and_how_it_was(do: Run, tmp_path: Path) -> None:
    (tmp_path / "f").write_text("one\n")
    (tmp_path / "f").chmod(0o644)
    for text in (
        "- file: {path: '{{ tmp }}/f', mode: '0600'}",
        "- file: {path: '{{ tmp }}/f', mode: 'go='}",
        "- copy: {content: \"one\\n\", dest: '{{ tmp }}/f', mode: '0600'}",
        "- copy: {content: \"two\\n\", dest: '{{ tmp }}/f', mode: '0600'}",
    ):
        assert f"{tmp_path}/f: mode 0644 -> 0600" in do(text, diff=True, check=True).text and (tmp_path / "f").read_text() == "one\n"
    assert f"{tmp_path}/f: mode 0644 -> 0600" in do(text, diff=True).text and (tmp_path / "f").read_text() == "two\n"
    assert "->" not in do(text, diff=True).text
    for text in (
        "- copy: {content: x, dest: '{{ tmp }}/new', mode: '0600'}",
        "- file: {path: '{{ tmp }}/dir', state: directory, mode: '0700'}",
    ):
        assert "->" not in do(text, diff=True).text


def test_what_lies_there_instead_of_a_file_is_named(do: Run, tmp_path: Path) -> None:
    (tmp_path / "tree").mkdir()
    os.mkfifo(tmp_path / "pipe")
    for name, said in (("tree", "is a folder, not a file"), ("pipe", "is a pipe, not a file"), ("none", "there is no file")):
        for text in (
            "- slurp: {src: '{{ tmp }}/NAME'}", "- unarchive: {src: '{{ tmp }}/NAME', dest: '{{ tmp }}/tree', remote_src: true}",
            "- file: {path: '{{ tmp }}/NAME', state: file}",
        ):  # fmt: skip
            assert said in do(text.replace("NAME", name)).report.reason()
    assert "pipe is a pipe, not a file" in do("- copy: {src: '{{ tmp }}/pipe', dest: '{{ tmp }}/x', remote_src: true}").report.reason()


@pytest.mark.parametrize(
    ("state", "before", "after", "words"),
    [
        ("absent", "file", "nothing", None), ("absent", "tree", "nothing", None), ("absent", "nothing", "nothing", None),
        ("directory", "file", "file", "is not a folder"), ("touch", "tree", "tree", None),
        ("file", "nothing", "nothing", "there is no file"), ("link, src: .", "tree", "tree", "is there and is a folder"),
    ],
)  # fmt: skip
def test_states_of_a_path(do: Run, tmp_path: Path, state: str, before: str, after: str, words: str | None) -> None:
    path = tmp_path / "x"
    if before == "file":
        path.write_text("")
    elif before == "tree":
        (path / "below").mkdir(parents=True)
    shown = do(f"- file: {{path: '{{{{ tmp }}}}/x', state: {state}}}")
    kind = "tree" if path.is_dir() else "file" if path.exists() else "nothing"
    assert kind == after and (words in shown.report.reason() if words else not shown.report.reason())


def test_the_root_is_never_removed(run: Run) -> None:
    assert "refused: /" in run("- file: {path: /, state: absent}").report.reason()


def test_a_promised_sha256_is_kept(do: Run, tmp_path: Path) -> None:
    (tmp_path / "f").write_text("data")
    good, bad = hashlib.sha256(b"data").hexdigest(), "0" * 64
    text = "- copy: {src: f, dest: '{{ tmp }}/g', sha256: '{{ sum }}'}"
    assert "is not the file that was promised" in do(text, extra={"sum": bad}).report.reason() and not (tmp_path / "g").exists()
    assert do(text, extra={"sum": good}).report.exit_code == 0
    fetch = "- fetch: {src: '{{ tmp }}/g', dest: '{{ tmp }}/h', flat: true, sha256: '{{ sum }}'}"
    assert "has the sha256" in do(fetch, extra={"sum": bad}).report.reason() and not (tmp_path / "h").exists()


def test_wait_for_sees_a_path_a_text_and_a_port(do: Run, tmp_path: Path) -> None:
    threading.Timer(0.3, lambda: (tmp_path / "f").write_text("x\nready 7\n")).start()
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        shown = do(f"""
            - wait_for: {{path: "{{{{ tmp }}}}/f", regex: "^ready [0-9]$", sleep: 0.1, timeout: 20}}
            - wait_for: {{port: {port}, timeout: 5}}
            - wait_for: {{path: "{{{{ tmp }}}}/none", state: absent, timeout: 5}}
        """)
    assert shown.report.reason() == ""
    gone = do(f"- wait_for: {{port: {port}, timeout: 1, sleep: 0.2}}")
    assert f"waited 1 s in vain for port {port}" in gone.report.reason()


def test_assert_names_what_does_not_hold(run: Run) -> None:
    shown = run("- assert: {that: [1 == 1, n == 2, n > 5]}", extra={"n": 3})
    assert "does not hold: n == 2; n > 5" in shown.report.reason()
    assert "because" in run("- assert: {that: false, fail_msg: because}").report.reason()


def test_debug_shows_values_as_data(run: Run) -> None:
    shown = run("- debug: {var: thing.a}\n- debug: {var: nothing_here}", extra={"thing": {"a": [1]}})
    assert '"thing.a": [' in shown.text and '"nothing_here": "not defined"' in shown.text


def test_a_job_is_started_once_waited_for_and_its_failure_told(do: Run, tmp_path: Path) -> None:
    start = "- job: {start: '{{ tmp }}/job', command: 'echo $A; exit 4', env: {A: x y}}"
    assert counts(do(start, check=True))[1] == 1 and not (tmp_path / "job").exists()
    assert [counts(do(start))[1] for _ in range(2)] == [1, 0]
    shown = do("- job: {wait: '{{ tmp }}/job', timeout: 30}\n  register: out")
    assert "exited 4" in shown.report.reason()
    out = shown.facts()["out"]
    assert isinstance(out, dict) and (out["exit_code"], out["stdout"]) == (4, "x y")


def test_a_job_can_be_stopped_and_a_wait_has_an_end(do: Run, tmp_path: Path) -> None:
    shown = do("""
        - job: {start: "{{ tmp }}/job", command: sleep 60}
        - job: {wait: "{{ tmp }}/job", timeout: 0.6}
          ignore_errors: true
          register: waited
        - job: {stop: "{{ tmp }}/job", grace: 5}
          register: stopped
        - job: {stop: "{{ tmp }}/job"}
          register: again
    """)
    facts = shown.facts()
    waited, stopped, again = facts["waited"], facts["stopped"], facts["again"]
    assert isinstance(waited, dict) and isinstance(stopped, dict) and isinstance(again, dict)
    assert "did not end within 0.6 s; it goes on" in str(waited["msg"])
    assert (stopped["changed"], stopped["state"], stopped["exit_code"], again["changed"]) == (True, "exited", 143, False)


def test_what_a_template_lacks_is_told_with_its_line(run: Run, tmp_path: Path) -> None:
    (tmp_path / "t.j2").write_text("one\n{{ missing_thing }}\n")
    assert "t.j2:2" in run("- template: {src: t.j2, dest: '{{ tmp }}/out'}").report.reason()


def test_what_a_killed_shell_left_a_day_ago_is_removed_by_the_next_file(run: Run, tmp_path: Path) -> None:
    day_ago = time.time() - 90_000
    old, fresh, others = (tmp_path / name for name in (".part-0123456789ab", ".part-ba9876543210", ".part-of-something"))
    for path in (old, fresh, others):
        path.touch()
    for path in (old, others):
        os.utime(path, (day_ago, day_ago))
    run("- copy: {content: x, dest: '{{ tmp }}/f'}")
    assert not old.exists() and fresh.exists() and others.exists()


def test_a_large_file_is_copied_once_proven_and_named_by_its_hash(do: Run, tmp_path: Path) -> None:
    data = os.urandom(3_000_000)
    (tmp_path / "big").write_bytes(data)
    text = "- {copy: {src: big, dest: '{{ tmp }}/there/', mode: '0640'}, register: it}"
    checked = do(text, check=True)
    assert checked.facts()["it"]["changed"] and not (tmp_path / "there").exists()  # type: ignore[index]
    first, second = do(text).facts()["it"], do(text).facts()["it"]
    assert [it["changed"] for it in (first, second)] == [True, False]  # type: ignore[index]
    assert {it["sha256"] for it in (first, second)} == {hashlib.sha256(data).hexdigest()}  # type: ignore[index]
    assert (tmp_path / "there/big").read_bytes() == data and (tmp_path / "there/big").stat().st_mode & 0o777 == 0o640
    assert [path.name for path in (tmp_path / "there").iterdir()] == ["big"]


def test_a_large_file_that_cannot_be_read_here_changes_nothing_there(
    do: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:  # fmt: skip
    def sha256_of(path: Path) -> str:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(placing, "sha256_of", sha256_of)
    (tmp_path / "big").write_bytes(b"x" * 3_000_000)
    (tmp_path / "there").write_text("old")
    assert "cannot be read: Permission denied" in do("- copy: {src: big, dest: '{{ tmp }}/there'}").report.reason()
    assert (tmp_path / "there").read_text() == "old"
