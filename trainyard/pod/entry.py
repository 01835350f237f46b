"""First program of a container without SSH: fetch the run's bundle, prove it by the hash of the create request, become its main program.

Runs ON the pod, out of the create request itself, which may be no longer than some kilobytes. Standard library only, Python
3.8 or newer. What is secret comes in one variable, and goes on in memory alone: no file and no environment holds it.

    python3 -c ... SHA256
"""

from __future__ import annotations

import hashlib
import hmac
import io
import json
import os
import ssl
import sys
import tarfile
import time
import urllib.error
import urllib.request

FAILED = 78
HIDDEN = "TRAINYARD_SECRETS"


def main() -> None:
    """Fetch, prove, unpack, become the main program; what keeps it from that is said and ends the container."""
    sha256, secrets = sys.argv[1], json.loads(os.environ.pop(HIDDEN, "{}"))
    workspace = os.environ.setdefault("WORKSPACE", "/workspace")
    if not secrets:
        sys.exit(f"trainyard: {HIDDEN} is not set: this container cannot know what to run")
    try:
        os.makedirs(workspace, exist_ok=True)
        body = fetch(secrets["bundle"], sha256)
        folder = os.path.join(workspace, ".trainyard", "container")
        with tarfile.open(fileobj=io.BytesIO(body), mode="r:gz") as tar:
            hidden = json.loads(read(tar, "hidden.json")) + os.environ.get("TRAINYARD_POD_KEYS", "").split()
            for item in tar.getmembers():
                if item.name.startswith("programs/"):
                    place(os.path.join(folder, item.name), read(tar, item.name))
    except (OSError, ValueError, KeyError, tarfile.TarError) as error:
        report(secrets, str(error) or type(error).__name__)
        print(f"trainyard: {error}; nothing was started", file=sys.stderr)
        sys.exit(FAILED)
    env = {name: value for name, value in os.environ.items() if name not in hidden}
    keys = {name: os.environ[name] for name in hidden if name in os.environ}
    held = os.memfd_create("order")
    with open(held, "wb", closefd=False) as file:
        file.write(json.dumps({"secrets": secrets, "keys": keys}).encode() + b"\n" + body)
    os.lseek(held, 0, os.SEEK_SET)
    os.set_inheritable(held, True)
    start = "import sys; sys.path.insert(0, sys.argv[1]); from trainyard.pod.container import main; main(int(sys.argv[2]))"
    command = [sys.executable, "-I", "-X", "utf8", "-c", start, os.path.join(folder, "programs"), str(held)]
    os.execve(sys.executable, command, env)


def fetch(url: str, sha256: str) -> bytes:
    """Return what a URL gives when it has this hash; raises OSError for what waiting does not mend."""
    until, pause = time.monotonic() + 900, 1.0
    while True:
        try:
            with urllib.request.urlopen(url, timeout=60, context=trust()) as answer:
                body: bytes = answer.read()
            if hashlib.sha256(body).hexdigest() == sha256:
                return body
            why, final = f"the bundle is not the one of the create request: its sha256 is {hashlib.sha256(body).hexdigest()}", True
        except urllib.error.HTTPError as error:
            why = f"the store refuses the bundle: HTTP {error.code}" + (" (is its URL over?)" if error.code == 403 else "")
            final = error.code in (400, 401, 403, 404, 410)
        except Exception as error:
            why, final = f"the bundle cannot be fetched: {error}", False
        if (pause > 3 and final) or time.monotonic() > until:
            raise OSError(why)
        time.sleep(pause)
        pause = min(15.0, pause * 2)


def report(secrets: dict[str, str], why: str) -> None:
    """Write the run's status, so that whoever waits for this container is told why it ends."""
    said = {"version": 1, "phase": "failed", "why": why, "container": "", "time": time.time()}
    text = json.dumps(said, sort_keys=True).encode()
    body = json.dumps(dict(said, mac=hmac.new(secrets["secret"].encode(), text, "sha256").hexdigest())).encode()
    try:
        ask = urllib.request.Request(secrets["status"], data=body, method="PUT")
        urllib.request.urlopen(ask, timeout=60, context=trust()).close()
    except Exception as error:
        print(f"trainyard: this could not be told: {error}", file=sys.stderr)


def trust() -> ssl.SSLContext:
    """Return a context with certificates; bare images have none, but pip brings its own."""
    context = ssl.create_default_context()
    if not context.cert_store_stats()["x509_ca"]:
        for module in ("certifi", "pip._vendor.certifi"):
            try:
                context.load_verify_locations(__import__(module, fromlist=["where"]).where())
                break
            except (ImportError, OSError):
                pass
    return context


def read(tar: tarfile.TarFile, name: str) -> bytes:
    """Return a file of the bundle."""
    file = tar.extractfile(name)
    if file is None:
        raise OSError(f"the bundle's {name} is no file")
    return file.read()


def place(path: str, body: bytes) -> None:
    """Write a file, with its folders."""
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path, "wb") as file:
        file.write(body)


if __name__ == "__main__":
    main()
