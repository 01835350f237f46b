"""A notice as a signed request to a person's own server, which can prove that it comes from here and was not changed on the way."""

from __future__ import annotations

import hashlib
import hmac
import json
from dataclasses import asdict

from trainyard.clock import format_time
from trainyard.runs.notices.notice import Notice
from trainyard.runs.notices.problem import SendProblem
from trainyard.secret import Secret

SCHEMES = ("webhook+http://", "webhook+https://")
KEY = "TRAINYARD_WEBHOOK_KEY"
_PATIENCE = 10.0
_LATER = (408, 425, 429)


def body_of(notice: Notice) -> bytes:
    """Return a notice as its receiver reads it."""
    return json.dumps({**asdict(notice), "time": format_time(notice.time)}, ensure_ascii=False).encode()


def signature(key: Secret, timestamp: str, body: bytes) -> str:
    """Return the HMAC-SHA256 over ``timestamp.body``, in hexadecimal digits: the time is signed, so that no request can be played again."""
    return hmac.new(key.reveal().encode(), timestamp.encode() + b"." + body, hashlib.sha256).hexdigest()


def post(url: str, notice: Notice, key: Secret | None, now: float) -> SendProblem | None:
    """Send a notice once; return why it could not be sent."""
    import httpx

    if key is None:
        return SendProblem(f"{KEY} is not set, with which requests are signed", again=False)
    body, timestamp = body_of(notice), str(int(now))
    headers = {
        "Content-Type": "application/json",
        "User-Agent": "trainyard",
        "X-Trainyard-Notice": notice.id,
        "X-Trainyard-Timestamp": timestamp,
        "X-Trainyard-Signature": f"sha256={signature(key, timestamp, body)}",
    }
    try:
        status = httpx.post(url.removeprefix("webhook+"), content=body, headers=headers, timeout=_PATIENCE).status_code
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        return SendProblem(f"no answer ({type(error).__name__})")
    if 200 <= status < 300:
        return None
    return SendProblem(f"the server answered {status}", again=status >= 500 or status in _LATER)
