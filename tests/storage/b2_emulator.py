"""Backblaze B2's own API for keys over real HTTP, as version 3 of its documentation tells it, and the S3 endpoint that its keys open.

Refused as there: a wrong pair, a token that has ended, a call without its capability, capabilities that a key for one bucket
cannot have, durations out of bounds. ``faults`` answer a call's next requests by a status; ``changes`` make created keys others.
"""

from __future__ import annotations

import base64
import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

from botocore.auth import S3SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

ACCOUNT, MASTER = "ac00", ("0040ac000000001", "K004master")
_IN_A_BUCKET = {
    "listAllBucketNames", "listBuckets", "readBuckets", "readBucketEncryption", "writeBucketEncryption", "readBucketRetentions",
    "writeBucketRetentions", "readBucketNotifications", "writeBucketNotifications", "listFiles", "readFiles", "shareFiles", "writeFiles",
    "deleteFiles", "readFileLegalHolds", "writeFileLegalHolds", "readFileRetentions", "writeFileRetentions", "bypassGovernance",
}  # fmt: skip
_EVERYWHERE = _IN_A_BUCKET | {"listKeys", "writeKeys", "deleteKeys", "writeBuckets", "deleteBuckets"}
_RIGHTS = {"b2_list_buckets": "listBuckets", "b2_create_key": "writeKeys", "b2_delete_key": "deleteKeys"}


@dataclass(slots=True)
class Key:
    secret: str
    capabilities: list[str]
    bucket: str | None = None
    prefix: str | None = None
    end: float | None = None


class Refusal(Exception):
    """An answer that is no success: status, code, message."""


@dataclass
class B2Emulator:
    """What runs, and what it knows. Its clock stands still until a test moves it."""

    server: ThreadingHTTPServer
    now: float
    keys: dict[str, Key] = field(default_factory=lambda: {MASTER[0]: Key(MASTER[1], sorted(_EVERYWHERE))})
    buckets: dict[str, str] = field(default_factory=lambda: {"other": "b-other", "runs": "b-runs"})
    objects: dict[str, bytes] = field(default_factory=dict)
    tokens: dict[str, tuple[str, float]] = field(default_factory=dict)
    faults: dict[str, list[int]] = field(default_factory=dict)
    changes: dict[str, Any] = field(default_factory=dict)
    seen: list[str] = field(default_factory=list)
    token_life: float = 86400.0
    api_url: str | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server.server_port}"

    def living(self, key_id: str) -> Key | None:
        key = self.keys.get(key_id)
        return key if key is not None and (key.end is None or self.now < key.end) else None

    def authorize(self, header: str) -> dict[str, Any]:
        kind, _, pair = header.partition(" ")
        key_id, _, secret = base64.b64decode(pair).decode().partition(":") if kind == "Basic" else ("", "", "")
        key = self.living(key_id)
        if key is None or key.secret != secret:
            raise Refusal(401, "unauthorized", "")
        token = f"4_token{len(self.tokens)}"
        self.tokens[token] = (key_id, self.now + self.token_life)
        storage = {
            "apiUrl": self.api_url or self.url, "s3ApiUrl": self.url, "downloadUrl": self.url, "bucketId": key.bucket, "bucketName": None,
            "namePrefix": key.prefix, "capabilities": key.capabilities, "infoType": "storageApi", "absoluteMinimumPartSize": 5_000_000,
            "recommendedPartSize": 100_000_000,
        }  # fmt: skip
        return {"accountId": ACCOUNT, "authorizationToken": token, "apiInfo": {"storageApi": storage}}

    def carry_out(self, name: str, header: str, body: dict[str, Any]) -> dict[str, Any]:
        key_id, end = self.tokens.get(header, ("", 0.0))
        key = self.living(key_id)
        if key is None or end <= self.now:
            raise Refusal(401, "expired_auth_token" if key else "bad_auth_token", "Authorization token has expired")
        if _RIGHTS[name] not in key.capabilities or body.get("accountId", ACCOUNT) != ACCOUNT:
            raise Refusal(401, "unauthorized", f"Application key not authorized for {name}")
        if name == "b2_list_buckets":
            here = {body["bucketName"]: self.buckets[body["bucketName"]]} if body.get("bucketName") in self.buckets else {}
            return {"buckets": [{"accountId": ACCOUNT, "bucketId": one, "bucketName": called} for called, one in here.items()]}
        return self._create(body) if name == "b2_create_key" else self._delete(body["applicationKeyId"])

    def _create(self, body: dict[str, Any]) -> dict[str, Any]:
        seconds, wide = (
            body.get("validDurationInSeconds"),
            set(body["capabilities"]) - (_IN_A_BUCKET if body.get("bucketId") else _EVERYWHERE),
        )
        if wide:
            raise Refusal(400, "bad_request", f"bad capabilities for a key restricted to a bucket: {sorted(wide)}")
        if seconds is not None and not (isinstance(seconds, int) and 0 < seconds < 1000 * 86400):
            raise Refusal(400, "bad_request", "validDurationInSeconds out of range")
        if not re.fullmatch(r"[A-Za-z0-9-]{1,100}", body["keyName"]):
            raise Refusal(400, "bad_request", "keyName")
        if body.get("bucketId") and body["bucketId"] not in self.buckets.values():
            raise Refusal(400, "bad_bucket_id", "no such bucket")
        key_id = f"0040ac00000000{len(self.keys) + 1}"
        key = Key(
            f"K004{key_id}", body["capabilities"], body.get("bucketId"), body.get("namePrefix"), self.now + seconds if seconds else None
        )
        self.keys[key_id] = key
        return {**self._told(key_id, key, body["keyName"]), "applicationKey": key.secret, **self.changes}

    def _delete(self, key_id: str) -> dict[str, Any]:
        if key_id not in self.keys:
            raise Refusal(400, "bad_request", f"application key does not exist: {key_id}")
        return self._told(key_id, self.keys.pop(key_id), "gone")

    @staticmethod
    def _told(key_id: str, key: Key, name: str) -> dict[str, Any]:
        return {
            "accountId": ACCOUNT, "applicationKeyId": key_id, "keyName": name, "capabilities": key.capabilities, "bucketId": key.bucket,
            "namePrefix": key.prefix, "expirationTimestamp": int(key.end * 1000) if key.end else None, "options": ["s3"],
        }  # fmt: skip


