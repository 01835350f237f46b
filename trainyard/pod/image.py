"""The trainer image: built from docker/Dockerfile on a base pinned by digest, pushed, and named by its own digest."""

from __future__ import annotations

import json
import math
import re
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

from trainyard.errors import TrainyardError, UserError
from trainyard.pod.boot import OUR_IMAGE
from trainyard.shipped import find, overlay

DIGEST_FILE = "docker/base.digest"
_DIGEST = re.compile(r"^sha256:[0-9a-f]{64}$")
_BASE = re.compile(r"^ARG BASE=(\S+)$", re.MULTILINE)

Run = Callable[[Sequence[str]], str]


def build(root: Path, reference: str, *, refresh: bool = False, run: Run | None = None) -> None:
    """Build the image under a reference like ``ghcr.io/me/trainyard-trainer:1``.

    The base image's digest is taken from docker/base.digest, which belongs into git; it is asked from the registry
    when that file is missing or ``refresh`` is wanted.
    """
    check_reference(reference)
    run = run or _docker
    digest = base_digest(root, refresh=refresh, run=run)
    with tempfile.TemporaryDirectory(prefix="trainyard-image-") as context:
        _gather(root, Path(context))
        run(build_command(Path(context), reference, digest))


def push(reference: str, *, run: Run | None = None) -> tuple[str, int]:
    """Push the image; return its reference by digest, as it belongs into ``trainyard:image``, and its size in GB."""
    check_reference(reference)
    run = run or _docker
    run(["docker", "push", reference])
    details = json.loads(run(["docker", "image", "inspect", reference]))
    name = reference.rpartition(":")[0]
    digests = [text for text in details[0].get("RepoDigests", []) if text.startswith(f"{name}@")]
    if not digests:
        raise TrainyardError(f"the registry told no digest for {reference}")
    return str(digests[0]), math.ceil(details[0].get("Size", 0) / 1e9)


def _gather(root: Path, context: Path) -> None:
    """Write what the Dockerfile copies, the repository's own files before Trainyard's."""
    for folder in ("docker", "templates"):
        overlay(root, folder, context / folder)
    tool = context / "trainyard" / "pod" / "watchdog.py"
    tool.parent.mkdir(parents=True)
    shutil.copyfile(Path(__file__).with_name(tool.name), tool)


def build_command(context: Path, reference: str, digest: str) -> list[str]:
    """Return the command that builds the image from a folder with all that the Dockerfile copies."""
    return [
        "docker", "buildx", "build", "--platform", "linux/amd64", "--load", "--provenance=false",
        "--build-arg", f"BASE_DIGEST={digest}", "--file", str(context / "docker/Dockerfile"), "--tag", reference, str(context),
    ]  # fmt: skip


def base_digest(root: Path, *, refresh: bool = False, run: Run | None = None) -> str:
    """Return the digest of the base image for linux/amd64, and record it when it had to be asked for."""
    path = root / DIGEST_FILE
    if path.exists() and not refresh:
        digest = path.read_text(encoding="utf-8").strip()
        if not _DIGEST.match(digest):
            raise UserError(f"{DIGEST_FILE} holds no digest (sha256:...)", hint="Delete it: image.build asks the registry again.")
        return digest
    base = _BASE.search(find(root, "docker/Dockerfile").read_text(encoding="utf-8"))
    if base is None:
        raise UserError("docker/Dockerfile has no line 'ARG BASE=...'")
    index = json.loads((run or _docker)(["docker", "buildx", "imagetools", "inspect", base[1], "--format", "{{json .Manifest}}"]))
    digest = _of_platform(index) or str(index.get("digest", ""))
    if not _DIGEST.match(digest):
        raise TrainyardError(f"the registry told no digest for {base[1]}")
    path.parent.mkdir(exist_ok=True)
    path.write_text(digest + "\n", encoding="utf-8")
    return digest


def check_reference(reference: str) -> None:
    """Raise UserError unless a reference has a tag and the name by which Trainyard knows images that start the watchdog themselves."""
    name, colon, tag = reference.rpartition(":")
    if not colon or "/" in tag or name.rpartition("/")[2] != OUR_IMAGE:
        example = f"ghcr.io/me/{OUR_IMAGE}:1"
        raise UserError(f"'{reference}' must end in '{OUR_IMAGE}:TAG'", hint=f"For example {example}.")


def _of_platform(index: dict[str, object]) -> str:
    manifests = index.get("manifests")
    for manifest in manifests if isinstance(manifests, list) else []:
        platform = manifest.get("platform", {})
        if (platform.get("os"), platform.get("architecture")) == ("linux", "amd64"):
            return str(manifest.get("digest", ""))
    return ""


def _docker(command: Sequence[str]) -> str:
    if shutil.which(command[0]) is None:
        raise TrainyardError("docker is not installed here; the trainer image is built with it")
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode:
        raise TrainyardError(f"'{' '.join(command[:3])}' failed with exit code {done.returncode}")
    return done.stdout
