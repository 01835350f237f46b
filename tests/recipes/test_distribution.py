"""Packages of the distribution and the image of a run: the real apt-get and dpkg on a root of the test's own, with one tiny package."""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import subprocess
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest

from tests.recipes.conftest import ROOT
from trainyard.errors import UserError
from trainyard.recipes import bundle, distribution
from trainyard.recipes.contract import load_recipe
from trainyard.recipes.data import inspect
from trainyard.recipes.values import needs_of, resolve
from trainyard.runs.planning import shape
from trainyard.settings.table import build

COMMAND = load_recipe(ROOT, "command")
apt = pytest.mark.skipif(not (shutil.which("apt-get") and shutil.which("dpkg-deb")), reason="no apt-get, or no dpkg-deb")


def deb(folder: Path, name: str, version: str) -> Path:
    """Build a package whose one file is /opt/NAME."""
    tree = folder / name
    (tree / "DEBIAN").mkdir(parents=True)
    (tree / "opt").mkdir()
    (tree / "opt" / name).write_text(version)
    (tree / "DEBIAN/control").write_text(
        f"Package: {name}\nVersion: {version}\nArchitecture: all\nMaintainer: nobody <n@example.org>\nDescription: a test\n"
    )
    path = folder / f"{name}_{version}_all.deb"
    subprocess.run(["dpkg-deb", "--root-owner-group", "-b", tree, path], check=True, capture_output=True)
    shutil.rmtree(tree)
    return path


@pytest.fixture
def machine(tmp_path: Path) -> dict[str, str]:
    """Return the environment in which apt-get and dpkg see a root of their own, with a repository of tinytool 1.2."""
    top, repository = tmp_path / "machine", tmp_path / "repository"
    repository.mkdir()
    for name in (
        "state/lists/partial",
        "cache/archives/partial",
        "etc/apt.conf.d",
        "root/var/lib/dpkg/info",
        "root/var/lib/dpkg/updates",
        "log",
    ):
        (top / name).mkdir(parents=True)
    for name in ("status", "available"):
        (top / "root/var/lib/dpkg" / name).touch()
    path = deb(repository, "tinytool", "1.2")
    control = subprocess.run(["dpkg-deb", "-f", path], check=True, capture_output=True, text=True).stdout
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    (repository / "Packages").write_text(f"{control}Filename: ./{path.name}\nSize: {path.stat().st_size}\nSHA256: {digest}\n\n")
    (top / "etc/sources.list").write_text(f"deb [trusted=yes] file:{repository} ./\n")
    (top / "apt.conf").write_text(
        f"""Dir::State "{top}/state"; Dir::State::status "{top}/root/var/lib/dpkg/status"; Dir::Cache "{top}/cache"; Dir::Log "{top}/log";
Dir::Etc "{top}/etc"; Dir::Etc::sourcelist "{top}/etc/sources.list"; Dir::Etc::sourceparts "-"; APT::Sandbox::User "root";
DPkg::Options {{ "--root={top}/root"; "--force-not-root"; "--force-script-chrootless"; }};
"""
    )
    return {
        "PATH": os.environ["PATH"], "HOME": str(tmp_path),
        "APT_CONFIG": str(top / "apt.conf"), "DPKG_ADMINDIR": str(top / "root/var/lib/dpkg"),
    }  # fmt: skip


def run(pod: Path, env: dict[str, str], *sets: str) -> tuple[int, str]:
    values = resolve(COMMAND, sets=["command=sh -c 'echo went'", "expect=[]", *sets])
    shutil.rmtree(pod / "run", ignore_errors=True)
    bundle.build(COMMAND, values, inspect(None, COMMAND), pod / "run")
    done = subprocess.run(["sh", pod / "run/run.sh"], env=env, capture_output=True, text=True, check=False)
    return done.returncode, done.stdout + done.stderr


@apt
@pytest.mark.skipif(os.geteuid() != 0, reason="who is not root installs nothing")
def test_what_is_not_there_is_installed_once_and_told_with_its_version(tmp_path: Path, machine: dict[str, str]) -> None:
    volume = tmp_path / "volume"
    volume.mkdir()
    code, log = run(tmp_path / "pod", machine | {"TRAINYARD_VOLUME": str(volume)}, "apt=tinytool=1.2")
    assert code == 0 and "2. apt: tinytool 1.2 installed" in log and "went" in log, log
    assert (tmp_path / "machine/root/opt/tinytool").read_text() == "1.2"
    code, log = run(tmp_path / "pod", machine, "apt=tinytool")
    assert code == 0 and "2. apt: tinytool 1.2 was there already" in log and "installing" not in log, log
    code, log = run(tmp_path / "pod", machine, "apt=tinytool=9 nothing-of-that-name")
    assert code == 69 and "nothing-of-that-name could not be installed (see above)" in log and "went" not in log, log
    known = next(known for known in COMMAND.known_failures if known.pattern.search(log))
    assert "apt-get says above why" in known.remedy


