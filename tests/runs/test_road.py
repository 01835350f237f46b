"""The main road in this process: train, follow, commit, tear down, and each way off it."""

from __future__ import annotations

import errno
import io
import json
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from tests.runs.road import LEASE, STACK, Road, failed
from trainyard import playbook
from trainyard.clock import format_time
from trainyard.clouds import open_cloud
from trainyard.clouds.absence import EndedPod, Proof
from trainyard.clouds.marker import PodName, new_id
from trainyard.errors import Busy, DiskFull, EngineError, PodFailed, RefusedError, StillThere, Unreachable, UserError
from trainyard.leases import intents
from trainyard.playbook import Report
from trainyard.remote.local import LocalTransport
from trainyard.retries import Backoff
from trainyard.runs import context as contexts
from trainyard.runs.life import follow, rent, sshlink, start
from trainyard.runs.life.drive import drive
from trainyard.runs.planning import declaredpods
from trainyard.runs.records.identity import RunId, all_runs
from trainyard.runs.records.notes import note_cancel
from trainyard.runs.records.parts import RunResult
from trainyard.runs.records.pod import pod_of
from trainyard.runs.records.record import RunFolder
from trainyard.runs.records.stackresources import LEASE as LEASES
from trainyard.runs.records.stackresources import POD
from trainyard.runs.verbs import account, adopt, attach, environments, listing, logs, runtable, train
from trainyard.runs.verbs import fetch as verb_fetch
from trainyard.runs.verbs.fetch import fetch
from trainyard.stacks import facade
from trainyard.stacks.model import Operation, OperationOutcome, Stack
from trainyard.storage.download import Downloaded
from trainyard.storage.find import Listed
from trainyard.storage.manifest import ResultKey


@pytest.fixture
def road(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Road]:
    made = Road(tmp_path, monkeypatch)
    yield made
    made.lose_pod()  # the cloud is a model: to end a pod there ends no process


def shown(road: Road, *, follow: bool = False, run: str = "ann/a") -> bytes:
    out = io.BytesIO()
    assert logs.print_log(road.context, run, follow=follow, out=out) == 0
    return out.getvalue()


# --- the road itself ----------------------------------------------------------------------------------------------------


def test_a_run_goes_from_train_to_its_result_at_home_and_its_pod_is_gone(road: Road) -> None:
    summary = road.run(name="a")

    assert summary.success and summary.exit_status == 0, road.said()
    home = Path(str(summary.local_path))
    assert (home / "model" / "m.txt").read_text() == "m\n"
    assert json.loads((home / "run-summary.json").read_text())["run"] == "ann/a"
    assert road.cloud.alive() == [] and summary.pods[0].ended_at
    assert ("dev.ann.a.1", "destroy") in road.engine.asked and not facade.exists(road.context.run_stack(*loaded(road, "ann/a")))
    for text in ("estimate", "at most $2.62", "rented", "its lease ends", "destroy"):
        assert text in road.said()
    assert b"hi\n" in shown(road)


def loaded(road: Road, run: str) -> Any:
    folder = road.context.folder(run)
    return folder.load(), folder


def test_a_second_run_finds_its_environment_standing_and_its_name_counted_on(road: Road) -> None:
    road.run(name="a")
    summary = road.run(name="a")

    assert summary.attempt == 2 and summary.success
    assert [asked for asked in road.engine.asked if asked == (STACK, "up")] == [(STACK, "up")], "one up serves both"
    assert [row.run for row in listing.list_runs(road.context).runs] == ["ann/a", "ann/a"]


def test_a_training_that_fails_is_no_success_and_what_it_left_is_kept(road: Road) -> None:
    summary = road.run("mkdir -p $OUTPUT_DIR/model; echo half >$OUTPUT_DIR/model/m.txt; echo oops; exit 3", name="a")

    assert not summary.success and summary.exit_status == 1 and summary.exit_code == 3
    assert "oops" in str(summary.error) and summary.kept and "exited 3" in summary.kept.why, summary.kept
    assert (Path(str(summary.local_path)) / "model" / "m.txt").read_text() == "half\n" and road.cloud.alive() == []
    (row,) = listing.list_runs(road.context).runs
    assert row.state == "failed" and any("the training exited 3" in line for line in runtable.lines(listing.RunListing([row]), 80))


def test_a_missed_expect_names_what_is_missing_and_no_exit_code_that_is_not_the_program_s(road: Road) -> None:
    script = "mkdir -p $OUTPUT_DIR/model; echo m >$OUTPUT_DIR/model/a.txt"
    summary = drive(road.context, road.prepare(script, name="a", sets=["expect=model/a*,model/*.bin,re'port.md"]))

    assert "the training said done, but left nothing that matches model/*.bin, re'port.md, which is expected" in str(summary.error)
    assert "exited 70" not in road.said() and not summary.success


