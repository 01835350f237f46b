"""A run on a cloud without SSH, from the command to the proven result; more of what may happen to one: tests/e2e/nossh_trials.py."""

from __future__ import annotations

from tests.e2e import nossh_trials


def test_a_run_whose_container_nobody_can_log_in_to_is_followed_committed_and_ended() -> None:
    nossh_trials.play("story")
