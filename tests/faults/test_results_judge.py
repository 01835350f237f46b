"""The judge of the results' matrix sees what must never be."""

from __future__ import annotations

import hashlib
import io
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from tests.faults.results import judge
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
