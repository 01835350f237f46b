"""The judge of the results' matrix sees what must never be."""

from __future__ import annotations

import hashlib
import io
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from tests.faults.results import judge, stage
from tests.faults.results.judge import Wanted

PREFIX = "models/u/r/1/"
FILES = {"model/a": b"bytes of this run", "model/b": b""}
WANTED = Wanted("mine", "_SUCCESS", {path: hashlib.sha256(body).hexdigest() for path, body in FILES.items()}, frozenset({"model/pipe"}))


@dataclass
class Objects:
    """A bucket, as boto3 shows one."""

    there: dict[str, bytes] = field(default_factory=dict)

    def list_objects_v2(self, Bucket: str, Prefix: str) -> dict[str, Any]:
        return {"Contents": [{"Key": key, "ETag": str(hash(body))} for key, body in self.there.items() if key.startswith(Prefix)]}

    def get_object(self, Bucket: str, Key: str) -> dict[str, Any]:
        return {"Body": io.BytesIO(self.there[Key])}


def committed(token: str = "mine", left: tuple[str, ...] = ("model/pipe",)) -> Objects:
    document = {"files": [{"path": path} for path in FILES], "left_out": [{"path": path} for path in left]}
    manifest = json.dumps(document).encode()
    marker = json.dumps({"token": token, "manifest_sha256": hashlib.sha256(manifest).hexdigest()}).encode()
    objects = {**FILES, "_manifest.json": manifest, "_SUCCESS": marker}
    return Objects({PREFIX + path: body for path, body in objects.items()})


def look(objects: Objects, home: Path = Path("/nowhere")) -> judge.Found:
    return judge.look(objects, "b", PREFIX, home, WANTED)


def test_a_whole_result_is_committed_and_nothing_is_wrong_with_it() -> None:
    found = look(committed())
    assert found.committed and found.problems == []


def test_without_a_marker_nothing_is_committed_and_nothing_is_wrong() -> None:
    objects = committed()
    del objects.there[PREFIX + "_SUCCESS"]
    found = look(objects)
    assert not found.committed and found.problems == []


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"model/a": b"other bytes"}, "without the bytes of this run: model/a"),
        ({"model/a": None}, "model/a (is missing)"),
        ({"model/c": b"left from another try"}, "files that nobody wrote: ['model/c']"),
        ({"_manifest.json": b"{}"}, "vouches for another manifest"),
        ({"_KEPT": b"{}"}, "_KEPT is in the bucket of a run that ended otherwise"),
    ],
)
def test_a_success_that_is_none_is_seen(change: dict[str, bytes | None], words: str) -> None:
    objects = committed()
    for path, body in change.items():
        objects.there.pop(PREFIX + path, None)
        if body is not None:
            objects.there[PREFIX + path] = body
    assert words in "\n".join(look(objects).problems)


def test_another_token_and_a_file_that_is_left_out_without_a_word_are_seen() -> None:
    assert "bears another token" in "\n".join(look(committed(token="somebody")).problems)
    found = look(committed(left=()))
    assert not found.committed and "without being named: ['model/pipe']" in "\n".join(found.problems)


def test_half_a_file_under_its_final_name_at_home_is_seen(tmp_path: Path) -> None:
    (tmp_path / "model").mkdir()
    (tmp_path / "model/a").write_bytes(FILES["model/a"][:5])
    found = look(Objects(), tmp_path)
    assert not found.at_home and "half-written" in found.problems[0]
    for path, body in FILES.items():
        (tmp_path / path).write_bytes(body)
    assert not look(Objects(), tmp_path).at_home, "without its manifest a result at home is not whole"
    (tmp_path / "_manifest.json").write_bytes(b"{}")
    assert look(Objects(), tmp_path).at_home


def test_what_a_command_says_is_judged() -> None:
    assert judge.said(7, "the store answered InternalError\n") == []
    assert judge.said(0, "Traceback (most recent call last)") and judge.said(70, "a fault of ours") and judge.said(7, "")


