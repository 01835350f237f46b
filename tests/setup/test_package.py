"""What pip would install is whole: every file below trainyard/ is in the wheel, every dependency is pinned."""

from __future__ import annotations

import importlib.metadata
import re
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from trainyard.tars import unpack

ROOT = Path(__file__).resolve().parent.parent.parent
DECLARED = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))


def needs() -> list[Requirement]:
    return [Requirement(text) for text in DECLARED["project"]["dependencies"]]


def pins() -> dict[str, str]:
    return dict(re.findall(r"^([a-z0-9-]+)==([^\s;\\]+)", (ROOT / "requirements.txt").read_text(encoding="utf-8"), re.M))


def test_every_folder_with_code_is_a_package() -> None:
    folders = {path.parent for path in (ROOT / "trainyard").rglob("*.py")}

    assert [folder for folder in folders if not (folder / "__init__.py").is_file()] == []


def test_every_dependency_is_pinned() -> None:
    assert {need.name for need in needs()} - set(pins()) == set()


def test_a_lower_bound_is_a_minor_version_that_the_pin_keeps() -> None:
    assert [str(need) for need in needs() if not re.fullmatch(r">=\d+\.\d+", str(need.specifier))] == []
    assert [str(need) for need in needs() if pins()[need.name] not in need.specifier] == []


def test_what_an_index_and_a_type_checker_ask_for_is_there() -> None:
    project = DECLARED["project"]

    assert (ROOT / project["readme"]).is_file() and [ROOT / name for name in project["license-files"]] == [ROOT / "LICENSE"]
    assert project["license"] == "Apache-2.0" and "Apache License" in (ROOT / "LICENSE").read_text(encoding="utf-8")
    assert project["authors"] and project["keywords"] and "Typing :: Typed" in project["classifiers"]
    assert (ROOT / "trainyard" / "py.typed").is_file()


@pytest.mark.parametrize("name", DECLARED["project"]["scripts"])
def test_every_entry_point_is_a_function(name: str) -> None:
    # Ours, not all of that name: `invoke` is the command of the package Invoke, too, and ours is installed over it.
    ours = importlib.metadata.distribution("trainyard").entry_points
    (point,) = [point for point in ours if (point.group, point.name) == ("console_scripts", name)]

    assert point.value == DECLARED["project"]["scripts"][name]
    assert callable(point.load())


def test_the_command_of_this_environment_is_ours() -> None:
    assert "trainyard.cli.commandline" in (Path(sys.prefix) / "bin" / "invoke").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> zipfile.ZipFile:
    """The wheel, built from the source distribution as an index gets both."""
    folder = tmp_path_factory.mktemp("dist")
    build = "import sys; from hatchling.build import build_sdist as build; print(build(sys.argv[1]))"
    sdist = subprocess.run([sys.executable, "-c", build, str(folder)], cwd=ROOT, capture_output=True, text=True, check=True)
    with tarfile.open(folder / sdist.stdout.strip()) as packed:
        unpack(packed, folder)
    (unpacked,) = (path for path in folder.iterdir() if path.is_dir())
    made = subprocess.run(
        [sys.executable, "-c", build.replace("sdist", "wheel"), str(folder)], cwd=unpacked, capture_output=True, text=True, check=True
    )
    return zipfile.ZipFile(folder / made.stdout.strip())


def test_the_wheel_holds_the_package_and_what_it_brings_along_and_nothing_else(wheel: zipfile.ZipFile) -> None:
    tracked = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout.split()
    carried = ("docker/", "docs/", "infra/", "playbooks/", "templates/", "tools/", "Pulumi.")
    expected = {path for path in tracked if path.startswith("trainyard/")}
    expected |= {
        f"trainyard/assets/{path}" for path in tracked if path.startswith(carried) and (path.endswith(".md") or path[:5] != "docs/")
    }
    packed = {name for name in wheel.namelist() if ".dist-info/" not in name}

    assert (expected - packed, packed - expected) == (set(), set())
    launcher = wheel.getinfo("trainyard/assets/infra/provider/pulumi-resource-trainyard")
    assert (launcher.external_attr >> 16) & 0o111, "the provider's launcher lost its x"
