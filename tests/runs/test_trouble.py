"""Trouble of a controller, at any phase: told with its price, never the end of a started run, and the next command goes on."""

from __future__ import annotations

import contextlib
import errno
import io
import json
import os
import shutil
import signal
import sqlite3
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from trainyard.config import Places
from trainyard.errors import Detached, DiskFull, HostKeyChanged, PodFailed, StillThere, StoreError, Unreachable, UserError
from trainyard.files import write_atomic
from trainyard.ledger.ledger import Ledger
from trainyard.runs.context import CommandContext
from trainyard.runs.life import ahead, finish, follow, start, teardown
from trainyard.runs.life import drive as driving
from trainyard.runs.life.start import Unclear
from trainyard.runs.life.verdict import Verdict
from trainyard.runs.records import keepsake, pod
from trainyard.runs.records.keepsake import FolderDeleted
from trainyard.runs.records.parts import RunBucket, RunPod, RunResult
from trainyard.runs.records.record import PHASES, Phase, RunFolder, RunRecord
from trainyard.runs.records.summary import RunSummary, last_lines, summarize
from trainyard.runs.signals import LeaveSignal, leaving
from trainyard.runs.ui import Ui
from trainyard.runs.verbs.attach import attach, cancel, recover

TROUBLE = {
    "a merge conflict in the settings": UserError("Pulumi.lab.yaml:3:1: not YAML"),
    "a key that is not set": UserError("RUNPOD_API_KEY is not set"),
    "the bucket refuses": StoreError("403"),
    "the pod does not answer": Unreachable("no route"),
    "another host key": HostKeyChanged("another key"),
    "the pod says nonsense": PodFailed("Welcome!"),
    "a read-only folder": PermissionError(errno.EACCES, "Permission denied", "out"),
    "a closed terminal": OSError(errno.EIO, "Input/output error"),
    "a ledger that is no database": sqlite3.DatabaseError("file is not a database"),
    "no memory": MemoryError(),
    "a fault of ours": KeyError("price"),
    "an exit from below": SystemExit(1),
}
STEPS = {"started": (follow, "follow"), "trained": (finish, "commit")}


def committed(context: CommandContext, record: RunRecord, folder: RunFolder, pod: Any, known: object = None) -> Verdict:
    """Bring a result to safety."""
    record.training_success, record.result = True, RunResult(s3_url="s3://b/k", s3_key="k")
    return Verdict("training")


class Run:
    """One run whose every step is decided by the test; what it would have ended is counted."""

    def __init__(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, phase: Phase) -> None:
        self.screen = io.StringIO()
        places = Places(tmp_path, tmp_path / ".trainyard", tmp_path / "o", tmp_path / "c")
        self.context = CommandContext(places, {}, Ui(stream=self.screen))
        self.ended: list[str] = []
        record = RunRecord(
            "ann", "a", 1, "lab", "command", {}, "0", 1.0, time.time(), phase=phase, cloud="local", exit_code=0,
            pod=RunPod(pod_id="p1", price_per_hour=2.5, end="2999-01-01T00:00:00Z", lease_id="l", created_epoch=time.time()),
        )  # fmt: skip
        self.folder = RunFolder(record.id.folder(places.runs))
        self.folder.save(record)
        self.folder.log.touch()
        self.patch = monkeypatch.setattr
        self.patch(pod, "pod_of", lambda context, record: SimpleNamespace(address=SimpleNamespace(key_file=None), over=lambda **_: None))
        self.patch(driving, "rent", lambda *a: None)
        self.patch(driving, "created_of", lambda record: time.time())
        self.patch(driving, "isolation_of", lambda *a: None)
        self.patch(start, "start", lambda *a: None)
        self.patch(follow, "follow", lambda *a: None)
        self.patch(ahead, "beside", lambda *a: contextlib.nullcontext(SimpleNamespace(end=dict)))
        self.patch(finish, "commit", committed)
        self.patch(teardown, "destroy_run", lambda context, record, folder: self.ended.append(str(record.id)))

    def fails(self, step: tuple[object, str], error: BaseException) -> None:
        """Let a step raise."""

        def fail(*_: object) -> None:
            raise error

        self.patch(*step, fail)

    def drive(self) -> RunSummary:
        """Drive it."""
        return driving.drive(self.context, self.folder)


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Run]:
    return lambda phase: Run(tmp_path, monkeypatch, phase)


