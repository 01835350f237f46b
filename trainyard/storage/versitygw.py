"""The program VersityGW: its folder, how it is started, how one sees that it is ready.

Knows nothing of locks, and nothing of who may start it when: that is local.py's.
"""

from __future__ import annotations

import http.client
import os
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

from trainyard import processes
from trainyard.errors import StoreError
from trainyard.retries import PROCESS
from trainyard.secret import Secret

REGION = "us-east-1"
HEALTH_SECONDS = 5.0
_LOG_LIMIT = 64 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Identity:
    """What is chosen once: the port and the root key."""

    port: int
    access_key: Secret
    secret_key: Secret


@dataclass(frozen=True, slots=True)
class Folder:
    """What lies where. Data, versions and sidecar must not lie inside one another."""

    root: Path

    @property
    def data(self) -> Path:
        """Buckets are folders here, objects plain files."""
        return self.root / "data"

    @property
    def versions(self) -> Path:
        """Earlier versions of objects."""
        return self.root / "versions"

    @property
    def sidecar(self) -> Path:
        """What a filesystem without extended attributes cannot keep with the file."""
        return self.root / "sidecar"

    @property
    def users(self) -> Path:
        """Users of the server besides its root, each for one run."""
        return self.root / "users"

    @property
    def credentials(self) -> Path:
        """The key in the form that the AWS CLI reads, so that its command can be shown without a secret in it."""
        return self.root / "credentials"

    @property
    def identity(self) -> Path:
        """Port and key, chosen once."""
        return self.root / "identity.json"

    @property
    def record(self) -> Path:
        """The process that runs now."""
        return self.root / "server.json"

    @property
    def access_log(self) -> Path:
        """One line a request."""
        return self.root / "access.log"

    @property
    def server_log(self) -> Path:
        """What the server says."""
        return self.root / "server.log"


def spawn(folder: Folder, identity: Identity, binary: Path) -> int:
    """Start the server in a session of its own, as a child of init, so that no caller's end reaches it."""
    command = [str(binary), "--port", f"127.0.0.1:{identity.port}", "--region", REGION, "--quiet", "--health", "/healthz"]
    # Users are for jobs that speak S3 themselves (podusers.py); one that was deleted must be refused at once.
    folder.users.mkdir(exist_ok=True, mode=0o700)
    command += ["--iam-dir", str(folder.users), "--iam-cache-disable", "--access-log", str(folder.access_log), "posix"]
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
    )  # fmt: skip
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


def wait_ready(port: int, running: tuple[int, str], seconds: float) -> bool:
    """Wait until the server answers; False when it died or the time is over."""
    until = time.monotonic() + seconds
    pauses = PROCESS.pauses()
    while time.monotonic() < until and processes.start_mark(running[0]) == running[1]:
        if answers(port):
            return True
        time.sleep(next(pauses))
    return False


def answers(port: int) -> bool:
    """Tell whether something on the port answers the health check."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=HEALTH_SECONDS)
    try:
        connection.request("GET", "/healthz")
        return connection.getresponse().status == 200
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


def revive_uploads(data: Path) -> None:
    """Undo the renaming that a kill in the middle of Complete leaves behind: the upload would be lost, its space leaked."""
    for path in data.glob("*/.sgwtmp/multipart/*/*.inprogress"):
        target = path.with_name(path.name.partition(".")[0])
        if not target.exists():
            path.rename(target)


def trim_logs(folder: Folder) -> None:
    """Keep one earlier log of a size that matters; called while the server does not run."""
    for path in (folder.access_log, folder.server_log):
        if path.exists() and path.stat().st_size > _LOG_LIMIT:
            os.replace(path, path.with_name(path.name + ".1"))


def last_words(path: Path) -> str:
    """Return the end of the server's log as a hint."""
    try:
        lines = path.read_text(encoding="utf-8", errors="replace").splitlines()[-5:]
    except OSError:
        return ""
    return "It said: " + " | ".join(lines) if lines else "It said nothing."
