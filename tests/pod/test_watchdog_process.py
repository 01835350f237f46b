"""The watchdog as a process: started by a boot command, kept alive, talking to real sockets; its key never shown."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest

from tests.pod.clock import TurnedClock
from trainyard.clouds.runpod.request import ENDINGS
from trainyard.pod.boot import boot_command, starts_watchdog_itself, watchdog_source
from trainyard.pod.endings import ending_env
from trainyard.pod.watchdog import EndingMethod, Refused, Watchdog, find_ways, format_time

KEY = "rpa_pod_secret_key"


def wait_for(condition: Callable[[], object], seconds: float = 60.0) -> None:
    until = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < until, "it never happened"
        time.sleep(0.01)


class Control:
    """The pod's own socket, as the local cloud serves it."""

    def __init__(self, path: Path) -> None:
        self.lines: list[str] = []
        self.lease: dict[str, float | None] = {"stop": None, "end": None}
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.bind(str(path))
        self.socket.listen()
        threading.Thread(target=self.serve, daemon=True).start()

    def serve(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, _ = self.socket.accept()
                with connection, contextlib.suppress(OSError):
                    line = connection.makefile().readline().strip()
                    if line:
                        self.lines.append(line)
                    if line == "lease":
                        connection.sendall(json.dumps(self.lease).encode() + b"\n")


@pytest.fixture
def control(tmp_path: Path) -> Iterator[Control]:
    control = Control(tmp_path / "ctl")
    yield control
    control.socket.close()


def pod_env(tmp_path: Path, **more: str) -> dict[str, str]:
    return {
        "PATH": f"{os.path.dirname(sys.executable)}:{os.environ['PATH']}",
        "WORKSPACE": str(tmp_path / "workspace"),
        "TMPDIR": str(tmp_path),
        "TRAINYARD_LEASE_ID": "0123456789",
        "TRAINYARD_END": format_time(time.time() + 3600),
        **more,
    }


@pytest.fixture
def watchdogs(tmp_path: Path) -> Iterator[Callable[[], list[int]]]:
    """Return the process ids of this test's watchdogs; end them afterwards."""

    def find() -> list[int]:
        mark = f"{tmp_path}/.trainyard-watchdog.py".encode()
        found = []
        for entry in Path("/proc").iterdir():
            with contextlib.suppress(OSError):
                if entry.name.isdigit() and mark in (entry / "cmdline").read_bytes():
                    found.append(int(entry.name))
        return sorted(found)

    yield find
    for _ in range(3):
        for pid in find():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)


def boot(tmp_path: Path, env: dict[str, str] | None = None, then: tuple[str, ...] = ()) -> str:
    """Run the boot command as a container's start; return what it printed. The watchdog keeps the output open, like a container's log."""
    with open(tmp_path / "container.log", "ab") as log:
        given = env or pod_env(tmp_path)
        subprocess.run(boot_command(then), env=given, stdout=log, stderr=log, timeout=60, check=True, start_new_session=True)
    return (tmp_path / "container.log").read_text()


def status(tmp_path: Path) -> dict[str, Any]:
    try:
        value: dict[str, Any] = json.loads((tmp_path / "workspace/.trainyard/watchdog/status.json").read_text())
    except FileNotFoundError:
        return {}
    return value


def test_the_boot_command_arms_the_watchdog_and_goes_on(tmp_path: Path, watchdogs: Callable[[], list[int]]) -> None:
    assert "the image goes on" in boot(tmp_path, then=("echo", "the image goes on"))
    wait_for(lambda: status(tmp_path).get("armed"))


def test_a_second_start_in_the_same_pod_does_nothing(tmp_path: Path, watchdogs: Callable[[], list[int]]) -> None:
    for _ in range(3):
        boot(tmp_path)
    wait_for(lambda: status(tmp_path).get("armed"))
    wait_for(lambda: len(watchdogs()) == 2)


