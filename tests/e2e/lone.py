"""Controller, watchdog and its fork are killed while others come back: ``python -m tests.e2e.lone ROUNDS [SEED]``.

Each round trains on a real local pod, kills the controller for good, then at random instants kills what commits alone, and lets
another controller come back before, while or after. However it comes out: the result is there byte for byte, once, and no pod.
"""

from __future__ import annotations

import contextlib
import os
import random
import signal
import sys
import tempfile
import time
from pathlib import Path

from tests.e2e.yard import Yard, kill_tree
from trainyard.storage import bucket, local, seal
from trainyard.storage.client import with_bucket
from trainyard.storage.manifest import ResultKey, sha256

WHERE = ResultKey("tester", "a", 1)
SIZE = 40 << 20
SCRIPT = f"""
mkdir -p "$OUTPUT_DIR/model"; head -c {SIZE} /dev/urandom >"$OUTPUT_DIR/model/weights.bin"
sha256sum <"$OUTPUT_DIR/model/weights.bin" >"$OUTPUT_DIR/model/sum"; sleep 3
"""


def kill_watchdogs(yard: Yard, dice: random.Random) -> int:
    """Kill some of the processes of the pod's watchdog, and return how many."""
    lease = str(yard.record("a")["pod"]["lease_id"]).encode()
    those = []
    for entry in Path("/proc").iterdir():
        with contextlib.suppress(OSError):
            ours = entry.name.isdigit() and b".trainyard-watchdog.py" in (entry / "cmdline").read_bytes()
            if ours and lease in (entry / "environ").read_bytes():
                those.append(int(entry.name))
    # The keeper itself is left: whoever kills that, too, takes the plan away.
    chosen = [pid for pid in sorted(those)[1:] if dice.random() < 0.7]
    for pid in chosen:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    return len(chosen)


def round_of(yard: Yard, dice: random.Random) -> str:
    """Play one round; return what went wrong, empty when nothing did."""
    settings = yard.root / "Pulumi.local.yaml"
    settings.write_text(settings.read_text() + "  trainyard:commit_alone_minutes: 0.03\n")
    script = yard.base / "train.sh"
    script.write_text(SCRIPT)
    running = yard.start(*yard.train("--name", "a", "--set", f"script={script}"))
    yard.wait_for(lambda: yard.record("a").get("commits_alone"))
    kill_tree(running)
    began, back = time.monotonic(), dice.choice((dice.uniform(0.0, 5.0), dice.uniform(5.0, 14.0)))
    killed = 0
    kills = sorted(dice.uniform(2.0, 7.0) for _ in range(dice.randrange(1, 7)))
    for at in kills:
        time.sleep(max(0.0, min(at, back) - (time.monotonic() - began)))
        killed += kill_watchdogs(yard, dice) if at < back else 0
    time.sleep(max(0.0, back - (time.monotonic() - began)))
    first = yard.start("attach", "a")
    if dice.random() < 0.5:
        time.sleep(dice.uniform(0.0, 4.0))
        if first.poll() is None:
            kill_tree(first)
    else:
        yard.output(first).read()
        first.wait(120)
    done = yard.invoke("attach", "a", "--json")
    what = f"{killed} killed at {[round(at, 1) for at in kills]}, back at {back:.1f}"
    print(what, end="; ")
    summary = done.json() if done.out.startswith("{") else {}
    if done.code or not summary.get("success"):
        return f"{what}: attach ended with {done.code}: {done.err[-500:]}"
    store = with_bucket(local.ensure(yard.places), summary["s3_url"].split("/")[2])
    names = {item.key.removeprefix(WHERE.prefix) for item in bucket.listing(store, WHERE.prefix)}
    wrong = names - {"model/weights.bin", "model/sum", "_manifest.json", "_SUCCESS", "status.json", "metrics.jsonl"}
    weights = sha256(seal.read(store, WHERE.model + "weights.bin") or b"")
    same = (seal.read(store, WHERE.model + "sum") or b"").decode().startswith(weights)
    return "" if same and not wrong and not yard.pods() else f"{what}: {names}, the bytes are {'' if same else 'not '}those, {yard.pods()}"


def main(rounds: int, seed: int) -> int:
    """Play rounds; return 1 when one of them has cost anything."""
    bad = 0
    for number in range(rounds):
        yard = Yard(Path(tempfile.mkdtemp(prefix="ty", dir="/tmp")))
        try:
            wrong = round_of(yard, random.Random(seed * 1000 + number))
        finally:
            yard.close()
        bad += bool(wrong)
        print(f"round {number} (seed {seed}): {wrong or 'right'}", flush=True)
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else random.randrange(10**6)))
