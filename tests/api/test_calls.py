"""The Python API without a run: what it offers, what it loads, what it raises, and that it changes nothing of its process."""

from __future__ import annotations

import ast
import dataclasses
import inspect
import logging
import os
import pickle
import re
import signal
import subprocess
import sys
import threading
import types
from collections.abc import Callable, Iterator
from datetime import date, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any, assert_type

import pytest

import trainyard
from trainyard.api.arguments import KINDS, UNREAD
from trainyard.api.follower import RunFailed, checked
from trainyard.api.listener import _MOST, EventListener
from trainyard.api.work import Work, finish
from trainyard.config import places
from trainyard.errors import Detached, LimitReached, Location, OwnFault, TrainyardError, UserError
from trainyard.runs.context import CommandContext
from trainyard.runs.life.follow import watch_files
from trainyard.runs.records.record import RunFolder, RunRecord
from trainyard.runs.records.summary import summarize
from trainyard.runs.signals import leave_if_asked, leaving

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "python.md").read_text(encoding="utf-8")
CALLS = ("cancel", "download", "follow", "rerun", "resume", "runs", "show", "submit", "train")
RESULTS = (trainyard.StateEvent, trainyard.ProgressEvent, trainyard.LogEvent, trainyard.MessageEvent)


def repository(folder: Path, env_file: str = "") -> Path:
    """Make a repository of Trainyard's, with nothing in it."""
    folder.mkdir(exist_ok=True)
    (folder / "Pulumi.yaml").write_text("name: trainyard\nruntime: python\n")
    (folder / "Pulumi.local.yaml").write_text("config:\n  trainyard:cloud: local\n")
    if env_file:
        (folder / ".env").write_text(env_file)
        (folder / ".env").chmod(0o600)
    return folder


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A repository of its own; afterwards nothing of the process may have changed."""
    for name in ("TRAINYARD_HOME", "TRAINYARD_PROJECT_DIR", "TRAINYARD_LEDGER"):
        monkeypatch.delenv(name, raising=False)
    before = process()
    yield repository(tmp_path / "repository")
    assert process() == before


def process() -> tuple[object, ...]:
    """Return what a call may not change."""
    environ = {name: value for name, value in os.environ.items() if name != "PYTEST_CURRENT_TEST"}
    return environ, os.getcwd(), [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)]


# What is offered


def test_every_public_name_parameter_and_field_is_on_the_page_and_every_name_of_the_page_is_there() -> None:
    named = set(re.findall(r"`(?:\.|following\.)?(\w+)`", PAGE))
    fields = {field.name for kind in RESULTS for field in dataclasses.fields(kind)}
    parameters = {name for call in CALLS for name in inspect.signature(getattr(trainyard, call)).parameters}

    assert sorted((set(trainyard.__all__) | fields | parameters) - named - set(re.findall(r"`trainyard\.(\w+)`", PAGE))) == []
    assert [name for name in re.findall(r"\btrainyard\.(\w+)", PAGE) if not hasattr(trainyard, name)] == []


def test_what_types_are_told_of_and_what_is_loaded_are_the_same_names() -> None:
    told = next(node for node in ast.parse(inspect.getsource(trainyard)).body if isinstance(node, ast.If))
    names = {(f"{node.module}", alias.asname) for node in told.body if isinstance(node, ast.ImportFrom) for alias in node.names}

    homes = {(f"trainyard.{home}", name) for name, home in trainyard._HOME_OF.items()}
    assert names == homes | {("trainyard", "errors")}
    assert all(inspect.getdoc(getattr(trainyard, name)) for name in trainyard.__all__ if name != "TrainingEvent")
    with pytest.raises(AttributeError, match="no attribute 'trian'"):
        trainyard.__getattr__("trian")


def test_importing_it_loads_nothing_and_listing_runs_neither_s3_nor_pulumi() -> None:
    heavy = ["botocore", "pulumi", "grpc", "paramiko", "sqlalchemy", "rich", "asyncio"]
    code = (
        f"import sys, trainyard; print([n for n in sys.modules if n.startswith('trainyard.')], [n for n in {heavy} if n in sys.modules])\n"
        f"trainyard.runs, trainyard.train; print([n for n in {heavy} if n in sys.modules and n not in ('rich',)])"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)

    assert done.stdout.splitlines() == ["[] []", "[]"]


def test_the_call_and_the_room_of_its_name_are_one(root: Path) -> None:
    room = sys.modules["trainyard.runs"]

    assert callable(room) and room is trainyard.runs  # this process has loaded the room
    assert trainyard.runs(root=root) == () == trainyard.runs(root=root, since=timedelta(days=1), state="live", limit=3)


def test_a_users_program_meets_one_object_whatever_it_does_with_that_name_first() -> None:
    code = """if True:
        import copy, inspect, pickle, sys, trainyard
        from unittest import mock
        with mock.patch("trainyard.runs", autospec=True) as fake:
            trainyard.runs(limit=1)
            fake.assert_called_once_with(limit=1)
        from trainyard import runs
        import trainyard.runs.events as events
        assert runs is trainyard.runs is sys.modules["trainyard.runs"] and callable(runs) and not isinstance(runs, mock.NonCallableMock)
        assert pickle.loads(pickle.dumps(runs)) is runs is copy.deepcopy(runs)
        assert "since" in inspect.signature(runs).parameters and events.StateEvent is trainyard.StateEvent
    """
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)

    assert (done.returncode, done.stderr) == (0, "")


def types_of_a_users_program() -> None:
    """What mypy, strict as a user's may be, has to know: never run, checked by the project's own mypy."""
    assert_type(trainyard.train(["python", "train.py"], values={"a": 1}, on_event=print), trainyard.RunSummary)
    assert_type(trainyard.resume("a", values={"lr": 1e-4}), trainyard.RunSummary)
    assert_type(trainyard.rerun("a", stack="runpod"), trainyard.RunSummary)
    assert_type(trainyard.submit(not_before=timedelta(hours=2)).estimate, float | None)
    assert_type(trainyard.cancel("a"), trainyard.RunSummary | trainyard.QueueEntry | None)
    assert_type(trainyard.runs(), tuple[trainyard.ListedRun, ...])
    assert_type(trainyard.show("a").summary, trainyard.RunSummary)
    assert_type(trainyard.download("a", "b").paths, tuple[Path, ...])
    for event in trainyard.follow("a"):
        assert_type(event, trainyard.StateEvent | trainyard.ProgressEvent | trainyard.LogEvent | trainyard.MessageEvent)
    assert_type(trainyard.follow("a").result(), trainyard.RunSummary)
    assert_type(trainyard.errors.UserError("a").exit_code, int)


# Errors


def test_mistakes_are_the_documented_errors_and_nothing_is_printed(root: Path, capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(UserError, match="there is no such state"):
        trainyard.runs(root=root, state="lost")
    with pytest.raises(UserError, match="there is no stack 'nowhere'"):
        trainyard.train(root=root, stack="nowhere")
    with pytest.raises(UserError, match="hours must be"):
        trainyard.train(root=root, hours=-1)
    with pytest.raises(UserError, match="steps"):
        trainyard.train(root=root, recipe="lora", values={"steps": "many"})
    with pytest.raises(UserError, match="--after a/b/c: a run is named"):
        trainyard.submit(root=root, recipe="lora", after=["a/b/c"], key="k")
    for again in (trainyard.resume, trainyard.rerun):
        with pytest.raises(UserError, match=r"no run 'a'|what 'a' ran is known neither|no bucket yet"):
            again("a", values={"lr": 1e-4, "packing": True}, root=root)
    with pytest.raises(UserError, match="no run"):
        trainyard.follow("a", root=root).result()
    with pytest.raises(UserError, match="no run"):
        trainyard.cancel("a", root=root)
    with pytest.raises(UserError, match=f"root='{root.parent}'.* is no repository") as told:
        trainyard.show("a", root=root.parent)

    assert (told.value.exit_code, told.value.hint) == (2, "To make it one: trainyard init")
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize(
    ("call", "arguments", "says"),
    [
        ("train", {"key": 5}, "key must be text, not 5"),
        ("train", {"stack": None}, "stack must be text, not None"),
        ("train", {"recipe": Path("lora")}, "recipe must be text"),
        ("train", {"hours": timedelta(hours=2)}, "hours must be a number"),
        ("train", {"values": ["steps=3"]}, "values must be a mapping of names to values"),
        ("train", {"values": {"a": {1: 2}}}, "each name in values must be text, not 1"),
        ("train", {"command": "python train.py"}, "command must be a list of texts, not 'python train.py'\nLike: ['python', 'train.py']"),
        ("train", {"command": ["sleep", 1]}, "each part of command must be text, not 1"),
        ("train", {"data": 5}, "data must be a path, not 5"),
        ("submit", {"after": "ann/a"}, "after must be a list of texts, not 'ann/a'"),
        ("submit", {"priority": 0.5}, "priority must be a whole number, not 0.5"),
        ("rerun", {"run": "a", "values": "a=1"}, "values must be a mapping"),
        ("resume", {"run": "a", "budget": [1]}, "budget must be a number, not [1]"),
        ("follow", {"run": 5}, "run must be text, not 5"),
        ("show", {"run": None}, "run must be text, not None"),
        ("cancel", {"run": 5}, "run must be text, not 5"),
        ("download", {"run": "a", "to": None}, "to must be a path, not None"),
        ("runs", {"since": 5}, "since must be text or a date or a timedelta, not 5"),
        ("runs", {"root": 5}, "root must be a path, not 5"),
    ],
)
def test_an_argument_of_the_wrong_kind_is_the_callers_mistake_and_is_named(
    call: str, arguments: dict[str, Any], says: str, root: Path
) -> None:
    with pytest.raises(UserError, match=f"^{re.escape(says)}"):
        getattr(trainyard, call)(**{"root": root, **arguments})


def test_a_moment_may_be_a_date_and_money_may_be_a_decimal(root: Path) -> None:
    assert trainyard.runs(root=root, since=date(2026, 11, 29)) == ()
    with pytest.raises(UserError, match="steps"):
        trainyard.train(root=root, recipe="lora", budget=Decimal("4.50"), key="a", values={"steps": "many"})  # type: ignore[arg-type]


def test_a_run_that_was_submitted_is_taken_out_by_cancel(root: Path) -> None:
    entry = trainyard.submit(["true"], values={"code": "none"}, root=root, name="waits")
    out = trainyard.cancel("waits", root=root)

    assert isinstance(out, trainyard.QueueEntry)
    assert (out.id, out.state, out.outcome) == (entry.id, "over", "withdrawn")


def test_every_annotation_of_a_call_is_one_that_arguments_are_held_against() -> None:
    told = {
        parameter.annotation
        for name in CALLS
        for parameter in inspect.signature(getattr(trainyard, name)).parameters.values()
        if parameter.annotation not in UNREAD
    }
    assert sorted(part for annotation in told for part in annotation.split(" | ") if part not in KINDS) == []


def test_every_error_that_the_page_names_is_there() -> None:
    rows = re.findall(r"^\| ((?:`[\w.]+`(?:, )?)+) \|", PAGE[PAGE.index("## Errors") :], re.MULTILINE)
    named = [name for row in rows for name in re.findall(r"`([\w.]+)`", row)]

    assert "trainyard.RunFailed" in named
    assert [name for name in named if not hasattr(trainyard if "." in name else trainyard.errors, name.removeprefix("trainyard."))] == []


def test_what_only_a_process_can_have_is_refused_in_env_alone(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    repository(root, "HTTPS_PROXY=http://proxy:1\nTRAINYARD_USER=ann\n")
    for name in ("HTTPS_PROXY", "https_proxy"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(UserError, match="sets HTTPS_PROXY, which a Python process has to have"):
        trainyard.runs(root=root)


def test_a_fault_of_ours_is_told_as_one_and_the_worst_as_itself(root: Path) -> None:
    def broken(context: CommandContext) -> None:
        raise KeyError("x")

    with pytest.raises(OwnFault, match="its traceback is in") as told:
        finish(root, broken, None)
    assert isinstance(told.value.__cause__, KeyError)


def test_a_run_that_has_not_succeeded_is_an_error_with_its_code_unless_it_is_asked_for() -> None:
    wrong: Any = types.SimpleNamespace(
        run="ann/a", success=False, cancelled=False, stopped=False, error="no capacity", resume=None, exit_status=4
    )  # fmt: skip
    with pytest.raises(trainyard.RunFailed, match="run ann/a failed: no capacity") as told:
        checked(wrong, check=True)

    assert told.value.exit_code == 4 and told.value.summary is wrong
    assert checked(wrong, check=False) is wrong


# Work in a thread


def waits(context: CommandContext) -> str:
    """Go on until the caller wants to leave, as a training that is followed does."""
    context.ui.say("begins")
    with leaving():
        for _ in range(500):
            threading.Event().wait(0.01)
            try:
                leave_if_asked(context.ui.leaves)
            except KeyboardInterrupt as left:
                raise Detached(f"{left} has left; the training goes on") from None
    return "nobody left"


def test_an_exception_in_the_callers_thread_leaves_the_run_and_goes_on(root: Path) -> None:
    class Terminated(Exception):
        """What a scheduler raises in its task."""

    def stop(event: object) -> None:
        raise Terminated

    with pytest.raises(Terminated) as told:
        finish(root, waits, stop)
    assert told.value.__notes__ == ["its caller has left; the training goes on"]


def test_a_ctrl_c_tells_what_has_become_of_the_run(root: Path) -> None:
    def press(event: object) -> None:
        signal.raise_signal(signal.SIGINT)

    with pytest.raises(Detached, match="the training goes on"):
        finish(root, waits, press)


def test_calls_in_several_threads_have_a_repository_and_an_environment_each(root: Path, tmp_path: Path) -> None:
    roots = [repository(tmp_path / name, f"TRAINYARD_USER={name}\n") for name in ("ann", "ben", "eve")]
    together = threading.Barrier(len(roots))
    seen: dict[str, tuple[Path, str]] = {}

    def look(folder: Path) -> Callable[[CommandContext], None]:
        def call(context: CommandContext) -> None:
            together.wait(10)
            seen[folder.name] = context.places.root, context.env["TRAINYARD_USER"]

        return call

    works = [Work(folder, look(folder)) for folder in roots]
    for work in works:
        work.outcome()
    assert seen == {folder.name: (folder, folder.name) for folder in roots}


def test_a_call_handles_no_signal_also_where_a_verb_would(root: Path) -> None:
    def call(context: CommandContext) -> bool:
        before = signal.getsignal(signal.SIGTERM)
        with leaving():
            return signal.getsignal(signal.SIGTERM) is before

    assert finish(root, call, None)


def test_messages_go_to_the_logger_and_of_what_nobody_takes_the_oldest_is_dropped(caplog: pytest.LogCaptureFixture) -> None:
    listener = EventListener()
    with caplog.at_level(logging.INFO, "trainyard"):
        listener.warn("a warning")
    listener.log([b"line %d" % number for number in range(_MOST + 5)], shown=False)
    listener.end()

    assert [record.getMessage() for record in caplog.records] == ["a warning"]
    assert listener.take() == trainyard.LogEvent("line 5") and listener.missed == 6
    assert not listener.agreed("Send it?")


def test_a_follower_gives_its_result_as_any_generator_does(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    summary: Any = types.SimpleNamespace(exit_status=0)

    def come_back(context: CommandContext, run: str) -> object:
        context.ui.warn(run)
        return summary

    monkeypatch.setattr("trainyard.runs.verbs.attach.attach", come_back)
    follower = trainyard.follow("a", root=root)

    assert next(follower) == trainyard.MessageEvent("warning", "a")
    with pytest.raises(StopIteration) as over:
        next(follower)
    assert over.value.value is summary
    assert follower.result() is summary and list(follower) == []


def test_a_follower_that_is_left_leaves_the_run_and_says_only_what_costs_money(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("trainyard.runs.verbs.attach.attach", lambda context, run: waits(context))
    with trainyard.follow("a", root=root) as follower:
        assert next(follower) == trainyard.MessageEvent("info", "begins")
    with pytest.raises(TrainyardError, match="goes on"):
        follower.result()


def test_a_run_that_another_process_drives_is_told_of_by_what_that_one_writes(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    record = RunRecord(
        user="ann", label="a", attempt=1, environment="local", recipe="lora", values={}, bundle_sha256="0", hours=1.0, created=1.0,
        token="t", phase="started",
    )  # fmt: skip
    listener = EventListener()
    context = CommandContext(places(root, {"HOME": str(root)}), {}, listener)
    folder = RunFolder(record.id.folder(context.places.runs))
    folder.path.mkdir(parents=True)
    folder.save(record)
    writes: Iterator[Callable[[], object]] = iter(
        [
            lambda: folder.log.write_bytes(b"epoch 1\nepo"),
            lambda: folder.log.write_bytes(b"epoch 1\nepoch 2\n"),
            lambda: folder.metrics.write_text('{"step": 1, "total_steps": 4, "loss": 2.5, "lr": 0.1, "tokens_per_second": 9}\n'),
            lambda: folder.save(dataclasses.replace(record, phase="trained")),
        ]
    )

    def driven(_: RunFolder) -> bool:
        write = next(writes, None)
        return write is not None and (write(), True)[1]

    monkeypatch.setattr("trainyard.runs.life.follow.is_driven", driven)
    watch_files(context, folder, poll=0)
    listener.end()

    assert list(iter(listener.take, None)) == [
        trainyard.LogEvent("epoch 1"),
        trainyard.LogEvent("epoch 2"),
        trainyard.ProgressEvent(1, 4, 2.5, 0.1, 9.0, 0.0, None, "step 1/4  loss 2.5000  9 tokens/s  $0.00"),
        trainyard.StateEvent("ann/a", 1, "state", "trained", 0.0),
    ]


@pytest.mark.parametrize(
    "error",
    [
        LimitReached("too much", hint="shorten it", most=2.5, ever=True),
        UserError("wrong", where=Location("a.yaml", 3), hint="so", facts={"pod": "p"}),
    ],
)
def test_an_error_comes_through_a_pool_of_processes_as_it_is(error: TrainyardError) -> None:
    again = pickle.loads(pickle.dumps(error))

    assert type(again) is type(error) and str(again) == str(error) and vars(again) == vars(error)


def test_of_a_failed_run_the_summary_comes_through_a_pool_of_processes() -> None:
    record = RunRecord(
        user="ann", label="a", attempt=1, token="t", environment="local", recipe="r", values={}, bundle_sha256="", hours=1.0, created=0.0
    )
    error = RunFailed(summarize(record, RunFolder(Path("nowhere"))))

    again = pickle.loads(pickle.dumps(error))

    assert isinstance(again, RunFailed) and again.summary == error.summary and again.exit_code == error.exit_code


def test_an_edited_request_is_taken_from_below_the_root(root: Path) -> None:
    (root / "Pulumi.vast.yaml").write_text("config:\n  trainyard:gpu: [RTX 4090]\n")
    (root / ".env").write_text("VAST_API_KEY=nobodys\n")
    (root / ".env").chmod(0o600)
    for call in (trainyard.train, trainyard.submit):
        with pytest.raises(UserError, match=f"{re.escape(str(root / 'my.json'))}: there is no such file"):
            call(["true"], stack="vast", from_file="my.json", root=root)
