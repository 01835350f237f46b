"""A machine that joins a server by a token: real processes on loopback, with the server's clock the test's."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import uvicorn
from starlette.testclient import TestClient, WebSocketDenialResponse, WebSocketTestSession
from starlette.websockets import WebSocketDisconnect

from tests.web.conftest import Served
from trainyard.clouds.marker import new_id
from trainyard.clouds.protocol import Offer, OfferQuery, PodInfo, PodSpec
from trainyard.clouds.ssh import OwnMachines
from trainyard.clouds.ssh.joined import joined_hosts
from trainyard.errors import CloudUnknown, UserError
from trainyard.ledger.workers import LOST, WorkerRows
from trainyard.remote.keys import host_key, new_ssh_key
from trainyard.remote.transport import Address
from trainyard.remote.transport import connect as log_in
from trainyard.runs.verbs import workers
from trainyard.settings.user import user_name
from trainyard.web.application import create_application
from trainyard.web.workers.words import PROTOCOL

KEY = host_key(b"a seed for the tests' host keys.", "pod")
LOGIN, PUBLIC = new_ssh_key()
PATIENCE = 30.0


def until(true: Callable[[], bool], what: str) -> None:
    """Wait for what another process does."""
    end = time.monotonic() + PATIENCE
    while not true():
        assert time.monotonic() < end, what
        time.sleep(0.05)


@dataclass
class Yard:
    """A server that listens, and machines that join it."""

    served: Served
    folder: Path
    server: uvicorn.Server | None = None
    thread: threading.Thread | None = None
    port: int = 0
    joining: list[subprocess.Popen[bytes]] = field(default_factory=list)

    def start(self) -> None:
        listening = socket.socket()
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind(("127.0.0.1", self.port))
        self.port = listening.getsockname()[1]
        app = create_application(self.served.site)
        self.server = uvicorn.Server(uvicorn.Config(app, log_config=None, lifespan="on", timeout_graceful_shutdown=1))
        self.thread = threading.Thread(target=self.server.run, args=([listening],))
        self.thread.start()
        until(lambda: self.server is not None and self.server.started, "the server starts")

    def stop(self) -> None:
        if self.server is not None and self.thread is not None:
            self.server.should_exit = True
            self.thread.join()

    def token(self, name: str) -> Path:
        """Make a worker, and return the file with its token."""
        file = self.folder / f"{name}.token"
        file.write_text(workers.add_worker(self.served.site.context, name, 1.0))
        return file

    def join(self, name: str, token: Path, *words: str) -> subprocess.Popen[bytes]:
        line = [sys.executable, "-m", "trainyard", "worker", "--join", f"http://127.0.0.1:{self.port}", "--token-file", str(token)]
        process = subprocess.Popen(
            [*line, "--folder", str(self.folder / name), *words], cwd=self.folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
            env={**os.environ, "HOME": str(self.folder), "TRAINYARD_HOME": str(self.folder / "elsewhere")},
        )  # fmt: skip
        self.joining.append(process)
        return process

    def state(self, name: str) -> str:
        row = WorkerRows(self.served.site.ledger.database).get(name)
        return row.state(self.served.time) if row else "none"

    @property
    def cloud(self) -> OwnMachines:
        return OwnMachines(joined_hosts(self.served.site.context.places.home))

    def joined(self, name: str, *words: str) -> subprocess.Popen[bytes]:
        """Have a machine join, and wait until it can be asked."""
        process = self.join(name, self.token(name), *words)
        until(lambda: self.state(name) == "ready" and self.answers(name), f"{name} joins")
        return process

    def answers(self, name: str) -> bool:
        return any(offer.region == name for offer in self.offers())

    def offers(self, *regions: str) -> list[Offer]:
        try:
            return self.cloud.offers(OfferQuery(regions=regions))
        except CloudUnknown:
            return []

    def lease(self, name: str, seconds: float = 600.0) -> PodInfo:
        lease = new_id()
        spec = PodSpec(
            name=f"ty-{new_id()}-{lease}-run-0123abcd", fence_id=new_id(), lease_id=lease, stop=None,
            end=datetime.now(UTC) + timedelta(seconds=seconds), env={"TRAINYARD_HOST_KEY": KEY.public}, public_key=PUBLIC,
            host_key=KEY.private_pem,
        )  # fmt: skip
        return self.cloud.create(spec, Offer(f"{name}:cpu", "ssh", None, 0, 0.0, name))

    def on_pod(self, pod: PodInfo, command: str) -> str:
        """Run a command on a pod, by the way that a run takes."""
        key = self.folder / "login"
        if not key.exists():
            key.touch(0o600)
            key.write_text(LOGIN)
        assert pod.ssh is not None
        with log_in(Address(pod.ssh.host, pod.ssh.port, pod.ssh.user, pod.host_key, key, through=pod.ssh.through)) as link:
            return link.exec(command).text


@pytest.fixture
def yard(served: Served, tmp_path: Path) -> Iterator[Yard]:
    served.time = time.time()  # tokens are issued by the verbs' own clock
    served.account(user_name(served.site.context.env))
    one = Yard(served, tmp_path)
    one.start()
    yield one
    for pod in one.cloud.list() if any(process.poll() is None for process in one.joining) else ():
        if pod.status != "unknown":
            one.cloud.terminate(pod.id)
    for process in one.joining:
        process.terminate()
        process.communicate(timeout=20)
    one.stop()


def test_a_joined_machine_takes_a_lease_and_its_pod_outlives_server_and_worker(yard: Yard) -> None:
    worker = yard.joined("lab", "--label", "site=cellar")
    assert [offer.region for offer in yard.offers("site=cell*,worker=lab")] == ["lab"]
    assert yard.offers("site=attic") == yard.offers("gpu=*") == yard.offers("other") == []
    pod = yard.lease("lab")
    assert yard.on_pod(pod, "sleep 300 >/dev/null 2>&1 & echo $!").strip().isdigit()
    alive = "pgrep -f 'sleep 30[0]' >/dev/null && echo alive"
    assert "alive" in yard.on_pod(pod, alive)

    yard.stop()
    with pytest.raises(CloudUnknown):
        yard.cloud.get(pod.id)
    yard.start()
    until(lambda: yard.answers("lab"), "the worker comes back by itself")
    assert "alive" in yard.on_pod(pod, alive)

    worker.kill()
    until(lambda: not yard.answers("lab"), "the door closes")
    assert [(each.id, each.status, each.lease_id) for each in yard.cloud.list()] == [(pod.id, "unknown", pod.lease_id)]
    with pytest.raises(CloudUnknown):
        yard.cloud.get(pod.id)
    with pytest.raises(UserError, match="may have a lease until"):
        workers.remove_worker(yard.served.site.context, "lab")

    again = yard.join("lab", yard.folder / "lab.token")
    until(lambda: yard.answers("lab"), "the next worker of the machine joins")
    assert "alive" in yard.on_pod(pod, alive)
    workers.drain_worker(yard.served.site.context, "lab", drains=True)
    assert yard.offers() == [] and yard.cloud.get(pod.id) is not None
    time.sleep(3)
    assert again.poll() is None, "it stays for its pod"
    yard.cloud.terminate(pod.id)
    assert again.wait(PATIENCE) == 0 and yard.state("lab") == "away"
    assert yard.cloud.list() == [] and yard.cloud.get(pod.id) is None
    workers.remove_worker(yard.served.site.context, "lab")
    assert joined_hosts(yard.served.site.context.places.home) == []


def hello(**said: object) -> dict[str, object]:
    """What a machine says first."""
    own = {
        "kind": "hello", "protocol": PROTOCOL, "version": "0.1.0", "labels": {"gpu": "a100"}, "gpus": ["NVIDIA A100"], "memory_gb": 64.0,
        "host_key": " ".join(KEY.public.split()[:2]), "folder": "/w/pods", "python": "/usr/bin/python3",
    }  # fmt: skip
    return {**own, **said}


@dataclass
class Played:
    """A machine that is only told: it says the words, and has nothing behind them."""

    served: Served
    client: TestClient
    token: str

    def link(self, token: str | None = None) -> WebSocketTestSession:
        return self.client.websocket_connect("/api/v1/workers/link", headers={"Authorization": f"Bearer {token or self.token}"})

    def answer(self, **said: object) -> dict[str, str]:
        with self.link() as link:
            link.send_json(hello(**said))
            answer: dict[str, str] = link.receive_json()
            return answer

    @property
    def listed(self) -> dict[str, object]:
        reader = self.served.token(user_name(self.served.site.context.env), "read")
        [listed] = self.client.get("/api/v1/workers", headers={"Authorization": f"Bearer {reader}"}).json()["workers"]
        assert isinstance(listed, dict)
        return listed


def stands(played: Played) -> object:
    return played.listed["state"]


@pytest.fixture
def played(served: Served) -> Iterator[Played]:
    served.time = time.time()
    served.account(user_name(served.site.context.env))
    with served.client() as client:
        yield Played(served, client, workers.add_worker(served.site.context, "lab", 1.0))


def denied(played: Played, token: str) -> int:
    with pytest.raises(WebSocketDenialResponse) as caught, played.link(token):
        pass
    return caught.value.status_code


def test_only_a_workers_own_token_joins_and_it_opens_nothing_else(played: Played) -> None:
    admin = played.served.token(user_name(played.served.site.context.env))
    assert [denied(played, text) for text in (admin, "ty_0_0", played.token[:-1])] == [401, 401, 401]
    assert played.client.get("/api/v1/workers", headers={"Authorization": f"Bearer {played.token}"}).status_code == 403
    with pytest.raises(UserError, match="already"):
        workers.add_worker(played.served.site.context, "lab", 1.0)
    played.served.time += 2 * 86_400
    assert denied(played, played.token) == 401


def test_a_rotated_token_ends_the_connection_that_it_has_opened(played: Played) -> None:
    with played.link() as link:
        link.send_json(hello())
        assert link.receive_json()["kind"] == "welcome"
        new = workers.rotate_worker(played.served.site.context, "lab", 1.0)
        assert "rotated or revoked" in link.receive_json()["why"]
        with pytest.raises(WebSocketDisconnect):
            link.receive_json()
    assert denied(played, played.token) == 401
    played.token = new
    assert played.answer()["kind"] == "welcome"


def test_a_machine_is_lost_two_minutes_after_its_last_word(played: Played) -> None:
    assert stands(played) == "new"
    with played.link() as link:
        link.send_json(hello(version="99.0"))
        assert link.receive_json()["kind"] == "welcome", "a newer version of the same protocol is welcome"
        assert stands(played) == "ready"
        played.served.time += LOST - 1
        assert stands(played) == "silent"
        link.send_json({"kind": "beat", "pods": 3})
        until(lambda: stands(played) == "ready", "the beat counts")
        played.served.time += LOST + 1
        assert stands(played) == "lost"
    reader = played.served.token(user_name(played.served.site.context.env), "read")
    shown = played.client.get("/workers", headers={"Authorization": f"Bearer {reader}"})
    assert shown.status_code == 200
    assert all(text in shown.text for text in ("lab", "gpu=a100", "NVIDIA A100", "64.0 GB", "lost"))
    row = played.listed["row"]
    assert isinstance(row, dict) and (row["pods"], row["gpus"], row["labels"]) == (3, ["NVIDIA A100"], {"gpu": "a100"})


def test_who_speaks_another_protocol_or_is_another_machine_is_refused_with_a_reason(played: Played) -> None:
    assert "upgrade the server" in played.answer(protocol=PROTOCOL + 1)["why"]
    assert "upgrade the worker" in played.answer(protocol=PROTOCOL - 1)["why"]
    assert "not as it should be" in played.answer(host_key="ssh-ed25519 x\nHost *")["why"]
    with played.link() as link:
        link.send_json(hello())
        assert link.receive_json()["kind"] == "welcome"
        other = host_key(b"another seed for other tests.....", "pod").public
        assert "is another machine" in played.answer(host_key=" ".join(other.split()[:2]))["why"]
        assert played.answer()["kind"] == "welcome", "the same machine comes back before its old connection was missed"
        with pytest.raises(WebSocketDisconnect):
            link.receive_json()
