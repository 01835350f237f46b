"""SSH keys that pods have left in an account go with their leases, and no others do."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any

import pytest

from tests.runs.test_audit import Ui
from trainyard.clouds.protocol import PodSpec
from trainyard.clouds.vm import AccountKey, key_name
from trainyard.errors import CloudUnknown
from trainyard.runs.verbs.stalekeys import remove_stale

NOW = datetime(2026, 12, 1, tzinfo=UTC)


class KeyAccount:
    """A cloud that keeps keys."""

    name = "lambda"

    def __init__(self, *names: str) -> None:
        self.held = [AccountKey(str(number), name, "ssh-ed25519 AAAA") for number, name in enumerate(names)]

    def now(self) -> datetime:
        return NOW

    def ssh_keys(self) -> list[AccountKey]:
        return self.held

    def add_ssh_key(self, name: str, public_key: str) -> AccountKey:
        raise AssertionError("the reaper registers no key")

    def remove_ssh_key(self, key_id: str) -> None:
        self.held = [key for key in self.held if key.id != key_id]


def name(end: datetime) -> str:
    return key_name(PodSpec(f"ty-{'a' * 10}-{'b' * 10}-pod-0123abcd", "a" * 10, "b" * 10, None, end))


OVER, RUNS = name(NOW - timedelta(minutes=1)), name(NOW + timedelta(minutes=1))


@pytest.mark.parametrize(("dry_run", "left"), [(False, [RUNS, "laptop"]), (True, [OVER, RUNS, "laptop"])])
def test_keys_of_leases_that_are_over_are_removed_and_said(dry_run: bool, left: list[str]) -> None:
    context: Any = SimpleNamespace(ui=Ui())
    account: Any = KeyAccount(OVER, RUNS, "laptop")
    remove_stale(context, account, dry_run=dry_run, quiet=False)

    assert [key.name for key in account.held] == left
    assert [OVER in line for line in context.ui.lines] == [True]


def test_a_cloud_that_does_not_answer_is_told_and_one_without_keys_is_not_asked() -> None:
    context: Any = SimpleNamespace(ui=Ui())

    class Silent(KeyAccount):
        def ssh_keys(self) -> list[AccountKey]:
            raise CloudUnknown("no answer")

    silent: Any = Silent()
    remove_stale(context, silent, dry_run=False, quiet=False)
    assert context.ui.lines == ["lambda: SSH keys that pods have left in the account: no answer"]
    bare: Any = SimpleNamespace(name="runpod")
    remove_stale(context, bare, dry_run=False, quiet=False)
    assert len(context.ui.lines) == 1
