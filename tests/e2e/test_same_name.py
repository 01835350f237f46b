"""Two runs of one name never meet: whoever is later, from whichever checkout, gets the next attempt."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.e2e.yard import Yard


@pytest.fixture
def other(yard: Yard) -> Iterator[Yard]:
    """A second checkout of the same person: same bucket, same cloud, nothing else."""
    shared = {"TRAINYARD_LOCAL_ROOT": yard.env["TRAINYARD_LOCAL_ROOT"], "XDG_CONFIG_HOME": yard.env["XDG_CONFIG_HOME"]}
    made = Yard(Path(tempfile.mkdtemp(prefix="ty", dir="/tmp")), shared)
    yield made
    made.close()
    shutil.rmtree(made.base, ignore_errors=True)


def words(folder: Path, text: str, more: str = "") -> tuple[str, ...]:
    script = folder / f"{text}.sh"
    script.write_text(f"mkdir -p $OUTPUT_DIR/model; {more} echo {text} > $OUTPUT_DIR/model/{text}.txt\n")
    return ("train", "--stack", "local", "--recipe", "command", "--set", f"script={script}", "--name", "same")


def test_one_name_from_two_checkouts_at_once_and_from_one_that_lost_its_records_gives_three_results(
    yard: Yard, other: Yard, tmp_path: Path
) -> None:
    with ThreadPoolExecutor(2) as pool:
        runs = [pool.submit(one.invoke, *words(tmp_path, text)) for one, text in ((yard, "first"), (other, "second"))]
        done = [run.result().expect() for run in runs]
    shutil.rmtree(yard.home)
    shutil.rmtree(yard.root / "out")
    done.append(yard.invoke(*words(tmp_path, "third")).expect())

    assert "tester/same is known (attempt 2 was claimed by tester on" in done[2].out and "attempt 3" in done[2].out
    for said, text in zip(done, ("first", "second", "third"), strict=True):
        command = next(line for line in said.out.splitlines() if line.startswith("invoke download tester/same/")).split()
        got = yard.invoke(*command[1:3], str(tmp_path / f"got-{text}")).expect()
        assert [path.name for path in (tmp_path / f"got-{text}").iterdir()] == [f"{text}.txt"], said.out
        assert f"attempt {command[2].rpartition('/')[2]} of tester/same, claimed by tester on" in got.out


def test_a_name_at_work_here_is_refused_and_once_it_is_over_gets_an_attempt_whose_files_overwrite_nothing(
    yard: Yard, tmp_path: Path
) -> None:
    running = yard.start(*words(tmp_path, "first", more="while [ ! -e $INPUT_DIR/../go ]; do sleep 0.1; done;"))
    yard.wait_for(lambda: yard.record("same").get("phase") == "started")

    refused = yard.invoke(*words(tmp_path, "second")).expect(3)
    assert "tester/same is not over (attempt 1, started)" in refused.err and "invoke attach tester/same" in refused.err

    yard.invoke("ssh", "same", "--", "touch", "$WORKSPACE/go").expect()
    running.communicate(timeout=200)
    yard.invoke(*words(tmp_path, "second")).expect()
    assert {path.name for path in (yard.root / "out" / "tester").iterdir()} == {"same", "same.2"}
    assert [row["attempt"] for row in yard.invoke("runs", "--json").json()] == [1, 2]


def test_a_bucket_that_does_not_take_the_claim_means_that_nothing_is_rented(yard: Yard, tmp_path: Path) -> None:
    yard.invoke(*words(tmp_path, "first")).expect()
    buckets = [path for path in (yard.base / "o" / "store" / "data").iterdir() if path.is_dir()]
    for path in buckets:
        shutil.rmtree(path)

    done = yard.invoke(*words(tmp_path, "second")).expect(7)

    assert "could not be claimed, nothing was rented" in done.err and yard.pods() == []
    assert [row["attempt"] for row in yard.invoke("runs", "--json").json()] == [1]