@pytest.mark.parametrize("phase", STEPS)
@pytest.mark.parametrize("trouble", TROUBLE)
def test_from_started_on_no_trouble_ends_a_pod_and_the_next_command_goes_on(run: Callable[..., Run], phase: str, trouble: str) -> None:
    it = run(phase)
    before = it.folder.load()
    it.fails(STEPS[phase], TROUBLE[trouble])

    with pytest.raises(StillThere) as told:
        it.drive()

    assert it.ended == [] and it.folder.load().phase == phase and it.folder.load().error is None
    for text in ("pod p1", "$2.50/h", "2999-01-01T00:00:00Z", "invoke attach ann/a", "invoke cancel ann/a --now"):
        assert text in str(told.value), told.value
    assert str(TROUBLE[trouble] if not isinstance(TROUBLE[trouble], (OSError, MemoryError, SystemExit)) else "") in str(told.value)

    it.patch(*STEPS[phase], (lambda *a: None) if phase == "started" else committed)
    assert it.drive().exit_status == 0 and it.ended == ["ann/a"], "the next command goes on"
    assert before.pod == it.folder.load().pod


@pytest.mark.parametrize("phase", STEPS)
def test_a_full_disk_is_74_whatever_stands_between_it_and_the_driver(run: Callable[..., Run], phase: str) -> None:
    it = run(phase)

    def full(*_: Any) -> None:
        try:
            raise OSError(errno.ENOSPC, "No space left on device", "out/model.bin")
        except OSError as error:
            raise StoreError("and over SSH: No space left on device") from error

    it.patch(*STEPS[phase], full)

    with pytest.raises(DiskFull, match=r"out/model\.bin") as told:
        it.drive()

    assert told.value.exit_code == 74 and it.ended == []
    assert "invoke attach ann/a" in str(told.value) and "$2.50/h" in str(told.value)
    assert "Free some space on the disk at /" in str(told.value)


def test_a_fault_of_ours_keeps_its_traceback_in_a_file_and_says_where(run: Callable[..., Run]) -> None:
    it = run("started")
    it.fails(STEPS["started"], KeyError("price"))

    with pytest.raises(StillThere) as told:
        it.drive()

    (kept,) = it.context.places.logs.glob("fault-*.txt")
    assert str(kept) in str(told.value) and "KeyError: 'price'" in str(told.value)
    assert "Traceback" in kept.read_text() and "Traceback" not in str(told.value)


@pytest.mark.parametrize("left", [KeyboardInterrupt(), LeaveSignal("SIGTERM"), LeaveSignal("SIGHUP")], ids=["Ctrl-C", "TERM", "HUP"])
def test_who_leaves_is_told_what_stays_and_what_it_costs(run: Callable[..., Run], left: LeaveSignal | KeyboardInterrupt) -> None:
    it = run("started")
    it.fails(STEPS["started"], left)

    with pytest.raises(Detached) as told:
        it.drive()

    assert it.ended == [] and told.value.exit_code == 11
    for text in ("Ctrl-C" if not str(left) else str(left), "pod p1", "$2.50/h", "2999-01-01", "invoke attach ann/a", "invoke cancel ann/a"):
        assert text in str(told.value)


def test_who_leaves_a_cancelled_run_is_not_told_that_its_training_goes_on(run: Callable[..., Run]) -> None:
    it = run("started")
    it.folder.cancel(now=False)
    it.fails(STEPS["started"], KeyboardInterrupt())

    with pytest.raises(Detached, match="the training saves and stops, at the latest when somebody comes back") as told:
        it.drive()

    assert "goes on" not in told.value.message and "invoke cancel ann/a --now" in str(told.value.hint)


