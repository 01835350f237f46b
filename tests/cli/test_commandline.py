"""Whatever goes wrong between a command line and a verb ends in a sentence and a documented exit code, never in a traceback."""

from __future__ import annotations

import errno
import os
import shlex
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest
from invoke.collection import Collection

from tests.verbs import development
from trainyard.cli import commandline, playverbs
from trainyard.cli.commandline import main
from trainyard.cli.common import SHORT, Verb
from trainyard.cli.ending import tell
from trainyard.cli.usage import help_first, usage_problem
from trainyard.cli.verbs import verbs as verbs_of_a_person
from trainyard.errors import UserError
from trainyard.phrasing import as_typed, typed
from trainyard.playbook.__main__ import _parser
from trainyard.secret import Secret


@pytest.fixture(autouse=True)
def no_lingering(monkeypatch: pytest.MonkeyPatch) -> None:
    """Threads that other tests have left in this process do not end it."""
    monkeypatch.setattr(commandline, "_lingers", lambda: False)


ROOT = Path(__file__).resolve().parents[2]


def run(capfd: pytest.CaptureFixture[str], *words: str, name: str = "invoke") -> tuple[int, str, str]:
    """Run a command line in this process."""
    kept = signal.getsignal(signal.SIGINT)
    try:
        with pytest.raises(SystemExit) as left:
            main(words, name=name)
    finally:
        signal.signal(signal.SIGINT, kept)
        sys.modules.pop("tasks", None)  # another project's would be taken for ours by the next test
    out = capfd.readouterr()
    assert isinstance(left.value.code, int)
    return left.value.code, out.out, out.err


@pytest.fixture(scope="module")
def verbs() -> list[str]:
    sys.path.insert(0, str(ROOT))
    try:
        import tasks
    finally:
        sys.path.remove(str(ROOT))
    return sorted(tasks.ns.task_names)


@pytest.fixture
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A checkout's state of its own, and a folder that is no checkout."""
    monkeypatch.setenv("TRAINYARD_HOME", str(tmp_path / "h"))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_every_verb_helps_whatever_it_needs_and_from_any_folder(
    verbs: list[str], elsewhere: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    for verb in verbs:
        code, out, err = run(capfd, verb, "--help")
        assert (code, err) == (0, ""), (verb, err)
        assert f" {verb} " in out and "Docstring:" in out


def test_a_command_makes_the_options_of_its_own_verb_alone(
    elsewhere: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[str] = []
    make = Verb.get_arguments
    monkeypatch.setattr(Verb, "get_arguments", lambda verb, *more: made.append(verb.name) or make(verb, *more))  # type: ignore[func-returns-value]
    assert run(capfd, "offers", "--help")[0] == 0
    assert set(made) == {"offers"}


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ("resurrect x", "there is no verb 'resurrect'"),
        ("trian", "there is no verb 'trian' (did you mean 'train'?)"),
        ("store", "there is no verb 'store'. Verbs behind it: store.start, store.stop, store.status"),
        ("train --stak local", "train has no option --stak (did you mean '--stack'?)"),
        ("attach", "attach needs RUN"),
        ("reap -d", "reap has no option -d"),
        ("image.build -e", "image.build has no option -e"),
        ("cancel x -n", "cancel has no option -n"),
        ("download x y -w", "download has no option -w"),
        ("init -c runpod x", "init has no option -c"),
        ("render command x -b 1", "render has no option -b"),
        ("train --dry", "train has no option --dry"),
        ("tunnel a", "tunnel needs RUN and PORT"),
        ("runs extra", "runs takes no word 'extra'"),
        ("train --stack", "train: --stack needs a value behind it"),
        ("train --stack --yes", "train: --stack needs a value behind it"),
        ("train -y python train.py", "a command of yours stands behind --, like: invoke train -- python train.py"),
        ("logs a b", "logs takes no word 'b'"),
        ("faults.crash --cases many", "faults.crash: --cases takes a whole number, not 'many'"),
        ("worker --every=soon", "worker: --every takes a number, not 'soon'"),
        ("--help resurrect", "there is no verb 'resurrect'"),
    ],
)
def test_a_usage_error_is_a_sentence_and_exit_code_2(words: str, says: str, elsewhere: Path, capfd: pytest.CaptureFixture[str]) -> None:
    code, out, err = run(capfd, *words.split())

    assert code == 2
    assert says in err and "invoke --" in err, err
    assert "Traceback" not in out + err


