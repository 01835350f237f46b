"""What a pod keeps of its run's record, so that another machine can take the run over."""

from __future__ import annotations

import json

from trainyard.runs.records.record import RunRecord, as_json

RUN_FILE = (".trainyard", "run.json")
FIELDS_ON_POD = (
    "user",
    "label",
    "attempt",
    "token",
    "environment",
    "recipe",
    "values",
    "bundle_sha256",
    "hours",
    "created",
    "budget",
    "spent_before",
    "resumes",
    "resumed_from",
    "init_from",
    "tracked_as",
    "commit_alone_minutes",
    "data",
    "bucket",
    "git_commit",
    "engine",
)


def pod_copy(record: RunRecord) -> bytes:
    """Return what the pod keeps of a record, so that any machine can take the run over. No secret is in it."""
    known = as_json(record)
    return json.dumps({name: known[name] for name in FIELDS_ON_POD}, indent=1).encode()
