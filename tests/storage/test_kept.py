"""What a training leaves that was no success is kept with the same proof, and never taken for a success."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

import pytest

from tests.storage.conftest import PART, Workspace, here
from trainyard.errors import ForeignResult, StoreError, UserError
from trainyard.remote.local import LocalTransport
from trainyard.storage import bucket, direct, seal
from trainyard.storage.client import StoreSettings
from trainyard.storage.commit import Committed, commit, committed
from trainyard.storage.deliver import DeliveryPatience
from trainyard.storage.download import download
from trainyard.storage.find import list_results
from trainyard.storage.manifest import Keep, ResultKey

WHERE = ResultKey("greg", "r1", 1)
OUTPUTS, EXCLUDES = ["model/**"], ["checkpoint-*", "*.pt"]
KEEP = Keep("exited 137: out of memory", 137, "checkpoints/checkpoint-*", "complete.json")
HASTE = DeliveryPatience(rounds=3, tries=3, backoff=0.01, pause=lambda _: None)


@pytest.fixture
def pod(pod: Workspace) -> Workspace:
    """A pod after a training that was killed while it wrote its third checkpoint."""
    checkpoint(pod, 10)
    checkpoint(pod, 20)
    checkpoint(pod, 30, complete=False)
    return pod


def checkpoint(pod: Workspace, step: int, *, complete: bool = True) -> None:
    base = f"output/checkpoints/checkpoint-{step}"
    pod.write(f"{base}/optimizer.pt", b"o" * (1000 + step))
    sizes = {"optimizer.pt": 1000 + step, "trainer_state.json": 2}
    if complete:
        pod.write(f"{base}/trainer_state.json", b"{}")
    # The mark of the half one is there, too: what it lists is not.
    pod.write(f"{base}/complete.json", json.dumps(sizes).encode())


def run(settings: StoreSettings, pod: Workspace, keep: Keep | None = KEEP, **more: Any) -> Committed:
    more = {"token": "t1", "patience": HASTE, **more}
    return commit(settings, here(), WHERE, pod.output, OUTPUTS, EXCLUDES, part_size=PART, keep=keep, **more)


def tree(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file() and not p.name.startswith("_")}


def left(pod: Workspace) -> dict[str, bytes]:
    """What must be kept: the outputs, excluded or not, and the newest complete checkpoint."""
    out = tree(Path(pod.output))
    return {path: body for path, body in out.items() if path.startswith(("model/", "checkpoints/checkpoint-20/"))}


def test_outputs_and_the_newest_complete_checkpoint_are_kept_whatever_a_success_excludes(
    settings: StoreSettings, pod: Workspace, tmp_path: Path
) -> None:
    pod.write("output/model/half.pt", b"excluded from a success")

    done = run(settings, pod)
    got = download(settings, "greg/r1", tmp_path)

    assert done.ending is not None and done.ending.checkpoints == ("checkpoints/checkpoint-20",)
    assert tree(tmp_path) == left(pod) and "model/half.pt" in left(pod)
    assert got.manifest_sha256 == done.manifest_sha256
    assert str(got.ending) == "NOT a success: exited 137: out of memory; checkpoint-20"
    why = {path: e.why for e in seal.read_result(settings, WHERE).manifest.left_out for path in [e.path]}  # type: ignore[union-attr]
    assert why["checkpoints/checkpoint-10/optimizer.pt"] == "an older checkpoint"
    assert why["checkpoints/checkpoint-30/optimizer.pt"] == "a checkpoint that is not complete"


def test_the_marker_is_kept_and_no_success_and_says_why(settings: StoreSettings, pod: Workspace) -> None:
    run(settings, pod)

    names = [item.key.rpartition("/")[2] for item in bucket.listing(settings, WHERE.prefix)]
    assert "_KEPT" in names and "_SUCCESS" not in names
    told = json.loads(seal.read(settings, WHERE.kept) or b"")
    assert (told["why"], told["exit_code"], told["token"]) == ("exited 137: out of memory", 137, "t1") and len(
        told["manifest_sha256"]
    ) == 64
    assert [(one.committed, one.kept) for one in list_results(settings)] == [(False, True)]


def test_without_a_mark_the_two_newest_checkpoints_are_kept_as_nobody_can_tell_whether_one_is_whole(
    settings: StoreSettings, pod: Workspace
) -> None:
    for at, step in enumerate((20, 10, 30)):  # by time, not by name
        for path in (pod.root / f"output/checkpoints/checkpoint-{step}").iterdir():
            os.utime(path, (1e9 + at, 1e9 + at))

    done = run(settings, pod, Keep("exited 1", 1, "checkpoints/*"))

    assert done.ending and done.ending.checkpoints == ("checkpoints/checkpoint-30", "checkpoints/checkpoint-10")


def test_a_training_that_left_nothing_has_its_logs_kept(settings: StoreSettings, pod: Workspace, tmp_path: Path) -> None:
    done = commit(settings, here(), WHERE, pod.output, ["nothing/**"], keep=Keep("exited 1", 1), token="t1")

    assert done.files == 0 and committed(settings, WHERE, "t1") is not None
    logs = [item.key.rpartition("/")[2] for item in bucket.listing(settings, WHERE.logs)]
    assert logs == ["config.json", "metrics.jsonl", "status.json", "train.log"]
    with pytest.raises(UserError, match=r"left no output \(exited 1\)"):
        download(settings, "r1", tmp_path)


def test_a_training_that_removed_its_output_folder_has_its_log_kept(settings: StoreSettings, pod: Workspace) -> None:
    shutil.rmtree(pod.output)

    assert run(settings, pod).files == 0

    assert [item.key.rpartition("/")[2] for item in bucket.listing(settings, WHERE.logs)] == ["config.json", "train.log"]
    with pytest.raises(StoreError, match="there is no folder"):
        run(settings, pod, keep=None)


def test_a_success_is_no_success_without_outputs(settings: StoreSettings, pod: Workspace) -> None:
    with pytest.raises(StoreError, match="matches the outputs"):
        commit(settings, here(), WHERE, pod.output, ["nothing/**"])


def test_what_is_still_being_written_is_left_out_and_the_rest_is_kept(
    settings: StoreSettings, pod: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    def writes(_: float) -> None:
        (pod.root / "output/model/growing").write_bytes(os.urandom(100))

    from trainyard.storage import podside

    scan = podside.scan

    def scanning(*args: Any, **more: Any) -> Any:
        found = dict(scan(*args, **more))
        return {**found, "changed": [{"path": "model/growing", "why": "it was written to"}]}

    writes(0)
    monkeypatch.setattr(podside, "scan", scanning)
    done = run(settings, pod, patience=DeliveryPatience(pause=writes))

    assert ("model/growing", 100) in [(e.path, e.size) for e in done.left_out] and done.files == len(left(pod)) - 1


def test_kept_things_are_found_again_by_their_token_and_belong_to_nobody_else(settings: StoreSettings, pod: Workspace) -> None:
    first, again = run(settings, pod), run(settings, pod)

    assert again.already and again.manifest_sha256 == first.manifest_sha256 and again.ending == first.ending
    assert committed(settings, WHERE, "t2") is None
    with pytest.raises(ForeignResult):
        run(settings, pod, token="t2")


def test_an_older_success_is_taken_before_a_newer_attempt_that_was_only_kept(
    settings: StoreSettings, pod: Workspace, tmp_path: Path
) -> None:
    commit(settings, here(), WHERE, pod.output, OUTPUTS, EXCLUDES, part_size=PART)
    commit(settings, here(), ResultKey("greg", "r1", 2), pod.output, OUTPUTS, EXCLUDES, part_size=PART, keep=KEEP)

    assert download(settings, "r1", tmp_path / "a").key.attempt == 1
    assert download(settings, "greg/r1/2", tmp_path / "b").ending is not None


def without_python(tools: Path) -> LocalTransport:
    tools.mkdir()
    for name in ("sh", "cat", "find", "sha256sum", "stat", "sort", "mkdir", "mv", "xargs", "dd", "tail", "head", "rm", "wc"):
        os.symlink(shutil.which(name) or "", tools / name)
    return LocalTransport(env={"PATH": str(tools)})


@pytest.mark.parametrize("python", [True, False])
def test_over_ssh_the_same_is_kept_with_its_marker_beside_it(python: bool, pod: Workspace, tmp_path: Path) -> None:
    transport = here() if python else without_python(tmp_path / "tools")
    got = direct.fetch(transport, WHERE, pod.output, OUTPUTS, EXCLUDES, tmp_path / "out", token="t1", keep=KEEP, pause=lambda _: None)

    want = left(pod)
    if not python:  # nobody on the pod reads what a mark lists: the newest one may be whole
        want |= {path: body for path, body in tree(Path(pod.output)).items() if path.startswith("checkpoints/checkpoint-30/")}
    assert tree(tmp_path / "out") == want
    told = json.loads((tmp_path / "out" / "_KEPT").read_bytes())
    assert told["exit_code"] == 137 and told["manifest_sha256"] == got.manifest_sha256
