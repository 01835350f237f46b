"""Plays a training that writes its model shard by shard, and waits for a word before the last shard."""

import json
import os
import pathlib
import time

OUTPUT, SIZE = pathlib.Path(os.environ["OUTPUT_DIR"]), 2 << 20


def shard(number: int) -> None:
    header = json.dumps({"w": {"dtype": "U8", "shape": [SIZE], "data_offsets": [0, SIZE]}}).encode()
    path = OUTPUT / "model" / f"model-{number}.safetensors"
    path.write_bytes(len(header).to_bytes(8, "little") + header + os.urandom(SIZE))


(OUTPUT / "model").mkdir(parents=True, exist_ok=True)
shard(1)
shard(2)
print("wrote two", flush=True)
while not (pathlib.Path(os.environ["WORKSPACE"]) / "go").exists():
    time.sleep(0.1)
shard(3)
shard(1)
