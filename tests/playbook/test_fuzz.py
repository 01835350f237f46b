"""A few mutated playbooks; the rest by its own command."""

from __future__ import annotations

import random

from tests.playbook.fuzz import faults


def test_what_a_playbook_holds_ends_in_a_sentence() -> None:
    seed = random.randrange(10**6)
    print(f"seed {seed}")  # pytest shows it where the test fails
    assert list(faults(200, seed)) == []
