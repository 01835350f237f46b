"""The way over SSH (here: over the local transport): the same files, the same manifest, the same proof."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from tests.storage.conftest import PART, Workspace, here
from tests.storage.test_commit import EXCLUDES, OUTPUTS, WHERE
from trainyard.errors import StoreError
from trainyard.remote.local import LocalTransport
from trainyard.storage import direct
from trainyard.storage.client import StoreSettings
from trainyard.storage.commit import commit
from trainyard.storage.deliver import Progress
from trainyard.storage.manifest import PART_SIZE, decode, sha256


def model_of(pod: Workspace) -> dict[str, bytes]:
    folder = pod.root / "output"
    return {str(p.relative_to(folder)): p.read_bytes() for p in (folder / "model").rglob("*") if p.is_file()}


def fetched_files(dest: Path) -> dict[str, bytes]:
    return {str(p.relative_to(dest)): p.read_bytes() for p in dest.rglob("*") if p.is_file() and p.name != "_manifest.json"}


def test_the_result_arrives_with_the_manifest_that_a_commit_would_have_written(
    settings: StoreSettings, pod: Workspace, tmp_path: Path
) -> None:
    got = direct.fetch(here(), WHERE, pod.output, OUTPUTS, EXCLUDES, tmp_path / "home")
    assert fetched_files(tmp_path / "home") == model_of(pod)
    body = (tmp_path / "home/_manifest.json").read_bytes()
    assert got.manifest_sha256 == sha256(body) and decode(body, "home").key == WHERE
    assert (got.files, got.bytes) == (4, PART + 7 + 22 + 4)
    done = commit(settings, here(), WHERE, pod.output, OUTPUTS, EXCLUDES, logs={}, part_size=PART_SIZE)
    assert done.manifest_sha256 == got.manifest_sha256 and done.left_out == got.left_out


def test_a_second_fetch_sends_no_file_again(pod: Workspace, tmp_path: Path) -> None:
    commands: list[str] = []

    class Listening(LocalTransport):
        def exec(self, command: str, stdin: Any = None, **more: Any) -> Any:
            commands.append(command)
            return super().exec(command, stdin, **more)

    direct.fetch(Listening(), WHERE, pod.output, OUTPUTS, EXCLUDES, tmp_path / "home")
    assert any("tail -c" in command for command in commands)
    commands.clear()
    direct.fetch(Listening(), WHERE, pod.output, OUTPUTS, EXCLUDES, tmp_path / "home")
    assert not any("tail -c" in command for command in commands)


def test_a_file_that_changes_while_it_is_fetched_is_never_taken(pod: Workspace, tmp_path: Path) -> None:
    class Changing(LocalTransport):
        def exec(self, command: str, stdin: Any = None, **more: Any) -> Any:
            if "tail -c" in command and "config.json" in command:
                (pod.root / "output/model/config.json").write_bytes(b"x" * 22)
            return super().exec(command, stdin, **more)

    with pytest.raises(StoreError, match=r"config\.json"):
        direct.fetch(Changing(), WHERE, pod.output, OUTPUTS, EXCLUDES, tmp_path / "home")
    assert not (tmp_path / "home/model/config.json").exists()


def test_a_pod_without_python_is_fetched_too(pod: Workspace, tmp_path: Path) -> None:
    tools = tmp_path / "tools"
    tools.mkdir()
    for name in ("sh", "cat", "mkdir", "mv", "find", "sha256sum", "wc", "tail", "head", "xargs"):
        source = next(p for p in (Path("/usr/bin") / name, Path("/bin") / name) if p.exists())
        os.symlink(source, tools / name)
    bare = LocalTransport(env={"PATH": str(tools)})
    got = direct.fetch(bare, WHERE, pod.output, OUTPUTS, EXCLUDES, tmp_path / "home")
    assert fetched_files(tmp_path / "home") == model_of(pod)
    assert got == direct.fetch(here(), WHERE, pod.output, OUTPUTS, EXCLUDES, tmp_path / "home")


def test_progress_ends_at_the_whole_and_the_watchdog_is_told(pod: Workspace, tmp_path: Path) -> None:
    told: list[Progress] = []
    got = direct.fetch(here(), WHERE, pod.output, OUTPUTS, EXCLUDES, tmp_path / "home", on_progress=told.append)
    assert max(one.done for one in told) == got.bytes
    assert (pod.root / ".trainyard/committed").read_text().strip() == got.manifest_sha256
