"""The pages: each shows what is, asks before anything is done, and lets nothing that it shows become a part of it."""

from __future__ import annotations

import dataclasses
import io
import json
import re
import threading
from collections.abc import Sequence

import pytest

from tests.web.conftest import NOON, Served
from trainyard.errors import UserError
from trainyard.ledger.rows import RunRow
from trainyard.runs.records.record import RunRecord
from trainyard.runs.records.runrows import take_in
from trainyard.web import work
from trainyard.web.live.curves import RunCurves
from trainyard.web.pages import runlog, wording
from trainyard.web.pages.runpages import folder_of
from trainyard.web.pages.runview import FETCHED
from trainyard.web.reports import VerbReports
from trainyard.web.spending import by_day

EVIL = "<script>alert(1)</script>"
PAGES = ("/", "/queue", "/costs", "/offers", "/account", "/stacks", "/stacks/local", "/operations", "/compare", "/start", "/start/lora")

LEADING_ELSEWHERE = (
    "/runs/ann/first/1/do/rm", "/queue/ann/first/do/x", "/stacks/none", "/stacks/..%2f..", "/account?stack=../x", "/runs/ann/none/1",
    "/compare?run=../../etc/passwd", "/runs/ann/first/1/files/../run.json", "/runs/ann/first/1/files/..%2frun.json",
    "/runs/ann/first/1/files/%2fetc%2fpasswd", "/runs/ann/first/1/files/link", "/runs/..%2f..%2fx/y/1",
)  # fmt: skip


@pytest.fixture
def begun(monkeypatch: pytest.MonkeyPatch) -> list[Sequence[str]]:
    """What processes were begun, none of which is."""
    words: list[Sequence[str]] = []

    def start(argv: Sequence[str], **_: object) -> io.BytesIO:
        words.append(argv)
        return io.BytesIO()

    monkeypatch.setattr(work, "start_apart", start)
    return words


class AskedVerbs:
    """Verbs that were asked for what only a cloud can tell, and what they answer when they may."""

    def __init__(self) -> None:
        self.words: list[tuple[str, ...]] = []
        self.answer: object = []
        self.may_answer, self.answered = threading.Event(), threading.Event()
        self.may_answer.set()

    def __call__(self, words: tuple[str, ...]) -> object:
        self.words.append(words)
        self.may_answer.wait()
        self.answered.set()
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> AskedVerbs:
    verbs = AskedVerbs()
    monkeypatch.setattr(VerbReports, "_ask", lambda _self, words: verbs(words))
    return verbs


def kept_run(served: Served, label: str = "first", **changes: object) -> RunRecord:
    """Return a run whose record, metrics and log are here."""
    record = RunRecord(
        user="ann", label=label, attempt=1, environment="local", recipe="command", values={"note": EVIL}, bundle_sha256="", hours=2.0,
        created=NOON - 60, phase="started",
    )  # fmt: skip
    for name, value in changes.items():
        setattr(record, name, value)
    folder = folder_of(served.site, "ann", label, 1)
    folder.save(record)
    folder.metrics.write_text("".join(json.dumps({"step": step, "total_steps": 9, "loss": 3.0 - step / 9}) + "\n" for step in range(1, 6)))
    folder.log.write_text(f"\x1b[31mred\x1b[0m {EVIL}\rsecond\n")
    take_in(served.site.ledger, served.site.context.places.runs)
    return record


def test_each_page_is_there_for_a_reader_before_anything_ran(served: Served, asked: AskedVerbs) -> None:
    served.account("ann", "view")
    client = served.client(served.token("ann"))
    for path in PAGES:
        answer = client.get(path)
        assert (path, answer.status_code, answer.headers["content-type"]) == (path, 200, "text/html; charset=utf-8")
        inline = re.search(r"<[^>]+\sstyle=|<[^>]+\son[a-z]+=|<script>|javascript:", answer.text)
        assert inline is None, f"{path}: the policy refuses {inline[0]}"


def test_a_run_shows_its_figures_its_curves_and_its_log_as_text(served: Served) -> None:
    served.account("ann")
    kept_run(served, error=EVIL)
    text = served.client(served.token("ann")).get("/runs/ann/first/1").text
    assert "5/9" in text
    assert '"loss": [[1, 2, 3, 4, 5]' in text
    assert "red &lt;script&gt;alert(1)&lt;/script&gt;\nsecond" in text
    assert EVIL not in text


