"""The plugin's process: start fast, serve, and know when to end.

Contract with an engine: argv[1] is its address, the port is printed on the first line of stdout, and stdin
is a pipe that ends when the engine dies. Idle means exit at once on Cancel, SIGINT, SIGTERM or the end of
stdin; at work, waiting stops, the request in flight is finished and written down, then the process exits.
"""

from __future__ import annotations

import asyncio
import signal
import sys
from collections.abc import Sequence

from trainyard.engine import stubs


def main(argv: Sequence[str] | None = None) -> None:
    """Serve until told to stop."""
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, signal.SIG_DFL)  # stopped while it loads it has nothing to say, least of all a traceback
    arguments = list(sys.argv[1:] if argv is None else argv)
    stubs.protocol_only()
    from trainyard.provider.process import serve

    asyncio.run(serve(arguments[0] if arguments else None))


if __name__ == "__main__":
    main()
