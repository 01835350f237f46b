"""Downloads against s5cmd, aws, rclone and boto3: one run, one server, interleaved; ours proves the sha256 of every file."""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
from pathlib import Path

from bench import ours, peers
from bench.measure import Usage, measure
from bench.servers import Endpoint, scratch, versitygw
from bench.transfers import OURS, Case, fill, order, rounds, show
from trainyard.pod.files import hash_file
from trainyard.secret import Secret
from trainyard.storage.client import StoreSettings
from trainyard.storage.manifest import PART_SIZE, Manifest, entry_of
from trainyard.storage.seal import seal

ROOT = Path(__file__).parents[1]


def main() -> None:
    """Run the benchmark and print its table."""
    asked = order(main.__doc__ or "")
    with scratch() as memory, versitygw(memory) as endpoint, tempfile.TemporaryDirectory(dir=ROOT / ".venv") as disk:
        os.environ["AWS_CA_BUNDLE"] = str(endpoint.certificate)  # of this process, which writes the manifests
        for case in asked.cases:
            publish(endpoint, case)
        clients = {name: peers.client(name, endpoint) for name in peers.install(asked.peers)}

        def run(case: Case, client: str) -> Usage:
            # Small files are where the disk counts: there they go to one, as they would.
            dest = (Path(disk) if case.name == "small" else memory) / "home"
            prefix = f"models/bench/{case.name}/1/"
            own = [sys.executable, "-m", "bench.ours", "download", prefix, str(dest)]
            argv = own if client == OURS else clients[client].download(prefix + "model/", str(dest))
            try:
                return measure(argv, peers.environment(endpoint), ROOT)
            finally:
                check(dest, case)
                shutil.rmtree(dest, ignore_errors=True)

        usage = rounds(asked, [OURS, *clients], run)
    names = {OURS: "trainyard, every sha256 proven"} | {name: client.name for name, client in clients.items()}
    notes = ("large files go to memory, small ones to the disk of the checkout", "ours brings files to disk (fsync), the others do not")
    show(f"Downloads from {endpoint.kind}", asked, names, usage, notes)


def publish(endpoint: Endpoint, case: Case) -> None:
    """Put a case into the bucket as a committed result: its objects are plain files for this server."""
    key = ours.result(f"models/bench/{case.name}/1/")
    folder = endpoint.data / key.model
    fill(folder, case)
    paths = sorted(path for path in folder.rglob("*") if path.is_file())
    entries = [entry_of(hash_file(str(path), PART_SIZE, False)[0], str(path.relative_to(folder.parent))) for path in paths]
    store = StoreSettings("s3", endpoint.url, "us-east-1", endpoint.bucket, Secret(endpoint.access_key), Secret(endpoint.secret_key))
    seal(store, Manifest(key, tuple(entries)))


def check(dest: Path, case: Case) -> None:
    """Exit when a client has not brought what it was asked for."""
    got = [path.stat().st_size for path in dest.rglob("*") if path.is_file()]
    if len(got) != case.files or sum(got) != case.bytes:
        sys.exit(f"bench: {len(got)} files with {sum(got)} bytes have arrived instead of {case.files} with {case.bytes}")


if __name__ == "__main__":
    main()
