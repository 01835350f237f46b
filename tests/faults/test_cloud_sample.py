"""A sample of the fault matrix (the whole: ``invoke faults.cloud``): some always, some drawn with the printed seed."""

from __future__ import annotations

import random

import pytest

from tests.faults.cloud import verdict
from tests.faults.conftest import DRAWN, SEED
from tests.faults.endings import LAPTOP, cancel_trial
from tests.faults.own_trials import ALWAYS
from tests.faults.trial import Trial, play
from tests.faults.trials import CREATE, DELETES, LISTS, fitting
from tests.faults.world import World


def sample() -> list[Trial]:
    """Return what is always tried, three drawn faults, and a CI job cancelled at a drawn instant."""
    chance = random.Random(SEED)
    drawn = [chance.choice([t for t in fitting(kind, DRAWN) if not t.slow]) for kind in (CREATE, LISTS, DELETES)]
    return fitting([*ALWAYS, *drawn, cancel_trial(chance.uniform(0.5, 8.0), lease=25.0), LAPTOP], DRAWN)


@pytest.mark.parametrize("trial", sample(), ids=lambda trial: trial.name)
def test_a_fault_of_the_cloud_leaves_nothing_and_is_told_truly(drawn_world: World, trial: Trial) -> None:
    stage = play(drawn_world, trial)

    assert not stage.problems, f"seed {SEED}\n{verdict(stage, 0.0)}"
