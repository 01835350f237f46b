"""What a result is: its place in the bucket, its files with their hashes, and the object that makes it count.

models/<user>/<run>/<attempt>/model/...       the files, as they lay below the pod's output folder
models/<user>/<run>/<attempt>/_manifest.json  size, sha256 and CRC32 of each file and part
models/<user>/<run>/<attempt>/_SUCCESS        names the sha256 of the manifest; without it nothing counts
models/<user>/<run>/<attempt>/_KEPT           the same for what a training left that was no success, with the reason
models/<user>/<run>/<attempt>/_POD_COMMITTED  and _pod.tar: what a pod committed alone, until a machine with the bucket seals it
checkpoints/<user>/<run>/<attempt>/<name>/... one complete checkpoint, with a manifest of its own
checkpoints/<user>/<run>/<attempt>/<name>/_CHECKPOINT   names the sha256 of that manifest; without it nothing counts
logs/<user>/<run>/<attempt>/...               train.log, metrics.jsonl, status.json, config.json; run.json and bundle.tar.gz:
                                              what was asked, for who goes on from it
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
import zlib
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from trainyard.errors import StoreError
from trainyard.jsontext import parse_json
from trainyard.pod.files import name_problem
from trainyard.storage.ending import Ending

MODELS = "models/"
LOGS = "logs/"
CHECKPOINTS = "checkpoints/"
DATA = "data/"
MANIFEST = "_manifest.json"
SUCCESS = "_SUCCESS"
KEPT = "_KEPT"
CHECKPOINT = "_CHECKPOINT"
POD_COMMITTED = "_POD_COMMITTED"
POD_TAR = "_pod.tar"
"""What a pod has sent alone beside the files of fixed names."""
RESERVED = frozenset({MANIFEST, SUCCESS, KEPT, POD_COMMITTED, POD_TAR, CHECKPOINT})
MODEL_FOLDER = "model/"
VERSION = 2
PART_SIZE = 32 * 1024 * 1024
DAMAGED = "Damaged"
"""The code of an error that says: the store holds another file than the manifest's or none, or the manifest is none any more."""
_LARGEST_PART = 5 << 30
"""No store takes a larger one."""
_NAME = re.compile(r"[a-z0-9][a-z0-9-]*")
_SHA256 = re.compile(r"[0-9a-f]{64}")
_CRC32 = re.compile(r"[0-9A-Za-z+/]{6}==")


def is_name(word: str) -> bool:
    """Tell whether a user or a run can be called so."""
    return _NAME.fullmatch(word) is not None


@dataclass(frozen=True, slots=True)
class ResultKey:
    """One attempt of one run."""

    user: str
    run: str
    attempt: int

    def __post_init__(self) -> None:
        if not is_name(self.user) or not is_name(self.run) or self.attempt < 1:
            raise ValueError(f"not a run: {self.user!r}/{self.run!r}/{self.attempt!r}")

    def __str__(self) -> str:
        return f"{self.user}/{self.run}/{self.attempt}"

    @property
    def prefix(self) -> str:
        """The folder of the result, with its '/'."""
        return f"{MODELS}{self}/"

    @property
    def model(self) -> str:
        """The folder that ``from_pretrained`` loads, with its '/'."""
        return self.prefix + MODEL_FOLDER

    @property
    def logs(self) -> str:
        """The folder of the logs, with its '/'."""
        return f"{LOGS}{self}/"

    @property
    def checkpoints(self) -> str:
        """The folder of the checkpoints that were written while it trained, with its '/'."""
        return f"{CHECKPOINTS}{self}/"

    @property
    def manifest(self) -> str:
        """Key of the manifest."""
        return self.prefix + MANIFEST

    @property
    def success(self) -> str:
        """Key of the object that makes the result count."""
        return self.prefix + SUCCESS

    @property
    def kept(self) -> str:
        """Key of the object that vouches for what a training left that was no success."""
        return self.prefix + KEPT

    @property
    def pod_committed(self) -> str:
        """Key of the object that vouches for the tar that a pod has sent alone."""
        return self.prefix + POD_COMMITTED

    @property
    def pod_tar(self) -> str:
        """Key of that tar."""
        return self.prefix + POD_TAR


@dataclass(frozen=True, slots=True)
class ManifestEntry:
    """One file: what it must be, as a whole and part by part (CRC32s as S3 writes them)."""

    path: str
    size: int
    sha256: str
    crc32: str
    part_size: int
    parts: tuple[str, ...]

    def part(self, number: int) -> tuple[int, int]:
        """Return offset and length of a part, counted from 1."""
        offset = (number - 1) * self.part_size
        return offset, min(self.part_size, self.size - offset)

    @property
    def composite(self) -> str:
        """The checksum of checksums that some stores keep for a multipart upload."""
        joined = b"".join(base64.b64decode(part) for part in self.parts)
        return f"{crc32_text(zlib.crc32(joined))}-{len(self.parts)}"


