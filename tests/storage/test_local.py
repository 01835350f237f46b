"""The local S3 server: one, on its kept port, whoever starts it and whatever kills it."""

from __future__ import annotations

import http.server
import json
import os
import shutil
import signal
import socket
import stat
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.storage.conftest import places_at
from trainyard import processes
from trainyard.config import Places
from trainyard.errors import StoreError, UserError
from trainyard.storage import bucket, local, versitygw
from trainyard.storage.client import StoreSettings, s3, sync_command, with_bucket
from trainyard.storage.stores import store_settings


@pytest.fixture
def places(binary: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Places]:
    monkeypatch.setenv("TRAINYARD_VERSITYGW", str(binary))
    monkeypatch.setattr(versitygw, "HEALTH_SECONDS", 1.0)
    monkeypatch.setattr(local, "_PORT_SECONDS", 0.5)
    root = Path(tempfile.mkdtemp(prefix="tyl"))
    made = places_at(root)
    yield made
    local.stop(made)
    shutil.rmtree(root, ignore_errors=True)


def pid_of(places: Places) -> int:
    found = local.status(places).pid
    assert found
    return found


def put_and_get(settings: StoreSettings) -> bytes:
    ready = with_bucket(settings, "kept")
    bucket.adopt_or_create(ready)
    s3(ready).put_object(Bucket="kept", Key="a", Body=b"1")
    body: bytes = s3(ready).get_object(Bucket="kept", Key="a")["Body"].read()
    return body


def test_a_second_ensure_finds_the_same_server(places: Places) -> None:
    first = local.ensure(places)
    pid = pid_of(places)
    assert local.ensure(places) == first and pid_of(places) == pid
    assert put_and_get(first) == b"1"


def test_it_listens_on_loopback_only_with_keys_that_only_the_owner_can_read(places: Places) -> None:
    found = local.ensure(places)
    port = int(str(found.endpoint).rpartition(":")[2])
    rows = [row.split() for row in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    assert [row[1] for row in rows if row[3] == "0A" and int(row[1].rpartition(":")[2], 16) == port] == [f"0100007F:{port:04X}"]
    assert not [r for r in Path("/proc/net/tcp6").read_text().splitlines()[1:] if r.split()[1].endswith(f":{port:04X}") and " 0A " in r]
    assert stat.S_IMODE((places.store / "identity.json").stat().st_mode) == 0o600
    arguments = Path(f"/proc/{pid_of(places)}/cmdline").read_bytes()
    assert found.secret_key.reveal().encode() not in arguments


def test_sigkill_is_healed_by_the_next_ensure_with_port_keys_and_objects(places: Places) -> None:
    first = local.ensure(places)
    assert put_and_get(first) == b"1"
    pid = pid_of(places)
    os.kill(pid, signal.SIGKILL)
    processes.wait_until_gone(pid, str(processes.start_mark(pid)), 5)
    second = local.ensure(places)
    assert second == first and pid_of(places) != pid
    assert s3(second).get_object(Bucket="kept", Key="a")["Body"].read() == b"1"


def test_many_starters_at_once_get_one_server(places: Places) -> None:
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda _: local.ensure(places), range(8)))
    assert len({(s.endpoint, s.access_key.reveal()) for s in found}) == 1
    log = (places.store / "server.log").read_text()
    assert log.count("initializing S3 access logs") == 1


def test_it_outlives_the_process_that_started_it(places: Places) -> None:
    code = (
        "import os, signal; from trainyard import config; from trainyard.storage import local;"
        "local.ensure(config.places()); os.kill(0, signal.SIGTERM)"
    )
    env = {**os.environ, "TRAINYARD_LOCAL_ROOT": str(places.outside), "TRAINYARD_HOME": str(places.home)}
    subprocess.run([sys.executable, "-c", code], env=env, start_new_session=True, check=False)
    assert local.status(places).running
    assert put_and_get(local.ensure(places)) == b"1"


def test_stop_ends_it_and_status_says_so(places: Places) -> None:
    before = local.status(places)
    assert (before.running, before.port, before.pid) == (False, None, None)
    local.ensure(places)
    running = local.status(places)
    assert running.running and running.endpoint == f"http://127.0.0.1:{running.port}"
    assert local.stop(places) is True and local.stop(places) is False
    after = local.status(places)
    assert (after.running, after.port, after.pid) == (False, running.port, None)


def test_a_port_held_by_another_program_is_named_with_its_owner_and_what_to_do(places: Places) -> None:
    local.ensure(places)
    port = local.status(places).port
    assert port
    local.stop(places)
    with socket.socket() as other:
        other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        other.bind(("127.0.0.1", port))
        other.listen()
        with pytest.raises(StoreError, match=rf"port {port} .* is held by process {os.getpid()}") as caught:
            local.ensure(places)
        assert "identity.json" in str(caught.value.hint)
    assert put_and_get(local.ensure(places)) == b"1"


