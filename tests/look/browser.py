"""A real Chromium that looks at a server: pictures by size and ground, and what axe-core finds wrong."""

from __future__ import annotations

import contextlib
import importlib.util
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

SIZES = {"desktop": (1280, 860), "phone": (390, 844)}
GROUNDS = ("light", "dark")
_SERIOUS = ("serious", "critical")


def chromium() -> str | None:
    """Return where a Chromium is: CHROMIUM, or Debian's."""
    return os.environ.get("CHROMIUM") or shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")


class LookingBrowser:
    """A browser; what its pages complain of is kept."""

    def __init__(self, browser: Any, pictures: Path) -> None:
        self.browser, self.pictures = browser, pictures
        self.complaints: list[str] = []
        spec = importlib.util.find_spec("axe_playwright_python")
        assert spec is not None
        assert spec.origin is not None
        self.axe = (Path(spec.origin).parent / "axe.min.js").read_text(encoding="utf-8")

    def page(self, size: str = "desktop", ground: str = "light", *, script: bool = True, cookies: Any = ()) -> Any:
        """Return a page of its own."""
        width, height = SIZES[size]
        context = self.browser.new_context(
            viewport={"width": width, "height": height}, color_scheme=ground, java_script_enabled=script, reduced_motion="reduce",
            accept_downloads=True,
        )  # fmt: skip
        context.add_cookies(list(cookies))
        page = context.new_page()
        page.set_default_timeout(90_000)
        page.on("console", lambda said: self.complaints.append(f"{page.url}: {said.text}") if said.type == "error" else None)
        page.on("pageerror", lambda error: self.complaints.append(f"{page.url}: {error}"))
        return page

    def faults(self, page: Any) -> list[str]:
        """Return what axe-core finds that is serious, and whether the page is wider than its window."""
        page.evaluate(self.axe)
        found = page.evaluate("axe.run(document, {resultTypes: ['violations']})")["violations"]
        faults = [f"{page.url}: {one['id']}: {one['nodes'][0]['target']}" for one in found if one["impact"] in _SERIOUS]
        if page.evaluate("document.documentElement.scrollWidth > window.innerWidth + 1"):
            faults.append(f"{page.url}: wider than its window of {page.viewport_size['width']}")
        return faults

    def picture(self, page: Any, name: str) -> None:
        """Keep what the window shows."""
        page.screenshot(path=self.pictures / f"dashboard-{name}.png")


@contextlib.contextmanager
def looking(pictures: Path) -> Iterator[LookingBrowser]:
    """Start the browser."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium(), args=["--no-sandbox"])
        try:
            yield LookingBrowser(browser, pictures)
        finally:
            browser.close()
