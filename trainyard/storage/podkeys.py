"""Short-lived keys for a job that speaks S3 itself: for one prefix to read and one to write, ended with its lease.

Which way a store has is known by its kind: STS with a session policy (Amazon, MinIO, Ceph), a token signed here (R2), an
application key (Backblaze B2), a user of the local server. A store that has none is refused, and long-lived keys go out only
where a person has said so.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal
from urllib.parse import urlsplit

from trainyard.errors import RefusedError, UserError
from trainyard.secret import Secret
from trainyard.storage import b2keys, podusers
from trainyard.storage.answers import store_errors
from trainyard.storage.client import StoreSettings, sts

Way = Literal["sts", "token", "b2", "user", "own"]
SHORTEST = 900
"""Seconds: STS gives no shorter keys."""
_LONGEST = 12 * 3600
_EVERY_ROLE = 3600
"""What each role allows unless it says otherwise."""
_ANY_ROLE = "arn:aws:iam::000000000000:role/any"
"""MinIO and Ceph want one and do not look at it, or at their own."""


@dataclass(frozen=True, slots=True)
class KeyScope:
    """What a job may do: read below one prefix (empty: nothing), read and write below another (empty: nothing)."""

    read: str
    write: str


@dataclass(frozen=True, slots=True)
class PodKeys:
    """Keys for a job, and what they open. ``user`` is the user or key to delete afterwards; ``end`` in epoch seconds, None: they do not."""

    way: Way
    env: Mapping[str, Secret]
    scope: KeyScope
    end: float | None
    user: str | None = None


def way_of(settings: StoreSettings, role: str | None, *, own: bool) -> Way:
    """Return how a store gives keys that end; raises RefusedError where it has no such keys, UserError where a setting is missing."""
    if own:
        return "own"
    if settings.kind == "local":
        return "user"
    if settings.kind == "r2":
        return "token"
    if b2keys.is_b2(settings):
        return "b2"
    if settings.kind == "runpod":
        hint = "Leave pod_store out: results and data travel by signed requests. Or take a store with STS, R2, B2 or the local one."
        raise RefusedError("RunPod's S3 has no keys for one prefix that end by themselves: a pod gets none", hint=hint)
    if settings.kind == "aws" and not role:
        hint = "Make a role that the controller may assume, with rights on this bucket: docs/stores.md says which."
        raise UserError("pod_store needs `trainyard:store_role`, the ARN of a role, with store aws", hint=hint)
    return "sts"


def has_one_prefix(settings: StoreSettings) -> bool:
    """Tell whether a key of a store opens one prefix only: a job that may write then reads nowhere else."""
    return settings.kind == "r2" or b2keys.is_b2(settings)


def refuse_impossible(settings: StoreSettings, role: str | None, *, own: bool) -> None:
    """Raise what way_of() raises, and RefusedError where the stack's own key may not make others: before anything is rented."""
    if way_of(settings, role, own=own) == "b2":
        b2keys.refuse_unable(settings)


def issue(settings: StoreSettings, scope: KeyScope, until: float, now: float, *, role: str | None, own: bool = False) -> PodKeys:
    """Return new keys for one job that end at ``until`` at the latest; raises what way_of() raises, StoreError when the store refuses."""
    way = way_of(settings, role, own=own)
    if way == "own":
        return PodKeys("own", _env(settings, settings.access_key, settings.secret_key, settings.session_token), scope, settings.keys_end)
    if scope.write and has_one_prefix(settings):
        scope = KeyScope("", scope.write)
    if way == "token":
        return _signed_token(settings, scope, until, now)
    if way == "b2":
        key = b2keys.create(settings, scope.write or scope.read, until, now, writes=bool(scope.write))
        return PodKeys("b2", _env(settings, Secret(key.id), key.secret, None), scope, key.end, key.id)
    if way == "user":
        name, word = podusers.create(settings, _statements(settings, scope), until, now)
        return PodKeys("user", _env(settings, Secret(name), word, None), scope, until, name)
    return _assumed(settings, scope, until - now, role)


def withdraw(settings: StoreSettings, user: str) -> None:
    """Take the key of a job away now; what ends by itself cannot be taken away before."""
    if b2keys.is_b2(settings):
        b2keys.delete(settings, user)
    else:
        podusers.delete(settings, user)


