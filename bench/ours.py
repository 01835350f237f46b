"""What the benchmarks run as a process of its own: our download, or the commit of a folder as a pod's result.

python -m bench.ours download PREFIX FOLDER
python -m bench.ours upload FOLDER PREFIX      FOLDER plays a pod's output, the uploader runs beside it as on a pod
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

from trainyard.secret import Secret
from trainyard.storage.client import StoreSettings
from trainyard.storage.manifest import ResultKey


def settings() -> StoreSettings:
    """Return the benchmark's store."""
    access, secret = Secret(os.environ["AWS_ACCESS_KEY_ID"]), Secret(os.environ["AWS_SECRET_ACCESS_KEY"])
    return StoreSettings("s3", os.environ["AWS_ENDPOINT_URL"], "us-east-1", os.environ["BENCH_BUCKET"], access, secret)


def result(prefix: str) -> ResultKey:
    """Return the result of a prefix models/USER/RUN/ATTEMPT/..."""
    _, user, run, attempt = prefix.split("/")[:4]
    return ResultKey(user, run, int(attempt))


def main(words: list[str]) -> None:
    """Run one verb."""
    if words[0] == "download":
        from trainyard.storage.download import download

        download(settings(), words[1], Path(words[2]))
        return
    from trainyard.remote.local import LocalTransport
    from trainyard.storage.commit import commit

    transport = LocalTransport(env={**os.environ, "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"})
    commit(settings(), transport, result(words[2]), words[1], ["**"], logs={})


if __name__ == "__main__":
    main(sys.argv[1:])
