"""Each file of errors/ begins with all that is said against it: ``# LINE:COLUMN: MESSAGE``, or ``# FILE:LINE:COLUMN: MESSAGE``.

What a case needs beside it (roles, templates, other files) lies in ``errors/NAME.d/``, whose files count as lying beside the playbook.
"""

from __future__ import annotations

import shutil
import tempfile
from itertools import takewhile
from pathlib import Path

import pytest

from trainyard import playbook
from trainyard.errors import SeveralWrong, UserError
from trainyard.playbook.checks import check_everything

FOLDER = Path(__file__).parent / "errors"


def messages(path: Path) -> list[str]:
    """Return what is said against a playbook that lies alone with the files of its case."""
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder) / "case"
        place.mkdir()
        if path.with_suffix(".d").exists():
            shutil.copytree(path.with_suffix(".d"), place, dirs_exist_ok=True)
        shutil.copy(path, place / "play.yml")
        try:
            check_everything(playbook.load(place / "play.yml"), [], {})
        except UserError as error:
            parts = error.parts if isinstance(error, SeveralWrong) else (error,)
            return [f"{part.where}: {part.message}".replace(f"{place}/play.yml:", "").replace(str(place), "HERE") for part in parts]
        return []


@pytest.mark.parametrize("path", sorted(FOLDER.glob("*.yml")), ids=lambda path: path.stem)
def test_all_that_is_wrong_is_told_at_its_place(path: Path) -> None:
    lines = path.read_text(encoding="utf-8").splitlines()
    assert messages(path) == [line[2:] for line in takewhile(lambda line: line.startswith("# "), lines)]


def test_there_are_a_hundred_cases_of_mistakes() -> None:
    assert len(list(FOLDER.glob("*.yml"))) >= 100
