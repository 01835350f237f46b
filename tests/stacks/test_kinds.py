"""What failed arrives at the caller of an engine as a kind with facts, whichever engine it was, and decides about the exit code."""

from __future__ import annotations

import errno
import json
import os
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from tests.provider.plugin import real_plugin, urn
from trainyard import problems
from trainyard.config import PROJECT, places
from trainyard.engine import locks
from trainyard.errors import KINDS, BootFailed, Busy, EngineError, StillThere, TrainyardError, UserError, kind_of
from trainyard.leases.boot import boot_failure
from trainyard.problems import Problem
from trainyard.runs.ui import Ui
from trainyard.stacks import facade
from trainyard.stacks.builtin import EventSummary
from trainyard.stacks.child import ChildExit
from trainyard.stacks.environ import export_lines
from trainyard.stacks.model import OperationOutcome, Stack
from trainyard.stacks.settings import ensure_stack
from trainyard.stacks.state import backend

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(params=["builtin", "cli"])
def stack(request: pytest.FixtureRequest, tmp_path: Path) -> Stack:
    """A stack of the real program under each engine that this machine has."""
    if request.param == "cli" and shutil.which("pulumi") is None:
        pytest.skip("NO PULUMI CLI on PATH: kinds were not looked at under it")
    for name in ("infra", "Pulumi.yaml", ".venv"):
        (tmp_path / name).symlink_to(ROOT / name)
    (tmp_path / "Pulumi.dev.yaml").write_text("config:\n  trainyard:cloud: local\n  trainyard:bucket: none\n")
    env = {
        **os.environ, "PULUMI_CONFIG_PASSPHRASE": "p", "TRAINYARD_LOCAL_ROOT": str(tmp_path / "o"), "XDG_CONFIG_HOME": str(tmp_path / "c"),
        "PATH": f"{ROOT / '.venv' / 'bin'}:{os.environ['PATH']}", "TRAINYARD_ENGINE": request.param,
        "PULUMI_DISABLE_AUTOMATIC_PLUGIN_ACQUISITION": "true",
    }  # fmt: skip
    made = Stack("dev", places(tmp_path, env), env, tmp_path / "Pulumi.dev.yaml")
    ensure_stack(made)
    return made


def test_a_wrong_setting_is_the_user_s_under_either_engine(stack: Stack) -> None:
    stack.settings.write_text(stack.settings.read_text() + "  trainyard:pods: two\n")

    error = facade.operate(stack, "up").error("up failed: ")

    assert isinstance(error, UserError) and error.exit_code == 2
    assert "trainyard:pods must be a whole number" in error.message
    assert not list(stack.places.logs.glob("*.problems")), "what was written down is taken away with the engine"


def test_what_the_engine_itself_refuses_to_begin_with_is_the_user_s(stack: Stack) -> None:
    outcome = facade.operate(replace(stack, env={**stack.env, "PULUMI_PARALLEL": "abc"}), "preview")
    if outcome.engine == "cli":
        assert outcome.ok, "the CLI passes it over"
        return
    error = outcome.error()

    assert isinstance(error, UserError) and "PULUMI_PARALLEL: 'abc' is no number of steps" in error.message


def test_a_preview_says_what_would_be_done_and_never_that_it_is(stack: Stack, capsys: pytest.CaptureFixture[str]) -> None:
    ui = Ui()

    assert facade.operate(stack, "preview", ui.engine_event).ok

    told = capsys.readouterr().out
    assert "would create Lease fence" in told and " done" not in told and "create Lease" not in told.replace("would create Lease", "")


def test_a_warning_names_the_resource_it_is_about(capsys: pytest.CaptureFixture[str]) -> None:
    urn = "urn:pulumi:dev::trainyard::trainyard:pod:LeasedPod$command:remote:Command::pod"
    Ui().engine_event({"event": "diagnostic", "severity": "warning", "message": "given up", "urn": urn})
    Ui().engine_event({"event": "diagnostic", "severity": "warning", "message": "plain", "urn": ""})
    assert capsys.readouterr().out == "warning: Command pod: given up\nwarning: plain\n"


def test_the_folder_of_the_state_is_there_for_plain_pulumi(tmp_path: Path) -> None:
    where = places(tmp_path, {})
    lines = export_lines(where, {"PULUMI_CONFIG_PASSPHRASE": "p"})
    assert f"export PULUMI_BACKEND_URL={where.state.as_uri()}" in lines and where.state.is_dir()


