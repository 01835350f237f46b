"""Downloads from the real server: by every kind of reference, resumed, verified, atomic."""

from __future__ import annotations

import errno
import hashlib
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from types import SimpleNamespace

import pytest

from tests.storage.conftest import PART, Workspace, fresh_bucket, here, places_at, trained_pod, tree
from tests.storage.lying_proxy import Fault, LyingProxy
from tests.storage.test_commit import EXCLUDES, HASTE, OUTPUTS, WHERE
from trainyard.errors import DiskFull, ForeignResult, StoreError, UserError
from trainyard.pod.files import hash_file
from trainyard.retries import Backoff
from trainyard.secret import Secret
from trainyard.storage import bucket, pieces
from trainyard.storage.client import THREADS, StoreSettings, s3
from trainyard.storage.commit import commit
from trainyard.storage.deliver import Progress
from trainyard.storage.download import download, list_results
from trainyard.storage.fetch import fetch_files
from trainyard.storage.manifest import ResultKey, entry_of
from trainyard.storage.markers import Claim, attempts, claim_attempt
from trainyard.storage.staging import FOLDER, Staging, twins
from trainyard.storage.verify import seal_state


@dataclass(frozen=True, slots=True)
class Kept:
    """A bucket with one committed result, and the files of its model."""

    settings: StoreSettings
    files: dict[str, bytes]


def committed_result(settings: StoreSettings, pod: Workspace) -> Kept:
    commit(settings, here(), WHERE, pod.output, [*OUTPUTS, "notes.txt"], EXCLUDES, part_size=PART, patience=HASTE)
    return Kept(settings, tree(pod.root / "output/model"))


@pytest.fixture(scope="module")
def kept(server: StoreSettings, tmp_path_factory: pytest.TempPathFactory) -> Kept:
    """One result for all tests that only read it."""
    return committed_result(fresh_bucket(server), trained_pod(tmp_path_factory.mktemp("pod")))


@pytest.fixture
def mine(settings: StoreSettings, pod: Workspace) -> Kept:
    """A result that a test may damage."""
    return committed_result(settings, pod)


@pytest.fixture
def by_proxy(kept: Kept, proxy: LyingProxy) -> StoreSettings:
    return replace(kept.settings, endpoint=proxy.endpoint, attempts=2)


@pytest.fixture(autouse=True)
def _no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("trainyard.storage.fetch.PAUSES", Backoff(0.001, 0.001))


@pytest.mark.parametrize(
    "reference",
    [
        "2026-11-24-101234",
        "greg/2026-11-24-101234",
        "greg/2026-11-24-101234/1",
        "greg/2026-11-24-101234/model/",
        "greg/2026-11-24-101234/1/model",
        "models/greg/2026-11-24-101234",
        "models/greg/2026-11-24-101234/1/",
        "models/greg/2026-11-24-101234/1/model/",
        "s3://{bucket}/models/greg/2026-11-24-101234/1/model",
    ],
)
def test_every_kind_of_reference_gives_the_folder_that_a_library_loads(reference: str, kept: Kept, tmp_path: Path) -> None:
    got = download(kept.settings, reference.format(bucket=kept.settings.bucket), tmp_path / "dir")
    assert tree(tmp_path / "dir") == kept.files
    assert (got.files, got.bytes, got.reused, got.beside) == (4, sum(map(len, kept.files.values())), 0, ("notes.txt",))


def test_one_file_or_a_folder_below_can_be_fetched(kept: Kept, tmp_path: Path) -> None:
    download(kept.settings, WHERE.model + "config.json", tmp_path / "one")
    assert tree(tmp_path / "one") == {"config.json": kept.files["config.json"]}
    download(kept.settings, WHERE.model + "tokenizer", tmp_path / "folder")
    assert tree(tmp_path / "folder") == {"vocab.txt": b"a\nb\n"}


def test_the_whole_result_keeps_its_tree(kept: Kept, tmp_path: Path) -> None:
    download(kept.settings, "greg/2026-11-24-101234", tmp_path / "dir", whole=True)
    assert tree(tmp_path / "dir") == {**{f"model/{name}": body for name, body in kept.files.items()}, "notes.txt": b"left over"}


