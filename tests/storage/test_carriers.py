"""The processes that fetch large results: what they bring, what they leave to others, and how they end."""

from __future__ import annotations

import hashlib
import http.server
import os
import signal
import socket
import ssl
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from bench.servers import make_certificate
from tests.storage.conftest import fresh_bucket, trained_pod, tree
from tests.storage.lying_proxy import Fault, LyingProxy
from tests.storage.test_commit import WHERE
from tests.storage.test_download import Kept, committed_result
from trainyard.errors import StoreError
from trainyard.filelock import acquire
from trainyard.retries import Backoff
from trainyard.secret import Secret
from trainyard.storage import carriers as module
from trainyard.storage.carriers import Carried, Carriers
from trainyard.storage.client import StoreSettings
from trainyard.storage.deliver import Progress
from trainyard.storage.download import download
from trainyard.storage.reader import way_of

BODY = os.urandom(3_000_001)
SHA256 = hashlib.sha256(BODY).hexdigest()


class _Handler(http.server.BaseHTTPRequestHandler):
    """A store that has one object, under names that say how it answers; also a proxy."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        kind = self.path.split("?")[0].rpartition("/")[2]
        self.server.seen.append((kind, self.client_address, dict(self.headers)))  # type: ignore[attr-defined]
        start, end = map(int, self.headers["Range"].removeprefix("bytes=").split("-"))
        body = BODY[start : end + 1]
        self.send_response({"refused": 403, "whole": 200}.get(kind, 206))
        self.send_header("Content-Length", str(len(body) + (1 if kind == "longer" else 0)))
        self.end_headers()
        if kind == "cut":
            body = body[: len(body) // 2]
        self.wfile.write(body)
        if kind in ("cut", "left"):  # left: closed without a word, as a store that has waited long enough
            self.close_connection = True

    def do_CONNECT(self) -> None:
        self.server.seen.append(("CONNECT", self.path, dict(self.headers)))  # type: ignore[attr-defined]
        host, _, port = self.path.partition(":")
        with socket.create_connection((host, int(port))) as there:
            self.send_response(200)
            self.end_headers()
            back = threading.Thread(target=_relay, args=(there, self.connection), daemon=True)
            back.start()
            _relay(self.connection, there)
            back.join()
        self.close_connection = True

    def log_message(self, *_: object) -> None:
        pass


def _relay(one: socket.socket, other: socket.socket) -> None:
    try:
        while data := one.recv(65536):
            other.sendall(data)
        other.shutdown(socket.SHUT_WR)
    except OSError:
        pass


@contextmanager
def serving(context: ssl.SSLContext | None = None) -> Iterator[Any]:
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
    server.daemon_threads, server.seen = True, []  # type: ignore[attr-defined]
    if context:
        server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    return make_certificate(tmp_path_factory.mktemp("tls"))


@pytest.fixture(params=["http", "https"])
def store(request: pytest.FixtureRequest, certificate: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    context = None
    if request.param == "https":
        monkeypatch.setenv("AWS_CA_BUNDLE", str(certificate[0]))
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.load_cert_chain(*certificate)
    with serving(context) as server:
        server.url = f"{request.param}://127.0.0.1:{server.server_address[1]}"
        yield server


@pytest.fixture
def start(store: Any, tmp_path: Path) -> Iterator[Callable[[], Carriers]]:
    """Start carriers for the store, which end with the test."""
    begun: list[Carriers] = []
    lock = acquire(tmp_path / "lock")

    def start() -> Carriers:
        begun.append(Carriers(StoreSettings("s3", store.url, "us-east-1", "bucket", Secret("a"), Secret("the-secret-key")), lock))
        return begun[-1]

    yield start
    for one in begun:
        one.end()
    os.close(lock)


def carry(carriers: Carriers, store: Any, kind: str, path: Path, start: int = 0, end: int = len(BODY), hashed: bool = True) -> Carried:
    path.touch()
    return carriers.carry(f"{store.url}/bucket/{kind}?X-Amz-Signature=1", path, start, end, hashed=hashed, heard=lambda _: None)


def test_a_range_is_brought_to_its_place_with_its_hash_by_a_connection_that_is_kept(
    start: Callable[[], Carriers], store: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "PROCESSES", 1)
    carriers, path = start(), tmp_path / "a fil\udcff\u00e9"
    assert carry(carriers, store, "object", path) == Carried(len(BODY), SHA256)
    assert path.read_bytes() == BODY
    path.write_bytes(bytes(len(BODY)))
    assert carry(carriers, store, "object", path, 77, 1_000_000, False) == Carried(1_000_000, "")
    assert path.read_bytes() == bytes(77) + BODY[77:1_000_000] + bytes(len(BODY) - 1_000_000)
    assert len({client for _, client, _ in store.seen}) == 1


@pytest.mark.parametrize(("kind", "comes"), [("refused", 0), ("longer", 0), ("whole", 0), ("cut", 1_499_999)])
def test_what_is_no_plain_answer_is_left_to_whoever_ordered(
    kind: str, comes: int, start: Callable[[], Carriers], store: Any, tmp_path: Path
) -> None:
    assert carry(start(), store, kind, tmp_path / "file", 1, 3_000_000) == Carried(1 + comes)


def test_a_connection_that_the_store_has_closed_meanwhile_costs_nothing(
    start: Callable[[], Carriers], store: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "PROCESSES", 1)
    carriers = start()
    for _ in range(3):
        assert carry(carriers, store, "left", tmp_path / "file") == Carried(len(BODY), SHA256)


def test_a_disk_that_takes_nothing_is_found_by_whoever_ordered(start: Callable[[], Carriers], store: Any) -> None:
    assert carry(start(), store, "object", Path("/dev/full")).at < len(BODY)


def test_a_store_that_is_not_trusted_is_told_nothing(
    store: Any, start: Callable[[], Carriers], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("AWS_CA_BUNDLE", raising=False)
    monkeypatch.delenv("SSL_CERT_FILE", raising=False)
    brought = carry(start(), store, "object", tmp_path / "file")
    secure = store.url.startswith("https")
    assert brought.at == (0 if secure else len(BODY)) and bool(store.seen) != secure


def test_a_proxy_is_gone_through_with_its_password(
    start: Callable[[], Carriers], store: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Loopback is never asked for through one, so the store is called by another of its addresses' names."""
    with serving() as proxy:
        way = way_of(StoreSettings("s3", store.url, "us-east-1", "bucket", Secret("a"), Secret("b")))
        by = replace(way, proxy=f"http://u:p@127.0.0.1:{proxy.server_address[1]}", headers={"Proxy-Authorization": "Basic dTpw"})
        monkeypatch.setattr(module, "way_of", lambda _: by)
        brought = carry(start(), store, "object", tmp_path / "file")
        ((kind, _, headers),) = proxy.seen
    assert brought == Carried(len(BODY), SHA256) and headers["Proxy-Authorization"] == "Basic dTpw"
    assert kind == ("CONNECT" if store.url.startswith("https") else "object")
    assert not any("Proxy-Authorization" in told for _, _, told in store.seen)