def test_help_behind_a_verb_is_help_of_the_verb_but_not_behind_two_dashes() -> None:
    assert help_first(["invoke", "logs", "--help"]) == ["invoke", "--help", "logs"]
    assert help_first(["invoke", "train", "--name", "a", "-h"]) == ["invoke", "--help", "train"]
    assert help_first(["invoke", "ssh", "a", "--", "ls", "--help"]) == ["invoke", "ssh", "a", "--", "ls", "--help"]
    assert help_first(["invoke", "--help"]) == ["invoke", "--help"]


def test_what_we_cannot_tell_better_is_told_in_invokes_words() -> None:
    assert usage_problem(["--x"], None, "said") == "said"


@pytest.mark.parametrize(
    ("error", "code", "says"),
    [
        (PermissionError(errno.EACCES, "Permission denied", "/etc/x"), 2, "/etc/x: Permission denied"),
        (NotADirectoryError(errno.ENOTDIR, "Not a directory", b"/etc/x\xff"), 2, "/etc/x"),
        (OSError(errno.EROFS, "Read-only file system", "/a", None, "/b"), 2, "/a -> /b: Read-only file system"),
        (OSError(errno.ENOSPC, "No space left on device", "/a"), 74, "No space left on device: /a"),
        (OSError(errno.EMFILE, "Too many open files"), 2, "Too many open files"),
        (UnicodeDecodeError("utf-8", b"\xff", 0, 1, "bad"), 2, "a text is not as it should be"),
        (UserError("wrong", hint="do this"), 2, "wrong\ndo this"),
        (KeyboardInterrupt(), 130, "interrupted"),
    ],
    ids=repr,
)
def test_what_the_outside_does_is_a_sentence(
    error: BaseException, code: int, says: str, elsewhere: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert tell(error) == code
    said = capsys.readouterr().err
    assert says in said and "Traceback" not in said


def test_a_file_of_ours_that_cannot_be_written_names_what_moves_it(elsewhere: Path, capsys: pytest.CaptureFixture[str]) -> None:
    tell(PermissionError(errno.EACCES, "Permission denied", str(elsewhere / "h" / "state")))

    assert "TRAINYARD_HOME" in capsys.readouterr().err


def test_a_mistake_of_ours_says_so_and_where_its_traceback_is_without_any_key(elsewhere: Path, capsys: pytest.CaptureFixture[str]) -> None:
    key = Secret("rpa_a-very-secret-key").reveal()
    try:
        raise TypeError(f"no such thing: {key}")
    except TypeError as error:
        assert tell(error) == 70

    said = capsys.readouterr().err
    assert said.startswith("a fault of Trainyard itself: TypeError: no such thing: ***\nits traceback is in ")
    kept = Path(said.strip().rpartition("its traceback is in ")[2]).read_text()
    assert "Traceback" in kept and key not in kept


def test_where_nothing_can_be_written_the_traceback_is_printed(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("TRAINYARD_HOME", str(tmp_path / "file"))
    monkeypatch.setattr(tempfile, "gettempdir", lambda: str(tmp_path / "file"))

    assert tell(TypeError("x")) == 70
    assert "TypeError: x" in capsys.readouterr().err


def checkout(folder: Path, tasks: str) -> Path:
    (folder / "Pulumi.yaml").write_text("name: trainyard\n")
    (folder / "tasks.py").write_text(tasks)
    return folder


def command(*words: str) -> list[str]:
    return [sys.executable, "-m", "trainyard.cli.commandline", *words]


def test_a_ctrl_c_before_the_verb_begins_leaves_no_traceback(tmp_path: Path) -> None:
    checkout(tmp_path, f"open({str(tmp_path / 'here')!r}, 'w').close()\nimport time; time.sleep(60)\n")
    process = subprocess.Popen(
        command("runs"), cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    deadline = time.monotonic() + 90
    while not (tmp_path / "here").exists() and time.monotonic() < deadline:
        time.sleep(0.02)
    os.kill(process.pid, signal.SIGINT)
    out, err = process.communicate(timeout=90)

    assert (process.returncode, out, err) == (130, "", "interrupted\n")


def test_a_tasks_file_that_breaks_is_told_without_a_traceback(tmp_path: Path) -> None:
    checkout(tmp_path, "import a_module_that_is_not_there\n")
    done = subprocess.run(command("runs"), cwd=tmp_path, capture_output=True, text=True, check=False)

    assert done.returncode == 70
    assert "ModuleNotFoundError" in done.stderr and "Traceback" not in done.stderr


VERB = """
import sys
from invoke import task
from trainyard.cli import ending
@task
def say(c):
    ending.ready()
    print("pods of Zoë ┃ " + repr(sys.stdin.read()))
    print("wärning", file=sys.stderr)
    open({file!r}, "w").write("kept")
"""


@pytest.mark.parametrize("closed", ["", "<&-", ">&-", "2>&-", "<&- >&- 2>&-"])
@pytest.mark.parametrize("encoding", ["ascii", "utf-8"])
def test_closed_streams_and_a_terminal_without_letters_break_nothing(tmp_path: Path, closed: str, encoding: str) -> None:
    checkout(tmp_path, VERB.format(file=str(tmp_path / "file")))
    env = {**os.environ, "LC_ALL": "C", "PYTHONIOENCODING": encoding}
    line = f'exec "$@" {closed}'
    given = None if closed else subprocess.DEVNULL
    done = subprocess.run(["sh", "-c", line, "sh", *command("say")], cwd=tmp_path, env=env, capture_output=True, check=False, stdin=given)

    assert done.returncode == 0, done.stderr
    assert (tmp_path / "file").read_text() == "kept"
    assert b"Traceback" not in done.stderr
    if not closed:
        assert (b"Zo\\xeb" in done.stdout) == (encoding == "ascii")


def test_a_reader_that_has_gone_is_no_error(tmp_path: Path) -> None:
    checkout(tmp_path, "from invoke import task\n@task\ndef say(c):\n    print('x' * 300000)\n")
    done = subprocess.run(
        ["sh", "-c", '"$@" | head -c 1', "sh", *command("say")], cwd=tmp_path, capture_output=True, text=True, check=False
    )

    assert (done.stdout, done.stderr) == ("x", "")


@pytest.mark.parametrize("when", ["while its threads end", "while Python ends", "while the last words are printed"])
def test_a_second_ctrl_c_changes_neither_the_last_words_nor_the_exit_code(when: str) -> None:
    program = f"""
import atexit, os, signal, sys, threading, time
from trainyard.cli import commandline, invokeprogram
from trainyard.errors import Detached
hit = lambda: os.kill(os.getpid(), signal.SIGINT)
class Slow:
    def write(self, text): hit(); time.sleep(0.01); os.write(2, text.encode())
    def flush(self): pass
def program(name):
    if {when!r} == "while its threads end": threading.Thread(target=lambda: (time.sleep(0.3), hit(), time.sleep(60))).start()
    if {when!r} == "while Python ends": atexit.register(hit)
    if {when!r} == "while the last words are printed": sys.stderr = Slow()
    raise Detached("it goes on", hint="invoke attach a")
invokeprogram.program_of = program
commandline.main(["train"])
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=30, check=False)

    assert (done.returncode, done.stderr) == (11, "it goes on\ninvoke attach a\n")


@pytest.mark.parametrize("name", ["trainyard", "invoke"])
@pytest.mark.parametrize("forbidden", ["", "1"])
def test_python_keeps_what_it_compiles_of_us_unless_a_person_forbids_it(name: str, forbidden: str) -> None:
    program = f"""
import sys
from trainyard.cli.invokeprogram import program_of
program_of({name!r}).parse_core([{name!r}, "runs"])
print(sys.dont_write_bytecode)
"""
    env = {**os.environ, "PYTHONDONTWRITEBYTECODE": forbidden}
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, env=env, capture_output=True, text=True, check=True)

    assert done.stdout.strip() == str(bool(forbidden))


@pytest.mark.parametrize("program", ["trainyard", "invoke"])
def test_bash_completes_verbs_and_options(program: str, tmp_path: Path) -> None:
    (tmp_path / program).symlink_to(Path(sys.prefix) / "bin" / program)
    script = """
        eval "$(PROGRAM --print-completion-script bash)"
        try() { COMP_WORDS=("$@"); COMPREPLY=(); _complete_PROGRAM PROGRAM "${@: -1}"; echo "${COMPREPLY[@]}"; }
        try PROGRAM tra
        try PROGRAM train --st
    """.replace("PROGRAM", program)
    env = {**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}"}
    done = subprocess.run(["bash", "-c", script], cwd=ROOT, env=env, capture_output=True, text=True, check=False)

    assert (done.stdout, done.stderr) == ("train\n--stack\n", "")


def test_bash_completes_runs_and_stacks_of_this_repository(tmp_path: Path) -> None:
    for word in ("Pulumi.yaml", "Pulumi.local.yaml", "Pulumi.runpod.yaml", "Pulumi.local.ann.x.1.yaml"):
        (tmp_path / word).write_text("name: trainyard\nruntime: python\n")
    for run in ("ann/first/1", "ann/first/2", "ann/second/1", "bob/second/1"):
        (tmp_path / ".trainyard/runs" / run).mkdir(parents=True)
    (tmp_path / "trainyard").symlink_to(Path(sys.prefix) / "bin" / "trainyard")
    script = """
        eval "$(trainyard --print-completion-script bash)"
        try() { COMP_WORDS=("$@"); COMPREPLY=(); _complete_trainyard trainyard "${@: -1}"; echo "${COMPREPLY[@]}"; }
        try trainyard attach ""
        try trainyard attach fi
        try trainyard download ann/
        try trainyard download --stack local ann/first/
        try trainyard gc --stack ""
        try trainyard download first ""
        try trainyard compare first ann/second fi
        try trainyard diff first fi
        try trainyard play ""
        try trainyard play a.yml fi
        try trainyard play --limit x a.yml b
    """
    env = {**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}", "TRAINYARD_HOME": str(tmp_path / ".trainyard")}
    done = subprocess.run(["bash", "-c", script], cwd=tmp_path, env=env, capture_output=True, text=True, check=False)

    said = ["ann/second bob/second first", "first", "ann/first ann/second", "ann/first/1 ann/first/2", "local runpod", "", "first", "first"]
    said += ["", "first", "bob/second"]
    assert (done.stdout.splitlines(), done.stderr) == (said, "")


@pytest.mark.parametrize("shell", ["zsh", "fish"])
def test_other_shells_get_a_script_of_their_own(shell: str, capfd: pytest.CaptureFixture[str]) -> None:
    code, out, err = run(capfd, "--print-completion-script", shell, name="trainyard")

    assert (code, err) == (0, "") and "--complete -- " in out and "_complete_trainyard" in out


def test_a_shell_without_a_script_is_named(capfd: pytest.CaptureFixture[str]) -> None:
    code, _, err = run(capfd, "--print-completion-script", "ksh", name="trainyard")

    assert code == 2 and "bash, fish, zsh" in err


def test_trainyard_has_the_verbs_of_a_repository_everywhere_and_none_of_those_who_develop_it(
    verbs: list[str], elsewhere: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    code, out, _ = run(capfd, "--list", name="trainyard")
    listed = {line.split()[0] for line in out.splitlines() if line.startswith("  ") and line[2] != " "}

    assert code == 0 and {"train", "init", "setup", "store.start"} <= listed < set(verbs)
    extra = Collection()
    development(extra)
    assert set(verbs) - listed == set(extra.task_names)


def test_messages_name_the_command_that_was_typed(elsewhere: Path, capfd: pytest.CaptureFixture[str]) -> None:
    try:
        assert "trainyard reap --all-stacks --dry-run shows the pods" in run(capfd, "attach", "none", name="trainyard")[2]
        typed("trainyard", ["attach", "env", "train"])
        assert as_typed("invoke attach a; (invoke --list) 'invoke env'") == "trainyard attach a; (trainyard --list) 'trainyard env'"
        assert as_typed("./invoke env; reinvoke env; invoke transforms") == "./invoke env; reinvoke env; invoke transforms"
    finally:
        typed("invoke")
    assert as_typed("invoke attach a") == "invoke attach a"


def test_who_came_by_bootstrap_is_told_commands_that_begin_with_it(
    elsewhere: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TRAINYARD_PROJECT_DIR", str(ROOT))
    monkeypatch.setenv("TRAINYARD_TYPED", "./bootstrap")
    try:
        code, _, err = run(capfd, "logs", "nosuch")
    finally:
        typed("invoke")
    assert code == 2 and "./bootstrap reap --all-stacks --dry-run shows" in err
    assert "TRAINYARD_TYPED" not in os.environ


def test_the_command_alone_lists_what_there_is(elsewhere: Path, capfd: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run(capfd, name="trainyard")

    assert code == 0 and out.startswith("Subcommands:") and "--complete" not in out


def test_doctor_has_something_to_say_outside_any_repository(
    elsewhere: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("trainyard.config.checkout", lambda: None)
    code, out, err = run(capfd, "doctor", name="trainyard")

    assert f"repository        none here ({elsewhere})" in out and "-> To make one: trainyard init" in out, err
    assert code in (0, 2) and not (elsewhere / ".trainyard").exists()


def test_a_playbook_of_the_repository_or_of_trainyard_is_run_by_name(elsewhere: Path, capfd: pytest.CaptureFixture[str]) -> None:
    (elsewhere / "own.yml").write_text("- hosts: all\n  tasks:\n    - debug: {msg: 'hello {{ who }}'}\n")
    done = subprocess.run(command("play", "own.yml", "--", "-e", "who=you"), cwd=elsewhere, capture_output=True, text=True, check=False)
    assert done.returncode == 0 and "hello you" in done.stdout
    done = subprocess.run(command("play", "own.yml", "--", "--help"), cwd=elsewhere, capture_output=True, text=True, check=False)
    assert done.stdout.startswith("usage: invoke play own.yml -- ["), done  # the name under which this process was started

    once = ("play", "own.yml", "-e", "who=you", "-e", "code=1", "--diff")
    (elsewhere / "own.yml").write_text("- hosts: all\n  tasks:\n    - {name: the end, shell: 'echo {{ who }}; exit {{ code }}'}\n")
    failed = subprocess.run(command(*once), cwd=elsewhere, capture_output=True, text=True, check=False)
    how = shlex.split(failed.stderr.splitlines()[-1].partition(": invoke ")[2])
    assert failed.returncode == 2 and how[:3] == ["play", "own.yml", "--start-at-task=the end"] and "--" not in how, failed
    how = [word.replace("code=1", "code=0") for word in how]
    assert subprocess.run(command(*how), cwd=elsewhere, capture_output=True, check=False).returncode == 0

    (elsewhere / "own.yml").write_text("- hosts: all\n  tasks:\n    - debug: {msg: 'hello {{ who }}'}\n")
    (elsewhere / "hosts").write_text("[a]\nh1\n[b]\nh2 ansible_connection=local\n")
    words = ("-i", "hosts", "--limit", "b", "own.yml", "-e", "who=we", "--check", "-f", "3", "own.yml", "-vv", "--", "--diff")
    done = subprocess.run(command("play", *words), cwd=elsewhere, capture_output=True, text=True, check=False)
    assert done.returncode == 0 and done.stdout.count("hello we") == 2 and "h2 " in done.stdout, done

    assert run(capfd, "play", "preflight.yml", name="trainyard")[0] in (0, 2)
    code, _, err = run(capfd, "play", "none.yml", name="trainyard")
    assert code == 2 and "none.yml" in err
    code, _, err = run(capfd, "play", "own.yml", "nobody", name="trainyard")
    assert code == 2 and "there is no run 'nobody' here" in err


def test_the_verb_play_has_every_option_of_the_playbooks_own_command_line() -> None:
    theirs = {word.removeprefix("--") for action in _parser(None)._actions for word in action.option_strings if word.startswith("--")}
    shorts = {word for action in _parser(None)._actions for word in action.option_strings if len(word) == 2}
    ours = [argument.names for argument in playverbs.play.get_arguments()]
    assert theirs - {"help"} == {names[0] for names in ours} - {"playbook", "stack"}
    assert shorts - {"-h"} == {f"-{name}" for names in ours for name in names[1:]} - {"-s", "-k"}


def test_in_another_project_invoke_is_invoke_as_anywhere(
    elsewhere: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("trainyard.config.checkout", lambda: None)
    code, _, err = run(capfd, "build")
    assert (code, err) == (2, f"{elsewhere} is in no repository of Trainyard's\nTo make it one: trainyard init\n")

    (elsewhere / "tasks.py").write_text("from invoke import task\n@task\ndef init(c, name='x'):\n    print('theirs', name)\n")
    (elsewhere / "deep").mkdir()
    monkeypatch.chdir(elsewhere / "deep")
    assert run(capfd, "init", "--name", "y") == (0, "theirs y\n", "")


def test_trainyard_s_help_names_trainyard(capfd: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run(capfd, "--help", name="trainyard")

    told = " ".join(out.split())  # it is wrapped

    assert code == 0 and 'eval "$(trainyard env)"' in told and "invoke env" not in told


def test_a_short_h_asks_for_help_whatever_options_a_verb_has(capfd: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run(capfd, "train", "-h", name="trainyard")

    assert code == 0 and "--hours" in out and "-h " not in out


def test_a_command_that_is_empty_trains_nothing_else(capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["trainyard", "train", "--"])

    code, _, err = run(capfd, "train", "--", name="trainyard")

    assert code == 2 and "recipe command has nothing to run" in err and "trainyard train -- python train.py" in err


def test_a_short_option_means_the_same_in_every_verb() -> None:
    meanings: dict[str, set[str]] = {}
    namespace = verbs_of_a_person()
    for name in namespace.task_names:
        for argument in namespace[name].get_arguments(ignore_unknown_help=True):
            for word in argument.names if name != "play" else ():  # its are Ansible's
                if len(word) == 1:
                    meanings.setdefault(word, set()).add(argument.names[0])

    assert {word: options for word, options in meanings.items() if len(options) > 1} == {}
    assert (meanings["s"], meanings["e"]) == ({"stack"}, {"set"}) and "h" not in meanings
    assert {option for options in meanings.values() for option in options} == set(SHORT)


LINGERING = """
import time
from concurrent.futures import ThreadPoolExecutor
from trainyard.cli import commandline, playverbs
ThreadPoolExecutor(1).submit(time.sleep, 600)
commandline.main(["--version"])
"""


def test_a_thread_that_waits_for_an_answer_does_not_hold_the_end_of_a_command() -> None:
    done = subprocess.run([sys.executable, "-c", LINGERING], capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0 and done.stdout.strip(), done.stderr


@pytest.mark.parametrize(
    "program", ["from trainyard.cli.commandline import main; main(['--version'])", "run_module('trainyard.playbook', run_name='__main__')"]
)
def test_at_its_end_a_process_looks_through_nothing_once_more(program: str) -> None:
    text = f"import atexit, gc, sys; from runpy import run_module; atexit.register(lambda: print(gc.get_freeze_count() > 999)); {program}"
    done = subprocess.run(
        [sys.executable, "-c", text, "--syntax-check", "playbooks/preflight.yml"], capture_output=True, text=True, check=False
    )
    assert done.stdout.endswith("True\n"), done.stderr
