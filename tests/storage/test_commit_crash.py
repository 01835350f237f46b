"""Kill the controller, the server or both in the middle of a commit; then commit again. Nothing may be lost or half done."""

from __future__ import annotations

import contextlib
import json
import os
import random
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from tests.storage.conftest import Workspace, fresh_bucket
from tests.storage.lying_proxy import Act, Fault, LyingProxy
from tests.storage.test_commit import EXCLUDES, OUTPUTS, WHERE, assert_result_is, keys, open_uploads, run
from trainyard import processes
from trainyard.config import Places
from trainyard.errors import StoreError
from trainyard.storage import local
from trainyard.storage.client import StoreSettings
from trainyard.storage.commit import committed

SAMPLE = int(os.environ.get("TRAINYARD_CRASH_POINTS", 3))

PRELUDE = """
import json, sys
from pathlib import Path
from trainyard.remote.local import LocalTransport
from trainyard.secret import Secret
from trainyard.storage.client import StoreSettings
from trainyard.storage.commit import commit
from trainyard.storage.manifest import ResultKey
told = json.loads(sys.stdin.read())
settings = StoreSettings(kind="local", endpoint=told["endpoint"], region="us-east-1", bucket=told["bucket"], attempts=1,
                         checksums=told["checksums"], conditional=told["conditional"],
                         access_key=Secret(told["access"]), secret_key=Secret(told["secret"]))
where, output = ResultKey(*told["where"]), Path(told["output"])
"""
COMMIT = """
commit(settings, LocalTransport(), where, str(output), told["outputs"], told["excludes"], part_size=5 << 20)
"""


