"""Whose file wins: the repository's own before Trainyard's, one file at a time; in a wheel, in a checkout and through links."""

from __future__ import annotations

from pathlib import Path

import pytest

from trainyard import shipped
from trainyard.errors import UserError
from trainyard.recipes.bundle import build
from trainyard.recipes.contract import load_recipe, recipe_names
from trainyard.recipes.data import inspect
from trainyard.recipes.values import resolve

ROOT = Path(__file__).resolve().parents[2]
OWN = "summary: mine\ncommand: sh go.sh\ndata: none\nfiles: [go.sh]\nverdict: {exit_codes: [0], artefacts: []}\n"


def write(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def recipe(root: Path, name: str) -> Path:
    write(root / "templates" / name / "go.sh", "echo mine\n")
    return write(root / "templates" / name / "recipe.yaml", OWN)


@pytest.fixture
def packed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The package as a wheel has it: with its assets inside."""
    assets = tmp_path / "package" / "assets"
    recipe(assets, "theirs")
    for name in ("templates", "playbooks"):
        write(assets / name / "common" / "x", "package\n")
    monkeypatch.setattr(shipped, "_ASSETS", assets)
    return assets


def test_a_checkout_brings_its_own_top_level_and_a_wheel_what_is_packed_in_it(packed: Path) -> None:
    assert shipped.checkout() is None and shipped.shipped("templates/common/x") == packed / "templates/common/x"


def test_in_a_checkout_there_is_one_place(tmp_path: Path) -> None:
    assert shipped.checkout() == ROOT and shipped.layers(ROOT, "templates") == (ROOT / "templates",)
    (tmp_path / "templates").symlink_to(ROOT / "templates")
    assert shipped.layers(tmp_path, "templates") == (tmp_path / "templates",)


def test_a_repositorys_file_comes_before_trainyards(packed: Path, tmp_path: Path) -> None:
    root = tmp_path / "own"
    assert shipped.find(root, "playbooks/common/x") == packed / "playbooks/common/x"
    mine = write(root / "playbooks/common/x", "mine\n")
    assert shipped.find(root, "playbooks/common/x") == mine


def test_a_folder_is_trainyards_with_the_repositorys_files_over_it(packed: Path, tmp_path: Path) -> None:
    root = tmp_path / "own"
    write(packed / "playbooks/train.yml", "package\n")
    write(root / "playbooks/train.yml", "mine\n")
    write(root / "playbooks/more/mine.yml", "mine\n")

    shipped.overlay(root, "playbooks", tmp_path / "run")

    found = {path.relative_to(tmp_path / "run").as_posix(): path.read_text() for path in (tmp_path / "run").rglob("*") if path.is_file()}
    assert found == {"train.yml": "mine\n", "common/x": "package\n", "more/mine.yml": "mine\n"}


def test_a_recipe_of_ones_own_takes_the_place_of_trainyards(tmp_path: Path) -> None:
    assert load_recipe(tmp_path, "lora").folder == ROOT / "templates/lora"
    recipe(tmp_path, "lora")
    recipe(tmp_path, "mine")

    assert load_recipe(tmp_path, "lora").summary == "mine"
    assert {"command", "lora", "mine"} <= set(recipe_names(tmp_path))
    with pytest.raises(UserError, match=r"there is no recipe 'mime' \(did you mean 'mine'\?\)") as left:
        load_recipe(tmp_path, "mime")
    shipped_here = ", ".join(sorted(path.parent.name for path in (ROOT / "templates").glob("*/recipe.yaml")))
    assert left.value.hint == f"Recipes here: lora, mine. Trainyard's: {shipped_here}."


@pytest.mark.parametrize("own", [False, True])
def test_what_recipes_share_is_taken_file_by_file(own: bool, tmp_path: Path) -> None:
    root = tmp_path / "own"
    recipe(root, "mine")
    if own:
        write(root / "templates/common/run.sh.j2", "# mine for {{ recipe }}\n")
    for name in ("mine", "command"):
        chosen = load_recipe(root, name)
        values = resolve(chosen, None, () if name == "mine" else [f"script={root / 'templates/mine/go.sh'}"], {})

        made = build(chosen, values, inspect(None, chosen, values=values), tmp_path / f"bundle-{name}")

        assert ((made.dir / "run.sh").read_text() == f"# mine for {name}\n") == own
