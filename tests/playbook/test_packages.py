"""Packages by the real apt-get and dpkg on a root of the test's own, with a repository of one tiny package."""

from __future__ import annotations

import hashlib
import os
import subprocess
from pathlib import Path

import pytest

from tests.playbook.conftest import Run, Shown
from tests.recipes.test_distribution import apt, deb, machine  # noqa: F401 (a fixture)

root = pytest.mark.skipif(os.geteuid() != 0, reason="who is not root installs nothing")


@pytest.fixture
def tasks(run: Run, machine: dict[str, str]) -> Run:  # noqa: F811 (the fixture)
    """Run tasks in the environment in which apt-get sees that root."""

    def run_tasks(text: str, **options: object) -> Shown:
        indented = "\n".join(f"    {line}" for line in text.strip().splitlines())
        return run(f"- hosts: all\n  environment: {machine!r}\n  tasks:\n{indented}", **options)

    return run_tasks


def changes(shown: Shown) -> int:
    assert not shown.report.reason()
    return shown.report.tallies["pod"].changed


@apt
@root
def test_a_package_is_there_once_and_gone_once_and_check_mode_only_says_so(tasks: Run, tmp_path: Path) -> None:
    file = tmp_path / "machine/root/opt/tinytool"
    install = "- apt: {name: tinytool=1.*, update_cache: true, cache_valid_time: 3600}"
    assert changes(tasks("- apt: {update_cache: true}")) == 1
    assert changes(tasks(install, check=True)) == 1 and not file.exists()
    assert changes(tasks(install)) == 1 and file.read_text() == "1.2"
    assert changes(tasks(install)) == 0 and changes(tasks("- package: {name: [tinytool], state: latest}")) == 0
    remove = "- apt: {pkg: tinytool, state: absent, purge: true}"
    assert changes(tasks(remove, check=True)) == 1 and file.exists()
    assert [changes(tasks(remove)) for _ in range(2)] == [1, 0] and not file.exists()


@apt
@root
def test_a_pattern_means_all_packages_of_such_a_name(tasks: Run, tmp_path: Path) -> None:
    assert changes(tasks("- apt: {name: tinytool, update_cache: true}")) == 1
    path = deb(tmp_path / "repository", "tinytoys", "2")
    control = subprocess.run(["dpkg-deb", "-f", path], check=True, capture_output=True, text=True).stdout
    sums = f"Filename: ./{path.name}\nSize: {path.stat().st_size}\nSHA256: {hashlib.sha256(path.read_bytes()).hexdigest()}"
    with (tmp_path / "repository/Packages").open("a") as known:
        known.write(f"{control}{sums}\n\n")
    pattern = "- apt: {name: 'tinyto[oy]*', update_cache: true}"
    assert [changes(tasks(pattern)) for _ in range(2)] == [1, 0] and (tmp_path / "machine/root/opt/tinytoys").exists()
    assert "no package is called like none*" in tasks("- apt: {name: 'none*'}").report.reason()
    assert changes(tasks("- apt: {name: 'tinyto*', state: absent}")) == 1 and not (tmp_path / "machine/root/opt/tinytool").exists()


@apt
@root
def test_a_package_file_is_installed_unless_that_version_is_there(tasks: Run, tmp_path: Path) -> None:
    text = f"- apt: {{deb: '{deb(tmp_path, 'other', '3')}'}}"
    assert [changes(tasks(text)) for _ in range(2)] == [1, 0]
    assert (tmp_path / "machine/root/opt/other").read_text() == "3"


@apt
@root
def test_what_apt_says_is_the_reason_and_nothing_is_half_told(tasks: Run) -> None:
    shown = tasks("- apt: {name: nothing-of-that-name}")
    assert "Unable to locate package nothing-of-that-name" in shown.text
    assert "is no name of a package" in tasks("- apt: {name: --help}").report.reason()
    assert "must be one of yes, safe" in tasks("- apt: {upgrade: all}").report.reason()
    assert "this machine has no dnf" in tasks("- dnf: {name: x}").report.reason()


def manager(run: Run, tmp_path: Path, programs: dict[str, str]) -> Run:
    """Run tasks where programs of the test's own come first; what is there stands in $there."""
    (tmp_path / "there").write_text("tool\ntool-libs\n")
    for name, text in {"dpkg-query": "", **programs}.items():
        (tmp_path / "bin").mkdir(exist_ok=True)
        (tmp_path / "bin" / name).write_text(f"#!/bin/sh\nthere={tmp_path}/there\n{text}\n")
        (tmp_path / "bin" / name).chmod(0o755)
    where = {"PATH": f"{tmp_path}/bin:{os.environ['PATH']}"}
    return lambda text, **options: run(f"- hosts: all\n  environment: {where!r}\n  tasks:\n    {text}", **options)


@root
def test_dnf_removes_what_a_pattern_means(run: Run, tmp_path: Path) -> None:
    rpm = 'case $1$2 in "-qatool*") cat "$there" ;; -qa--qf) cat "$there" ;; *) exit 1 ;; esac'
    tasks = manager(run, tmp_path, {"rpm": rpm, "dnf": '[ "$3 $4" = "remove tool*" ] && : >"$there"'})
    assert [changes(tasks("- dnf: {name: 'tool*', state: absent}")) for _ in range(2)] == [1, 0]
    assert changes(tasks("- dnf: {autoremove: true}", check=True)) == 0


APK = 'case $1$2$3 in info-e*) grep -qx "$3" "$there" ;; info-v) sed "s/$/-1.0-r2/" "$there" ;; *) echo "tool-libs: tool" ;; esac'


@root
def test_what_apk_leaves_since_others_need_it_is_not_told_as_gone(run: Run, tmp_path: Path) -> None:
    shown = manager(run, tmp_path, {"apk": APK})("- apk: {name: tool-libs, state: absent}")
    assert "tool-libs is still there: other packages need it" in shown.text


def test_packages_are_those_of_the_manager_that_knows_any(run: Run, tmp_path: Path) -> None:
    shown = manager(run, tmp_path, {"rpm": "", "apk": APK})("- package_facts:")
    known = shown.facts()["ansible_facts"]["packages"]["tool-libs"]  # type: ignore[index]
    assert known == [{"name": "tool-libs", "version": "1.0-r2", "arch": "", "source": "apk"}]
