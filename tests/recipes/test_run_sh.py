"""run.sh by hand: a real program, real signals, every way it can end."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from tests.recipes.conftest import COUNT, ROOT
from trainyard.errors import UserError
from trainyard.recipes import bundle
from trainyard.recipes.code import of_run
from trainyard.recipes.contract import load_recipe
from trainyard.recipes.data import inspect
from trainyard.recipes.values import resolve

SHELLS = [shell for shell in ("dash", "bash") if shutil.which(shell)]


class Run:
    """One rendered bundle and its workspace."""

    def __init__(self, folder: Path, sets: list[str], data: str | None = None, shell: str = "sh") -> None:
        recipe = load_recipe(ROOT, "command")
        self.dir, self.workspace, self.shell = folder / "run", folder, shell
        found = inspect(data, recipe)
        values = resolve(recipe, sets=sets)
        bundle.build(recipe, values, found, self.dir, code=of_run(recipe, values))
        bundle.place_data(found, folder / "input")
        self.output = folder / "output"

    def start(self, **env: Any) -> subprocess.Popen[str]:
        clean = {key: value for key, value in os.environ.items() if key not in ("WORKSPACE", "INPUT_DIR", "OUTPUT_DIR", "HF_HOME")}
        return subprocess.Popen(
            [self.shell, self.dir / "run.sh"],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env=clean | env,
            start_new_session=True,
        )

    def __call__(self, **env: Any) -> tuple[int, str]:
        child = self.start(**env)
        log, _ = child.communicate(timeout=30)
        return child.returncode, log

    @property
    def state(self) -> str:
        return str(json.loads((self.output / "status.json").read_text())["state"])


def program(tmp_path: Path, text: str, name: str = "go.sh") -> str:
    path = tmp_path / name
    path.write_text(text)
    return f"script={path}"


def wait_for(path: Path, text: str) -> None:
    until = time.monotonic() + 90
    while time.monotonic() < until:
        if path.exists() and text in path.read_text():
            return
        time.sleep(0.02)
    raise AssertionError(f"{path} never held {text!r}")


@pytest.mark.parametrize("shell", SHELLS)
def test_a_run_by_hand_tells_its_story_and_leaves_its_files_beside_the_bundle(tmp_path: Path, shell: str) -> None:
    run = Run(tmp_path, [f"script={COUNT}", "args=3 0.01"], shell=shell)
    code, log = run()
    assert code == 0, log
    assert [line.split()[1] for line in log.splitlines() if line.startswith("run:")] == ["1.", "2.", "3.", "4.", "5.", "6."]
    assert (run.output / "model" / "count.txt").read_text() == "counted to 3\n"
    steps = [json.loads(line)["step"] for line in (run.output / "metrics.jsonl").read_text().splitlines()]
    assert steps == [1, 2, 3] and run.state == "done"


def test_a_bundle_under_another_name_keeps_its_workspace_inside(tmp_path: Path) -> None:
    run = Run(tmp_path, [f"script={COUNT}", "args=1 0"])
    moved = tmp_path / "mine"
    run.dir.rename(moved)
    assert subprocess.run(["sh", moved / "run.sh"], capture_output=True, env={"PATH": os.environ["PATH"]}).returncode == 0
    assert (moved / "workspace" / "output" / "model" / "count.txt").exists()


@pytest.mark.parametrize("shell", SHELLS)
@pytest.mark.parametrize("whole_group", [False, True])
def test_term_is_passed_on_and_the_same_command_goes_on(tmp_path: Path, shell: str, whole_group: bool) -> None:
    run = Run(tmp_path, [f"script={COUNT}", "args=40 0.02"], shell=shell)
    child = run.start()
    wait_for(run.output / "checkpoints" / "step", "3")
    os.killpg(child.pid, signal.SIGTERM) if whole_group else child.terminate()
    log, _ = child.communicate(timeout=20)
    assert child.returncode == 75, log
    assert "stopping at step" in log and run.state == "stopped"
    before = int((run.output / "checkpoints" / "step").read_text())
    assert 3 <= before < 40

    code, log = run()
    assert code == 0 and f"step {before + 1} of 40" in log and "step 1 of 40" not in log


def test_a_program_that_takes_its_time_to_stop_is_waited_for(tmp_path: Path) -> None:
    slow = 'trap \'sleep 0.6; echo saved >"$OUTPUT_DIR/model/m"; exit 75\' TERM\necho up >"$OUTPUT_DIR/up"\nwhile :; do sleep 0.05; done\n'
    run = Run(tmp_path, [program(tmp_path, slow)])
    child = run.start()
    wait_for(run.output / "up", "up")
    child.terminate()
    child.terminate()
    assert child.wait(timeout=20) == 75
    assert (run.output / "model" / "m").read_text() == "saved\n"
    child.communicate()


@pytest.mark.parametrize(("finished", "code", "state"), [(False, 75, "stopped"), (True, 0, "done")])
def test_a_program_that_is_told_to_stop_and_ends_with_0_has_not_finished_unless_it_says_so(
    tmp_path: Path, finished: bool, code: int, state: str
) -> None:
    done = 'echo "{\\"state\\": \\"done\\"}" >"$OUTPUT_DIR/status.json";' if finished else ""
    text = f'trap \'{done} echo half >"$OUTPUT_DIR/model/m"; exit 0\' TERM\necho up >"$OUTPUT_DIR/up"\nwhile :; do sleep 0.05; done\n'
    run = Run(tmp_path, [program(tmp_path, "mkdir -p $OUTPUT_DIR/model\n" + text)])
    child = run.start()
    wait_for(run.output / "up", "up")
    child.terminate()
    log, _ = child.communicate(timeout=20)

    assert (child.returncode, run.state) == (code, state), log


def test_a_failure_keeps_the_programs_own_exit_code(tmp_path: Path) -> None:
    run = Run(tmp_path, [program(tmp_path, "exit 3\n")])
    code, log = run()
    assert (code, run.state) == (3, "failed") and "failed (exit code 3)" in log


def test_done_without_the_expected_file_is_no_success(tmp_path: Path) -> None:
    run = Run(tmp_path, [program(tmp_path, "exit 0\n"), "expect=model/*.safetensors,report.md"])
    code, log = run()
    assert (code, run.state) == (70, "failed") and "nothing matches model/*.safetensors" in log


def test_an_empty_expected_file_is_no_success_and_a_nested_one_is(tmp_path: Path) -> None:
    make = 'mkdir -p "$OUTPUT_DIR/model/a/b"; : >"$OUTPUT_DIR/model/empty"; [ -z "$1" ] || echo x >"$OUTPUT_DIR/model/a/b/c.bin"\n'
    (tmp_path / "1").mkdir()
    (tmp_path / "2").mkdir()
    assert Run(tmp_path / "1", [program(tmp_path, make)])()[0] == 70
    assert Run(tmp_path / "2", [program(tmp_path, make), "args=full"])()[0] == 0


def test_an_altered_bundle_does_not_start(tmp_path: Path) -> None:
    run = Run(tmp_path, [f"script={COUNT}"])
    with (run.dir / "command.sh").open("a") as out:
        out.write("# edited\n")
    code, log = run()
    assert (code, run.state) == (64, "failed") and "step 1" not in log


def test_data_that_are_missing_or_other_than_announced_do_not_train(tmp_path: Path) -> None:
    (tmp_path / "d.txt").write_text("right")
    run = Run(tmp_path, [program(tmp_path, 'cat "$INPUT_DIR/d.txt" >"$OUTPUT_DIR/model/m"\n')], data=str(tmp_path / "d.txt"))
    assert run()[0] == 0 and (run.output / "model" / "m").read_text() == "right"
    (tmp_path / "input" / "d.txt").write_text("wrong")
    assert (run()[0], run.state) == (66, "failed")
    (tmp_path / "input" / "d.txt").unlink()
    assert (run()[0], run.state) == (66, "failed")


def test_arguments_reach_the_program_as_they_were_written(tmp_path: Path) -> None:
    script = program(tmp_path, "import os, sys\nopen(os.environ['OUTPUT_DIR'] + '/model/args', 'w').write(repr(sys.argv[1:]))\n", "go.py")
    run = Run(tmp_path, [script, "args='two words' \"it's\" '$HOME' '*' 'a;b'"])
    code, log = run()
    assert code == 0, log
    assert (run.output / "model" / "args").read_text() == repr(["two words", "it's", "$HOME", "*", "a;b"])


def test_a_program_with_a_first_line_runs_by_it_and_an_interpreter_can_be_named(tmp_path: Path) -> None:
    awk = program(tmp_path, '#!/usr/bin/awk -f\nBEGIN { print "x" > (ENVIRON["OUTPUT_DIR"] "/model/m") }\n', "go")
    assert Run(tmp_path, [awk])()[0] == 0
    (tmp_path / "2").mkdir()
    assert (
        Run(
            tmp_path / "2",
            [
                program(tmp_path, 'print(open(__import__("os").environ["OUTPUT_DIR"] + "/model/m", "w").write("x"))', "go.txt"),
                "interpreter=python3",
            ],
        )()[0]
        == 0
    )


def test_a_workspace_with_signs_that_shells_and_find_read_is_only_a_name(tmp_path: Path) -> None:
    odd = tmp_path / "a [b] *c's $d"
    odd.mkdir()
    code, log = Run(odd, [f"script={COUNT}", "args=1 0"])()
    assert code == 0, log
    assert (Path(odd) / "output" / "model" / "count.txt").exists()


def test_the_name_of_a_data_file_is_said_and_never_run(tmp_path: Path) -> None:
    data = tmp_path / "data"
    data.mkdir()
    name = "$(touch ran) `touch ran` $x \" 'b'.txt"
    (data / name).write_text("text")
    run = Run(tmp_path / "run", [f"script={COUNT}", "args=1 0"], data=str(data))
    code, log = run()
    assert code == 0 and f"run: 4. data {name}: 4 B" in log, log
    assert not list(tmp_path.rglob("ran"))


@pytest.mark.parametrize(
    ("python", "message"),
    [
        ("/none/python3", "asked for (/none/python3) does not start"),
        (sys.executable, "lacks a package that this recipe needs: accelerate, peft, torch"),
    ],
)
def test_a_python_of_the_image_is_asked_whether_it_has_what_the_recipe_needs(tmp_path: Path, python: str, message: str) -> None:
    recipe = load_recipe(ROOT, "lora")
    found = inspect(None, recipe)
    bundle.build(recipe, resolve(recipe, sets=["device=cpu", f"python={python}"]), found, tmp_path / "run")
    done = subprocess.run(["sh", tmp_path / "run" / "run.sh"], capture_output=True, text=True, env={"PATH": os.environ["PATH"]})
    assert done.returncode == 69 and message in done.stderr


SHEBANGS = {
    "bash, in a file that ends in .sh": ("go.sh", '#!/bin/bash\n[[ 1 == 1 ]] && echo ran >"$OUTPUT_DIR/model/x"\n'),
    "env": ("go.sh", '#!/usr/bin/env bash\n[[ 1 == 1 ]] && echo ran >"$OUTPUT_DIR/model/x"\n'),
    "blank space and an argument": ("go", '#! /bin/bash -u \n[[ 1 == 1 ]] && echo ran >"$OUTPUT_DIR/model/x"\n'),
    "env -S with arguments": (
        "go",
        "#!/usr/bin/env -S python3 -u\nimport os; open(os.environ['OUTPUT_DIR'] + '/model/x', 'w').write('ran')\n",
    ),
    "the first line wins over the ending": ("go.py", '#!/bin/sh\necho ran >"$OUTPUT_DIR/model/x"\n'),
    "no first line, .py": ("go.py", "import os\nopen(os.environ['OUTPUT_DIR'] + '/model/x', 'w').write('ran')\n"),
    "one line without an end": ("go.sh", 'echo ran >"$OUTPUT_DIR/model/x"'),
    "Python with CR LF": (
        "go.py",
        "#!/usr/bin/env python3\r\nimport os\r\nopen(os.environ['OUTPUT_DIR'] + '/model/x', 'w').write('ran')\r\n",
    ),
}


@pytest.mark.skipif(not shutil.which("bash"), reason="needs bash")
@pytest.mark.parametrize("case", SHEBANGS)
def test_the_first_line_of_a_script_decides_who_runs_it(tmp_path: Path, case: str) -> None:
    name, text = SHEBANGS[case]
    path = tmp_path / name
    path.write_bytes(text.encode())
    run = Run(tmp_path, [f"script={path}"])
    code, log = run()
    assert code == 0, log
    assert (run.output / "model" / "x").read_text().strip() == "ran"


def test_a_first_line_that_asks_for_what_the_pod_lacks_is_told(tmp_path: Path) -> None:
    code, log = Run(tmp_path, [program(tmp_path, "#!/opt/none/zsh\ntrue\n")])()
    assert code == 127 and "its first line asks for /opt/none/zsh: command not found" in log


@pytest.mark.parametrize("text", ["#!/bin/bash\r\ntrue\r\n", "true\r\n"])
def test_a_shell_script_with_the_line_ends_of_windows_is_refused_beforehand(tmp_path: Path, text: str) -> None:
    (tmp_path / "go.sh").write_bytes(text.encode())
    with pytest.raises(UserError, match="end in CR LF") as caught:
        Run(tmp_path, [f"script={tmp_path / 'go.sh'}"])
    assert "sed -i" in (caught.value.hint or "")


@pytest.mark.skipif(not shutil.which("bash"), reason="needs bash")
def test_the_exit_code_of_a_program_that_ends_while_it_is_told_to_stop_is_kept(tmp_path: Path) -> None:
    # bash forgot it in one of six such ends and gave -1; twelve in a row would show it.
    script = program(tmp_path, "trap 'exit 75' TERM\n: >\"$OUTPUT_DIR/up\"\nwhile :; do sleep 0.005; done\n")
    codes = set()
    for number in range(12):
        folder = tmp_path / str(number)
        folder.mkdir()
        run = Run(folder, [script], shell="bash")
        child = run.start()
        until = time.monotonic() + 90
        while not (run.output / "up").exists() and time.monotonic() < until:
            time.sleep(0.01)
        os.killpg(child.pid, signal.SIGTERM)
        child.communicate(timeout=90)
        codes.add(child.returncode)
    assert codes == {75}


# ---- a command in a person's own code


def code_of(tmp_path: Path, **files: str) -> str:
    """Write a code folder and return the setting that names it."""
    for name, text in files.items():
        path = tmp_path / "mine" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return f"code={tmp_path / 'mine'}"


@pytest.mark.parametrize("shell", SHELLS)
def test_a_command_runs_in_a_copy_of_the_code_and_what_it_writes_there_is_output(tmp_path: Path, shell: str) -> None:
    text = 'echo "$# $1 $2 $PWD" >said; echo more >>given.txt; mkdir -p "sub dir" .hidden\necho x >"sub dir/-n"\n: >.hidden/y\nexit "$3"\n'
    code = code_of(tmp_path, **{"go.sh": text, "given.txt": "given\n", "sub/back\\slash": "odd"})
    run = Run(tmp_path, ["command=sh go.sh 'a b' '$HOME' 0", code], shell=shell)
    for _ in range(2):  # the same command goes on: what it has changed does not make the bundle another one
        status, log = run()
        assert status == 0 and "5. sh go.sh 'a b' '$HOME' 0" in log, log
    written = {path.relative_to(run.output / "workdir").as_posix(): path for path in (run.output / "workdir").rglob("*") if path.is_file()}
    assert set(written) == {"said", "given.txt", "sub dir/-n"}
    assert written["said"].read_text() == f"3 a b $HOME {run.workspace / 'code'}\n"


def test_a_command_that_fails_leaves_what_it_wrote_and_its_exit_code(tmp_path: Path) -> None:
    run = Run(tmp_path, ["command=sh -c 'echo half >model.bin; exit 9'", code_of(tmp_path, a="a")])
    assert run()[0] == 9 and (run.output / "workdir/model.bin").read_text() == "half\n"


TOOLS = "sh sha256sum date mv mkdir cat cut tr uname dirname find head rm cp ln sleep kill grep printf env touch"


def test_python_is_there_where_an_image_has_only_python3(tmp_path: Path) -> None:
    (tmp_path / "bin").mkdir()
    for tool in TOOLS.split():
        (tmp_path / "bin" / tool).symlink_to(str(shutil.which(tool)))
    (tmp_path / "bin/python3").symlink_to(sys.executable)
    run = Run(
        tmp_path, ["command=A=1 python go.py", code_of(tmp_path, **{"go.py": "import os; open('said', 'w').write(os.environ['A'])\n"})]
    )
    status, log = run(PATH=str(tmp_path / "bin"))
    assert status == 0 and (run.output / "workdir/said").read_text() == "1", log


def test_a_script_may_have_code_beside_it(tmp_path: Path) -> None:
    run = Run(tmp_path, [program(tmp_path, 'cat words >"$OUTPUT_DIR/model/m"\n'), code_of(tmp_path, words="hello")])
    assert run()[0] == 0 and (run.output / "model/m").read_text() == "hello"


def test_a_command_that_is_told_to_stop_saves_and_goes_on(tmp_path: Path) -> None:
    text = 'trap \'echo saved >"$OUTPUT_DIR/checkpoints/1"; exit 75\' TERM\necho up >"$OUTPUT_DIR/up"\nwhile :; do sleep 0.05; done\n'
    run = Run(tmp_path, ["command=sh go.sh", code_of(tmp_path, **{"go.sh": text})])
    child = run.start()
    wait_for(run.output / "up", "up")
    child.terminate()
    log, _ = child.communicate(timeout=20)
    assert (child.returncode, run.state) == (75, "stopped") and (run.output / "checkpoints/1").exists(), log
    assert log.endswith("6. stopped on request (exit code 75)\n"), "on a pod, which ends now, no command goes on"


@pytest.mark.skipif(os.getuid() != 0, reason="needs root to mount a small tmpfs")
@pytest.mark.parametrize("shell", SHELLS)
@pytest.mark.parametrize("code", [0, 3])
def test_a_program_that_fills_the_disk_keeps_its_exit_code_though_nothing_more_can_be_logged(tmp_path: Path, shell: str, code: int) -> None:
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=512k", "tmpfs", tmp_path], check=True)
    try:
        fills = 'echo it >"$OUTPUT_DIR/model/a"\ncat /dev/zero >"$WORKSPACE/ballast" 2>/dev/null\n'
        run = Run(tmp_path, [program(tmp_path, f"{fills}exit {code}\n")], shell=shell)
        with (tmp_path / "log").open("wb") as log:
            done = subprocess.run([shell, run.dir / "run.sh"], stdout=log, stderr=log, env={"PATH": os.environ["PATH"]}, timeout=30)

        assert done.returncode == code and (run.output / "model/a").read_text() == "it\n"
    finally:
        subprocess.run(["umount", "-l", tmp_path], check=True)
