"""Whether a store says of an object that a rule will expire it (``x-amz-expiration``): some tell it with every HEAD."""

from __future__ import annotations

import re

from trainyard.errors import StoreError
from trainyard.storage.answers import store_errors
from trainyard.storage.client import StoreSettings, s3

_SAID = re.compile(r'expiry-date="([^"]*)"(?:.*rule-id="([^"]*)")?')


def expiry_of(settings: StoreSettings, key: str) -> str | None:
    """Return when an object will be expired and by which rule, None where the store says nothing of it or cannot be asked."""
    try:
        with store_errors(f"look at {settings.url}/{key}"):
            text = str(s3(settings).head_object(Bucket=settings.bucket, Key=key).get("Expiration") or "")
    except StoreError:
        return None  # it only adds to a result that is safe
    match = _SAID.search(text)
    return f"on {match[1]} by rule '{match[2]}'" if match else None
