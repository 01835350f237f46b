"""An environment is brought up again when what it is made of changed: also when a store's credentials came or went."""

from __future__ import annotations

from pathlib import Path

import pytest

from trainyard.config import Places
from trainyard.errors import UserError
from trainyard.runs.context import CommandContext
from trainyard.runs.planning.upkeep import _fingerprint, obtain_store
from trainyard.runs.ui import Ui
from trainyard.stacks.model import Stack
from trainyard.storage import local

AWS = {"AWS_ACCESS_KEY_ID": "id", "AWS_SECRET_ACCESS_KEY": "secret"}


@pytest.fixture
def places(tmp_path: Path) -> Places:
    (tmp_path / "Pulumi.yaml").write_text("name: trainyard\n")
    return Places(tmp_path, tmp_path / "h", tmp_path / "o", tmp_path / "s")


def fingerprint(places: Places, lines: list[str], env: dict[str, str]) -> str | None:
    path = places.root / "Pulumi.x.yaml"
    path.write_text("config:\n" + "".join(f"  trainyard:{line}\n" for line in lines))
    return _fingerprint(places, Stack("x", places, env, path))


def test_credentials_that_come_or_go_are_a_change(places: Places) -> None:
    alone, with_store = fingerprint(places, ["cloud: runpod"], {}), fingerprint(places, ["cloud: runpod"], AWS)
    assert alone != with_store
    assert with_store == fingerprint(places, ["cloud: runpod"], {**AWS, "AWS_SECRET_ACCESS_KEY": "another"})
    assert with_store != fingerprint(places, ["cloud: runpod"], {**AWS, "AWS_ENDPOINT_URL": "https://elsewhere"})


@pytest.mark.parametrize("lines", [["cloud: local"], ["cloud: runpod", "bucket: none"], ["cloud: runpod", "store: local"]])
def test_where_no_store_is_asked_for_its_variables_do_not_matter(places: Places, lines: list[str]) -> None:
    half = {"R2_ACCESS_KEY_ID": "id"}
    assert fingerprint(places, lines, {}) == fingerprint(places, lines, AWS) == fingerprint(places, lines, half)


def test_a_group_set_by_half_is_the_users_error(places: Places) -> None:
    with pytest.raises(UserError, match="R2_SECRET_ACCESS_KEY"):
        fingerprint(places, ["cloud: runpod"], {"R2_ACCESS_KEY_ID": "id"})


@pytest.mark.parametrize(
    ("lines", "wanted"),
    [
        (["cloud: local"], True),
        (["cloud: local", "bucket: none"], False),
        (["cloud: runpod", "store: local"], True),
        (["cloud: runpod", "store: r2", "bucket: results"], False),
        (["cloud: runpod"], False),
    ],
)
def test_the_local_stores_program_is_there_before_an_engine_needs_it(
    places: Places, lines: list[str], wanted: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = places.root / "Pulumi.x.yaml"
    path.write_text("config:\n" + "".join(f"  trainyard:{line}\n" for line in lines))
    asked: list[object] = []
    monkeypatch.setattr(local, "obtain", asked.append)
    ui = Ui()

    env = {"R2_ACCESS_KEY_ID": "a", "R2_SECRET_ACCESS_KEY": "b", "R2_ENDPOINT_URL": "https://x.y"}

    obtain_store(CommandContext(places, env, ui), Stack("x", places, env, path))

    assert asked == ([ui.say] if wanted else [])
