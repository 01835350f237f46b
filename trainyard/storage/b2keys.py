"""Keys of Backblaze B2 for one prefix of one bucket, which end by themselves; made and deleted by its own API.

They open the S3 endpoint like any other. Version 3 of the API on purpose: version 4 keeps keys for several buckets apart from
the rest, and a job's is for one. Every command asks for a token of its own: one lives for a day, and nothing here runs as long.
"""

from __future__ import annotations

import base64
import os
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from urllib.parse import urlsplit

import httpx

from trainyard.clouds.http import Api, check_address
from trainyard.errors import CloudUnknown, RefusedError, StoreError
from trainyard.jsontext import parse_json
from trainyard.secret import Secret
from trainyard.storage.answers import SKEW, is_passing
from trainyard.storage.client import StoreSettings

_DOMAIN = ".backblazeb2.com"
_HOME = "https://api.backblazeb2.com"
_VERSION = "/b2api/v3"
_NEEDED = ("listBuckets", "writeKeys", "deleteKeys")
"""What the stack's own key must be allowed; B2 gives the last two only to keys that are for all buckets."""
_READS = ("listFiles", "readFiles")
_WRITES = (*_READS, "writeFiles", "deleteFiles")
_LONGEST = 1000 * 24 * 3600 - 1
"""Seconds for which B2 makes a key at most."""
_HINTS: Mapping[str, str] = {
    "transaction_cap_exceeded": "The account's cap of calls is reached: raise it in the web console of B2.",
    "storage_cap_exceeded": "The account's cap of storage is reached: raise it in the web console of B2.",
}
_WRONG_KEY = "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY must be the id and the secret of an application key of B2 that has not ended."


@dataclass(frozen=True, slots=True)
class B2Key:
    """A key that B2 has made. ``end`` in epoch seconds."""

    id: str
    secret: Secret
    end: float


@dataclass(frozen=True, slots=True)
class _Account:
    """What a key opens: the account, the address of its API with a token, and what the key is allowed."""

    id: str
    api: Api
    capabilities: frozenset[str]


def is_b2(settings: StoreSettings) -> bool:
    """Tell whether a store is Backblaze B2."""
    return (urlsplit(settings.endpoint or "").hostname or "").endswith(_DOMAIN)


def refuse_unable(settings: StoreSettings) -> None:
    """Raise RefusedError where the stack's key may not make and delete keys, StoreError where B2 does not take it or is silent."""
    lacking = [name for name in _NEEDED if name not in _authorized(settings).capabilities]
    if lacking:
        hint = "Make an application key for all buckets with these capabilities (the web console gives none of the last two: "
        hint += "`b2 key create`), or leave pod_store out. Whoever has writeKeys has the whole account: it stays on this machine."
        raise RefusedError(f"pod_store: the stack's key of Backblaze B2 lacks {', '.join(lacking)}", hint=hint)


def create(settings: StoreSettings, prefix: str, until: float, now: float, *, writes: bool) -> B2Key:
    """Return a new key that reads below a prefix, and writes there too when asked; it ends at ``until`` at the latest.

    Raises StoreError when B2 refuses, is silent, or makes a key that opens more (which is deleted again).
    """
    account, capabilities = _authorized(settings), _WRITES if writes else _READS
    bucket = _bucket_id(settings, account)
    asked = {
        "accountId": account.id, "bucketId": bucket, "namePrefix": prefix, "capabilities": list(capabilities),
        "keyName": f"trainyard-job-{secrets.token_hex(4)}", "validDurationInSeconds": int(min(max(until - now, 1), _LONGEST)),
    }  # fmt: skip
    # Sent again when its answer is lost: nobody has heard the secret of a key that was made twice, and it ends by itself.
    answer = _call(account.api, "b2_create_key", asked)
    key = B2Key(_text(answer, "applicationKeyId"), Secret(_text(answer, "applicationKey")), _end(answer))
    within = answer.get("bucketId") == bucket and answer.get("namePrefix") == prefix and 0 < key.end <= until + SKEW
    if not within or not set(_texts(answer, "capabilities")) <= set(capabilities):
        _delete(account, key.id)
        raise StoreError(f"keys of {settings.url}: Backblaze B2 made one that opens more than was asked for; it was deleted again")
    return key


