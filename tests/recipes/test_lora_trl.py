"""What recipe lora learns from the same rows is what TRL learns; `invoke recipes.long -- -k trl`. Speed and memory: `invoke bench.lora`."""

from __future__ import annotations

import pytest

from bench import lora
from tests.recipes.trainings import environment, packages_apart


@pytest.mark.torch
@pytest.mark.long
@pytest.mark.timeout(900)
@pytest.mark.parametrize("method", lora.METHODS)
def test_losses_and_reward_margins_of_each_step_are_those_of_trl(method: str) -> None:
    envs = environment()
    found = lora.train_by_both(method, envs, packages_apart(envs, lora.TRL), rounds=1, steps=8)

    assert len(found["lora"][0]["losses"]) == 8 and lora.losses_apart(found) < lora.NOISE
    margins = lora.margins_apart(found)
    assert (margins is None) == (method == "lora") and (margins or 0) < lora.NOISE
