"""What the scanner sees on a pod: patterns, hashes, links, files that change under its eyes."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import socket
import subprocess
import sys
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from trainyard.pod import files as podfiles
from trainyard.pod import outputs, scanner


def crc(body: bytes) -> str:
    return base64.b64encode(zlib.crc32(body).to_bytes(4, "big")).decode()


def scan(root: Path, outputs: list[str], excludes: list[str] | None = None, **more: Any) -> dict[str, Any]:
    spec = {"root": str(root), "outputs": outputs, "excludes": excludes or [], "extra": [], "part_size": 64, "md5": False}
    return scanner.scan({**spec, **more})


def write(root: Path, path: str, body: bytes = b"x") -> None:
    (root / path).parent.mkdir(parents=True, exist_ok=True)
    (root / path).write_bytes(body)


# ---- patterns


@pytest.mark.parametrize(
    ("pattern", "anywhere", "yes", "no"),
    [
        ("model/**", False, ["model/a", "model/b/c"], ["a", "models/a", "x/model/a"]),
        ("model", False, ["model", "model/a"], ["model2", "x/model"]),
        ("model/", False, ["model/a/b"], ["models"]),
        ("model/*", False, ["model/a", "model/a/b"], ["model"]),
        ("*.json", False, ["a.json"], ["x/a.json", "a.jsonl"]),
        ("**/*.json", False, ["a.json", "x/y/a.json"], ["a.js"]),
        ("a?c", False, ["abc"], ["a/c", "ac"]),
        ("part[0-9].bin", False, ["part7.bin"], ["partx.bin"]),
        ("part[!0-9].bin", False, ["partx.bin"], ["part7.bin", "part/.bin"]),
        ("a.b", False, ["a.b"], ["axb"]),
        ("[", False, ["["], ["a"]),
        ("checkpoint-*", True, ["checkpoint-10/optimizer.pt", "model/checkpoint-1/x"], ["model/my-checkpoint-1"]),
        ("*.pt", True, ["a.pt", "model/x/a.pt"], ["a.pth", "a.pt.txt"]),
        ("checkpoints/*", True, ["checkpoints/a/b"], ["x/checkpoints/a"]),
        ("/logs", True, ["x/logs", "logs/a"], ["logs2"]),
    ],
)
def test_a_pattern_takes_what_it_says_and_no_more(pattern: str, anywhere: bool, yes: list[str], no: list[str]) -> None:
    compiled = podfiles.compile_pattern(pattern, anywhere)
    assert [path for path in yes if not compiled.match(path)] == []
    assert [path for path in no if compiled.match(path)] == []


# ---- scan


def test_a_scan_gives_the_hashes_of_the_whole_and_of_each_part(tmp_path: Path) -> None:
    body = os.urandom(150)
    write(tmp_path, "model/a", body)
    [found] = scan(tmp_path, ["model"])["files"]
    assert found == {
        "path": "model/a", "source": str(tmp_path / "model/a"), "size": 150, "sha256": hashlib.sha256(body).hexdigest(), "crc32": crc(body),
        "parts": [crc(body[:64]), crc(body[64:128]), crc(body[128:])], "part_size": 64,
        "fingerprint": list(podfiles.fingerprint(os.stat(tmp_path / "model/a"))),
    }  # fmt: skip
    [with_md5] = scan(tmp_path, ["model"], md5=True)["files"]
    assert with_md5["md5"] == [hashlib.md5(part).hexdigest() for part in (body[:64], body[64:128], body[128:])]


def test_an_empty_file_has_one_empty_part(tmp_path: Path) -> None:
    write(tmp_path, "a", b"")
    [found] = scan(tmp_path, ["a"])["files"]
    assert (found["size"], found["parts"]) == (0, [crc(b"")])


def test_a_file_of_whole_parts_has_no_empty_one_at_its_end(tmp_path: Path) -> None:
    write(tmp_path, "a", b"x" * 128)
    [found] = scan(tmp_path, ["a"])["files"]
    assert len(found["parts"]) == 2


def test_no_file_has_more_than_ten_thousand_parts() -> None:
    assert podfiles.part_size_for(10000 * 64, 64) == 64
    assert podfiles.part_size_for(10000 * 64 + 1, 64) == 128
    assert podfiles.part_size_for(1 << 50, 1 << 25) * 10000 >= 1 << 50


def test_excludes_win_over_outputs_and_all_that_is_left_out_is_told_with_size_and_reason(tmp_path: Path) -> None:
    write(tmp_path, "model/a")
    write(tmp_path, "model/optimizer.pt", b"12345")
    write(tmp_path, "other", b"123")
    os.mkfifo(tmp_path / "model/pipe")
    report = scan(tmp_path, ["model"], ["*.pt"])
    assert [entry["path"] for entry in report["files"]] == ["model/a"]
    assert sorted((e["path"], e["size"], e["why"]) for e in report["left_out"]) == [
        ("model/optimizer.pt", 5, "excluded"), ("model/pipe", 0, "not a file"), ("other", 3, "no output pattern"),
    ]  # fmt: skip


def left(report: dict[str, Any]) -> dict[str, str]:
    """What should be in the result and cannot be carried, with the reason."""
    return {e["path"]: e["why"] for e in report["left_out"] if e["wanted"]}


def test_a_later_output_wins_and_one_with_an_exclamation_mark_leaves_out(tmp_path: Path) -> None:
    for path in ("a", "tmp/b", "tmp/keep", "checkpoints/1/w", "checkpoints/2/w", "checkpoints/3/w", "status.json", "sub/status.json"):
        write(tmp_path, path)
    outputs = ["**", "!tmp/**", "tmp/keep", "!checkpoints/**", "!status.json"]
    assert [file["path"] for file in scan(tmp_path, outputs)["files"]] == ["a", "sub/status.json", "tmp/keep"]

    write(tmp_path, "checkpoints/.4/w")  # half written: it gets its name when it is whole
    kept = scan(tmp_path, outputs, keep=True, checkpoints={"pattern": "checkpoints/*", "mark": None})
    assert {file["path"] for file in kept["files"]} == {"a", "sub/status.json", "tmp/keep", "checkpoints/2/w", "checkpoints/3/w"}
    assert {"path": "checkpoints/1/w", "size": 1, "why": "an older checkpoint", "wanted": False} in kept["left_out"]


def test_a_link_to_what_lies_inside_stands_for_it_and_others_are_told(tmp_path: Path) -> None:
    write(tmp_path, "secret/key")
    write(tmp_path, "out/model/step-10/weights", b"precious")
    write(tmp_path, "out/other/f")
    for name, target in {
        "latest": "step-10", "weights": "step-10/weights", "deep": "../other", "key": "../../secret/key", "folder": "../../secret",
        "loop": "loop", "nothing": "absent", "up": "..", "self": ".", "abs": str(tmp_path / "out/other/f"),
    }.items():  # fmt: skip
        os.symlink(target, tmp_path / "out/model" / name)
    os.symlink("../model", tmp_path / "out/other/back")
    report = scan(tmp_path / "out", ["model"])
    found = {entry["path"]: Path(entry["source"]).read_bytes() for entry in report["files"]}
    assert found == {
        "model/step-10/weights": b"precious", "model/latest/weights": b"precious", "model/weights": b"precious",
        "model/deep/f": b"x", "model/abs": b"x",
    }  # fmt: skip
    assert left(report) == {
        "model/key": "a link to outside the output", "model/folder": "a link to outside the output", "model/loop": "a link to nowhere",
        "model/nothing": "a link to nothing", "model/up": "a link to a folder it lies in", "model/self": "a link to a folder it lies in",
        "model/deep/back": "a link to a folder it lies in",
    }  # fmt: skip


def test_folders_that_link_to_each_other_end(tmp_path: Path) -> None:
    for one in "abcdef":
        write(tmp_path, f"{one}/f")
        for other in "abcdef":
            os.symlink(f"../{other}", tmp_path / one / f"to-{other}")
    report = scan(tmp_path, ["**"])
    assert {"a/f", "a/to-b/f"} <= {entry["path"] for entry in report["files"]} and len(report["files"]) < 6**4


@pytest.mark.parametrize(
    ("name", "why"),
    [
        (b"tab\there", "its name has a control character"), (b"new\nline", "its name has a control character"),
        (b"\xff\xfe", "its name is not UTF-8"), (b"\xc2\x9bcsi", "its name has a control character"),
    ],
    ids=["tab", "newline", "not utf-8", "c1"],
)  # fmt: skip
def test_a_name_that_no_key_can_have_is_told_in_one_printable_line(name: bytes, why: str, tmp_path: Path) -> None:
    write(tmp_path, "good")
    (Path(os.fsdecode(os.fsencode(tmp_path) + b"/" + name))).write_bytes(b"x")
    report = scan(tmp_path, ["**"])
    assert [entry["path"] for entry in report["files"]] == ["good"]
    [(told, reason)] = left(report).items()
    assert reason == why and told.isprintable() and told.encode()


def test_what_only_waits_for_others_is_told_and_never_opened(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    os.mkfifo(tmp_path / "log")
    with socket.socket(socket.AF_UNIX) as server:
        here = os.getcwd()
        os.chdir(tmp_path)  # the address of a socket is short
        server.bind("sock")
        os.chdir(here)
        report = scan(tmp_path, ["**"], extra=[{"name": "train.log", "path": str(tmp_path / "log")}])
    assert left(report) == {"pipe": "not a file", "log": "not a file", "sock": "not a file"} and report["extra"] == []
    with pytest.raises(podfiles.Changed, match="no regular file"):
        podfiles.open_file(str(tmp_path / "pipe"))


def test_a_name_that_the_commit_keeps_for_itself_is_told(tmp_path: Path) -> None:
    write(tmp_path, "_SUCCESS")
    write(tmp_path, "model/_SUCCESS")
    report = scan(tmp_path, ["**"], reserved=["_SUCCESS"])
    assert [entry["path"] for entry in report["files"]] == ["model/_SUCCESS"]
    assert left(report) == {"_SUCCESS": "its name is kept for the commit itself"}


def test_the_sha256_of_big_files_is_left_to_the_sending(tmp_path: Path) -> None:
    write(tmp_path, "big", b"x" * 65)
    write(tmp_path, "small", b"x" * 64)
    big, small = scan(tmp_path, ["**"], sha256_up_to=64)["files"]
    assert (big["sha256"], big["parts"]) == ("", [crc(b"x" * 64), crc(b"x")]) and small["sha256"] == hashlib.sha256(b"x" * 64).hexdigest()


def test_what_is_known_and_has_not_changed_is_not_read_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path, "a", b"same")
    write(tmp_path, "b", b"old")
    known = {entry["path"]: entry for entry in scan(tmp_path, ["**"])["files"]}
    write(tmp_path, "b", b"new")
    read: list[str] = []
    whole = podfiles.hash_file

    def reading(path: str, *more: Any, **options: Any) -> Any:
        read.append(path)
        return whole(path, *more, **options)

    monkeypatch.setattr(scanner, "hash_file", reading)
    a, b = scan(tmp_path, ["**"], known=known)["files"]
    assert read == [str(tmp_path / "b")] and a == known["a"] and b["sha256"] == hashlib.sha256(b"new").hexdigest()


@pytest.mark.parametrize("cut", [0, 1, 64, 999, 1000])
def test_the_crc32_of_a_whole_comes_from_those_of_its_parts(cut: int) -> None:
    body = os.urandom(1000)
    assert podfiles.crc32_combine(zlib.crc32(body[:cut]), zlib.crc32(body[cut:]), 1000 - cut) == zlib.crc32(body)


def test_a_file_written_to_while_it_is_read_is_told_as_changed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path, "a", b"x" * 100)
    write(tmp_path, "b")
    whole = podfiles.read_blocks

    def writing(file: Any, length: int) -> Iterator[memoryview]:
        if length > 1:
            with (tmp_path / "a").open("ab") as again:
                again.write(b"more")
        return whole(file, length)

    monkeypatch.setattr(podfiles, "read_blocks", writing)
    report = scan(tmp_path, ["**"])
    assert [entry["path"] for entry in report["changed"]] == ["a"]
    assert [entry["path"] for entry in report["files"]] == ["b"]


@pytest.mark.parametrize("change", ["rewrite", "replace", "remove", "appear", "shrink"])
def test_a_change_after_a_file_was_hashed_is_found_at_the_end(change: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path, "a", b"old!")
    write(tmp_path, "z", b"last")
    whole = podfiles.hash_file

    def changing(path: str, *more: Any, **options: Any) -> Any:
        result = whole(path, *more, **options)
        if path.endswith("/z"):
            if change == "rewrite":
                (tmp_path / "a").write_bytes(b"new!")
            elif change == "replace":
                (tmp_path / "a.new").write_bytes(b"new!")
                os.replace(tmp_path / "a.new", tmp_path / "a")
            elif change == "remove":
                (tmp_path / "a").unlink()
            elif change == "shrink":
                os.truncate(tmp_path / "a", 1)
            else:
                write(tmp_path, "b")
        return result

    monkeypatch.setattr(scanner, "hash_file", changing)
    monkeypatch.setattr("os.cpu_count", lambda: 1)
    report = scan(tmp_path, ["**"])
    assert [entry["path"] for entry in report["changed"]] == ["b" if change == "appear" else "a"]


def test_a_file_that_cannot_be_read_is_told_by_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path, "a")
    (tmp_path / "a").chmod(0)

    def refusing(path: str, *_: Any, **__: Any) -> Any:
        raise PermissionError(13, "Permission denied", path)

    monkeypatch.setattr(scanner, "hash_file", refusing)
    told = {"path": "a", "size": 1, "why": "cannot be read: Permission denied", "wanted": True, "passing": False}
    assert scan(tmp_path, ["**"])["unreadable"] == [told]


def test_logs_travel_in_the_scan_up_to_a_size_and_by_their_present_length_above(tmp_path: Path) -> None:
    write(tmp_path, "out/a")
    write(tmp_path, "log", b"line\n")
    write(tmp_path, "long", b"l" * (scanner.INLINE + 1))
    extra = [{"name": n, "path": str(tmp_path / n)} for n in ("log", "long", "absent")]
    short, long = scan(tmp_path / "out", ["**"], extra=extra)["extra"]
    assert base64.b64decode(short["inline"]) == b"line\n" and "sha256" not in short
    assert (long["size"], long["name"], "inline" in long) == (scanner.INLINE + 1, "long", False)


def test_a_missing_output_folder_is_said(tmp_path: Path) -> None:
    assert "there is no folder" in scan(tmp_path / "nothing", ["**"])["error"]


def test_an_output_folder_that_is_a_file_is_told_by_its_name_and_why(tmp_path: Path) -> None:
    (tmp_path / "output").write_bytes(b"x")
    (told,) = scan(tmp_path / "output", ["model/**"], keep=True)["left_out"]
    assert told["path"] == "output" and told["why"] == "this folder cannot be read: Not a directory" and told["wanted"]


def test_samples_are_hashes_of_ranges(tmp_path: Path) -> None:
    write(tmp_path, "a", b"0123456789")
    spec = {"ranges": [{"path": str(tmp_path / "a"), "offset": 2, "length": 3}]}
    assert scanner.sample(spec)["sha256"] == [hashlib.sha256(b"234").hexdigest()]


@pytest.mark.parametrize("path", ["ok/" + "ü" * 127, "a\\b", "-", " lead and trail ", "..." + "x", "~!@^{}[]|<>,:", "x" * 255 + "/y"])
def test_an_odd_name_is_taken(path: str) -> None:
    assert podfiles.name_problem(path) is None


@pytest.mark.parametrize("path", ["ok/" + "ü" * 128, "a//b", "/a", "a/", "..", "a/../b", "./a", "", "/".join(["x" * 200] * 5), "\ufffe"])
def test_an_impossible_name_is_told(path: str) -> None:
    assert podfiles.name_problem(path)


# ---- look, while the training runs

RESTED = {"whole": 0.0, "quiet": 0.0, "again": 0.0, "unmarked": 0.0}


def look(root: Path, after: dict[str, float], **more: Any) -> dict[str, Any]:
    spec = {
        "root": str(root),
        "outputs": ["**"],
        "excludes": ["*.pt"],
        "known": {},
        "part_size": 64,
        "md5": False,
        "least": 1,
        "most": 1 << 20,
    }
    return scanner.look({**spec, "after": {**RESTED, **after}, **more})


def safetensors(tmp_path: Path, name: str, *, short: int = 0) -> None:
    header = json.dumps({"__metadata__": {"a": "b"}, "w": {"data_offsets": [0, 8]}, "v": {"data_offsets": [8, 12]}}).encode()
    write(tmp_path, name, (len(header).to_bytes(8, "little") + header + b"x" * 12)[: -short or None])


def test_what_is_final_is_told_with_hashes_and_nothing_else(tmp_path: Path) -> None:
    safetensors(tmp_path, "whole.safetensors")
    safetensors(tmp_path, "growing.safetensors", short=1)
    write(tmp_path, "no.safetensors", b"x" * 40)
    write(tmp_path, "excluded.pt")
    write(tmp_path, "other")
    seen = look(tmp_path, {"quiet": 3600})
    assert [entry["path"] for entry in seen["files"]] == ["whole.safetensors"]
    assert seen["files"][0]["sha256"] == hashlib.sha256((tmp_path / "whole.safetensors").read_bytes()).hexdigest()
    assert sorted(seen["now"]) == ["growing.safetensors", "no.safetensors", "other", "whole.safetensors"]
    assert look(tmp_path, {"quiet": 3600, "whole": 3600})["files"] == []
    known = {entry["path"]: entry["fingerprint"] for entry in look(tmp_path, {})["files"]}
    assert len(known) == 4 and look(tmp_path, {}, known=known)["files"] == []
    write(tmp_path, "other", b"again")
    assert look(tmp_path, {"again": 3600}, known=known)["files"] == []
    assert [entry["path"] for entry in look(tmp_path, {}, known=known)["files"]] == ["other"]


def test_one_look_hashes_so_many_bytes_and_one_file_at_least(tmp_path: Path) -> None:
    for name in "abc":
        write(tmp_path, name, b"x" * 10)
    assert len(look(tmp_path, {}, most=11)["files"]) == 2 and len(look(tmp_path, {}, most=1)["files"]) == 1


def test_what_a_process_has_open_to_write_is_not_final(tmp_path: Path) -> None:
    write(tmp_path, "a")
    with (tmp_path / "a").open("ab"):
        assert look(tmp_path, {})["files"] == []
    with (tmp_path / "a").open("rb"):
        assert len(look(tmp_path, {})["files"]) == 1


MAPS = """
import ctypes, os, sys, time
libc = ctypes.CDLL(None)
libc.mmap.restype, libc.mmap.argtypes = ctypes.c_void_p, [ctypes.c_void_p, ctypes.c_size_t, *[ctypes.c_int] * 3, ctypes.c_long]
file = os.open(sys.argv[1], os.O_RDWR)
assert libc.mmap(None, 4096, int(sys.argv[2]), int(sys.argv[3]), file, 0) not in (None, 2**64 - 1)
os.close(file)
print(flush=True)
sys.stdin.read()
"""
READ, WRITE, SHARED, PRIVATE = 1, 2, 1, 2


@pytest.mark.parametrize(("access", "kind", "final"), [(READ | WRITE, SHARED, 0), (READ | WRITE, PRIVATE, 1), (READ, SHARED, 1)])
def test_what_a_process_writes_to_through_its_memory_is_not_final(access: int, kind: int, final: int, tmp_path: Path) -> None:
    write(tmp_path, "a b", b"x" * 4096)
    words = [sys.executable, "-c", MAPS, str(tmp_path / "a b"), str(access), str(kind)]
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None and process.stdout.readline()
        assert len(look(tmp_path, {})["files"]) == final
        assert scanner.rests(str(tmp_path), 0) == bool(final)


def test_an_output_that_is_not_there_yet_is_no_error(tmp_path: Path) -> None:
    assert look(tmp_path / "absent", {}) == {"files": [], "now": {}, "checkpoint": None}


def test_checkpoints_that_come_faster_than_one_has_rested_leave_the_newest_that_has(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for step in range(5, 45, 5):
        write(tmp_path, f"checkpoints/c{step}/w")
    made = {str(tmp_path / "checkpoints" / f"c{step}"): step for step in range(5, 45, 5)}
    monkeypatch.setattr(outputs, "changed_at", made.__getitem__)
    monkeypatch.setattr(scanner, "rests", lambda place, after: made[place] <= 40 - after)
    pattern = {"pattern": "checkpoints/*", "mark": None}
    assert look(tmp_path, {"unmarked": 22}, checkpoints=pattern)["checkpoint"] == "checkpoints/c15"
    assert look(tmp_path, {"unmarked": 36}, checkpoints=pattern)["checkpoint"] is None