def test_who_leaves_the_way_to_safety_by_a_second_ctrl_c_exits_11_and_is_told_what_stays(
    run: Callable[..., Run], monkeypatch: pytest.MonkeyPatch
) -> None:
    it = run("trained")
    codes: list[int] = []
    monkeypatch.setattr(os, "_exit", codes.append)

    def twice(*words: Any) -> Verdict:
        for _ in range(2):
            signal.raise_signal(signal.SIGINT)
        return committed(*words)

    it.patch(finish, "commit", twice)
    it.drive()

    assert codes == [Detached.exit_code]
    told = " ".join(it.screen.getvalue().split())
    for text in ("detached (told twice)", "pod p1", "$2.50/h", "2999-01-01", "invoke attach ann/a", "invoke cancel ann/a"):
        assert text in told


def test_the_last_lines_of_a_log_are_told_once(run: Callable[..., Run]) -> None:
    it = run("trained")
    it.patch(finish, "commit", lambda *a: Verdict("training", "the training exited 1\n  the last line", 1))

    lines = last_lines(it.drive(), None)

    assert (it.screen.getvalue() + "\n".join(lines)).count("the last line") == 1 and "exited 1" in it.screen.getvalue()


@pytest.mark.parametrize("trouble", [UserError("no"), KeyError("x"), MemoryError(), KeyboardInterrupt(), SystemExit(1)], ids=repr)
def test_before_the_start_nothing_of_value_is_there_and_any_failure_ends_the_pod(run: Callable[..., Run], trouble: Any) -> None:
    it = run("up")
    it.fails((start, "start"), trouble)

    summary = it.drive()

    assert it.ended == ["ann/a"] and summary.exit_status not in (0, 1, 6) and not summary.training_success


def test_before_the_start_a_teardown_that_fails_is_told(run: Callable[..., Run]) -> None:
    it = run("up")
    it.fails((start, "start"), UserError("no such file"))
    it.fails((teardown, "destroy_run"), UserError("RUNPOD_API_KEY is not set"))

    with pytest.raises(StillThere, match="RUNPOD_API_KEY is not set") as told:
        it.drive()

    assert "pod p1" in str(told.value) and "invoke end p1 --stack lab" in str(told.value)


@pytest.mark.parametrize("state", ["running", "exited", "absent"])
def test_a_controller_that_died_at_the_start_may_have_started_it_so_the_pod_is_asked(
    run: Callable[..., Run], monkeypatch: pytest.MonkeyPatch, state: str
) -> None:
    it = run("up")
    record = it.folder.load()
    record.starting = True
    it.folder.save(record)
    monkeypatch.setattr(driving, "_ask_the_pod", lambda context, record, folder: state != "absent")
    it.fails((start, "start"), PodFailed("data.jsonl is not here any more"))
    it.fails(STEPS["started"], UserError("later"))

    if state == "absent":
        assert it.drive().exit_status == 10 and it.ended
    else:
        with pytest.raises(StillThere, match="later"):
            it.drive()
        assert it.ended == [] and it.folder.load().phase == "started"


@pytest.mark.parametrize(
    "trouble", [start.Unclear("the connection was lost while a command ran"), MemoryError(), PodFailed("no answer")], ids=repr
)
def test_a_job_that_began_though_its_start_failed_is_followed_and_its_pod_lives(
    run: Callable[..., Run], monkeypatch: pytest.MonkeyPatch, trouble: PodFailed | Unclear | MemoryError
) -> None:
    it = run("up")
    it.fails((start, "start"), trouble)
    monkeypatch.setattr(driving, "_ask_the_pod", lambda context, record, folder: True)

    assert it.drive().exit_status == 0

    assert "The training has begun all the same" in it.screen.getvalue() and it.folder.load().training_success


@pytest.mark.parametrize(("trouble", "left"), [(start.Unclear("the connection was lost"), True), (Unreachable("no route"), False)])
def test_where_the_pod_does_not_tell_only_a_start_that_was_sent_leaves_it(
    run: Callable[..., Run], monkeypatch: pytest.MonkeyPatch, trouble: Unreachable | Unclear, left: bool
) -> None:
    it = run("up")
    it.fails((start, "start"), trouble)
    it.fails((driving, "_ask_the_pod"), Unreachable("still no route"))
    monkeypatch.setattr(driving, "LINK", SimpleNamespace(pause=lambda attempt: 0.0))

    if not left:
        assert it.drive().exit_status == 5 and it.ended == ["ann/a"]
        return
    with pytest.raises(StillThere, match="the connection was lost") as told:
        it.drive()
    assert it.ended == [] and "invoke attach ann/a" in str(told.value) and it.folder.load().starting


