"""``python -m trainyard.rehearsal.runpod --root DIR [--port N]``: run the rehearsal until it is interrupted."""

from __future__ import annotations

import argparse
import signal
import sys
import threading
from pathlib import Path

from trainyard.errors import TrainyardError
from trainyard.rehearsal.runpod.emulator import start


def main(arguments: list[str] | None = None) -> int:
    """Start the rehearsal, print the variables that lead a client there, wait for SIGINT or SIGTERM."""
    parser = argparse.ArgumentParser(prog="python -m trainyard.rehearsal.runpod", description=__doc__)
    parser.add_argument("--root", type=Path, required=True, help="folder that holds the rehearsal's pods and ledger")
    parser.add_argument("--port", type=int, default=0, help="port on 127.0.0.1 (default: the last one used, else any)")
    parser.add_argument("--minute", type=int, default=60, help="requests a minute that the account may make")
    parser.add_argument("--end-pods", action="store_true", help="end all pods when the rehearsal is stopped")
    options = parser.parse_args(arguments)
    over = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: over.set())
    try:
        emulator = start(options.root, port=options.port, limits={"minute": options.minute})
    except TrainyardError as error:
        print(error, file=sys.stderr)
        return error.exit_code
    for name, value in emulator.env.items():
        print(f"export {name}={value}", flush=True)
    over.wait()
    emulator.stop(end_pods=options.end_pods)
    return 0


if __name__ == "__main__":
    sys.exit(main())
