"""The local S3 server: VersityGW on 127.0.0.1, started by whoever needs it, kept by nobody.

``ensure()`` is the only way to start it and may be called by any number of processes at once. Port and keys are
chosen once and kept for good, as presigned URLs and settings of users name them. The server outlives its caller;
after a SIGKILL the next ``ensure()`` brings it back with everything it had acknowledged.
"""

from __future__ import annotations

import json
import os
import random
import secrets
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from trainyard import processes
from trainyard.config import Places
from trainyard.errors import StoreError, UserError
from trainyard.filelock import hold_lock
from trainyard.files import write_atomic
from trainyard.jsontext import parse_json
from trainyard.secret import Secret
from trainyard.storage import ports, versitygw
from trainyard.storage.client import StoreSettings, s3
from trainyard.storage.versitygw import Folder, Identity

# Below the range from which systems hand out ports by themselves (32768 on Linux, 49152 on macOS).
_PORTS = range(20000, 32000)
_READY_SECONDS = 20.0
_PORT_SECONDS = 2.0


@dataclass(frozen=True, slots=True)
class Status:
    """The server as it is now."""

    running: bool
    port: int | None
    pid: int | None
    binary: str | None
    data_dir: Path
    endpoint: str | None


def ensure(places: Places, *, binary: Path | None = None) -> StoreSettings:
    """Return the settings of the running local server, starting it when it does not run.

    Raises StoreError when its port is held by another program, or when it does not become ready.
    """
    folder = Folder(places.store)
    return _settings(folder, _up(folder, binary)[0])


def revive(settings: StoreSettings) -> bool:
    """Start the local server that these settings name if it has died meanwhile; True when it had."""
    if settings.kind != "local" or settings.data_dir is None:
        return False
    return _up(Folder(settings.data_dir.parent), None)[1]


def stop(places: Places) -> bool:
    """Stop the server; False when it did not run."""
    folder = Folder(places.store)
    if not folder.root.is_dir():
        return False
    with _locked(folder):
        running = _running(folder)
        if running is None:
            return False
        processes.end_process(*running, grace=10.0)
        folder.record.unlink(missing_ok=True)
    return True


def status(places: Places) -> Status:
    """Return how the server is, without starting it."""
    folder = Folder(places.store)
    identity = _read_identity(folder)
    running = _running(folder)
    healthy = running is not None and identity is not None and versitygw.answers(identity.port)
    try:
        binary: str | None = str(find_binary())
    except UserError:
        binary = None
    return Status(
        running=healthy,
        port=identity.port if identity else None,
        pid=running[0] if running else None,
        binary=binary,
        data_dir=folder.data,
        endpoint=f"http://127.0.0.1:{identity.port}" if identity else None,
    )


def find_binary() -> Path:
    """Return the server's program: ``TRAINYARD_VERSITYGW``, else what is on PATH or was built; raises UserError when absent."""
    named = os.environ.get("TRAINYARD_VERSITYGW")
    if named:
        path = Path(named).expanduser().resolve()
        if not os.access(path, os.X_OK):
            raise UserError(f"TRAINYARD_VERSITYGW: {path} is no program")
        return path
    from trainyard.setup import s3server

    binary = s3server.find()
    if binary is None:
        raise UserError("the local S3 server (versitygw) is not installed", hint="Run: invoke setup")
    return Path(binary)


def obtain(on_line: Callable[[str], None]) -> None:
    """Have the server's program before anything waits for it: where there is none it is built, which takes minutes once per user."""
    from trainyard.setup import s3server

    if not os.environ.get("TRAINYARD_VERSITYGW"):
        s3server.ensure(on_line=on_line)


def _up(folder: Folder, binary: Path | None) -> tuple[Identity, bool]:
    """Make sure that the server runs; returns who it is, and whether it had to be started."""
    identity = _read_identity(folder)
    if identity is not None and _healthy(folder, identity):
        return identity, False
    with _locked(folder):
        identity = _read_identity(folder) or _new_identity(folder)
        if _healthy(folder, identity):
            return identity, False
        _start(folder, identity, binary or find_binary())
    return identity, True


def _settings(folder: Folder, identity: Identity) -> StoreSettings:
    return StoreSettings(
        kind="local",
        endpoint=f"http://127.0.0.1:{identity.port}",
        region=versitygw.REGION,
        bucket="",
        access_key=identity.access_key,
        secret_key=identity.secret_key,
        lifecycle=False,
        data_dir=folder.data,
    )


@contextmanager
def _locked(folder: Folder) -> Iterator[None]:
    with ExitStack() as stack:
        try:
            folder.root.mkdir(parents=True, exist_ok=True, mode=0o700)
            stack.enter_context(hold_lock(folder.root / "lock"))
        except OSError as error:
            raise StoreError(f"{folder.root}: {error.strerror}") from None
        yield


