"""The pages of docs/ build as a site without a warning, and reading them asks no other host for anything."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent


def build(config: Path, to: Path) -> subprocess.CompletedProcess[str]:
    """Build a site as ``invoke docs`` does."""
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--config-file", str(config), "--site-dir", str(to)]
    env = {**os.environ, "NO_MKDOCS_2_WARNING": "1"}
    return subprocess.run(command, cwd=config.parent, env=env, capture_output=True, text=True, check=False)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The built site."""
    to = tmp_path_factory.mktemp("site")
    done = build(ROOT / "mkdocs.yml", to)
    assert done.returncode == 0, done.stdout + done.stderr
    return to


class Loads(HTMLParser):
    """What a browser fetches when it opens a page, and the links that a reader may follow."""

    def __init__(self) -> None:
        super().__init__()
        self.fetched: list[str] = []
        self.links: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        for name, value in attrs:
            if value and (name == "src" or (tag == "link" and name == "href")):
                self.fetched.append(value)
            if value and tag == "a" and name == "href":
                self.links.append(value)


def loads(page: Path) -> Loads:
    reader = Loads()
    reader.feed(page.read_text(encoding="utf-8"))
    return reader


def test_reading_the_site_asks_no_other_host(site: Path) -> None:
    pages = sorted(site.rglob("*.html"))

    assert len(pages) > 10
    assert [(page.name, url) for page in pages for url in loads(page).fetched if re.match(r"(https?:)?//", url)] == []


def test_every_page_is_one_that_a_person_wrote(site: Path) -> None:
    programs = sorted(path.relative_to(site).as_posix() for path in site.rglob("*.py"))

    assert programs == ["examples/airflow_dag.py", "examples/nimbus/nimbus.py", "examples/nimbus/nimbus_emulator.py"], "pages link them"


def test_links_of_the_root_pages_lead_to_pages_of_the_site(site: Path) -> None:
    links = loads(site / "contributing.html").links

    assert "changelog.html" in links
    assert [link for link in links if link.endswith((".md", ".yml", ".py"))] == []


def test_links_that_lead_nowhere_fail_the_build(tmp_path: Path) -> None:
    links = ("nowhere.md", "#nowhere", "/index.md")
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs" / "index.md").write_text("# One page\n\n" + "\n".join(f"[there]({link})" for link in links), encoding="utf-8")
    config = (ROOT / "mkdocs.yml").read_text(encoding="utf-8").partition("\nnav:\n")[0]
    (tmp_path / "mkdocs.yml").write_text(re.sub(r"^(hooks|extra_css):.*\n", "", config, flags=re.M), encoding="utf-8")

    done = build(tmp_path / "mkdocs.yml", tmp_path / "site")

    assert done.returncode != 0
    assert [link for link in links if f"'{link}'" not in done.stdout + done.stderr] == []
    assert "3 warnings" in done.stdout + done.stderr