def test_it_survives_the_end_of_its_session_and_polite_signals(tmp_path: Path, watchdogs: Callable[[], list[int]]) -> None:
    boot(tmp_path)
    wait_for(lambda: status(tmp_path).get("armed"))
    before = watchdogs()
    for number in (signal.SIGHUP, signal.SIGTERM, signal.SIGINT):
        for pid in before:
            os.kill(pid, number)
    time.sleep(0.2)
    assert watchdogs() == before


def test_a_killed_watchdog_is_started_again(tmp_path: Path, watchdogs: Callable[[], list[int]]) -> None:
    boot(tmp_path)
    wait_for(lambda: status(tmp_path).get("armed"))
    first = status(tmp_path)["pid"]
    os.kill(first, signal.SIGKILL)
    wait_for(lambda: status(tmp_path).get("pid") not in (None, first))


def test_at_the_end_it_says_so_on_the_pods_socket(tmp_path: Path, control: Control, watchdogs: Callable[[], list[int]]) -> None:
    env = pod_env(tmp_path, TRAINYARD_POD_SOCKET=str(tmp_path / "ctl"), TRAINYARD_END=format_time(time.time() + 1))
    control.lease["end"] = time.time() + 1
    boot(tmp_path, env)
    wait_for(lambda: any(line.startswith("end ") for line in control.lines))
    assert status(tmp_path)["state"] == "ending"


def local(tmp_path: Path, clock: TurnedClock, **more: str) -> tuple[Watchdog, list[str]]:
    ended: list[str] = []
    times = {"TRAINYARD_STOP": format_time(clock.wall() + 3600), "TRAINYARD_END": format_time(clock.wall() + 5400)}
    env = {"WORKSPACE": str(tmp_path), "TRAINYARD_POD_SOCKET": str(tmp_path / "ctl"), **times, **more}
    return Watchdog(env, clock, [EndingMethod("socket", lambda: None, ended.append)]), ended


def test_an_extended_lease_is_asked_from_the_local_cloud_before_acting(tmp_path: Path, control: Control) -> None:
    clock = TurnedClock()
    w, ended = local(tmp_path, clock)
    extended = {"stop": clock.wall() + 7200, "end": clock.wall() + 9000}
    clock.go(5395)
    w.tick()
    control.lease = dict(extended)
    clock.go(5)
    w.tick()
    assert ended == [] and w.state == "watching"
    clock.go(3600)
    w.tick()
    assert ended == ["the lease is over"]


def test_a_lease_that_is_told_again_moves_no_early_end_back_and_one_that_is_longer_does(tmp_path: Path, control: Control) -> None:
    clock = TurnedClock()
    w, ended = local(tmp_path, clock, TRAINYARD_BUDGET="1860", TRAINYARD_PRICE="3600")
    control.lease = {"stop": clock.wall() + 3600, "end": clock.wall() + 5400}
    clock.go(60)
    w.tick()
    assert (w.state, w.reason) == ("stopping", "the budget is used up")
    for _ in range(10):
        clock.go(60)
        w.tick()
        assert w.state == "stopping" and w.end is not None and w.end.left(clock) <= 1800
    control.lease = {"stop": clock.wall() + 7200, "end": clock.wall() + 9000}
    clock.go(60)
    w.tick()
    assert w.state == "watching" and ended == [] and w.end is not None and w.end.left(clock) > 7200


def test_a_shortened_lease_is_noticed_within_a_minute(tmp_path: Path, control: Control) -> None:
    clock = TurnedClock()
    w, ended = local(tmp_path, clock)
    control.lease = {"stop": clock.wall() + 10, "end": clock.wall() + 20}
    clock.go(60)
    w.tick()
    assert ended == ["the lease is over"]


def test_a_dead_socket_changes_nothing(tmp_path: Path) -> None:
    clock = TurnedClock()
    w, ended = local(tmp_path, clock)
    clock.go(5400)
    w.tick()
    assert ended == ["the lease is over"]


