"""Read back what a tracker's own library has kept, as its own viewer would: ``python trackers_read.py TRACKER FOLDER`` prints JSON.

A program of its own: these libraries warn of what they use, and a warning is an error of a test.
"""

from __future__ import annotations

import json
import os
import struct
import sys
from pathlib import Path
from typing import Any

Curve = list[list[float]]


def tensorboard(folder: Path) -> dict[str, Any]:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    read = EventAccumulator(str(folder / "tensorboard" / "ann" / "a"))
    read.Reload()
    return {tag: [[event.step, event.value] for event in read.Scalars(tag)] for tag in read.Tags()["scalars"]}


def mlflow(folder: Path) -> dict[str, Any]:
    from mlflow import MlflowClient

    client = MlflowClient(f"sqlite:///{folder / 'mlflow.db'}")
    experiment = client.get_experiment_by_name("trainyard")
    (run,) = client.search_runs([experiment.experiment_id])
    curves = {name: [[one.step, one.value] for one in client.get_metric_history(run.info.run_id, name)] for name in run.data.metrics}
    return {**curves, "status": run.info.status, "name": run.info.run_name, "lr_value": run.data.params["learning_rate"]}


def trackio(folder: Path) -> dict[str, Any]:
    os.environ["TRACKIO_DIR"] = str(folder / "trackio")
    from trackio.sqlite_storage import SQLiteStorage

    (run,) = SQLiteStorage.get_runs("trainyard")
    rows = SQLiteStorage.get_logs("trainyard", run)
    return {"loss": [[row["step"], row["loss"]] for row in rows if "loss" in row], "name": run}


def wandb(folder: Path) -> dict[str, Any]:
    from wandb.proto import wandb_internal_pb2

    curve: Curve = []
    found: dict[str, Any] = {"loss": curve}
    for path in sorted((folder / "wandb").glob("offline-run-*/*.wandb")):
        for data in _records(path.read_bytes()):
            record = wandb_internal_pb2.Record.FromString(data)
            if record.WhichOneof("record_type") == "run":
                found |= {"id": record.run.run_id, "project": record.run.project, "name": record.run.display_name}
                found["config"] = sorted(update.key for update in record.run.config.update)
            if record.WhichOneof("record_type") == "history":
                row = {item.key or item.nested_key[0]: json.loads(item.value_json) for item in record.history.item}
                curve.append([record.history.step.num, row["loss"]])
            if record.WhichOneof("record_type") == "exit":
                found["exit"] = record.exit.exit_code
    return found


def _records(data: bytes) -> list[bytes]:
    """Return the records of a file in LevelDB's log format, which begins with 7 bytes of W&B's."""
    block, at, whole, part = 32768, 7, list[bytes](), b""
    while at + 7 <= len(data):
        if block - at % block < 7:
            at += block - at % block
            continue
        _, length, kind = struct.unpack("<IHB", data[at : at + 7])
        part += data[at + 7 : at + 7 + length]
        at += 7 + length
        if kind in (1, 4):  # whole, or the last of its parts
            whole.append(part)
            part = b""
    return whole


if __name__ == "__main__":
    print(json.dumps(globals()[sys.argv[1]](Path(sys.argv[2]))))
