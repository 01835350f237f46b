"""The state while an operation runs: resources put into words once, and writes that steps side by side share."""

from __future__ import annotations

import json
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest

from tests.engine.memory import CRYPTER
from tests.engine.test_properties import EMPTY
from trainyard.engine.state import Resource, StackState, dump_resource
from trainyard.engine.values import Wire
from trainyard.errors import EngineError

TYPE = "toy:index:Pod"


def resource(name: str) -> Resource:
    return Resource(f"urn:pulumi:dev::px::{TYPE}::{name}", TYPE, True, name, {"a": 1})


def state(save: Any) -> StackState:
    return StackState(EMPTY, CRYPTER, Wire(Path("/")), save)


def test_the_kept_text_of_a_resource_follows_each_change_of_a_field() -> None:
    one = resource("a")
    samples: dict[str, Any] = {"str": "x", "bool": True, "list[str]": ["x"], "list[Any]": ["x"], "Properties": {"x": 2},
                               "dict[str, list[str]]": {"x": ["y"]}, "dict[str, float]": {"create": 5}}  # fmt: skip
    for field in fields(Resource):
        if not field.name.startswith("_"):
            one.text(CRYPTER)
            setattr(one, field.name, samples[str(field.type)])
            assert json.loads(one.text(CRYPTER)) == dump_resource(one, CRYPTER), field.name
    assert one.text(CRYPTER) is one.text(CRYPTER)


class Disk:
    """A disk that is slow, can be full, and remembers what it holds."""

    def __init__(self) -> None:
        self.held: dict[str, Any] = {}
        self.writes, self.full = 0, False

    def save(self, text: bytes) -> None:
        if self.full:
            raise EngineError("No space left on device")
        time.sleep(0.005)
        self.writes += 1
        self.held = json.loads(text)

    def urns(self, part: str) -> set[str]:
        entries = self.held.get(part) or []
        return {(entry.get("resource") or entry)["urn"] for entry in entries}


def test_steps_side_by_side_share_writes_and_each_finds_itself_on_disk() -> None:
    disk = Disk()
    stack = state(disk.save)
    barrier = threading.Barrier(8)

    def step(number: int) -> None:
        barrier.wait()
        for part in range(10):
            one = resource(f"{number}-{part}")
            stack.begin(one, "creating")
            assert one.urn in disk.urns("pending_operations")
            one.outputs = {"ip": "1"}
            stack.end(one, new=one)
            assert one.urn in disk.urns("resources") and one.urn not in disk.urns("pending_operations")

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(step, range(8)))
    assert len(disk.urns("resources")) == 80
    assert disk.writes < 120, "160 changes, 8 at a time"


def test_a_write_that_fails_is_told_to_each_step_and_leaves_no_call_pending_that_was_not_made() -> None:
    disk = Disk()
    stack = state(disk.save)
    disk.full = True
    with ThreadPoolExecutor(4) as pool:
        tried = [pool.submit(stack.begin, resource(str(number)), "creating") for number in range(4)]
        for attempt in tried:
            with pytest.raises(EngineError, match="No space left"):
                attempt.result()
    disk.full = False
    stack.write()
    assert not disk.urns("pending_operations")