class Cloud:
    """A small stand-in for RunPod's two interfaces."""

    def __init__(self) -> None:
        self.rest, self.graphql, self.offset = 200, 200, 0.0
        self.seen: list[tuple[str, str, str, bytes]] = []
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def answer(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                outer.seen.append((self.command, self.path, self.headers.get("Authorization", ""), body))
                graphql = self.path == "/graphql"
                code = outer.graphql if graphql else outer.rest
                text = b'{"data": {"pod": {"id": "me"}, "podTerminate": null}}' if graphql else b'{"id": "me"}'
                self.send_response_only(code)
                self.send_header("Date", formatdate(time.time() + outer.offset, usegmt=True))
                self.send_header("Content-Length", str(len(text) if code == 200 else 0))
                self.end_headers()
                self.wfile.write(text if code == 200 else b"")

            do_GET = do_DELETE = do_POST = answer

            def log_message(self, format: str, *args: Any) -> None:
                """Say nothing."""

        self.server = HTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.server.serve_forever, args=(0.02,), daemon=True).start()
        self.address = f"http://127.0.0.1:{self.server.server_address[1]}"

    def ways(self, tmp_path: Path) -> list[EndingMethod]:
        return find_ways(self.env(tmp_path))

    def env(self, tmp_path: Path) -> dict[str, str]:
        return {
            "RUNPOD_POD_ID": "me",
            "RUNPOD_API_KEY": KEY,
            "RUNPOD_API_URL": f"{self.address}/v2",
            "RUNPOD_GRAPHQL_URL": f"{self.address}/graphql",
            "WORKSPACE": str(tmp_path),
            **ending_env(ENDINGS),
        }


@pytest.fixture
def cloud() -> Iterator[Cloud]:
    cloud = Cloud()
    yield cloud
    cloud.server.shutdown()
    cloud.server.server_close()


def test_rest_proves_with_the_pods_key_that_it_sees_this_very_pod(tmp_path: Path, cloud: Cloud) -> None:
    cloud.offset = 3600
    told = cloud.ways(tmp_path)[0].prove()
    assert cloud.seen[0][:3] == ("GET", "/v2/pods/me", f"Bearer {KEY}")
    assert told is not None and abs(told - time.time() - 3600) < 60


def test_an_answer_about_another_pod_is_no_proof(tmp_path: Path, cloud: Cloud) -> None:
    ways = find_ways({**cloud.env(tmp_path), "RUNPOD_POD_ID": "another"})
    for way in ways[:2]:
        with pytest.raises(Refused, match="not this pod"):
            way.prove()


@pytest.mark.parametrize("code", [401, 403, 404, 500])
def test_where_rest_refuses_the_pods_key_graphql_ends_the_pod(tmp_path: Path, cloud: Cloud, code: int) -> None:
    cloud.rest = code
    clock = TurnedClock()
    w = Watchdog({**cloud.env(tmp_path), "TRAINYARD_END": format_time(clock.wall() + 60)}, clock)
    clock.go(61)
    w.tick()
    query = json.loads(cloud.seen[-1][3])
    assert "podTerminate" in query["query"] and query["variables"] == {"input": {"podId": "me"}}


def test_a_container_log_that_nobody_reads_does_not_hold_it_up(tmp_path: Path) -> None:
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    with contextlib.suppress(BlockingIOError):
        while os.write(writing, b"x" * 4096):
            continue
    os.set_blocking(writing, True)
    code = (
        "import sys; sys.path.insert(0, sys.argv[1]); import watchdog; "
        "w = watchdog.Watchdog({'WORKSPACE': sys.argv[2]}, watchdog.PodClock()); w.log('a line')"
    )
    folder = str(Path(sys.modules[Watchdog.__module__].__file__ or "").parent)
    subprocess.run([sys.executable, "-c", code, folder, str(tmp_path)], stderr=writing, timeout=60, check=True)
    os.close(reading)
    os.close(writing)
    assert "a line" in (tmp_path / ".trainyard/watchdog/log").read_text()


