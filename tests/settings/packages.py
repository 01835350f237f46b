"""An installed package with entry points, as far as Python knows of it: a folder on its path."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import pytest

from trainyard.settings import clouds

Install = Callable[[str, Mapping[str, str]], Path]


@contextmanager
def installing(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Install]:
    """Give a function that installs a package (its name, the files' texts by their names) into a folder; forget it all at the end.

    ``entry_points`` among the names are the lines of the group of clouds.
    """
    monkeypatch.syspath_prepend(str(folder))

    def install(package: str, files: Mapping[str, str]) -> Path:
        for name, text in files.items():
            (folder / name).write_text(text, encoding="utf-8")
        about = folder / f"{package.replace('-', '_')}-1.0.dist-info"
        about.mkdir()
        (about / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {package}\nVersion: 1.0\n")
        (about / "entry_points.txt").write_text(f"[{clouds.ENTRY_POINTS}]\n{files['entry_points']}\n")
        clouds._of_packages.cache_clear()
        return folder

    try:
        yield install
    finally:
        for name, module in list(sys.modules.items()):
            if str(getattr(module, "__file__", "")).startswith(f"{folder}/"):
                del sys.modules[name]
        clouds._of_packages.cache_clear()
