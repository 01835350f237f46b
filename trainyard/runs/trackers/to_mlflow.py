"""MLflow: the server of ``MLFLOW_TRACKING_URI``, else a database below ``trackers/mlflow.db``."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from mlflow import MlflowClient
from mlflow.entities import Metric, Param, RunTag

from trainyard.runs.trackers.figures import Point
from trainyard.runs.trackers.tracked import Outcome, TrackedRun

_TAG = "trainyard.run"
"""By which a run is found again."""
_AT_ONCE = 1000
"""Metrics of a request, as the server's API says; of values it takes 100."""
_LONGEST = 500
_ENDS = {"succeeded": "FINISHED", "failed": "FAILED"}


def open_run(run: TrackedRun) -> MlflowRun:
    """Begin a run or go on with it."""
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "2")  # whoever feeds it tries again, with longer pauses
    folder, uri = Path(run.folder), os.environ.get("MLFLOW_TRACKING_URI")
    folder.mkdir(parents=True, exist_ok=True)
    client = MlflowClient(uri or f"sqlite:///{folder / 'mlflow.db'}")
    experiment = client.get_experiment_by_name(run.project)
    if experiment is None:
        artifacts = None if uri else (folder / "mlflow").as_uri()
        where = client.create_experiment(run.project, artifact_location=artifacts)
    else:
        where = experiment.experiment_id
    earlier = client.search_runs([where], filter_string=f"tags.`{_TAG}` = '{run.id}'", max_results=1)
    if earlier:
        known = earlier[0].info.run_id
        client.update_run(known, status="RUNNING")
    else:
        known = client.create_run(where, run_name=run.name, tags={_TAG: run.id, "tags": ", ".join(run.tags)}).info.run_id
        values = [Param(_name(key), str(value)[:_LONGEST]) for key, value in run.config.items()]
        for at in range(0, len(values), 100):
            client.log_batch(known, params=values[at : at + 100])
    return MlflowRun(client, known)


class MlflowRun:
    """One run at MLflow."""

    def __init__(self, client: MlflowClient, run: str) -> None:
        self._client, self._run = client, run

    def send(self, points: Sequence[Point]) -> bool:
        """Send points; the server has them when its answer is there."""
        metrics = list(_metrics(points))
        for at in range(0, len(metrics), _AT_ONCE):
            self._client.log_batch(self._run, metrics=metrics[at : at + _AT_ONCE])
        return True

    def close(self, outcome: Outcome | None) -> None:
        """Tell how the run has ended, if it has."""
        if outcome is not None:
            tags = [RunTag(key, str(value)) for key, value in outcome.facts.items() if value is not None]
            self._client.log_batch(self._run, tags=tags)
            self._client.set_terminated(self._run, status=_ENDS.get(outcome.word, "KILLED"))


def _metrics(points: Sequence[Point]) -> Iterator[Metric]:
    for point in points:
        moment = int(1000 * (point.time or time.time()))
        for name, value in point.figures.items():
            yield Metric(_name(name), value, moment, point.step)


def _name(text: str) -> str:
    """Return a name as MLflow takes it."""
    return re.sub(r"[^\w\-. :/]", "_", text)
