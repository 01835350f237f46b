"""What has become of the files that a run sent: gone with its pods' disks, by the proof of their end, or in the bucket until a rule."""

from __future__ import annotations

from trainyard.clock import format_time
from trainyard.recipes.summaries import DataDeletion, PodDeletion
from trainyard.runs.records.record import RunRecord
from trainyard.storage.manifest import DATA

_DAY = 86400


def deletion(record: RunRecord) -> DataDeletion:
    """Return the proof for a run that has ended: a pod's workspace is on its own disk, which goes with it.

    What lies in the bucket was last renewed before that, so that a rule of N days has removed it N days after it.
    """
    indexes = tuple(
        index for index in (record.data.stored, record.data.in_bucket, record.code.stored if record.code else None) if index is not None
    )
    kept = record.bucket is not None and bool(indexes)
    days = record.data.expire_days
    return DataDeletion(
        proved_at=format_time(record.ended),
        pods=tuple(PodDeletion(pod.pod_id, format_time(pod.ended)) for pod in record.pods),
        bucket=f"s3://{record.bucket.bucket}/{DATA}" if record.bucket and kept else None,
        indexes=indexes if kept else (),
        gone_by=format_time(record.ended + days * _DAY) if kept and days and record.ended else None,
    )
