"""The Pulumi CLI as an engine and as the keeper of a team's state: what it is asked, and what its answers mean."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from tests.stacks.standin import StandIn, stand_in
from trainyard.config import PROJECT, places
from trainyard.engine import locks, secrets
from trainyard.errors import BootFailed, Busy, EngineError, Unreachable, UserError
from trainyard.stacks import builtin, cli, facade, installed
from trainyard.stacks.model import Event, OperationOutcome, Stack
from trainyard.stacks.settings import ensure_stack, salt_of
from trainyard.stacks.state import CliState, backend, state_of

URN = "urn:pulumi:dev::trainyard::trainyard:index:Pod::pod"
TEAM = "s3://my-state?region=eu-central-1"


@pytest.fixture(autouse=True)
def _quick_key(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is sealed here is opened by this process, or by a built-in engine that is handed the key."""
    monkeypatch.setattr(secrets, "_ROUNDS", 1)


@pytest.fixture
def pulumi(tmp_path: Path) -> StandIn:
    return stand_in(tmp_path / "pulumi")


@pytest.fixture
def stack(tmp_path: Path, pulumi: StandIn) -> Stack:
    """A stack in a folder, with the stand-in as the CLI that is found."""
    root = tmp_path / "root"
    root.mkdir()
    (root / "Pulumi.dev.yaml").write_text("config:\n  trainyard:cloud: local\n  trainyard:engine: cli\n")
    env = {
        "PATH": f"{pulumi.bin}:/usr/bin:/bin", "PULUMI_CONFIG_PASSPHRASE": "p", "PULUMI_HOME": str(tmp_path / "home"),
        "TRAINYARD_LOCAL_ROOT": str(tmp_path / "outside"), "XDG_CONFIG_HOME": str(tmp_path / "config"),
    }  # fmt: skip
    return Stack("dev", places(root, env), env, root / "Pulumi.dev.yaml")


@pytest.fixture
def team(stack: Stack) -> Stack:
    """The same stack with its state in a bucket."""
    return replace(stack, env={**stack.env, "PULUMI_BACKEND_URL": TEAM})


def step(kind: str, op: str = "create", urn: str = URN) -> dict[str, object]:
    return {kind: {"metadata": {"op": op, "urn": urn, "type": urn.split("::")[2], "diffs": ["spec"]}}}


def error(message: str, **more: object) -> dict[str, object]:
    return {"diagnosticEvent": {"severity": "error", "message": message, "urn": URN, **more}}


def run(stack: Stack, operation: str = "up") -> tuple[object, list[Event]]:
    events: list[Event] = []
    return facade.operate(stack, operation, events.append, sleep=lambda _: None, tries=1), events  # type: ignore[arg-type]


# --- the engine -------------------------------------------------------------------------------------------------------


def test_its_events_become_ours_and_its_summary_the_outcome_s(stack: Stack, pulumi: StandIn) -> None:
    summary = {"summaryEvent": {"resourceChanges": {"create": 1}, "durationSeconds": 2}}
    pulumi.play(step("resourcePreEvent"), step("resOutputsEvent"), {"preludeEvent": {}}, summary)

    events: list[Event] = []
    outcome = facade.operate(stack, "up", events.append)

    assert [(event["event"], event.get("status"), event.get("name")) for event in events] == [
        ("step", "start", "pod"), ("step", "done", "pod"), ("summary", None, None),
    ]  # fmt: skip
    assert events[0]["keys"] == ["spec"] and events[0]["type"] == "trainyard:index:Pod"
    assert outcome.ok and outcome.engine == "cli" and outcome.changes == {"create": 1}
    assert not list(stack.places.logs.glob("*.events.json")), "the file of events is taken away"


@pytest.mark.parametrize(
    ("operation", "with_words", "without"),
    [
        ("up", {"--yes", "--skip-preview"}, set()),
        ("destroy", {"--yes", "--skip-preview"}, set()),
        ("refresh", {"--yes"}, {"--skip-preview"}),
        ("preview", set(), {"--yes", "--skip-preview"}),
    ],
)
def test_it_is_asked_for_each_operation_without_a_question_left(
    stack: Stack, pulumi: StandIn, operation: str, with_words: set[str], without: set[str]
) -> None:
    assert facade.operate(stack, operation).ok  # type: ignore[arg-type]

    (words,) = pulumi.asked()
    assert words[0] == operation and words[words.index("--stack") + 1] == "dev"
    assert with_words | {"--non-interactive", "--event-log", "--config-file"} <= set(words) and not without & set(words)
    copy = Path(words[words.index("--config-file") + 1])
    assert copy != stack.settings and f"encryptionsalt: {salt_of(stack)}" in copy.read_text()


