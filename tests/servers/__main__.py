"""``python -m tests.servers minio|ceph|postgres|registry|slurm [--serve]``: get a server; with --serve, run it until Ctrl-C."""

from __future__ import annotations

import argparse
import contextlib
import shlex
import signal
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from tests.servers import open_server, postgres, registry, servers, slurm
from tests.servers.common import ACCESS_KEY, SECRET_KEY, Unavailable


def main(arguments: Sequence[str] | None = None) -> int:
    """Get a server; 69 where this machine cannot have it."""
    parser = argparse.ArgumentParser(prog="python -m tests.servers", description=__doc__)
    parser.add_argument("name", choices=[*sorted(servers()), "postgres", "registry", "slurm"])
    parser.add_argument("--serve", action="store_true", help="run it until Ctrl-C and say how to reach it")
    given = parser.parse_args(arguments)
    try:
        print(
            f"{given.name}: {({**servers(), 'postgres': postgres, 'registry': registry, 'slurm': slurm})[given.name].obtain()}", flush=True
        )
        if given.serve:
            _serve(given.name)
    except Unavailable as error:
        print(f"{given.name} cannot be had here: {error}", file=sys.stderr)
        return 69
    return 0


def _serve(name: str) -> None:
    with contextlib.ExitStack() as stack:
        if name == "postgres":
            print(f"export TRAINYARD_LEDGER='{stack.enter_context(postgres.serve()).reveal()}'")
        elif name == "registry":
            folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="ts", dir="/tmp"))
            print(f"{stack.enter_context(registry.serve(Path(folder)))}: a registry of images, over plain HTTP")
        elif name == "slurm":
            folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="ts", dir="/tmp"))
            cluster = stack.enter_context(slurm.serve(Path(folder)))
            print(
                "\n".join(f"export {key}={shlex.quote(value)}" for key, value in {**cluster.env, "SLURM_CONF": str(cluster.conf)}.items())
            )
        else:
            folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="ts", dir="/tmp"))
            settings = stack.enter_context(open_server(name, Path(folder)))
            print(f"export AWS_ENDPOINT_URL={settings.endpoint} AWS_ACCESS_KEY_ID={ACCESS_KEY} AWS_SECRET_ACCESS_KEY={SECRET_KEY}")
        print("Its data go with it: Ctrl-C ends it.", flush=True)
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, signal.default_int_handler)
        with contextlib.suppress(KeyboardInterrupt):
            signal.pause()


if __name__ == "__main__":
    sys.exit(main())
