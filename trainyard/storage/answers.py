"""Turn what a store answered into our errors. Knows nothing of what was asked for."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from types import ModuleType

from trainyard.errors import StoreError

_HINTS = {
    "InvalidAccessKeyId": "The access key is not known to this store.",
    "XAdminUserNotFound": "The access key is not known to this store.",
    "SignatureDoesNotMatch": "The secret key does not belong to the access key.",
    "RequestTimeTooSkewed": "The clock of this machine is wrong: set it, then repeat the command.",
    "ExpiredToken": "The session token is over: get a new one.",
    "InvalidToken": "The session token is not known to this store.",
    "NoSuchBucket": "The stack whose bucket it is makes it: 'invoke up' with the --stack that it is of (each has a Pulumi.*.yaml here).",
    "InsufficientStorage": "Its disk is full: make room and repeat the command.",
    "507": "Its disk is full: make room and repeat the command.",
    "AuthorizationHeaderMalformed": "The region is wrong for this bucket.",
    "AccessDenied": "The key lacks a right, or the bucket is somebody else's: `invoke store.check` of its stack tells which.",
}

SKEWED = "RequestTimeTooSkewed"
BAD_KEYS = ("InvalidAccessKeyId", "XAdminUserNotFound", "SignatureDoesNotMatch", SKEWED, "ExpiredToken", "InvalidToken")
"""The request was not believed to be ours: it says nothing about what it asked for."""
DENIED = ("AccessDenied", "403", "AllAccessDisabled", "UnauthorizedAccess")
"""The request was believed, and what it asked for is not allowed. HEAD has no body: there 403 is all that is said."""
UNKNOWN_HERE = ("InvalidArgument", "NotImplemented", "InvalidRequest", "MethodNotAllowed", "MalformedXML", "400", "405", "501")
"""How stores say that they do not know a header or a call."""
SKEW = 900.0
"""Seconds by which a clock may be wrong: S3 refuses a signature beyond them."""
_PASSING = ("SlowDown", "ServiceUnavailable", "InternalError", "RequestTimeout", "Throttling", "ThrottlingException", "OperationAborted")


def hint_for(code: str) -> str | None:
    """Return what a person can do about a store's refusal."""
    return _HINTS.get(code)


def clock_off(headers: Mapping[str, str], now: float) -> float:
    """Return by how many seconds this machine's clock is ahead of the Date of a store's answer (behind: negative); 0 without one."""
    from email.utils import parsedate_to_datetime

    try:
        return now - parsedate_to_datetime(str(headers["date"])).timestamp()
    except (KeyError, ValueError, TypeError):
        return 0.0


def _clock_words(off: float) -> str:
    minutes = round(abs(off) / 60)
    amount = f"{minutes} minutes" if minutes < 120 else f"{minutes // 60} hours"
    return f"this machine's clock is {amount} {'ahead of' if off > 0 else 'behind'} the store's"


def is_passing(code: str, status: int) -> bool:
    """Tell whether a store's refusal is the moment's fault. A full disk is not: somebody has to make room."""
    if code in ("NotImplemented", "InsufficientStorage") or status in (501, 505, 507):
        return False
    return code in _PASSING or status in (408, 425, 429) or status >= 500


@dataclass(slots=True)
class StoreRefusal:
    """A refusal that the caller said it can deal with; ``code`` is empty when there was none."""

    code: str = ""
    status: int = 0

    def __bool__(self) -> bool:
        return bool(self.code)


@contextmanager
def store_errors(what: str, *expected: int | str) -> Iterator[StoreRefusal]:
    """Raise StoreError with the store's own words for anything that goes wrong inside.

    A refusal whose status or code is ``expected`` ends the block and is told by the yielded StoreRefusal.
    """
    refusal = StoreRefusal()
    try:
        yield refusal
    except _client().ClientError as error:  # looked up when something is raised: most blocks need none of it
        # HEAD has no body: there the number of the status is all the code there is.
        status = int(error.response.get("ResponseMetadata", {}).get("HTTPStatusCode") or 0)
        code = str(error.response.get("Error", {}).get("Code") or status)
        if status in expected or code in expected:
            refusal.code, refusal.status = code, status
            return
        message = str(error.response.get("Error", {}).get("Message") or "")
        sentence = f"{what}: the store answered {code} {message}".rstrip()
        off = clock_off(error.response.get("ResponseMetadata", {}).get("HTTPHeaders", {}), time.time())
        if status == 403 and abs(off) > SKEW:  # some stores say of a wrong clock that the signature is wrong
            raise StoreError(f"{sentence} ({_clock_words(off)})", hint=hint_for(SKEWED), code=SKEWED) from error
        raise StoreError(sentence, hint=hint_for(code), code=code, passing=is_passing(code, status)) from error
    except (_client().HTTPClientError, _client().ConnectionError) as error:
        raise StoreError(f"{what}: the store does not answer: {error}", passing=True) from error
    except _wire().HTTPError as error:
        raise StoreError(f"{what}: {error}", passing=True) from error  # cut off in the middle of a body
    except (_parsers().ResponseParserError, KeyError) as error:
        # A page of a proxy, or a 200 that lacks what it must hold: nobody has answered the question.
        raise StoreError(f"{what}: the answer is none of S3's: {str(error)[:200]}", passing=True) from error
    except _client().BotoCoreError as error:
        raise StoreError(f"{what}: {error}") from error


def _client() -> ModuleType:
    import botocore.exceptions

    return botocore.exceptions  # type: ignore[no-any-return]


def _parsers() -> ModuleType:
    import botocore.parsers

    return botocore.parsers  # type: ignore[no-any-return]


def _wire() -> ModuleType:
    import urllib3.exceptions

    return urllib3.exceptions
