"""The local S3 server: VersityGW on 127.0.0.1, started by whoever needs it, kept by nobody.

``ensure()`` is the only way to start it and may be called by any number of processes at once. Port and keys are
chosen once and kept for good, as presigned URLs and settings of users name them. The server outlives its caller;
after a SIGKILL the next ``ensure()`` brings it back with everything it had acknowledged.
"""

from __future__ import annotations

import fcntl
import http.client
import json
import os
import random
import secrets
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from trainyard.config import Places
from trainyard.errors import StoreError, UserError
from trainyard.secret import Secret
from trainyard.storage import process
from trainyard.storage.client import StoreSettings, s3

REGION = "us-east-1"
# Below the range from which systems hand out ports by themselves (32768 on Linux, 49152 on macOS).
_PORTS = range(20000, 32000)
_READY_SECONDS = 20.0
_HEALTH_SECONDS = 5.0
_PORT_SECONDS = 2.0
_LOG_LIMIT = 64 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Identity:
    """What is chosen once: the port and the root key."""

    port: int
    access_key: Secret
    secret_key: Secret


@dataclass(frozen=True, slots=True)
class Status:
    """The server as it is now."""

    running: bool
    port: int | None
    pid: int | None
    binary: str | None
    data_dir: Path
    endpoint: str | None


@dataclass(frozen=True, slots=True)
class _Folder:
    root: Path

    @property
    def data(self) -> Path:
        return self.root / "data"

    @property
    def versions(self) -> Path:
        return self.root / "versions"

    @property
    def sidecar(self) -> Path:
        return self.root / "sidecar"

    @property
    def identity(self) -> Path:
        return self.root / "identity.json"

    @property
    def record(self) -> Path:
        return self.root / "server.json"

    @property
    def access_log(self) -> Path:
        return self.root / "access.log"

    @property
    def server_log(self) -> Path:
        return self.root / "server.log"


def ensure(places: Places, *, binary: Path | None = None) -> StoreSettings:
    """Return the settings of the running local server, starting it when it does not run.

    Raises StoreError when its port is held by another program, or when it does not become ready.
    """
    folder = _Folder(places.store)
    return _settings(folder, _up(folder, binary)[0])


def revive(settings: StoreSettings) -> bool:
    """Start the local server that these settings name if it has died meanwhile; True when it had."""
    if settings.kind != "local" or settings.data_dir is None:
        return False
    return _up(_Folder(settings.data_dir.parent), None)[1]


def stop(places: Places) -> bool:
    """Stop the server; False when it did not run."""
    folder = _Folder(places.store)
    if not folder.root.is_dir():
        return False
    with _locked(folder):
        running = _running(folder)
        if running is None:
            return False
        process.end_process(*running, grace=10.0)
        folder.record.unlink(missing_ok=True)
    return True


def status(places: Places) -> Status:
    """Return how the server is, without starting it."""
    folder = _Folder(places.store)
    identity = _read_identity(folder)
    running = _running(folder)
    healthy = running is not None and identity is not None and _answers(identity.port)
    try:
        binary: str | None = str(find_binary(places))
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


def find_binary(places: Places | None = None) -> Path:
    """Return the server's program: ``TRAINYARD_VERSITYGW``, else what bootstrap installed; raises UserError when absent."""
    named = os.environ.get("TRAINYARD_VERSITYGW")
    if named:
        path = Path(named).expanduser().resolve()
        if not os.access(path, os.X_OK):
            raise UserError(f"TRAINYARD_VERSITYGW: {path} is no program")
        return path
    from trainyard.setup import s3server

    found = s3server.find()
    if found is None:
        raise UserError("the local S3 server (versitygw) is not installed", hint="Run ./bootstrap: it finds or builds it.")
    return Path(found)


def _up(folder: _Folder, binary: Path | None) -> tuple[Identity, bool]:
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


