"""Commit on a real S3 server, and through a proxy that lies between both."""

from __future__ import annotations

import functools
import hashlib
import json
import os
import shutil
import sys
import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.storage.conftest import PART, Workspace, here, places_at
from tests.storage.lying_proxy import Fault, LyingProxy
from trainyard.errors import ForeignResult, PodCannotUpload, StoreError, UserError
from trainyard.remote.local import LocalTransport
from trainyard.storage import bucket, deliver, markers, seal
from trainyard.storage.client import StoreSettings, s3
from trainyard.storage.commit import Committed, commit, committed
from trainyard.storage.deliver import DeliveryPatience, Progress
from trainyard.storage.download import download
from trainyard.storage.manifest import ResultKey

WHERE = ResultKey("greg", "2026-11-24-101234", 1)
OUTPUTS = ["model/**"]
EXCLUDES = ["checkpoint-*", "*.pt"]
PATH = {**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
REAL_SYNCFS = seal._syncfs
HASTE = DeliveryPatience(rounds=3, tries=3, backoff=0.01, pause=lambda _: None)


def run(settings: StoreSettings, pod: Workspace, where: ResultKey = WHERE, **more: Any) -> Committed:
    more = {"patience": HASTE, **more}
    return commit(settings, here(), where, pod.output, OUTPUTS, EXCLUDES, part_size=PART, **more)


def keys(settings: StoreSettings, prefix: str = "") -> list[str]:
    return sorted(item.key for item in bucket.listing(settings, prefix))


def open_uploads(settings: StoreSettings) -> int:
    return len(s3(settings).list_multipart_uploads(Bucket=settings.bucket).get("Uploads", []))


def assert_result_is(settings: StoreSettings, pod: Workspace, dest: Path) -> None:
    """The bucket's committed result, downloaded, is byte for byte the pod's model folder."""
    download(settings, str(WHERE), dest)
    want = {str(p.relative_to(pod.root / "output/model")): p.read_bytes() for p in (pod.root / "output/model").rglob("*") if p.is_file()}
    have = {str(p.relative_to(dest)): p.read_bytes() for p in dest.rglob("*") if p.is_file()}
    assert have == want


def test_a_commit_puts_model_manifest_and_logs_where_the_design_says(settings: StoreSettings, pod: Workspace, tmp_path: Path) -> None:
    done = run(settings, pod)
    base = "models/greg/2026-11-24-101234/1/"
    model = [f"model/{name}" for name in ("config.json", "empty", "model.safetensors", "tokenizer/vocab.txt")]
    assert keys(settings, "models/") == [base + name for name in ("_SUCCESS", "_manifest.json", *model)]
    logs = "logs/greg/2026-11-24-101234/1/"
    assert keys(settings, "logs/") == [logs + name for name in ("config.json", "metrics.jsonl", "status.json", "train.log")]
    assert done.s3_url == f"s3://{settings.bucket}/{base}model/" and done.s3_key == base + "model/"
    assert (done.files, done.bytes, done.already) == (4, PART + 7 + 22 + 4, False)
    assert_result_is(settings, pod, tmp_path / "home")


def test_the_store_is_read_back_while_the_pod_takes_its_samples(
    settings: StoreSettings, pod: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked, sample, read_back = threading.Event(), deliver.OfPod.sample, deliver._range_sha256

    def told(*one: Any) -> str:
        asked.set()
        return read_back(*one)

    monkeypatch.setattr(deliver, "_range_sha256", told)
    monkeypatch.setattr(deliver.OfPod, "sample", lambda pod, ranges: sample(pod, ranges) if asked.wait(20) else [])
    assert run(settings, pod).files == 4


def test_many_files_are_asked_for_once_by_a_listing(through: StoreSettings, proxy: LyingProxy, pod: Workspace) -> None:
    for number in range(80):
        pod.write(f"output/model/many/{number}", b"%d" % number)
    run(through, pod)
    assert proxy.count("Head") <= 84 + 8
    bucket.forget(through, WHERE.success)
    puts = proxy.count("Put")
    run(through, pod)
    assert proxy.count("Put") - puts <= 6  # the logs, the manifest, the marker


def test_success_names_the_sha256_of_the_manifest(settings: StoreSettings, pod: Workspace) -> None:
    done = run(settings, pod)
    vouched = json.loads(seal.read(settings, WHERE.success) or b"")
    body = seal.read(settings, WHERE.manifest)
    assert body is not None
    from trainyard.storage.manifest import sha256

    assert vouched["manifest_sha256"] == done.manifest_sha256 == sha256(body)


def test_everything_is_on_disk_before_success_is_written(settings: StoreSettings, pod: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    synced: list[tuple[Path, list[str]]] = []

    def syncing(folder: Path) -> None:
        synced.append((folder, [key.rpartition("/")[2] for key in keys(settings, "models/")]))
        REAL_SYNCFS(folder)

    monkeypatch.setattr(seal, "_syncfs", syncing)
    run(settings, pod)
    first, last = synced
    assert first[0] == settings.data_dir
    assert "_SUCCESS" not in first[1] and {"_manifest.json", "model.safetensors"} <= set(first[1])
    assert "_SUCCESS" in last[1]


def test_what_is_left_out_is_listed_with_its_size_and_logs_are_not_called_left_out(settings: StoreSettings, pod: Workspace) -> None:
    done = run(settings, pod)
    told = [(entry.path, entry.size, entry.wanted) for entry in done.left_out]
    assert told == [("checkpoints/checkpoint-10/optimizer.pt", 1000, False), ("notes.txt", 9, False)]


def test_a_second_commit_sends_nothing_and_gives_the_same_answer(through: StoreSettings, proxy: LyingProxy, pod: Workspace) -> None:
    first = run(through, pod)
    puts = proxy.count("Put") + proxy.count("UploadPart")
    second = run(through, pod)
    assert proxy.count("Put") + proxy.count("UploadPart") == puts
    assert second == replace(first, already=True)


def test_the_watchdog_is_told_that_nothing_uncommitted_is_left(settings: StoreSettings, pod: Workspace) -> None:
    done = run(settings, pod)
    assert (pod.root / ".trainyard/committed").read_text().strip() == done.manifest_sha256


def test_every_url_is_bound_to_its_bytes_and_sent_without_a_content_type(through: StoreSettings, proxy: LyingProxy, pod: Workspace) -> None:
    run(through, pod)
    sent = [one for one in proxy.seen if "X-Amz-Signature" in one.query and one.operation not in ("Get", "Head")]
    assert len(sent) == 5  # two parts, three files of one part
    for one in sent:
        signed = one.query["X-Amz-SignedHeaders"].split(";")
        assert "content-length" in signed and ("x-amz-checksum-crc32" in signed) is ("uploadId" in one.query)
        assert ("x-amz-checksum-sha256" in signed) is ("uploadId" not in one.query)
        assert "content-type" not in one.headers and int(one.headers["content-length"]) == one.length


def test_no_key_of_the_store_reaches_the_pod(settings: StoreSettings, pod: Workspace) -> None:
    heard: list[bytes] = []

    class Listening(LocalTransport):
        def exec(self, command: str, stdin: Any = None, **more: Any) -> Any:
            heard.append(command.encode() + (stdin if isinstance(stdin, bytes) else b""))
            return super().exec(command, stdin, **more)

    commit(settings, Listening(env=PATH), WHERE, pod.output, OUTPUTS, EXCLUDES, part_size=PART)
    assert heard and not any(settings.secret_key.reveal().encode() in text for text in heard)


def test_progress_counts_up_to_the_whole_result(settings: StoreSettings, pod: Workspace) -> None:
    told: list[Progress] = []
    done = run(settings, pod, on_progress=told.append)
    stages = list(dict.fromkeys(p.stage for p in told))
    assert stages == ["scan", "upload", "verify", "seal"]
    counts = [p.done for p in told if p.stage == "upload"]
    logs = sum(f["size"] for f in json.loads(seal.read(settings, WHERE.manifest) or b"")["files"])
    assert counts == sorted(counts) and counts[-1] == done.bytes == logs


# Faults that a commit meets together; each of them alone would have to be found, too.
PASSING = {
    "parts that fail": [Fault("UploadPart", "fail"), Fault("UploadPart", "drop"), Fault("UploadPart", "lose")],
    "parts that are damaged or invented": [Fault("UploadPart", "corrupt"), Fault("UploadPart", "swallow")],
    "small files that fail": [Fault("Put", "drop", key="vocab.txt"), Fault("Put", "lose", key="config.json"), Fault("Put", "fail")],
    "small files damaged or invented": [Fault("Put", "corrupt", key="vocab.txt"), Fault("Put", "swallow", key="config.json")],
    "a complete whose answer is lost": [Fault("Complete", "fail"), Fault("Complete", "lose"), Fault("CreateUpload", "lose")],
    "a complete that is invented": [Fault("Complete", "swallow"), Fault("Head", "fail"), Fault("ListParts", "drop")],
    "bytes that read back wrong once": [Fault("Get", "garble", key="model.safetensors")],
}


@pytest.mark.parametrize("faults", PASSING.values(), ids=PASSING.keys())
def test_lies_on_the_way_are_found_and_made_good(
    faults: list[Fault], through: StoreSettings, settings: StoreSettings, proxy: LyingProxy, pod: Workspace, tmp_path: Path
) -> None:
    proxy.faults += [replace(fault) for fault in faults]
    run(through, pod)
    assert [fault.act for fault in proxy.faults if fault.done != fault.times] == [], "not every fault was met"
    assert_result_is(settings, pod, tmp_path / "home")
    assert open_uploads(settings) == 0


LASTING = [
    (Fault("Complete", "swallow", times=999), "said 200, but does not hold it"),
    (Fault("UploadPart", "corrupt", times=999), "BadDigest"),
    (Fault("Get", "garble", times=999, key="model.safetensors"), "gives back is not what was sent"),
    (Fault("Put", "swallow", times=999, key="_SUCCESS"), "acknowledged it, but does not give it back"),
    (Fault("Put", "swallow", times=999, key="_manifest.json"), "acknowledged it, but does not give it back"),
    (Fault("Put", "fail", times=999, key="vocab.txt", status=403), "a lie"),
]


@pytest.mark.parametrize(("fault", "words"), LASTING, ids=[f"{f.act} {f.operation} {f.key}".strip() for f, _ in LASTING])
def test_a_store_that_lies_for_good_never_gets_a_success(
    fault: Fault, words: str, through: StoreSettings, settings: StoreSettings, proxy: LyingProxy, pod: Workspace
) -> None:
    proxy.faults.append(replace(fault))
    with pytest.raises(StoreError, match=words):
        run(through, pod, patience=replace(HASTE, rounds=2))
    assert committed(settings, WHERE) is None
    assert WHERE.success not in keys(settings)


def test_when_the_store_stops_lying_the_same_commit_succeeds(through: StoreSettings, proxy: LyingProxy, pod: Workspace) -> None:
    proxy.faults.append(Fault("Complete", "swallow", times=999))
    with pytest.raises(StoreError, match="does not hold it"):
        run(through, pod, patience=replace(HASTE, rounds=1))
    proxy.reset()
    assert run(through, pod).already is False


def test_a_store_that_refuses_everything_is_a_store_error_with_its_words(through: StoreSettings, proxy: LyingProxy, pod: Workspace) -> None:
    proxy.faults.append(Fault("any", "fail", times=999, status=403))
    with pytest.raises(StoreError, match="AccessDenied"):
        run(through, pod)


def test_parts_that_are_stored_already_are_not_sent_again(
    through: StoreSettings, settings: StoreSettings, proxy: LyingProxy, pod: Workspace, tmp_path: Path
) -> None:
    proxy.faults.append(Fault("Complete", "fail", times=999, status=507))
    with pytest.raises(StoreError):
        run(through, pod)
    proxy.faults.clear()
    sent = proxy.count("UploadPart")
    run(through, pod)
    assert proxy.count("UploadPart") == sent
    assert_result_is(settings, pod, tmp_path / "home")


def test_an_object_of_other_content_under_the_key_is_replaced(settings: StoreSettings, pod: Workspace, tmp_path: Path) -> None:
    client = s3(settings)
    client.put_object(Bucket=settings.bucket, Key=WHERE.model + "config.json", Body=b"from an earlier try that never counted")
    client.put_object(Bucket=settings.bucket, Key=WHERE.model + "model.safetensors", Body=b"short")
    run(settings, pod)
    assert_result_is(settings, pod, tmp_path / "home")


def test_a_result_whose_object_was_lost_afterwards_is_committed_again(settings: StoreSettings, pod: Workspace, tmp_path: Path) -> None:
    run(settings, pod)
    bucket.forget(settings, WHERE.model + "model.safetensors")
    assert committed(settings, WHERE) is None
    assert run(settings, pod).already is False
    assert_result_is(settings, pod, tmp_path / "home")


def test_files_outside_the_model_folder_keep_their_place_beside_it(settings: StoreSettings, pod: Workspace) -> None:
    done = commit(settings, here(), WHERE, pod.output, ["model/", "notes.txt"], ["*.pt"], part_size=PART)
    assert WHERE.prefix + "notes.txt" in keys(settings)
    assert done.s3_key == WHERE.model


def test_a_long_log_is_sent_by_the_pod_itself_and_may_go_on_growing(settings: StoreSettings, pod: Workspace) -> None:
    text = os.urandom(300 * 1024)
    pod.write("job/log", text)
    grown = False

    def grow(progress: Progress) -> None:
        nonlocal grown
        if progress.stage == "upload" and not grown:
            grown = True
        with (pod.root / "job/log").open("ab") as file:
            file.write(b"one more line\n")

    run(settings, pod, on_progress=grow)
    stored = seal.read(settings, WHERE.logs + "train.log")
    assert stored is not None and stored.startswith(text) and grown


def test_a_link_to_a_file_of_the_output_is_carried_as_a_file(settings: StoreSettings, pod: Workspace, tmp_path: Path) -> None:
    os.symlink("config.json", pod.root / "output/model/link.json")
    os.symlink("tokenizer", pod.root / "output/model/latest")
    assert run(settings, pod).files == 6
    download(settings, str(WHERE), tmp_path / "home")
    assert (tmp_path / "home/latest/vocab.txt").read_bytes() == b"a\nb\n"
    assert (tmp_path / "home/link.json").read_bytes() == (pod.root / "output/model/config.json").read_bytes()


def test_what_cannot_be_carried_is_named_and_the_rest_is_committed(settings: StoreSettings, pod: Workspace) -> None:
    os.symlink("/nowhere", pod.root / "output/model/dangling")
    os.mkfifo(pod.root / "output/model/pipe")
    pod.write("output/model/new\nline", b"x")
    pod.write("output/_SUCCESS", b"mine")
    done = commit(settings, here(), WHERE, pod.output, [*OUTPUTS, "_SUCCESS"], EXCLUDES, part_size=PART, patience=HASTE)
    assert done.files == 4
    assert {e.path: e.why for e in done.left_out if e.wanted} == {
        "_SUCCESS": "its name is kept for the commit itself", "model/dangling": "a link to nothing", "model/pipe": "not a file",
        "model/new\\nline": "its name has a control character",
    }  # fmt: skip


def test_nothing_is_written_to_the_pods_disk_for_a_commit(settings: StoreSettings, pod: Workspace) -> None:
    before = {path for path in pod.root.rglob("*")}
    run(settings, pod)
    assert {path.name for path in pod.root.rglob("*") if path not in before} <= {".trainyard", "committed"}


def test_output_that_is_still_being_written_is_not_committed(settings: StoreSettings, pod: Workspace) -> None:
    file = pod.root / "output/model/config.json"
    with open(pod.root / "output/model/weights.bin", "wb") as weights:
        weights.truncate(2**26)  # the scan takes long enough for the writer to get its turn on a busy machine

    class Writing(LocalTransport):
        def exec(self, command: str, stdin: Any = None, **more: Any) -> Any:
            if command.endswith(" scan"):
                # The scan hashes what it finds; this writer is busy all the while.
                command = f"(while :; do echo x >> {file}; done) & w=$!; ( {command} ); r=$?; kill $w; exit $r"
            return super().exec(command, stdin, **more)

    with pytest.raises(StoreError, match=r"still being written.*config\.json"):
        commit(settings, Writing(env=PATH), WHERE, pod.output, OUTPUTS, EXCLUDES, part_size=PART, patience=HASTE)
    assert keys(settings) == []


def test_a_file_changed_between_scan_and_sending_is_never_stored_under_the_old_hash(settings: StoreSettings, pod: Workspace) -> None:
    file = pod.root / "output/model/config.json"

    class Changing(LocalTransport):
        def exec(self, command: str, stdin: Any = None, **more: Any) -> Any:
            if command.endswith(" send"):
                file.write_bytes(b'{"architectures": 11}\n'[:22].ljust(22))
            return super().exec(command, stdin, **more)

    with pytest.raises(StoreError, match=r"config\.json"):
        commit(settings, Changing(env=PATH), WHERE, pod.output, OUTPUTS, EXCLUDES, part_size=PART, patience=HASTE)
    assert WHERE.success not in keys(settings) and WHERE.model + "config.json" not in keys(settings)


def test_no_matching_file_is_an_error_that_says_what_was_found(settings: StoreSettings, pod: Workspace) -> None:
    with pytest.raises(StoreError, match=r"no file in .* matches the outputs \(adapter/\*\*\); found: .*nothing was committed"):
        commit(settings, here(), WHERE, pod.output, ["adapter/**"], [])


def test_a_store_without_presigned_urls_leaves_the_way_over_ssh_and_says_so(settings: StoreSettings, pod: Workspace) -> None:
    with pytest.raises(PodCannotUpload, match="runpod's S3 knows no presigned URLs"):
        run(replace(settings, kind="runpod", presign=False), pod)


def test_a_pod_that_cannot_reach_the_store_leaves_the_way_over_ssh(settings: StoreSettings, pod: Workspace) -> None:
    class Cut(LocalTransport):
        def exec(self, command: str, stdin: Any = None, **more: Any) -> Any:
            if isinstance(stdin, bytes) and command.endswith(" send"):
                program, _, order = stdin.rpartition(b"\n{")
                plan = json.loads(b"{" + order)
                for item in plan["items"]:
                    item["url"] = item["url"].replace(str(settings.endpoint), "http://127.0.0.1:1")
                stdin = program + b"\n" + json.dumps({**plan, "tries": 1}).encode()
            return super().exec(command, stdin, **more)

    with pytest.raises(PodCannotUpload, match="cannot reach the store"):
        commit(settings, Cut(env=PATH), WHERE, pod.output, OUTPUTS, EXCLUDES, part_size=PART, patience=HASTE)


def test_a_pod_without_python_leaves_the_way_over_ssh(settings: StoreSettings, pod: Workspace, tmp_path: Path) -> None:
    tools = tmp_path / "tools"
    tools.mkdir()
    for name in ("sh", "cat", "mkdir", "mv"):
        os.symlink(f"/bin/{name}", tools / name)
    with pytest.raises(PodCannotUpload, match="no python3"):
        commit(settings, LocalTransport(env={"PATH": str(tools)}), WHERE, pod.output, OUTPUTS, EXCLUDES)


@pytest.mark.parametrize("checksums", ["composite", "none"])
def test_stores_with_weaker_checksums_are_proven_as_far_as_they_go(
    checksums: str, settings: StoreSettings, pod: Workspace, tmp_path: Path
) -> None:
    weaker = replace(settings, checksums=checksums)  # type: ignore[arg-type]
    run(weaker, pod)
    assert_result_is(settings, pod, tmp_path / "home")


@pytest.mark.parametrize("sealed", [True, False])
def test_another_runs_result_under_our_key_is_an_error_that_names_it_and_neither_is_touched(
    sealed: bool, settings: StoreSettings, pod: Workspace
) -> None:
    run(settings, pod, token="aaaa1111bbbb")
    if not sealed:  # a commit of the other run that was cut before its last object
        bucket.forget(settings, WHERE.success)
    before = [(item.key, item.modified) for item in bucket.listing(settings)]
    (pod.root / "output/model/config.json").write_text("{ours}")

    with pytest.raises(ForeignResult, match=r"belongs to another run.*aaaa1111"):
        run(settings, pod, token="cccc2222dddd")

    assert [(item.key, item.modified) for item in bucket.listing(settings)] == before


@pytest.mark.parametrize("name", ["success", "manifest"])
def test_another_runs_result_that_comes_while_we_send_is_not_written_over(
    name: str, through: StoreSettings, settings: StoreSettings, proxy: LyingProxy, pod: Workspace
) -> None:
    key, theirs = str(getattr(WHERE, name)), json.dumps({"token": "b" * 32}).encode()
    come = functools.partial(s3(settings).put_object, Bucket=settings.bucket, Key=key, Body=theirs)
    proxy.faults.append(Fault("Complete", "call", then=lambda: come() and None))
    with pytest.raises(ForeignResult, match="bbbbbbbb"):
        run(through, pod, token="a" * 32)
    assert seal.read(settings, key) == theirs


@pytest.mark.parametrize("act", ["swallow", "garble"])
@pytest.mark.parametrize("operation", ["CreateUpload", "ListParts"])
def test_an_answer_that_is_none_of_s3s_is_trouble_that_passes(
    act: Any, operation: str, through: StoreSettings, proxy: LyingProxy, pod: Workspace
) -> None:
    proxy.faults.append(Fault(operation, act, times=10**6))
    with pytest.raises(StoreError) as caught:
        run(through, pod)
    assert caught.value.passing or operation == "ListParts"
    proxy.reset()
    assert run(through, pod).files == 4


def test_where_the_store_has_no_conditional_writes_a_lost_claim_is_noticed_at_the_commit(settings: StoreSettings, pod: Workspace) -> None:
    store = replace(settings, conditional=False)
    markers.claim_attempt(store, places_at(pod.root / "home"), WHERE, markers.Claim("theirs", "anna", "desk", "2026-11-24T10:00:00Z"))

    with pytest.raises(ForeignResult, match="claimed by anna on desk"):
        run(store, pod, token="ours")


def test_a_result_that_is_older_than_tokens_is_still_read(settings: StoreSettings, pod: Workspace) -> None:
    run(settings, pod)
    old = json.loads(seal.read(settings, WHERE.manifest) or b"")
    del old["token"]
    body = json.dumps({**old, "version": 1}).encode()
    seal.put_proven(settings, WHERE.manifest, body)
    seal.put_proven(settings, WHERE.success, json.dumps({"manifest_sha256": hashlib.sha256(body).hexdigest()}).encode())

    result = seal.read_result(settings, WHERE, prove=True)

    assert result is not None and result.manifest.token == ""
    with pytest.raises(ForeignResult):
        run(settings, pod, token="ours")


@pytest.mark.parametrize("own", [(), ("status.json", "metrics.jsonl")], ids=["nothing at all", "its own files"])
def test_a_training_that_leaves_nothing_commits_an_empty_result(
    settings: StoreSettings, pod: Workspace, tmp_path: Path, own: tuple[str, ...]
) -> None:
    for path in (pod.root / "output").iterdir():
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    for name in own:
        (pod.root / "output" / name).write_text("{}\n")

    done = commit(settings, here(), WHERE, pod.output, ["model/**"], [], token="t1")

    assert done.files == 0 and done.ending is None and WHERE.success in keys(settings)
    assert committed(settings, WHERE, "t1") is not None
    with pytest.raises(UserError, match=r"the training of .* left no output\nIts logs: "):
        download(settings, str(WHERE), tmp_path)


def test_what_the_bucket_has_from_an_earlier_controller_is_hashed_and_not_sent_again(
    through: StoreSettings, proxy: LyingProxy, pod: Workspace, tmp_path: Path
) -> None:
    proxy.faults.append(Fault("Put", "fail", times=99, status=403, key="_manifest.json"))
    with pytest.raises(StoreError):
        run(through, pod)
    proxy.reset()
    run(through, pod)
    assert proxy.count("UploadPart") == 0
    assert_result_is(through, pod, tmp_path / "home")


def test_a_file_that_is_written_to_after_the_scan_counts_only_as_it_is_in_the_end(
    settings: StoreSettings, through: StoreSettings, proxy: LyingProxy, pod: Workspace, tmp_path: Path
) -> None:
    model = Path(pod.output, "model", "model.safetensors")

    def write() -> None:
        model.write_bytes(os.urandom(PART + 7))

    proxy.faults.append(Fault("CreateUpload", "call", then=write))
    with pytest.raises(StoreError, match="Changed") as caught:
        run(through, pod)
    assert caught.value.passing and WHERE.success not in keys(settings)
    run(through, pod)
    assert_result_is(through, pod, tmp_path / "home")