def test_a_log_is_shown_from_any_byte_on(served: Served) -> None:
    served.account("ann")
    kept_run(served)
    log = folder_of(served.site, "ann", "first", 1).log
    log.write_bytes(b"a" * runlog.PIECE + b"the end")
    client = served.client(served.token("ann"))
    assert "the end" in client.get("/runs/ann/first/1").text
    first = client.get("/runs/ann/first/1?offset=0").text
    assert "the end" not in first
    assert f"?offset={runlog.PIECE}#log" in first
    assert client.get(f"/runs/ann/first/1?offset={runlog.PIECE + 4}").text.count(">end<") == 1
    assert client.get("/runs/ann/first/1/train.log").content == log.read_bytes()


def test_what_a_button_asks_for_is_done_only_by_its_answer(served: Served, begun: list[Sequence[str]]) -> None:
    served.account("ann")
    kept_run(served)
    token = served.token("ann", kind="session")
    client = served.client()
    client.cookies.set("trainyard", token)
    asked = client.get("/runs/ann/first/1/do/cancel")
    assert (asked.status_code, begun) == (200, [])
    assert "This attempt has cost $0.00" in asked.text
    csrf = re.findall(r'id="ask".*?name="csrf" value="([0-9a-f]+)"', asked.text, re.S)[0]

    assert client.post("/runs/ann/first/1/do/cancel", data={"now": "yes"}).status_code == 403
    assert begun == []

    answer = client.post("/runs/ann/first/1/do/cancel", data={"csrf": csrf, "now": "yes"}, follow_redirects=False)
    operation = served.site.operations.newest(1)[0]
    assert (answer.status_code, answer.headers["location"]) == (303, f"/operations/{operation.id}")
    assert operation.words == ("cancel", "ann/first", "--now", "--json")
    assert len(begun) == 1
    assert "trainyard cancel ann/first --now" in client.get(f"/operations/{operation.id}").text


def test_what_does_not_fit_is_said_in_the_question_and_nothing_is_begun(served: Served, begun: list[Sequence[str]]) -> None:
    served.account("ann")
    kept_run(served)
    client = served.client(served.token("ann"))
    answer = client.post("/runs/ann/first/1/do/extend", data={"time": "--force"})
    assert answer.status_code == 422
    assert "How much longer" in re.findall(r'role="alert">(.*?)</p>', answer.text, re.S)[0]
    assert begun == []


def test_who_may_only_look_is_asked_nothing(served: Served, begun: list[Sequence[str]]) -> None:
    served.account("ann", "view")
    client = served.client(served.token("ann"))
    for path in ("/runs/ann/first/1/do/cancel", "/queue/ann/first/do/approve", "/pods/local/p1/end", "/stacks/local/do/up"):
        assert (path, client.get(path).status_code, client.post(path).status_code) == (path, 403, 403)
    assert begun == []


def test_a_name_that_leads_elsewhere_leads_nowhere(served: Served, begun: list[Sequence[str]]) -> None:
    served.account("ann")
    kept_run(served)
    place = folder_of(served.site, "ann", "first", 1).path / FETCHED
    place.mkdir()
    (place / "link").symlink_to("/etc/passwd")
    (place / "model").write_text("weights")
    client = served.client(served.token("ann"))
    assert client.get("/runs/ann/first/1/files/model").content == b"weights"
    for path in LEADING_ELSEWHERE:
        answer = client.get(path)
        assert answer.status_code in (404, 422), path
        assert "root:" not in answer.text
    assert begun == []


def test_what_a_cloud_tells_is_asked_once_and_shown_as_of_when(served: Served, asked: AskedVerbs) -> None:
    served.account("ann")
    client = served.client(served.token("ann"))
    asked.answer = [{"kind": "pod", "id": "p1", "name": EVIL, "per_hour": 1.5, "ours": True}]
    asked.may_answer.clear()
    assert "is asked" in client.get("/account").text
    client.get("/account")
    asked.may_answer.set()
    asked.answered.wait()
    while "is asked" in (text := client.get("/account").text):
        pass
    assert "$1,095.00" in text
    assert EVIL not in text
    assert asked.words == [("audit", "--stack=local", "--json")]
    served.time += 601
    client.get("/account")
    client.get("/account?ask=1")
    assert len(asked.words) == 2