def _settings(folder: _Folder, identity: Identity) -> StoreSettings:
    return StoreSettings(
        kind="local",
        endpoint=f"http://127.0.0.1:{identity.port}",
        region=REGION,
        bucket="",
        access_key=identity.access_key,
        secret_key=identity.secret_key,
        lifecycle=False,
        data_dir=folder.data,
    )


@contextmanager
def _locked(folder: _Folder) -> Iterator[None]:
    try:
        folder.root.mkdir(parents=True, exist_ok=True, mode=0o700)
        lock = os.open(folder.root / "lock", os.O_RDWR | os.O_CREAT, 0o600)
    except OSError as error:
        raise StoreError(f"{folder.root}: {error.strerror}") from None
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
    finally:
        os.close(lock)


def _read_identity(folder: _Folder) -> Identity | None:
    try:
        text = folder.identity.read_text(encoding="utf-8")
    except FileNotFoundError:
        return None
    try:
        found = json.loads(text)
        return Identity(int(found["port"]), Secret(found["access_key"]), Secret(found["secret_key"]))
    except (ValueError, KeyError, TypeError):
        # Never a new one by itself: it would lock the user out of the objects' URLs and keys.
        hint = "It holds port, access_key and secret_key; restore it, or delete it to choose new ones."
        raise StoreError(f"{folder.identity} is damaged", hint=hint) from None


def _new_identity(folder: _Folder) -> Identity:
    port = next((p for p in random.SystemRandom().sample(_PORTS, 50) if process.port_is_free(p)), None)
    if port is None:
        raise StoreError(f"no free port between {_PORTS.start} and {_PORTS.stop} on 127.0.0.1 for the local S3 server")
    identity = Identity(port, Secret("ty" + secrets.token_hex(9)), Secret(secrets.token_urlsafe(30)))
    _write(folder.identity, {"port": port, "access_key": identity.access_key.reveal(), "secret_key": identity.secret_key.reveal()})
    return identity


def _write(path: Path, value: dict[str, object]) -> None:
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    handle = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(handle, "w", encoding="utf-8") as file:
        json.dump(value, file)
        file.flush()
        os.fsync(file.fileno())
    os.replace(temporary, path)


def _running(folder: _Folder) -> tuple[int, str] | None:
    """Return pid and start mark of our server, None when it does not run."""
    try:
        found = json.loads(folder.record.read_text(encoding="utf-8"))
        pid, mark = int(found["pid"]), str(found["mark"])
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return (pid, mark) if process.start_mark(pid) == mark else None


def _healthy(folder: _Folder, identity: Identity) -> bool:
    return _running(folder) is not None and _answers(identity.port)


def _answers(port: int) -> bool:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=_HEALTH_SECONDS)
    try:
        connection.request("GET", "/healthz")
        return connection.getresponse().status == 200
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


def _start(folder: _Folder, identity: Identity, binary: Path) -> None:
    running = _running(folder)
    if running is not None:
        # It lives but did not answer: give it the time a busy machine may need, then replace it.
        if _wait_ready(identity.port, running, _READY_SECONDS):
            return
        process.end_process(*running, grace=1.0)
    if not process.port_is_free(identity.port) and _port_is_taken(folder, identity):
        return
    for path in (folder.data, folder.versions):
        path.mkdir(parents=True, exist_ok=True, mode=0o700)
    _revive_uploads(folder.data)
    _trim_logs(folder)
    pid = _spawn(folder, identity, binary)
    mark = process.start_mark(pid)
    if mark is not None:
        _write(folder.record, {"pid": pid, "mark": mark})
    if mark is None or not _wait_ready(identity.port, (pid, mark), _READY_SECONDS):
        if mark is not None:
            process.end_process(pid, mark, grace=1.0)
        raise StoreError(f"the local S3 server did not become ready on 127.0.0.1:{identity.port}", hint=_tail(folder.server_log))


