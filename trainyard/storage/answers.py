"""Turn what a store answered into our errors. Knows nothing of what was asked for."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from botocore.exceptions import BotoCoreError, ClientError, HTTPClientError

from trainyard.errors import StoreError

_HINTS = {
    "InvalidAccessKeyId": "The access key is not known to this store.",
    "SignatureDoesNotMatch": "The secret key does not belong to the access key.",
    "RequestTimeTooSkewed": "The clock of this machine is wrong.",
    "NoSuchBucket": "Create the bucket first: `invoke up`.",
    "InsufficientStorage": "Its disk is full: make room and repeat the command.",
    "507": "Its disk is full: make room and repeat the command.",
    "AuthorizationHeaderMalformed": "The region is wrong for this bucket.",
}


@contextmanager
def spoken(what: str) -> Iterator[None]:
    """Raise StoreError with the store's own words for anything that goes wrong inside."""
    try:
        yield
    except ClientError as error:
        message = str(error.response.get("Error", {}).get("Message") or "")
        found = code(error)
        raise StoreError(f"{what}: the store answered {found} {message}".rstrip(), hint=_HINTS.get(found)) from error
    except HTTPClientError as error:
        raise StoreError(f"{what}: the store does not answer: {error}") from error
    except BotoCoreError as error:
        raise StoreError(f"{what}: {error}") from error


def code(error: ClientError) -> str:
    """Return the store's error code, or the number of the HTTP status where it gave none (HEAD has no body)."""
    return str(error.response.get("Error", {}).get("Code") or status(error))


def status(error: ClientError) -> int:
    """Return the HTTP status of an error."""
    return int(error.response.get("ResponseMetadata", {}).get("HTTPStatusCode") or 0)
