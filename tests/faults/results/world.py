"""One world of the matrix: a real S3 server behind a lying proxy, a real SSH server behind one that cuts, a hasty Python for pods."""

from __future__ import annotations

import contextlib
import functools
import multiprocessing
import os
import secrets
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from multiprocessing.context import ForkServerContext
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import boto3
from botocore.config import Config

from tests.remote import sshd
from tests.remote.proxy import Proxy
from tests.servers import open_server
from tests.storage import lying_proxy
from trainyard.config import places
from trainyard.setup import s3server
from trainyard.storage import local
from trainyard.storage.client import StoreSettings

_HASTE = "import time; time.sleep = (lambda real: lambda s: real(min(s, 0.01)))(time.sleep)\n"
_AS_NOBODY = "setpriv --reuid 65534 --regid 65534 --clear-groups"


@dataclass
class World:
    """What cases share; one case at a time."""

    base: Path
    server: StoreSettings
    proxy: lying_proxy.LyingProxy
    ssh: sshd.Server
    link: Proxy
    context: ForkServerContext
    honest: dict[tuple[str, bool], list[tuple[str, bool]]] = field(default_factory=dict)
    """The operations of an honest commit, and whether by a signed URL, by content and ending, in order."""
    files: Path | None = None
    """Where the server keeps its buckets as folders, so that one can be mounted on a pod."""
    bucket: str = "results"
    count: int = 0

    def label(self) -> str:
        """Return a label that no case of this world had before."""
        self.count += 1
        return f"c{self.count}"

    def ensure_bucket(self, name: str) -> None:
        """Make a bucket where it is not there."""
        if name not in [one["Name"] for one in self.client.list_buckets()["Buckets"]]:
            self.client.create_bucket(Bucket=name)

    @functools.cached_property
    def client(self) -> Any:
        """A client of the server that goes past proxy and product."""
        return client_of(self.server)

    @property
    def pod_path(self) -> str:
        """The PATH of a pod: its Python waits for nothing."""
        return f"{self.base}/bin:/usr/local/bin:/usr/bin:/bin"

    @property
    def env(self) -> dict[str, str]:
        """The environment of a controller."""
        own = {
            "AWS_ACCESS_KEY_ID": self.server.access_key.reveal(), "AWS_SECRET_ACCESS_KEY": self.server.secret_key.reveal(),
            "AWS_ENDPOINT_URL": self.proxy.endpoint, "HOME": str(self.base / "home"), "XDG_CONFIG_HOME": str(self.base / "config"),
            "COLUMNS": "200", "NO_COLOR": "1",
        }  # fmt: skip
        return {"PATH": os.environ["PATH"], **own}

    def operations(self) -> list[tuple[str, bool]]:
        """Return what was asked for since the last reset, and whether by a signed URL; a canary's questions are nobody's."""
        return [(one.operation, "X-Amz-Signature" in one.query) for one in self.proxy.seen if not one.key.startswith("tmp/")]

    def uploaders(self) -> list[int]:
        """Return the processes of uploaders that this world's pods run."""
        found = []
        for folder in Path("/proc").iterdir():
            if folder.name.isdigit():
                with contextlib.suppress(OSError):
                    line = (folder / "cmdline").read_bytes()
                    if str(self.base).encode() in line.split(b"\0")[0] and b"trainyard.pod.files" in line:
                        found.append(int(folder.name))
        return found

    def as_nobody(self, wanted: bool) -> None:
        """Let pods' programs run without root's rights, or with them again."""
        flag = self.base / "nobody"
        flag.touch() if wanted else flag.unlink(missing_ok=True)

    def watch(self, due: Callable[[], bool], then: Callable[[], None], stop: threading.Event) -> None:
        """Do something, in a thread, as soon as a case's clock says so."""

        def wait() -> None:
            while not stop.wait(0.005):
                if due():
                    then()
                    return

        threading.Thread(target=wait, daemon=True).start()


@contextlib.contextmanager
def world(server: str = "versitygw") -> Iterator[World]:
    """Make a world; everything it started ends with it."""
    with contextlib.ExitStack() as stack:
        base = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="tr", dir="/tmp", ignore_cleanup_errors=True)))
        base.chmod(0o755)
        store = stack.enter_context(_server(server, base))
        proxy = lying_proxy.start(urlsplit(store.endpoint or "").port or 0)
        stack.callback(proxy.server.server_close)
        stack.callback(proxy.server.shutdown)
        _hasty_python(base)
        ssh = sshd.start(base / "ssh", shell=str(base / "bin/podsh"))
        stack.callback(ssh.stop)
        link = Proxy(ssh.address)
        stack.callback(link.close)
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload([f"tests.faults.results.{name}" for name in ("controller", "training", "restoring", "fetching")])
        yield World(base, store, proxy, ssh, link, context, files=base / "store/store/data" if server == "versitygw" else None)


@contextlib.contextmanager
def _server(name: str, base: Path) -> Iterator[StoreSettings]:
    (base / "store").mkdir()
    if name != "versitygw":
        with open_server(name, base / "store") as settings:
            yield settings
        return
    own = places(base, {"TRAINYARD_LOCAL_ROOT": str(base / "store"), "XDG_CONFIG_HOME": str(base / "config")})
    named = os.environ.get("TRAINYARD_VERSITYGW")
    settings = local.ensure(own, binary=Path(named) if named else s3server.ensure())
    try:
        yield settings
    finally:
        local.stop(own)


def _hasty_python(base: Path) -> None:
    """Make the python3 of pods: what waits there waits for a hundredth of a second at most; it drops root's rights where a case says so."""
    system = shutil.which("python3", path="/usr/bin:/usr/local/bin") or sys.executable
    subprocess.run([system, "-m", "venv", "--without-pip", base / "py"], check=True, capture_output=True)
    packages = next((base / "py/lib").glob("python3*/site-packages"))
    (packages / "haste.pth").write_text(_HASTE)
    (base / "bin").mkdir()
    python = f'{base}/py/bin/python3 "$@"'
    _script(base / "bin/python3", f"[ -e {base}/nobody ] && exec {_AS_NOBODY} {python}\nexec {python}\n")
    _script(base / "bin/podsh", f'PATH={base}/bin:/usr/local/bin:/usr/bin:/bin\nexport PATH\nexec /bin/sh "$@"\n')


def _script(path: Path, text: str) -> None:
    path.write_text(f"#!/bin/sh\n{text}")
    path.chmod(0o755)


def new_token() -> str:
    """Return a token as a run has it."""
    return secrets.token_hex(16)


def now() -> float:
    """Return the moment at which a case begins."""
    return float(int(time.time()))


def client_of(server: StoreSettings) -> Any:
    """Return a client of a server that is none of the product's."""
    config = Config(retries={"max_attempts": 3}, s3={"addressing_style": "path"}, request_checksum_calculation="when_required")
    keys = {"aws_access_key_id": server.access_key.reveal(), "aws_secret_access_key": server.secret_key.reveal()}
    return boto3.session.Session(region_name="us-east-1", **keys).client("s3", endpoint_url=server.endpoint, config=config)
