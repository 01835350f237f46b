"""The commands ``trainyard`` and ``invoke``: Invoke, where whatever goes wrong ends in a sentence and a documented exit code.

``trainyard`` has Trainyard's verbs wherever it is called; ``invoke`` has what the repository's tasks.py names.

A usage error is 2 and names what was meant; Ctrl-C is 130 from the first instant; what files, disks and networks
can be is told with its path; a mistake of ours is 70 and says where its traceback was written.
"""

from __future__ import annotations

import atexit
import gc
import os
import signal
import sys

from trainyard.cli.ending import leave_at_once, tell

# Little is loaded before main() has seen to Ctrl-C: what loads takes longer than a person may need.
TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import NoReturn


def trainyard() -> NoReturn:
    """Be the command ``trainyard``."""
    main(name="trainyard")


def main(argv: Sequence[str] | None = None, *, name: str = "invoke") -> NoReturn:
    """Run the verbs that a command line names, and end the process. ``name`` is that of the command."""
    # Until a verb begins nothing exists that a Ctrl-C could leave behind, and Python's own would show a traceback.
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, leave_at_once)
    _open_streams()
    try:
        from trainyard.cli.invokeprogram import program_of

        program = program_of(name)
        words = list(sys.argv[1:] if argv is None else argv)
        # Alone it says what there is to say; the options of Invoke itself are what nobody looks for then.
        program.run([name, *(words or ["--list"])])
        code = 0
    except SystemExit as left:
        code = left.code if isinstance(left.code, int) else 1 if left.code else 0
    except BaseException as error:
        code = tell(error)
    atexit.register(gc.freeze)  # or Python looks through all of it once more before it ends: a sixth of what starting and ending take
    code = _flushed(code)
    if signal.getsignal(signal.SIGINT) is not signal.SIG_IGN:
        # All is said: one more Ctrl-C only hurries the end, and must not change its code.
        signal.signal(signal.SIGINT, lambda *_: os._exit(code))
        atexit.register(signal.signal, signal.SIGINT, signal.SIG_IGN)  # Python's own end would put the default back
    if _lingers():
        os._exit(code)
    sys.exit(code)


def _lingers(patience: float = 2.0) -> bool:
    """Tell whether threads still wait for somebody's answer, which Python would wait for, too: a store that hangs may take minutes."""
    import threading
    import time

    until = time.monotonic() + patience
    others = [one for one in threading.enumerate() if one is not threading.main_thread() and not one.daemon]
    for one in others:
        one.join(max(0.0, until - time.monotonic()))
    return any(one.is_alive() for one in others)


def _open_streams() -> None:
    """Have all three streams, and none that a letter can break: a closed one's number would go to the next file opened."""
    import io

    for number, name in enumerate(("stdin", "stdout", "stderr")):
        if getattr(sys, name) is None:
            handle = os.open(os.devnull, os.O_RDWR)
            if handle != number:
                os.dup2(handle, number)
            setattr(sys, name, os.fdopen(number, "r" if number == 0 else "w", encoding="utf-8"))
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def _flushed(code: int) -> int:
    """Write out what was printed: a reader that has gone is no error, a full disk is one."""
    try:
        sys.stdout.flush()
        sys.stderr.flush()
    except OSError as error:
        code = tell(error)
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    return code


if __name__ == "__main__":
    from trainyard.cli.commandline import main as run  # the verbs import this module by its name: there must be one of it

    run()
