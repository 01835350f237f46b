"""Look for secrets in the open, while a test's runs go on and after them: in files, environments and command lines.

A yard is known from the first verb that it runs. ALLOWED says where a secret may be; anywhere else it fails the test,
with the place.
"""

from __future__ import annotations

import contextlib
import fnmatch
import glob
import json
import os
import re
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from tests.e2e import yard as yards
from tests.e2e.yard import Yard
from trainyard.secret import Secret
from trainyard.storage.client import StoreSettings
from trainyard.storage.manifest import ResultKey
from trainyard.storage.podplan import secret_of

PAUSE = 0.5
LONGEST = 4 << 20
"""So many bytes of a file are read; what is larger is weights of a test."""
NAMES = ("AWS_SECRET_ACCESS_KEY", "R2_SECRET_ACCESS_KEY", "RUNPOD_S3_SECRET_KEY", "RUNPOD_API_KEY", "HF_TOKEN", "WANDB_API_KEY")
SIGNED = re.compile(rb"X-Amz-Signature=[0-9a-f]{64}")
SIGNED_URL = "a signed URL"

ALLOWED: tuple[tuple[str, str, str], ...] = (
    ("*/.env", "*", "the person's own file, ignored by git and never sent"),
    ("*/.trainyard/ssh/*/id_*", "private SSH key", "the key itself, readable by its owner"),
    ("*/c/trainyard/passphrase", "passphrase", "the passphrase itself, in the person's own folder"),
    ("*/store/credentials", "store secret key", "the local server's keys for other tools, outside of every checkout"),
    ("*/store/identity.json", "store secret key", "the local server's own record of its keys and port"),
    ("*/store/access.log", SIGNED_URL, "the local server's own log of the requests it was sent"),
    ("*/_POD_COMMITTED", "plan secret *", "the marker of a pod proves itself with it; it is worthless once it is told"),
    ("*/home/.container-secrets", SIGNED_URL, "how a cloud without SSH is played that keeps secret variables apart"),
    ("*/home/.container-secrets", "plan secret *", "the same: the container's own, for the marker that it writes"),
    ("environment of a pod", "HF_TOKEN", "`pod_secrets: [HF_TOKEN]`, named in estimate and summary"),
)
"""Pattern of the place, whose secret may be there, and why."""


@dataclass(frozen=True)
class Sight:
    """One secret in one place where it must not be."""

    secret: str
    place: str


@dataclass
class Scanner:
    """Whoever looks, and what was seen; files are read again only when they have changed."""

    seen: set[Sight] = field(default_factory=set)
    yards: dict[Path, Yard] = field(default_factory=dict)
    _read: dict[tuple[int, int, int], None] = field(default_factory=dict)
    _known: dict[Path, dict[str, bytes]] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def know(self, yard: Yard) -> None:
        """Look at this yard, too, from now on."""
        self.yards.setdefault(yard.root, yard)

    def look(self, *, whole: bool) -> None:
        """Look at all yards: at what runs and lies on pods; with ``whole`` at everything that they have written."""
        with self._lock:
            for yard in list(self.yards.values()):
                if yard.base.exists():
                    known = self._secrets(yard)
                    places = [yard.places.cloud]
                    if whole:
                        places = [yard.home, yard.root / "out", yard.places.cloud, yard.places.store, yard.places.settings]
                    for place in places:
                        self._files(place, known)
                    self._processes(yard, known)

    def _secrets(self, yard: Yard) -> Mapping[str, bytes]:
        known = self._known.setdefault(yard.root, {})
        known |= {name: secret for name, secret in secrets_of(yard).items() if len(secret) >= 12}
        return known

    def _files(self, place: Path, known: Mapping[str, bytes]) -> None:
        for folder, _, names in os.walk(place):
            for name in names:
                path = os.path.join(folder, name)
                with contextlib.suppress(OSError):
                    status = os.lstat(path)
                    mark = (status.st_ino, status.st_mtime_ns, len(known))
                    if not os.path.isfile(path) or os.path.islink(path) or mark in self._read:
                        continue
                    with open(path, "rb") as file:
                        self._find(file.read(LONGEST), path, known)
                    self._read[mark] = None

    def _processes(self, yard: Yard, known: Mapping[str, bytes]) -> None:
        """Look at the command lines of what works for a yard, and at the environments of its pods."""
        base, pods = str(yard.base).encode(), str(yard.places.cloud / "pods").encode()
        for name in os.listdir("/proc"):
            if not name.isdigit():
                continue
            with contextlib.suppress(OSError):
                line, environment = (Path("/proc", name, what).read_bytes() for what in ("cmdline", "environ"))
                if base in line or base in environment:
                    self._find(line, "a command line", known)
                if pods in environment:
                    self._find(environment, "environment of a pod", known)

    def _find(self, text: bytes, place: str, known: Mapping[str, bytes]) -> None:
        found = [name for name, secret in known.items() if secret in text]
        if SIGNED.search(text):
            found.append(SIGNED_URL)
        self.seen |= {Sight(name, place) for name in found if not is_allowed(name, place)}