def test_what_is_here_already_with_the_right_bytes_is_kept(kept: Kept, tmp_path: Path) -> None:
    download(kept.settings, str(WHERE), tmp_path)
    (tmp_path / "config.json").unlink()
    untouched = (tmp_path / "model.safetensors").stat().st_mtime_ns
    assert download(kept.settings, str(WHERE), tmp_path).reused == 3
    assert tree(tmp_path) == kept.files and (tmp_path / "model.safetensors").stat().st_mtime_ns == untouched


@pytest.mark.parametrize("same_length", [False, True])
def test_a_persons_own_file_of_that_name_is_named_and_nothing_is_fetched(same_length: bool, kept: Kept, tmp_path: Path) -> None:
    own = b"x" * len(kept.files["config.json"]) if same_length else b"precious"
    (tmp_path / "config.json").write_bytes(own)
    with pytest.raises(UserError, match=r"config\.json is there with other bytes than the result's; nothing there was changed"):
        download(kept.settings, str(WHERE), tmp_path)
    assert tree(tmp_path) == {"config.json": own}


def test_an_interrupted_download_fetches_only_what_is_missing_or_wrong(
    by_proxy: StoreSettings, proxy: LyingProxy, kept: Kept, tmp_path: Path
) -> None:
    body = kept.files["model.safetensors"]
    # As a kill leaves it: the first part is here whole, the second one is not.
    stage = Staging(tmp_path / FOLDER)
    stage.folder.mkdir()
    stage.part(hashlib.sha256(body).hexdigest(), tmp_path / "model.safetensors").write_bytes(body[:PART] + b"\0" * 3)
    download(by_proxy, WHERE.model + "model.safetensors", tmp_path)
    asked = [one.headers["range"] for one in proxy.seen if one.key.endswith("model.safetensors") and "range" in one.headers]
    assert asked == [f"bytes={PART}-{PART + 6}"]
    assert tree(tmp_path) == {"model.safetensors": body}


@pytest.mark.parametrize("act", ["drop", "lose", "fail", "garble"])
def test_a_link_that_fails_or_damages_is_tried_again(
    act: str, by_proxy: StoreSettings, proxy: LyingProxy, kept: Kept, tmp_path: Path
) -> None:
    proxy.faults.append(Fault("Get", act, times=2, key="model.safetensors"))  # type: ignore[arg-type]
    download(by_proxy, str(WHERE), tmp_path)
    assert proxy.faults[0].done == 2 and tree(tmp_path) == kept.files


def test_bytes_that_stay_wrong_never_get_the_files_name(by_proxy: StoreSettings, proxy: LyingProxy, kept: Kept, tmp_path: Path) -> None:
    proxy.faults.append(Fault("Get", "garble", times=99, key="config.json"))
    with pytest.raises(StoreError, match=r"config\.json: part 1 could not be fetched: the bytes are not those of the manifest"):
        download(by_proxy, str(WHERE), tmp_path)
    assert not (tmp_path / "config.json").exists()


def test_an_error_in_one_file_drops_what_is_queued_of_others_and_never_hangs(tmp_path: Path, kept: Kept) -> None:
    """The queue is full of another file's parts when the error comes."""
    body = os.urandom(64 * 1000)
    (tmp_path / "source").write_bytes(body)
    big = entry_of(hash_file(str(tmp_path / "source"), 64, False)[0], "model/model.safetensors")
    bad = replace(big, path="model/config.json", size=22, parts=big.parts[:1])
    for number in range(3):
        with pytest.raises(StoreError, match="could not be fetched"):
            wanted = [(big, f"big{number}"), (bad, f"bad{number}")]
            fetch_files(replace(kept.settings, attempts=1), WHERE.prefix, wanted, tmp_path, lambda _: None)


def test_progress_never_runs_past_the_end(by_proxy: StoreSettings, proxy: LyingProxy, kept: Kept, tmp_path: Path) -> None:
    told: list[Progress] = []
    proxy.faults.append(Fault("Get", "garble", times=1, key="model.safetensors"))
    got = download(by_proxy, str(WHERE), tmp_path, on_progress=told.append)
    assert told[-1].done == told[-1].total == got.bytes
    assert all(0 <= one.done <= got.bytes for one in told)


