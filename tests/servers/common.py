"""What the servers of the tests have in common: where their programs are kept, how they are started, asked and ended."""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import subprocess
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from trainyard.secret import Secret
from trainyard.storage.client import StoreSettings

ACCESS_KEY = "TESTSERVERSKEY000001"
SECRET_KEY = "only-for-tests-on-loopback-0123456789abcd"
STARTS_WITHIN = 90.0


class Unavailable(Exception):
    """This machine has no such server, and the reason why."""


def cache() -> Path:
    """Return the user's folder of programs that only tests need."""
    home = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(home) / "trainyard" / "test-servers"


def free_port() -> int:
    """Return a loopback port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def settings_of(port: int) -> StoreSettings:
    """Return what is known of an S3 server that nothing is known of: the canary has to find out, as with a user's own."""
    return StoreSettings(
        kind="s3", endpoint=f"http://127.0.0.1:{port}", region="us-east-1", bucket="", access_key=Secret(ACCESS_KEY),
        secret_key=Secret(SECRET_KEY), conditional=False, checksums="probe",
    )  # fmt: skip


@contextlib.contextmanager
def child(argv: Sequence[str | Path], log: Path, env: Mapping[str, str]) -> Iterator[subprocess.Popen[bytes]]:
    """Run a program in the foreground of its own session, its output in a file; it is ended with the block."""
    with log.open("ab") as output:
        process = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=output, stderr=output, env=dict(env), start_new_session=True)
    try:
        yield process
    finally:
        process.terminate()
        try:
            process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def wait_for_answer(url: str, process: subprocess.Popen[bytes], log: Path, seconds: float = STARTS_WITHIN) -> None:
    """Return when a server answers anything; raises Unavailable with the end of its log when it ends or stays silent."""
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    until = time.monotonic() + seconds
    while process.poll() is None and time.monotonic() < until:
        try:
            opener.open(url, timeout=5).close()
            return
        except urllib.error.HTTPError:
            return
        except OSError:
            time.sleep(0.1)
    raise Unavailable(f"it did not start: {log.read_text(errors='replace')[-2000:]}")


def run(argv: Sequence[str | Path], env: Mapping[str, str] | None = None, seconds: float = 180) -> str:
    """Run a command to its end and return its stdout; raises Unavailable with its words when it fails."""
    try:
        done = subprocess.run(argv, capture_output=True, text=True, timeout=seconds, env=None if env is None else dict(env), check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise Unavailable(f"{Path(argv[0]).name}: {error}") from None
    if done.returncode:
        raise Unavailable(f"{Path(argv[0]).name} ended with {done.returncode}: {(done.stderr or done.stdout)[-2000:]}")
    return done.stdout


def unpack(name: str, says: str, packages: Sequence[str]) -> None:
    """Fill a folder of cache() with Debian's packages and what they need beside the machine's own; raises Unavailable."""
    for tool in ("apt-get", "dpkg"):
        if shutil.which(tool) is None:
            raise Unavailable(f"{says} comes in Debian's packages, and there is no '{tool}' here")
    cache().mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".new-", dir=cache()) as text:
        archive, root = Path(text) / "packages", Path(text) / "root"
        (archive / "partial").mkdir(parents=True)
        own = ["-o", f"Dir::Cache::archives={archive}", "-o", "Debug::NoLocking=true"]
        run(["apt-get", "install", "--yes", "--download-only", "--no-install-recommends", *own, *packages], seconds=1800)
        for package in sorted(archive.glob("*.deb")):
            run(["dpkg", "-x", package, root])
        root.rename(cache() / name)


def built_by_go(name: str, package: str, version: str, seconds: float) -> Path:
    """Return a program that Go builds from the module proxy, built once per user; raises Unavailable without Go."""
    final = cache() / f"{name}-{version}"
    if os.access(final / name, os.X_OK):
        return final / name
    if shutil.which("go") is None:
        raise Unavailable(f"{name} is built by Go, and there is no 'go' on PATH")
    cache().mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".new-", dir=cache()) as folder:
        env = {**os.environ, "GOBIN": folder, "GOFLAGS": "", "CGO_ENABLED": "0"}
        run(["go", "install", "-trimpath", "-ldflags", "-s -w", f"{package}@{version}"], env, seconds)
        final.mkdir(exist_ok=True)
        (Path(folder) / name).replace(final / name)
    return final / name