@apt
@pytest.mark.skipif(os.geteuid() != 0, reason="who is not root installs nothing")
def test_another_apt_that_is_at_it_is_waited_for(tmp_path: Path, machine: dict[str, str]) -> None:
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin/sleep").write_text(f"#!/bin/sh\ntouch {tmp_path}/waits\nexec /bin/sleep 0.05\n")
    (tmp_path / "bin/sleep").chmod(0o755)
    with (tmp_path / "machine/state/lists/lock").open("w") as lock, ThreadPoolExecutor(1) as pool:
        fcntl.lockf(lock, fcntl.LOCK_EX)
        running = pool.submit(run, tmp_path / "pod", machine | {"PATH": f"{tmp_path}/bin:{machine['PATH']}"}, "apt=tinytool")
        while not (tmp_path / "waits").exists():
            assert not running.done(), running.result()[1]
            time.sleep(0.02)
        fcntl.lockf(lock, fcntl.LOCK_UN)
        code, log = running.result()
    assert code == 0 and "2. apt: waiting for another that is at it" in log and "tinytool 1.2 installed" in log, log


@apt
def test_who_is_not_root_is_told_what_to_do(tmp_path: Path, machine: dict[str, str]) -> None:
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin/id").write_text("#!/bin/sh\necho 1000\n")
    (tmp_path / "bin/id").chmod(0o755)
    code, log = run(tmp_path / "pod", machine | {"PATH": f"{tmp_path}/bin:{machine['PATH']}"}, "apt=tinytool")
    assert code == 69 and "who is not root installs nothing" in log and "sudo apt-get install tinytool" in log, log


@apt
def test_on_this_machine_and_where_jobs_are_not_roots_it_is_refused_before_anything_is_rented(monkeypatch: pytest.MonkeyPatch) -> None:
    values = resolve(COMMAND, sets=["command=true", "apt=dpkg no-such-package-of-anybody"])
    with pytest.raises(UserError, match="apt: no-such-package-of-anybody is not there") as caught:
        distribution.refuse(values, on_this_machine=True, root=True, stack="local")
    assert caught.value.hint == "Install it yourself: sudo apt-get install no-such-package-of-anybody"
    with pytest.raises(UserError, match="jobs of stack slurm are not root's"):
        distribution.refuse(values, on_this_machine=False, root=False, stack="slurm")
    distribution.refuse(values, on_this_machine=False, root=True, stack="runpod")
    distribution.refuse(resolve(COMMAND, sets=["command=true", "apt=dpkg"]), on_this_machine=True, root=True, stack="local")
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(UserError, match="this machine has no dpkg"):
        distribution.refuse(values, on_this_machine=True, root=True, stack="local")


@pytest.mark.parametrize("name", ["-y", "a;b", "Foo", "x=$(id)"])
def test_what_is_no_packages_name_is_refused(name: str) -> None:
    with pytest.raises(UserError, match="must be a package's name"):
        resolve(COMMAND, sets=["command=true", f"apt='{name}'"])


def test_a_runs_image_is_taken_where_the_cloud_starts_one_and_refused_where_not() -> None:
    needs = needs_of(COMMAND, resolve(COMMAND, sets=["command=true", "image=me/mine:1"]))
    runpod = build({"cloud": "runpod", "template": "abc"}, "runpod")
    shaped = shape.raised(runpod, needs, "runpod")
    assert shaped.image == "me/mine:1" and shaped.template is None
    for cloud in ("local", "lambda", "slurm"):
        with pytest.raises(UserError, match=f"image: cloud '{cloud}' cannot start me/mine:1") as caught:
            shape.raised(replace(runpod, cloud=cloud), needs, cloud)
        assert "runpod, vast, ionet, modal" in str(caught.value.hint)
    assert shape.raised(runpod, needs_of(COMMAND, resolve(COMMAND, sets=["command=true"])), "runpod").template == "abc"
