"""Templates fail loudly and quote safely."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from trainyard.errors import UserError
from trainyard.templating import render_file, render_text


def test_an_undefined_name_is_an_error_with_its_line(tmp_path: Path) -> None:
    (tmp_path / "run.sh.j2").write_text("#!/bin/sh\necho {{ nmae }}\n")

    with pytest.raises(UserError) as caught:
        render_file(tmp_path, "run.sh.j2", {"name": "x"})

    assert "run.sh.j2:2:1: 'nmae' is undefined" in str(caught.value)


def test_a_syntax_error_names_its_line(tmp_path: Path) -> None:
    (tmp_path / "run.sh.j2").write_text("a\n{% if %}\n")

    with pytest.raises(UserError, match=r"run\.sh\.j2:2"):
        render_file(tmp_path, "run.sh.j2", {})


def test_the_quote_filter_makes_any_value_one_word_of_sh() -> None:
    nasty = 'a b\'; echo $(id) "x" `y`\n$HOME'

    script = render_text("printf %s {{ value | quote }}", {"value": nasty})

    assert subprocess.run(["sh", "-c", script], capture_output=True, text=True, check=True).stdout == nasty
