"""S3 servers for benchmarks: over TLS, everything in memory, so that clients are measured and no disk."""

from __future__ import annotations

import contextlib
import datetime
import ipaddress
import os
import random
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from trainyard.setup import s3server
from trainyard.storage.ports import port_is_free
from trainyard.storage.versitygw import REGION

_PORTS = range(47000, 48000)
_MEMORY = Path("/dev/shm")
_ASIDE = 64 << 20
"""What clients send beside their files, or twice (bytes)."""


@dataclass(frozen=True, slots=True)
class Endpoint:
    """A running server and its one bucket."""

    url: str
    bucket: str
    access_key: str
    secret_key: str
    certificate: Path
    data: Path
    """The folder of the bucket's objects."""
    kind: str
    """What it is, in words."""


@contextlib.contextmanager
def scratch() -> Iterator[Path]:
    """Give a folder in memory (where there is none, on disk: said aloud) that is gone afterwards."""
    memory = _MEMORY if os.access(_MEMORY, os.W_OK) else None
    if memory is None:
        print("bench: no /dev/shm: everything lies on a disk, which is measured with the clients")
    folder = Path(tempfile.mkdtemp(prefix="trainyard-bench-", dir=memory))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextlib.contextmanager
def versitygw(folder: Path) -> Iterator[Endpoint]:
    """Run the real server that the stack local has, here with TLS and keep-alive."""
    data, versions, certificate, key = folder / "data", folder / "versions", *make_certificate(folder)
    for path in (data / "bench", versions):
        path.mkdir(parents=True)
    port = free_port()
    command = [str(s3server.ensure()), "--port", f"127.0.0.1:{port}", "--region", REGION, "--quiet", "--keep-alive"]
    command += ["--cert", str(certificate), "--key", str(key), "posix", "--versioning-dir", str(versions), str(data)]
    env = {"PATH": os.environ["PATH"], "HOME": str(folder), "ROOT_ACCESS_KEY": "bench", "ROOT_SECRET_KEY": "benchbench"}
    kind = "VersityGW over TLS on loopback, its files in memory"
    with running(command, env, folder, port):
        yield Endpoint(f"https://127.0.0.1:{port}", "bench", "bench", "benchbench", certificate, data / "bench", kind)


@contextlib.contextmanager
def sink(folder: Path, size: int) -> Iterator[Endpoint]:
    """Run a server that takes ``size`` bytes and believes their checksums: it costs less than the clients that are measured."""
    data, certificate, key = folder / "sink", *make_certificate(folder)
    data.mkdir(parents=True)
    port = free_port()
    command = [sys.executable, "-m", "bench.sink", str(port), str(certificate), str(key), str(data), str(size + size // 16 + _ASIDE)]
    kind = "a sink over TLS on loopback: keeps what comes in memory, believes its checksums"
    with running(command, dict(os.environ), Path(__file__).parents[1], port):
        yield Endpoint(f"https://127.0.0.1:{port}", "bench", "bench", "benchbench", certificate, data, kind)


@contextlib.contextmanager
def running(command: list[str], env: dict[str, str], cwd: Path, port: int) -> Iterator[None]:
    """Run a server until the block ends."""
    with tempfile.TemporaryFile() as log, subprocess.Popen(command, cwd=cwd, env=env, stdout=log, stderr=log) as server:
        try:
            until = time.monotonic() + 20
            while not answers(port):
                if server.poll() is not None or time.monotonic() > until:
                    log.seek(0)
                    sys.exit(f"bench: the server did not start: {log.read().decode(errors='replace')[-500:]}")
                time.sleep(0.02)
            yield
        finally:
            server.terminate()


def answers(port: int) -> bool:
    """Tell whether something listens on a port of this machine."""
    with socket.socket() as one:
        return one.connect_ex(("127.0.0.1", port)) == 0


def free_port() -> int:
    """Return a port that nobody has, by chance: another benchmark may look for one, too."""
    return next(port for port in random.sample(_PORTS, 100) if port_is_free(port))


def make_certificate(folder: Path) -> tuple[Path, Path]:
    """Make a certificate for this machine's loopback address; returns it and its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "trainyard bench")])
    now = datetime.datetime.now(datetime.UTC)
    names = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1")), x509.DNSName("localhost")])
    builder = x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key())
    builder = builder.serial_number(x509.random_serial_number()).not_valid_before(now - datetime.timedelta(hours=1))
    builder = builder.not_valid_after(now + datetime.timedelta(days=2)).add_extension(names, critical=False)
    certificate = builder.add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True).sign(key, hashes.SHA256())
    paths = folder / "certificate.pem", folder / "key.pem"
    paths[0].write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    plain = serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    paths[1].write_bytes(key.private_bytes(serialization.Encoding.PEM, *plain))
    return paths
