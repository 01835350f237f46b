"""Going on with a run that has ended: which checkpoint, on what terms, and what is refused."""

from __future__ import annotations

import json
import shutil
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.runs.road import STACK, Road
from trainyard.clock import format_time
from trainyard.clouds.protocol import PodInfo
from trainyard.errors import RefusedError, UserError
from trainyard.ledger.ledger import Ledger
from trainyard.recipes.summaries import Values
from trainyard.remote.jobs import JobStatus
from trainyard.runs.life import follow
from trainyard.runs.life.drive import drive
from trainyard.runs.records import stores
from trainyard.runs.records.notes import note_cancel
from trainyard.runs.records.parts import PaidPod, RunBucket
from trainyard.runs.records.record import RunFolder, as_json
from trainyard.runs.records.summary import RunSummary, cost
from trainyard.runs.verbs import account, attach, history, resume
from trainyard.runs.verbs.atwork import AttemptAtWork
from trainyard.runs.verbs.history import history_of
from trainyard.runs.verbs.resume import ResumeRequest, prepare
from trainyard.runs.verbs.through import go_on, is_due, through
from trainyard.secret import Secret
from trainyard.storage.client import Kind, StoreSettings
from trainyard.storage.manifest import Manifest, ResultKey
from trainyard.storage.markers import Claim
from trainyard.storage.seal import SealedResult

# Counts on from the checkpoint it is given, one a step; told to, it dies at a step.
COUNTS = """
mkdir -p $OUTPUT_DIR/checkpoints $OUTPUT_DIR/model
n=0
[ -z "${TRAINYARD_RESUME:-}" ] || n=$(cat $TRAINYARD_RESUME/step)
echo "from $n"
while [ $n -lt 4 ]; do
    n=$((n + 1))
    mkdir $OUTPUT_DIR/checkpoints/step-$n && echo $n >$OUTPUT_DIR/checkpoints/step-$n/step
    echo "{\\"step\\": $n, \\"total_steps\\": 4, \\"loss\\": $((9 - n))}" >>$OUTPUT_DIR/metrics.jsonl
    [ "$1" != $n ] || exit 3
done
cp -R $OUTPUT_DIR/checkpoints/step-$n $OUTPUT_DIR/model/last
"""


@pytest.fixture
def road(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Road]:
    made = Road(tmp_path, monkeypatch)
    made.patch(follow, "_ASK_CLOUD_FIRST", 0.2)
    yield made
    made.lose_pod()


def fresh_pod(road: Road) -> None:
    """Let the next pod have nothing of the one before."""
    road.workspace.rename(road.workspace.with_name(f"gone-{len(list(road.workspace.parent.iterdir()))}"))
    road.armed()


def dead(road: Road, at: int = 2, **asked: Any) -> RunSummary:
    """Run the counting job until it dies at a step."""
    summary = road.run(COUNTS, name="a", sets=(f"args={at}",), **asked)
    fresh_pod(road)
    return summary


def resumed(road: Road, run: str = "ann/a", **asked: Any) -> RunSummary:
    return drive(road.context, prepare(road.context, ResumeRequest(run, **asked)))


def log(road: Road, attempt: int) -> str:
    return (road.context.places.runs / "ann" / "a" / str(attempt) / "train.log").read_text()


def test_a_failed_run_names_the_command_that_goes_on_and_it_goes_on_from_its_newest_checkpoint(road: Road) -> None:
    first = dead(road)

    assert first.checkpoint == "step-2" and first.resume == f"invoke resume ann/a --stack {STACK}"
    second = resumed(road, sets=("args=never",))

    assert second.success and second.attempt == 2, road.said()
    assert "from 2\n" in log(road, 2) and "from 0\n" in log(road, 1)
    assert second.resumed_from is not None and (second.resumed_from.run, second.resumed_from.path) == ("ann/a/1", "checkpoints/step-2")
    assert (Path(str(second.local_path)) / "model" / "last" / "step").read_text() == "4\n"
    assert json.loads((Path(str(second.local_path)) / "run-summary.json").read_text())["resumed_from"]["path"] == "checkpoints/step-2"
    assert "from step-2 of attempt 1, 1 files, proven" in road.said()


