"""Tars of others: what is plain is unpacked, what leads out of the folder is not, with filters of Python's and without."""

from __future__ import annotations

import io
import os
import tarfile
from pathlib import Path

import pytest

from trainyard.tars import unpack


@pytest.fixture(params=["as it is", "as in Debian 12"], autouse=True)
def python(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """The tarfile of this Python, and one of before 3.11.4."""
    if request.param == "as in Debian 12":
        monkeypatch.delattr(tarfile, "data_filter", raising=False)
        plain = tarfile.TarFile.extractall
        monkeypatch.setattr(tarfile.TarFile, "extraction_filter", staticmethod(lambda member, path: member), raising=False)
        monkeypatch.setattr(tarfile.TarFile, "extractall", lambda self, path, members=None: plain(self, path, members))


def packed(*members: tarfile.TarInfo) -> tarfile.TarFile:
    body = io.BytesIO()
    with tarfile.open(fileobj=body, mode="w") as tar:
        for member in members:
            member.size = 2 if member.isreg() else 0
            tar.addfile(member, io.BytesIO(b"ok"))
    body.seek(0)
    return tarfile.open(fileobj=body)


def member(name: str, kind: bytes = tarfile.REGTYPE, link: str = "") -> tarfile.TarInfo:
    made = tarfile.TarInfo(name)
    made.type, made.linkname, made.uid, made.mode = kind, link, 12345, 0o4755
    return made


def test_files_folders_and_links_inside_are_there_and_ours(tmp_path: Path) -> None:
    folder = tmp_path / "new"
    with packed(
        member("."  , tarfile.DIRTYPE), member("./a", tarfile.DIRTYPE), member("./a/file"), member("./b", tarfile.SYMTYPE, "a/file"),
        member("./a/up", tarfile.SYMTYPE, "../b"), member("./c", tarfile.LNKTYPE, "./a/file"),
    ) as tar:  # fmt: skip
        unpack(tar, folder)
    assert [(folder / name).read_text() for name in ("a/file", "b", "a/up", "c")] == ["ok"] * 4
    assert (folder / "a/file").stat().st_uid == os.getuid() and (folder / "a/file").stat().st_mode & 0o7022 == 0


@pytest.mark.parametrize(
    "wrong",
    [
        member("../out"), member("a/../../out"), member("out", tarfile.SYMTYPE, "../out"), member("out", tarfile.SYMTYPE, "/etc/passwd"),
        member("d/out", tarfile.SYMTYPE, "../../out"), member("out", tarfile.LNKTYPE, "../out"), member("pipe", tarfile.FIFOTYPE),
        member("null", tarfile.CHRTYPE),
    ],
    ids=lambda one: f"{one.name} {one.linkname}",
)  # fmt: skip
def test_what_leads_out_is_refused_and_nothing_is_written_there(tmp_path: Path, wrong: tarfile.TarInfo) -> None:
    with packed(wrong) as tar, pytest.raises(tarfile.TarError):
        unpack(tar, tmp_path / "new")
    assert not os.path.lexists(tmp_path / "out")
