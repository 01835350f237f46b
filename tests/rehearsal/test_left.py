"""A rehearsal that is left has nothing to come back to, and says so."""

from __future__ import annotations

from pathlib import Path

import pytest

from trainyard.config import places
from trainyard.errors import Detached, DiskFull, StillThere, TrainyardError, render
from trainyard.rehearsal.living import entered
from trainyard.rehearsal.session import rehearsal
from trainyard.runs.records.identity import is_there

RUN = "anna/2026-11-30-080920"


@pytest.mark.parametrize(
    ("trouble", "code"), [(Detached("detached (Ctrl-C): the training goes on"), 130), (StillThere("no link"), 6), (DiskFull("full"), 74)]
)
def test_no_command_to_come_back_with_is_named_for_what_ended_with_the_rehearsal(
    trouble: TrainyardError, code: int, tmp_path: Path
) -> None:
    (tmp_path / "Pulumi.yaml").write_text("name: trainyard\n")
    (tmp_path / "Pulumi.vast.yaml").write_text("config:\n  trainyard:cloud: vast\n  trainyard:gpu: [RTX 4090]\n")
    trouble.hint = f"Come back with: invoke attach {RUN}"
    env = {"TRAINYARD_LOCAL_ROOT": str(tmp_path / "local")}

    with pytest.raises(TrainyardError) as left, rehearsal("vast", places(tmp_path, env), env):
        raise trouble

    told = render(left.value)
    assert left.value.exit_code == code and "attach" not in told and "goes on and" not in told and "the training goes on" not in told
    assert "have ended with it; nothing goes on" in told and "Again: invoke rehearse --stack vast" in told


def test_another_command_finds_a_run_of_a_rehearsal_while_that_is_at_work(tmp_path: Path) -> None:
    (tmp_path / "Pulumi.yaml").write_text("name: trainyard\n")
    (tmp_path / "Pulumi.vast.yaml").write_text("config:\n  trainyard:cloud: vast\n  trainyard:gpu: [RTX 4090]\n")
    env = {"TRAINYARD_LOCAL_ROOT": str(tmp_path / "local"), "VAST_API_KEY": "a real one", "AWS_PROFILE": "mine", "TERM": "xterm"}
    here = places(tmp_path, env)

    with rehearsal("vast", here, {name: value for name, value in env.items() if name != "VAST_API_KEY"}) as world:
        inside = places(world.root, world.env)
        (inside.runs / RUN / "1").mkdir(parents=True)
        other = dict(env)
        with entered(here, other, lambda there: is_there(there.runs, RUN.partition("/")[2])) as folder:
            assert folder is not None and folder.name == "vast" and other["TERM"] == "xterm"
            assert other["VAST_API_KEY"] == world.env["VAST_API_KEY"] != env["VAST_API_KEY"] and "AWS_PROFILE" not in other
            assert places(Path(other["TRAINYARD_PROJECT_DIR"]), other) == inside
        assert other == env
        with entered(here, other, lambda there: is_there(there.runs, "no-such-run")) as folder:
            assert folder is None and other == env
    with entered(here, other, lambda _: True) as folder:
        assert folder is None, "it is over"
    assert (inside.runs / RUN / "1").is_dir() and [*(here.home / "rehearsal/vast").glob("world.json")] == []