def test_a_checkpoint_that_cannot_be_proven_is_told_and_the_one_before_is_taken(road: Road) -> None:
    home = Path(str(dead(road).local_path))
    (home / "checkpoints" / "step-2" / "step").write_text("7\n")  # longer or not: not the bytes that were sealed

    second = resumed(road, sets=("args=never",))

    assert second.success and "from 1\n" in log(road, 2)
    assert "not taken: step-2 of attempt 1: checkpoints/step-2/step is missing, or other than its manifest says" in road.said()


def test_without_any_checkpoint_it_is_refused_and_the_command_that_begins_anew_is_told(road: Road) -> None:
    road.run("exit 1", name="a")

    with pytest.raises(RefusedError, match="has no complete checkpoint") as refused:
        prepare(road.context, ResumeRequest("a"))

    assert refused.value.exit_code == 3 and f"invoke rerun ann/a/1 --stack {STACK}" in str(refused.value.hint)
    assert not (road.context.places.runs / "ann" / "a" / "2").exists() and road.cloud.alive() == []


def test_where_another_store_than_the_runs_own_was_asked_for_its_checkpoints_that_is_told(
    road: Road, monkeypatch: pytest.MonkeyPatch
) -> None:
    settled_in_bucket(road, "s3", monkeypatch)
    for name in ("markers.attempts", "checkpoints.places"):
        monkeypatch.setattr(f"trainyard.storage.{name}", lambda *_: [])
    monkeypatch.setattr("trainyard.storage.asked.records", lambda *_: {})

    for from_start in (False, True):  # it would train what is trained already
        with pytest.raises(RefusedError, match="has no complete checkpoint in s3://b") as refused:
            prepare(road.context, ResumeRequest("a"), from_start=from_start)
        hint = str(refused.value.hint)
        assert "20001" in hint and "20002" in hint and "invoke train" not in hint


def test_a_run_of_another_local_root_is_no_run_without_results(road: Road, monkeypatch: pytest.MonkeyPatch) -> None:
    settled_in_bucket(road, "local", monkeypatch)

    with pytest.raises(UserError, match="lies in another local store") as refused:
        prepare(road.context, ResumeRequest("a"))
    assert "TRAINYARD_LOCAL_ROOT" in str(refused.value.hint)


def settled_in_bucket(road: Road, kind: Kind, monkeypatch: pytest.MonkeyPatch) -> None:
    """Have a run whose record names a store at another address than the settings do."""
    road.run("exit 1", name="a")
    folder = RunFolder(road.context.places.runs / "ann" / "a" / "1")
    folder.save(replace(folder.load(), bucket=RunBucket("b", kind, "http://127.0.0.1:20001")))
    there = StoreSettings(
        kind=kind, endpoint="http://127.0.0.1:20002", region="r", bucket="b", access_key=Secret("k"), secret_key=Secret("s")
    )
    monkeypatch.setattr(stores, "store_settings", lambda *_: there)


def test_a_success_is_refused_unless_something_is_changed(road: Road) -> None:
    road.run(name="a")

    with pytest.raises(RefusedError, match="is a success: nothing of it is left to be trained") as refused:
        prepare(road.context, ResumeRequest("ann/a"))
    assert "has left no checkpoint" in str(refused.value.hint) and "resume" not in str(refused.value.hint)  # it would be refused
    with pytest.raises(RefusedError, match="no complete checkpoint"):
        prepare(road.context, ResumeRequest("ann/a", sets=("args=1",)))


def test_beside_a_later_success_the_attempt_that_left_a_checkpoint_is_named(road: Road) -> None:
    dead(road)
    road.run(name="a")
    fresh_pod(road)

    with pytest.raises(RefusedError, match="attempt 2 of ann/a is a success") as refused:
        prepare(road.context, ResumeRequest("a"))
    assert str(refused.value.hint).endswith("to go on from step-2 of attempt 1: invoke resume ann/a/1")
    assert resumed(road, "ann/a/1", sets=("args=never",)).success


def test_a_living_run_is_refused_with_the_command_that_comes_back_to_it(road: Road) -> None:
    road.prepare(name="a")

    with pytest.raises(RefusedError, match="is not over") as refused:
        prepare(road.context, ResumeRequest("a"))

    assert refused.value.exit_code == 3 and "invoke attach ann/a" in str(refused.value.hint)