def _port_is_taken(folder: _Folder, identity: Identity) -> bool:
    """Take over a server of ours whose record was lost (a crash between start and record): True. Else name who holds the port.

    False when it became free: the threads of a killed server hold it a moment longer than its process is there.
    """
    owner = process.port_owner(identity.port)
    if owner and _answers(identity.port) and _accepts_our_key(folder, identity):
        mark = process.start_mark(owner[0])
        if mark is not None:
            _write(folder.record, {"pid": owner[0], "mark": mark})
            return True
    until = time.monotonic() + _PORT_SECONDS
    while time.monotonic() < until:
        if process.port_is_free(identity.port):
            return False
        time.sleep(0.02)
    who = f"process {owner[0]} ({owner[1][:80]})" if owner else "another program"
    raise StoreError(
        f"port {identity.port} of the local S3 server is held by {who}",
        hint=f"End that program, or change the number in {folder.identity} (URLs and settings that name the old port stop working).",
    )


def _accepts_our_key(folder: _Folder, identity: Identity) -> bool:
    from botocore.exceptions import BotoCoreError, ClientError

    try:
        s3(_settings(folder, identity)).list_buckets()
    except (BotoCoreError, ClientError):
        return False
    return True


def _revive_uploads(data: Path) -> None:
    """Undo the renaming that a kill in the middle of Complete leaves behind: the upload would be lost, its space leaked."""
    for path in data.glob("*/.sgwtmp/multipart/*/*.inprogress"):
        target = path.with_name(path.name.partition(".")[0])
        if not target.exists():
            path.rename(target)


def _trim_logs(folder: _Folder) -> None:
    for path in (folder.access_log, folder.server_log):
        if path.exists() and path.stat().st_size > _LOG_LIMIT:
            os.replace(path, path.with_name(path.name + ".1"))


def _spawn(folder: _Folder, identity: Identity, binary: Path) -> int:
    """Start the server in a session of its own, as a child of init, so that no caller's end reaches it."""
    command = [str(binary), "--port", f"127.0.0.1:{identity.port}", "--region", REGION, "--quiet", "--health", "/healthz"]
    command += ["--access-log", str(folder.access_log), "posix"]
    if not _has_xattrs(folder.data):
        folder.sidecar.mkdir(exist_ok=True, mode=0o700)
        command += ["--sidecar", str(folder.sidecar)]
    command += ["--versioning-dir", str(folder.versions), str(folder.data)]
    environment = {
        "PATH": os.environ.get("PATH", os.defpath),
        "HOME": str(folder.root),
        "ROOT_ACCESS_KEY": identity.access_key.reveal(),
        "ROOT_SECRET_KEY": identity.secret_key.reveal(),
    }
    script = 'log=$1; shift; umask 077; "$@" </dev/null >>"$log" 2>&1 & echo $!'
    done = subprocess.run(
        ["sh", "-c", script, "sh", str(folder.server_log), *command],
        capture_output=True, text=True, check=False, env=environment, cwd=folder.root, start_new_session=True,
    )
    if done.returncode or not done.stdout.strip().isdigit():
        raise StoreError(f"cannot start the local S3 server: {done.stderr.strip() or done.returncode}")
    return int(done.stdout)


def _has_xattrs(path: Path) -> bool:
    if not hasattr(os, "setxattr"):
        return False
    try:
        os.setxattr(path, "user.trainyard", b"1")
    except OSError:
        return False
    return True


def _wait_ready(port: int, running: tuple[int, str], seconds: float) -> bool:
    until = time.monotonic() + seconds
    pause = 0.003
    while time.monotonic() < until and process.start_mark(running[0]) == running[1]:
        if _answers(port):
            return True
        time.sleep(pause)
        pause = min(pause * 1.5, 0.1)
    return False


def _tail(path: Path) -> str:
    try:
        lines = path.read_text(encoding="utf-8", errors="replace").splitlines()[-5:]
    except OSError:
        return ""
    return "It said: " + " | ".join(lines) if lines else "It said nothing."
