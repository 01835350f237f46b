"""One trial of a canary: every action with one kind of checksum, side by side where they can be, each with its verdict."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import io
import secrets
import tempfile
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, TypeVar

from trainyard.errors import StoreError
from trainyard.jsontext import parse_json
from trainyard.pod.orders import JsonLines
from trainyard.pod.uploader import Sender
from trainyard.storage import objects
from trainyard.storage.actions import ACTIONS
from trainyard.storage.answers import BAD_KEYS, DENIED, UNKNOWN_HERE, is_passing, store_errors
from trainyard.storage.client import StoreSettings, s3
from trainyard.storage.manifest import ManifestEntry, crc32_of, sha256
from trainyard.storage.objects import PendingUpload, UploadTarget

T = TypeVar("T")

CANARY = "tmp/canary-"
"""What every key of a canary begins with."""
Verdict = Literal["ok", "refused", "missing", "wrong", "silent", "untried"]
"""refused: this key may not. missing: the store cannot. wrong: it does something else. silent: nobody answered."""


@dataclass(frozen=True, slots=True)
class Check:
    """What came of one action."""

    name: str
    verdict: Verdict
    needed: bool
    right: str = ""
    code: str = ""
    says: str = ""


@dataclass(frozen=True, slots=True)
class Trial:
    """All actions with one kind of checksum."""

    checks: tuple[Check, ...]

    @property
    def failed(self) -> bool:
        """Something that is needed does not work so."""
        return any(check.needed and check.verdict != "ok" for check in self.checks)

    def is_ok(self, name: str) -> bool:
        """Tell whether one action worked."""
        return any(check.name == name and check.verdict == "ok" for check in self.checks)


def trial(settings: StoreSettings, name: str, *, unknown: bool) -> Trial:
    """Try every action with objects whose keys begin with ``name``; what was written is deleted again.

    ``unknown``: nothing is taken for granted of this store, so what it lacks is no error where it can be done without.
    Never raises for what the store says.
    """
    with tempfile.TemporaryDirectory(prefix="trainyard-canary-") as folder:
        probe = _Probe(settings, name, Path(folder), unknown)
        with ThreadPoolExecutor(5) as pool:
            waiting = [pool.submit(step) for step in (probe.list, probe.absent, probe.single, probe.wrong_bytes, probe.multipart)]
            waiting.append(pool.submit(probe.abort))
            for one in waiting:
                one.result()
        probe.clean()
    order = list(ACTIONS)
    untried = [Check(one, "untried", probe.needs(one), ACTIONS[one].right) for one in order if one not in probe.checks]
    checks = [*probe.checks.values(), *untried]
    return Trial(tuple(sorted(checks, key=lambda check: order.index(check.name))))


class _Wrong(Exception):
    """The store has answered, and does something else than it should."""


class _Probe:
    """One trial at work; its steps run side by side and each notes its own verdicts."""

    def __init__(self, settings: StoreSettings, name: str, folder: Path, unknown: bool) -> None:
        self.store = replace(settings, conditional=True) if unknown else settings
        self.name, self.folder, self.unknown = name, folder, unknown
        self.client = s3(self.store)
        self.body = secrets.token_bytes(1024)
        self.checks: dict[str, Check] = {}
        self.keys: set[str] = set()
        self.uploads: list[tuple[str, str]] = []

    def needs(self, action: str) -> bool:
        """Tell whether nothing may be rented without an action: what a known store can do is relied on."""
        relied = {"conditional write": self.store.conditional, "signed URL": self.store.presign}
        return not ACTIONS[action].without or (relied.get(action, False) and not self.unknown)

    def attempt(self, action: str, call: Callable[[], T]) -> T | None:
        """Do something and note what came of it; returns what the call returned, None where it failed."""
        right, needed = ACTIONS[action].right, self.needs(action)
        verdict: Verdict = "ok"
        code = says = ""
        value = None
        try:
            with store_errors(action):
                value = call()
        except StoreError as error:
            verdict, code, says = _verdict(error), error.code, error.message
        except _Wrong as error:
            verdict, says = "wrong", str(error)
        # Trouble is no lack: what nobody has answered may be needed, whatever it was.
        needed = needed or (verdict == "silent" and action != "signed URL")
        self.checks[action] = Check(action, verdict, needed, right, code, says)
        return value

    def list(self) -> None:
        """List below tmp/."""
        self.attempt("list", lambda: self.client.list_objects_v2(Bucket=self.store.bucket, MaxKeys=1, Prefix="tmp/"))

    def absent(self) -> None:
        """Ask for a name that nobody has used."""
        with_key = {"Bucket": self.store.bucket, "Key": f"{self.name}-absent"}

        def ask() -> None:
            with store_errors("absent", 404) as refusal:
                self.client.head_object(**with_key)
            if not refusal:
                raise _Wrong("the store says that it holds an object that nobody has written")

        self.attempt("absent", ask)

    def single(self) -> None:
        """Write a small object as markers are written, look at it, read it back, and try to write over it."""
        key = f"{self.name}-marker"
        sums = {} if self.store.checksums == "none" else {"ChecksumAlgorithm": "CRC32", "ChecksumCRC32": crc32_of(self.body)}
        at: dict[str, Any] = {"Bucket": self.store.bucket, "Key": key}
        self.keys.add(key)
        if self.attempt("put", lambda: self.client.put_object(**at, Body=self.body, **sums)) is None:
            return
        target = self._target(key)
        self.attempt("head", lambda: self._proven(target))
        self.attempt("get", lambda: self._read_back(at))
        self.attempt("conditional write", lambda: self._refuses_overwrite(at))

    def wrong_bytes(self) -> None:
        """Send other bytes than were announced: they must be refused."""
        key = f"{self.name}-wrong"
        announced = hashlib.sha256(b"announced").digest()
        more = {"ChecksumAlgorithm": "SHA256", "ChecksumSHA256": base64.b64encode(announced).decode()}
        if self.store.checksums == "none":
            more = {"ContentMD5": base64.b64encode(hashlib.md5(b"announced").digest()).decode()}

        def send() -> None:
            with store_errors("wrong bytes", 400, 422) as refusal:
                self.client.put_object(Bucket=self.store.bucket, Key=key, Body=b"something else", **more)
            if not refusal:
                self.keys.add(key)
                raise _Wrong("the store takes bytes whose checksum is wrong")

        self.attempt("wrong bytes", send)

    def multipart(self) -> None:
        """Begin an upload, let the pod's own code send its part by a signed URL, complete it, and look at the object."""
        key = f"{self.name}-result"
        target = self._target(key)
        upload_id = self.attempt("multipart", lambda: objects.begin(self.store, key))
        if upload_id is None:
            return
        self.keys.add(key)
        self.uploads.append((key, upload_id))
        work = PendingUpload(target, upload_id, (1,), replace=False)
        self._send(work)
        parts = self.attempt("list parts", lambda: objects.stored_parts(self.store, target, upload_id))
        if not parts:
            if "list parts" in self.checks and self.checks["list parts"].verdict == "ok":
                self.attempt("list parts", lambda: _raise("the store does not list the part that was sent, with its checksum"))
            return
        self._complete(work)
        if self.checks["complete"].verdict == "ok":
            self.attempt("proof", lambda: self._proven(target))

    def abort(self) -> None:
        """Begin an upload, look for it, and abort it."""
        key = f"{self.name}-aborted"
        with contextlib.suppress(StoreError):  # the other upload tells that none can be begun
            upload_id = objects.begin(self.store, key)
            self.uploads.append((key, upload_id))
            self.attempt("list uploads", lambda: self.client.list_multipart_uploads(Bucket=self.store.bucket, Prefix=key))
            self.attempt("abort", lambda: objects.drop(self.store, key, upload_id))

    def clean(self) -> None:
        """Delete what was written, versions too."""

        def delete() -> None:
            with ThreadPoolExecutor(4) as pool:
                for one in [pool.submit(self._delete, key) for key in sorted(self.keys)]:
                    one.result()

        if self.is_ok("put") or self.is_ok("complete"):
            self.attempt("delete", delete)
        for key, upload_id in self.uploads:
            if not (key.endswith("-result") and self.is_ok("complete")) and not (key.endswith("-aborted") and self.is_ok("abort")):
                with contextlib.suppress(StoreError):
                    objects.drop(self.store, key, upload_id)

    def is_ok(self, action: str) -> bool:
        """Tell whether an action has worked."""
        return action in self.checks and self.checks[action].verdict == "ok"

    def _send(self, work: PendingUpload) -> None:
        """Send the part, and a whole small object beside it, as the pod does; where URLs do not work, as this machine does."""
        path = self.folder / "body"
        path.write_bytes(self.body)
        if self.store.presign:
            small = PendingUpload(self._target(f"{self.name}-small"), None, (1,), replace=True)
            self.keys.add(small.target.key)
            self.attempt("signed URL", lambda: _as_pod(self.store, [work, small]))
        if not self.is_ok("signed URL"):
            with contextlib.suppress(StoreError):  # what came of it is seen in the list of parts
                objects.put_part(self.store, work, 1, self.body)

    def _complete(self, work: PendingUpload) -> None:
        self.attempt("complete", lambda: objects.demand_complete(self.store, work))
        if self.unknown and self.checks["complete"].verdict == "missing" and self.store.conditional:
            # It may know conditions on PUT alone: one that is not known everywhere is not used.
            self.store = replace(self.store, conditional=False)
            self.attempt("complete", lambda: objects.demand_complete(self.store, work))
            self.attempt("conditional write", lambda: _raise("not known on Complete"))

    def _target(self, key: str) -> UploadTarget:
        crc = crc32_of(self.body)
        entry = ManifestEntry("canary", len(self.body), sha256(self.body), crc, len(self.body), (crc,))
        return UploadTarget(entry, str(self.folder / "body"), key, (hashlib.md5(self.body).hexdigest(),))

    def _proven(self, target: UploadTarget) -> None:
        state = objects.proof(self.store, target)
        if state != "there":
            raise _Wrong(
                "the store acknowledged it and does not hold it" if state == "absent" else "size or checksum of the store is wrong"
            )

    def _read_back(self, at: dict[str, Any]) -> None:
        body = self.client.get_object(**at, Range="bytes=100-611")["Body"].read()
        if body != self.body[100:612]:
            raise _Wrong("what came back is not what was sent")

    def _refuses_overwrite(self, at: dict[str, Any]) -> None:
        with store_errors("conditional write", 409, 412) as refusal:
            self.client.put_object(**at, Body=b"overwritten", IfNoneMatch="*")
        if not refusal:
            raise _Wrong("an object that was there has been written over: this store should keep write-once markers (If-None-Match)")

    def _delete(self, key: str) -> None:
        at = {"Bucket": self.store.bucket, "Key": key}
        with store_errors("delete", 404, *DENIED) as absent:
            version = self.client.head_object(**at).get("VersionId")
        if absent:
            return
        more = {"VersionId": version} if version and version != "null" else {}
        with store_errors("delete", *(DENIED if more else ())) as refusal:
            self.client.delete_object(**at, **more)
        if refusal:  # to delete a version for good is a right of its own
            with store_errors("delete"):
                self.client.delete_object(**at)


def _as_pod(settings: StoreSettings, works: Sequence[PendingUpload]) -> None:
    """Send by bound requests with the pod's own code; raises StoreError with what the store said."""
    items = [item for number, work in enumerate(works) for item in objects.requests(settings, work, number)]
    lines = io.StringIO()
    plan = {"items": items, "threads": len(items), "tries": 2, "backoff": 0.1, "timeout": 60}
    if Sender(plan, JsonLines(lines)).run():
        said = next(event for event in map(parse_json, lines.getvalue().splitlines()) if event["event"] == "failed")
        code = str(said.get("code"))
        passing = code == "Network" or is_passing(code, int(said.get("status") or 0))
        raise StoreError(f"signed URL: {code} {said.get('message', '')}".rstrip(), code=code, passing=passing)


def _raise(says: str) -> None:
    raise _Wrong(says)


def _verdict(error: StoreError) -> Verdict:
    if error.passing:
        return "silent"
    if error.code in DENIED or error.code in BAD_KEYS:
        return "refused"
    return "missing" if error.code in UNKNOWN_HERE else "wrong"
