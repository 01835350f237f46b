"""`invoke clouds`: every cloud in one table, whatever one of them lacks or says."""

from __future__ import annotations

import json
import signal
import time
from pathlib import Path
from unittest import mock

import pytest

from tests.leases.model_cloud import ModelCloud
from trainyard.cli import commandline
from trainyard.cli.commandline import main
from trainyard.clouds.protocol import PodInfo
from trainyard.config import places
from trainyard.errors import CloudRefused
from trainyard.runs.context import CommandContext
from trainyard.runs.planning.asking import ask_all
from trainyard.runs.ui import Ui
from trainyard.runs.verbs import clouds as verb
from trainyard.settings.clouds import BUILT_IN, CloudEntry


def row(name: str, *keys: str) -> CloudEntry:
    return CloudEntry(name=name, title=name.title(), opener=f"{name}:open", keys=keys, key_page=f"{name}'s console")


@pytest.fixture
def context(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> CommandContext:
    rows = [row("one", "ONE_KEY"), row("two", "TWO_ID", "TWO_SECRET"), row("three", "THREE_KEY"), row("four", "FOUR_KEY")]
    monkeypatch.setattr(verb, "entries", lambda: {cloud.name: cloud for cloud in rows})
    monkeypatch.setattr(verb, "open_cloud", lambda name, env, where: Played(tmp_path / name))
    env = {"ONE_KEY": "k", "TWO_ID": "k", "FOUR_KEY": "k"}
    return CommandContext(places(tmp_path, env), env, Ui())


class Played(ModelCloud):
    def list(self) -> list[PodInfo]:
        if self.root.name == "four":
            raise CloudRefused("no such key")
        return super().list()


def test_keys_are_set_absent_or_half_and_one_that_refuses_hides_no_other(context: CommandContext) -> None:
    states = verb.all_clouds(context, check=True, patience=5)

    assert [(state.entry.name, state.keys, state.answered) for state in states] == [
        ("one", "set", True), ("two", "half", None), ("three", "absent", None), ("four", "set", False),
    ]  # fmt: skip
    text = list(verb.lines(states))
    assert all(len(line) <= 80 for line in text)
    assert any(line.startswith("one         answers (") and line.endswith("0 pods (an emulator)") for line in text)
    assert "four        does not answer: no such key" in text
    assert "two         TWO_SECRET is not set, and the rest is: set all, or none" in text
    assert text[-1] == "  THREE_KEY                three's console"


def test_nobody_is_asked_unless_it_is_said(context: CommandContext, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(verb, "open_cloud", lambda *_: pytest.fail("asked"))

    assert all(state.check is None for state in verb.all_clouds(context, check=False, patience=5))


def test_all_are_asked_at_once_and_a_silent_one_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    began = time.monotonic()
    answers = ask_all({"slow": lambda: time.sleep(30), "odd": lambda: 1 / 0, "good": lambda: 7.0}, patience=0.1)

    assert time.monotonic() - began < 5
    assert answers["slow"].problem == "no answer within 0.1 s" and answers["good"].value == 7.0
    assert answers["odd"].problem == "ZeroDivisionError: division by zero"


def test_the_verb_shows_every_cloud_of_the_table(capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    for cloud in BUILT_IN:
        for name in cloud.keys:
            monkeypatch.delenv(name, raising=False)

    said = json.loads(run(capfd, "clouds", "--json"))
    assert [one["cloud"] for one in said["clouds"]][: len(BUILT_IN)] == [cloud.name for cloud in BUILT_IN]
    assert {"ssh", "self_terminate", "deadline", "spot", "volumes", "bill", "emulator"} <= said["clouds"][0].keys()
    assert all(len(line) <= 80 for line in run(capfd, "clouds").splitlines())


def run(capfd: pytest.CaptureFixture[str], *words: str) -> str:
    kept = signal.getsignal(signal.SIGINT)
    # Threads that other tests have left in this process do not end it.
    with pytest.raises(SystemExit) as left, mock.patch.object(commandline, "_lingers", lambda: False):
        main(words)
    signal.signal(signal.SIGINT, kept)
    assert left.value.code == 0
    return capfd.readouterr().out
