"""The tools beside the packages: the second half of ``./bootstrap`` (``python -m trainyard.setup.tools ROOT``), and `invoke setup`.

Exit codes: 0 everything is there, 3 something optional is missing and was named.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from pathlib import Path

from trainyard.clouds.local import LocalCloud
from trainyard.config import places
from trainyard.errors import TrainyardError
from trainyard.phrasing import TYPED, typed
from trainyard.setup import pulumicli, s3server
from trainyard.setup.console import INCOMPLETE, NO_SPACE, SETUP_VERBS, OnLine, SetupError, end_on_signals, os_failure, say
from trainyard.stacks.installed import OURS


def main(root: Path, env: Mapping[str, str], on_line: OnLine = say) -> int:
    """Set up S3 server and Pulumi CLI, look at what local pods find, one sentence each."""
    complete = _s3_server(env, on_line)
    _local_pods(root, env, on_line)
    cli = pulumicli.ensure(OURS, env, on_line)
    on_line(cli.text)
    return 0 if complete and cli.complete else INCOMPLETE


def _s3_server(env: Mapping[str, str], on_line: OnLine) -> bool:
    try:
        on_line(f"Local S3 server: {s3server.ensure(env, on_line)}.")
    except SetupError as error:
        if error.exit_code == NO_SPACE:
            raise
        # Clouds with a bucket of their own need none: the stacks that do will say so again.
        on_line(f"WARNING: {error}")
        on_line("Everything but the bucket of the 'local' stack works without it; try again with: invoke setup")
        return False
    return True


def _local_pods(root: Path, env: Mapping[str, str], on_line: OnLine) -> None:
    """Say how local pods will be kept and which SSH server they get; nothing is installed for them."""
    try:
        for name, _, text in LocalCloud(places(root, env).cloud).doctor()[:2]:
            on_line(f"{name.capitalize()}: {text}.")
    except TrainyardError as error:
        on_line(f"WARNING: {error}")


if __name__ == "__main__":
    end_on_signals()
    typed(os.environ.pop(TYPED, "invoke"), SETUP_VERBS)
    try:
        sys.exit(main(Path(sys.argv[1]), os.environ))
    except SetupError as error:
        say(f"bootstrap: {error}")
        sys.exit(error.exit_code)
    except OSError as error:
        failed = os_failure(error, "setting up the tools")
        say(f"bootstrap: {failed}")
        sys.exit(failed.exit_code)
    except KeyboardInterrupt:
        sys.exit(130)