def delete(settings: StoreSettings, key: str) -> None:
    """Take a key away now; one that is gone is fine. Raises StoreError when B2 refuses or is silent."""
    _delete(_authorized(settings), key)


def _delete(account: _Account, key: str) -> None:
    # There is nothing in this request that could be wrong but the key: 400 says that there is none.
    _call(account.api, "b2_delete_key", {"applicationKeyId": key}, 400)


def _authorized(settings: StoreSettings) -> _Account:
    """Return what the stack's own key opens."""
    base = check_address("B2_API_URL", settings.keys_api) if settings.keys_api else _HOME
    pair = f"{settings.access_key.reveal()}:{settings.secret_key.reveal()}"
    api = _api(base, f"Basic {base64.b64encode(pair.encode()).decode()}")
    answer = _call(api, "b2_authorize_account", None)
    storage = _object(_object(answer, "apiInfo"), "storageApi")
    address = check_address("Backblaze B2's apiUrl", _text(storage, "apiUrl"))
    host = urlsplit(address).hostname or ""
    if host != urlsplit(base).hostname and not host.endswith(_DOMAIN):
        raise StoreError(f"keys of {settings.url}: Backblaze B2 names {host} as the place of its API, which is not its own")
    return _Account(
        _text(answer, "accountId"), _api(address, _text(answer, "authorizationToken")), frozenset(_texts(storage, "capabilities"))
    )


def _bucket_id(settings: StoreSettings, account: _Account) -> str:
    answer = _call(account.api, "b2_list_buckets", {"accountId": account.id, "bucketName": settings.bucket})
    buckets = answer.get("buckets")
    for bucket in buckets if isinstance(buckets, list) else []:
        if isinstance(bucket, dict) and bucket.get("bucketName") == settings.bucket:
            return _text(bucket, "bucketId")
    raise StoreError(f"keys of {settings.url}: this account of Backblaze B2 has no such bucket", hint="Is the key of the same account?")


def _api(base: str, authorization: str) -> Api:
    return Api("Backblaze B2", base, {"Authorization": authorization}, os.environ)


def _call(api: Api, name: str, body: Mapping[str, object] | None, *expected: int) -> dict[str, object]:
    """Return the JSON of a call's answer, {} for an expected refusal; raises StoreError in B2's own words."""
    path = f"{_VERSION}/{name}"
    try:
        response = api.read(path) if body is None else api.ask(path, body)
    except CloudUnknown as error:
        raise StoreError(error.message, passing=True) from error
    answer = _json(response)
    if answer is None:
        raise StoreError(f"{name}: what answered HTTP {response.status_code} is not Backblaze B2's API", passing=True)
    if response.status_code == 200:
        return answer
    if response.status_code in expected:
        return {}
    code, message = str(answer.get("code") or response.status_code), str(answer.get("message") or "")
    hint = _WRONG_KEY if response.status_code == 401 and body is None else _HINTS.get(code)
    passing = is_passing(code, response.status_code)
    raise StoreError(f"{name}: Backblaze B2 answered {code} {message}".rstrip(), hint=hint, code=code, passing=passing)


def _json(response: httpx.Response) -> dict[str, object] | None:
    try:
        answer = parse_json(response.content)
    except ValueError:
        return None
    return answer if isinstance(answer, dict) else None


def _object(answer: Mapping[str, object], name: str) -> dict[str, object]:
    value = answer.get(name)
    if not isinstance(value, dict):
        raise _lacks(name)
    return value


def _text(answer: Mapping[str, object], name: str) -> str:
    value = answer.get(name)
    if not isinstance(value, str) or not value:
        raise _lacks(name)
    return value


def _texts(answer: Mapping[str, object], name: str) -> Sequence[str]:
    value = answer.get(name)
    if not isinstance(value, list) or not all(isinstance(one, str) for one in value):
        raise _lacks(name)
    return value


def _end(answer: Mapping[str, object]) -> float:
    """Return when a key ends, 0 for one that does not."""
    value = answer.get("expirationTimestamp")
    return value / 1000 if isinstance(value, int) else 0.0


def _lacks(name: str) -> StoreError:
    return StoreError(f"Backblaze B2's answer lacks {name}: it is not its API, or another version of it")
