"""Who takes nothing of a stream for long is let go: a browser comes back by itself, and goes on where it was."""

from __future__ import annotations

import asyncio

from starlette.types import ASGIApp, Message, Receive, Scope, Send

PATIENCE = 30.0
"""Seconds in which a reader has to take a piece of a stream."""


class SlowReaders:
    """End streams of events that nobody takes; what they would have been told is not kept for them anywhere."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on."""
        stream = slow = False

        async def sent(message: Message) -> None:
            nonlocal stream, slow
            if message["type"] == "http.response.start":
                stream = (b"content-type", b"text/event-stream") in {(name, value.partition(b";")[0]) for name, value in message["headers"]}
            if not stream:
                await send(message)
                return
            try:
                await asyncio.wait_for(send(message), PATIENCE)
            except TimeoutError:
                slow = True
                raise OSError("this reader takes nothing") from None

        try:
            await self.app(scope, receive, sent if scope["type"] == "http" else send)
        except Exception:
            if not slow:
                raise