def test_a_start_of_which_nothing_is_known_is_left_as_it_is(run: Callable[..., Run], monkeypatch: pytest.MonkeyPatch) -> None:
    it = run("up")
    record = it.folder.load()
    record.starting = True
    it.folder.save(record)
    it.fails((driving, "_ask_the_pod"), Unreachable("no route"))

    with pytest.raises(StillThere, match="no route"):
        it.drive()

    assert it.ended == []


@pytest.mark.parametrize(
    ("verdict", "code"),
    [
        (Verdict("cloud", "the cloud says that pod p1 is gone", 4), 4),
        (Verdict("lease", "over", 4), 4),
        (Verdict("person", "cancelled", 1), 1),
    ],
)
def test_the_cloud_the_lease_and_a_person_end_a_run_and_the_code_says_who(run: Callable[..., Run], verdict: Verdict, code: int) -> None:
    it = run("started")
    it.patch(follow, "follow", lambda *a: verdict)

    summary = it.drive()

    assert summary.exit_status == code and summary.error == verdict.error and it.ended == ["ann/a"]


@pytest.mark.parametrize("phase", ["up", "started", "trained"])
def test_a_person_ends_a_run_though_nothing_can_be_written_here(
    run: Callable[..., Run], monkeypatch: pytest.MonkeyPatch, phase: str
) -> None:
    it = run(phase)

    def full(*_: RunRecord, **__: bool) -> None:
        raise OSError(errno.ENOSPC, "No space left on device", "run.json")

    for name in ("cancel", "save"):
        monkeypatch.setattr(it.folder, name, full)
    monkeypatch.setattr(CommandContext, "folder", lambda *_: it.folder)
    it.fails(STEPS["started"], AssertionError("followed"))

    summary = cancel(it.context, "a", now=True)

    assert summary is not None and it.ended == ["ann/a"] and summary.cancelled and summary.exit_status == 1


@pytest.mark.parametrize(
    ("phase", "now", "words"),
    [
        ("up", False, "it is told"),
        ("started", False, "the training is told to stop"),
        ("trained", False, "its training is done, and what it"),
        ("trained", True, "nothing more is saved"),
    ],
)
def test_a_cancel_beside_another_controller_says_what_it_did(
    run: Callable[..., Run], monkeypatch: pytest.MonkeyPatch, phase: str, now: bool, words: str
) -> None:
    it = run(phase)
    monkeypatch.setattr(CommandContext, "folder", lambda *_: RunFolder(it.folder.path))

    with it.folder.driving():
        assert cancel(it.context, "a", now=now) is None

    assert f"cancel     {words}" in it.screen.getvalue() and it.folder.cancelled and it.ended == []


def test_a_store_that_cannot_be_read_any_more_spoils_no_run_that_is_over(run: Callable[..., Run], monkeypatch: pytest.MonkeyPatch) -> None:
    it = run("ended")

    def closed(*_: CommandContext | dict[str, str]) -> None:
        raise PermissionError(errno.EACCES, "Permission denied", "store/credentials")

    monkeypatch.setattr(finish, "store_of", closed)

    assert finish.sync_line(it.context, replace(summarize(it.folder.load(), it.folder), bucket=RunBucket("b"), s3_key="k")) is None


def test_a_cancel_that_saves_is_refused_when_its_word_cannot_be_left(run: Callable[..., Run], monkeypatch: pytest.MonkeyPatch) -> None:
    it = run("started")
    monkeypatch.setattr(CommandContext, "folder", lambda *_: it.folder)
    monkeypatch.setattr(it.folder, "cancel", lambda **_: it.folder.path.joinpath("no/such").write_text(""))

    with pytest.raises(StillThere, match="invoke cancel ann/a --now"):
        cancel(it.context, "a")

    assert it.ended == []