def test_no_key_is_in_an_argument_or_variable_of_theirs(start: Callable[[], Carriers], store: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "the-secret-key")
    for one in start()._all:
        for name in ("cmdline", "environ"):
            assert b"secret" not in Path(f"/proc/{one._child.pid}/{name}").read_bytes().lower()


def test_a_carrier_that_was_killed_answers_for_what_it_had_and_all_that_follows(
    start: Callable[[], Carriers], store: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "PROCESSES", 1)
    carriers = start()
    carriers._all[0]._child.kill()
    for _ in range(2):
        assert carry(carriers, store, "object", tmp_path / "file") == Carried(0)


def test_the_folder_is_locked_until_those_of_a_killed_controller_are_gone_too(tmp_path: Path) -> None:
    """The store never answers, so none of them ends by itself."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        address = f"http://127.0.0.1:{silent.getsockname()[1]}"
        code = f"""
import os, pathlib, signal, threading
from trainyard.filelock import acquire
from trainyard.secret import Secret
from trainyard.storage.carriers import Carriers
from trainyard.storage.client import StoreSettings
lock = acquire(pathlib.Path({str(tmp_path / "lock")!r}))
carriers = Carriers(StoreSettings("s3", {address!r}, "us-east-1", "b", Secret("a"), Secret("b")), lock)
order = dict(hashed=False, heard=print)
threading.Thread(target=lambda: carriers.carry({address!r} + "/b/o?", pathlib.Path("/dev/null"), 0, 9, **order), daemon=True).start()
print(*(one._child.pid for one in carriers._all), flush=True)
input()
os.kill(os.getpid(), signal.SIGKILL)
"""
        root = Path(__file__).resolve().parents[2]
        child = subprocess.Popen([sys.executable, "-c", code], cwd=root, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        with silent.accept()[0] as link:
            link.recv(1)
            said, _ = child.communicate("\n")
        assert child.returncode == -signal.SIGKILL
        with closing_lock(tmp_path / "lock"):
            assert all(ending(int(pid)) for pid in said.split())


def ending(pid: int) -> bool:
    """Tell whether a process is gone, or is about to be: it has closed its files."""
    try:
        return not os.listdir(f"/proc/{pid}/fd")
    except FileNotFoundError:
        return True


@contextmanager
def closing_lock(path: Path) -> Iterator[None]:
    handle = acquire(path)
    try:
        yield
    finally:
        os.close(handle)


@pytest.fixture(scope="module")
def kept(server: StoreSettings, tmp_path_factory: pytest.TempPathFactory) -> Kept:
    return committed_result(fresh_bucket(server), trained_pod(tmp_path_factory.mktemp("pod")))


@pytest.fixture
def by_carriers(monkeypatch: pytest.MonkeyPatch) -> list[Carried]:
    """Let even a small result be worth them; gives what they have brought."""
    brought, carry = list[Carried](), Carriers.carry

    def noted(self: Carriers, *args: Any, **options: Any) -> Carried:
        brought.append(carry(self, *args, **options))
        return brought[-1]

    monkeypatch.setattr("trainyard.storage.fetch.PAUSES", Backoff(0.001, 0.001))
    monkeypatch.setattr("trainyard.storage.fetch.WORTH_BYTES", 0)
    monkeypatch.setattr(Carriers, "carry", noted)
    return brought


@pytest.mark.parametrize("piece", [64 << 20, 1 << 20])
@pytest.mark.parametrize("act", [None, "drop", "lose", "fail", "garble", "cut"])
def test_a_result_arrives_by_them_over_a_bad_link(
    act: str | None, piece: int, by_carriers: list[Carried], proxy: LyingProxy, kept: Kept, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("trainyard.storage.fetch.PIECE", piece)
    if act:
        proxy.faults.append(Fault("Get", act, times=3, key="model.safetensors"))  # type: ignore[arg-type]
    told: list[Progress] = []
    got = download(replace(kept.settings, endpoint=proxy.endpoint, attempts=2), str(WHERE), tmp_path, on_progress=told.append)
    assert tree(tmp_path) == kept.files and by_carriers
    assert told[-1].done == got.bytes and all(0 <= one.done <= got.bytes for one in told)
    assert act or all(one.sha256 is not None for one in by_carriers)


def test_what_the_store_refuses_is_told_in_its_words(by_carriers: list[Carried], proxy: LyingProxy, kept: Kept, tmp_path: Path) -> None:
    proxy.faults.append(Fault("Get", "fail", times=99, key="config.json", status=403, code="AccessDenied"))
    with pytest.raises(StoreError, match=r"config\.json: the store answered (403|AccessDenied)"):
        download(replace(kept.settings, endpoint=proxy.endpoint, attempts=2), str(WHERE), tmp_path)


def test_where_no_process_can_be_had_the_result_comes_all_the_same(
    by_carriers: list[Carried], kept: Kept, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "executable", "/nowhere/python")
    download(kept.settings, str(WHERE), tmp_path)
    assert tree(tmp_path) == kept.files and not by_carriers