@dataclass(frozen=True, slots=True)
class LeftOut:
    """What lies in the output folder and is not part of the result; ``wanted``: it should have been, but cannot be carried."""

    path: str
    size: int
    why: str
    wanted: bool = False


@dataclass(frozen=True, slots=True)
class Keep:
    """Why what a training left is kept though it was no success, and how its checkpoints are known (see the recipe)."""

    why: str
    exit_code: int | None = None
    checkpoints: str | None = None
    mark: str | None = None


@dataclass(frozen=True, slots=True)
class Manifest:
    """All files of a result, sorted by path, and what was left out of it."""

    key: ResultKey
    files: tuple[ManifestEntry, ...]
    left_out: tuple[LeftOut, ...] = ()
    token: str = ""
    """The run's token; empty in manifests that are older than tokens (version 1)."""

    @property
    def size(self) -> int:
        """Size of all files together."""
        return sum(entry.size for entry in self.files)

    def encode(self) -> bytes:
        """Return the manifest's bytes; equal files give equal bytes, whoever makes them."""
        document = {"version": VERSION, "token": self.token, **asdict(self.key)}
        document["files"] = [asdict(entry) for entry in self.files]
        document["left_out"] = [asdict(entry) for entry in self.left_out]
        return (json.dumps(document, indent=1, sort_keys=True) + "\n").encode()


def sha256(data: bytes) -> str:
    """Return the hex sha256."""
    return hashlib.sha256(data).hexdigest()


def crc32_text(value: int) -> str:
    """Return a CRC32 as S3 writes it."""
    return base64.b64encode(value.to_bytes(4, "big")).decode()


def crc32_of(data: bytes) -> str:
    """Return the CRC32 of bytes as S3 writes it."""
    return crc32_text(zlib.crc32(data))


def entry_of(item: Mapping[str, Any], path: str | None = None) -> ManifestEntry:
    """Return the entry that a scan on the pod (or a manifest) describes."""
    return ManifestEntry(
        path=path if path is not None else str(item["path"]),
        size=int(item["size"]),
        sha256=str(item["sha256"]),
        crc32=str(item["crc32"]),
        part_size=int(item["part_size"]),
        parts=tuple(str(part) for part in item["parts"]),
    )


def is_sha256(text: str) -> bool:
    """Tell whether a text is a hex sha256. It becomes the name of an object or of a file, so nothing else may be taken for one."""
    return _SHA256.fullmatch(text) is not None


def entry_problem(entry: ManifestEntry) -> str | None:
    """Return why what somebody else has written down can be no file of a result, None when it can."""
    if problem := name_problem(entry.path):
        return problem
    if not is_sha256(entry.sha256) or not all(_CRC32.fullmatch(crc) for crc in (entry.crc32, *entry.parts)):
        return "its checksums are none"
    if entry.size < 0 or not 0 < entry.part_size <= _LARGEST_PART or len(entry.parts) != max(1, -(-entry.size // entry.part_size)):
        return "its parts are not those of its size"
    return None


def decode(data: bytes, where: str) -> Manifest:
    """Read a manifest; raises StoreError when it is damaged or of a later version."""
    try:
        document = parse_json(data)
        if document["version"] not in (1, VERSION):
            raise StoreError(f"{where}: made by a later Trainyard (version {document['version']})")
        key = ResultKey(document["user"], document["run"], int(document["attempt"]))
        files = tuple(entry_of(item) for item in document["files"])
        left_out = tuple(LeftOut(str(f["path"]), int(f["size"]), str(f["why"]), f.get("wanted") is True) for f in document["left_out"])
        token = "" if document["version"] == 1 else str(document["token"])
    except (ValueError, KeyError, TypeError, OverflowError) as error:
        raise StoreError(f"{where}: this is no manifest ({error})", code=DAMAGED) from None
    for entry in files:
        if problem := entry_problem(entry):
            raise StoreError(f"{where}: {entry.path!r} is no file of a result: {problem}", code=DAMAGED)
    if len({entry.path for entry in files}) != len(files):
        raise StoreError(f"{where}: this is no manifest (it names a file twice)", code=DAMAGED)
    return Manifest(key, files, left_out, token)


def marker_body(manifest_sha256: str, manifest: Manifest, ending: Ending | None, pod_time: str | None = None) -> bytes:
    """Return the content of ``_SUCCESS`` (no ending) or ``_KEPT``; ``pod_time``: when the pod had committed it alone."""
    document: dict[str, Any] = {"manifest_sha256": manifest_sha256, "token": manifest.token}
    document |= {"files": len(manifest.files), "bytes": manifest.size} | (asdict(ending) if ending else {})
    document |= {"pod_committed": pod_time} if pod_time else {}
    return (json.dumps(document, sort_keys=True) + "\n").encode()
