"""What builds and pushes container images on this machine: docker, podman or buildah, whichever is there.

Knows nothing of what is in an image. What a tool says is read as JSON, never as text for people.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from trainyard.errors import TrainyardError, UserError
from trainyard.jsontext import parse_json
from trainyard.nearest import suggest

PLATFORM = "linux/amd64"
DIGEST = re.compile(r"sha256:[0-9a-f]{64}")


class ToolCall(Protocol):
    """Runs a command and returns what it has printed; ``shown`` goes to the person instead. Raises TrainyardError when it fails."""

    def __call__(self, command: Sequence[str], *, shown: bool = False) -> str:
        """Run it."""
        ...


@dataclass(frozen=True, slots=True)
class RemoteImage:
    """An image in its registry: its digest there, and the bytes of its files."""

    digest: str
    size: int


@dataclass(frozen=True, slots=True)
class ImageTool:
    """One tool, by its own words."""

    name: str
    alive: tuple[str, ...]
    """What succeeds where it can be used."""
    build: tuple[str, ...]
    base_digest: Callable[[ToolCall, str], str]
    push: Callable[[ToolCall, str], RemoteImage]


def call(command: Sequence[str], *, shown: bool = False) -> str:
    """Run a tool; its words go to the person, on stderr, those that are asked for are returned."""
    done = subprocess.run(command, stdout=sys.stderr if shown else subprocess.PIPE, text=True, check=False)
    if done.returncode:
        raise TrainyardError(f"'{' '.join(command[:3])}' failed with exit code {done.returncode} (its own words are above)")
    return done.stdout or ""


def find_tool(name: str | None = None) -> ImageTool:
    """Return the tool of that name, or the first that is there and answers; raises TrainyardError, which says why there is none."""
    if name is not None and name not in TOOLS:
        raise UserError(f"no tool for images is called '{name}'{suggest(name, TOOLS)}", hint=f"One of {', '.join(TOOLS)}.")
    silent = []
    for tool in [TOOLS[name]] if name else TOOLS.values():
        if shutil.which(tool.name) is None:
            continue
        if subprocess.run(tool.alive, stdin=subprocess.DEVNULL, capture_output=True, check=False).returncode == 0:
            return tool
        silent.append(tool.name)
    if silent:
        raise TrainyardError(
            f"{' and '.join(silent)}: installed here, but without an answer", hint=f"See why: {' '.join(TOOLS[silent[0]].alive)}"
        )
    lacks = f"{name} is not installed here" if name else f"no tool for images is installed here: one of {', '.join(TOOLS)} is needed"
    raise TrainyardError(lacks, hint="Any of them will do; buildah needs no daemon.")


def build_command(tool: ImageTool, context: Path, reference: str, arguments: Mapping[str, str]) -> list[str]:
    """Return the command that builds an image from a folder with all that its Dockerfile copies."""
    pairs = [word for name, value in arguments.items() for word in ("--build-arg", f"{name}={value}")]
    return [*tool.build, "--platform", PLATFORM, *pairs, "--file", str(context / "docker/Dockerfile"), "--tag", reference, str(context)]


def _of_docker(call: ToolCall, base: str) -> str:
    """Return the digest of a base for our platform, asked from the registry."""
    index = _object(call(["docker", "buildx", "imagetools", "inspect", base, "--format", "{{json .Manifest}}"]))
    for manifest in index.get("manifests") or ():
        platform = manifest.get("platform", {})
        if f"{platform.get('os')}/{platform.get('architecture')}" == PLATFORM:
            return str(manifest.get("digest", ""))
    return str(index.get("digest", ""))


def _of_podman(call: ToolCall, base: str) -> str:
    call(["podman", "pull", "--platform", PLATFORM, base], shown=True)
    return str(_object(call(["podman", "image", "inspect", base])).get("Digest", ""))


def _of_buildah(call: ToolCall, base: str) -> str:
    call(["buildah", "pull", "--platform", PLATFORM, base], shown=True)
    return str(_object(call(["buildah", "images", "--json", base])).get("digest", ""))


def _push_docker(call: ToolCall, reference: str) -> RemoteImage:
    call(["docker", "push", reference], shown=True)
    details = _object(call(["docker", "image", "inspect", reference]))
    name = reference.rpartition(":")[0]
    digests = [text.partition("@")[2] for text in details.get("RepoDigests") or () if text.startswith(f"{name}@")]
    return RemoteImage(next(iter(digests), ""), int(details.get("Size", 0)))


def _push_podman(call: ToolCall, reference: str) -> RemoteImage:
    return RemoteImage(
        _digest_of_push(call, "podman", reference), int(_object(call(["podman", "image", "inspect", reference])).get("Size", 0))
    )


def _push_buildah(call: ToolCall, reference: str) -> RemoteImage:
    digest = _digest_of_push(call, "buildah", reference)
    manifest = _object(call(["buildah", "inspect", "--type", "image", "--format", "{{.Manifest}}", reference]))
    return RemoteImage(digest, sum(int(layer.get("size", 0)) for layer in manifest.get("layers") or ()))


def _digest_of_push(call: ToolCall, tool: str, reference: str) -> str:
    """Push, and return the digest that the tool has written into a file."""
    with tempfile.TemporaryDirectory(prefix="trainyard-image-") as folder:
        file = Path(folder, "digest")
        call([tool, "push", "--digestfile", str(file), reference], shown=True)
        return file.read_text(encoding="utf-8").strip() if file.exists() else ""


def _object(text: str) -> dict[str, Any]:
    """Return the object that a tool has printed, alone or as the only one of a list; raises TrainyardError for anything else."""
    try:
        answer = parse_json(text)
        answer = answer[0] if isinstance(answer, list) else answer
    except (ValueError, IndexError):
        answer = None
    if not isinstance(answer, dict):
        raise TrainyardError("the tool for images has answered with no JSON object where it should")
    return answer


# The form that every cloud's puller knows; an OCI image would differ in names of media types alone.
_FORM = ("build", "--format", "docker")
TOOLS: Mapping[str, ImageTool] = {
    tool.name: tool
    for tool in (
        ImageTool(
            "docker", ("docker", "version", "--format", "{{.Server.Version}}"),
            ("docker", "buildx", "build", "--load", "--provenance=false"), _of_docker, _push_docker,
        ),
        ImageTool("podman", ("podman", "info"), ("podman", *_FORM), _of_podman, _push_podman),
        ImageTool("buildah", ("buildah", "info"), ("buildah", *_FORM), _of_buildah, _push_buildah),
    )
}  # fmt: skip
"""In the order in which they are looked for."""