def test_a_cancel_beside_a_later_attempt_that_another_clone_has_at_work_names_that_and_its_ways(
    road: Road, monkeypatch: pytest.MonkeyPatch
) -> None:
    road.run("exit 1", name="a")
    with pytest.raises(UserError, match=r"^run ann/a has ended already$"):
        attach.cancel(road.context, "a")

    living = AttemptAtWork(ResultKey("ann", "a", 2), Claim("t", "ann", "laptop", "2026-01-01"), road.context.folder("a").load(), 4e9)
    monkeypatch.setattr("trainyard.runs.records.stores.store_of", lambda *_: object())
    monkeypatch.setattr("trainyard.storage.markers.attempts", lambda *_: [1, 2, 3])
    monkeypatch.setattr("trainyard.runs.verbs.atwork.at_work", lambda _, __, key: living if key.attempt == 2 else None)
    with pytest.raises(RefusedError, match=r"attempt 1, .* has ended; attempt 2 of ann/a may be at work \(claimed by ann") as refused:
        attach.cancel(road.context, "a")
    assert str(refused.value.hint).startswith("Where it was started: invoke cancel ann/a. Or take it over here: invoke adopt ")


def test_recover_does_not_say_below_what_it_has_sealed_that_nothing_is_to_be_recovered(road: Road) -> None:
    road.patch(attach, "seal_of_pods", lambda _: (1, []))
    assert attach.recover(road.context) == [] and "nothing to recover" not in road.said()
    road.patch(attach, "seal_of_pods", lambda _: (0, []))
    assert attach.recover(road.context) == [] and "nothing to recover: no run is recorded here" in road.said()


def test_what_earlier_attempts_have_cost_counts_toward_the_budget(road: Road) -> None:
    dead(road, budget=5.0)
    folder = road.context.folder("ann/a")
    record = folder.load()
    record.pods = [type(record.pods[0])("p", 1.0, accepted=record.created, ended=record.created + 3 * 3600)]
    folder.save(record)

    second = prepare(road.context, ResumeRequest("a", sets=("args=never",)))
    assert second.load().budget == pytest.approx(2.0) and second.load().spent_before == pytest.approx(3.0)
    assert "$2.00 of $5.00 are left" in road.said()
    road.context.folder("ann/a").cancel(now=True)
    assert drive(road.context, second).cancelled

    with pytest.raises(RefusedError, match=r"the budget of ann/a is \$3.00, and its attempts have cost \$3"):
        prepare(road.context, ResumeRequest("a", budget=3.0))
    with pytest.raises(RefusedError, match=r"it would be stopped as it begins; nothing was rented") as refused:
        prepare(road.context, ResumeRequest("a", budget=3.01))
    more = str(refused.value.hint).split()[-1]
    assert prepare(road.context, ResumeRequest("a", budget=float(more))).load().attempt == 3


