"""How a command ends: an error becomes a sentence and a documented exit code, a Ctrl-C what it means by then."""

from __future__ import annotations

import os
import signal
import sys

# Little is loaded before a Ctrl-C is seen to: what loads takes longer than a person may need.
TYPE_CHECKING = False
if TYPE_CHECKING:
    from pathlib import Path
    from typing import NoReturn

INTERRUPTED = 130


def tell(error: BaseException) -> int:
    """Say an error to a person as it deserves and return the exit code."""
    from trainyard.errors import render
    from trainyard.faults import readable
    from trainyard.phrasing import as_typed

    if isinstance(error, KeyboardInterrupt):
        _say("interrupted")
        return INTERRUPTED
    if isinstance(error, BrokenPipeError):
        # Who read our output has gone: nothing more is to be said, and nothing is wrong.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    known = readable(error, _logs)
    if isinstance(error, OSError) and error.filename:
        known.hint = known.hint or _moves(error)
    _say(as_typed(render(known)))
    return known.exit_code


def send_notices() -> None:
    """At the end of a verb: have what is told to people elsewhere, and could not be sent, tried again. It costs no verb its exit code."""
    import contextlib
    import time

    from trainyard import config
    from trainyard.errors import TrainyardError

    with contextlib.suppress(OSError, TrainyardError):
        root = config.find_root()
        places = config.places(root)
        if not (places.notices.is_dir() or places.trackers.is_dir()):
            return
        from trainyard.runs.context import CommandContext
        from trainyard.runs.notices.announce import try_again
        from trainyard.runs.trackers.start import catch_up
        from trainyard.runs.ui import Ui

        context = CommandContext(places, config.load_env(root), Ui(json=True))
        try_again(context, time.time())
        catch_up(context, time.time())


def _say(text: str) -> None:
    """Print the last words. No Ctrl-C cuts them: who presses it twice must still read what costs money."""
    import contextlib
    import threading

    ours = threading.current_thread() is threading.main_thread()
    before = signal.signal(signal.SIGINT, signal.SIG_IGN) if ours else None
    with contextlib.suppress(OSError):  # a terminal that was closed hears nothing; the exit code stays
        print(text, file=sys.stderr, flush=True)
    if ours:
        signal.signal(signal.SIGINT, before)


def ready() -> None:
    """Let a verb begin: from here on a Ctrl-C is an exception, so that what was begun can be ended in order."""
    if signal.getsignal(signal.SIGINT) is leave_at_once:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def leave_at_once(number: int, frame: object) -> NoReturn:
    """End the process on a Ctrl-C that comes before anything was begun."""
    os.write(2, b"interrupted\n")
    os._exit(INTERRUPTED)


def _logs() -> Path:
    from pathlib import Path
    from tempfile import gettempdir

    from trainyard.config import places
    from trainyard.errors import UserError

    try:
        return places().logs
    except UserError:  # outside any repository
        return Path(gettempdir())


def _moves(error: OSError) -> str | None:
    """Say what moves the folders that we write to, when the file is in one of them."""
    from pathlib import Path

    from trainyard.config import places
    from trainyard.errors import UserError

    try:
        here = places()
    except UserError:
        return None
    path = Path(os.fsdecode(error.filename))
    ours = (here.home, here.outside, here.settings)
    if any(path == folder or folder in path.parents for folder in ours):
        return "TRAINYARD_HOME, TRAINYARD_LOCAL_ROOT and XDG_CONFIG_HOME say where Trainyard keeps its files."
    return None
