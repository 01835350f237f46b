"""Whatever store and wire do during a commit, it ends in the result byte for byte or in an error, and never in a false success."""

from __future__ import annotations

import os
import random
from pathlib import Path

import pytest

from tests.storage.conftest import Workspace
from tests.storage.lying_proxy import Act, Fault, LyingProxy
from tests.storage.test_commit import WHERE, assert_result_is, keys, open_uploads, run
from trainyard.errors import StoreError
from trainyard.storage.client import StoreSettings
from trainyard.storage.commit import committed, drop_open
from trainyard.storage.manifest import Keep

SEED = int(os.environ["TRAINYARD_TEST_SEED"])
ROUNDS = int(os.environ.get("TRAINYARD_TROUBLE_ROUNDS", "4"))
OPERATIONS = ("Put", "UploadPart", "Complete", "CreateUpload", "ListParts", "List", "Head", "Get", "Abort", "any")
ACTS: tuple[Act, ...] = ("fail", "drop", "lose", "swallow", "corrupt", "garble")
STATUS = (500, 503, 507, 429, 403, 404, 412, 400)


def faults(chance: random.Random) -> list[Fault]:
    """Return some faults; a store that gives a wrong answer to every question is no trouble but a lie, so few are for good."""
    found = []
    for _ in range(chance.randint(1, 3)):
        times = chance.choice((1, 1, 2, 5, 10**6))
        operation, act = chance.choice(OPERATIONS), chance.choice(ACTS)
        found.append(Fault(operation, act, times, chance.randint(0, 12), chance.choice(("", "", "_SUCCESS", "_manifest", "model.safe"))))
        found[-1].status = chance.choice(STATUS)
    return found


@pytest.mark.parametrize("number", range(ROUNDS))
def test_a_commit_in_trouble_is_no_success_until_it_is_one(
    number: int, through: StoreSettings, settings: StoreSettings, proxy: LyingProxy, pod: Workspace, tmp_path: Path
) -> None:
    print(f"TRAINYARD_TEST_SEED={SEED}")
    chance = random.Random(f"{SEED}/{number}")
    keep = Keep("exited 1", 1) if chance.random() < 0.2 else None
    proxy.faults += faults(chance)
    print(keep, *proxy.faults, sep="\n")
    try:
        run(through, pod, token="t" * 32, keep=keep)
        said = True
    except StoreError as error:
        print(error)
        said = False
    proxy.reset()

    assert not said or committed(settings, WHERE, "t" * 32) is not None, "said to be safe, and is not"
    done = run(settings, pod, token="t" * 32, keep=keep)
    assert open_uploads(settings) == 0 and drop_open(settings, WHERE) == 0
    assert (WHERE.success in keys(settings)) == (keep is None) and (done.ending is None) == (keep is None)
    if keep is None:
        assert_result_is(settings, pod, tmp_path / "home")