def is_allowed(secret: str, place: str) -> bool:
    """Tell whether a secret may be in a place."""
    return any(fnmatch.fnmatch(place, pattern) and fnmatch.fnmatch(secret, whose) for pattern, whose, _ in ALLOWED)


def secrets_of(yard: Yard) -> dict[str, bytes]:
    """Return the secrets of a yard's world by their names."""
    found = {name: value.encode() for name, value in {**_dotenv(yard.root / ".env"), **yard.env}.items() if name in NAMES}
    places = yard.places
    key = _match(places.store / "credentials", rb"aws_secret_access_key = (\S+)")
    if key:
        found = {name: value for name, value in found.items() if value != key} | {"store secret key": key}
    if phrase := _match(places.settings / "passphrase", rb"(\S+)"):
        found["passphrase"] = phrase
    for path in places.ssh.rglob("id_*"):
        if path.suffix != ".pub" and (lines := _match(path, rb"-----\n((?:[^-]+\n)+)-----")):
            body = lines.split()
            found["private SSH key"] = body[len(body) // 2]  # the first lines are the same in every key
    for secret in filter(None, (key, found.get("AWS_SECRET_ACCESS_KEY"))):
        found |= _of_plans(places.runs, secret.decode())
    return found


def _of_plans(runs: Path, secret_key: str) -> dict[str, bytes]:
    """Return the secrets with which pods prove that they have committed alone."""
    found = {}
    # not Path.glob, which ends with an error when a folder vanishes meanwhile
    for path in map(Path, glob.glob(f"{runs}/*/*/*/run.json")):
        with contextlib.suppress(OSError, ValueError, KeyError):
            record = json.loads(path.read_text())
            bucket = (record.get("bucket") or {}).get("bucket", "")
            keys = StoreSettings("s3", None, "us-east-1", bucket, Secret("k"), Secret(secret_key))
            where = ResultKey(record["user"], record["label"], int(record["attempt"]))
            found[f"plan secret of {where}"] = secret_of(keys, where, record["token"]).encode()
    return found


def _match(path: Path, pattern: bytes) -> bytes | None:
    try:
        match = re.search(pattern, path.read_bytes())
    except OSError:
        return None
    return match[1] if match else None


def _dotenv(path: Path) -> dict[str, str]:
    try:
        lines = path.read_text().splitlines()
    except OSError:
        return {}
    return {name: value.strip("'\"") for name, _, value in (line.partition("=") for line in lines)}


@contextlib.contextmanager
def scanning() -> Iterator[Scanner]:
    """Look while the block lasts, and at everything before a yard is closed and at the end."""
    scanner, over = Scanner(), threading.Event()

    def watch() -> None:
        while not over.wait(PAUSE):
            scanner.look(whole=False)

    def closing(yard: Yard) -> None:
        scanner.know(yard)
        scanner.look(whole=True)

    yards.ON_VERB.append(scanner.know)
    yards.ON_CLOSE.append(closing)
    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    try:
        yield scanner
    finally:
        over.set()
        watcher.join()
        yards.ON_VERB.remove(scanner.know)
        yards.ON_CLOSE.remove(closing)
        scanner.look(whole=True)
