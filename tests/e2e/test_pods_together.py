"""Several pods of one stack that train one model: recipe lora on two pods of this machine."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.yard import Yard
from tests.recipes.trainings import environment

SETS = ("effective_batch_size=16", "max_seq_length=128")

SHORT, LONG = ("max_steps=6", "save_steps=2"), ("max_steps=300", "save_steps=20")


def train(yard: Yard, name: str, *sets: str, nodes: int = 2, resume: int = 0) -> tuple[str, ...]:
    """Return the words of a run on so many pods."""
    settings = (yard.root / "Pulumi.local.yaml").read_text().partition("  trainyard:nodes")[0]
    (yard.root / "Pulumi.local.yaml").write_text(f"{settings}  trainyard:nodes: {nodes}\n  trainyard:resume: {resume}\n")
    yard.extra = {"TRAINYARD_LOCAL_PRICE": "1"}
    if not (envs := yard.places.cloud / "envs").exists():
        envs.parent.mkdir(parents=True, exist_ok=True)
        envs.symlink_to(environment())
    words = [word for each in (*SETS, *sets) for word in ("--set", each)]
    return ("train", "--stack", "local", "--recipe", "lora", "--name", name, *words)


def result(yard: Yard, name: str, folder: Path) -> dict[str, Any]:
    """Fetch a run's result and return what it says of itself."""
    yard.invoke("download", name, str(folder), "--whole").expect()
    found: dict[str, Any] = json.loads((folder / "result.json").read_text())
    return found


@pytest.mark.long
@pytest.mark.timeout(600)
def test_two_pods_train_one_model_as_one_does_and_are_paid_and_ended_both(yard: Yard, tmp_path: Path) -> None:
    both = yard.invoke(*train(yard, "both", *SHORT)).expect()
    assert "2 pods, each CPU at $1.00/h" in both.out and both.out.count("rented     CPU") == 2, both.out
    record = yard.record("both")
    assert len(record["pods"]) == 2 and len({pod["pod_id"] for pod in record["pods"]}) == 2 and yard.pods() == []
    assert all(pod["ended"] for pod in record["pods"]), "the end of each is proved"
    summary = json.loads((yard.home / "runs/tester/both/1/run-summary.json").read_text())
    assert summary["cost"] == pytest.approx(sum(pod["ended"] - pod["accepted"] for pod in record["pods"]) / 3600, rel=0.01)
    assert "train: pod 2 of 2" in (yard.home / "runs/tester/both/1/pods/2.log").read_text()

    yard.invoke(*train(yard, "alone", *SHORT, nodes=1)).expect()
    one, two = result(yard, "alone", tmp_path / "alone"), result(yard, "both", tmp_path / "both")
    assert (one["processes"], two["processes"]) == (1, 2) and one["tokens"] == two["tokens"]
    assert two["final_loss"] == pytest.approx(one["final_loss"], rel=1e-4)


@pytest.mark.long
@pytest.mark.timeout(600)
def test_a_lost_pod_ends_the_others_with_its_reason_and_the_run_goes_on_from_its_checkpoint(yard: Yard, tmp_path: Path) -> None:
    running = yard.start(*train(yard, "lost", *LONG, resume=1))
    log = yard.home / "runs/tester/lost/1/train.log"
    yard.wait_for(lambda: log.is_file() and "train: step 45/" in log.read_text(), 300)
    yard.cloud.terminate(yard.record("lost")["peers"][0]["pod_id"])
    out, _ = running.communicate(timeout=400)
    assert running.returncode == 0, out
    assert "pod 2 of 2" in out and "was lost, and the others cannot train without it" in out, out
    assert "run tester/lost (attempt 2) succeeded" in out and yard.pods() == []
    assert "going on from checkpoint-" in (yard.home / "runs/tester/lost/2/train.log").read_text()
    yard.invoke(*train(yard, "alone", *LONG, nodes=1)).expect()
    one, two = result(yard, "alone", tmp_path / "alone"), result(yard, "lost", tmp_path / "lost")
    assert (two["processes"], two["tokens"]) == (2, one["tokens"]) and two["final_loss"] == pytest.approx(one["final_loss"], rel=1e-4)
