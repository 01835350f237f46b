"""What a plugin answers, read: differences, and the error that says that something exists all the same."""

from __future__ import annotations

from typing import Any

from pulumi.runtime.proto import provider_pb2 as pb
from pulumi.runtime.proto import status_pb2

from trainyard.engine.provider import DiffAnswer

_KINDS = {value.number: value.name for value in pb.PropertyDiff.Kind.DESCRIPTOR.values}


class InitFailed(Exception):
    """It exists, but is not as it should be."""

    def __init__(self, detail: Any) -> None:
        super().__init__()
        self.detail = detail


def init_failed(error: Any) -> Any:
    """Return the detail that says: it exists, but is not as it should be."""
    metadata = dict(error.trailing_metadata() or ()) if hasattr(error, "trailing_metadata") else {}
    packed = metadata.get("grpc-status-details-bin")
    if not packed:
        return None
    status = status_pb2.Status.FromString(packed)
    for detail in status.details:
        if detail.Is(pb.ErrorResourceInitFailed.DESCRIPTOR):
            result = pb.ErrorResourceInitFailed()
            detail.Unpack(result)
            return result
    return None


def difference(response: Any) -> DiffAnswer:
    """Return what a plugin says of a difference."""
    detailed = {key: _KINDS.get(value.kind, "UPDATE") for key, value in response.detailedDiff.items()}
    changes = {pb.DiffResponse.DIFF_NONE: False, pb.DiffResponse.DIFF_SOME: True}.get(response.changes)
    return DiffAnswer(
        changes, list(response.replaces), list(response.diffs), detailed if response.hasDetailedDiff else None, response.deleteBeforeReplace
    )  # fmt: skip