def _read_identity(folder: Folder) -> Identity | None:
    try:
        text = folder.identity.read_text(encoding="utf-8")
    except FileNotFoundError:
        return None
    try:
        content = parse_json(text)
        return Identity(int(content["port"]), Secret(content["access_key"]), Secret(content["secret_key"]))
    except (ValueError, KeyError, TypeError):
        # Never a new one by itself: it would lock the user out of the objects' URLs and keys.
        hint = "It holds port, access_key and secret_key; restore it, or delete it to choose new ones."
        raise StoreError(f"{folder.identity} is damaged", hint=hint) from None


def _new_identity(folder: Folder) -> Identity:
    port = next((p for p in random.SystemRandom().sample(_PORTS, 50) if ports.port_is_free(p)), None)
    if port is None:
        raise StoreError(f"no free port between {_PORTS.start} and {_PORTS.stop} on 127.0.0.1 for the local S3 server")
    identity = Identity(port, Secret("ty" + secrets.token_hex(9)), Secret(secrets.token_urlsafe(30)))
    chosen = {"port": port, "access_key": identity.access_key.reveal(), "secret_key": identity.secret_key.reveal()}
    write_atomic(folder.identity, json.dumps(chosen), durable=True, mode=0o600)
    return identity


def _running(folder: Folder) -> tuple[int, str] | None:
    """Return pid and start mark of our server, None when it does not run."""
    try:
        content = parse_json(folder.record.read_text(encoding="utf-8"))
        pid, mark = int(content["pid"]), str(content["mark"])
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return (pid, mark) if processes.start_mark(pid) == mark else None


def _record(folder: Folder, pid: int, mark: str) -> None:
    write_atomic(folder.record, json.dumps({"pid": pid, "mark": mark}), durable=True, mode=0o600)


def _healthy(folder: Folder, identity: Identity) -> bool:
    return _running(folder) is not None and versitygw.answers(identity.port)


def _start(folder: Folder, identity: Identity, binary: Path) -> None:
    running = _running(folder)
    if running is not None:
        # It lives but did not answer: give it the time a busy machine may need, then replace it.
        if versitygw.wait_ready(identity.port, running, _READY_SECONDS):
            return
        processes.end_process(*running, grace=1.0)
    if not ports.port_is_free(identity.port) and _port_is_taken(folder, identity):
        return
    for path in (folder.data, folder.versions):
        path.mkdir(parents=True, exist_ok=True, mode=0o700)
    access, secret = identity.access_key.reveal(), identity.secret_key.reveal()
    keys = f"[default]\naws_access_key_id = {access}\naws_secret_access_key = {secret}\n"
    write_atomic(folder.credentials, keys, durable=True, mode=0o600)
    versitygw.revive_uploads(folder.data)
    versitygw.trim_logs(folder)
    pid = versitygw.spawn(folder, identity, binary)
    mark = processes.start_mark(pid)
    if mark is not None:
        _record(folder, pid, mark)
    if mark is None or not versitygw.wait_ready(identity.port, (pid, mark), _READY_SECONDS):
        if mark is not None:
            processes.end_process(pid, mark, grace=1.0)
        said = versitygw.last_words(folder.server_log)
        raise StoreError(f"the local S3 server did not become ready on 127.0.0.1:{identity.port}", hint=said)


def _port_is_taken(folder: Folder, identity: Identity) -> bool:
    """Take over a server of ours whose record was lost (a crash between start and record): True. Else name who holds the port.

    False when it became free: the threads of a killed server hold it a moment longer than its process is there.
    """
    owner = ports.port_owner(identity.port)
    if versitygw.answers(identity.port) and _accepts_our_key(folder, identity):
        mark = processes.start_mark(owner[0]) if owner else None
        if owner and mark is not None:
            _record(folder, owner[0], mark)
        return True  # without an owner it runs in another process namespace
    until = time.monotonic() + _PORT_SECONDS
    while time.monotonic() < until:
        if ports.port_is_free(identity.port):
            return False
        time.sleep(0.02)
    who = f"process {owner[0]} ({owner[1][:80]})" if owner else "another program"
    raise StoreError(
        f"port {identity.port} of the local S3 server is held by {who}",
        hint=f"End that program, or change the number in {folder.identity} (URLs and settings that name the old port stop working).",
    )


def _accepts_our_key(folder: Folder, identity: Identity) -> bool:
    from botocore.exceptions import BotoCoreError, ClientError

    try:
        s3(_settings(folder, identity)).list_buckets()
    except (BotoCoreError, ClientError):
        return False
    return True