@pytest.mark.parametrize("taken", ["", "tokenizer", "config.json/", "model.safetensors|"])
def test_something_else_where_a_file_must_be_is_told_and_stays_as_it_is(taken: str, kept: Kept, tmp_path: Path) -> None:
    place = tmp_path / "dir" / taken.rstrip("/|")
    place.parent.mkdir(exist_ok=True)
    if taken.endswith("/"):
        (place / "mine").mkdir(parents=True)
    elif taken.endswith("|"):
        os.mkfifo(place)
    else:
        place.write_text("mine")
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(UserError, match="nothing was changed"):
        download(kept.settings, str(WHERE), tmp_path / "dir")
    assert sorted(tmp_path.rglob("*")) == before


def test_a_link_to_nothing_is_called_so(kept: Kept, tmp_path: Path) -> None:
    (tmp_path / "dir").symlink_to(tmp_path / "gone")
    with pytest.raises(UserError, match="dir is a link to nothing"):
        download(kept.settings, str(WHERE), tmp_path / "dir")


def test_a_full_disk_at_home_is_a_full_disk(kept: Kept, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("trainyard.storage.fetch.os.pwrite", full)
    with pytest.raises(DiskFull):
        download(kept.settings, str(WHERE), tmp_path)


def test_what_the_disk_has_no_room_for_is_told_before_anything_is_fetched(
    kept: Kept, by_proxy: StoreSettings, proxy: LyingProxy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    size, room = sum(map(len, kept.files.values())), [0]
    monkeypatch.setattr("trainyard.storage.staging.shutil.disk_usage", lambda path: SimpleNamespace(free=room[0]))
    room[0] = size - 1
    with pytest.raises(DiskFull, match=r"5\.2 MB more are needed here, and 5\.2 MB are free"):
        download(by_proxy, str(WHERE), tmp_path / "dir")
    assert not any("/model/" in request.key for request in proxy.seen) and list(tmp_path.rglob("*.safetensors")) == []
    room[0] = size
    download(by_proxy, str(WHERE), tmp_path / "dir")
    room[0] = 0
    assert download(by_proxy, str(WHERE), tmp_path / "dir").reused == 4, "what is there needs no room"


def test_a_hole_in_a_file_needs_no_room(settings: StoreSettings, pod: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with (pod.root / "output/model/model.safetensors").open("wb") as file:
        file.truncate(4 * PART)
    committed_result(settings, pod)
    monkeypatch.setattr("trainyard.storage.staging.shutil.disk_usage", lambda path: SimpleNamespace(free=1000))

    assert download(settings, str(WHERE), tmp_path / "dir").files == 4


def test_a_folder_that_cannot_be_written_is_told(kept: Kept, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*_: object) -> None:
        raise OSError(errno.EROFS, "Read-only file system")

    monkeypatch.setattr("trainyard.storage.staging.os.replace", refused)
    with pytest.raises(StoreError, match=r"dir/.*: Read-only file system"):
        download(kept.settings, str(WHERE), tmp_path / "dir")


@pytest.mark.parametrize("place", ["/dev/null/x", "/proc/x/y", "a-file/x", "read-only"])
def test_a_place_that_cannot_be_used_is_a_users_mistake_and_nothing_is_fetched(
    place: str, kept: Kept, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "a-file").write_text("x")
    (tmp_path / "read-only").mkdir(mode=0o555)
    monkeypatch.setattr("trainyard.storage.staging.os.access", lambda path, mode: Path(path).name != "read-only")  # root may anything

    with pytest.raises(UserError, match="not") as told:
        download(kept.settings, str(WHERE), tmp_path / place)

    assert str(told.value.hint).startswith(("Choose a folder", "Move it away")) and not list((tmp_path / "read-only").iterdir())


def test_four_downloads_at_once_into_one_folder_all_succeed(kept: Kept, tmp_path: Path) -> None:
    told: list[Progress] = []

    def one(_: int) -> int:
        return download(kept.settings, str(WHERE), tmp_path / "dir", on_progress=told.append).reused

    with ThreadPoolExecutor(4) as pool:
        assert sorted(pool.map(one, range(4))) == [0, 4, 4, 4]
    assert tree(tmp_path / "dir") == kept.files and any("waiting for it" in one.text for one in told)


def test_names_that_are_one_to_the_file_system_at_home_are_told_before_anything_is_fetched(
    settings: StoreSettings, pod: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pod.write("output/model/Config.json", b"other")
    mine = committed_result(settings, pod)
    monkeypatch.setattr("trainyard.storage.staging.ignores", lambda folder: (True, False))
    with pytest.raises(UserError, match=r"Config\.json.*which are one name to the file system"):
        download(mine.settings, str(WHERE), tmp_path / "dir")
    assert list((tmp_path / "dir").iterdir()) == []


def test_twins_are_found_by_case_and_by_form() -> None:
    assert twins(["a/B", "a/b"], case=True, form=False) == ("a/B", "a/b")
    assert twins(["\u00e5", "a\u030a"], case=False, form=True) == ("\u00e5", "a\u030a")
    assert twins(["a/B", "a/b", "\u00e5", "a\u030a"], case=False, form=False) is None


def test_holes_stay_holes(settings: StoreSettings, pod: Workspace, tmp_path: Path) -> None:
    with (pod.root / "output/model/sparse.bin").open("wb") as file:
        file.seek(12 * PART)
        file.write(b"tail")
    mine = committed_result(settings, pod)
    download(mine.settings, str(WHERE), tmp_path)
    assert tree(tmp_path) == mine.files
    assert (tmp_path / "sparse.bin").stat().st_blocks * 512 <= 2 * PART


def test_an_unknown_reference_names_the_near_ones(kept: Kept, tmp_path: Path) -> None:
    for wrong in ("2026-11-24-101235", "greg/2026-11-24-1012", "gregg/2026-11-24-101234"):
        with pytest.raises(UserError, match="there is no result") as caught:
            download(kept.settings, wrong, tmp_path)
        assert "greg/2026-11-24-101234" in str(caught.value.hint)


def test_a_number_in_other_signs_is_no_attempt(kept: Kept, settings: StoreSettings, tmp_path: Path) -> None:
    s3(settings).put_object(Bucket=settings.bucket, Key="attempts/u/r/\u00b2", Body=b"{}")
    assert attempts(settings, "u", "r") == []
    with pytest.raises(UserError, match="has no '\u00b2'"):
        download(kept.settings, f"{WHERE.user}/{WHERE.run}/\u00b2", tmp_path)


def test_an_empty_bucket_says_that_there_is_nothing_yet(settings: StoreSettings, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="there is no result") as caught:
        download(settings, "r1", tmp_path)
    assert "There is no result" in str(caught.value.hint)


def test_a_path_that_the_result_does_not_have_names_what_it_has(kept: Kept, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="has no 'adapter'") as caught:
        download(kept.settings, WHERE.prefix + "adapter", tmp_path)
    assert "model/" in str(caught.value.hint)


def test_another_bucket_in_the_url_is_refused(settings: StoreSettings, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="lies in bucket 'other'"):
        download(settings, "s3://other/models/a/b/1/model/", tmp_path)


@pytest.mark.parametrize(
    "reference",
    [f"{WHERE.user}/{WHERE.run}/" + "9" * 999, "9" * 5000, f"models/{WHERE.user}/x/" + "1" * 5000, "a/X.y/1", "a/**/1", "a\udcff"],
)
def test_words_that_can_be_no_run_are_refused_in_a_sentence(reference: str, kept: Kept, tmp_path: Path) -> None:
    with pytest.raises(UserError):
        download(kept.settings, reference, tmp_path)


@pytest.mark.parametrize("reference", ["logs/greg/r1/1", "data/0123", "a//b", ""])
def test_nonsense_is_refused_with_the_forms_that_work(reference: str, settings: StoreSettings, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="neither a run nor a key") as caught:
        download(settings, reference, tmp_path)
    assert "<user>/<run>" in str(caught.value.hint)


def test_a_label_of_several_users_must_be_said_with_the_user(settings: StoreSettings, pod: Workspace, tmp_path: Path) -> None:
    for user in ("anna", "greg"):
        commit(settings, here(), ResultKey(user, "same", 1), pod.output, ["model/config.json"], [], logs={})
    with pytest.raises(UserError, match="several users") as caught:
        download(settings, "same", tmp_path)
    assert "anna/same, greg/same" in str(caught.value.hint)
    assert download(settings, "same", tmp_path, user="anna").key.user == "anna"


def test_the_newest_committed_attempt_is_taken(settings: StoreSettings, pod: Workspace, tmp_path: Path) -> None:
    for attempt in (1, 2, 10):
        commit(settings, here(), ResultKey("greg", "r1", attempt), pod.output, ["model/config.json"], [], logs={})
    s3(settings).put_object(Bucket=settings.bucket, Key=ResultKey("greg", "r1", 11).model + "half", Body=b"x")
    got = download(settings, "r1", tmp_path)
    assert got.key.attempt == 10 and [one.key.attempt for one in got.newer] == [11], "what is newer and no success is not passed over"
    assert download(settings, "greg/r1/2", tmp_path / "2").newer == (), "who names an attempt means it"
    assert [(one.key.attempt, one.committed, one.files) for one in list_results(settings)] == [
        (1, True, 1), (2, True, 1), (10, True, 1), (11, False, 1),
    ]  # fmt: skip


def test_a_result_without_success_is_refused_unless_told_otherwise(mine: Kept, tmp_path: Path) -> None:
    bucket.forget(mine.settings, WHERE.success)
    for reference in ("2026-11-24-101234", str(WHERE), WHERE.model):
        with pytest.raises(StoreError, match="never committed") as caught:
            download(mine.settings, reference, tmp_path)
        assert "--partial" in str(caught.value.hint)
    got = download(mine.settings, str(WHERE), tmp_path, uncommitted=True)
    assert got.manifest_sha256 is None and tree(tmp_path) == mine.files
    bucket.forget(mine.settings, WHERE.manifest)
    for reference in ("2026-11-24-101234", str(WHERE)):
        with pytest.raises(StoreError, match="never committed") as caught:
            download(mine.settings, reference, tmp_path / "more")
        assert "--partial" not in str(caught.value.hint) and "aws s3 sync" in str(caught.value.hint), "nothing can prove it"


def test_a_manifest_that_success_does_not_vouch_for_is_not_believed(mine: Kept, tmp_path: Path) -> None:
    body = s3(mine.settings).get_object(Bucket=mine.settings.bucket, Key=WHERE.manifest)["Body"].read()
    s3(mine.settings).put_object(Bucket=mine.settings.bucket, Key=WHERE.manifest, Body=body + b" ")
    with pytest.raises(StoreError, match=r"was committed .*_SUCCESS says so.*another one now"):
        download(mine.settings, str(WHERE), tmp_path)


@pytest.mark.parametrize("said_by", ["key", "claim"])
def test_a_result_that_was_copied_under_another_attempts_key_is_never_taken_for_its(
    said_by: str, settings: StoreSettings, pod: Workspace, tmp_path: Path
) -> None:
    """Marker and manifest agree with each other: only the key that they tell, and the claim, say whose they are."""
    commit(settings, here(), WHERE, pod.output, OUTPUTS, EXCLUDES, token="a" * 32, part_size=PART, patience=HASTE)
    place = WHERE if said_by == "claim" else ResultKey("greg", "other", 1)
    assert claim_attempt(settings, places_at(tmp_path), place, Claim("b" * 32, "greg", "there", "2026-11-29T10:00:00Z"))
    if said_by == "key":
        for item in bucket.listing(settings, WHERE.prefix):
            source = {"Bucket": settings.bucket, "Key": item.key}
            s3(settings).copy_object(Bucket=settings.bucket, Key=item.key.replace(WHERE.prefix, place.prefix), CopySource=source)
    with pytest.raises(ForeignResult, match=r"that of greg/.*, not of greg/other/1|another run's than the one that claimed"):
        download(settings, str(place), tmp_path / "out")
    assert not (tmp_path / "out").exists() and seal_state(settings, place).problem.startswith("it is ")
    assert download(settings, str(place), tmp_path / "out", uncommitted=True).files, "the command that the message names"


@pytest.mark.parametrize("key", [WHERE.manifest, WHERE.model + "config.json"])
def test_what_is_missing_of_a_committed_result_is_never_called_not_committed(key: str, mine: Kept, tmp_path: Path) -> None:
    bucket.forget(mine.settings, key)
    with pytest.raises(StoreError, match="missing now") as caught:
        download(mine.settings, str(WHERE), tmp_path)
    assert key.rpartition("/")[2] in str(caught.value) and "never committed" not in str(caught.value)


def test_the_result_of_another_run_than_the_claims_is_taken_only_unproved(mine: Kept, tmp_path: Path) -> None:
    claim_attempt(mine.settings, places_at(tmp_path / "w"), WHERE, Claim("another", "greg", "laptop", "2026-11-24T10:12:34Z"))
    with pytest.raises(ForeignResult, match="another run's than the one that claimed"):
        download(mine.settings, str(WHERE), tmp_path / "got")
    assert download(mine.settings, str(WHERE), tmp_path / "got", uncommitted=True).files == len(mine.files)


def test_an_object_that_was_exchanged_in_the_bucket_is_found(mine: Kept, tmp_path: Path) -> None:
    other = os.urandom(len(mine.files["config.json"]))
    s3(mine.settings).put_object(Bucket=mine.settings.bucket, Key=WHERE.model + "config.json", Body=other)
    with pytest.raises(StoreError, match="not those of the manifest"):
        download(replace(mine.settings, attempts=1), str(WHERE), tmp_path)
    assert not (tmp_path / "config.json").exists()


@pytest.fixture
def in_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the model count as a big file, of several requests a part."""
    monkeypatch.setattr("trainyard.storage.fetch.PIECE", 1 << 20)


@pytest.mark.parametrize("act", [None, "drop", "lose", "fail", "garble"])
def test_a_big_file_arrives_in_pieces_over_a_bad_link(
    act: str | None, in_pieces: None, by_proxy: StoreSettings, proxy: LyingProxy, kept: Kept, tmp_path: Path
) -> None:
    if act:
        proxy.faults.append(Fault("Get", act, times=3, after=1, key="model.safetensors"))  # type: ignore[arg-type]
    told: list[Progress] = []
    got = download(by_proxy, str(WHERE), tmp_path, on_progress=told.append)
    assert tree(tmp_path) == kept.files
    assert told[-1].done == got.bytes and all(0 <= one.done <= got.bytes for one in told)
    assert len({one.headers["range"] for one in proxy.seen if one.key.endswith("model.safetensors")}) >= 6


@pytest.mark.parametrize(("idle", "at_once"), [(0.0, pieces.STREAMS), (1e9, THREADS)])
def test_few_pieces_of_a_file_are_under_way_and_more_while_the_processor_idles(
    idle: float, at_once: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pieces, "LOOK", 0.001)
    monkeypatch.setattr(pieces, "IDLE", idle)
    begun: list[Future[None]] = []

    def begin(_: pieces.FilePiece) -> Future[None]:
        begun.append(Future())
        return begun[-1]

    every = [pieces.FilePiece(number, number + 1, True) for number in range(2 * THREADS)]
    flow = pieces.PieceFlow(every, begin)
    threading.Timer(0.1, lambda: begun[0].set_result(None)).start()
    flow.wait_for(every[0])
    assert sum(not job.done() for job in begun) == at_once
    flow.end()
    assert all(job.done() for job in begun)


def test_what_arrives_in_its_turn_is_hashed_from_memory_and_what_came_before_it_from_the_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "part").write_bytes(b"abcdefgh")
    read_back, blocks_of = list[tuple[int, int]](), pieces.blocks_of

    def read(handle: int, start: int, end: int) -> Iterator[memoryview]:
        read_back.append((start, end))
        return blocks_of(handle, start, end)

    monkeypatch.setattr(pieces, "blocks_of", read)
    piece, digest = pieces.FilePiece(0, 8, True), hashlib.sha256()
    with open(tmp_path / "part", "rb") as file:
        *_, hear = piece.range(file.fileno())
        hear(b"ab")
        piece.digest = digest
        hear(b"cd")
        hear(b"ef")
        hear(b"gh")
        piece.hash_rest(file.fileno(), digest)
    assert digest.hexdigest() == hashlib.sha256(b"abcdefgh").hexdigest()
    assert [(start, end) for start, end in read_back if start < end] == [(0, 2)]


def test_a_big_file_that_stays_wrong_never_gets_its_name(
    in_pieces: None, by_proxy: StoreSettings, proxy: LyingProxy, tmp_path: Path
) -> None:
    proxy.faults.append(Fault("Get", "garble", times=99, after=5, key="model.safetensors"))
    with pytest.raises(StoreError, match=r"model\.safetensors: part [12] could not be fetched: the bytes are not those of the manifest"):
        download(by_proxy, WHERE.model + "model.safetensors", tmp_path)
    assert not (tmp_path / "model.safetensors").exists()


@pytest.mark.parametrize("piece", [64 << 20, 1 << 20])
def test_a_kill_in_the_middle_leaves_no_wrong_file_and_what_has_arrived_is_not_fetched_again(
    piece: int, kept: Kept, tmp_path: Path, by_proxy: StoreSettings, proxy: LyingProxy
) -> None:
    code = f"""
import os, signal
from tests.storage.test_download import WHERE, replay
from trainyard.storage import download, fetch
fetch.PIECE, written, write = {piece}, [0], fetch._write
def dying(handle, block, offset):
    write(handle, block, offset)
    written[0] += len(block)
    if written[0] > {PART} + 3:
        os.kill(os.getpid(), signal.SIGKILL)
fetch._write = dying
download.download(replay(), str(WHERE), __import__("pathlib").Path({str(tmp_path / "dir")!r}))
"""
    store = kept.settings
    env = {**os.environ, "STORE": f"{store.endpoint} {store.bucket} {store.access_key.reveal()} {store.secret_key.reveal()}"}
    root = Path(__file__).resolve().parents[2]
    killed = subprocess.run([sys.executable, "-c", code], cwd=root, env=env, capture_output=True, text=True)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    here = {name: body for name, body in tree(tmp_path / "dir").items() if not name.startswith(FOLDER)}
    assert here.items() <= kept.files.items()
    download(by_proxy, str(WHERE), tmp_path / "dir")
    assert tree(tmp_path / "dir") == kept.files
    if piece > PART:  # in order, so the first part was whole when it died
        assert f"bytes={PART}-{PART + 6}" in [one.headers.get("range") for one in proxy.seen if one.key.endswith("model.safetensors")]


def replay() -> StoreSettings:
    """Return the store that a test hands to a process of its own."""
    endpoint, name, access, secret = os.environ["STORE"].split()
    return StoreSettings("local", endpoint, "us-east-1", name, Secret(access), Secret(secret))


def test_many_small_files_are_brought_to_disk_together_and_only_then_named(
    settings: StoreSettings, pod: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(70):
        pod.write(f"output/model/many/{number}", bytes([number]) * number)
    mine = committed_result(settings, pod)
    seen: list[int] = []
    monkeypatch.setattr("trainyard.storage.staging.sync_all", lambda folder: seen.append(len(tree(folder.parent)) - len(tree(folder))))
    download(mine.settings, str(WHERE), tmp_path / "dir")
    assert tree(tmp_path / "dir") == mine.files
    assert seen[0] == 0, "no file has its name before it is on disk"


def test_a_numbered_attempt_is_found_without_listing_its_files(by_proxy: StoreSettings, proxy: LyingProxy, tmp_path: Path) -> None:
    download(by_proxy, str(WHERE), tmp_path)
    assert [one.query["prefix"] for one in proxy.seen if one.operation == "List"] == []
    proxy.reset()
    download(by_proxy, f"{WHERE.user}/{WHERE.run}", tmp_path)
    assert [one.query["prefix"] for one in proxy.seen if one.operation == "List"] == [f"models/{WHERE.user}/{WHERE.run}/"]
    proxy.reset()
    download(by_proxy, WHERE.run, tmp_path)
    assert [one.query["prefix"] for one in proxy.seen if one.operation == "List"] == ["models/", f"models/{WHERE.user}/{WHERE.run}/"]


def test_a_store_that_signs_no_urls_is_read_by_its_client(kept: Kept, tmp_path: Path) -> None:
    download(replace(kept.settings, presign=False), str(WHERE), tmp_path)
    assert tree(tmp_path) == kept.files


@pytest.mark.parametrize("idle", [False, True])
def test_of_many_big_files_each_is_read_from_end_to_end_and_the_last_in_pieces_where_the_line_is_the_limit(
    idle: bool, settings: StoreSettings, pod: Workspace, proxy: LyingProxy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in {"PIECE": 1000, "LOOK": 0.001, "IDLE": 1e9 if idle else 0.0}.items():
        monkeypatch.setattr(f"trainyard.storage.fetch.{name}", value)
    for number in range(20):
        pod.write(f"output/model/shard-{number:02d}", os.urandom(5000))
    mine = committed_result(settings, pod)
    proxy.faults.append(Fault("Get", "garble", times=3, key="shard-"))
    download(replace(settings, endpoint=proxy.endpoint), WHERE.model, tmp_path / "dir")
    assert tree(tmp_path / "dir") == mine.files
    whole, cut = (len({one.key for one in proxy.seen if one.headers.get("range") == span}) for span in ("bytes=0-4999", "bytes=4000-4999"))
    assert whole + cut == 20 and bool(cut) == idle and whole >= 4
