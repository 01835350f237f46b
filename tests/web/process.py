"""A server's process of a repository of its own, and somebody who has logged in there."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx

from tests.web.conftest import ROOT

COMMAND = [sys.executable, "-m", "trainyard", "serve"]


@dataclass
class Running:
    """A server's process, where it answers, and somebody who has logged in there."""

    process: subprocess.Popen[str]
    url: str
    browser: httpx.Client

    def csrf(self) -> str:
        """Return what changes in the browser's session have to say."""
        said = re.search(r'name="csrf" value="([0-9a-f]+)"', self.browser.get("/").text)
        assert said is not None
        return said[1]


def surroundings(tmp_path: Path) -> dict[str, str]:
    places = {"TRAINYARD_HOME": str(tmp_path / "home"), "TRAINYARD_LOCAL_ROOT": str(tmp_path / "outside"), "HOME": str(tmp_path)}
    places["XDG_CACHE_HOME"] = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")  # programs and packages that were made
    return {**os.environ, **places, "TRAINYARD_USER": "ann"}


@contextmanager
def running(tmp_path: Path, *more: str, root: Path = ROOT) -> Iterator[Running]:
    process = subprocess.Popen(
        [*COMMAND, "--port=0", *more], cwd=root, env=surroundings(tmp_path), stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    )  # fmt: skip
    try:
        assert process.stdout is not None
        link = re.search(r"(http://127\.0\.0\.1:\d+)/login#(\S+)", process.stdout.readline())
        assert link is not None
        with httpx.Client(base_url=link[1], timeout=60, trust_env=False) as browser:
            assert browser.post("/login", data={"token": link[2]}).status_code == 303
            yield Running(process, link[1], browser)
    finally:
        if process.poll() is None:
            process.kill()
        process.communicate()
