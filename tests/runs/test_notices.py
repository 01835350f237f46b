"""Notices reach mail and webhook through real servers; one that cannot be sent delays nothing, is said once and tried again."""

from __future__ import annotations

import hashlib
import hmac
import json
import queue
import socketserver
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from email import message_from_bytes, policy
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from tests.runs.road import STACK, Road
from tests.runs.test_reap import NOW, pod
from trainyard.clock import Clock
from trainyard.ledger.runid import RunId
from trainyard.runs.life import teardown
from trainyard.runs.life.announcing import BudgetShares, ended
from trainyard.runs.notices import announce as announcing
from trainyard.runs.notices.announce import announce, outbox_of, try_again, try_out
from trainyard.runs.notices.notice import Notice
from trainyard.runs.notices.outbox import Outbox
from trainyard.runs.notices.sender import send, send_waiting
from trainyard.runs.planning.limitnotices import tell_limits
from trainyard.runs.records.parts import PaidPod
from trainyard.runs.verbs import leaks
from trainyard.runs.verbs.reap import Sighting
from trainyard.secret import Secret

KEY = Secret("a-key-that-signs")
TEXT = "S3 Location: s3://b/ü\ninvoke download ann/a"
NOTICE = Notice(kind="end", title="run ann/a succeeded: $1.20", text=TEXT, stack="gpu", run="ann/a")


class Hook:
    """A person's own HTTP server, which answers with ``statuses`` and then with 204."""

    def __init__(self) -> None:
        self.requests: queue.Queue[tuple[Any, bytes]] = queue.Queue()
        self.statuses: list[int] = []
        hook = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                hook.requests.put((self.headers, self.rfile.read(int(self.headers["Content-Length"]))))
                self.send_response(hook.statuses.pop(0) if hook.statuses else 204)
                self.end_headers()

            def log_message(self, format: str, *args: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.server.serve_forever, args=(0.02,), daemon=True).start()

    @property
    def url(self) -> str:
        return f"webhook+http://127.0.0.1:{self.server.server_port}/in/s3cretpath"

    def next(self) -> dict[str, Any]:
        """Return the next notice, once its signature is proved."""
        headers, body = self.requests.get(timeout=20)
        signed = hmac.new(KEY.reveal().encode(), f"{headers['X-Trainyard-Timestamp']}.".encode() + body, hashlib.sha256).hexdigest()
        assert headers["X-Trainyard-Signature"] == f"sha256={signed}" and abs(int(headers["X-Trainyard-Timestamp"]) - time.time()) < 300
        notice: dict[str, Any] = json.loads(body)
        assert headers["X-Trainyard-Notice"] == notice["id"]
        return notice


@pytest.fixture
def hook() -> Iterator[Hook]:
    made = Hook()
    yield made
    made.server.shutdown()
    made.server.server_close()


@pytest.fixture
def road(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, hook: Hook) -> Iterator[Road]:
    made = Road(tmp_path, monkeypatch)
    made.settle("notify: [env:HOOK]")
    made.context = replace(made.context, env={**made.context.env, "HOOK": hook.url, "TRAINYARD_WEBHOOK_KEY": KEY.reveal()})
    yield made
    with outbox_of(made.context).sending():
        pass  # who sends has ended
    made.lose_pod()


def clock(pauses: list[float], at: float | None = None) -> Clock:
    return Clock(lambda: at or time.time(), pauses.append)


def mail_server(mails: queue.Queue[bytes]) -> socketserver.ThreadingTCPServer:
    """A mail server that takes everything."""

    class Session(socketserver.StreamRequestHandler):
        def handle(self) -> None:
            self.wfile.write(b"220 here\r\n")
            while line := self.rfile.readline():
                word = line[:4].upper()
                if word == b"DATA":
                    self.wfile.write(b"354 go on\r\n")
                    mails.put(b"".join(iter(self.rfile.readline, b".\r\n")))
                self.wfile.write(b"221 bye\r\n" if word == b"QUIT" else b"250 here\r\n")

    server = socketserver.ThreadingTCPServer(("127.0.0.1", 0), Session)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    return server


# --- one address ----------------------------------------------------------------------------------------------------------


def test_a_webhook_gets_what_was_said_signed_and_again_with_growing_pauses_until_it_answers(hook: Hook) -> None:
    hook.statuses, pauses = [503, 429], list[float]()
    assert send(Secret(hook.url), NOTICE, KEY, clock=clock(pauses)) is None
    said = [hook.next() for _ in range(3)]
    assert pauses == [1.0, 4.0] and said[0] == said[1] == said[2]
    assert (said[0]["title"], said[0]["run"], said[0]["kind"], said[0]["text"]) == (NOTICE.title, "ann/a", "end", NOTICE.text)


@pytest.mark.parametrize(
    ("statuses", "key", "why", "tries"),
    [
        ([404], KEY, "the server answered 404", 1),
        ([302], KEY, "the server answered 302", 1),
        ([500] * 3, KEY, "the server answered 500", 3),
        ([], None, "TRAINYARD_WEBHOOK_KEY is not set, with which requests are signed", 0),
    ],
)
def test_what_a_webhook_refuses_is_not_asked_again_at_once(
    hook: Hook, statuses: list[int], key: Secret | None, why: str, tries: int
) -> None:
    hook.statuses = list(statuses)
    assert send(Secret(hook.url), NOTICE, key, clock=clock([])) == why
    assert hook.requests.qsize() == tries


