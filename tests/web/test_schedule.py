"""What is done by schedule: of all servers one does it, whoever is killed; what has died is said and done again."""

from __future__ import annotations

import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator

import pytest

from tests.web.conftest import Served
from trainyard.ledger.duties import DutyRow, DutyRows
from trainyard.web.schedule.duties import DUTIES, Duty
from trainyard.web.schedule.keeper import LAPSE, ScheduleKeeper

LONG = Duty("queue", ("-c", "import time; print('at work', flush=True); time.sleep(600)"), 15.0, "goes on")
SHORT = Duty("reaper", ("-c", "import sys; print('it went wrong'); sys.exit(4)"), 600.0, "fails")


@pytest.fixture
def keepers(served: Served, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., ScheduleKeeper]]:
    """Servers' keepers, whose verbs are programs of the test."""
    real, all_of_them = subprocess.Popen, list[ScheduleKeeper]()

    def without_verbs(words: list[str], **options: object) -> subprocess.Popen[bytes]:
        end = words.index("-m")
        return real([*words[:end], *words[end + 2 :]], **options)  # type: ignore[call-overload,no-any-return]

    monkeypatch.setattr(subprocess, "Popen", without_verbs)

    def make(*duties: Duty) -> ScheduleKeeper:
        all_of_them.append(ScheduleKeeper(served.site, duties))
        return all_of_them[-1]

    yield make
    for each in all_of_them:
        for process in each.started.values():
            process.kill()
            process.wait()


def until(look: Callable[[], object]) -> None:
    for _ in range(1000):
        if look():
            return
        time.sleep(0.02)
    raise AssertionError("it does not come")


def row(served: Served, name: str = "queue") -> DutyRow:
    return DutyRows(served.site.ledger.database).all()[name]


def test_of_two_servers_one_does_a_duty(served: Served, keepers: Callable[..., ScheduleKeeper]) -> None:
    servers = [keepers(LONG) for _ in range(4)]
    threads = [threading.Thread(target=server.look) for server in servers]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert sum(len(server.started) for server in servers) == 1
    assert str(row(served).holder).split(" ")[1] == str(next(p.pid for s in servers for p in s.started.values()))


def test_a_duty_is_done_again_at_its_time_and_how_it_went_is_said(served: Served, keepers: Callable[..., ScheduleKeeper]) -> None:
    server = keepers(SHORT)
    server.look()
    until(lambda: server.started["reaper"].poll() is not None)
    server.look()
    assert (row(served, "reaper").outcome, row(served, "reaper").said) == ("failed", "it went wrong\n")

    served.time += 599.0
    server.look()
    assert row(served, "reaper").holder is None
    served.time += 1.0
    server.look()
    assert row(served, "reaper").holder is not None


def test_what_a_killed_server_has_begun_ends_and_is_done_again_by_the_next_one(
    served: Served, keepers: Callable[..., ScheduleKeeper]
) -> None:
    server = keepers(LONG)
    child = os.fork()
    if not child:
        try:
            server.look()
            (served.site.context.places.logs / "began").write_text(str(server.started["queue"].pid))
            time.sleep(60)
        finally:
            os._exit(1)
    until(lambda: (served.site.context.places.logs / "duty-queue.log").read_text() == "at work\n" if at_work(served) else False)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)

    following = keepers(LONG)
    until(lambda: following.look() or row(served).outcome)  # type: ignore[func-returns-value]
    assert (row(served).outcome, row(served).said) == ("died", "at work\n")
    served.time += 15.0
    following.look()
    assert list(following.started) == ["queue"]


def at_work(served: Served) -> bool:
    return (served.site.context.places.logs / "began").exists()


def test_a_server_that_is_killed_before_its_process_is_known_leaves_the_duty_to_the_next(
    served: Served, keepers: Callable[..., ScheduleKeeper]
) -> None:
    rows = DutyRows(served.site.ledger.database)
    assert rows.take(DutyRow(name="queue"), f"{os.uname().nodename} 4194303 0/gone", served.time, served.time + LAPSE)
    server = keepers(LONG)
    server.look()
    assert row(served).outcome == "died"


def test_a_holder_on_another_machine_counts_as_dead_after_its_silence_and_not_before(
    served: Served, keepers: Callable[..., ScheduleKeeper]
) -> None:
    rows = DutyRows(served.site.ledger.database)
    assert rows.take(DutyRow(name="queue"), "elsewhere 1 0/boot", served.time, served.time + LAPSE)
    server = keepers(LONG)
    served.time += LAPSE - 1
    server.look()
    assert row(served).holder == "elsewhere 1 0/boot"
    rows.beat("queue", "elsewhere 1 0/boot", served.time + LAPSE)
    served.time += LAPSE
    server.look()
    assert row(served).holder == "elsewhere 1 0/boot"
    served.time += 1
    server.look()
    assert (row(served).holder, row(served).outcome) == (None, "died")


def test_the_end_of_a_server_ends_what_it_does_by_schedule(served: Served, keepers: Callable[..., ScheduleKeeper]) -> None:
    server = keepers(LONG)
    server.start()
    until(lambda: "queue" in server.started)
    process = server.started["queue"]
    server.stop()
    assert process.poll() == -signal.SIGKILL
    assert (row(served).holder, row(served).outcome) == (None, "ended")


def test_every_duty_is_a_verb_that_there_is(served: Served) -> None:
    from trainyard.cli.verbs import verbs

    names = set(verbs().task_names) | {alias for aliases in verbs().task_names.values() for alias in aliases}
    assert {duty.words[0] for duty in DUTIES} <= names
    served.account("ann", "view")
    listed = served.client(served.token("ann")).get("/api/v1/duties").json()["duties"]
    assert [each["name"] for each in listed] == [duty.name for duty in DUTIES]
