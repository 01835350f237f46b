"""The official SDK behind one door: one client on an event loop of its own, a time limit for each call, its errors in our tree.

The SDK repeats what fails in passing by itself, up to three times, each with the idempotency key of the first. It has no time
limit of its own: here a call that is over its limit is cancelled.
"""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any, TypeVar

import modal
from modal import exception as errors

from trainyard.clouds.modal import grpcstatus
from trainyard.errors import CloudError, CloudRefused, CloudUnknown, NoCapacity
from trainyard.secret import Secret

T = TypeVar("T")
grpcstatus.settle()
CLIENT = 1
"""What the wire protocol calls a program outside of Modal."""
_REFUSED = (errors.AuthError, errors.PermissionDeniedError, errors.NotFoundError, errors.VersionError)
"""Not a name that is taken: names are of one lease, so something was made by a request whose answer was lost."""
_IMAGE = (errors.RemoteError, getattr(errors, "ImageBuildError", errors.RemoteError))


class OverTime(CloudUnknown):
    """A call took too long and was cancelled."""


@dataclass(slots=True)
class Sdk:
    """A client of one workspace, opened at its first call and anew after a fork."""

    url: str
    token_id: Secret
    token_secret: Secret
    _pid: int = 0
    _loop: asyncio.AbstractEventLoop | None = None
    _client: Any = None
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def ask(self, what: str, call: Callable[[Any], Awaitable[T]], seconds: float) -> T:
        """Return what a call of the SDK returns; its errors come as CloudError, only Modal's own "not found" as NotFoundError."""
        loop, client = self._opened()
        future = asyncio.run_coroutine_threadsafe(_limited(call(client), seconds), loop)
        try:
            return future.result(seconds + 30)
        except errors.NotFoundError:
            raise
        except TimeoutError:
            future.cancel()
            raise OverTime(f"Modal: {what}: no answer within {seconds:.0f} s") from None
        except Exception as error:  # somebody else's code: whatever it raises, something may have been done
            raise in_our_tree(error, what) from None

    def close(self) -> None:
        """Close the connections."""
        with self._lock:
            loop, client = self._loop, self._client
            if loop is None or self._pid != os.getpid():
                return
            asyncio.run_coroutine_threadsafe(client.close.aio(), loop).result(10)
            loop.call_soon_threadsafe(loop.stop)
            self._loop = self._client = None

    def _opened(self) -> tuple[asyncio.AbstractEventLoop, Any]:
        with self._lock:
            if self._loop is None or self._pid != os.getpid():
                loop = asyncio.new_event_loop()
                threading.Thread(target=loop.run_forever, name="modal", daemon=True).start()
                client = modal.Client(self.url, CLIENT, (self.token_id.reveal(), self.token_secret.reveal()))
                asyncio.run_coroutine_threadsafe(client.__aenter__(), loop).result(30)
                self._loop, self._client, self._pid = loop, client, os.getpid()
            return self._loop, self._client


async def _limited(call: Awaitable[T], seconds: float) -> T:
    return await asyncio.wait_for(call, seconds)


def in_our_tree(error: Exception, what: str) -> CloudError:
    """Return what an error of the SDK means: refused and no capacity only for what Modal says before it does anything."""
    text = f"Modal: {what}: {str(error) or type(error).__name__}"
    if isinstance(error, CloudError):
        return error
    if isinstance(error, errors.ResourceExhaustedError):
        return NoCapacity(text)
    # A conflict may be told of a sandbox that was made and is over already.
    invalid = isinstance(error, errors.InvalidError) and not isinstance(error, errors.ConflictError)
    return CloudRefused(text) if invalid or isinstance(error, (*_REFUSED, *_IMAGE)) else CloudUnknown(text)
