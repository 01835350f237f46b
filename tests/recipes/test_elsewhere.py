"""Data that lie elsewhere: what is read from here, what only the pod reads, and a file of the web with its hash."""

from __future__ import annotations

import io
from contextlib import nullcontext

import httpx
import pytest

from tests.recipes.conftest import ROOT
from trainyard.errors import UserError
from trainyard.recipes import data
from trainyard.recipes.contract import load_recipe
from trainyard.recipes.data import BucketFile, inspect
from trainyard.runs.planning import webdata

LORA, COMMAND = load_recipe(ROOT, "lora"), load_recipe(ROOT, "command")
ROW = b'{"messages": [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "ho"}]}\n'
DIGEST = "ab" * 32


def never() -> io.BytesIO:
    raise AssertionError("it was read")


def test_files_that_are_no_rows_are_not_read_from_here() -> None:
    seen = inspect("s3://b/set", COMMAND, lambda _: [BucketFile("s3://b/set/x.bin", "x.bin", 7, never, etag='"e"', version="v")])
    (file,) = seen.files
    assert (file.sha256, file.bytes, file.etag, file.version, seen.kind) == (None, 7, '"e"', "v", "s3")
    assert seen.describe() == "x.bin: 7 B, read where they lie, by the pod"


def test_rows_are_checked_from_here_while_they_are_few(monkeypatch: pytest.MonkeyPatch) -> None:
    files = [BucketFile("gs://b/x.jsonl", "x.jsonl", len(ROW), lambda: io.BytesIO(ROW))]
    assert inspect("gs://b/x.jsonl", LORA, lambda _: files).rows == 1
    monkeypatch.setattr(data, "ROWS_HERE", len(ROW) - 1)
    assert inspect("gs://b/x.jsonl", LORA, lambda _: files).files[0].sha256 is None
    with pytest.raises(UserError, match=r"gs://b/: notes.docx: cannot tell how to read it: the name must end in"):
        inspect("gs://b/", LORA, lambda _: [BucketFile("gs://b/notes.docx", "notes.docx", 1000, never)])


def answering(monkeypatch: pytest.MonkeyPatch, status: int = 200, **headers: str) -> None:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    monkeypatch.setattr(httpx, "head", lambda *_, **__: httpx.Response(status, headers=named))


def test_a_file_of_the_web_is_known_by_its_hash(monkeypatch: pytest.MonkeyPatch) -> None:
    answering(monkeypatch, content_length="70000000", accept_ranges="bytes")
    seen = inspect(f"https://example.com/a%20b.jsonl#sha256={DIGEST}", LORA, lambda reference: [webdata.look(reference)])
    (file,) = seen.files
    assert (seen.kind, file.src, file.dest, file.sha256, file.bytes) == (
        "url",
        "https://example.com/a%20b.jsonl",
        "a b.jsonl",
        DIGEST,
        70_000_000,
    )


@pytest.mark.parametrize(
    ("reference", "words"),
    [
        ("https://example.com/x.jsonl", "say which bytes are meant"),
        ("https://example.com/x.jsonl#sha256=abc", "say which bytes are meant"),
        (f"https://me:secret@example.com/x.jsonl#sha256={DIGEST}", "leave out the name and the password"),
        (f"https://example.com/x.jsonl?token=secret#sha256={DIGEST}", "leave out what follows '[?]'"),
    ],
)
def test_a_reference_to_the_web_that_cannot_be_kept_is_refused(reference: str, words: str) -> None:
    with pytest.raises(UserError, match=words) as caught:
        webdata.look(reference)
    assert "secret" not in caught.value.message


@pytest.mark.parametrize(
    ("schemes", "refused"), [(["https", "https"], False), (["http", "https"], False), (["https", "http", "https"], True)]
)
def test_a_server_that_leads_away_from_https_is_told_before_a_pod_is_rented(
    schemes: list[str], refused: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    hops = [httpx.Response(200, headers={"content-length": "7"}, request=httpx.Request("HEAD", f"{scheme}://mirror")) for scheme in schemes]
    hops[-1].history = hops[:-1]
    monkeypatch.setattr(httpx, "head", lambda *_, **__: hops[-1])
    with pytest.raises(UserError, match="leads away from https, to mirror") if refused else nullcontext():
        webdata.look(f"{schemes[0]}://example.com/x#sha256={DIGEST}")


@pytest.mark.parametrize(
    ("status", "headers", "words"),
    [(404, {}, "answered 404"), (200, {}, "does not tell its size"), (200, {"content_length": "70000000"}, "sends no ranges")],
)
def test_a_server_that_cannot_serve_a_pod_is_told(
    status: int, headers: dict[str, str], words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    answering(monkeypatch, status, **headers)
    with pytest.raises(UserError, match=words):
        webdata.look(f"https://example.com/x#sha256={DIGEST}")