def test_an_event_that_is_cut_is_read_when_its_rest_is_there(stack: Stack, pulumi: StandIn) -> None:
    line = json.dumps(step("resOutputsEvent"))
    pulumi.say(events=[line[:20], line[20:] + "\n\n"])

    assert [event["status"] for event in run(stack)[1]] == ["done"]


def test_a_preview_never_says_that_something_was_done(stack: Stack, pulumi: StandIn) -> None:
    pulumi.play(step("resourcePreEvent"), step("resOutputsEvent"))

    assert [event["status"] for event in run(stack, "preview")[1]] == ["start", "planned"]


@pytest.mark.parametrize(
    ("body", "meant"),
    [
        ({"severity": "info#err", "message": "<{%fg 1%}>late<{%reset%}>\n"}, [("warning", "late")]),
        ({"severity": "info", "message": "\x1b[31mred\x1b[0m"}, [("info", "red")]),
        ({"severity": "error", "message": "no"}, [("error", "no")]),
        ({"severity": "debug", "message": "noise"}, []),
        ({"severity": "info", "message": "soon over", "ephemeral": True}, []),
        ({"severity": "warning", "message": "<{%reset%}>"}, []),
    ],
)
def test_what_it_tells_is_told_without_its_markup_and_noise_is_not(body: dict[str, object], meant: list[tuple[str, str]]) -> None:
    told = cli.translate({"diagnosticEvent": body})

    assert [(event["severity"], event["message"]) for event in told] == meant


def test_its_failure_is_told_in_its_words_and_by_its_last_lines(stack: Stack, pulumi: StandIn) -> None:
    pulumi.play(step("resOpFailedEvent"), error("<{%fg 1%}>no room<{%reset%}>"), exit=1)
    outcome = facade.operate(stack, "up")
    assert not outcome.ok and "no room" in str(outcome.error("up failed: "))

    pulumi.play(exit=255, stderr="error: something else\n")
    assert facade.operate(stack, "up").reason() == "error: something else"

    pulumi.play(exit=3)
    assert facade.operate(stack, "up").reason() == "the engine exited 3"


def test_a_proof_of_the_pod_that_failed_makes_it_unreachable(stack: Stack, pulumi: StandIn) -> None:
    urn = "urn:pulumi:dev::trainyard::command:remote:Command::pod"
    pulumi.play(step("resOpFailedEvent", urn=urn), exit=1)

    error = facade.operate(stack, "up").error()

    assert isinstance(error, Unreachable | BootFailed) and error.exit_code == 5


# --- which engine -----------------------------------------------------------------------------------------------------


def plugin(stack: Stack) -> None:
    folder = Path(stack.env["PULUMI_HOME"]) / "plugins" / f"resource-command-v{installed.COMMAND_PLUGIN}"
    folder.mkdir(parents=True)
    (folder / "pulumi-resource-command").touch()


def engine(stack: Stack, wanted: str) -> str:
    return facade.choose_engine(replace(stack, env={**stack.env, "TRAINYARD_ENGINE": wanted}))[0]


def test_auto_takes_the_cli_only_with_its_command_plugin(stack: Stack) -> None:
    assert engine(stack, "auto") == "builtin"
    plugin(stack)
    assert engine(stack, "auto") == "cli"


@pytest.mark.parametrize("version", ["v3.249.9", "3.x", ""])
def test_a_cli_that_is_too_old_or_says_no_version_is_none(stack: Stack, pulumi: StandIn, version: str) -> None:
    plugin(stack)
    pulumi.say(version=version)

    assert engine(stack, "auto") == "builtin"
    with pytest.raises(UserError, match="not on PATH"):
        engine(stack, "cli")


def test_a_cli_without_python_s_language_host_is_none(stack: Stack, pulumi: StandIn) -> None:
    (pulumi.bin / "pulumi-language-python").unlink()

    with pytest.raises(UserError, match="not on PATH"):
        engine(stack, "cli")


def test_a_misspelt_engine_is_refused_with_the_nearest(stack: Stack) -> None:
    with pytest.raises(UserError, match="did you mean 'builtin'") as caught:
        engine(stack, "bultin")
    assert "auto, cli, builtin" in str(caught.value.hint)


