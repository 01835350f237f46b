"""No request's body is larger than what any of them needs; it is refused before anything reads it."""

from __future__ import annotations

import contextlib

from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from trainyard.web.guard.refusal import answer

LONGEST = 1 << 20
"""Bytes of a body."""


class BodyTooLong(Exception):
    """More came than the headers had said, or than they may say."""


class BodyLimit:
    """Answer 413 to a body over LONGEST, whether its length is said or it comes in pieces."""

    def __init__(self, app: ASGIApp, longest: int = LONGEST) -> None:
        self.app, self.longest = app, longest

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, and count what comes of its body."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        said = dict(scope["headers"]).get(b"content-length", b"0")
        if not said.isdigit() or len(said) > 20 or int(said) > self.longest:
            await _refuse(self.longest)(scope, receive, send)
            return
        count, begun, over = 0, False, False

        async def counted() -> Message:
            nonlocal count, over
            message = await receive()
            count += len(message.get("body", b""))
            if count > self.longest:
                over = True
                raise BodyTooLong
            return message

        async def sent(message: Message) -> None:
            nonlocal begun
            if not over or begun:  # whoever has read it may make an answer of his own of that
                begun = True
                await send(message)

        with contextlib.suppress(BodyTooLong):
            await self.app(scope, counted, sent)
        if over and not begun:
            await _refuse(self.longest)(scope, receive, send)


def _refuse(longest: int) -> JSONResponse:
    return answer(413, f"a body may have {longest} bytes", title="Content Too Large", headers={"Connection": "close"})