def test_a_program_that_is_not_there_is_refused_before_anything_is_rented(road: Road) -> None:
    asked = train.TrainRequest(stack=STACK, recipe="command", sets=("code=none",), words=("pythn", "train.py"))
    with pytest.raises(UserError, match="the command runs pythn, which is not on PATH"):
        train.prepare(road.context, asked)
    assert road.engine.asked == [] and road.cloud.alive() == []


def test_a_pod_that_does_not_answer_before_the_training_is_ended_with_code_5(road: Road, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(start, "LINK", Backoff(0.0, 0.0))
    folder = road.prepare(name="a")
    road.unreachable = 10**6

    summary = drive(road.context, folder)

    assert summary.exit_status == 5 and "no route to the pod" in str(summary.error) and road.cloud.alive() == []


def test_a_link_that_is_lost_while_the_training_is_started_is_made_anew_and_one_job_runs(
    road: Road, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(start, "LINK", Backoff(0.0, 0.0))
    folder, play, lost = road.prepare(name="a"), playbook.run, [1, 1]

    def cut(*args: Any, **more: Any) -> Report:
        report = play(*args, **more)
        if lost:
            lost.pop()
            raise Unreachable("SSH session not active")
        return report

    monkeypatch.setattr(playbook, "run", cut)
    road.unreachable = 1

    summary = drive(road.context, folder)

    assert summary.success and road.said().count("what starts the training is done once more") == 3
    assert (folder.path / "train.log").read_text().splitlines().count("hi") == 1


def test_a_pod_that_ended_while_the_training_was_started_is_told_at_once_by_the_clouds_word(
    road: Road, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(start, "LINK", Backoff(0.0, 0.0))
    folder, connect = road.prepare(name="a"), road._connect

    def ended(*args: object, **more: object) -> LocalTransport:
        road.cloud.terminate("p0")
        road.unreachable = 99
        return connect(*args, **more)

    monkeypatch.setattr("trainyard.runs.records.pod.dial", ended)
    summary = drive(road.context, folder)

    assert summary.exit_status == 4 and "the cloud says that pod p0 is gone" in str(summary.error) and road.cloud.alive() == []
    assert folder.load().lost and "done once more" not in road.said()


# --- before anything is rented --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("line", "asked", "message"),
    [
        ("hours: 0", {}, "hours must be more than 0"),
        ("gpuu: A", {}, "unknown setting 'gpuu'"),
        ("hours: 800", {}, "must be at most 744, not 800"),
        ("", {"name": "Not A Label!"}, "use a-z, 0-9"),
        ("", {"data": "nowhere.jsonl"}, "nowhere.jsonl"),
    ],
)
def test_what_is_wrong_is_told_before_anything_exists(road: Road, line: str, asked: dict[str, Any], message: str) -> None:
    road.settle(line) if line else None

    with pytest.raises(UserError, match=message):
        road.prepare(**asked)
    assert road.engine.asked == [] and road.cloud.calls("create") == 0 and not list(road.context.places.runs.glob("*/*/*"))


def test_a_run_that_needs_a_bucket_and_has_none_is_refused_before_the_cloud_is_asked(road: Road) -> None:
    road.cloud.capabilities = replace(road.cloud.capabilities, ssh=False)

    with pytest.raises(RefusedError, match="go through a bucket, and none is set"):
        road.prepare()
    assert road.cloud.calls("offers") == 0


def test_what_would_break_a_limit_is_refused(road: Road) -> None:
    road.settle("limit_day: 1")

    with pytest.raises(RefusedError, match="limit"):
        road.prepare()
    assert road.cloud.calls("create") == 0


def test_an_environment_that_would_rent_pods_is_brought_up_by_its_owner(road: Road) -> None:
    road.settle("pods: 1")
    road.settle("hours: 1")

    with pytest.raises(RefusedError, match="ask for pods") as caught:
        road.prepare()
    assert "invoke up --stack dev" in str(caught.value)


def test_an_environment_that_does_not_come_up_ends_it_with_the_engine_s_words(road: Road) -> None:
    road.engine.trouble = lambda stack, operation: failed(operation, message="the program said no")

    with pytest.raises(EngineError, match="the program said no"):
        road.prepare()


def test_a_run_of_its_name_that_is_at_work_is_not_begun_again(road: Road) -> None:
    road.prepare(name="a")

    with pytest.raises(RefusedError, match="ann/a is not over"):
        road.prepare(name="a")


# --- renting ----------------------------------------------------------------------------------------------------------------


def of_runs(then: Callable[[Operation, int], OperationOutcome | None]) -> Callable[[Stack, Operation], OperationOutcome | None]:
    """Answer for the stacks of runs only, with the number of the up."""
    ups: list[int] = []

    def trouble(stack: Stack, operation: Operation) -> OperationOutcome | None:
        if "." not in stack.name:
            return None
        ups.extend([1] if operation == "up" else [])
        return then(operation, len(ups))

    return trouble


def boots(road: Road, times: int, **facts: Any) -> None:
    """Let the first pods not boot: what is left is a pod without an address."""

    def then(operation: Operation, number: int) -> OperationOutcome | None:
        if operation != "up" or number > times:
            return None
        stack = Stack(f"{STACK}.ann.a.1", road.context.places, road.context.env, road.context.folder("ann/a").config)
        [_, lease, pod, _] = road.engine._pod()
        pod["outputs"] = {**pod["outputs"], "offer": f"A-{number}"}
        road.engine.write(stack, [lease, pod])
        return failed("up", "boot-failed", f"pod {number} did not boot", pod=pod["id"], **facts)

    road.engine.trouble = of_runs(then)


def test_a_pod_that_does_not_boot_is_replaced_by_the_next_offer_which_is_said(road: Road) -> None:
    folder = road.prepare(name="a")
    boots(road, 1, hosts_fault=True)

    assert drive(road.context, folder).success
    assert "the next offer is tried; A-1 is avoided" in road.said()
    assert "avoid_offers" in folder.config.read_text()
    assert road.run(name="b").success


def test_after_three_pods_that_did_not_boot_the_run_gives_up_and_leaves_none(road: Road) -> None:
    folder = road.prepare(name="a")
    boots(road, rent.BOOT_TRIES)

    summary = drive(road.context, folder)

    assert summary.exit_status == 5 and "before that, with A-1: pod 1 did not boot" in str(summary.error)
    assert road.cloud.alive() == []


def test_a_lease_that_is_over_before_the_pod_boots_is_the_last_try(road: Road) -> None:
    folder = road.prepare(name="a")
    boots(road, 9, lease_over=True)

    assert drive(road.context, folder).exit_status == 5
    assert [operation for _, operation in road.engine.asked].count("up") == 2, "the environment's and one of the run"


def test_out_of_offers_after_a_failed_boot_is_a_failed_boot(road: Road) -> None:
    folder = road.prepare(name="a")
    boots(road, 1)
    first = road.engine.trouble

    def then(stack: Stack, operation: Operation) -> OperationOutcome | None:
        before = first(stack, operation)
        return before or (failed("up", "no-capacity", "nothing is left") if operation == "up" else None)

    road.engine.trouble = then

    summary = drive(road.context, folder)
    assert summary.exit_status == 5 and "nothing is left" in str(summary.error)


def test_a_pod_that_is_there_after_an_unclear_answer_is_gone_on_with(road: Road) -> None:
    folder = road.prepare(name="a")

    def then(operation: Operation, number: int) -> OperationOutcome | None:
        if operation != "up" or number > 1:
            return None
        stack = Stack(f"{STACK}.ann.a.1", road.context.places, road.context.env, folder.config)
        [_, lease, pod, _] = road.engine._pod()
        road.engine.write(stack, [lease, {**pod, "initErrors": ["502"]}])
        return failed("up", "cloud-unknown", "502 Bad Gateway")

    road.engine.trouble = of_runs(then)

    assert drive(road.context, folder).success and "the pod is there: going on with it" in road.said()
    assert road.cloud.calls("create") == 1


def test_an_up_that_fails_for_another_reason_is_not_tried_again(road: Road) -> None:
    folder = road.prepare(name="a")
    road.engine.trouble = of_runs(lambda operation, number: failed("up", "cloud", "401 Unauthorized") if operation == "up" else None)

    summary = drive(road.context, folder)

    assert summary.exit_status == 4 and "401 Unauthorized" in str(summary.error)


# --- the start ----------------------------------------------------------------------------------------------------------------


def test_a_pod_whose_watchdog_is_not_armed_gets_no_training_and_is_ended(road: Road, monkeypatch: pytest.MonkeyPatch) -> None:
    book = road.prepare(name="a").playbooks / "tasks" / "preflight.yml"
    book.write_text(book.read_text().replace("timeout: 20", "timeout: 1"))
    shutil.rmtree(road.workspace / ".trainyard")

    summary = drive(road.context, road.context.folder("ann/a"))

    assert summary.exit_status == 10 and "not armed" in str(summary.error) and road.cloud.alive() == []


def test_a_pod_that_only_others_can_end_is_told_with_the_end_of_its_lease(road: Road) -> None:
    road.armed(key_sees_pod=False, proof="HTTP 401")

    summary = road.run(name="a")

    assert summary.success and summary.ends_itself is False
    assert "only from outside can pod p0 be ended" in road.said() and "HTTP 401" in road.said()
    assert "a pod of model can be ended" not in road.said(), "it is this pod that cannot, not those of its cloud"


def test_of_a_cloud_whose_pods_cannot_end_themselves_that_is_said_before_one_is_rented(road: Road) -> None:
    road.cloud.capabilities = replace(road.cloud.capabilities, self_terminate=False)
    road.armed(key_sees_pod=False, self_terminate=False, proof="no way to end this pod from inside")

    assert road.run(name="a").success
    before, _, after = road.said().partition("rented")
    assert "a pod of model can be ended only from outside" in before and f"invoke reap --stack {STACK}" in before
    assert "pod p0 be ended (no way to end this pod from inside)" in after and "own key" not in after


def test_a_start_whose_answer_was_lost_is_asked_for_and_gone_on_with(road: Road, monkeypatch: pytest.MonkeyPatch) -> None:
    folder, real = road.prepare(name="a"), start.start

    def lost(*words: Any) -> None:
        real(*words)
        raise start.Unclear("the link went while the job was started")

    monkeypatch.setattr(start, "start", lost)

    assert drive(road.context, folder).success and "has begun all the same" in road.said()


# --- while it trains ----------------------------------------------------------------------------------------------------------

FOR_EVER = "echo going; trap 'mkdir -p $OUTPUT_DIR/model; echo saved >$OUTPUT_DIR/model/m.txt; exit 143' TERM; while :; do sleep 0.05; done"


def test_a_run_that_is_cancelled_saves_what_it_has_and_ends(road: Road) -> None:
    summary, came = road.while_training(lambda: attach.cancel(road.context, "ann/a"), FOR_EVER)

    assert came == [None], "another controller drives it"
    assert summary.cancelled and not summary.success and road.cloud.alive() == []
    assert (Path(str(summary.local_path)) / "model" / "m.txt").read_text() == "saved\n"
    with pytest.raises(UserError, match="has ended already"):
        attach.cancel(road.context, "ann/a")


def test_a_pod_without_its_job_is_told_with_the_command_that_ends_it_and_keeps_what_there_is(road: Road) -> None:
    folder = road.prepare(name="a")
    record = folder.load()
    rent.rent(road.context, record, folder)
    record.phase = "started"
    folder.save(record)
    (road.workspace / "output" / "model").mkdir(parents=True)
    (road.workspace / "output" / "model" / "m.txt").write_text("left\n")

    with pytest.raises(StillThere, match="nothing of it is left") as told:
        attach.attach(road.context, "ann/a")
    assert "keeps what is there and ends the pod: invoke cancel ann/a\n" in str(told.value) and road.cloud.alive() == ["p0"]

    summary = attach.cancel(road.context, "ann/a")

    assert summary and summary.cancelled and not summary.success and road.cloud.alive() == [], road.said()
    assert "nothing of it is left" in str(summary.error)
    assert (Path(str(summary.local_path)) / "model" / "m.txt").read_text() == "left\n"


def test_a_pod_on_which_a_process_of_the_swept_job_may_live_is_not_ended_by_cancel(road: Road) -> None:
    folder = road.prepare(FOR_EVER, name="a")
    record = folder.load()
    rent.rent(road.context, record, folder)
    start.start(road.context, record, folder, pod_of(road.context, record))
    record.phase = "started"
    folder.save(record)
    deadline = time.monotonic() + 60
    while b"going" not in (road.workspace / "job" / "log").read_bytes() and time.monotonic() < deadline:
        time.sleep(0.02)
    shutil.rmtree(road.workspace / "job")

    try:
        with pytest.raises(StillThere, match="it may still run") as told:
            attach.cancel(road.context, "ann/a")
    finally:
        road.lose_pod()

    assert road.cloud.alive() == ["p0"] and "cancel ann/a --now" in str(told.value)


def test_cancel_now_saves_nothing(road: Road) -> None:
    summary, came = road.while_training(lambda: attach.cancel(road.context, "ann/a", now=True), FOR_EVER)

    assert came == [None] and summary.cancelled and summary.local_path is None and road.cloud.alive() == []


def test_a_second_controller_is_busy_and_watches(road: Road, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(attach, "_POLL", 0.05)

    def act() -> Any:
        with pytest.raises(Busy):
            drive(road.context, road.context.folder("ann/a"))
        assert b"going" in shown(road) and attach.recover(road.context) == [] and "left alone" in road.said()
        threading.Timer(0.3, lambda: attach.cancel(road.context, "ann/a")).start()
        return attach.attach(road.context, "ann/a")

    summary, (watched,) = road.while_training(act, FOR_EVER)

    assert "watching" in road.said() and watched.cancelled and watched.run == summary.run


def test_a_budget_that_is_used_up_stops_and_saves(road: Road, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(follow, "_WATCHDOG_FIRST", 0.0)
    folder = road.prepare(FOR_EVER, name="a", budget=1e-7)

    summary = drive(road.context, folder)

    assert summary.stopped and summary.exit_status == 1 and "budget" in road.said()
    assert (Path(str(summary.local_path)) / "model" / "m.txt").read_text() == "saved\n" and road.cloud.alive() == []


def test_a_lease_s_stop_saves_too(road: Road, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(follow, "_WATCHDOG_FIRST", 0.0)
    road.engine.end = timedelta(minutes=30, seconds=1)  # its stop is 30 minutes before

    summary = road.run(FOR_EVER, name="a")

    assert summary.stopped and "lease's stop has come" in road.said() and road.cloud.alive() == []


@pytest.mark.parametrize("cancelled", [False, True], ids=["by itself", "cancelled elsewhere"])
def test_a_pod_that_the_cloud_has_ended_ends_the_run_with_the_cloud_s_word(
    cancelled: bool, road: Road, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(follow, "_ASK_CLOUD_EVERY", 0.0)
    monkeypatch.setattr(follow, "_ASK_CLOUD_FIRST", 0.0)

    def act() -> None:
        if cancelled:
            (run,) = all_runs(road.context.places.runs)
            note_cancel(road.context, RunFolder(run.folder(road.context.places.runs)).load())
        road.cloud.terminate("p0")
        road.unreachable = 10**6
        road.lose_pod()

    summary, _ = road.while_training(act, FOR_EVER)

    assert summary.exit_status == 4 and "the cloud says that pod p0 is gone" in str(summary.error) and road.cloud.alive() == []
    assert [run.state for run in listing.list_runs(road.context).runs] == ["cancelled" if cancelled else "failed"]


def test_a_pod_that_a_person_here_has_ended_is_told_so_and_not_as_the_cloud_s_doing(road: Road, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(follow, "_ASK_CLOUD_EVERY", 0.0)
    monkeypatch.setattr(follow, "_ASK_CLOUD_FIRST", 0.0)

    def act() -> None:
        account.end_pod(road.context, STACK, "p0")
        road.unreachable = 10**6
        road.lose_pod()

    summary, _ = road.while_training(act, FOR_EVER)

    assert summary.exit_status == 4 and summary.error == "pod p0 was ended by a person, not by the cloud"
    assert any("ended by a person" in line for line in runtable.lines(listing.list_runs(road.context), 80))


@pytest.mark.parametrize(
    ("says", "why"),
    [
        ({"state": "stopping", "reason": "the budget is used up"}, "the budget is used up"),
        ({"state": "watching"}, "told to stop (its lease's stop, or its budget)"),
    ],
)
def test_a_training_that_the_pod_s_watchdog_stopped_says_for_what(road: Road, says: dict[str, str], why: str) -> None:
    road.armed(**says)
    summary = road.run("mkdir -p $OUTPUT_DIR/model; echo m >$OUTPUT_DIR/model/m.txt; exit 75", name="a")

    assert summary.stopped and f"no success ({why})" in road.said()


def test_a_stalled_training_that_does_not_listen_is_ended_and_what_it_left_is_kept(road: Road, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sshlink, "EVERY", 0.0)
    monkeypatch.setattr(follow, "STOP_GRACE", 0.2)
    script = "mkdir -p $OUTPUT_DIR/model; echo x >$OUTPUT_DIR/model/m; trap '' TERM; echo going; for i in $(seq 300); do sleep 0.1; done"

    summary, _ = road.while_training(lambda: road.armed(state="stopping", reason="the job has stalled", stalled=True), script)

    assert not summary.success and "warning: the job has stalled: the training is stopped" in road.said()
    assert "exited 137: it did not end when it was told to (the job has stalled), and was killed" in str(summary.error)
    assert (Path(str(summary.local_path)) / "model" / "m").read_text() == "x\n"


def test_a_pod_that_its_watchdog_ends_after_a_stop_is_not_told_lost_to_the_cloud(road: Road, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sshlink, "EVERY", 0.0)
    monkeypatch.setattr(follow, "STOP_GRACE", 60.0)
    monkeypatch.setattr(follow, "_ASK_CLOUD_EVERY", 0.0)
    monkeypatch.setattr(follow, "_ASK_CLOUD_FIRST", 0.0)

    def act() -> None:
        road.armed(state="stopping", reason="the job has stalled", stalled=True)
        deadline = time.monotonic() + 60
        while "the job has stalled: the training" not in road.said() and time.monotonic() < deadline:
            time.sleep(0.02)
        road.cloud.terminate("p0")
        road.unreachable = 10**6
        road.lose_pod()

    summary, _ = road.while_training(act, "trap '' TERM; echo going; for i in $(seq 600); do sleep 0.1; done")

    assert "pod p0 is gone, after the training was told to stop: the job has stalled" in str(summary.error)
    (run,) = all_runs(road.context.places.runs)
    assert not RunFolder(run.folder(road.context.places.runs)).load().lost, "what was told to stop is not begun anew elsewhere"


def test_a_training_that_was_killed_has_no_verdict_and_what_it_left_is_kept(road: Road) -> None:
    summary, _ = road.while_training(road.lose_pod, "mkdir -p $OUTPUT_DIR/model; echo x >$OUTPUT_DIR/model/m; echo going; sleep 60")

    assert not summary.success and "has no verdict" in str(summary.error) and road.cloud.alive() == []
    assert (Path(str(summary.local_path)) / "model" / "m").read_text() == "x\n"


# --- a controller that died ---------------------------------------------------------------------------------------------------


def test_recover_finishes_what_a_killed_controller_left_at_each_phase(road: Road) -> None:
    folder = road.prepare(name="a")
    record = folder.load()
    rent.rent(road.context, record, folder)
    assert record.reached("up") and road.cloud.alive() == ["p0"]

    (summary,) = attach.recover(road.context)

    assert summary.success and road.cloud.alive() == [] and "recover    ann/a (was: up)" in road.said()
    assert attach.recover(road.context) == [] and "nothing to recover: every run has ended" in road.said()
    assert "one is rented now" not in road.said()


def test_recover_and_attach_say_before_they_rent_for_a_run_that_had_no_pod(road: Road) -> None:
    road.prepare(name="a")
    road.prepare(name="b")

    attach.attach(road.context, "b")
    (summary,) = attach.recover(road.context)

    said = road.said()
    assert summary.success and said.index("ann/a had no pod that was up: one is rented now") < said.rindex("rented     CPU")
    assert said.index("ann/b had no pod that was up: one is rented now") < said.index("rented     CPU")


def test_recover_where_no_run_is_recorded_says_so_and_how_the_cloud_is_asked(road: Road) -> None:
    assert attach.recover(road.context) == []
    assert "no run is recorded here" in road.said() and "reap --all-stacks --dry-run" in road.said()
    assert "every run has ended" not in road.said()


def test_recover_goes_on_past_a_run_whose_record_is_damaged_and_exits_for_it(road: Road) -> None:
    road.prepare(name="a")
    broken = road.prepare(name="b")
    (broken.path / "run.json").write_text("{")

    with pytest.raises(StillThere):
        attach.recover(road.context)
    assert loaded(road, "ann/a")[0].reached("ended")
    rows = {row.run: row.state for row in listing.list_runs(road.context).runs}
    assert rows == {"ann/a": "succeeded", "ann/b": "unreadable record"}


def test_another_machine_takes_a_run_over_by_its_pod(road: Road, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = road.prepare(FOR_EVER, name="a")
    record = folder.load()
    rent.rent(road.context, record, folder)
    start.start(road.context, record, folder, pod_of(road.context, record))
    key = road.engine.keys
    shutil.rmtree(folder.path)
    monkeypatch.setattr(adopt, "dial", road._connect)
    with pytest.raises(UserError, match="knows no pod of ours 'p9'"):
        adopt.adopt(road.context, STACK, "p9", key)
    with pytest.raises(UserError, match=r"'9999.*\.\.\.' \(5,000 characters\)"):
        adopt.adopt(road.context, STACK, "9" * 5000, key)
    with pytest.raises(UserError, match="no SSH address"):
        adopt.adopt(road.context, STACK, "p0", key)
    with monkeypatch.context() as without:
        without.setattr(road.cloud, "capabilities", replace(road.cloud.capabilities, ssh=False))
        with pytest.raises(UserError, match="it commits alone") as refused:
            adopt.adopt(road.context, STACK, "p0", key)
    assert "finishes its run: invoke recover\nThis ends it, and saves nothing: invoke end p0" in str(refused.value.hint)
    road.cloud.change("p0", host=["127.0.0.1", 22, "root"])
    with pytest.raises(UserError, match="no such SSH key"):
        adopt.adopt(road.context, STACK, "p0", key.parent / "other")
    with pytest.raises(Unreachable, match="does not tell the host key") as untold:
        adopt.adopt(road.context, STACK, "p0", key)
    assert untold.value.hint == f"End it with: invoke end p0 --stack {STACK}"
    road.cloud.change("p0", shows="ssh-ed25519 AAAA")
    info = road.cloud.get
    monkeypatch.setattr(road.cloud, "get", info)
    listed = road.cloud._info
    monkeypatch.setattr(road.cloud, "_info", lambda state: __import__("dataclasses").replace(listed(state), workspace=str(road.workspace)))

    taken = adopt.adopt(road.context, STACK, "p0", key)

    assert taken.load().phase == "started" and taken.load().token == record.token
    with pytest.raises(UserError, match="is known here already"):
        adopt.adopt(road.context, STACK, "p0", key)
    attach.cancel(road.context, "ann/a", now=True)
    assert road.cloud.alive() == []


def test_a_pod_on_which_no_training_was_started_is_not_adopted(road: Road, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    folder = road.prepare(name="a")
    record = folder.load()
    rent.rent(road.context, record, folder)
    road.cloud.change("p0", host=["127.0.0.1", 22, "root"], shows="ssh-ed25519 AAAA")
    monkeypatch.setattr(adopt, "dial", road._connect)

    with pytest.raises(PodFailed, match="no training was started on pod p0"):
        adopt.adopt(road.context, STACK, "p0", road.engine.keys)


# --- the environment ----------------------------------------------------------------------------------------------------------


def test_up_preview_and_refresh_say_what_was_done(road: Road, capsys: pytest.CaptureFixture[str]) -> None:
    for operation in ("up", "preview", "refresh"):
        assert environments.operate(road.context, STACK, operation, yes=True, as_json=operation == "preview") == 0
    assert "refresh of stack 'dev': no change" in road.said()
    assert '"event": "summary"' in capsys.readouterr().out
    shown = environments.shown_outputs(road.context, STACK, show_secrets=False)
    assert shown["host_key_seed"] == "[secret]" and shown["bucket"] == "none"
    assert environments.shown_outputs(road.context, STACK, show_secrets=True)["host_key_seed"] == "seed"


def test_an_environment_without_an_up_has_no_outputs_and_the_command_is_named(road: Road) -> None:
    with pytest.raises(UserError, match="has no outputs yet") as caught:
        environments.shown_outputs(road.context, STACK, show_secrets=False)
    assert "invoke up --stack dev" in str(caught.value)


def test_an_up_without_the_cloud_s_key_makes_nothing_since_destroy_could_prove_nothing(road: Road) -> None:
    road.settings.write_text(road.settings.read_text().replace("cloud: local", "cloud: runpod"))
    road.patch(contexts, "open_cloud", open_cloud)
    with pytest.raises(UserError, match="RUNPOD_API_KEY is not set") as caught:
        environments.operate(road.context, STACK, "up", yes=True, as_json=False)
    assert caught.value.exit_code == 2 and road.engine.asked == []


def test_an_up_that_fails_and_leaves_a_pod_that_cannot_be_used_is_code_6(road: Road) -> None:
    [_, lease, pod, _] = road.engine._pod()

    def trouble(stack: Stack, operation: Operation) -> OperationOutcome | None:
        road.engine.write(stack, [lease, pod])
        return failed(operation, "boot-failed", "it did not boot")

    road.engine.trouble = trouble
    with pytest.raises(StillThere, match="still there: pod p0") as caught:
        environments.operate(road.context, STACK, "up", yes=True, as_json=False)
    assert "$1.00/h" in str(caught.value) and "invoke destroy --stack dev" in str(caught.value)

    road.cloud.set_faults(get=["error"])
    with pytest.raises(StillThere, match="whether it runs is not known"):
        environments.operate(road.context, STACK, "up", yes=True, as_json=False)
    road.cloud.terminate("p0")
    with pytest.raises(Exception, match="it did not boot") as told:
        environments.operate(road.context, STACK, "up", yes=True, as_json=False)
    assert not isinstance(told.value, StillThere)


@pytest.mark.parametrize("late", [True, False])
def test_a_declared_pod_that_outlived_its_lease_is_spent_until_it_was_ended(road: Road, late: bool) -> None:
    now, stack, ledger, lease = time.time(), road.context.stack(STACK), road.context.ledger(), new_id()
    name = str(PodName(lease, lease, "pod-0", "0" * 8))
    pod_id = road.cloud.add(name, lease, lease)
    told = {"name": name, "price_per_hour": 1.0, "created_at": format_time(now - 3 * 3600)}
    resources = [
        {"type": LEASES, "outputs": {"lease_id": lease, "end": format_time(now - 2 * 3600)}},
        {"type": POD, "id": pod_id, "outputs": told},
    ]
    ledger.add(RunId("ann", f"pods.{STACK}", int(now * 1000)), "pods declared", stack=STACK)
    if not late:
        road.cloud.terminate(pod_id)  # the reaper was there before

    alive = declaredpods.outlived(road.context, stack, resources)
    declaredpods.settle(road.context, stack, resources, Proof(ended=(EndedPod(pod_id, now, False),)), alive)

    assert sum(ledger.costs_since(0.0).values()) == pytest.approx(3.0 if late else 1.0, abs=0.01)


def test_destroy_ends_live_runs_only_when_agreed(road: Road) -> None:
    folder = road.prepare(name="a")
    rent.rent(road.context, folder.load(), folder)

    with pytest.raises(RefusedError, match="has live runs"):
        environments.operate(road.context, STACK, "destroy", yes=False, as_json=False)
    assert road.cloud.alive() == ["p0"]

    assert environments.operate(road.context, STACK, "destroy", yes=True, as_json=False) == 0
    assert road.cloud.alive() == [] and "live run   ann/a (up), $1.00/h" in road.said()


@pytest.mark.parametrize("verb", ["destroy", "cancel"])
def test_a_full_disk_keeps_no_pod_alive_that_a_person_ends(road: Road, monkeypatch: pytest.MonkeyPatch, verb: str) -> None:
    folder = road.prepare(name="a")
    rent.rent(road.context, folder.load(), folder)

    def full(root: Path, *_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device", str(root))

    monkeypatch.setattr(intents, "close", full)
    road.engine.trouble = lambda stack, operation: failed("destroy", "disk-full") if operation == "destroy" else None

    with pytest.raises(DiskFull):
        if verb == "cancel":
            attach.cancel(road.context, "ann/a", now=True)
        else:
            environments.operate(road.context, STACK, "destroy", yes=True, as_json=False)

    assert road.cloud.alive() == []


def test_end_proves_a_pod_gone_and_audit_tells_what_costs(road: Road, capsys: pytest.CaptureFixture[str]) -> None:
    folder = road.prepare(name="a")
    rent.rent(road.context, folder.load(), folder)

    assert account.audit(road.context, STACK, as_json=False) == 0
    assert account.end_pod(road.context, STACK, "p0") == 0

    assert road.cloud.alive() == [] and "p0" in road.said()


# --- results and logs ---------------------------------------------------------------------------------------------------------


def test_a_run_without_a_bucket_says_where_its_result_lies(road: Road, tmp_path: Path) -> None:
    road.run(name="a")

    with pytest.raises(UserError, match="has no bucket: its result lies in"):
        fetch(road.context, None, "a", tmp_path / "to", partial=False)
    with pytest.raises(UserError, match="stack 'dev' has no bucket"):
        fetch(road.context, STACK, "a", tmp_path / "to", partial=False)
    assert not (tmp_path / "to").exists()


def test_a_download_by_name_says_which_later_attempts_it_passed_over_and_how_to_have_them(road: Road, tmp_path: Path) -> None:
    newer = (Listed(ResultKey("ann", "a", 2), False, True, 1, 1, 0.0), Listed(ResultKey("ann", "a", 3), False, False, 1, 1, 0.0))
    road.patch(verb_fetch, "_of_stack", lambda *_: (None, "ann"))
    road.patch(verb_fetch, "list_results", lambda *_: [])
    road.patch(verb_fetch, "lone_commits", lambda *_: [])
    road.patch(verb_fetch, "claim_of", lambda *_: None)
    road.patch(verb_fetch, "download", lambda _, __, to, **___: Downloaded(ResultKey("ann", "a", 1), to, 1, 1, 0, "f" * 64, newer=newer))

    verb_fetch.tell(road.context.ui, fetch(road.context, STACK, "a", tmp_path / "to"), STACK)

    assert "taken      attempt 1 of ann/a" in road.said()
    assert (
        f"attempt 2 is newer and is no success; what was kept of it: invoke download ann/a/2 {tmp_path}/to.2 --stack dev\n" in road.said()
    )
    assert f"invoke download ann/a/3 {tmp_path}/to.3 --stack dev --partial\n" in road.said()


def test_a_download_of_a_run_without_a_result_says_why_and_what_comes_next(road: Road, tmp_path: Path) -> None:
    listed: list[Listed] = []
    road.patch(verb_fetch, "store_of", lambda *_: object())
    road.patch(verb_fetch, "list_results", lambda *_: listed)
    road.patch(verb_fetch, "lone_commits", lambda *_: [])
    folder = road.prepare(name="a")
    for phase, state, command in (
        ("started", "it is not over", "invoke attach ann/a"),
        ("ended", "nothing of it was kept", "invoke logs ann/a"),
    ):
        record = folder.load()
        record.phase = phase  # type: ignore[assignment]
        folder.save(record)
        with pytest.raises(UserError, match=f"attempt 1 of ann/a has no result: {state}") as told:
            fetch(road.context, None, "a", tmp_path / "to", partial=False)
        assert str(told.value.hint).endswith(command)

    listed.append(Listed(ResultKey("ann", "a", 7), True, False, 1, 1, 0.0))
    road.patch(verb_fetch, "claim_of", lambda *_: None)
    road.patch(verb_fetch, "download", lambda _, __, to, **___: Downloaded(ResultKey("ann", "a", 7), to, 1, 1, 0, "f" * 64))
    assert fetch(road.context, None, "a", tmp_path / "to").key.attempt == 7 and "attempt 1 of ann/a has no result" in road.said()


def test_a_download_of_a_result_that_another_runs_kept_out_of_the_bucket_says_where_it_lies(road: Road, tmp_path: Path) -> None:
    road.patch(verb_fetch, "store_of", lambda *_: object())
    folder = road.prepare(name="a")
    record = folder.load()
    record.result = RunResult(local_path="/out/ann/a", road="ssh", road_why="_SUCCESS belongs to another run")
    folder.save(record)

    with pytest.raises(UserError, match=r"not in its bucket \(_SUCCESS belongs to another run\): it lies in /out/ann/a"):
        fetch(road.context, None, "a", tmp_path / "to", partial=False)


def test_a_log_is_asked_of_the_pod_when_nobody_drives_the_run(road: Road) -> None:
    folder = road.prepare("echo hi; mkdir -p $OUTPUT_DIR/model; echo m >$OUTPUT_DIR/model/m", name="a")
    record = folder.load()
    rent.rent(road.context, record, folder)
    start.start(road.context, record, folder, pod_of(road.context, record))
    record.phase = "started"
    folder.save(record)

    assert b"hi\n" in shown(road, follow=True) and b"hi\n" in shown(road)
    assert not folder.log.is_file(), "what is shown is not kept: the next controller fetches it"
    assert drive(road.context, folder).success


def test_the_lease_of_a_run_is_on_its_pod(road: Road) -> None:
    folder = road.prepare(name="a")
    rent.rent(road.context, folder.load(), folder)

    assert road.cloud.state("p0")["lease_id"] == LEASE and folder.load().pod.lease_id == LEASE
