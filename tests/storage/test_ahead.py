"""What goes into the bucket while a training runs: final files, complete checkpoints; the commit sends only the rest."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from pathlib import Path
from typing import Any

import pytest

from tests.storage.conftest import PART, Workspace, here, tree
from tests.storage.lying_proxy import Fault, LyingProxy
from tests.storage.test_commit import EXCLUDES, HASTE, OUTPUTS, WHERE, assert_result_is, keys, open_uploads, run
from trainyard.errors import ForeignResult, StoreError
from trainyard.storage import ahead
from trainyard.storage.ahead import Ahead, CheckpointRule, CutShort, Training
from trainyard.storage.client import StoreSettings
from trainyard.storage.manifest import CHECKPOINT, MANIFEST, decode, sha256
from trainyard.storage.seal import read_each

TOKEN = "t" * 32
RULE = CheckpointRule("checkpoints/checkpoint-*", "complete.json", keep=1, every=0.0)


def safetensors(size: int) -> bytes:
    header = json.dumps({"__metadata__": {"format": "pt"}, "w": {"dtype": "U8", "shape": [size], "data_offsets": [0, size]}}).encode()
    return len(header).to_bytes(8, "little") + header + os.urandom(size)


@pytest.fixture
def pod(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Workspace:
    """A training that has written one shard and is at the second one."""
    monkeypatch.setattr(ahead, "AFTER", {"whole": 0.0, "quiet": 3600.0, "again": 0.0, "unmarked": 0.0})
    made = Workspace(tmp_path / "pod")
    made.write("output/model/model-1.safetensors", safetensors(PART))
    made.write("output/model/model-2.safetensors", safetensors(PART)[:-1])
    made.write("output/model/growing.bin", b"x" * (1 << 20))
    made.write("output/model/checkpoint-1/excluded.safetensors", safetensors(PART))
    made.write("output/model/config.json", b"{}\n")
    return made


def going(settings: StoreSettings, pod: Workspace, rule: CheckpointRule | None = None, **more: Any) -> Ahead:
    training = Training(WHERE, TOKEN, pod.output, OUTPUTS, EXCLUDES, rule)
    one = Ahead(settings, here(), training, part_size=PART, patience=HASTE, **more)
    one.begin()
    return one


def checkpoint(pod: Workspace, step: int, *, whole: bool = True) -> None:
    pod.write(f"output/checkpoints/checkpoint-{step}/optimizer.bin", os.urandom(PART + step))
    if whole:
        pod.write(f"output/checkpoints/checkpoint-{step}/complete.json", json.dumps({"optimizer.bin": PART + step}).encode())


def committed_files(settings: StoreSettings, name: str) -> dict[str, str]:
    """Return the sha256 of each file that the manifest of a checkpoint names; marker and manifest agree."""
    prefix = f"{WHERE.checkpoints}{name}/"
    marker, body = read_each(settings, (prefix + CHECKPOINT, prefix + MANIFEST))
    said = json.loads(marker or b"")
    assert (said["sha256"], said["token"], said["name"]) == (sha256(body or b""), TOKEN, name)
    return {entry.path: entry.sha256 for entry in decode(body or b"", name).files}


def test_shards_that_are_whole_go_ahead_and_the_commit_sends_only_the_rest(
    through: StoreSettings, proxy: LyingProxy, pod: Workspace, tmp_path: Path
) -> None:
    one = going(through, pod)
    one.send_files()
    assert keys(through, WHERE.prefix) == [WHERE.model + "model-1.safetensors"] and open_uploads(through) == 0

    pod.write("output/model/model-2.safetensors", safetensors(PART))
    one.send_files()
    assert keys(through, WHERE.prefix) == [WHERE.model + f"model-{n}.safetensors" for n in (1, 2)]
    one.send_files()
    proxy.reset()

    run(through, pod, token=TOKEN, known=one.known)
    sent = [seen.key for seen in proxy.seen if seen.operation in ("UploadPart", "Put")]
    assert not [key for key in sent if "safetensors" in key]
    shutil.rmtree(Path(pod.output, "model", "checkpoint-1"))
    assert_result_is(through, pod, tmp_path / "home")


def test_what_changes_after_it_went_ahead_is_right_in_the_end_and_what_goes_away_is_removed(
    settings: StoreSettings, pod: Workspace, tmp_path: Path
) -> None:
    pod.write("output/model/removed.safetensors", safetensors(PART))
    pod.write("output/model/changed.safetensors", safetensors(PART))
    one = going(settings, pod)
    one.send_files()
    assert len(keys(settings, WHERE.prefix)) == 3
    Path(pod.output, "model", "removed.safetensors").unlink()
    pod.write("output/model/changed.safetensors", safetensors(PART))

    run(settings, pod, token=TOKEN, known=one.known)

    shutil.rmtree(Path(pod.output, "model", "checkpoint-1"))
    assert_result_is(settings, pod, tmp_path / "home")
    assert WHERE.model + "removed.safetensors" not in keys(settings)


def test_a_file_that_is_open_to_write_is_left_alone(settings: StoreSettings, pod: Workspace) -> None:
    with Path(pod.output, "model", "model-1.safetensors").open("ab"):
        going(settings, pod).send_files()
        assert keys(settings) == []


def test_after_a_crash_of_the_controller_nothing_is_sent_twice(through: StoreSettings, proxy: LyingProxy, pod: Workspace) -> None:
    going(through, pod).send_files()
    proxy.reset()
    going(through, pod).send_files()
    assert proxy.count("UploadPart") == 0 and proxy.count("Put") == 0
    run(through, pod, token=TOKEN)
    assert [seen.key for seen in proxy.seen if seen.operation == "UploadPart" and "model-1" in seen.key] == []


def test_a_store_that_is_down_is_trouble_that_passes_and_a_stop_ends_the_step(
    through: StoreSettings, proxy: LyingProxy, pod: Workspace
) -> None:
    one = going(through, pod)
    proxy.faults.append(Fault("any", "fail", times=10**6, status=503))
    with pytest.raises(StoreError) as caught:
        one.send_files()
    assert caught.value.passing
    proxy.reset()
    one.stop()
    with pytest.raises(CutShort):
        one.send_files()
    assert open_uploads(through) <= 1


def test_another_runs_result_is_not_written_beside(settings: StoreSettings, pod: Workspace) -> None:
    run(settings, pod, token="other")
    with pytest.raises(ForeignResult):
        going(settings, pod)


def test_a_complete_checkpoint_is_committed_and_the_newest_stays(settings: StoreSettings, pod: Workspace, tmp_path: Path) -> None:
    one = going(settings, pod, RULE)
    checkpoint(pod, 10)
    checkpoint(pod, 20, whole=False)
    assert one.send_files() == "checkpoints/checkpoint-10"
    assert one.save_checkpoint("checkpoints/checkpoint-10") == PART + 10 + len(json.dumps({"optimizer.bin": PART + 10}))
    checkpoint(pod, 20)
    assert one.send_files() == "checkpoints/checkpoint-20"
    assert one.save_checkpoint("checkpoints/checkpoint-20")

    assert {key.split("/")[4] for key in keys(settings, WHERE.checkpoints)} == {"checkpoint-20"}
    assert committed_files(settings, "checkpoint-20") == {
        name: hashlib.sha256(body).hexdigest() for name, body in tree(Path(pod.output, "checkpoints", "checkpoint-20")).items()
    }


def test_a_key_that_may_not_remove_keeps_older_checkpoints_and_that_is_known(
    through: StoreSettings, proxy: LyingProxy, pod: Workspace
) -> None:
    one = going(through, pod, RULE)
    for step in (10, 20):
        checkpoint(pod, step)
        proxy.faults.append(Fault("Delete", "fail", times=10**6, status=403))
        assert one.save_checkpoint(f"checkpoints/checkpoint-{step}")
    assert {key.split("/")[4] for key in keys(through, WHERE.checkpoints)} == {"checkpoint-10", "checkpoint-20"}
    assert one.unpruned and "AccessDenied" in one.unpruned


@pytest.mark.parametrize("when", ["before", "while"])
def test_a_checkpoint_that_the_training_removes_is_dropped_quietly(
    when: str, through: StoreSettings, proxy: LyingProxy, pod: Workspace
) -> None:
    checkpoint(pod, 10)
    place = Path(pod.output, "checkpoints", "checkpoint-10")

    def remove() -> None:
        shutil.rmtree(place)

    if when == "before":
        remove()
    else:
        proxy.faults.append(Fault("CreateUpload", "call", then=remove))
    assert going(through, pod, RULE).save_checkpoint("checkpoints/checkpoint-10") is None
    assert keys(through, WHERE.checkpoints) == [] and open_uploads(through) == 0


def test_a_checkpoint_counts_only_when_all_of_it_is_there(through: StoreSettings, proxy: LyingProxy, pod: Workspace) -> None:
    checkpoint(pod, 10)
    proxy.faults.append(Fault("Complete", "fail", times=10**6, status=500))
    with pytest.raises(StoreError):
        going(through, pod, RULE).save_checkpoint("checkpoints/checkpoint-10")
    assert CHECKPOINT not in {key.rpartition("/")[2] for key in keys(through)}
    proxy.reset()
    assert going(through, pod, RULE).save_checkpoint("checkpoints/checkpoint-10")


def test_without_a_mark_a_checkpoint_counts_when_it_rests_and_one_file_may_be_one(settings: StoreSettings, pod: Workspace) -> None:
    rule = CheckpointRule("checkpoints/*", None, keep=2, every=0.0)
    file = pod.write("output/checkpoints/step-1.ckpt", b"x" * 1000)
    one = going(settings, pod, rule)
    with file.open("ab"):
        assert one.send_files() is None
    assert one.send_files() == "checkpoints/step-1.ckpt" and one.save_checkpoint("checkpoints/step-1.ckpt") == 1000
    assert list(committed_files(settings, "step-1.ckpt")) == ["checkpoints/step-1.ckpt"]
    assert WHERE.checkpoints + "step-1.ckpt/step-1.ckpt" in keys(settings)