def test_a_mail_comes_from_apprise_with_title_and_text() -> None:
    mails: queue.Queue[bytes] = queue.Queue()
    server = mail_server(mails)
    try:
        address = f"mailto://127.0.0.1:{server.server_address[1]}?from=trainyard@example.org&to=ann@example.org&mode=insecure"
        assert send(Secret(address), NOTICE, None, clock=clock([])) is None
    finally:
        server.shutdown()
        server.server_close()
    mail = message_from_bytes(mails.get(timeout=10), policy=policy.default)
    body = mail.get_body(("plain",))
    assert mail["To"] == "ann@example.org" and mail["Subject"] == NOTICE.title
    assert body is not None and body.get_content().split() == NOTICE.text.split()


def test_what_is_no_address_and_who_does_not_answer_are_said_without_the_address() -> None:
    assert send(Secret("nonsense"), NOTICE, None) == "its value is no address that Apprise knows"
    pauses: list[float] = []
    closed = send(Secret("webhook+http://127.0.0.1:9/s3cretpath"), NOTICE, KEY, clock=clock(pauses))
    assert closed == "no answer (ConnectError)" and pauses == [1.0, 4.0]


# --- what waits -----------------------------------------------------------------------------------------------------------


def test_each_address_is_told_once_and_what_fails_waits_alone(tmp_path: Path, hook: Hook) -> None:
    outbox = Outbox(tmp_path / "box")
    outbox.put(NOTICE, ["HOOK", "GONE", "HOOK"])
    (tmp_path / "box" / "odd.json").write_text("{")
    for _ in range(2):
        send_waiting(outbox, {"HOOK": Secret(hook.url)}, KEY, clock=clock([]))
    (queued,) = outbox.waiting()
    assert hook.requests.qsize() == 1 and (queued.pending, queued.tries, queued.problems) == (["GONE"], 2, {"GONE": "GONE is not set"})
    assert outbox.first_told(queued) and not outbox.first_told(queued)
    send_waiting(outbox, {}, KEY, clock=clock([], at=NOTICE.time + 4 * 86400))
    assert outbox.is_empty() and [path.name for path in (tmp_path / "box").iterdir()] == ["lock"]


def test_what_could_not_be_sent_is_said_once_and_sent_at_the_end_of_a_later_command(road: Road, hook: Hook) -> None:
    url, road.context = hook.url, replace(road.context, env={**road.context.env, "HOOK": ""})
    outbox = outbox_of(road.context)
    outbox.put(NOTICE, ["HOOK"])
    send_waiting(outbox, {}, None, clock=clock([]))
    for _ in range(2):
        try_again(road.context, time.time())
    assert road.said().count("could not be sent (HOOK: HOOK is not set)") == 1
    try_again(replace(road.context, env={**road.context.env, "HOOK": url}), time.time())
    assert hook.next()["title"] == NOTICE.title


def test_a_test_says_of_each_address_whether_it_took_the_notice(road: Road, hook: Hook) -> None:
    road.settings.write_text(road.settings.read_text().replace("[env:HOOK]", "[env:HOOK, env:ABSENT]"))
    assert try_out(road.context, STACK) == {"HOOK": None, "ABSENT": "ABSENT is not set"}
    assert hook.next()["kind"] == "test"


# --- a run ----------------------------------------------------------------------------------------------------------------


def test_a_run_tells_its_start_and_its_end_and_the_address_is_written_nowhere(road: Road, hook: Hook, tmp_path: Path) -> None:
    summary = road.run(name="a")
    assert summary.success, road.said()
    start, end = hook.next(), hook.next()
    assert (start["kind"], start["title"]) == ("start", f"run ann/a has started on {STACK} (SIMULATED cloud)")
    assert "invoke cancel ann/a" in start["text"]
    assert (end["kind"], end["data"]["success"], end["data"]["cost"]) == ("end", True, summary.cost)
    assert end["title"].startswith("run ann/a succeeded: $0.") and f"Result: {summary.local_path}" in end["text"]
    ended(road.context, replace(summary, success=False, error="the training exited 3"))
    failure = hook.next()
    assert (failure["kind"], failure["title"].partition(":")[0]) == ("failure", "run ann/a failed") and "exited 3" in failure["text"]
    with outbox_of(road.context).sending():
        assert outbox_of(road.context).is_empty()
    held = [path for path in tmp_path.rglob("*") if path.is_file() and b"s3cretpath" in path.read_bytes()]
    assert held == [] and "s3cretpath" not in road.said()


def test_trouble_with_a_notice_is_said_and_costs_nothing(road: Road) -> None:
    road.patch(announcing, "_start_sender", lambda _: (_ for _ in ()).throw(OSError("no space left")))
    announce(road.context, replace(NOTICE, stack=STACK))
    assert f"nobody is told '{NOTICE.title}': no space left" in road.said()


