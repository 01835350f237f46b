"""A shell on a pod needs nothing to be written: its host key is checked, wherever that has to lie."""

from __future__ import annotations

import errno
import subprocess
import time
from pathlib import Path

import pytest

from trainyard.config import Places
from trainyard.runs.context import CommandContext
from trainyard.runs.records.parts import RunPod
from trainyard.runs.records.record import RunFolder, RunRecord
from trainyard.runs.ui import Ui
from trainyard.runs.verbs import reach

LINE = "[10.0.0.1]:2222 ssh-ed25519 AAAA\n"
Scene = tuple[CommandContext, RunFolder, list[tuple[str, list[str]]], str]


@pytest.fixture
def scene(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Scene:
    """A run below a folder with a blank and a percent sign in its name, its key and an ssh that only looks."""
    places = Places(tmp_path / "my 100%d yard", tmp_path / "my 100%d yard/.trainyard", tmp_path / "o", tmp_path / "c")
    pod = RunPod(pod_id="p1", host="10.0.0.1", port=2222, host_key="ssh-ed25519 AAAA")
    record = RunRecord("ann", "a", 1, "lab", "command", {}, "0", 1.0, time.time(), phase="started", cloud="local", pod=pod)
    folder = RunFolder(record.id.folder(places.runs))
    folder.save(record)
    monkeypatch.setattr(reach, "private_key", lambda *_: places.root / "id")
    seen: list[tuple[str, list[str]]] = []
    run = subprocess.run

    def look(line: list[str], check: bool) -> subprocess.CompletedProcess[bytes]:
        told = dict(
            text.split(" ", 1)
            for text in run([line[0], "-G", *line[1:]], capture_output=True, text=True).stdout.splitlines()
            if " " in text
        )
        seen.append(
            (
                told["userknownhostsfile"],
                [Path(told["userknownhostsfile"]).read_text(), told["stricthostkeychecking"], told["identityfile"]],
            )
        )
        return subprocess.CompletedProcess(line, 0)

    monkeypatch.setattr(subprocess, "run", look)
    return CommandContext(places, {}, Ui()), folder, seen, str(places.root / "id").replace("%", "%%")


def test_the_key_is_checked_at_a_path_with_a_blank_and_a_percent_sign(
    scene: Scene,
) -> None:
    context, folder, seen, key = scene

    assert reach.shell(context, "ann/a", None) == 0

    assert seen == [(str(folder.path / "known_hosts"), [LINE, "true", key])]


@pytest.mark.parametrize("code", [errno.EROFS, errno.ENOSPC])
def test_a_folder_that_cannot_be_written_keeps_nobody_from_the_pod(scene: Scene, monkeypatch: pytest.MonkeyPatch, code: int) -> None:
    context, folder, seen, key = scene
    write = Path.write_text

    def refuse(path: Path, *words: str) -> int:
        if folder.path in path.parents:
            raise OSError(code, "no")
        return write(path, *words)

    monkeypatch.setattr(Path, "write_text", refuse)

    assert reach.shell(context, "ann/a", None) == 0

    [(private, told)] = seen
    assert told == [LINE, "true", key] and folder.path not in Path(private).parents
    assert not Path(private).parent.exists(), "nothing of it stays"