def test_inputs_that_a_provider_refuses_are_the_user_s_under_either_engine(stack: Stack) -> None:
    lines = ("cloud: local", "bucket: none", "pods: 1", "hours: 744", "rescue_minutes: 60")  # too long a lease, both together
    stack.settings.write_text("config:\n" + "".join(f"  trainyard:{line}\n" for line in lines))

    outcome = facade.operate(stack, "up")

    assert not outcome.ok
    assert outcome.problem.kind == "user", outcome


def test_a_stack_that_another_engine_holds_is_waited_for_and_then_busy(stack: Stack) -> None:
    store = backend(stack)
    assert store is not None
    waits: list[float] = []
    said: list[str] = []

    with locks.hold_lock(store.root, PROJECT, "dev"):
        outcome = facade.operate(stack, "up", lambda event: said.append(str(event.get("message"))), sleep=waits.append, tries=2)

    assert isinstance(outcome.error(), Busy) and outcome.error().exit_code == 8
    assert len(waits) == 2 and said.count("another engine works on this stack; waiting for it") == 1
    assert facade.operate(stack, "preview").ok, "it holds nobody up afterwards"


def test_a_failed_boot_keeps_its_facts_on_the_way() -> None:
    error = boot_failure("p1", "image", "STARTING", after=10, hosts_fault=True)
    line = json.dumps({"kind": kind_of(error), "message": str(error), "urn": "u", "facts": error.facts})

    back = Problem(**json.loads(line)).error("the pod could not be brought up: x")

    assert isinstance(back, BootFailed) and back.exit_code == 5
    assert back.facts == {"pod": "p1", "phase": "image", "hosts_fault": True, "lease_over": False}


def test_a_provider_writes_down_what_failed_and_of_which_resource(tmp_path: Path) -> None:
    noted = tmp_path / "noted"
    noted.touch()
    with real_plugin(tmp_path, **{problems.VARIABLE: str(noted)}) as plugin, pytest.raises(AssertionError):
        plugin.check(urn("Lease", "x"), {"cloud": "local", "hours": "two"})

    (found,) = problems.read(noted)
    assert (found.kind, found.urn, found.message) == ("user", urn("Lease", "x"), "'hours' must be a number")


def test_nothing_is_left_where_nobody_reads_any_more(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(problems.VARIABLE, str(tmp_path / "gone"))
    problems.note(UserError("late"))
    assert not list(tmp_path.iterdir())


def test_what_may_still_cost_money_decides_whatever_failed_first() -> None:
    outcome = OperationOutcome(
        "cli", "destroy", 1, 1.0, problems=(Problem("user", "a"), Problem("still-there", "pod p1", facts={"pods": ["p1"]}))
    )
    assert isinstance(outcome.error(), StillThere) and outcome.error().facts == {"pods": ["p1"]}


def test_a_failed_proof_of_the_pod_is_told_by_its_step_whoever_runs_the_command() -> None:
    seen = EventSummary()
    seen.add({"event": "step", "type": "command:remote:Command", "op": "create", "status": "failed", "urn": "u", "message": "no"})
    assert seen.outcome("cli", "up", 1.0, ChildExit(1, "", ())).error().exit_code == 5


@pytest.mark.parametrize("name", KINDS)
def test_every_kind_names_the_class_it_makes(name: str) -> None:
    assert kind_of(KINDS[name]("x")) == name
    told = Problem(name, "x", facts={"a": 1}).error()
    assert (kind_of(told), told.message, told.facts) == (name, "x", {"a": 1}), "what a provider wrote down is an error of its kind again"


def test_a_full_disk_is_told_as_one_whatever_it_kept_from_being_done() -> None:
    told: Exception = ValueError()
    try:
        try:
            raise OSError(errno.ENOSPC, "No space left on device", "state.json")
        except OSError as error:
            raise EngineError(f"the state file cannot be written: {error.strerror}") from None
    except EngineError as error:
        told = error
    assert kind_of(told) == "disk-full" and KINDS[kind_of(told)].exit_code == 74


def test_an_error_without_a_kind_of_its_own_is_its_parents_or_the_engine_s() -> None:
    class Finer(StillThere):
        pass

    assert kind_of(Finer("x")) == "still-there"
    assert kind_of(ValueError("x")) == "engine" == kind_of(TrainyardError("x"))
