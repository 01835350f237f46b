"""Which run `invoke merge` begins, and of which runs it begins none."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from tests.runs.road import STACK, Road
from trainyard.errors import UserError
from trainyard.runs.after.ask import ask
from trainyard.runs.after.leftmodel import LeftModel, ModelProgram, run
from trainyard.runs.after.merge import merge_of
from trainyard.runs.records.record import RunFolder
from trainyard.runs.verbs import initfrom
from trainyard.storage.find import ResultReference
from trainyard.storage.manifest import ResultKey


@pytest.fixture
def road(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Road]:
    made = Road(tmp_path, monkeypatch)
    monkeypatch.chdir(made.context.places.root)
    yield made
    made.lose_pod()


def test_a_merge_is_of_the_very_attempt_and_its_base_and_a_run_without_an_adapter_has_none(road: Road) -> None:
    road.run("mkdir -p $OUTPUT_DIR/model; echo m >$OUTPUT_DIR/model/m.txt", name="a")
    folder = RunFolder(road.context.places.runs / "ann" / "a" / "1")
    with pytest.raises(UserError, match="ann/a/1 is a run of recipe command: only what recipe lora leaves can be merged"):
        merge_of(road.context, "a", None)
    with pytest.raises(UserError, match="only what recipes lora and merge leave can be asked"):
        ask(road.context, "a", "Where?", None, 8)

    lora = replace(folder.load(), recipe="lora", values={"base_model": "a/b", "method": "lora", "output": "adapter"})
    folder.save(lora)
    request = merge_of(road.context, "a", None)
    assert (request.stack, request.recipe, request.data, request.sets) == (STACK, "merge", "run:ann/a/1", ("base_model=a/b",))
    assert merge_of(road.context, "ann/a/1", "elsewhere").stack == "elsewhere"

    for whole in ({"method": "full"}, {"output": "merged"}):
        folder.save(replace(lora, values={**lora.values, **whole}))
        with pytest.raises(UserError, match="leaves a whole model, no adapter"):
            merge_of(road.context, "a", None)


def test_of_a_run_that_failed_there_is_nothing_to_merge_and_its_name_is_said_not_an_option_that_nobody_gave(
    road: Road, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(initfrom, "bucket_of", lambda *_: None)
    monkeypatch.setattr(initfrom, "find", lambda *_, **__: ResultReference(ResultKey("ann", "b", 1), ""))
    monkeypatch.setattr(initfrom, "read_result", lambda *_: None)
    with pytest.raises(UserError, match=r"^ann/b/1 is no success: only what a run that succeeded has left can be taken$"):
        initfrom.data_of(road.context, "run:ann/b/1", STACK, "ann")


def test_the_program_that_answers_is_not_told_of_a_keyboard_interrupt_and_ends_without_a_word() -> None:
    program = ModelProgram([sys.executable, "-c", "import os; print(os.getpgid(0) == os.getpid())"], {})
    assert run(program, b"", LeftModel(ResultKey("ann", "engines", 1), "base", STACK)) == b"True\n"