def test_what_a_cloud_does_not_tell_is_said_and_not_asked_for_again_and_again(served: Served, asked: AskedVerbs) -> None:
    served.account("ann")
    client = served.client(served.token("ann"))
    asked.answer = UserError(EVIL)
    while "is asked" in (text := client.get("/account").text):
        pass
    assert "alert(1)" in text
    assert EVIL not in text
    client.get("/account")
    assert len(asked.words) == 1


def test_a_run_is_started_from_a_form_only_after_its_cost_was_said(served: Served, begun: list[Sequence[str]]) -> None:
    served.account("ann")
    client = served.client(served.token("ann"))
    form = client.get("/start/command").text
    assert 'name="v-script"' in form
    wrong = client.post("/start/command", data={"name": "--force"})
    assert (wrong.status_code, begun) == (422, [])
    assert 'value="--force"' in wrong.text

    asked = client.post(
        "/start/command", data={"name": "mine", "stack": "local", "v-script": "--x.py", "hours": "2"}, follow_redirects=False
    )
    plan = served.site.operations.newest(1)[0]
    assert plan.words == ("submit", "--stack=local", "--recipe=command", "--name=mine", "--hours=2.0", "--priority=0", "--dry-run",
                          "--set=script=--x.py", "--json")  # fmt: skip
    assert client.post(asked.headers["location"]).status_code == 409
    told = json.dumps([{"estimate": 12.5, "stack": "local", "recipe": "command", "gpus": "", "approval": "needed", "approval_why": EVIL,
                        "reason": None, "held": None}])  # fmt: skip
    served.site.operations.change(plan.id, state="done", ended=NOON, exit_code=0, output=told, said=EVIL)
    page = client.get(asked.headers["location"]).text
    assert "$12.50" in page
    assert EVIL not in page
    client.post(asked.headers["location"])
    submitted = next(each for each in served.site.operations.newest(2) if each.id != plan.id)
    assert submitted.words == ("submit", f"--key=server-plan-{plan.id}", "--yes", *(word for word in plan.words[1:] if word != "--dry-run"))

    served.account("eve")
    assert served.client(served.token("eve")).post(asked.headers["location"]).status_code == 403


def test_a_browser_is_told_of_a_problem_by_a_page_and_a_program_by_a_problem(served: Served) -> None:
    served.account("ann")
    client = served.client(served.token("ann"))
    page = client.get("/runs/ann/none/1", headers={"Accept": "text/html"})
    assert (page.status_code, "there is no run ann/none/1" in page.text, "<nav" in page.text) == (404, True, True)
    assert client.get("/api/v1/runs/ann/none/1", headers={"Accept": "text/html"}).json()["status"] == 404


def test_a_figure_that_was_read_is_not_read_again_and_long_curves_stay_thin() -> None:
    curves = RunCurves()
    for begin in range(0, 50_000, 5000):
        curves.take(
            b"".join(b'{"step": %d, "loss": %d.5, "bad": NaN, "name": "x"}\n' % (step, step) for step in range(begin, begin + 5000))
        )
    shown = curves.shown()["curves"]
    assert isinstance(shown, dict)
    assert sorted(shown) == ["loss"]
    steps, values = shown["loss"]
    assert (len(steps) <= 4000, steps[0], steps[-1], values[-1]) == (True, 0, 49_999, 49_999.5)
    assert len(curves.points["loss"]) <= 4000


def test_days_without_runs_are_days_too() -> None:
    nothing = dict.fromkeys((field.name for field in dataclasses.fields(RunRow)), None)
    row = RunRow(**{**nothing, "created": NOON, "cost": 2.5})  # type: ignore[arg-type]
    days = by_day([row], NOON, 30)
    assert (len(days), days[-1].dollars, sum(day.dollars for day in days)) == (30, 2.5, 2.5)


def test_numbers_have_units_and_no_more_digits_than_say_something() -> None:
    assert [wording.money(dollars) for dollars in (None, 0.0, 0.001, 1234.5)] == ["not known", "$0.00", "<$0.01", "$1,234.50"]
    assert wording.rate(0.0123) == "$0.0123/h"
    assert [wording.figure(value) for value in (0.0002, 1234567.0, 1.23456)] == ["2.00e-04", "1,234,567", "1.235"]
    assert [wording.ago(0, 119), wording.ago(7300, 0), wording.ago(0, 200_000)] == ["1 min ago", "in 2 h", "2 days ago"]