def test_a_verdict_that_cannot_be_written_down_still_ends_the_pod(run: Callable[..., Run], monkeypatch: pytest.MonkeyPatch) -> None:
    it = run("trained")
    save = it.folder.save

    def full(record: RunRecord) -> None:
        if record.reached("committed"):
            raise OSError(errno.ENOSPC, "No space left on device", "run.json")
        save(record)

    monkeypatch.setattr(it.folder, "save", full)

    summary = it.drive()

    assert it.ended == ["ann/a"] and summary.exit_status == 74
    assert "the pod of ann/a is gone" in it.screen.getvalue()


@pytest.mark.parametrize("phase", ["started", "trained"])
def test_a_ledger_that_cannot_be_used_costs_no_training(run: Callable[..., Run], phase: str) -> None:
    it = run(phase)
    it.context.places.ledger.parent.mkdir(parents=True, exist_ok=True)
    it.context.places.ledger.write_bytes(b"no database at all" * 100)

    summary = it.drive()

    assert it.ended == ["ann/a"] and summary.exit_status == 0
    assert "the ledger cannot be written" in it.screen.getvalue()


@pytest.mark.parametrize("phase", STEPS)
def test_a_folder_that_is_deleted_under_its_controller_is_written_again(run: Callable[..., Run], phase: str) -> None:
    it = run(phase)
    it.folder.config.write_text("config: {}\n")
    calls = []

    def lost_once(*_: Any) -> Verdict | None:
        calls.append(1)
        if len(calls) == 1:
            shutil.rmtree(it.context.places.home)
            raise FileNotFoundError(errno.ENOENT, "was deleted", "run.json")
        return None if phase == "started" else committed(*_)

    it.patch(*STEPS[phase], lost_once)

    assert it.drive().exit_status == 0

    assert it.ended == ["ann/a"] and it.folder.load().phase == "ended" and it.folder.config.read_text() == "config: {}\n"


@pytest.mark.parametrize("moment", ["between", "while written", "record first"])
def test_a_deletion_that_goes_on_while_the_folder_is_written_again_costs_nothing(
    run: Callable[..., Run], monkeypatch: pytest.MonkeyPatch, moment: str
) -> None:
    it = run("started")
    calls: list[int] = []
    lock = it.folder.driving

    def deleted_once(*_: Any) -> None:
        calls.append(1)
        if len(calls) == 1:
            (it.folder.path / "run.json").unlink()
            if moment != "record first":  # else the stage's end writes it again, and nothing seems to be missing
                shutil.rmtree(it.context.places.home)
            raise FolderDeleted(it.folder.path / "run.json")

    def again(call: Callable[..., Any], which: int) -> Callable[..., Any]:
        seen: list[int] = []

        def then(*words: Any, **options: Any) -> Any:
            seen.append(1)
            if len(seen) == which and calls:
                shutil.rmtree(it.context.places.home, ignore_errors=True)
            return call(*words, **options)

        return then

    if moment == "between":
        monkeypatch.setattr(it.folder, "driving", again(lock, 2))
    elif moment == "while written":
        monkeypatch.setattr(keepsake, "write_atomic", again(write_atomic, 1))
    it.patch(*STEPS["started"], deleted_once)

    assert it.drive().exit_status == 0

    assert it.ended == ["ann/a"] and it.folder.load().phase == "ended" and len(calls) == 2


@pytest.mark.parametrize("number", [errno.EACCES, errno.EIO, errno.ESTALE], ids=errno.errorcode.get)
@pytest.mark.parametrize("phase", STEPS)
def test_a_state_folder_that_answers_nothing_any_more_is_told_with_the_pod(
    run: Callable[..., Run], monkeypatch: pytest.MonkeyPatch, phase: str, number: int
) -> None:
    it = run(phase)
    real = Path.stat

    def broken(path: Path, **options: Any) -> os.stat_result:
        if it.folder.path in (path, *path.parents):
            raise OSError(number, os.strerror(number), str(path))
        return real(path, **options)

    def breaks(*_: Any) -> None:
        monkeypatch.setattr(Path, "stat", broken)
        raise OSError(number, os.strerror(number), "run.json")

    it.patch(*STEPS[phase], breaks)

    with pytest.raises(StillThere) as told:
        it.drive()

    monkeypatch.setattr(Path, "stat", real)
    assert it.ended == [] and os.strerror(number) in str(told.value)
    for text in ("pod p1", "$2.50/h", "invoke attach ann/a"):
        assert text in str(told.value), told.value


