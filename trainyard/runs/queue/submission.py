"""What was submitted, as one packed file: record, bundle and snapshot, from which the run is prepared when its turn comes.

So what runs is what was submitted, whatever has become of the checkout. Data are references; files of a person's own are known by
their sha256, and have to be on the worker's machine, or in the stack's bucket, as they were.
"""

from __future__ import annotations

import gzip
import io
import tarfile
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from trainyard.errors import UserError
from trainyard.recipes import bundle
from trainyard.runs.context import CommandContext
from trainyard.runs.planning import jobkeys
from trainyard.runs.records.record import RunFolder, RunRecord
from trainyard.runs.verbs.prepare import RunPlan, take_snapshot, versions
from trainyard.sizes import human_size
from trainyard.tars import unpack

_MOST = 256_000_000
"""Bytes of one packed submission: the ledger holds it, and who takes it has it in memory."""


def pack(context: CommandContext, plan: RunPlan, label: str) -> bytes:
    """Build a run's bundle and snapshot and return them with its record, packed; raises UserError where that is too much."""
    with tempfile.TemporaryDirectory(prefix="trainyard-") as scratch:
        folder = RunFolder(Path(scratch).resolve())
        content = bundle.build(plan.recipe, plan.values, plan.data, folder.bundle, code=plan.code)
        record = RunRecord(
            user=plan.user, label=label, attempt=1, environment=plan.stack, recipe=plan.recipe.name, values=plan.values,
            bundle_sha256=content.sha256, hours=plan.hours, created=time.time(), budget=plan.budget, resumes=plan.resumes,
            job_keys=jobkeys.asked(plan.settings), data=plan.data.summary(), code=plan.code.summary() if plan.code else None,
            cloud=plan.settings.cloud, versions=versions(plan.recipe, plan.values), deliver=plan.deliver, rerun_of=plan.rerun_of,
        )  # fmt: skip
        take_snapshot(context, plan, record, folder)
        folder.save(record)
        packed = io.BytesIO()
        with gzip.GzipFile(fileobj=packed, mode="wb", compresslevel=4) as squeezed, tarfile.open(fileobj=squeezed, mode="w|") as tar:
            tar.add(folder.path, arcname=".")
    if packed.tell() > _MOST:
        raise UserError(
            f"what is submitted is {human_size(packed.tell())}, {human_size(_MOST)} are the most that the queue keeps",
            hint="Big files do not belong in the code: bring them as data.",
        )
    return packed.getvalue()


@contextmanager
def opened(content: bytes) -> Iterator[RunFolder]:
    """Yield the folder of what was submitted; it goes with the block."""
    with tempfile.TemporaryDirectory(prefix="trainyard-") as scratch:
        folder = RunFolder(Path(scratch).resolve())
        with tarfile.open(fileobj=io.BytesIO(content), mode="r:gz") as tar:
            unpack(tar, folder.path)
        yield folder