def test_a_team_s_backend_needs_the_cli(team: Stack) -> None:
    assert engine(team, "cli") == "cli"
    with pytest.raises(UserError, match="file:// only"):
        engine(team, "builtin")


# --- a state that only the CLI reaches ---------------------------------------------------------------------------------


def test_a_team_s_stack_is_made_with_its_salt_read_copied_and_removed(team: Stack, tmp_path: Path) -> None:
    state = state_of(team)
    assert isinstance(state, CliState) and not state.exists() and state.latest() == {}
    state.archive(tmp_path / "copy.json")
    state.remove()
    assert not (tmp_path / "copy.json").exists(), "of a stack that is not there nothing is written, and it need not be removed"

    state.create("v1:salt")

    assert state.exists() and state.latest()["secrets_providers"]["state"]["salt"] == "v1:salt"
    assert "encryptionsalt" not in team.settings.read_text(), "the tracked file never holds a salt"
    state.archive(tmp_path / "copy.json")
    assert json.loads((tmp_path / "copy.json").read_text())["deployment"] == state.latest()
    state.remove()
    assert not state.exists()


def test_a_team_s_stack_with_resources_is_not_removed(team: Stack, pulumi: StandIn) -> None:
    (pulumi.home / "stacks" / "dev.json").write_text(json.dumps({"version": 3, "deployment": {"resources": [{"urn": URN}]}}))

    with pytest.raises(EngineError, match="still has resources"):
        facade.remove(team)
    assert facade.exists(team) and facade.resources(team) == [{"urn": URN}]


def test_a_backend_that_does_not_answer_is_never_an_absent_stack(team: Stack, pulumi: StandIn) -> None:
    pulumi.say(silent=True)

    for ask in (facade.exists, facade.resources, facade.remove):
        with pytest.raises(EngineError, match="does not answer"):
            ask(team)
    assert facade.readable_resources(team) == [], "where nothing can be read there is no older version to fall back on"


def test_a_team_s_state_without_the_cli_says_what_is_missing(team: Stack) -> None:
    with pytest.raises(UserError, match="needs the Pulumi CLI"):
        facade.exists(replace(team, env={**team.env, "PATH": "/nowhere"}))


def test_the_cli_works_on_a_team_s_stack_without_another_look(team: Stack, pulumi: StandIn) -> None:
    pulumi.play(error("no"), exit=1)

    assert not facade.operate(team, "up").ok
    assert [words[:2] for words in pulumi.asked()][-1][0] == "up"


# --- what the CLI leaves behind -----------------------------------------------------------------------------------------


def write(stack: Stack, latest: dict[str, object]) -> None:
    ensure_stack(stack)
    store = backend(stack)
    assert store is not None
    path = store.checkpoint_path(PROJECT, stack.name)
    document = json.loads(path.read_text())
    document["checkpoint"]["latest"] |= latest
    path.write_text(json.dumps(document))


