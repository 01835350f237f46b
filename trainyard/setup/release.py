"""Fetch the S3 server's official release archive and check it against the checksums published beside it.

The last way, for machines without Go and its module proxy. Standard library only.
"""

from __future__ import annotations

import hashlib
import platform
import re
import tarfile
import urllib.error
import urllib.request
from collections.abc import Mapping
from pathlib import Path

from trainyard.setup.console import NO_NETWORK, OnLine, SetupError, os_failure

RELEASES = "https://github.com/versity/versitygw/releases/download"
_LIMIT = 20.0
_MACHINES = {"x86_64": "x86_64", "amd64": "x86_64", "aarch64": "arm64", "arm64": "arm64"}


def fetch(version: str, folder: Path, env: Mapping[str, str], on_line: OnLine) -> Path:
    """Return the program out of the release archive; ``TRAINYARD_VERSITYGW_RELEASES`` names a mirror of the release page."""
    machine = _MACHINES.get(platform.machine().lower())
    if machine is None:
        raise SetupError(f"no release archive of the S3 server for {platform.machine()}")
    base = f"{(env.get('TRAINYARD_VERSITYGW_RELEASES') or RELEASES).rstrip('/')}/v{version}"
    name = f"versitygw_v{version}_{platform.system()}_{machine}.tar.gz"
    on_line(f"Fetching the S3 server's release archive {name}")
    try:
        sums = _get(f"{base}/checksums.txt").decode("utf-8", "replace")
        archive = folder / name
        archive.write_bytes(_get(f"{base}/{name}"))
    except urllib.error.URLError as error:
        raise SetupError(f"its release archive cannot be fetched: {error.reason}", exit_code=NO_NETWORK) from None
    except TimeoutError:
        raise SetupError("its release archive cannot be fetched: no answer", exit_code=NO_NETWORK) from None
    except OSError as error:
        raise os_failure(error, "its release archive") from None
    checksum = re.search(rf"^([0-9a-f]{{64}})\s+\*?{re.escape(name)}$", sums, re.M)
    if checksum is None or hashlib.sha256(archive.read_bytes()).hexdigest() != checksum[1]:
        raise SetupError(f"{name} does not match checksums.txt of its release: not used")
    return _extract(archive, folder)


def _get(url: str) -> bytes:
    with urllib.request.urlopen(url, timeout=_LIMIT) as answer:
        data: bytes = answer.read()
    return data


def _extract(archive: Path, folder: Path) -> Path:
    target = folder / "versitygw"
    with tarfile.open(archive) as tar:
        for member in tar:
            if member.isfile() and member.name.rsplit("/", 1)[-1] == "versitygw":
                source = tar.extractfile(member)
                assert source is not None
                target.write_bytes(source.read())
                target.chmod(0o755)
                return target
    raise SetupError(f"{archive.name} holds no 'versitygw'")
