"""Uploads against s5cmd, aws, rclone and boto3: one run, one server, interleaved; ours is a whole commit with its proof."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

from bench import peers
from bench.measure import Usage, measure
from bench.servers import scratch, sink
from bench.transfers import OURS, Case, fill, order, rounds, show

ROOT = Path(__file__).parents[1]


def main() -> None:
    """Run the benchmark and print its table."""
    asked = order(__doc__ or "")
    with scratch() as memory:
        for case in asked.cases:
            fill(memory / case.name / "output" / "model", case)
        installed, number = peers.install(asked.peers), 0

        def run(case: Case, client: str) -> Usage:
            nonlocal number
            number += 1
            place = memory / f"server-{number}"
            place.mkdir()
            folder, prefix = memory / case.name / "output", f"models/bench/{case.name}/1/"
            try:
                with sink(place, case.bytes) as endpoint:
                    own = [sys.executable, "-m", "bench.ours", "upload", str(folder), prefix]
                    argv = own if client == OURS else peers.client(client, endpoint).upload(str(folder / "model"), prefix + "model/")
                    names[client] = kind if client == OURS else peers.client(client, endpoint).name
                    return measure(argv, peers.environment(endpoint), ROOT)
            finally:
                shutil.rmtree(place)

        kind = "trainyard, committed and proven"
        names: dict[str, str] = {}
        usage = rounds(asked, [OURS, *installed], run)
    notes = [
        "ours: scan, sha256 and CRC32 of everything, upload, Complete, HEAD of each object, samples read back, manifest, _SUCCESS; "
        "with the processes of the pod's side",
    ]
    show("Uploads to a sink over TLS on loopback, which keeps what comes in memory and believes its checksums", asked, names, usage, notes)


if __name__ == "__main__":
    main()