def goes_on(stack: Stack, operation: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """Return what is said when the built-in engine takes over, empty when it does not."""
    taken = OperationOutcome("builtin", "up", 0, 0.1)
    monkeypatch.setattr(builtin, "operate", lambda *_: taken)
    outcome, events = run(stack, operation)
    return str(events[-1]["message"]) if outcome is taken else ""


def test_a_replace_that_was_cut_in_two_is_finished_by_the_built_in_engine(
    stack: Stack, pulumi: StandIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(stack, {"resources": [{"urn": URN, "type": "trainyard:index:Pod", "pendingReplacement": True}]})
    pulumi.play(error("unknown provider"), exit=1)

    assert "does not get past a replace" in goes_on(stack, "up", monkeypatch)


def test_a_destroy_that_the_cli_gave_up_is_finished_by_the_built_in_engine(
    stack: Stack, pulumi: StandIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    pulumi.play(exit=1)
    assert "has not destroyed all" in goes_on(stack, "destroy", monkeypatch)

    pulumi.play()
    assert goes_on(stack, "destroy", monkeypatch) == ""
    write(stack, {"pending_operations": [{"type": "creating", "resource": {"urn": URN}}]})
    assert "leaves a create without outcome" in goes_on(stack, "destroy", monkeypatch)


@pytest.mark.parametrize("operation", ["refresh", "preview"])
def test_what_only_looks_is_never_taken_over(stack: Stack, pulumi: StandIn, operation: str, monkeypatch: pytest.MonkeyPatch) -> None:
    pulumi.play(exit=1)

    assert goes_on(stack, operation, monkeypatch) == ""


def test_a_provider_s_no_is_not_asked_for_again(stack: Stack, pulumi: StandIn, monkeypatch: pytest.MonkeyPatch) -> None:
    urn = "urn:pulumi:dev::trainyard::command:remote:Command::pod"
    write(stack, {"resources": []})
    pulumi.play(step("resOpFailedEvent", urn=urn), exit=1)

    assert goes_on(stack, "destroy", monkeypatch) == ""


def test_a_lock_that_the_cli_ran_into_is_waited_for_and_then_told(stack: Stack, pulumi: StandIn) -> None:
    ensure_stack(stack)
    store = backend(stack)
    assert store is not None
    pulumi.play(exit=255, stderr="error: the stack is currently locked")

    with locks.hold_lock(store.root, PROJECT, stack.name):
        outcome, events = run(stack)

    assert isinstance(outcome.error(), Busy)  # type: ignore[attr-defined]
    assert [event["message"] for event in events] == ["another engine works on this stack; waiting for it"]


def test_a_side_file_that_a_crash_cut_short_is_taken_away_before_the_cli_reads_it(stack: Stack) -> None:
    ensure_stack(stack)
    store = backend(stack)
    assert store is not None
    checkpoint = store.checkpoint_path(PROJECT, stack.name)
    side = checkpoint.with_name(checkpoint.name + ".attrs")
    side.write_text('{"type": ')
    assert facade.operate(stack, "refresh").ok and not side.exists()

    side.write_text("{}")
    assert facade.operate(stack, "refresh").ok and side.exists(), "a whole one stays"


# --- what a state says --------------------------------------------------------------------------------------------------


def test_outputs_are_told_with_secrets_in_clear_and_the_state_keeps_them_shut(stack: Stack) -> None:
    assert facade.outputs(stack) == {}, "before the first up there are none"
    ensure_stack(stack)
    secret = {"4dabf18193072939515e22adb298388d": "1b47061264138c4ac30d75fd1eb44270"}
    shut = facade.encrypter(stack).encrypt(json.dumps({"seed": [1]}))
    shown = {"open": "a", "list": [{**secret, "ciphertext": shut}], "bare": {**secret, "plaintext": '"b"'}}
    write(stack, {"resources": [{"urn": "u", "type": "pulumi:pulumi:Stack", "outputs": shown}]})

    assert facade.outputs(stack) == {"open": "a", "list": [{"seed": [1]}], "bare": "b"}
    assert shut in json.dumps(facade.resources(stack)) and "seed" not in json.dumps(facade.resources(stack))


def test_a_damaged_state_is_read_from_its_last_good_version(stack: Stack) -> None:
    resource = {"urn": URN, "type": "trainyard:index:Pod"}
    write(stack, {"resources": [resource]})
    store = backend(stack)
    assert store is not None
    path = store.checkpoint_path(PROJECT, stack.name)
    good = path.read_bytes()
    path.write_text("{")
    assert facade.readable_resources(stack) == []
    with pytest.raises(EngineError):
        facade.resources(stack)

    path.with_name(path.name + ".bak").write_bytes(good)
    assert facade.readable_resources(stack) == [resource]


def test_a_stack_s_archive_is_its_checkpoint_and_its_removal_takes_the_engine_s_copy(stack: Stack, tmp_path: Path) -> None:
    facade.archive(stack, tmp_path / "none.json")
    assert not (tmp_path / "none.json").exists()
    assert facade.operate(stack, "refresh").ok
    facade.archive(stack, tmp_path / "copy.json")
    assert json.loads((tmp_path / "copy.json").read_text())["checkpoint"]["stack"].endswith("dev")
    copy = stack.places.home / "settings" / "Pulumi.dev.yaml"
    assert copy.exists()

    facade.remove(stack)

    assert not copy.exists() and not facade.exists(stack) and stack.settings.exists()


def test_a_state_without_a_salt_cannot_keep_a_secret(stack: Stack) -> None:
    with pytest.raises(EngineError, match="has no salt"):
        facade.encrypter(stack)
    facade.warm(stack)  # what is wrong is told by the first use, never by the warming


def test_an_environment_without_settings_is_told_with_those_there_are(stack: Stack) -> None:
    with pytest.raises(UserError, match="there is no stack 'prod'") as caught:
        facade.environment_stack("prod", stack.places, stack.env)
    assert "dev" in str(caught.value.hint)
