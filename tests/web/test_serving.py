"""The server's process: where it listens and where it must not, what its end leaves, and that a killed one is missed by no run."""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
from pathlib import Path

import httpx
import pytest

from tests.web.conftest import ROOT
from tests.web.process import COMMAND, running, surroundings
from trainyard.ledger.duties import DutyRows
from trainyard.ledger.ledger import Ledger
from trainyard.processes import start_mark


def refused(tmp_path: Path, *words: str) -> tuple[int, str]:
    done = subprocess.run([*COMMAND, *words], cwd=ROOT, env=surroundings(tmp_path), capture_output=True, text=True, check=False, timeout=60)
    return done.returncode, done.stderr


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--port=0", "--host=0.0.0.0"], "--host 0.0.0.0: without TLS tokens would go over the network as clear text"),
        (["--port=0", "--host=::"], "without TLS"),
        (["--certificate=/etc/hostname"], "--certificate and --certificate-key belong together"),
        (["--certificate=none.pem", "--certificate-key=none.key"], "none.pem with none.key"),
        (["--port=99999"], "--port 99999: it is no port"),
    ],
)
def test_it_listens_nowhere_that_it_must_not(tmp_path: Path, words: list[str], said: str) -> None:
    code, text = refused(tmp_path, *words)
    assert code == 2 and said in text and "Traceback" not in text


def test_a_port_that_is_taken_is_named(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        code, text = refused(tmp_path, f"--port={taken.getsockname()[1]}")
    assert code == 2 and "ddress already in use" in text


def test_who_is_no_admin_any_more_starts_no_server(tmp_path: Path) -> None:
    for words in (["account.add", "bob", "--role=admin"], ["account.add", "ann", "--role=view"]):
        subprocess.run([sys.executable, "-m", "trainyard", *words], cwd=ROOT, env=surroundings(tmp_path), check=True, capture_output=True)
    code, text = refused(tmp_path, "--port=0")
    assert code == 2 and "account 'ann' is no admin" in text


def test_a_server_ends_with_what_it_does_by_schedule_and_a_session_outlives_it(tmp_path: Path) -> None:
    with running(tmp_path, "--no-schedule") as one:
        assert one.browser.get("/api/v1/me").json()["name"] == "ann"
        one.process.send_signal(signal.SIGTERM)
        assert one.process.wait(30) in (0, -signal.SIGTERM)
        cookies = dict(one.browser.cookies)
    with running(tmp_path, "--no-schedule") as other:
        assert httpx.get(f"{other.url}/api/v1/me", cookies=cookies, trust_env=False).json()["role"] == "admin"


def test_what_a_killed_server_was_asked_for_is_done_and_the_next_one_tells_of_it(tmp_path: Path) -> None:
    with running(tmp_path) as one:
        asked = one.browser.post("/api/v1/runs/ann/none/cancel", headers={"X-CSRF-Token": one.csrf()})
        one.process.kill()
        one.process.wait()
    with running(tmp_path) as other:
        for _ in range(300):
            told = other.browser.get(asked.headers["location"]).json()
            if told["state"] != "running":
                break
        assert (told["state"], told["exit_code"]) == ("failed", 2)
        duties = DutyRows(Ledger(tmp_path / "home" / "ledger.db").database)
        held = {row.name: row.holder for row in duties.all().values() if row.holder}
        other.process.send_signal(signal.SIGTERM)
        other.process.wait(60)
    for holder in held.values():
        _, pid, mark, *_ = holder.split(" ")
        assert start_mark(int(pid)) != mark
