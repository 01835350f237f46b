"""One call at work: in a thread of its own, where no signal is handled and no event loop of its caller's is in the way.

Nothing of the process is changed: no variable of the environment, no working directory, no signal handler. So calls in
several threads, each with a repository of its own, do not know of each other.
"""

from __future__ import annotations

import contextlib
import os
import tempfile
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Generic, NoReturn, TypeVar, cast

from trainyard.api.listener import EventListener, TrainingEvent
from trainyard.config import find_root, is_repository
from trainyard.envfile import read_env_file
from trainyard.errors import TrainyardError, UserError
from trainyard.faults import readable
from trainyard.network import PROXIES

if TYPE_CHECKING:
    from trainyard.runs.context import CommandContext

T = TypeVar("T")
Root = str | os.PathLike[str]
OnEvent = Callable[[TrainingEvent], object]
_OF_A_PROCESS = (
    *PROXIES, "SSL_CERT_FILE", "AWS_CA_BUNDLE", "AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE",
    "TRAINYARD_VERSITYGW", "TRAINYARD_LOCAL_PRICE", "TRAINYARD_LOCAL_MEMORY",
)  # fmt: skip
"""Variables that libraries, or machinery that all repositories share, read from the process: a call changes none of them."""


class Work(Generic[T]):
    """A call that goes on in its thread; its caller takes what it tells, and what it comes to."""

    def __init__(self, root: Root | None, call: Callable[[CommandContext], T]) -> None:
        self.listener = EventListener()
        self._value: T | None = None
        self._error: BaseException | None = None
        # A process that ends does not wait for it: what it was doing is then as if it had been killed, which costs no result.
        self._thread = threading.Thread(target=self._run, args=(root, call), name="trainyard", daemon=True)
        self._thread.start()

    def outcome(self) -> T:
        """Wait for what the call comes to; raises what it raised."""
        self._thread.join()
        if self._error is not None:
            raise self._error
        return cast(T, self._value)

    def leave(self) -> BaseException | None:
        """Have the call end where that does no harm, wait for it, and return what it raised."""
        self.listener.leave()
        self._thread.join()
        return self._error

    def left(self, why: BaseException) -> NoReturn:
        """Leave because of an exception in the caller's thread, and raise it; of a Ctrl-C what has become of the run tells more."""
        error = self.leave()
        if isinstance(why, KeyboardInterrupt) and isinstance(error, Exception):
            raise error from why
        if error is not None:
            why.add_note(str(error))
        raise why

    def _run(self, root: Root | None, call: Callable[[CommandContext], T]) -> None:
        try:
            self._value = self._called(root, call)
        except BaseException as error:
            self._error = error
        finally:
            self.listener.end()

    def _called(self, root: Root | None, call: Callable[[CommandContext], T]) -> T:
        from trainyard.runs.context import open_context

        environ = dict(os.environ)
        context: CommandContext | None = None
        try:
            folder = _repository(root, environ)
            _refuse_of_process(folder, environ)
            context = open_context(folder, self.listener, environ)
            return call(context)
        except Exception as error:
            known = readable(error, lambda: context.places.logs if context else Path(tempfile.gettempdir()))
            if known is error:
                raise
            raise known from error
        finally:
            if context is not None and (context.places.notices.is_dir() or context.places.trackers.is_dir()):
                from trainyard.runs.notices.announce import try_again
                from trainyard.runs.trackers.start import catch_up

                with contextlib.suppress(OSError, TrainyardError):  # as at the end of a verb: it costs nobody what the call has come to
                    try_again(context, time.time())
                    catch_up(context, time.time())


def finish(root: Root | None, call: Callable[[CommandContext], T], on_event: OnEvent | None) -> T:
    """Make a call and wait for what it comes to, telling ``on_event``, in this thread, what happens on the way."""
    work = Work(root, call)
    try:
        while (event := work.listener.take()) is not None:
            if on_event is not None:
                on_event(event)
    except BaseException as why:
        work.left(why)
    return work.outcome()


def _repository(root: Root | None, environ: dict[str, str]) -> Path:
    """Return the repository of a call: the one that is named, else the one that a command typed here would take."""
    if root is None:
        return find_root()
    environ.pop("TRAINYARD_PROJECT_DIR", None)  # it binds a shell to a repository, and this caller names one
    path = Path(root).resolve()
    if not is_repository(path):
        raise UserError(f"root={str(root)!r}: {path} is no repository of Trainyard's", hint="To make it one: trainyard init")
    return path


def _refuse_of_process(root: Path, environ: Mapping[str, str]) -> None:
    """Raise UserError where ``.env`` alone has a variable that has to be the process's own: it would count by half."""
    if alone := [name for name in read_env_file(root / ".env") if name in _OF_A_PROCESS and name not in environ]:
        raise UserError(
            f"{root / '.env'} sets {', '.join(alone)}, which a Python process has to have in its own environment",
            hint="Export it before Python starts. The commands take it from .env.",
        )
