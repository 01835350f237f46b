"""`./bootstrap` as a person runs it: a Python that fits, one at a time, nothing twice, killed and started again."""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from trainyard.setup import bootstrap, packages
from trainyard.setup.console import NO_SPACE, WRONG_MACHINE, SetupError

ROOT = Path(__file__).resolve().parents[2]


def program(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    path.chmod(0o755)
    return path


def copy_checkout(to: Path) -> Path:
    """Copy what set-up needs of this checkout: no environment, no state."""
    packed = ("pyproject.toml", "hatch_build.py", "README.md", "LICENSE", "trainyard")
    for name in ("bootstrap", "requirements.txt", "tasks.py", "Pulumi.yaml", "tools", *packed):
        source = ROOT / name
        if source.is_dir():
            shutil.copytree(source, to / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            to.mkdir(exist_ok=True)
            shutil.copy(source, to / name)
    (to / "tests").mkdir()
    for name in ("__init__.py", "measured.py", "verbs.py"):
        shutil.copy(ROOT / "tests" / name, to / "tests" / name)
    return to


def run(checkout: Path, *arguments: str, env: dict[str, str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["/bin/sh", checkout / "bootstrap", *arguments], env=env, capture_output=True, text=True, check=False, timeout=110
    )


# --- which Python -----------------------------------------------------------------------------------------------------


def old_python(folder: Path, version: str) -> Path:
    return program(folder / "python3", f'#!/bin/sh\n[ "$1" = --version ] && echo Python {version} && exit\nexit 1\n')


def test_a_python_that_is_too_old_is_named_with_the_way_out(tmp_path: Path) -> None:
    checkout = copy_checkout(tmp_path / "checkout")
    old_python(tmp_path / "bin", "3.9.2")

    done = run(checkout, "test", env={"PATH": str(tmp_path / "bin")})

    assert done.returncode == WRONG_MACHINE
    assert done.stderr.startswith("bootstrap: Python 3.11 or newer is needed; found: python3 (Python 3.9.2)\n")
    assert "TRAINYARD_PYTHON=/path/to/python3 ./bootstrap" in done.stderr


def test_no_python_at_all_is_told_too(tmp_path: Path) -> None:
    done = run(copy_checkout(tmp_path / "checkout"), env={"PATH": str(tmp_path)})

    assert (done.returncode, done.stdout) == (WRONG_MACHINE, "")
    assert "found: none" in done.stderr


def test_an_old_python3_is_passed_over_for_a_newer_one_beside_it(tmp_path: Path) -> None:
    checkout = copy_checkout(tmp_path / "checkout")
    old_python(tmp_path / "bin", "3.9.2")
    program(tmp_path / "bin" / "python3.12", '#!/bin/sh\n[ "$4" = x ] || echo "took 3.12: $*"\n')

    done = run(checkout, "test", env={"PATH": str(tmp_path / "bin")})

    assert done.stdout.endswith(f"{checkout} test\n")


def test_a_python_that_is_named_is_the_only_one_asked(tmp_path: Path) -> None:
    checkout = copy_checkout(tmp_path / "checkout")
    named = old_python(tmp_path / "a folder", "3.10.1")

    done = run(checkout, env={"PATH": os.environ["PATH"], "TRAINYARD_PYTHON": str(named)})

    assert done.returncode == WRONG_MACHINE
    assert f"found: {named} (Python 3.10.1)" in done.stderr


# --- the stamp --------------------------------------------------------------------------------------------------------


@pytest.fixture
def made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A checkout with a stand-in for the two slow halves; what they were called with is in `calls`."""
    checkout = copy_checkout(tmp_path / "checkout")
    server = program(tmp_path / "bin" / "versitygw", "#!/bin/sh\necho 'Version: 1.8.0'\n")
    monkeypatch.setenv("PATH", f"{server.parent}:/usr/bin:/bin")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))

    def install(root: Path, env: object, on_line: object, keep: int, *, rebuild: bool = False, stamped: bool = False) -> None:
        program(root / ".venv" / "bin" / "invoke", "#!/bin/sh\n")
        with (tmp_path / "calls").open("a") as file:
            file.write("rebuild\n" if rebuild else "install\n")

    def tools(root: Path, env: object, lock: int) -> bool:
        with (tmp_path / "calls").open("a") as file:
            file.write("tools\n")
        return not (tmp_path / "offline").exists()

    monkeypatch.setattr(packages, "install", install)
    monkeypatch.setattr(bootstrap, "_tools", tools)
    return checkout


def calls(made: Path) -> list[str]:
    """Prepare once more, and return what had to be done."""
    log = made.parent / "calls"
    log.unlink(missing_ok=True)
    bootstrap.prepare(made, os.environ, lambda line: None)
    return log.read_text().split() if log.exists() else []


def test_nothing_is_done_twice(made: Path) -> None:
    assert calls(made) == ["install", "tools"]
    assert calls(made) == []


@pytest.mark.parametrize("changed", ["requirements.txt", "pyproject.toml", "tools/go.sum", "trainyard/setup/tools.py", "bootstrap"])
def test_a_changed_input_is_noticed(made: Path, changed: str) -> None:
    calls(made)

    with (made / changed).open("a") as file:
        file.write("\n# changed\n")

    assert calls(made) == ["install", "tools"]


def test_a_file_that_set_up_does_not_depend_on_changes_nothing(made: Path) -> None:
    calls(made)

    (made / "tasks.py").write_text("changed")

    assert calls(made) == []


def test_a_moved_checkout_is_built_anew(made: Path) -> None:
    """Scripts of an environment hold its path."""
    calls(made)
    moved = made.rename(made.with_name("moved"))

    assert calls(moved) == ["rebuild", "tools"]


def test_a_stamp_that_cannot_be_read_counts_as_none(made: Path) -> None:
    calls(made)

    (made / ".venv" / bootstrap.STAMP).write_text("{ half")

    assert calls(made) == ["install", "tools"]


def test_only_an_environment_that_we_made_is_emptied(tmp_path: Path) -> None:
    venv = tmp_path / ".venv"
    assert packages.is_ours(venv, stamped=False)
    venv.mkdir()
    assert packages.is_ours(venv, stamped=False)
    (venv / "theirs").touch()
    assert not packages.is_ours(venv, stamped=False)
    assert packages.is_ours(venv, stamped=True)
    (venv / packages.MADE).touch()
    assert packages.is_ours(venv, stamped=False)
    (venv / packages.GUEST).touch()
    assert not packages.is_ours(venv, stamped=True)


@pytest.mark.parametrize("kind", ["folder", "link", "dangling", "file", "other python"])
def test_what_stands_in_place_of_the_environment_and_is_not_ours_is_left_alone(tmp_path: Path, kind: str) -> None:
    (tmp_path / "requirements.txt").touch()
    precious = tmp_path / ("elsewhere" if kind == "link" else ".venv")
    if kind in ("folder", "link"):
        (precious / "bin").mkdir(parents=True)
        (precious / "model.bin").write_text("precious")
    if kind in ("link", "dangling"):
        (tmp_path / ".venv").symlink_to(tmp_path / "elsewhere")
    if kind == "file":
        precious.write_text("precious")
    if kind == "other python":
        program(precious / "bin" / "python", "#!/bin/sh\nexit 1\n")

    with pytest.raises(SetupError, match="nothing in it was touched") as caught:
        packages.install(tmp_path, os.environ, lambda line: None, 0, rebuild=kind == "other python")

    assert caught.value.exit_code == WRONG_MACHINE and "rm " in str(caught.value.hint)
    if kind in ("folder", "link"):
        assert (precious / "model.bin").read_text() == "precious"
        assert sorted(path.name for path in precious.iterdir()) == ["bin", "model.bin"]


def test_a_pulumi_that_came_or_went_lets_the_tools_look_again(made: Path) -> None:
    calls(made)

    cli = program(made.parent / "bin" / "pulumi", "#!/bin/sh\n")
    assert calls(made) == ["tools"]
    assert calls(made) == []
    cli.unlink()
    assert calls(made) == ["tools"]


def test_a_reaper_waits_for_no_tools_and_the_next_verb_makes_up_for_it(made: Path) -> None:
    for _ in range(2):
        bootstrap.prepare(made, os.environ, lambda line: None, tools=False)
    assert (made.parent / "calls").read_text().split() == ["install"]

    assert calls(made) == ["tools"]


def test_a_missing_s3_server_lets_the_tools_look_again(made: Path) -> None:
    calls(made)

    (made.parent / "bin" / "versitygw").unlink()

    assert calls(made) == ["tools"]
    assert calls(made) == ["tools"]


def test_what_could_not_be_fetched_is_tried_again_after_a_day(made: Path) -> None:
    (made.parent / "offline").touch()
    calls(made)
    assert calls(made) == []

    path = made / ".venv" / bootstrap.STAMP
    stamp = json.loads(path.read_text())
    path.write_text(json.dumps({**stamp, "tools_at": stamp["tools_at"] - bootstrap.AGAIN_AFTER - 1}))

    assert calls(made) == ["tools"]


def test_a_mark_of_a_killed_install_is_noticed(made: Path) -> None:
    calls(made)

    (made / ".venv" / packages.UNFINISHED).touch()

    assert calls(made) != []


def test_too_little_room_is_told_before_anything_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packages, "NEEDED_MB", 10**9)

    with pytest.raises(SetupError, match=r"the disk is full: .* MB free") as caught:
        packages.install(tmp_path, os.environ, lambda line: None, 0)

    assert caught.value.exit_code == NO_SPACE
    assert list(tmp_path.iterdir()) == []


def test_a_cache_that_cannot_be_made_is_told_with_the_way_out(made: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(made / "bootstrap" / "below a file"))

    with pytest.raises(SetupError, match="XDG_CACHE_HOME"):
        bootstrap.prepare(made, os.environ, lambda line: None)


# --- the whole of it --------------------------------------------------------------------------------------------------


@pytest.fixture
def machine(tmp_path: Path) -> dict[str, str]:
    """The environment of a user whose uv and package cache are those of this checkout, without any network."""
    cache = subprocess.run([_uv(), "cache", "dir"], capture_output=True, text=True, check=True).stdout.strip()
    server = program(tmp_path / "bin" / "versitygw", "#!/bin/sh\necho 'Version: 1.8.0'\n")
    (tmp_path / "bin" / "uv").symlink_to(_uv())
    (tmp_path / "bin" / "python3").symlink_to(packages.base_python())
    return {
        "PATH": f"{server.parent}:/usr/bin:/bin",
        "HOME": str(tmp_path),
        "UV_CACHE_DIR": cache,
        "UV_OFFLINE": "1",
        "PIP_CONFIG_FILE": "/dev/null",
        "https_proxy": "http://127.0.0.1:9",
        "PYTHONPATH": "/nowhere",
    }


@pytest.mark.timeout(400)  # 9 s on a quiet machine, a minute on a busy one
def test_from_a_bare_checkout_to_a_verb_with_one_killed_and_two_at_once(tmp_path: Path, machine: dict[str, str]) -> None:
    checkout = copy_checkout(tmp_path / "a chäckout+#%20d")
    command = ["/bin/sh", str(checkout / "bootstrap"), "--list"]

    # One is killed with everything it started, in the middle of making the environment.
    first = subprocess.Popen(command, env=machine, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True)
    assert first.stderr is not None
    assert first.stderr.readline().startswith("Making .venv")
    assert (checkout / ".venv" / packages.UNFINISHED).exists() or _appears(checkout / ".venv" / packages.UNFINISHED)
    _kill_tree(first)

    # Then two at once: one works, the other waits, both end with the verb.
    begun = time.monotonic()
    both = [subprocess.Popen(command, env=machine, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) for _ in range(2)]
    said = [process.communicate(timeout=380) for process in both]
    making = time.monotonic() - begun

    if any("not found in the cache" in err or "network was disabled" in err for _, err in said):
        pytest.skip("uv's cache does not hold the packages of requirements.txt, and this test uses no network")
    assert [process.returncode for process in both] == [0, 0], said
    assert all("train" in out for out, _ in said)
    waited = [err for _, err in said if "Another bootstrap is at work" in err]
    worked = [err for _, err in said if "Installing the packages" in err]
    assert (len(waited), len(worked)) == (1, 1), said
    assert "built-in engine is used" in worked[0]

    # The third has nothing to do, and says nothing; it also works from another folder.
    begun = time.monotonic()
    third = subprocess.run(command, env=machine, capture_output=True, text=True, check=False, cwd=tmp_path)
    assert (third.returncode, third.stderr) == (0, "")
    assert time.monotonic() - begun < making
    ask = [str(checkout / ".venv" / "bin" / "python"), "-c", "import trainyard; print(trainyard.__file__)"]
    where = subprocess.run(ask, capture_output=True, text=True, check=True, cwd="/")
    assert where.stdout.strip() == str(checkout / "trainyard" / "__init__.py")


def _uv() -> Path:
    return Path(sys.prefix) / "bin" / "uv"


def _appears(path: Path) -> bool:
    for _ in range(500):
        if path.exists():
            return True
        time.sleep(0.01)
    return False


def _kill_tree(process: subprocess.Popen[str]) -> None:
    """End a process and all below it, as a power cut would: each is stopped first, so that none has a child unseen."""
    pids = [process.pid]
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
        children = Path(f"/proc/{pid}/task/{pid}/children")
        pids += [int(word) for word in children.read_text().split()] if children.exists() else []
    for pid in pids:
        os.kill(pid, 9)
    process.communicate()
    # A killed process lets go of the lock when it is gone, which is a moment after the kill.
    assert all(_ends(pid) for pid in pids)


def _ends(pid: int) -> bool:
    for _ in range(500):
        try:
            state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
        except (FileNotFoundError, ProcessLookupError):
            return True
        if state == "Z":  # nobody waits for it: its files are closed all the same
            return True
        time.sleep(0.01)
    return False


GO = """#!/bin/sh
case "$1 $2" in
"env GOVERSION") echo go1.26.8; exit;;
"env -json") echo "{}"; exit;;
esac
echo > BEGUN
exec sleep 60
"""


@pytest.mark.parametrize("sign", [signal.SIGTERM, signal.SIGINT])
def test_an_interrupted_bootstrap_leaves_nothing_running(tmp_path: Path, made: Path, sign: signal.Signals) -> None:
    """What it started is ended with it, down to the compiler that builds the S3 server."""
    begun, lock = tmp_path / "begun", tmp_path / "cache" / "trainyard" / "bin" / "lock"
    program(tmp_path / "bin" / "versitygw", "#!/bin/sh\nexit 1\n")
    program(tmp_path / "bin" / "go", GO.replace("BEGUN", str(begun)))
    program(made / ".venv" / "bin" / "python", f'#!/bin/sh\nexec {sys.executable} "$@"\n')
    code = "import sys; from pathlib import Path; from trainyard.setup import bootstrap as b; b.packages.install = lambda *a, **k: None;"
    code += "sys.exit(b.main(Path(sys.argv[1]), []))"
    process = subprocess.Popen([sys.executable, "-c", code, str(made)], stderr=subprocess.PIPE, text=True, start_new_session=True)
    started = _appears(begun)

    process.send_signal(sign)

    _, err = process.communicate(timeout=30)
    assert started, err
    assert process.returncode == 130, err
    assert "it goes on where it stopped" in err
    with lock.open("r+") as file:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
