"""Turn what a store answered into our errors. Knows nothing of what was asked for."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from botocore.exceptions import BotoCoreError, ClientError, HTTPClientError
from botocore.exceptions import ConnectionError as NoConnection
from urllib3.exceptions import HTTPError

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


@dataclass(slots=True)
class Refusal:
    """A refusal that the caller said it can deal with; ``code`` is empty when there was none."""

    code: str = ""
    status: int = 0

    def __bool__(self) -> bool:
        return bool(self.code)


@contextmanager
def spoken(what: str, *expected: int | str) -> Iterator[Refusal]:
    """Raise StoreError with the store's own words for anything that goes wrong inside.

    A refusal whose status or code is ``expected`` ends the block and is told by the yielded Refusal.
    """
    refusal = Refusal()
    try:
        yield refusal
    except ClientError as error:
        # HEAD has no body: there the number of the status is all the code there is.
        found = int(error.response.get("ResponseMetadata", {}).get("HTTPStatusCode") or 0)
        code = str(error.response.get("Error", {}).get("Code") or found)
        if found in expected or code in expected:
            refusal.code, refusal.status = code, found
            return
        message = str(error.response.get("Error", {}).get("Message") or "")
        raise StoreError(f"{what}: the store answered {code} {message}".rstrip(), hint=_HINTS.get(code)) from error
    except (HTTPClientError, NoConnection) as error:
        raise StoreError(f"{what}: the store does not answer: {error}") from error
    except (BotoCoreError, HTTPError) as error:
        raise StoreError(f"{what}: {error}") from error
