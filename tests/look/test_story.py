"""A person's whole story in a real browser, on the stack local: from the link to a result that is downloaded; and each page, looked at."""

from __future__ import annotations

import os
import re
import threading
import time
from collections import deque
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.yard import Yard
from tests.look.browser import GROUNDS, SIZES, LookingBrowser, chromium, looking
from trainyard.ledger.ledger import Ledger
from trainyard.ledger.rows import RunRow

pytestmark = [pytest.mark.extras("playwright"), pytest.mark.timeout(900)]
CURVE = Path(__file__).resolve().parent / "curve.py"
PAGES = ("/", "/start", "/start/lora", "/queue", "/offers", "/account", "/stacks", "/stacks/local", "/operations")
LOOK = "TRAINYARD_LOOK"
"""Names the folder for pictures (invoke server.look)."""


@pytest.fixture
def browser(tmp_path: Path) -> Iterator[LookingBrowser]:
    if chromium() is None:
        pytest.skip("no Chromium is here: apt-get install chromium")
    with looking(Path(os.environ.get(LOOK) or tmp_path)) as one:
        yield one


@pytest.fixture
def yard(tmp_path: Path) -> Iterator[Yard]:
    one = Yard(tmp_path)
    settings = one.root / "Pulumi.local.yaml"
    settings.write_text(settings.read_text() + "  trainyard:approve: [{users: [tester]}]\n")
    others(one.places.ledger)
    yield one
    one.close()


def others(ledger: Path) -> None:
    """Put runs of a team on the ledger, so that there is something to look at."""
    told = (
        ("ann/memories-8", "succeeded", "runpod", "lora", 1.204, 2.31), ("bob/lr-sweep-3", "failed", "vast", "lora", None, 0.42),
        ("ann/summaries", "succeeded", "lambda", "summarizer", 1.871, 1.12),
        ("cy/pictures", "stopped", "runpod", "simpletuner", 0.093, 3.87), ("bob/lr-sweep-2", "succeeded", "vast", "lora", 1.377, 0.66),
        ("ann/memories-7", "cancelled", "runpod", "lora", 2.9, 0.18),
    )  # fmt: skip
    now = time.time()
    rows = [
        RunRow(
            user=run.partition("/")[0], label=run.partition("/")[2], attempt=1, token=run, stack=stack, cloud=stack, recipe=recipe,
            state=state, over=True, machine="elsewhere", created=now - 9000 * (number + 1) ** 2, started=now, ended=now, hours=2.0,
            steps_done=400, steps_planned=400 if state == "succeeded" else 900, loss=loss, learning_rate=2e-4, eta=None, estimate=cost * 2,
            cost=cost, s3_url=None, local_path=None, owed=False, git_commit=None, changed=now,
            error="CUDA out of memory at step 12" if state == "failed" else None,
        )
        for number, (run, state, stack, recipe, loss, cost) in enumerate(told)
    ]  # fmt: skip
    ledger.parent.mkdir(parents=True, exist_ok=True)
    Ledger(ledger).put_runs(rows)


def served(yard: Yard) -> str:
    """Start a server and return the link that it prints."""
    said = yard.output(yard.start("serve", "--port", "0"))
    for line in said:
        if link := re.search(r"http://127\.0\.0\.1:\d+/login#\S+", line):
            threading.Thread(target=lambda: deque(said, maxlen=0), daemon=True).start()  # else its log fills the pipe, and it waits
            return link[0]
    raise AssertionError("the server has printed no link")


def started(page: Any, base: str, name: str, args: str) -> None:
    """Fill the form, read what it costs, agree."""
    page.goto(f"{base}/start/command")
    page.fill("#s-name", name)
    page.locator("summary").first.click()
    for field, value in (("script", str(CURVE)), ("args", args), ("code", "none")):
        page.fill(f"#v-{field}", value)
    page.click("text=Show what it costs")
    page.wait_for_selector("text=Agree and start")


def asked(page: Any, words: str) -> None:
    """Press a button, and its answer in the dialog."""
    page.locator(f".acts a:has-text('{words}')").first.click()
    page.locator("dialog[open] button.first").click()
    page.wait_for_url("**/operations/*")
    page.wait_for_selector("#operation .state.good, #operation .state.bad")
    assert page.locator("#operation .head .state.good").count() == 1, page.inner_text("main")


def test_a_run_is_started_approved_watched_cancelled_resumed_and_downloaded(yard: Yard, browser: LookingBrowser) -> None:
    link = served(yard)
    base = link.partition("/login")[0]
    page = browser.page()
    page.goto(link)
    page.wait_for_url(f"{base}/")

    started(page, base, "first", "700 0.2")
    browser.picture(page, "plan")
    page.click("text=Agree and start")
    page.wait_for_selector("#operation .head .state.good")

    page.goto(f"{base}/queue")
    page.wait_for_selector(".state:has-text('to approve')")
    browser.picture(page, "queue")
    listed = browser.page(cookies=page.context.cookies())
    listed.goto(f"{base}/")
    asked(page, "Approve")

    run = f"{base}/runs/tester/first/1"
    while page.goto(run).status == 404:
        page.wait_for_timeout(500)
    page.wait_for_selector("#log:has-text('step 250/700')")
    assert page.locator(".chart:visible canvas").count() >= 4, (
        "curves are drawn as they grow, on a page that was loaded before there were any"
    )
    assert page.title() == "tester/first · Trainyard", "what a log says is text"
    listed.wait_for_selector("tr[data-run='tester/first/1'] [data-cell='progress']:has-text('/700')")
    listed.context.close()
    look(page, browser, base, run)
    asked(page, "Cancel")

    page.goto(run)
    page.wait_for_selector(".state:has-text('cancelled')")
    page.locator(".acts a:has-text('Resume')").click()
    page.locator("dialog[open] button.first").click()
    page.wait_for_url("**/operations/*")
    second = f"{base}/runs/tester/first/2"
    while page.goto(second).status == 404:
        page.wait_for_timeout(500)
    page.wait_for_selector(".state:has-text('succeeded')")
    assert "700/700" in page.inner_text("#overview")

    asked(page, "Fetch its result")
    page.goto(second)
    with page.expect_download() as download:
        page.click("a[download]:has-text('weights.bin')")
    assert Path(download.value.path()).stat().st_size == 40_000
    assert [line for line in browser.complaints if "404" not in line] == []


def look(page: Any, browser: LookingBrowser, base: str, run: str) -> None:
    """Look at each page in both sizes, on both grounds, while a run goes on."""
    cookies = page.context.cookies()
    compared = f"{base}/compare?run=tester/first/1&run=ann/memories-8/1"
    faults = []
    for size in SIZES:
        for ground in GROUNDS:
            other = browser.page(size, ground, cookies=cookies)
            every = (
                (f"{run}/do/cancel", *(f"{base}{path}" for path in PAGES)) if (size == "desktop") == (ground == "light") else (f"{base}/",)
            )
            for url in (run, compared, f"{base}/costs", *every):
                other.goto(url)
                other.wait_for_timeout(150)  # curves are drawn by then, or the picture lacks them
                faults += browser.faults(other)
                name = {run: "run", compared: "compare", f"{base}/": "runs", f"{base}/costs": "costs"}.get(url)
                if name:
                    browser.picture(other, f"{name}-{size}-{ground}")
            other.context.close()
    assert faults == []
    plain = browser.page(script=False, cookies=cookies)
    plain.goto(f"{run}/do/cancel")
    assert plain.locator("#ask button.first").is_visible(), "a question needs no script"
    plain.context.close()
