"""What finished trainings took tells how fast, and in how much memory, another one trains: and of how many it is told."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest

from tests.runs.test_fit import CONFIGS, LORA, context
from tests.runs.test_history import WORK, record
from trainyard.recipes import basecheck
from trainyard.recipes.fit import base as bases
from trainyard.recipes.fit.memory import Method
from trainyard.recipes.values import needs_of, resolve
from trainyard.runs.planning import baselook, fit
from trainyard.runs.planning.calibration import Calibration
from trainyard.runs.planning.estimate import Estimate
from trainyard.runs.records import codec
from trainyard.runs.records.measured import MeasuredRun, MeasuredTraining, measure
from trainyard.runs.records.parts import ReckonedTraining
from trainyard.runs.records.record import RunFolder
from trainyard.runs.verbs.fit import FitRequest, lines
from trainyard.runs.verbs.fit import fit as reckon

RECKONED = ReckonedTraining(flops_per_token=1e10, gpu_bytes=10e9, experts=False, kind="lora")
GIB = 1 << 30


def done(gpu: str = "L4", seconds: float = 1000.0, share: float = 0.3, **other: Any) -> MeasuredRun:
    """A run on an L4 (121 TFLOP/s) or another type, by the share of that which it used."""
    peak = {"L4": 121e12, "NVIDIA H100 80GB HBM3": 989e12}[gpu]
    changed = {name: other.pop(name) for name in ("model", "cloud") if name in other}
    training = MeasuredTraining(flops=share * peak * seconds, seconds=seconds, reckoned=replace(RECKONED, **other), peak_bytes=11e9)
    return MeasuredRun(workload=replace(WORK, gpu=gpu, **changed), train=seconds, aside=60.0, training=training)


@pytest.fixture
def folder(tmp_path: Path) -> RunFolder:
    """What a training of 4 steps has left: two of them and their checkpoint took longer."""
    (tmp_path / "result.json").write_text(json.dumps({"tokens": 4000, "steps": 4, "peak_gpu_bytes": 11 * GIB, "seconds": 999}))
    moments = [(0, 10.0), (1, 90.0), (2, 92.0), (3, 94.0), (4, 120.0)]
    (tmp_path / "metrics.jsonl").write_text("".join(json.dumps({"step": step, "time": time}) + "\n" for step, time in moments[1:]))
    return RunFolder(tmp_path)


def test_a_run_that_succeeded_tells_what_its_steps_and_its_memory_took(folder: RunFolder) -> None:
    measured = measure(record(reckoned=RECKONED), folder)
    assert measured is not None
    assert measured.training == MeasuredTraining(flops=4000 * 1e10, seconds=8.0, reckoned=RECKONED, peak_bytes=11 * GIB)
    assert codec.read(MeasuredRun, json.loads(json.dumps(asdict(measured)))) == measured, "the ledger gives it back"


@pytest.mark.parametrize("report", ["", "[]", '{"tokens": 0, "steps": 4}', '{"tokens": "x", "steps": 4}', '{"steps": 4}'])
def test_a_report_that_tells_nothing_leaves_the_rest_measured(folder: RunFolder, report: str) -> None:
    (folder.path / "result.json").write_text(report)
    measured = measure(record(reckoned=RECKONED), folder)
    assert measured is not None and measured.training is None and measured.train == 300.0
    folder.metrics.unlink()
    measured = measure(record(reckoned=RECKONED), folder)
    assert measured is not None and measured.training is None


def test_the_runs_that_are_most_alike_tell_the_share_and_fewer_likenesses_widen_it() -> None:
    own, same_gpu, other = done(share=0.3), done(share=0.2, model="n"), done("NVIDIA H100 80GB HBM3", share=0.4, model="n")
    every = Calibration((other, same_gpu, own, done(share=0.9, experts=True), done(share=0.01, cloud="runpod, simulated")))
    first = every.share("m", "L4", experts=False)
    assert first.runs == 1 and first.shares == pytest.approx((0.3 / 1.1, 0.3, 0.33))
    second = every.share("other", "L4", experts=False)
    assert second.runs == 2 and second.shares == pytest.approx((0.2 / 1.3, 0.25, 0.39))
    third = every.share("m", "A40", experts=False)
    assert third.runs == 3 and third.shares == pytest.approx((0.2 / 1.6, 0.3, 0.64))
    assert Calibration(()).share("m", "L4", experts=False).runs == 0


@pytest.mark.parametrize("seconds", [0.0, -1.0, float("inf"), 1e-9])
def test_figures_that_no_gpu_can_have_had_tell_nothing(seconds: float) -> None:
    sound = done()
    assert sound.training is not None
    wrong = replace(sound, training=replace(sound.training, seconds=seconds, peak_bytes=1e15))
    assert Calibration((wrong,)).share("m", "L4", experts=False).runs == 0 and Calibration((wrong,)).memory("m", "lora") is None


def test_memory_is_told_by_runs_of_the_same_base_and_kind_alone() -> None:
    factor = Calibration((done(), done(kind="full"), done(model="n"))).memory("m", "lora")
    assert factor is not None and factor.runs == 1 and factor.factor == pytest.approx(1.1 * 1.03)


def test_what_is_reckoned_of_a_run_says_by_how_many_finished_ones_it_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "config.json").write_text(json.dumps(CONFIGS["Llama-3.1-8B"]))
    base = str(tmp_path)
    values = resolve(LORA, sets=["device=gpu", f"base_model={base}"])
    before = needs_of(LORA, values)["vram_gb"]
    training = fit.training_of(values, 1 << 30)
    assert training is not None
    reckoned = training.reckoned
    took = MeasuredTraining(flops=121e12 * 100, seconds=500.0, reckoned=reckoned, peak_bytes=reckoned.gpu_bytes * 1.5)
    run = MeasuredRun(workload=replace(WORK, model=base), train=500.0, aside=60.0, training=took)
    monkeypatch.setattr(bases, "_MEASURED", {})
    monkeypatch.setattr(baselook, "measured_runs", lambda ledger: [run])
    monkeypatch.setattr("trainyard.runs.verbs.fit.measured_runs", lambda ledger: [run])

    assert baselook.look_up(context(), values) is None
    assert needs_of(LORA, values)["vram_gb"] == pytest.approx(2 + (float(str(before)) - 2) * 1.545, abs=1.5)
    assert "(its config.json) and 1 finished run of it;" in next(basecheck.needs_lines(LORA, values))
    assert bases.factor_of(base, values | {"load_in_4bit": True}) is None, "of another kind nothing is known"
    told = reckon(context(), FitRequest(base=base, ask=False, sets=("max_steps=100",)))
    text = "\n".join(lines(told))
    assert "calibrated by up to 1 finished run" in text and "x1.5" in text and "by 1 finished run of this base" in text
    assert told.as_json()["rows"][0]["runs"] == 1 and told.as_json()["measured"]["runs"] == 1
    on = fit.training_of(values, 1 << 30, [run])
    taken = on.on("L4") if on else None
    assert taken is not None and taken.likely * 0.2 == pytest.approx(taken.low * 0.22) and taken.runs == 1
    assert Method.of(values).kind in reckoned.kind


def test_an_estimate_that_no_like_run_tells_says_what_is_reckoned_and_when_the_lease_is_too_short() -> None:
    from tests.runs.test_history import OFFER
    from trainyard.recipes.fit.work import Duration

    says = Estimate(OFFER, OFFER, 2.0, 0.5, reckoned=Duration(1800, 3600, 7200)).text()
    assert "no like run tells how long it takes: reckoned by the GPU's peak, its steps take 30m00s to 2h00m, $1.80 to $7.20;" in says
    says = Estimate(OFFER, OFFER, 2.0, 0.5, reckoned=Duration(9000, 9000, 9000, 3)).text()
    assert "reckoned by 3 finished runs, its steps take 2h30m to 2h30m, MORE than its lease has" in says