@contextmanager
def serve(now: float) -> Iterator[B2Emulator]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
    emulator = B2Emulator(server, now)
    server.emulator = emulator  # type: ignore[attr-defined]
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
    try:
        yield emulator
    finally:
        server.shutdown()
        server.server_close()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_: object) -> None: ...

    def do_GET(self) -> None:
        self._answer()

    do_POST = do_PUT = do_DELETE = do_GET

    def _answer(self) -> None:
        self.body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        emulator: B2Emulator = self.server.emulator  # type: ignore[attr-defined]
        if not self.path.startswith("/b2api/"):
            return self._s3(emulator)
        name = self.path.removeprefix("/b2api/v3/")
        emulator.seen.append(name)
        try:
            if emulator.faults.get(name):
                raise Refusal(emulator.faults[name].pop(0), "service_unavailable", "try again")
            header = self.headers.get("Authorization", "")
            said = emulator.authorize(header) if name == "b2_authorize_account" else emulator.carry_out(name, header, json.loads(self.body))
            self._send(200, json.dumps(said).encode())
        except Refusal as refusal:
            status, code, message = refusal.args
            self._send(status, json.dumps({"status": status, "code": code, "message": message}).encode())

    def _s3(self, emulator: B2Emulator) -> None:
        """Carry out a GET, PUT, DELETE or list where the signature is a living key's, which has the right for this name."""
        parts = urlsplit(self.path)
        bucket, _, name = unquote(parts.path).removeprefix("/").partition("/")
        asked = parse_qs(parts.query, keep_blank_values=True)
        right = {"GET": "readFiles" if name else "listFiles", "PUT": "writeFiles", "DELETE": "deleteFiles"}[self.command]
        key = self._signer(emulator)
        if key is None:
            return self._xml(403, "<Error><Code>InvalidAccessKeyId</Code></Error>")
        below = name or asked.get("prefix", [""])[0]
        if right not in key.capabilities or emulator.buckets.get(bucket) != key.bucket or not below.startswith(key.prefix or ""):
            return self._xml(403, "<Error><Code>AccessDenied</Code></Error>")
        if self.command == "PUT":
            emulator.objects[name] = self.body
        elif self.command == "GET" and name:
            return self._send(200, emulator.objects[name])
        found = [one for one in emulator.objects if one.startswith(below)]
        return self._xml(200, f"<ListBucketResult><KeyCount>{len(found)}</KeyCount></ListBucketResult>" if self.command == "GET" else "")

    def _signer(self, emulator: B2Emulator) -> Key | None:
        """Return the key whose secret makes the signature that was sent, None where none does."""
        match = re.match(
            r"AWS4-HMAC-SHA256 Credential=([^/]+)/[^,]+, ?SignedHeaders=([^,]+), ?Signature=(\w+)", self.headers["Authorization"]
        )
        key = emulator.living(match[1]) if match else None
        if match is None or key is None:
            return None
        headers = {one: self.headers[one] for one in match[2].split(";")}
        request = AWSRequest(self.command, f"{emulator.url}{self.path}", headers=headers, data=self.body)
        request.context["timestamp"] = self.headers["X-Amz-Date"]
        region = self.headers["Authorization"].split("/")[2]
        auth = S3SigV4Auth(Credentials(match[1], key.secret), "s3", region)
        signature = auth.signature(auth.string_to_sign(request, auth.canonical_request(request)), request)
        return key if signature == match[3] else None

    def _xml(self, status: int, text: str) -> None:
        self._send(status, text.encode())

    def _send(self, status: int, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Type", "application/json" if self.path.startswith("/b2api/") else "application/xml")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
