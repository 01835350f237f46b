"""Users of the local server with a key for one prefix: made for one run, deleted at its teardown, swept when that was missed.

VersityGW knows no keys that end by themselves, so a user's name bears the time at which it is over.
"""

from __future__ import annotations

import hashlib
import http.client
import json
import re
import secrets
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any
from urllib.parse import urlsplit

from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

from trainyard.errors import StoreError
from trainyard.filelock import hold_lock
from trainyard.jsontext import parse_json
from trainyard.secret import Secret
from trainyard.storage.answers import store_errors
from trainyard.storage.client import StoreSettings, s3

_NAME = re.compile(r"ty-[0-9a-f]{8}-([0-9]+)")


def create(settings: StoreSettings, statements: Sequence[Mapping[str, Any]], until: float, now: float) -> tuple[str, Secret]:
    """Return name and secret of a new user who may do what the statements allow; users whose time is over go."""
    name, word = f"ty-{secrets.token_hex(4)}-{int(until)}", secrets.token_urlsafe(24)
    sweep(settings, now)
    body = f"<Account><Access>{name}</Access><Secret>{word}</Secret><Role>user</Role></Account>".encode()
    _admin(settings, "/create-user", body)
    with _policy(settings) as document:
        for number, statement in enumerate(statements):
            document.append({"Sid": f"{name}-{number}", "Effect": "Allow", "Principal": {"AWS": [name]}, **statement})
    return name, Secret(word)


def delete(settings: StoreSettings, name: str) -> None:
    """Take a user's key and rights away; one that is gone is fine."""
    with _policy(settings) as document:
        document[:] = [one for one in document if not str(one.get("Sid", "")).startswith(f"{name}-")]
    _admin(settings, f"/delete-user?access={name}", b"", 404)


def sweep(settings: StoreSettings, now: float) -> None:
    """Delete the users of runs whose time is over: their teardown never came."""
    over = {str(one.get("Sid", "")).rpartition("-")[0] for one in _statements(settings)}
    for name in sorted(over):
        match = _NAME.fullmatch(name)
        if match and int(match[1]) < now:
            delete(settings, name)


def _statements(settings: StoreSettings) -> list[dict[str, Any]]:
    with store_errors(f"policy of {settings.url}", 404) as refusal:
        text = s3(settings).get_bucket_policy(Bucket=settings.bucket)["Policy"]
    if refusal:
        return []
    statements: list[dict[str, Any]] = parse_json(text)["Statement"]
    return statements


@contextmanager
def _policy(settings: StoreSettings) -> Iterator[list[dict[str, Any]]]:
    """Yield the bucket's statements, and write back what they have become; one process at a time."""
    assert settings.data_dir is not None
    with hold_lock(settings.data_dir.parent / "policy.lock"):
        before = _statements(settings)
        after = [dict(one) for one in before]
        yield after
        with store_errors(f"policy of {settings.url}"):
            if after and after != before:
                document = json.dumps({"Version": "2012-10-17", "Statement": after})
                s3(settings).put_bucket_policy(Bucket=settings.bucket, Policy=document)
            elif before and not after:
                s3(settings).delete_bucket_policy(Bucket=settings.bucket)


def _admin(settings: StoreSettings, path: str, body: bytes, *expected: int) -> None:
    """Carry out a call of the server's own administration. Its secrets travel in the body: a command line would show them."""
    where = urlsplit(str(settings.endpoint))
    request = AWSRequest(
        method="PATCH", url=f"{settings.endpoint}{path}", data=body, headers={"X-Amz-Content-Sha256": hashlib.sha256(body).hexdigest()}
    )
    keys = Credentials(settings.access_key.reveal(), settings.secret_key.reveal())
    SigV4Auth(keys, "s3", settings.region).add_auth(request)
    connection = http.client.HTTPConnection(where.hostname or "", where.port, timeout=30)
    try:
        connection.request("PATCH", path, body, dict(request.headers))
        answer = connection.getresponse()
        text = answer.read().decode(errors="replace")
    except (OSError, http.client.HTTPException) as error:
        raise StoreError(f"users of the local store: it does not answer: {error}", passing=True) from error
    finally:
        connection.close()
    if answer.status >= 300 and answer.status not in expected:
        hint = "A server that was started by an older version has no users: invoke store.stop, then repeat the command."
        raise StoreError(f"users of the local store: it answered {answer.status} {text[:200]}", hint=hint)
