"""The plugin's process: start fast, serve, and know when to end.

Contract with an engine: argv[1] is its address, the port is printed on the first line of stdout, and stdin
is a pipe that ends when the engine dies. Idle means exit at once on Cancel, SIGINT, SIGTERM or the end of
stdin; at work, waiting stops, the request in flight is finished and written down, then the process exits.
"""

from __future__ import annotations

import asyncio
import importlib.util
import os
import sys
import types
from collections.abc import Sequence


def main(argv: Sequence[str] | None = None) -> None:
    """Serve until told to stop."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")  # grpc reports each closed connection on stderr otherwise
    stand_in()
    from trainyard.provider.process import serve

    asyncio.run(serve(arguments[0] if arguments else None))


def stand_in() -> None:
    """Register empty ``pulumi`` and ``pulumi.runtime`` modules, so that the protocol's stubs load without the SDK.

    The SDK's own import takes longer than everything else this process does (0.35 s of 0.65 s measured).
    """
    if "pulumi" in sys.modules:
        return
    spec = importlib.util.find_spec("pulumi")
    if spec is None or not spec.submodule_search_locations:
        return
    root = next(iter(spec.submodule_search_locations))
    for name, path in (("pulumi", root), ("pulumi.runtime", os.path.join(root, "runtime"))):
        module = types.ModuleType(name)
        module.__path__ = [path]
        sys.modules[name] = module


if __name__ == "__main__":
    main()
