"""An Airflow DAG that trains every night: it begins a run and leaves it to its pod, waits for its end, and fetches the result.

A worker that is killed on the way costs no training: the next try of its task comes back to the same run.
"""

from __future__ import annotations

import os
from datetime import datetime, timedelta
from pathlib import Path

from airflow.sdk import DAG, task

import trainyard

ROOT = os.environ.get("MODELS_REPOSITORY", "/srv/models")
"""The repository on the worker: a clone with Pulumi.<stack>.yaml and, for a cloud, its keys in .env."""


def begin(label: str) -> str:
    """Begin the run of this label and leave it to its pod; a second try of the task gets the run of the first. Return its name."""
    begun = trainyard.train(
        stack="local", recipe="example", values={"steps": 50}, name=label, key=label, detach=True, consent=True, root=ROOT
    )  # fmt: skip
    return begun.run


def wait(run: str) -> dict[str, object]:
    """Follow the run to its end, telling the task's log how far it is; raises RunFailed, which fails the task."""
    with trainyard.follow(run, root=ROOT) as following:
        for event in following:
            if isinstance(event, trainyard.ProgressEvent):
                print(event.text)
        summary = following.result()
    return {"run": summary.run, "loss": summary.final_loss, "dollars": summary.cost}


def fetch(result: dict[str, object], to: str) -> list[str]:
    """Fetch the result, every file proven by its sha256; return where the files are."""
    got = trainyard.download(str(result["run"]), Path(to) / str(result["run"]), root=ROOT)
    return [str(path) for path in got.paths]


with DAG(
    dag_id="nightly_training",
    schedule="0 3 * * *",
    start_date=datetime(2026, 1, 1),
    catchup=False,
    max_active_runs=1,
    default_args={"retries": 3, "retry_delay": timedelta(minutes=5)},
) as dag:
    task(fetch)(task(wait)(task(begin)("nightly-{{ ds_nodash }}")), "/srv/results")
