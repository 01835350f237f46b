"""Who ends a pod at the end of its lease where neither the pod nor its cloud does, said before it is rented."""

from __future__ import annotations

from trainyard.clouds.protocol import Cloud
from trainyard.runs.records.record import RunRecord


def only_from_outside(cloud: Cloud, stack: str) -> str | None:
    """Return what a person must hear of a cloud whose pods do not end by themselves; None where they do."""
    able = cloud.capabilities
    if able.self_terminate or able.deadline:
        return None
    return (
        f"a pod of {cloud.name} can be ended only from outside: at the end of its lease this command does it, `invoke worker`,\n"
        f"or `invoke reap --stack {stack}` from cron or CI. Its job stops in time whoever is there"
    )


def who_ends(record: RunRecord) -> str | None:
    """Return what ends a run's pod when its time has come, nothing on it being able to; None where it ends itself."""
    if record.pod.ends_itself is not False:
        return None
    reap = f"at {record.pod.end} by `invoke reap --stack {record.environment}`"
    return f"only from outside is it ended then: by a command that follows it, `invoke recover`, `invoke worker`, or {reap}"
