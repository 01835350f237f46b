"""An S3 server with users of its own: VersityGW with its IAM folder, whose bucket policies say what a key may."""

from __future__ import annotations

import json
import os
import secrets
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from trainyard.secret import Secret
from trainyard.storage import ports, versitygw
from trainyard.storage.client import StoreSettings, s3

ROOT = ("rootkey", "root-secret")


@dataclass(frozen=True, slots=True)
class ServerWithUsers:
    """A running server; ``root`` has a bucket of its own."""

    binary: Path
    root: StoreSettings

    def user(self, *statements: dict[str, object]) -> StoreSettings:
        """Return a new user of the bucket, who may do what the statements (without their Principal) allow."""
        name, word = f"user{secrets.token_hex(4)}", secrets.token_hex(8)
        self.admin("create-user", "--access", name, "--secret", word, "--role", "user")
        document = {"Version": "2012-10-17", "Statement": [{**one, "Principal": {"AWS": [name]}} for one in statements]}
        if statements:
            s3(self.root).put_bucket_policy(Bucket=self.root.bucket, Policy=json.dumps(document))
        return replace(self.root, access_key=Secret(name), secret_key=Secret(word))

    def admin(self, *words: str) -> None:
        """Carry out a command of the server's own administration."""
        endpoint = str(self.root.endpoint)
        command = [str(self.binary), "admin", "--access", ROOT[0], "--secret", ROOT[1], "--endpoint-url", endpoint, *words]
        subprocess.run(command, check=True, capture_output=True)


def allow(settings: StoreSettings, *actions: str, below: str = "*") -> dict[str, object]:
    """Return a statement that allows actions on objects of a bucket."""
    return {"Effect": "Allow", "Action": [f"s3:{action}" for action in actions], "Resource": [f"arn:aws:s3:::{settings.bucket}/{below}"]}


def on_bucket(settings: StoreSettings, *actions: str) -> dict[str, object]:
    """Return a statement that allows actions on the bucket itself."""
    return {"Effect": "Allow", "Action": [f"s3:{action}" for action in actions], "Resource": [f"arn:aws:s3:::{settings.bucket}"]}


@contextmanager
def server_with_users(binary: Path, folder: Path) -> Iterator[ServerWithUsers]:
    """Run the server in a folder until the block ends."""
    port = next(port for port in range(20100 + secrets.randbelow(9000), 31900) if ports.port_is_free(port))
    for name in ("data", "versions", "iam"):
        (folder / name).mkdir(parents=True)
    env = {"PATH": os.environ["PATH"], "HOME": str(folder), "ROOT_ACCESS_KEY": ROOT[0], "ROOT_SECRET_KEY": ROOT[1]}
    command = [str(binary), "--port", f"127.0.0.1:{port}", "--quiet", "--health", "/healthz", "--iam-dir", str(folder / "iam")]
    command += ["--iam-cache-disable", "posix", "--versioning-dir", str(folder / "versions"), str(folder / "data")]
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(command, env=env, stdout=log, stderr=log)
    try:
        until = time.monotonic() + 20
        while not versitygw.answers(port) and time.monotonic() < until:
            time.sleep(0.02)
        root = StoreSettings("aws", f"http://127.0.0.1:{port}", "us-east-1", f"u-{secrets.token_hex(4)}", Secret(ROOT[0]), Secret(ROOT[1]))
        s3(root).create_bucket(Bucket=root.bucket)
        yield ServerWithUsers(binary, root)
    finally:
        process.terminate()
        process.wait(10)