def test_a_pod_that_committed_alone_cost_nothing_after_that_for_another_machine_either(road: Road, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = road.prepare(name="a")
    record = folder.load()
    record.pods, record.pod = [PaidPod("p", 1.0, accepted=record.created)], replace(record.pod, pod_id="p")
    shutil.rmtree(folder.path)
    done = SealedResult(Manifest(ResultKey("ann", "a", 1), (), (), record.token), "0", None, format_time(record.created + 1800))
    monkeypatch.setattr(history, "bucket_of", lambda *_: object())
    monkeypatch.setattr("trainyard.storage.markers.attempts", lambda *_: [])
    monkeypatch.setattr("trainyard.storage.asked.records", lambda *_: {1: json.dumps(as_json(record)).encode()})
    monkeypatch.setattr(history, "read_result", lambda *_: done)

    (past,) = history_of(road.context, "ann/a", STACK).attempts

    assert cost(past.record, now=record.created + 36000) == pytest.approx(0.5, abs=0.001)


def test_the_next_attempt_has_the_hours_of_the_last_one_and_its_estimate_counts_as_any(road: Road) -> None:
    dead(road, hours=5.0)

    assert prepare(road.context, ResumeRequest("a")).load().hours == 5.0
    prepared = Ledger(road.context.places.ledger).events(kind="prepared")
    assert [event.run.attempt for event in prepared] == [1, 2] and 5.5 <= prepared[1].data["estimate"] < 5.8


def test_a_run_is_named_as_download_names_it_and_one_that_is_nowhere_is_told(road: Road) -> None:
    dead(road)

    for reference in ("a", "ann/a", "ann/a/1", "models/ann/a/1/model/", "checkpoints/ann/a/1/step-2/", "s3://bucket/models/ann/a/1/"):
        assert history_of(road.context, reference, None).newest.record.attempt == 1
    for reference, says in (("b", "has no bucket"), ("a/b/c/d/e", "names no run"), ("ann/a/7", "known neither here")):
        with pytest.raises(UserError, match=says):
            history_of(road.context, reference, STACK)


def test_values_that_no_checkpoint_can_bear_are_refused_by_name(road: Road) -> None:
    folder = road.prepare(name="a")
    record = folder.load()
    folder.cancel(now=True)
    drive(road.context, folder)
    lora: Values = {"lora_rank": 8, "num_train_epochs": 2.0, "base_model": "tiny-qwen3-moe"}
    record = folder.load()
    record.recipe, record.values = "lora", lora
    folder.save(record)

    with pytest.raises(RefusedError, match=r"cannot bear another lora_rank \(8 -> 16\)") as refused:
        prepare(road.context, ResumeRequest("a", sets=("lora_rank=16",)))
    assert "num_train_epochs" in str(refused.value.hint) and "invoke rerun ann/a --set lora_rank=16" in str(refused.value.hint)
    with pytest.raises(RefusedError, match="no complete checkpoint"):  # more epochs it can bear
        prepare(road.context, ResumeRequest("a", sets=("num_train_epochs=3",)))


# As the trainer leaves a checkpoint after 87 epochs of many.
EPOCHS = """
mkdir -p $OUTPUT_DIR/checkpoints/checkpoint-1131
echo '{"epoch": 87.0, "global_step": 1131, "max_steps": 9100}' >$OUTPUT_DIR/checkpoints/checkpoint-1131/trainer_state.json
exit 3
"""


def test_values_with_which_nothing_is_left_to_be_trained_are_refused_before_a_pod_is_rented(road: Road) -> None:
    road.run(EPOCHS, name="a")
    folder = road.context.folder("a")
    record = folder.load()
    record.recipe, record.values = "lora", {"num_train_epochs": 700.0, "max_steps": -1, "base_model": "tiny-qwen3-moe"}
    folder.save(record)

    def refusal(*sets: str) -> str:
        with pytest.raises(RefusedError) as refused:
            prepare(road.context, ResumeRequest("a", sets=sets))
        return f"{refused.value.message}\n{refused.value.hint}"

    said = refusal("num_train_epochs=60")
    assert "checkpoint-1131 of attempt 1 has done 87 of num_train_epochs 60: nothing is left to be trained; nothing was rented" in said
    assert "invoke resume a --set num_train_epochs=88\n" in said
    assert "has done 1131 of max_steps 1000" in refusal("max_steps=1000")  # it counts before the epochs
    road.patch(resume, "_plan", _goes_on)
    for sets in ((), ("num_train_epochs=88",), ("num_train_epochs=87",)):  # with 87 its result is still missing
        with pytest.raises(UserError, match="it goes on"):
            prepare(road.context, ResumeRequest("a", sets=sets))


def _goes_on(*_: object) -> None:
    raise UserError("it goes on")


# --- a pod that the cloud has taken -----------------------------------------------------------------------------------


def losing(road: Road, attempts: int) -> None:
    """Let the cloud take the pods of the first attempts while they train; a fresh one is empty, and answers."""
    empty, create = threading.Semaphore(1), road.cloud.create

    def rent(*asked: Any) -> PodInfo:
        assert empty.acquire(timeout=60), "the pod before was not taken"
        road.unreachable = 0
        return create(*asked)

    def take() -> None:
        for attempt in range(1, attempts + 1):
            path = road.context.places.runs / "ann" / "a" / str(attempt) / "train.log"
            while not (path.is_file() and b"going" in path.read_bytes()):
                time.sleep(0.02)
            road.unreachable = 1000
            road.cloud.terminate(road.cloud.alive()[0])
            road.lose_pod()
            fresh_pod(road)
            empty.release()

    road.patch(road.cloud, "create", rent)
    threading.Thread(target=take, daemon=True).start()


def test_a_run_whose_pod_was_lost_goes_on_by_itself_as_often_as_was_asked(road: Road) -> None:
    losing(road, 2)
    folder = road.prepare("echo going; sleep 600", name="a", resume=1)

    summary = through(road.context, folder)

    assert summary.attempt == 2 and not summary.success and road.cloud.alive() == []
    assert "the pod of ann/a was lost: it goes on by itself (tries left, with this one: 1)" in road.said()
    assert "has no checkpoint yet: it trains from its start" in road.said()
    assert not (road.context.places.runs / "ann" / "a" / "3").exists()
    first, second = (RunFolder(folder.path.with_name(number)).load() for number in "12")
    assert first.lost and second.lost and second.spent_before == pytest.approx(cost(first))
    assert attach.recover(road.context) == [], "it has had its turns"


@pytest.mark.parametrize("tries", [0, 1])
def test_a_pod_that_is_empty_and_then_gone_is_lost(tries: int, road: Road) -> None:
    def empty_and_gone(*_: object) -> JobStatus:
        road.unreachable = 1000
        road.cloud.terminate(road.cloud.alive()[0])
        road.lose_pod()
        return JobStatus("absent")

    road.patch(follow, "_follow", empty_and_gone)
    folder = road.prepare("sleep 600", name="a", resume=tries)

    assert not drive(road.context, folder).success and folder.load().lost


@pytest.mark.parametrize("how", ["fails", "cancelled", "ended by hand"])
def test_a_run_that_failed_or_that_a_person_has_ended_does_not_go_on_by_itself(how: str, road: Road) -> None:
    def end() -> None:
        if how == "cancelled":
            road.context.folder("a").cancel(now=True)
        elif how == "ended by hand":
            road.unreachable = 1000
            account.end_pod(road.context, STACK, road.cloud.alive()[0])
            road.lose_pod()

    script = "echo going; exit 3" if how == "fails" else "echo going; sleep 600"
    summary, _ = road.while_training(end, script, resume=3)

    assert not summary.success and not is_due(road.context.folder("a").load())


def test_a_lost_run_does_not_go_on_when_a_person_is_heard_to_have_ended_it_before_its_turn(road: Road) -> None:
    def take() -> None:
        road.unreachable = 1000
        road.cloud.terminate(road.cloud.alive()[0])
        road.lose_pod()

    road.while_training(take, "echo going; sleep 600", resume=3)
    folder = road.context.folder("a")
    assert is_due(folder.load())
    note_cancel(road.context, folder.load())  # what another checkout has told came later than its end of the pod

    assert go_on(road.context, folder) is None and not is_due(folder.load())
    assert "ann/a does not go on by itself: a person has ended it" in road.said()


def test_a_container_that_was_started_anew_is_a_lost_pod_too_where_nobody_is_there_to_look(road: Road) -> None:
    def start_anew() -> None:
        for _ in range(3):  # a shell may have begun another process meanwhile
            road.lose_pod()
            time.sleep(0.05)
        shutil.rmtree(road.workspace / "job")

    seen = road.context.places.root / "seen"
    script = f"echo going; [ -e {seen} ] || {{ touch {seen}; sleep 600; }}; mkdir -p $OUTPUT_DIR/model; echo m >$OUTPUT_DIR/model/m"
    summary, _ = road.while_training(start_anew, script, resume=1)
    assert "nothing of it is left" in str(summary.error) and is_due(road.context.folder("a").load())

    fresh_pod(road)
    assert [(one.attempt, one.success) for one in attach.recover(road.context)] == [(2, True)], road.said()


def test_what_keeps_a_lost_run_from_going_on_is_told_and_final(road: Road) -> None:
    losing(road, 1)
    folder = road.prepare("echo going; sleep 600", name="a", resume=1, budget=5.0)
    road.patch(resume, "_budget", _no_budget)

    summary = through(road.context, folder)

    assert summary.attempt == 1 and "ann/a does not go on by itself: nothing is left" in road.said()
    assert folder.load().resumes == 0


def _no_budget(*_: object) -> float:
    raise RefusedError("nothing is left")
