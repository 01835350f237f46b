"""What comes home beside a result is never written over it."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

from trainyard.remote.local import LocalTransport
from trainyard.runs.records.home import bring_home, mend_copies, take_reports
from trainyard.runs.records.identity import RunId
from trainyard.runs.records.record import RunFolder
from trainyard.storage.manifest import Manifest, ManifestEntry, ResultKey, crc32_of


class Fixed:
    """As much of a context and a record as is asked for."""

    def __init__(self, **values: Any) -> None:
        self.__dict__.update(values)


def test_files_of_a_result_that_came_home_stay_as_they_came(tmp_path: Path) -> None:
    home, folder = tmp_path / "out/u/r", RunFolder(tmp_path / "run")
    (home / "scripts").mkdir(parents=True)
    folder.bundle.mkdir(parents=True)
    files = []
    for name in ("metrics.jsonl", "config.json", "scripts/mine.sh"):
        (home / name).write_text("of the result")
        crc32 = crc32_of(b"of the result")
        files.append(ManifestEntry(name, 13, hashlib.sha256(b"of the result").hexdigest(), crc32, 64, (crc32,)))
    (home / "_manifest.json").write_bytes(Manifest(ResultKey("u", "r", 1), tuple(files), (), "").encode())
    for path in (folder.path / "metrics.jsonl", folder.path / "train.log", folder.bundle / "config.json", folder.bundle / "run.sh"):
        path.write_text("of the run")
    context = Fixed(places=Fixed(root=tmp_path))
    bring_home(context, Fixed(id=RunId("u", "r", 1)), folder)  # type: ignore[arg-type]
    assert {str(p.relative_to(home)): p.read_text() for p in home.rglob("*") if p.is_file() and p.name != "_manifest.json"} == {
        "metrics.jsonl": "of the result", "config.json": "of the result", "scripts/mine.sh": "of the result", "train.log": "of the run",
    }  # fmt: skip


def test_the_reports_of_a_training_come_home_with_its_log(tmp_path: Path) -> None:
    home, folder, output = tmp_path / "out/u/r", RunFolder(tmp_path / "run"), tmp_path / "pod's output"
    folder.bundle.mkdir(parents=True)
    output.mkdir()
    (output / "result.json").write_bytes(b'{"a": 1}')  # no newline at its end
    (output / "data-report.json").write_bytes(b'{\n "rows": 3\n}\n')
    take_reports(LocalTransport(), str(output), folder)
    bring_home(Fixed(places=Fixed(root=tmp_path)), Fixed(id=RunId("u", "r", 1)), folder)  # type: ignore[arg-type]
    assert (home / "result.json").read_bytes() == b'{"a": 1}'
    assert (home / "data-report.json").read_bytes() == b'{\n "rows": 3\n}\n'


def test_a_report_that_is_large_or_a_link_or_not_there_holds_nothing_up(tmp_path: Path) -> None:
    folder, output = RunFolder(tmp_path / "run"), tmp_path / "output"
    folder.path.mkdir()
    take_reports(LocalTransport(), str(output), folder)
    output.mkdir()
    (output / "result.json").write_bytes(bytes((1 << 20) + 1))
    (output / "data-report.json").symlink_to("/etc/hostname")
    take_reports(LocalTransport(), str(output), folder)
    assert list(folder.path.iterdir()) == []


def test_a_copy_that_something_else_has_written_to_is_fetched_anew_and_others_stay(tmp_path: Path) -> None:
    pod, here = tmp_path / "the pod's", tmp_path / "here"
    pod.mkdir()
    here.mkdir()
    copies = {}
    for name, there, copy in (("train.log", b"1\n2\n", b"1\n2\n3\n"), ("metrics.jsonl", b"{}\n", b"{}\n"), ("other", None, b"mine")):
        if there is not None:
            (pod / name).write_bytes(there)
        (here / name).write_bytes(copy)
        copies[str(pod / name)] = here / name

    assert mend_copies(LocalTransport(), copies) == ["train.log"]

    assert {path.name: path.read_bytes() for path in here.iterdir()} == {
        "train.log": b"1\n2\n", "metrics.jsonl": b"{}\n", "other": b"mine",
    }  # fmt: skip