def test_a_stranger_that_answers_health_checks_on_the_port_is_not_taken_for_ours(places: Places) -> None:
    local.ensure(places)
    port = local.status(places).port
    assert port
    local.stop(places)

    class Yes(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200 if self.path == "/healthz" else 403)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None: ...

    with http.server.ThreadingHTTPServer(("127.0.0.1", port), Yes) as server:
        threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        with pytest.raises(StoreError, match="is held by"):
            local.ensure(places)
        server.shutdown()


def test_a_server_of_ours_whose_record_was_lost_is_taken_over(places: Places) -> None:
    first = local.ensure(places)
    pid = pid_of(places)
    (places.store / "server.json").unlink()
    assert local.ensure(places) == first and pid_of(places) == pid


def test_a_record_of_a_pid_that_is_another_process_now_is_not_believed(places: Places) -> None:
    local.ensure(places)
    local.stop(places)
    (places.store / "server.json").write_text(json.dumps({"pid": os.getpid(), "mark": "1/another boot"}))
    local.ensure(places)
    assert pid_of(places) != os.getpid()


def test_a_server_that_hangs_is_replaced(places: Places, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(local, "_READY_SECONDS", 0.5)
    monkeypatch.setattr(versitygw, "HEALTH_SECONDS", 0.3)
    local.ensure(places)
    pid = pid_of(places)
    os.kill(pid, signal.SIGSTOP)
    while any(task.read_text().rpartition(")")[2].split()[0] != "T" for task in Path(f"/proc/{pid}/task").glob("*/stat")):
        pass  # the signal reaches each thread on its own
    local.ensure(places)
    assert pid_of(places) != pid and processes.start_mark(pid) is None


def test_uploads_left_in_the_middle_of_complete_are_revived_before_the_start(places: Places) -> None:
    found = with_bucket(local.ensure(places), "kept")
    bucket.adopt_or_create(found)
    upload = s3(found).create_multipart_upload(Bucket="kept", Key="big")["UploadId"]
    s3(found).upload_part(Bucket="kept", Key="big", UploadId=upload, PartNumber=1, Body=b"x")
    local.stop(places)
    [folder] = (places.store / "data/kept/.sgwtmp/multipart").glob(f"*/{upload}")
    folder.rename(folder.with_name(f"{upload}.token123.inprogress"))
    local.ensure(places)
    parts = s3(found).list_parts(Bucket="kept", Key="big", UploadId=upload)["Parts"]
    assert [part["PartNumber"] for part in parts] == [1]


def test_a_program_that_does_not_start_is_an_error_with_its_words(places: Places, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    broken = tmp_path / "broken"
    broken.write_text("#!/bin/sh\necho cannot do this >&2\nexit 1\n")
    broken.chmod(0o755)
    monkeypatch.setenv("TRAINYARD_VERSITYGW", str(broken))
    with pytest.raises(StoreError, match="did not become ready") as caught:
        local.ensure(places)
    assert "cannot do this" in str(caught.value.hint)


def test_a_missing_program_is_an_error_that_names_the_command_for_it(
    places: Places, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TRAINYARD_VERSITYGW", str(tmp_path / "nothing"))
    with pytest.raises(UserError, match="is no program"):
        local.ensure(places)
    monkeypatch.delenv("TRAINYARD_VERSITYGW")
    monkeypatch.setenv("PATH", "/nowhere")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    with pytest.raises(UserError, match="not installed") as caught:
        local.ensure(places)
    assert caught.value.hint == "Run: invoke setup"


def test_a_damaged_identity_is_never_replaced_by_a_new_one(places: Places) -> None:
    local.ensure(places)
    local.stop(places)
    (places.store / "identity.json").write_text("{")
    with pytest.raises(StoreError, match=r"identity\.json is damaged"):
        local.ensure(places)
    assert (places.store / "identity.json").read_text() == "{"
    (places.store / "identity.json").unlink()


@pytest.mark.parametrize("at_home", [False, True])
def test_the_sync_command_works_as_it_is_shown_and_holds_no_key(
    places: Places, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, at_home: bool
) -> None:
    if at_home:
        monkeypatch.setenv("HOME", str(places.store.parent))
    settings = with_bucket(local.ensure(places), "kept")
    assert put_and_get(settings) == b"1"
    command = sync_command(settings, "", str(tmp_path / "home"))
    assert settings.secret_key.reveal() not in command
    assert command.startswith("AWS_SHARED_CREDENTIALS_FILE=~/store/credentials aws s3 sync s3://") is at_home
    assert stat.S_IMODE((places.store / "credentials").stat().st_mode) == 0o600
    env = {name: value for name, value in os.environ.items() if not name.startswith("AWS_")}
    if not shutil.which("aws") or subprocess.run(["aws", "--version"], capture_output=True, check=False).returncode:
        pytest.skip("no AWS CLI here: its command is not tried")
    subprocess.run(["sh", "-c", command], check=True, capture_output=True, env=env)
    assert (tmp_path / "home/a").read_bytes() == b"1"


def test_store_settings_of_kind_local_start_it(places: Places) -> None:
    found = store_settings({}, "local", "my-bucket", places)
    assert found and found.bucket == "my-bucket" and local.status(places).running