def controller(settings: StoreSettings, pod: Workspace, program: str = COMMIT, **more: object) -> subprocess.Popen[bytes]:
    """Start a controller in a process of its own; its requests go through the proxy, ``more`` is told to it, too."""
    told = {
        "endpoint": settings.endpoint, "bucket": settings.bucket, "access": settings.access_key.reveal(),
        "secret": settings.secret_key.reveal(), "where": [WHERE.user, WHERE.run, WHERE.attempt],
        "output": pod.output, "outputs": OUTPUTS, "excludes": EXCLUDES,
        "checksums": settings.checksums, "conditional": settings.conditional, **more,
    }  # fmt: skip
    env = {**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    started = subprocess.Popen([sys.executable, "-c", PRELUDE + program], stdin=subprocess.PIPE, stderr=subprocess.PIPE, env=env)
    assert started.stdin
    started.stdin.write(json.dumps(told).encode())
    started.stdin.close()
    return started


def killer(running: list[subprocess.Popen[bytes]]) -> Callable[[], None]:
    def kill() -> None:
        for one in running:
            with contextlib.suppress(ProcessLookupError):
                os.kill(one.pid, signal.SIGKILL)

    return kill


def finish(started: subprocess.Popen[bytes]) -> int:
    with started:
        assert started.stderr
        started.stderr.read()
    return started.returncode


def requests_of_a_whole_commit(through: StoreSettings, proxy: LyingProxy, pod: Workspace) -> tuple[int, int]:
    """Return how many requests a commit takes, and which of them writes ``_SUCCESS``."""
    run(through, pod)
    count = len(proxy.seen)
    sealed = next(i for i, one in enumerate(proxy.seen) if one.operation == "Put" and one.key.endswith(WHERE.success))
    assert count > 20
    proxy.reset()
    return count, sealed


def test_a_controller_killed_at_any_request_leaves_a_commit_that_the_next_one_finishes(
    through: StoreSettings, settings: StoreSettings, proxy: LyingProxy, pod: Workspace, tmp_path: Path
) -> None:
    seed = int(os.environ["TRAINYARD_TEST_SEED"])
    print(f"seed {seed}: TRAINYARD_TEST_SEED={seed} repeats it")
    chance = random.Random(seed)
    total, sealed = requests_of_a_whole_commit(through, proxy, pod)
    # Each slice of the commit gets one kill; the last slice holds manifest and _SUCCESS.
    points = [chance.randrange(i * total // SAMPLE, max((i + 1) * total // SAMPLE, i * total // SAMPLE + 1)) for i in range(SAMPLE)]
    for number, point in enumerate(points):
        bucket_settings = replace(through, bucket=fresh_bucket(settings).bucket)
        act: Act = chance.choice(["call", "call after"])
        running: list[subprocess.Popen[bytes]] = []
        proxy.faults.append(Fault("any", act, after=point, then=killer(running)))
        running.append(controller(bucket_settings, pod))
        code = finish(running[0])
        assert code == -signal.SIGKILL, f"request {point} ({act}) was never reached: {code}"
        proxy.reset()
        direct = replace(bucket_settings, endpoint=settings.endpoint)
        before = committed(direct, WHERE)
        if before is not None:
            assert point >= sealed - 1, "a result counted before everything was proven"
        run(direct, pod)
        assert_result_is(direct, pod, tmp_path / f"home{number}")
        assert open_uploads(direct) == 0, f"request {point} ({act}): an upload was left open"


@pytest.mark.parametrize("operation", ["UploadPart", "Complete", "Put"])
def test_a_server_killed_in_the_middle_of_a_commit_comes_back_and_the_commit_goes_on(
    operation: str,
    through: StoreSettings,
    settings: StoreSettings,
    proxy: LyingProxy,
    pod: Workspace,
    tmp_path: Path,
    store_places: Places,
) -> None:
    def kill_server() -> None:
        pid = local.status(store_places).pid
        assert pid
        mark = processes.start_mark(pid)
        os.kill(pid, signal.SIGKILL)
        processes.wait_until_gone(pid, str(mark), 5)

    proxy.faults.append(Fault(operation, "call", then=kill_server))
    done = run(through, pod)
    assert proxy.faults[0].done == 1 and not done.already
    assert local.status(store_places).running
    assert_result_is(settings, pod, tmp_path / "home")


def test_two_controllers_at_once_end_with_one_whole_result(
    through: StoreSettings, settings: StoreSettings, pod: Workspace, tmp_path: Path
) -> None:
    both = [controller(through, pod), controller(through, pod)]
    codes = [finish(one) for one in both]
    assert 0 in codes, codes
    assert committed(settings, WHERE) is not None
    assert_result_is(settings, pod, tmp_path / "home")


def test_a_full_disk_is_said_and_the_commit_goes_on_after_room_was_made(pod: Workspace, tmp_path: Path, binary: Path) -> None:
    """The server runs on a 24 MiB filesystem of its own, in a mount namespace."""
    if subprocess.run(["unshare", "-rm", "true"], capture_output=True, check=False).returncode:
        pytest.skip("this system lets nobody mount a small filesystem: the full disk is not tried")
    import tempfile

    from tests.storage.conftest import places_at
    from trainyard.storage import bucket
    from trainyard.storage.client import s3, with_bucket

    with tempfile.TemporaryDirectory(prefix="tyf") as root:
        places = places_at(Path(root))
        small = tmp_path / "small"
        store = places.store
        small.write_text(
            '#!/bin/sh\nexec unshare -rm sh -c \'mount -t tmpfs -o size=24m tmpfs "$0" && '
            f'mkdir -p {store}/data {store}/versions {store}/users && exec {binary} "$@"\' {store} "$@"\n'
        )
        small.chmod(0o755)
        settings = replace(with_bucket(local.ensure(places, binary=small), "small"), attempts=1)
        try:
            bucket.adopt_or_create(settings)
            s3(settings).put_object(Bucket="small", Key="ballast", Body=b"b" * (18 << 20))
            with pytest.raises(StoreError, match=r"(?i)InsufficientStorage|507") as caught:
                run(settings, pod)
            assert WHERE.success not in keys(settings), caught.value
            version = s3(settings).list_object_versions(Bucket="small")["Versions"][0]["VersionId"]
            bucket.forget(settings, "ballast", version)
            run(settings, pod)
            assert_result_is(settings, pod, tmp_path / "home")
        finally:
            local.stop(places)
