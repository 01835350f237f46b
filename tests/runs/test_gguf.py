"""Which run `invoke gguf` begins, and of which runs it begins none."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from tests.runs.road import STACK, Road
from trainyard.errors import UserError
from trainyard.runs.after.gguf import gguf_of
from trainyard.runs.records.record import RunFolder


@pytest.fixture
def road(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Road]:
    made = Road(tmp_path, monkeypatch)
    monkeypatch.chdir(made.context.places.root)
    yield made
    made.lose_pod()


def test_a_gguf_is_of_the_very_attempt_and_what_cannot_be_one_is_refused_before_anything_is_rented(road: Road) -> None:
    road.run("mkdir -p $OUTPUT_DIR/model; echo m >$OUTPUT_DIR/model/m.txt", name="a")
    folder = RunFolder(road.context.places.runs / "ann" / "a" / "1")
    with pytest.raises(UserError, match="ann/a/1 is a run of recipe command: only what recipes lora and merge leave can be GGUF"):
        gguf_of(road.context, "a", None, "merged", None)

    lora = replace(folder.load(), recipe="lora", values={"base_model": "o/b-1B", "method": "lora", "output": "adapter"})
    folder.save(lora)
    request = gguf_of(road.context, "a", None, "merged", None)
    assert (request.stack, request.recipe, request.data) == (STACK, "gguf", "run:ann/a/1")
    assert request.sets == ("base_model=o/b-1B", "what=merged", "model_name=b-1B-a")
    assert gguf_of(road.context, "a", "elsewhere", "adapter", "Q8_0").sets[-1] == "quant=Q8_0"
    with pytest.raises(UserError, match="--what lora: it is merged"):
        gguf_of(road.context, "a", None, "lora", None)

    for values, why in (
        ({"method": "full"}, "leaves a whole model, no adapter"), ({"output": "merged"}, "leaves a whole model, no adapter"),
        ({"use_dora": True}, "is DoRA"), ({"modules_to_save": ["lm_head"]}, "has trained layers whole"),
    ):  # fmt: skip
        folder.save(replace(lora, values={**lora.values, **values}))
        with pytest.raises(UserError, match=why):
            gguf_of(road.context, "a", None, "adapter", None)
        assert gguf_of(road.context, "a", None, "merged", None).recipe == "gguf"
    folder.save(replace(lora, recipe="gguf"))
    with pytest.raises(UserError, match="it is GGUF already"):
        gguf_of(road.context, "a", None, "merged", None)
