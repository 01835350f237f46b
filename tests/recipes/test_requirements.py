"""The packages of a person's code: which file names them, when an environment is another one, and that a program has them."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from tests.recipes.conftest import ROOT
from tests.recipes.test_venvs import wheel
from trainyard.config import Places
from trainyard.errors import TrainyardError, UserError
from trainyard.recipes import bundle, requirements, venvs
from trainyard.recipes.code import collect
from trainyard.recipes.contract import load_recipe
from trainyard.recipes.data import inspect
from trainyard.recipes.requirements import Requirements
from trainyard.recipes.summaries import Values
from trainyard.recipes.values import resolve

BACKEND = """
import base64, hashlib, zipfile

def get_requires_for_build_wheel(config_settings=None):
    return []

def build_wheel(folder, config_settings=None, metadata_directory=None):
    name, info = "own-1.0-py3-none-any.whl", "own-1.0.dist-info"
    files = {"own.py": open("src/own.py").read(), info + "/METADATA": "Metadata-Version: 2.1\\nName: own\\nVersion: 1.0\\n",
             info + "/WHEEL": "Wheel-Version: 1.0\\nGenerator: x\\nRoot-Is-Purelib: true\\nTag: py3-none-any\\n"}
    with zipfile.ZipFile(folder + "/" + name, "w") as out:
        for key, text in files.items():
            out.writestr(key, text)
        out.writestr(info + "/RECORD", "")
    return name
