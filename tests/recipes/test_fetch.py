"""fetch.py on the pod: which files of a data set of the Hub are asked for."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.recipes.conftest import ROOT


@pytest.mark.parametrize(
    ("hub", "wanted"),
    [
        ({"path": None, "split": None, "images": True}, ["*.jpg", "*.txt", "*.parquet"]),
        ({"path": None, "split": "test"}, ["*test*.jsonl", "*test*.parquet"]),
        ({"path": "en/", "split": "test"}, ["en/*test*.jsonl", "en/*test*.parquet"]),
        ({"path": "en", "split": None}, ["en", "en/*"]),
        ({"path": None, "split": None}, ["*.jsonl", "*.parquet"]),
    ],
)
def test_only_the_files_of_a_split_are_fetched_from_the_hub(tmp_path: Path, hub: dict[str, Any], wanted: list[str]) -> None:
    (tmp_path / "huggingface_hub.py").write_text(
        "def snapshot_download(repo, **given): print(repo, given['revision'], given['allow_patterns'])\n"
    )
    if hub.pop("images", False):
        (tmp_path / "images.py").touch()
    (tmp_path / "data.json").write_text(json.dumps({"files": [], "hub": {"repo": "o/n", "revision": "v1", **hub}}))
    env = {"RUN_DIR": str(tmp_path), "INPUT_DIR": str(tmp_path), "PYTHONPATH": str(tmp_path), "PATH": os.environ["PATH"]}
    done = subprocess.run([sys.executable, ROOT / "templates" / "common" / "fetch.py"], env=env, capture_output=True, text=True)
    assert done.returncode == 0 and done.stdout.startswith("o/n v1 [") and all(repr(pattern) in done.stdout for pattern in wanted)
