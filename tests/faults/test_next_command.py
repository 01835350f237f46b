"""The command that a message ends with is run as it is printed, on a stack other than local: it does what was promised."""

from __future__ import annotations

import re
import signal
from collections.abc import Iterator

import pytest

from tests.e2e.yard import Done
from tests.faults.world import STACK, CloudYard, World

PRINTED = re.compile(r"\binvoke ([a-z.]+ .*?)[.)'`\"]*(?=$| {2,}|\s[A-Z(])")


@pytest.fixture
def yard(cloud_world: World) -> Iterator[CloudYard]:
    """A checkout on the rented stack whose results lie in a bucket."""
    made = cloud_world.yard()
    made.settings(bucket=None, store="local")
    yield made
    cloud_world.clear()


def next_command(said: str, verb: str) -> list[str]:
    """Return the words of the command with this verb that a text shows."""
    found = [match[1].split() for piece in re.split(r"[;,] |\n", said) for match in PRINTED.finditer(piece)]
    chosen = [words for words in found if words[0] == verb]
    assert chosen, f"no '{verb}' among the commands of:\n{said}"
    return chosen[0]


def follow(yard: CloudYard, said: str, verb: str, code: int = 0) -> Done:
    return yard.invoke(*next_command(said, verb)).expect(code)


def test_a_run_that_was_left_is_come_back_to_and_its_result_fetched_by_the_printed_words(yard: CloudYard, cloud_world: World) -> None:
    running = yard.start(*yard.train("--name", "a", steps=40))
    yard.wait_for(lambda: yard.record("a").get("phase") == "started")
    running.send_signal(signal.SIGINT)
    said, _ = running.communicate(timeout=100)
    assert running.returncode == 11, said

    follow(yard, said, "attach")

    # As the summary of a run shows it whose cloud is no emulator.
    yard.invoke("download", "tester/a/1", "./a").expect()
    assert (yard.root / "a").is_dir()
    assert cloud_world.pods() == []


def test_a_pod_that_could_not_be_ended_is_ended_by_the_printed_words(yard: CloudYard, cloud_world: World) -> None:
    for fault in ("delete-forbidden", "graphql-error"):
        cloud_world.emulator.faults.on(fault, times=None)
    done = yard.invoke(*yard.train("--name", "c", steps=2)).expect(6)
    assert len(cloud_world.pods()) == 1
    cloud_world.emulator.faults.off()

    assert next_command(done.err, "end")[2:] == ["--stack", STACK]
    follow(yard, done.err, "cancel")

    assert cloud_world.pods() == []


def test_what_must_be_brought_up_first_is_brought_up_by_the_printed_words(yard: CloudYard, cloud_world: World) -> None:
    assert next_command(yard.invoke("outputs", "--stack", STACK).expect(2).err, "up") == ["up", "--stack", STACK]
    yard.settings(bucket=None, store="local", pods=1)

    follow(yard, yard.invoke(*yard.train("--name", "c")).expect(3).err, "up")

    assert len(cloud_world.pods()) == 1
    yard.invoke("destroy", "--stack", STACK, "--yes").expect()
