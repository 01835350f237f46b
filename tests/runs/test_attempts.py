"""A name may be used again: each run of it is an attempt of its own, whose files overwrite nobody's."""

from __future__ import annotations

import itertools
import socket
import threading
import time
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest

from tests.runs.test_identity_and_record import make_record
from trainyard.config import places
from trainyard.errors import RefusedError, StoreError, UserError
from trainyard.runs.context import CommandContext
from trainyard.runs.records import attempts
from trainyard.runs.records.identity import RunId
from trainyard.runs.records.parts import RunBucket
from trainyard.runs.records.record import RunFolder, RunRecord, all_folders
from trainyard.runs.ui import Ui


@pytest.fixture
def context(tmp_path: Path) -> CommandContext:
    return CommandContext(places(tmp_path, {}), {}, Ui(json=True))


def prepare(context: CommandContext, label: str = "x", **changes: str) -> RunRecord:
    with attempts.reserved(context.places.runs, "ann", label) as draft:
        number = attempts.claim(context, draft, "ann", label, None)
        record = make_record(label=label, attempt=number, token=draft.token, **changes)
        RunFolder(draft.path).save(record)
        draft.path.rename(record.id.folder(context.places.runs))
    return record


def test_a_name_whose_run_is_over_gets_its_next_attempt_and_a_token_of_its_own(
    context: CommandContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    said = []
    monkeypatch.setattr(Ui, "say", lambda ui, text: said.append(text))
    first, second = prepare(context, phase="ended"), prepare(context)

    assert (first.attempt, second.attempt) == (1, 2)
    assert first.token != second.token and len(second.token) == 32
    assert "ann/x was used before, on this machine: this is attempt 2" in said[0]


def test_an_attempt_that_must_have_a_number_is_refused_where_this_checkout_has_begun_it_already(context: CommandContext) -> None:
    prepare(context, phase="ended")

    with (
        pytest.raises(attempts.Overtaken, match="attempt 1 of ann/x was begun here meanwhile; nothing was rented"),
        attempts.reserved(context.places.runs, "ann", "x") as draft,
    ):
        attempts.claim(context, draft, "ann", "x", None, exactly=1)
    assert [folder.load().attempt for folder in all_folders(context.places.runs)] == [1]


@pytest.mark.parametrize("phase", ["prepared", "up", "started", "trained", "committed"])
def test_a_name_that_is_at_work_in_this_checkout_is_refused_and_told_how_to_go_on(phase: str, context: CommandContext) -> None:
    prepare(context, phase=phase)

    with pytest.raises(RefusedError, match=rf"ann/x is not over \(attempt 1, {phase}\)") as caught:
        prepare(context)

    assert "invoke attach ann/x" in (caught.value.hint or "")
    assert [folder.load().attempt for folder in all_folders(context.places.runs)] == [1]


def test_of_one_command_said_twice_at_once_only_one_gets_an_attempt(context: CommandContext) -> None:
    begun, second = threading.Event(), []

    def say_again() -> None:
        begun.set()
        with pytest.raises(RefusedError, match="attempt 1, prepared"):
            prepare(context)
        second.append("refused")

    with attempts.reserved(context.places.runs, "ann", "x") as draft:
        thread = threading.Thread(target=say_again)
        thread.start()
        assert begun.wait(10)
        record = make_record(label="x", token=draft.token)
        RunFolder(draft.path).save(record)
        draft.path.rename(record.id.folder(context.places.runs))
    thread.join(10)

    assert second == ["refused"]


def test_what_came_home_counts_where_the_records_are_lost(context: CommandContext) -> None:
    out = context.places.root / "out"
    RunId("ann", "x").home(out).mkdir(parents=True)
    assert prepare(context).attempt == 2

    RunId("ann", "y", 3).home(out).mkdir(parents=True)
    assert prepare(context, label="y").attempt == 4


def test_each_attempt_has_a_folder_of_its_own_at_home(tmp_path: Path) -> None:
    assert RunId("ann", "x").home(tmp_path) == tmp_path / "ann" / "x"
    assert RunId("ann", "x", 2).home(tmp_path) == tmp_path / "ann" / "x.2"


def test_a_start_that_fails_burns_no_name_and_its_claim_is_found_again(context: CommandContext) -> None:
    tokens = []
    for _ in range(2):
        with pytest.raises(UserError), attempts.reserved(context.places.runs, "ann", "x") as draft:
            tokens.append(draft.token)
            draft.claimed = True
            raise UserError("no")

    assert tokens[0] == tokens[1] and all_folders(context.places.runs) == []
    assert prepare(context).attempt == 1


def test_a_draft_of_a_killed_process_is_no_run(context: CommandContext) -> None:
    with attempts.reserved(context.places.runs, "ann", "x") as draft:
        RunFolder(draft.path).save(make_record(label="x", token=draft.token))
        assert all_folders(context.places.runs) == []
        token = draft.token

    assert prepare(context).token == token


def test_a_store_that_takes_a_claim_and_never_answers_is_named_at_once_and_left_after_a_while(
    context: CommandContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    said, began, reads = [], time.monotonic(), itertools.count()
    monkeypatch.setattr(Ui, "say", lambda ui, text: said.append(text))
    # A clock by how often it is read: a busy machine's first client of S3 took all of the patience before the first word.
    turned = SimpleNamespace(monotonic=lambda: next(reads) * 0.1, time=time.time)
    monkeypatch.setattr(attempts, "time", turned)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        endpoint = f"http://127.0.0.1:{silent.getsockname()[1]}"
        context = replace(context, env={"AWS_ACCESS_KEY_ID": "a", "AWS_SECRET_ACCESS_KEY": "b", "AWS_ENDPOINT_URL": endpoint})
        patience = attempts.ClaimPatience(whole=0.4, first=0.05, every=0.05)
        wanted = pytest.raises(StoreError, match="nothing was rented: the store of s3://results has not answered for")
        with wanted as caught, attempts.reserved(context.places.runs, "ann", "x") as draft:
            attempts.claim(context, draft, "ann", "x", RunBucket("results", "s3"), patience)

    assert caught.value.exit_code == 7 and time.monotonic() - began < 60
    assert len(said) >= 2 and all("for the store of s3://results to take the run's name; nothing is rented yet" in line for line in said)
    with attempts.reserved(context.places.runs, "ann", "x") as again:
        assert again.token == draft.token, "a claim that arrived all the same is ours"