def _env(settings: StoreSettings, access: Secret, secret: Secret, token: Secret | None) -> dict[str, Secret]:
    """Return what every S3 client reads. The region of R2 is called auto there, too."""
    env = {"AWS_ACCESS_KEY_ID": access, "AWS_SECRET_ACCESS_KEY": secret, "AWS_REGION": Secret(settings.region)}
    env |= {"AWS_SESSION_TOKEN": token} if token else {}
    if settings.endpoint:
        env |= {"AWS_ENDPOINT_URL": Secret(settings.endpoint), "AWS_ENDPOINT_URL_S3": Secret(settings.endpoint)}
    return env


def _statements(settings: StoreSettings, scope: KeyScope) -> list[dict[str, Any]]:
    bucket = f"arn:aws:s3:::{settings.bucket}"
    statements: list[dict[str, Any]] = []
    if scope.read:
        statements.append({"Action": ["s3:GetObject"], "Resource": [f"{bucket}/{scope.read}*"]})
    if scope.write:
        actions = ["s3:PutObject", "s3:GetObject", "s3:DeleteObject", "s3:AbortMultipartUpload", "s3:ListMultipartUploadParts"]
        statements.append({"Action": actions, "Resource": [f"{bucket}/{scope.write}*"]})
    prefixes = [f"{prefix}*" for prefix in (scope.read, scope.write) if prefix]
    statements.append({"Action": ["s3:ListBucket"], "Resource": [bucket], "Condition": {"StringLike": {"s3:prefix": prefixes}}})
    return statements


def _assumed(settings: StoreSettings, scope: KeyScope, seconds: float, role: str | None) -> PodKeys:
    """Ask STS for keys of the role, cut down to the scope; a role that allows an hour at most gives an hour."""
    statements = [{"Effect": "Allow", **one} for one in _statements(settings, scope)]
    policy = json.dumps({"Version": "2012-10-17", "Statement": statements}, separators=(",", ":"))
    longest = int(min(max(seconds, SHORTEST), _LONGEST))
    bound = {"RoleArn": role or _ANY_ROLE, "RoleSessionName": "trainyard-job", "Policy": policy}
    for duration in dict.fromkeys((longest, min(longest, _EVERY_ROLE))):
        last = duration == min(longest, _EVERY_ROLE)
        with store_errors("short-lived keys by STS", *(() if last else ("ValidationError", "InvalidParameterValue"))) as refusal:
            answer = sts(settings).assume_role(**bound, DurationSeconds=duration)["Credentials"]
        if not refusal:
            break
    keys = (Secret(answer["AccessKeyId"]), Secret(answer["SecretAccessKey"]), Secret(answer["SessionToken"]))
    return PodKeys("sts", _env(settings, *keys), scope, answer["Expiration"].timestamp())


def _signed_token(settings: StoreSettings, scope: KeyScope, until: float, now: float) -> PodKeys:
    """Sign a token for R2 with the controller's own key; nobody is asked. One scope holds for all its prefixes: to write, or to read."""
    host = urlsplit(str(settings.endpoint)).hostname or ""
    end = min(until, now + 7 * 24 * 3600)
    claims = {
        "bucket": settings.bucket, "scope": "object-read-write" if scope.write else "object-read-only",
        "paths": {"prefixPaths": [scope.write or scope.read], "objectPaths": []}, "sub": host.partition(".")[0],
        "iss": settings.access_key.reveal(), "aud": host, "iat": int(now), "exp": int(end),
    }  # fmt: skip
    parts = [_base64url(json.dumps(part, separators=(",", ":")).encode()) for part in ({"alg": "HS256", "typ": "JWT"}, claims)]
    signed = ".".join(parts)
    mac = hmac.new(settings.secret_key.reveal().encode(), signed.encode(), hashlib.sha256).digest()
    jwt = f"{signed}.{_base64url(mac)}"
    secret = Secret(hashlib.sha256(jwt.encode()).hexdigest())
    token = Secret(base64.b64encode(f"jwt/{jwt}".encode()).decode())
    return PodKeys("token", _env(settings, settings.access_key, secret, token), scope, float(int(end)))


def _base64url(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()
