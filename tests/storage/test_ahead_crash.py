"""Kill the controller anywhere on the way ahead or in the commit after it; what the next one makes of it is whole."""

from __future__ import annotations

import os
import random
import signal
import subprocess
from pathlib import Path

import pytest

from tests.storage.conftest import PART, Workspace
from tests.storage.lying_proxy import Act, Fault, LyingProxy
from tests.storage.test_ahead import RULE, TOKEN, checkpoint, committed_files, going, pod, safetensors  # noqa: F401
from tests.storage.test_commit import WHERE, assert_result_is, keys, open_uploads, run
from tests.storage.test_commit_crash import controller, finish, killer
from trainyard.storage.client import StoreSettings
from trainyard.storage.commit import committed

SAMPLE = int(os.environ.get("TRAINYARD_CRASH_POINTS", 1))
GOING_AHEAD = """
import shutil
from trainyard.storage import ahead
ahead.AFTER = dict.fromkeys(ahead.AFTER, 0.0) | {"quiet": 3600.0}
rule = ahead.CheckpointRule(*told["rule"])
one = ahead.Ahead(settings, LocalTransport(), ahead.Training(where, told["token"], str(output), told["outputs"], told["excludes"], rule),
                  part_size=5 << 20)
one.begin()
for _ in range(2):
    newest = one.send_files()
    if newest:
        one.save_checkpoint(newest)
    for path in (output.parent / "next").iterdir():
        shutil.copytree(path, output / path.name, dirs_exist_ok=True)
commit(settings, LocalTransport(), where, str(output), told["outputs"], told["excludes"], token=told["token"], part_size=5 << 20,
       known=one.scanned())
"""
"""What lies in 'next' is written by the training meanwhile."""


@pytest.mark.parametrize("number", range(SAMPLE))
def test_a_controller_killed_on_the_way_ahead_or_after_it_loses_and_doubles_nothing(
    number: int, settings: StoreSettings, through: StoreSettings, proxy: LyingProxy, pod: Workspace, tmp_path: Path  # noqa: F811
) -> None:  # fmt: skip
    seed = int(os.environ["TRAINYARD_TEST_SEED"])
    print(f"TRAINYARD_TEST_SEED={seed}")
    chance = random.Random(f"{seed}/{number}")
    checkpoint(pod, 10)
    pod.write("next/model/model-1.safetensors", safetensors(PART))
    pod.write("next/model/model-2.safetensors", safetensors(PART))
    for path in ("optimizer.bin", "complete.json"):
        whole = Path(pod.output, "checkpoints", "checkpoint-10", path).read_bytes()
        pod.write(f"next/checkpoints/checkpoint-20/{path}", whole)
    act: Act = chance.choice(["call", "call after"])
    running: list[subprocess.Popen[bytes]] = []
    point = chance.randrange(75)
    proxy.faults.append(Fault("any", act, after=point, then=killer(running)))
    running.append(controller(through, pod, GOING_AHEAD, token=TOKEN, rule=[RULE.pattern, RULE.mark, RULE.keep, RULE.every]))
    code = finish(running[0])
    proxy.reset()
    assert code in (-signal.SIGKILL, 0), f"request {point} ({act}): {code}"
    before = committed(settings, WHERE, TOKEN)

    for file in Path(pod.root, "next").rglob("*.*"):
        pod.write(f"output/{file.relative_to(pod.root / 'next')}", file.read_bytes())
    one = going(settings, pod, RULE)
    if before is None:
        assert one.save_checkpoint(str(one.send_files()))
        run(settings, pod, token=TOKEN, known=one.scanned())

    Path(pod.output, "model", "checkpoint-1", "excluded.safetensors").unlink()
    assert_result_is(settings, pod, tmp_path / "home")
    names = {key.split("/")[4] for key in keys(settings, WHERE.checkpoints)}
    assert open_uploads(settings) == 0, f"request {point} ({act}): an upload was left open"
    assert names == {"checkpoint-20"} and len(committed_files(settings, "checkpoint-20")) == 2
    assert [key for key in keys(settings, WHERE.prefix) if "excluded" in key or "growing.bin.old" in key] == []
