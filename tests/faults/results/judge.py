"""The judge of a result: reads the bucket with boto3 and the disk as it is, compares hashes, and knows nothing of the product's code."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

DOCUMENTED = (0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 69, 74, 130)
"""The exit codes of docs/troubleshooting.md, without 70: a fault of ours."""
OWN_AT_HOME = ("_manifest.json", "_KEPT", "_SUCCESS", "status.json")
OF_PODS = {"_POD_COMMITTED", "_pod.tar"}
"""What a pod that committed alone has left beside the result."""
STAGING = ".trainyard-download"


@dataclass
class Wanted:
    """What a result must be."""

    token: str
    marker: str
    files: Mapping[str, str]
    left: frozenset[str]
    growing: Mapping[str, bytes] = field(default_factory=dict)
    """Files of which any beginning counts, and which may be left out by name."""
    foreign: Mapping[str, bytes] = field(default_factory=dict)
    """Markers that another run may have put beside this one's."""

    def is_right(self, path: str, body: bytes) -> bool:
        """Tell whether a file's bytes are this run's."""
        if path in self.growing:
            return self.growing[path].startswith(body)
        return self.files.get(path) == hashlib.sha256(body).hexdigest()


@dataclass
class Found:
    """What is true of a result now."""

    committed: bool = False
    at_home: bool = False
    problems: list[str] = field(default_factory=list)
    sealed: list[str] = field(default_factory=list)
    """Checkpoints that count."""


def look(client: Any, bucket: str, prefix: str, home: Path, wanted: Wanted) -> Found:
    """Return where a result is, and everything about it that must never be."""
    found = Found()
    _bucket(client, bucket, prefix, wanted, found)
    _home(home, wanted, found)
    return found


def open_uploads(client: Any, bucket: str, prefix: str) -> list[str]:
    """Return the keys of uploads that are open: those of the run, and none is ever one's of anything but tmp/."""
    keys = [one["Key"] for one in client.list_multipart_uploads(Bucket=bucket).get("Uploads", [])]
    return [key for key in keys if key.startswith(prefix) or not key.startswith(("models/", "logs/", "tmp/"))]


def snapshot(client: Any, bucket: str, prefix: str) -> dict[str, str]:
    """Return the ETag of each object below a prefix."""
    objects: dict[str, str] = {}
    more: dict[str, Any] = {}
    while True:
        page = client.list_objects_v2(Bucket=bucket, Prefix=prefix, **more)
        objects |= {one["Key"]: one["ETag"] for one in page.get("Contents", [])}
        if not page.get("IsTruncated"):
            return objects
        more = {"ContinuationToken": page["NextContinuationToken"]}


def read(client: Any, bucket: str, key: str) -> bytes:
    """Return an object; empty when there is none."""
    if key not in snapshot(client, bucket, key):
        return b""
    body: bytes = client.get_object(Bucket=bucket, Key=key)["Body"].read()
    return body


def said(code: int, story: str) -> list[str]:
    """Return what is wrong about what a command said and how it ended."""
    problems = []
    if code not in DOCUMENTED:
        problems.append(f"it exited with {code}, which no page documents for this")
    if "Traceback" in story:
        problems.append("a traceback was shown")
    if code and not re.search(r"\w+ .*\w", story):
        problems.append(f"it exited with {code} and said nothing")
    return problems


def checkpoints(client: Any, bucket: str, base: str, token: str, versions: Mapping[str, Sequence[Mapping[str, str]]]) -> Found:
    """Look at what is called a checkpoint below ``base``: each must be one that was whole on the pod, byte for byte.

    ``versions`` are, by name, the sha256 of the files of each whole checkpoint of that name that there ever was.
    """
    found = Found()
    for marker in sorted(key for key in snapshot(client, bucket, base) if key.endswith("/_CHECKPOINT")):
        prefix, name = marker[: -len("_CHECKPOINT")], marker[len(base) : -len("/_CHECKPOINT")]
        said = json.loads(read(client, bucket, marker))
        bodies = {key[len(prefix) :]: read(client, bucket, key) for key in snapshot(client, bucket, prefix)}
        manifest = bodies.pop("_manifest.json", b"")
        digests = {path: hashlib.sha256(body).hexdigest() for path, body in bodies.items() if path != "_CHECKPOINT"}
        if said.get("token") != token or said.get("sha256") != hashlib.sha256(manifest).hexdigest():
            found.problems.append(f"{marker} bears another token, or vouches for another manifest than the one that is there")
        elif digests not in versions.get(name, ()):
            found.problems.append(f"{marker}: these bytes were never a whole checkpoint: {sorted(digests)[:5]}")
        elif sorted(entry["sha256"] for entry in json.loads(manifest)["files"]) != sorted(digests.values()):
            found.problems.append(f"{marker}: its manifest does not name what is there")
        found.sealed.append(name)
    return found


