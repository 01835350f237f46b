"""Creates and terminates pods in forked children, on order; see pods.Crashable."""

from __future__ import annotations

import os
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

from trainyard.clouds.local import LocalCloud
from trainyard.clouds.protocol import OfferQuery, PodSpec


def act(cloud: LocalCloud, verb: str, name: str) -> None:
    """Do one thing as a caller would."""
    if verb == "terminate":
        cloud.terminate(name)
        return
    end = datetime.now(UTC) + timedelta(seconds=90)
    key, host = os.environ["USER_KEY"], os.environ["HOST_KEY"]
    spec = PodSpec(name, "0123456789", "abcdef0123", stop=None, end=end, public_key=key, host_key=host)
    cloud.create(spec, cloud.offers(OfferQuery())[0])


def main() -> None:
    """Read orders until the input ends."""
    cloud, child = LocalCloud(Path(sys.argv[1])), 0
    cloud.offers(OfferQuery())
    import cryptography.hazmat.primitives.serialization  # noqa: F401  paid once, not in each child

    for line in sys.stdin:
        verb, name = line.split()
        if verb == "wait":
            print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
            continue
        child = os.fork()
        if not child:
            code = 1
            try:
                act(cloud, verb, name)
                code = 0
            finally:
                os._exit(code)
        print(child, flush=True)


if __name__ == "__main__":
    main()
