"""Who ends a pod at the end of its lease where neither the pod nor its cloud does, said before it is rented."""

from __future__ import annotations

from trainyard.clouds.protocol import Cloud


def only_from_outside(cloud: Cloud, stack: str) -> str | None:
    """Return what a person must hear of a cloud whose pods do not end by themselves; None where they do."""
    able = cloud.capabilities
    if able.self_terminate or able.deadline:
        return None
    return (
        f"a pod of {cloud.name} can be ended only from outside: at the end of its lease this command does it, `invoke worker`,\n"
        f"or `invoke reap --stack {stack}` from cron or CI. Its job stops in time whoever is there"
    )