def on_pod(folder: Path, truth: Mapping[str, Sequence[str]], hidden: str = ".trainyard-fetch") -> tuple[dict[str, str], list[str]]:
    """Return the sha256 of what has a final name below a folder of the pod, and the names whose bytes nobody announced."""
    here = {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in folder.rglob("*")
        if path.is_file() and hidden not in path.relative_to(folder).parts
    }
    return here, sorted(path for path, digest in here.items() if digest not in truth.get(path, ()))


def _bucket(client: Any, bucket: str, prefix: str, wanted: Wanted, found: Found) -> None:
    there = {key[len(prefix) :] for key in snapshot(client, bucket, prefix)}
    other = {"_SUCCESS", "_KEPT"} - {wanted.marker}
    there -= {name for name in other & there if read(client, bucket, prefix + name) == wanted.foreign.get(name)}
    found.problems += [f"{name} is in the bucket of a run that ended otherwise" for name in other & there]
    if wanted.marker not in there:
        return
    bodies = {name: read(client, bucket, prefix + name) for name in (wanted.marker, "_manifest.json") if name in there}
    marker = json.loads(bodies[wanted.marker])
    if marker.get("token") != wanted.token:
        found.problems.append(f"{wanted.marker} bears another token: {marker.get('token')}")
    if marker.get("manifest_sha256") != hashlib.sha256(bodies.get("_manifest.json", b"")).hexdigest():
        found.problems.append(f"{wanted.marker} vouches for another manifest than the one that is there")
        return
    manifest = json.loads(bodies["_manifest.json"])
    named = {entry["path"] for entry in manifest["left_out"]}
    listed = {entry["path"] for entry in manifest["files"]}
    # What comes home of a training that was no success has its status with it: in a bucket that lies among the logs.
    must = (set(wanted.files) | (set(wanted.growing) - named)) | ({"status.json"} & listed if wanted.marker == "_KEPT" else set())
    wrong = [f"{path} (is missing)" for path in sorted(must - there)]
    for path in sorted(must & there - {"status.json"}):
        if not wanted.is_right(path, read(client, bucket, prefix + path)):
            wrong.append(f"{path} (has other bytes)")
    extra, unnamed = sorted(there - must - OF_PODS - {wanted.marker, "_manifest.json"}), sorted(wanted.left - named)
    if wrong:
        found.problems.append(f"{wanted.marker} without the bytes of this run: {', '.join(wrong[:5])}")
    if extra:
        found.problems.append(f"a committed result has files that nobody wrote: {extra[:5]}")
    if listed != must:
        found.problems.append(f"the manifest lists others than what the training wrote: {sorted(listed ^ must)[:5]}")
    if unnamed:
        found.problems.append(f"left out without being named: {unnamed}")
    found.committed = not (wrong or unnamed or listed != must)


def _home(home: Path, wanted: Wanted, found: Found) -> None:
    if not home.is_dir():
        return
    here: set[str] = set()
    wrong = []
    for path in home.rglob("*"):
        name = path.relative_to(home).as_posix()
        if path.is_file() and name not in OWN_AT_HOME and not name.startswith(STAGING):
            here.add(name)
            if not wanted.is_right(name, path.read_bytes()):
                wrong.append(name)
    if wrong:
        found.problems.append(f"half-written or foreign under a final name at home: {sorted(wrong)[:5]}")
    found.at_home = not wrong and here >= set(wanted.files) and (home / "_manifest.json").is_file()