def test_the_key_stands_in_no_file_and_no_line(tmp_path: Path, cloud: Cloud, capfd: pytest.CaptureFixture[str]) -> None:
    cloud.rest = cloud.graphql = 403
    clock = TurnedClock()
    w = Watchdog({**cloud.env(tmp_path), "TRAINYARD_END": format_time(clock.wall() + 60)}, clock)
    w.tick()
    clock.go(61)
    w.tick()
    written = "".join(path.read_text() for path in (tmp_path / ".trainyard/watchdog").iterdir())
    assert "403" in written and KEY not in written + capfd.readouterr().err


def test_the_boot_command_is_the_same_every_time_and_short_enough_for_a_create_request() -> None:
    assert boot_command() == boot_command()
    assert len(boot_command()[2]) < 16_000
    assert "\0" not in watchdog_source()


@pytest.mark.parametrize(
    ("image", "itself"),
    [
        ("ghcr.io/x/trainyard-trainer@sha256:aa", True),
        ("trainyard-trainer:1.2", True),
        ("registry:5000/trainyard-trainer", True),
        ("runpod/pytorch:1.0.2-cu1281-torch280-ubuntu2404", False),
        ("x/trainyard-trainer-extra", False),
        (None, False),
    ],
)
def test_only_our_own_image_starts_the_watchdog_itself(image: str | None, itself: bool) -> None:
    assert starts_watchdog_itself(image) is itself


def test_without_python_plain_sh_still_ends_the_pod(tmp_path: Path) -> None:
    tools = tmp_path / "bin"
    tools.mkdir()
    for name in ("sh", "date", "tr", "sleep", "env", "cat", "base64", "gzip"):
        (tools / name).symlink_to(f"/bin/{name}" if Path(f"/bin/{name}").exists() else f"/usr/bin/{name}")
    curl = tools / "curl"
    curl.write_text(f'#!/bin/sh\necho "$@" > {tmp_path}/asked.new; cat >> {tmp_path}/asked.new; mv {tmp_path}/asked.new {tmp_path}/asked\n')
    (tools / "mv").symlink_to("/bin/mv")
    curl.chmod(0o755)
    env = pod_env(tmp_path, RUNPOD_POD_ID="me", RUNPOD_API_KEY=KEY, RUNPOD_API_URL="http://127.0.0.1:1/v2", **ending_env(ENDINGS))
    env |= {"PATH": str(tools), "TRAINYARD_END": format_time(time.time() - 1)}
    process = subprocess.Popen([str(tools / "sh"), *boot_command()[1:]], env=env, start_new_session=True)
    process.wait(timeout=60)
    try:
        asked = tmp_path / "asked"
        wait_for(asked.exists)
        wait_for(lambda: KEY in asked.read_text())
        words = asked.read_text().splitlines()[0]
        assert "-X DELETE http://127.0.0.1:1/v2/pods/me" in words
        assert KEY not in words, "the key stood in a command line"
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)


def test_no_process_of_the_watchdog_shows_the_pods_keys_in_proc(tmp_path: Path, watchdogs: Callable[[], list[int]]) -> None:
    env = pod_env(
        tmp_path, RUNPOD_POD_ID="p1", RUNPOD_API_KEY=KEY, RUNPOD_API_URL="http://127.0.0.1:9", RUNPOD_GRAPHQL_URL="http://127.0.0.1:9",
        ACME_KEY=f"{KEY}-acme", TRAINYARD_POD_KEYS="ACME_KEY",
    )  # fmt: skip
    subprocess.run(boot_command(), env=env, check=True, stdin=subprocess.DEVNULL)
    status = tmp_path / "workspace/.trainyard/watchdog/status.json"
    wait_for(lambda: status.exists() and json.loads(status.read_text())["proof"] != "not asked yet")
    assert json.loads(status.read_text())["ways"][:2] == ["RunPod REST", "RunPod GraphQL"], "it has its key all the same"
    found = watchdogs()
    assert found
    for process in found:
        seen = Path(f"/proc/{process}/environ").read_bytes() + Path(f"/proc/{process}/cmdline").read_bytes()
        assert KEY.encode() not in seen and b"RUNPOD_POD_ID=p1" in seen