@pytest.mark.parametrize(
    "damage",
    [{"phase": "begun"}, {"pod": None}, {"pods": [1]}, {"pods": [{"pod_id": "p"}]}, {"attempt": "1"}, {"bucket": "b"}, {"stages": []},
     {"hours": "1"}, {"result": []}, {"error": 7}],
    ids=str,
)  # fmt: skip
@pytest.mark.parametrize("verb", ["attach", "cancel", "recover"])
def test_a_damaged_record_is_told_by_code_6_and_changes_nothing(
    run: Callable[..., Run], monkeypatch: pytest.MonkeyPatch, verb: str, damage: dict[str, Any]
) -> None:
    it = run("started")
    path = it.folder.path / "run.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | damage))
    before = path.read_bytes()
    monkeypatch.setattr(CommandContext, "folder", lambda *_: it.folder)
    calls: dict[str, Callable[[], object]] = {
        "attach": lambda: attach(it.context, "a"),
        "cancel": lambda: cancel(it.context, "a", now=True),
        "recover": lambda: recover(it.context),
    }

    with pytest.raises(StillThere, match="the record of this run cannot be read") as told:
        calls[verb]()

    assert it.ended == [] and path.read_bytes() == before and "invoke reap --all-stacks --dry-run" in str(told.value)


def test_phases_are_known_to_this_test() -> None:
    assert set(STEPS) == set(PHASES[PHASES.index("started") : PHASES.index("committed")])


@pytest.mark.parametrize(
    "error", [BrokenPipeError(errno.EPIPE, "Broken pipe"), OSError(errno.EIO, "Input/output error")], ids=["pipe", "terminal"]
)
def test_a_screen_that_goes_away_is_nobodys_trouble(error: BrokenPipeError | OSError) -> None:
    class Gone(io.StringIO):
        def write(self, text: str) -> int:
            raise error

    ui = Ui(stream=Gone())

    for say in (ui.say, ui.warn, ui.fail):
        say("once more")
    with ui.stage("train", "nobody reads"):
        pass


@pytest.mark.parametrize(("ignored", "raised"), [(False, True), (True, False)], ids=["terminal", "nohup"])
def test_a_hangup_makes_a_controller_leave_in_words_but_not_under_nohup(ignored: bool, raised: bool) -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN if ignored else signal.SIG_DFL)
    try:
        with contextlib.ExitStack() as stack:
            told = stack.enter_context(pytest.raises(LeaveSignal, match="SIGHUP")) if raised else None
            with leaving():
                os.kill(os.getpid(), signal.SIGHUP)
        assert (told is not None) is raised
        assert signal.getsignal(signal.SIGHUP) is (signal.SIG_IGN if ignored else signal.SIG_DFL)
    finally:
        signal.signal(signal.SIGHUP, before)


def test_a_pod_that_is_gone_is_no_loss_while_its_bucket_cannot_be_asked(run: Callable[..., Run]) -> None:
    it = run("started")
    it.patch(follow, "follow", lambda *a: Verdict("cloud", "the cloud says that pod p1 is gone", 4))
    it.fails((finish, "find_result"), StoreError("403"))

    with pytest.raises(StillThere, match="the cloud says that pod p1 is gone, and whether the result of ann/a has reached its bucket"):
        it.drive()
    assert it.folder.load().error is None and it.ended == []

    it.patch(finish, "find_result", lambda context, record, folder: committed(context, record, folder, None))
    assert it.drive().success


def test_a_damaged_ledger_is_named_with_the_way_out_before_anything_is_rented(tmp_path: Path) -> None:
    path = tmp_path / "ledger.db"
    ledger = Ledger(path)
    path.write_bytes(b"no database at all" * 100)

    with pytest.raises(UserError, match="the ledger cannot be used") as told:
        sum(ledger.costs_since(0.0).values())

    assert f"mv {path} " in str(told.value)