BASE = "checkpoints/u/r/1/"
VERSIONS = {"step-1": [{"a": hashlib.sha256(b"first").hexdigest(), "b": hashlib.sha256(b"1").hexdigest()}]}


def checkpoint(token: str = "mine") -> Objects:
    manifest = json.dumps({"files": [{"sha256": digest} for digest in VERSIONS["step-1"][0].values()]}).encode()
    marker = json.dumps({"token": token, "sha256": hashlib.sha256(manifest).hexdigest()}).encode()
    bodies = {"a": b"first", "b": b"1", "_manifest.json": manifest, "_CHECKPOINT": marker}
    return Objects({f"{BASE}step-1/{path}": body for path, body in bodies.items()})


def test_a_whole_checkpoint_counts_and_one_without_a_marker_is_none() -> None:
    found = judge.checkpoints(checkpoint(), "b", BASE, "mine", VERSIONS)
    assert (found.sealed, found.problems) == (["step-1"], [])
    objects = checkpoint()
    del objects.there[f"{BASE}step-1/_CHECKPOINT"], objects.there[f"{BASE}step-1/a"]
    found = judge.checkpoints(objects, "b", BASE, "mine", VERSIONS)
    assert (found.sealed, found.problems) == ([], [])


@pytest.mark.parametrize(
    ("path", "body", "words"),
    [
        ("a", b"secnd", "were never a whole checkpoint"),
        ("a", None, "were never a whole checkpoint"),
        ("c", b"left over", "were never a whole checkpoint"),
        ("_manifest.json", b"{}", "vouches for another manifest"),
        ("_manifest.json", None, "vouches for another manifest"),
    ],
)
def test_a_marker_of_what_was_never_whole_is_seen(path: str, body: bytes | None, words: str) -> None:
    objects = checkpoint()
    objects.there.pop(f"{BASE}step-1/{path}", None)
    if body is not None:
        objects.there[f"{BASE}step-1/{path}"] = body
    assert words in "".join(judge.checkpoints(objects, "b", BASE, "mine", VERSIONS).problems)
    assert "another token" in "".join(judge.checkpoints(checkpoint("other"), "b", BASE, "mine", VERSIONS).problems)


def test_bytes_on_the_pod_that_nobody_announced_are_seen_and_what_is_on_its_way_is_not(tmp_path: Path) -> None:
    (tmp_path / "in/.trainyard-fetch").mkdir(parents=True)
    (tmp_path / "in/.trainyard-fetch/x").write_bytes(b"half")
    (tmp_path / "in/a").write_bytes(b"whole")
    truth = {"in/a": [hashlib.sha256(b"whole").hexdigest()]}
    assert judge.on_pod(tmp_path, truth) == ({"in/a": truth["in/a"][0]}, [])
    (tmp_path / "in/a").write_bytes(b"who")
    (tmp_path / "in/b").write_bytes(b"")
    assert judge.on_pod(tmp_path, truth)[1] == ["in/a", "in/b"]


@dataclass
class Working:
    """A command that works until a moment of its own clock; what is seen of it changes as long as ``busy`` says."""

    until: float
    busy: bool
    clock: float = 0.0

    @property
    def exitcode(self) -> int | None:
        return 0 if self.clock >= self.until else None

    def join(self, timeout: float | None = None) -> None:
        self.clock += timeout or 0.0

    def hang(self) -> str:
        return stage.hang_of(self, lambda: self.busy and self.clock, lambda: self.clock)


def test_a_command_hangs_when_nothing_is_seen_of_it_however_long_another_is_at_work() -> None:
    assert Working(until=stage.LONGEST - 1, busy=True).hang() == "" and Working(until=stage.SILENCE - 1, busy=False).hang() == ""
    assert "nothing came of it" in Working(until=stage.SILENCE + 60, busy=False).hang()
    assert "has no end" in Working(until=stage.LONGEST + 60, busy=True).hang()
