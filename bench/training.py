"""Plays a training on a pod, for bench.billed: so many seconds, and a model in shards, written evenly or at the end.

training.py SECONDS BYTES SHARDS evenly|at-the-end
"""

import json
import os
import pathlib
import sys
import time

seconds, size, shards, when = float(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]), sys.argv[4]
model = pathlib.Path(os.environ["OUTPUT_DIR"]) / "model"
model.mkdir(parents=True, exist_ok=True)
(model / "config.json").write_text("{}")
began = time.monotonic()
for number in range(1, shards + 1):
    if when == "evenly":
        time.sleep(max(0.0, began + seconds * number / shards - time.monotonic()))
    elif number == 1:
        time.sleep(seconds)
    length = size // shards
    header = json.dumps({"w": {"dtype": "U8", "shape": [length], "data_offsets": [0, length]}}).encode()
    block = os.urandom(1 << 20)
    with (model / f"model-{number:02d}.safetensors").open("wb") as file:
        file.write(len(header).to_bytes(8, "little") + header + number.to_bytes(8, "little") + block[8:])
        left = length - len(block)
        while left > 0:
            file.write(block[:left])
            left -= len(block)
    print(f"shard {number} of {shards}", flush=True)
