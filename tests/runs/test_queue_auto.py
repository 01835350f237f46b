"""``submit --stack auto``: the stack is chosen when the run begins, by the prices, limits and rules of that moment."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from tests.leases.model_cloud import PLAIN, ModelCloud
from tests.runs.gitops_yard import WAITS
from tests.runs.road import failed
from tests.runs.test_queue import QueueRoad, body
from trainyard.cli import queueverbs
from trainyard.clouds.protocol import Offer, OfferQuery
from trainyard.errors import RefusedError, UserError
from trainyard.ledger.queue import QueueEntry
from trainyard.runs import context as contexts
from trainyard.runs.queue import changes
from trainyard.runs.queue.submit import submit
from trainyard.runs.queue.table import as_rows, lines
from trainyard.runs.records.identity import all_runs
from trainyard.runs.records.record import RunFolder, RunRecord
from trainyard.runs.verbs.train import TrainRequest
from trainyard.stacks.model import Operation, OperationOutcome, Stack


class Shop(ModelCloud):
    """One of the clouds of an account whose pods lie in one folder: what differs is the price."""

    def __init__(self, name: str, root: Path) -> None:
        super().__init__(root, capabilities=replace(PLAIN, settle=0.0, listings=1, post_timeout=1.0))
        self.name, self.price = name, 1.0
        self.sold_out = False

    def offers(self, query: OfferQuery) -> list[Offer]:
        found = [Offer(f"{self.name}-{times}", self.name, (query.gpus or ("A",))[0], 1, times * self.price) for times in (3, 1)]
        return [] if self.sold_out else found


class AutoRoad(QueueRoad):
    """A checkout with two stacks that rent GPUs, and this machine's."""

    def __init__(self, base: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        super().__init__(base, monkeypatch)
        self.shops = {name: Shop(name, base / "cloud") for name in ("runpod", "vast")}
        self.engine.cloud = self.cloud = self.shops["vast"]
        key = self.context.places.ssh / "dev" / "id_ed25519"
        for name in self.shops:
            path = self.root / f"Pulumi.{name}.yaml"
            path.write_text("config:\n  trainyard:gpu: [RTX 4090]\n  trainyard:bucket: none\n  trainyard:upload_consent: always\n")
            mine = self.context.places.ssh / name / "id_ed25519"
            mine.parent.mkdir(parents=True)
            mine.write_text(key.read_text())
        self.patch(contexts, "open_cloud", lambda name, *_: self.shops.get(name, self.cloud))

    def priced(self, runpod: float, vast: float) -> None:
        """Let both ask for so many dollars an hour."""
        self.shops["runpod"].price, self.shops["vast"].price = runpod, vast

    def set_up(self, stack: str, line: str) -> None:
        """Add a line to a stack's settings."""
        path = self.root / f"Pulumi.{stack}.yaml"
        path.write_text(f"{path.read_text()}  trainyard:{line}\n")

    def submit_auto(self, name: str = "a") -> QueueEntry:
        """Submit a run for whichever stack is cheapest."""
        self.script.write_text(f"#!/bin/sh\n{WAITS}\n")
        return submit(self.context, TrainRequest(stack="auto", recipe="command", sets=(f"script={self.script}",), name=name))

    def record(self) -> RunRecord:
        """Return the record of the newest attempt."""
        return RunFolder(all_runs(self.context.places.runs)[0].folder(self.context.places.runs)).load()


@pytest.fixture
def road(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[AutoRoad]:
    made = AutoRoad(tmp_path, monkeypatch)
    yield made
    made.lose_pod()


def test_the_stack_is_the_one_that_is_cheapest_when_the_run_begins(road: AutoRoad, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(queueverbs, "context", lambda **_: road.context)
    road.priced(runpod=2.0, vast=1.0)
    road.script.write_text(f"#!/bin/sh\n{WAITS}\n")
    assert body(queueverbs.submit)(None, stack="auto", recipe="command", set=[f"script={road.script}"], name="a") == 0
    (entry,) = road.rows().entries()
    assert "on the stack that is cheapest when it begins (vast now)" in road.said()
    assert "estimate   1x RTX 4090 at $1.00/h (where that is taken up to 1x RTX 4090 at $3.00/h)" in road.said()
    (place,) = road.look()
    assert lines([place], entry.submitted)[1].endswith("auto") and as_rows([place])[0]["auto"] is True

    road.priced(runpod=0.5, vast=1.0)
    assert road.work().begun == ["ann/a"], road.said()

    assert (road.record().environment, road.record().cloud, road.entry(entry).stack) == ("runpod", "runpod", "runpod")
    assert lines(road.look(), entry.submitted)[1].endswith("runpod (auto)")
    road.let_train()
    road.later += 60
    assert road.work().over == {"ann/a": "succeeded"}, road.said()


def test_what_cannot_begin_on_the_cheapest_begins_on_the_next_and_waits_for_all(road: AutoRoad) -> None:
    road.priced(runpod=2.0, vast=1.0)
    for shop in road.shops.values():
        shop.sold_out = True
    entry = road.submit_auto()
    assert "no offer" in str(entry.reason)
    assert "no stack has a pod" in road.work().put_back["ann/a"] and road.look()[0].entry.where == "auto"

    for shop in road.shops.values():
        shop.sold_out = False
    road.set_up("vast", "limit_run: 0.5")  # it could never be paid for there
    road.later += 60
    report = road.work()

    assert report.begun == ["ann/a"] and road.record().environment == "runpod", road.said()
    assert not report.held and road.entry(entry).tries == 0


def test_a_stack_that_has_no_pod_after_all_is_followed_by_the_next_as_the_next_attempt(road: AutoRoad) -> None:
    road.priced(runpod=2.0, vast=1.0)
    plain = road.engine.trouble

    def taken(stack: Stack, operation: Operation) -> OperationOutcome | None:
        sold = operation == "up" and stack.name.startswith("vast.")
        return failed("up", "no-capacity") if sold else plain(stack, operation)

    road.engine.trouble = taken
    entry = road.submit_auto()

    assert road.work().begun == ["ann/a"], road.said()
    assert [(run.attempt, run.label) for run in all_runs(road.context.places.runs)] == [(2, "a"), (1, "a")]
    assert (road.record().environment, road.record().attempt, road.entry(entry).stack) == ("runpod", 2, "runpod")


def test_the_limits_of_the_queue_are_those_of_the_stack_that_is_chosen(road: AutoRoad) -> None:
    road.priced(runpod=2.0, vast=1.0)
    for name in road.shops:
        road.set_up(name, "queue_at_once: 1")
    entries = [road.submit_auto(name) for name in "abc"]

    road.work()
    road.work()

    stacks = {road.entry(entry).stack for entry in entries if road.entry(entry).state == "begun"}
    assert stacks == {"vast", "runpod"}, road.said()
    (waits,) = [place for place in road.look() if place.state == "waits"]
    assert "on vast (queue_at_once)" in waits.why and "on runpod (queue_at_once)" in waits.why


def test_a_persons_word_is_asked_by_the_rules_of_the_stack_that_is_chosen(road: AutoRoad) -> None:
    road.priced(runpod=2.0, vast=1.0)
    road.set_up("runpod", "approve: [{cost: 0}]")
    entry = road.submit_auto()
    assert entry.approval == "not needed"

    road.shops["vast"].sold_out = True
    assert road.work("empty").left == {"ann/a": "to approve"}, "the next one that asks nobody is no way round it"
    assert road.entry(entry).stack == "runpod"
    changes.approve(road.context, "a")
    road.later += 60
    assert road.work().begun == ["ann/a"] and road.record().environment == "runpod", road.said()


def test_consent_is_asked_for_all_stacks_unless_each_has_it(road: AutoRoad, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Shop, "simulated", False)
    asked: list[str] = []
    monkeypatch.setattr(type(road.context.ui), "agreed", lambda _, question: asked.append(question))
    (road.root / "Pulumi.runpod.yaml").write_text("config:\n  trainyard:gpu: [RTX 4090]\n  trainyard:bucket: none\n")

    with pytest.raises(RefusedError, match="nobody has agreed"):
        road.submit_auto()
    assert asked[0].endswith("to the stack that is cheapest when it begins (of runpod, vast) and its bucket? [y/N] ")
    road.set_up("runpod", "upload_consent: never")
    road.priced(runpod=0.5, vast=1.0)
    assert road.submit_auto().stack == "vast" and "auto       not runpod: its upload_consent is 'never'" in road.said()
    road.set_up("vast", "gpu: []")
    with pytest.raises(UserError, match="no stack of a cloud can be asked"):
        road.submit_auto("b")