"""
PROJECT = """
[project]
name = "own"
version = "1.0"
dependencies = ["tinypack"]
[build-system]
requires = []
build-backend = "backend"
backend-path = ["build_it"]
[tool.uv.sources]
tinypack = { path = "wheels/tinypack-1.0-py3-none-any.whl" }
"""


def folder(top: Path, **files: str) -> Path:
    """Write files whose names have '__' for '/' and '_DOT_' for '.', beside the wheel of tinypack."""
    (top / "wheels").mkdir(parents=True, exist_ok=True)
    wheel(top / "wheels")
    for name, text in {"train.py": "import tinypack\n", **files}.items():
        (top / name).parent.mkdir(parents=True, exist_ok=True)
        (top / name).write_text(text)
    return top


def found(top: Path, *sets: str) -> Requirements | None:
    command = load_recipe(ROOT, "command")
    return requirements.of_run(collect(top), resolve(command, sets=["command=true", f"code={top}", *sets]))


@pytest.mark.parametrize(
    ("files", "sets", "expected"),
    [
        ({}, (), None),
        ({"pyproject.toml": "[tool.ruff]\n"}, (), None),
        ({"pyproject.toml": "[project]\nname='a'\n"}, (), ("pyproject", "pyproject.toml", False)),
        ({"pyproject.toml": PROJECT}, (), ("pyproject", "pyproject.toml", True)),
        ({"pyproject.toml": PROJECT, "requirements.txt": "numpy\n"}, (), ("requirements", "requirements.txt", False)),
        ({"pyproject.toml": PROJECT, "uv.lock": "version = 1\n", "requirements.txt": ""}, (), ("uv.lock", "uv.lock", True)),
        ({"requirements.txt": "numpy\n", "gpu/req.txt": "torch\n"}, ("requirements=gpu/req.txt",), ("requirements", "gpu/req.txt", False)),
        ({"requirements.txt": "numpy\n"}, ("requirements=none",), None),
        ({"pyproject.toml": "[project]\n", "uv.lock": "package = ['a', {source = 'x'}]\n"}, (), ("uv.lock", "uv.lock", False)),
    ],
)
def test_the_file_that_names_the_packages_is_found_or_named(
    tmp_path: Path, files: dict[str, str], sets: tuple[str, ...], expected: tuple[str, str, bool] | None
) -> None:
    needs = found(folder(tmp_path, **files), *sets)
    assert (None if needs is None else (needs.kind, needs.file, needs.project)) == expected


@pytest.mark.parametrize(
    ("files", "sets", "message"),
    [
        ({}, ("requirements=none.txt",), "there is no none.txt in the code of"),
        ({"requirements.txt": "numpy\nnumpy = 1\n"}, (), "'numpy = 1' is no requirement"),
        ({"requirements.txt": "-r more.txt\n"}, (), "more.txt does not go along"),
        ({"pyproject.toml": "[project\n"}, (), r"pyproject.toml: "),
        ({"pyproject.toml": "project = 5\n"}, ("requirements=pyproject.toml",), r"pyproject\.toml: project must be a table"),
        ({"pyproject.toml": "[project]\nname = 'a'\n[tool]\nuv = 3\n"}, (), r"tool\.uv must be a table"),
        ({"pyproject.toml": "[project]\ndependencies = 'a'\n"}, (), "dependencies must be a list"),
        ({"requirements.txt": "--index-url https://me:ghp_" + "a1B2" * 9 + "@x.example/\n"}, (), "does not go along with the code: a to"),
        ({"uv.lock": "version = 1\n"}, ("requirements=uv.lock",), "needs a pyproject.toml beside it"),
        ({"sub/pyproject.toml": PROJECT}, ("requirements=sub/pyproject.toml",), "must lie at the top"),
    ],
)
def test_a_wrong_file_is_told_with_its_line(tmp_path: Path, files: dict[str, str], sets: tuple[str, ...], message: str) -> None:
    with pytest.raises(UserError, match=message) as caught:
        found(folder(tmp_path, **files), *sets)
    assert "numpy = 1" not in message or (caught.value.where and caught.value.where.line == 2)


@pytest.mark.parametrize(
    ("text", "counts"),
    [
        ("numpy>=1 # why\ntorch==2.9; python_version > '3'\n", False),
        ("--extra-index-url https://x.example/simple\nfoo @ https://x.example/foo.whl\ngit+https://x.example/a/b\n", False),
        ("-e .\n", True), ("./wheels/tinypack-1.0-py3-none-any.whl\n", True), (".[train]\n", True), ("wheels/x.tar.gz\n", True),
        ("foo @ ./pkg\n", True), ("--find-links ./wheels\n", True), ("-f https://x.example/\n", False),
    ],
)  # fmt: skip
def test_an_environment_is_another_one_when_what_decides_it_changes(tmp_path: Path, text: str, counts: bool) -> None:
    top = folder(tmp_path, **{"requirements.txt": text})
    before = found(top)
    assert before == found(top) and before is not None
    (top / "train.py").write_text("other\n")
    after = found(top)
    assert after is not None and (after.key != before.key) is counts, "files of the code count where they are installed"
    (top / "requirements.txt").write_text(text + "six\n")
    changed = found(top)
    assert changed is not None and changed.key != after.key
    (top / ".python-version").write_text("3.12\n")
    asked = found(top)
    assert asked is not None and asked.python == "3.12" and asked.key != changed.key


def test_the_python_of_a_project_is_the_one_it_allows(tmp_path: Path) -> None:
    top = folder(tmp_path, **{"pyproject.toml": "[project]\nname='a'\nrequires-python='>=3.11,<4'\n"})
    needs = found(top)
    assert needs is not None and needs.python == "<4,>=3.11"
    (top / ".python-version").write_text("pypy@3.10\n")
    assert found(top) == needs, "what is no plain version is for uv to read, not for a pod"
    (top / "pyproject.toml").write_text("[project]\nname='a'\nrequires-python='about 3'\n")
    with pytest.raises(UserError, match="is no range of versions"):
        found(top)


def test_included_files_count(tmp_path: Path) -> None:
    top = folder(tmp_path, **{"requirements.txt": "-r base.txt\n", "base.txt": "-c limits.txt\nnumpy\n", "limits.txt": "numpy<3\n"})
    before = found(top)
    (top / "limits.txt").write_text("numpy<4\n")
    after = found(top)
    assert before is not None and after is not None and before.key != after.key


USE = "import os, sys, tinypack\nopen(os.environ['OUTPUT_DIR'] + '/model/m', 'w').write(f'{tinypack.ANSWER} {tinypack.__file__}')\n"
WHEEL = "./wheels/tinypack-1.0-py3-none-any.whl\n"


@pytest.fixture
def offline(tmp_path: Path) -> dict[str, str]:
    kept = {key: os.environ[key] for key in ("HOME",) if key in os.environ}
    path = f"{os.path.dirname(venvs.find_uv())}:{os.environ['PATH']}"
    return {**kept, "PATH": path, "UV_OFFLINE": "1", "PIP_CONFIG_FILE": os.devnull, "UV_CACHE_DIR": str(tmp_path / "uvcache")}


def run(top: Path, pod: Path, env: dict[str, str], *sets: str) -> tuple[int, str]:
    command, own = load_recipe(ROOT, "command"), collect(top)
    values = resolve(command, sets=["command=python train.py", f"code={top}", *sets])
    shutil.rmtree(pod / "run", ignore_errors=True)
    bundle.build(command, values, inspect(None, command), pod / "run", code=own)
    done = subprocess.run(["sh", pod / "run/run.sh"], env=env, capture_output=True, text=True)
    return done.returncode, done.stdout + done.stderr


def test_on_a_pod_the_packages_are_installed_once_and_the_program_has_them(tmp_path: Path, offline: dict[str, str]) -> None:
    top = folder(tmp_path / "c", **{"requirements.txt": WHEEL, "train.py": USE})
    code, log = run(top, tmp_path / "pod", offline)
    assert code == 0 and "building the environment of requirements.txt" in log, log
    assert (tmp_path / "pod/output/model/m").read_text().startswith("42 ")
    code, log = run(top, tmp_path / "pod", offline)
    assert code == 0 and "3. ready environment" in log, log


@pytest.mark.parametrize("lock", [False, True])
def test_a_project_of_its_own_is_installed_beside_its_dependencies(tmp_path: Path, offline: dict[str, str], lock: bool) -> None:
    use = USE + "import own\nassert own.WORD == 'first', own\n"
    files = {"pyproject.toml": PROJECT, "build_it/backend.py": BACKEND, "src/own.py": "WORD = 'first'\n", "train.py": use}
    top = folder(tmp_path / "c", **files)
    if lock:
        subprocess.run([venvs.find_uv(), "lock", "-q"], cwd=top, env=offline, check=True)
    code, log = run(top, tmp_path / "pod", offline)
    assert code == 0 and "the project of pyproject.toml is installed" in log, log
    before = log

    (top / "src/own.py").write_text("WORD = 'second'\n")
    (top / "train.py").write_text(use.replace("first", "second"))
    code, log = run(top, tmp_path / "pod", offline)
    assert code == 0, before + log


def test_packages_that_cannot_be_installed_end_the_run_with_uvs_own_words(tmp_path: Path, offline: dict[str, str]) -> None:
    top = folder(tmp_path / "c", **{"requirements.txt": WHEEL + "no-such-package-of-anybody==1\n", "train.py": USE})
    code, log = run(top, tmp_path / "pod", offline)
    assert code == 69 and "no-such-package-of-anybody" in log and "could not be installed" in log


def test_on_this_machine_it_is_built_from_a_copy_and_shared(tmp_path: Path, offline: dict[str, str]) -> None:
    places = Places(tmp_path, tmp_path / "home", tmp_path / "outside", tmp_path / "settings")
    pkg = {"pkg/pyproject.toml": PROJECT.replace('["tinypack"]', "[]"), "pkg/build_it/backend.py": BACKEND}
    top = folder(tmp_path / "c", **{"requirements.txt": "-e ./pkg\n" + WHEEL, "pkg/src/own.py": "WORD = 1\n", **pkg})
    own, needs, said = collect(top), found(top), list[str]()
    assert needs is not None
    path = venvs.ensure_code(own, needs, places, said.append, env=offline)
    asked = [str(path / "bin/python"), "-c", "import own, tinypack; print(own.__file__)"]
    shown = subprocess.run(asked, capture_output=True, text=True).stdout
    assert shown.startswith(str(path)), "nothing in it leads to the folder it was built from"
    said.clear()
    assert venvs.ensure_code(own, needs, places, said.append, env=offline) == path and said == []


def test_packages_that_cannot_be_had_on_this_machine_are_the_persons_to_correct_in_uvs_words(
    tmp_path: Path, offline: dict[str, str]
) -> None:
    places = Places(tmp_path, tmp_path / "home", tmp_path / "outside", tmp_path / "settings")
    top = folder(tmp_path / "c", **{"requirements.txt": WHEEL + "tinypack==2.0\n"})
    needs = found(top)
    assert needs is not None
    with pytest.raises(UserError) as caught:
        venvs.ensure_code(collect(top), needs, places, lambda line: None, env=offline)
    assert caught.value.exit_code == 2 and "tinypack==2.0" in caught.value.message and "uv says" in caught.value.message
    assert f"requirements.txt of {top}" in caught.value.message and "--set requirements=none" in str(caught.value.hint)


def test_a_package_index_that_is_not_reached_is_told_with_a_command_that_asks_it(tmp_path: Path, offline: dict[str, str]) -> None:
    places = Places(tmp_path, tmp_path / "home", tmp_path / "outside", tmp_path / "settings")
    top, env = folder(tmp_path / "c", **{"requirements.txt": "numpy\n"}), {**offline, "UV_OFFLINE": "0", "UV_HTTP_RETRIES": "0"}
    needs = found(top)
    assert needs is not None
    with pytest.raises(TrainyardError, match="network cannot be reached") as caught:
        venvs.ensure_code(collect(top), needs, places, lambda line: None, env={**env, "UV_DEFAULT_INDEX": "http://127.0.0.1:9/simple"})
    assert caught.value.exit_code == 69 and "python3 -m pip index versions uv" in str(caught.value.hint)


def test_a_python_that_is_neither_here_nor_fetched_is_told_by_its_version_and_no_index_is_blamed(
    tmp_path: Path, offline: dict[str, str]
) -> None:
    places = Places(tmp_path, tmp_path / "home", tmp_path / "outside", tmp_path / "settings")
    (lock := tmp_path / "some.lock").write_text("")
    other = "3.12" if sys.version_info[:2] != (3, 12) else "3.11"
    nowhere = {
        "UV_OFFLINE": "0", "UV_HTTP_RETRIES": "0", "UV_PYTHON_PREFERENCE": "only-managed",
        "UV_PYTHON_INSTALL_DIR": str(tmp_path / "pythons"), "UV_PYTHON_INSTALL_MIRROR": "http://127.0.0.1:9",
    }  # fmt: skip
    with pytest.raises(TrainyardError, match="network cannot be reached") as caught:
        venvs.ensure(lock, places, lambda line: None, python=other, env={**offline, **nowhere})
    hint = str(caught.value.hint)
    assert caught.value.exit_code == 69 and f"Install Python {other} " in hint and "index" not in hint


@pytest.mark.parametrize(("text", "problem"), [(WHEEL, None), (WHEEL + "tinypack==2.0\n", "cannot be had together")])
def test_what_cannot_be_had_together_is_told_before_a_pod_is_paid_for(
    tmp_path: Path, offline: dict[str, str], text: str, problem: str | None
) -> None:
    top = folder(tmp_path / "c", **{"requirements.txt": text})
    needs = found(top)
    assert needs is not None
    if problem is None:
        return venvs.check_code(collect(top), needs, pytest.fail, env=offline)
    with pytest.raises(TrainyardError, match=problem) as caught:
        venvs.check_code(collect(top), needs, pytest.fail, env=offline)
    assert "tinypack" in caught.value.message and "check_requirements=false" in str(caught.value.hint)


def test_an_index_that_cannot_be_asked_is_said_and_stops_nothing(tmp_path: Path, offline: dict[str, str]) -> None:
    top = folder(tmp_path / "c", **{"requirements.txt": "numpy\n"})
    needs, said = found(top), list[str]()
    assert needs is not None
    env = {**offline, "UV_OFFLINE": "0", "UV_DEFAULT_INDEX": "http://127.0.0.1:9/simple", "UV_HTTP_RETRIES": "0"}
    venvs.check_code(collect(top), needs, said.append, env=env)
    assert any("could not be checked from here" in line for line in said)


def test_what_trainyards_own_checkout_needs_is_not_installed_for_a_program_that_is_tried_from_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    code = collect(folder(tmp_path, **{"requirements.txt": "tinypack\n"}))
    values: Values = {"requirements": "auto"}
    assert requirements.of_run(code, values) is not None

    monkeypatch.setattr(requirements, "checkout", lambda: code.root)

    assert requirements.of_run(code, values) is None
    assert requirements.of_run(code, {"requirements": "requirements.txt"}) is not None


def test_a_script_has_the_requirements_beside_it_and_what_pip_adds(tmp_path: Path, offline: dict[str, str]) -> None:
    env = offline | {"PIP_FIND_LINKS": str(tmp_path / "wheels")}
    (tmp_path / "wheels").mkdir()
    wheel(tmp_path / "wheels")
    wheel(tmp_path / "wheels", "more")
    script = tmp_path / "alone/job.py"
    script.parent.mkdir()
    script.write_text(USE.replace("tinypack\n", "tinypack, more\n", 1))
    script.with_name("requirements.txt").write_text("tinypack\n")
    command = load_recipe(ROOT, "command")
    values = resolve(command, sets=[f"script={script}", "pip=more==1.0"])
    needs = requirements.of_run(None, values)
    assert needs is not None and needs.describe() == "files/requirements.txt, more==1.0"

    bundle.build(command, values, inspect(None, command), tmp_path / "pod/run")
    done = subprocess.run(["sh", tmp_path / "pod/run/run.sh"], env=env, capture_output=True, text=True)
    assert done.returncode == 0 and "building the environment of files/requirements.txt, more==1.0" in done.stdout, (
        done.stdout + done.stderr
    )
    assert (tmp_path / "pod/output/model/m").read_text().startswith("42 ")

    again = resolve(command, sets=[f"script={tmp_path}/pod/run/files/job.py", "pip=more==1.0"])
    assert requirements.of_run(None, again) == replace(needs, beside=tmp_path / "pod/run/files/requirements.txt")
    assert requirements.of_run(None, {**values, "requirements": "none", "pip": []}) is None


LOCKED = {"pyproject.toml": PROJECT.partition("[build")[0] + PROJECT[PROJECT.index("[tool") :], "uv.lock": ""}


@pytest.mark.parametrize("files", [{}, {"requirements.txt": WHEEL}, LOCKED])
def test_what_pip_adds_is_there_beside_what_any_file_says(tmp_path: Path, offline: dict[str, str], files: dict[str, str]) -> None:
    top = folder(tmp_path / "c", **{**files, "train.py": "import more\n" + (USE if files else "")})
    if "uv.lock" in files:
        (top / "uv.lock").unlink()
        subprocess.run([venvs.find_uv(), "lock", "-q"], cwd=top, env=offline, check=True)
    (tmp_path / "more").mkdir()
    wheel(tmp_path / "more", "more")
    plain, needs = found(top), found(top, "pip=more")
    assert needs is not None and (plain is None or plain.key != needs.key)
    code, log = run(top, tmp_path / "pod", offline | {"UV_FIND_LINKS": str(tmp_path / "more")}, "pip=more")
    assert code == 0, log


@pytest.mark.parametrize(
    ("sets", "beside", "message"),
    [
        (["pip=numpy =1"], "", "pip: '=1' is no requirement"),
        (["pip=-e ."], "", "pip: '-e' is an option or a path"),
        (["pip=./x.whl"], "", "pip: './x.whl' is an option or a path"),
        (["requirements=gpu.txt"], "", "there is no file gpu.txt beside job.py"),
        ([], "numpy\n-r more.txt\n", "'-r more.txt' names a file"),
        ([], "numpy\n\nnumpy = 1\n", "'numpy = 1' is no requirement"),
        ([], "--index-url https://me:ghp_" + "a1B2" * 9 + "@x.example/\n", "does not go along with the script"),
    ],
)
def test_what_a_script_needs_and_cannot_have_is_refused(tmp_path: Path, sets: list[str], beside: str, message: str) -> None:
    (tmp_path / "job.py").write_text("print()\n")
    (tmp_path / "requirements.txt").write_text(beside)
    with pytest.raises(UserError, match=re.escape(message)) as caught:
        requirements.of_run(None, resolve(load_recipe(ROOT, "command"), sets=[f"script={tmp_path}/job.py", *sets]))
    assert "numpy = 1" not in message or (caught.value.where and caught.value.where.line == 3)


def test_packages_that_pip_adds_are_asked_for_with_those_of_the_file(tmp_path: Path, offline: dict[str, str]) -> None:
    top = folder(tmp_path / "c", **{"requirements.txt": WHEEL})
    needs = found(top, "pip=tinypack==2.0")
    assert needs is not None
    with pytest.raises(TrainyardError, match=r"requirements\.txt, tinypack==2\.0 cannot be had together"):
        venvs.check_code(collect(top), needs, pytest.fail, env=offline)
