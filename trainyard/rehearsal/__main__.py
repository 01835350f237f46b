"""``python -m trainyard.rehearsal CLOUD --root DIR [--port N]``: run a cloud's emulator until it is interrupted."""

from __future__ import annotations

import argparse
import signal
import sys
import threading
from pathlib import Path

from trainyard.errors import TrainyardError
from trainyard.rehearsal.emulators import emulator_of, emulators
from trainyard.rehearsal.kit import start


def main(arguments: list[str] | None = None) -> int:
    """Start the emulator, print the variables that lead a client there, wait for SIGINT or SIGTERM."""
    parser = argparse.ArgumentParser(prog="python -m trainyard.rehearsal", description=__doc__)
    parser.add_argument("cloud", choices=emulators())
    parser.add_argument("--root", type=Path, required=True, help="folder that holds the emulator's pods and ledger")
    parser.add_argument("--port", type=int, default=0, help="port on 127.0.0.1 (default: the last one used, else any)")
    parser.add_argument("--minute", type=int, default=None, help="requests a minute that the account may make (default: the cloud's own)")
    parser.add_argument("--latency", type=float, default=0.0, help="seconds before every answer (default: 0)")
    parser.add_argument("--end-pods", action="store_true", help="end all pods when the emulator is stopped")
    options = parser.parse_args(arguments)
    over = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: over.set())
    limits = {"minute": options.minute} if options.minute is not None else None
    try:
        cloud = emulator_of(options.cloud)
        emulator = start(cloud, options.root, port=options.port, limits=limits, latency=options.latency)
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