def test_a_pod_whose_end_is_not_proved_is_told_as_a_leak(road: Road, hook: Hook) -> None:
    from trainyard.errors import StillThere

    def never_gone(*_: object, **__: object) -> None:
        raise StillThere("pod p1 is still there", hint="End it with: invoke cancel ann/a --now")

    road.patch(teardown, "destroy_run", never_gone)
    with pytest.raises(StillThere):
        road.run(name="a")
    assert hook.next()["kind"] == "start"
    leak = hook.next()
    assert leak["kind"] == "leak" and "invoke cancel ann/a --now" in leak["text"]


def test_each_share_of_a_budget_is_told_once_whichever_controller_follows(road: Road, hook: Hook) -> None:
    record = road.prepare(name="a", budget=2.0).load()
    record.pods = [PaidPod("p1", 1.0, 0.0)]
    shares = BudgetShares(road.context, record)
    for hours in (0.5, 1.0, 1.1, 1.2):
        shares.look(hours * 3600)
    shares = BudgetShares(road.context, record)  # another controller
    for hours in (1.3, 1.7, 2.0, 2.1):
        shares.look(hours * 3600)
    told = [hook.next() for _ in range(3)]
    assert sorted(each["data"]["share"] for each in told) == [50, 80, 100]
    assert told[0]["title"] == "run ann/a has used 50 % of its budget: $1.00 of $2.00"
    with outbox_of(road.context).sending():
        assert hook.requests.qsize() == 0


def test_each_share_of_a_limit_is_told_once_in_its_time_and_of_what_runs_reserve(road: Road, hook: Hook) -> None:
    road.settle("limit_day: 10.0")
    ledger = road.context.ledger()
    for label, dollars in (("a", 4.0), ("b", 1.5), ("c", 0.5), ("d", 4.0)):
        run = RunId("ann", label)
        ledger.add(run, "prepared", estimate=dollars, stack=STACK)
        tell_limits(road.context, STACK, run)
        tell_limits(road.context, STACK, run)
    half, whole = hook.next(), hook.next()
    assert (half["kind"], half["title"]) == ("limit", "50 % of limit_day are used: $5.50 of $10.00")
    assert whole["data"] == {"limit": "limit_day", "share": 100, "spent": 0.0, "committed": 10.0, "amount": 10.0}
    with outbox_of(road.context).sending():
        assert hook.requests.qsize() == 0
    assert ledger.tell_share(RunId("bo", "e"), "limit", 50, since=time.time() + 1, limit="limit_day"), "its time is over"
    assert ledger.tell_share(RunId("bo", "e"), "limit", 50, limit="another")


def test_a_limit_per_run_is_told_while_the_run_spends_it_with_what_earlier_attempts_have_cost(road: Road, hook: Hook) -> None:
    record = road.prepare(name="a").load()
    road.settle("limits: [{amount: 4, per: run, action: warn}]")
    record.pods, record.spent_before = [PaidPod("p1", 1.0, 0.0)], 1.0
    for shares in (BudgetShares(road.context, record), BudgetShares(road.context, record)):
        shares.look(1.5 * 3600)
    assert hook.next()["title"] == "run ann/a has used 50 % of the limit per run: $2.50 of $4.00"
    with outbox_of(road.context).sending():
        assert hook.requests.qsize() == 0


def test_pods_whose_lease_is_over_are_told_with_what_became_of_them(road: Road, hook: Hook) -> None:
    over, held = pod("p1", end=NOW), pod("p2")
    leaks.pods_found(road.context, [STACK], "toy", [Sighting(held, "leased")])
    leaks.pods_found(road.context, leaks.stacks_of(road.context, "local"), "toy", [Sighting(over, "over", False), Sighting(held, "leased")])
    leak = hook.next()
    assert leak["title"] == "LEAK: 1 pod whose lease is over on toy: 1 STILL THERE"
    assert leak["text"] == f"pod p1, $2.00 an hour: STILL THERE\nLook again: invoke reap --stack {STACK}"


def test_what_a_notice_will_lack_is_said_before_the_run(road: Road) -> None:
    road.settings.write_text(road.settings.read_text().replace("[env:HOOK]", "[env:HOOK, env:ABSENT, env:ODD]"))
    env = {**road.context.env, "TRAINYARD_WEBHOOK_KEY": "", "ODD": "two words"}
    road.context = replace(road.context, env=env)
    road.prepare(name="a")
    said = [line.partition("notify: ")[2] for line in road.said().splitlines() if "notify: " in line]
    assert said == [
        "TRAINYARD_WEBHOOK_KEY is not set, which signs what HOOK gets; who is there is not told",
        "ABSENT is not set; who is there is not told",
        "ODD: holds what no key has: space; who is there is not told",
    ]


def test_who_names_nobody_writes_nothing(road: Road) -> None:
    road.settings.write_text(road.settings.read_text().replace("  trainyard:notify: [env:HOOK]\n", ""))
    announce(road.context, replace(NOTICE, stack=STACK))
    assert not road.context.places.notices.exists()
    try_again(road.context, time.time())
