"""Whether a container without SSH has booted: it says so itself, in the bucket."""

from __future__ import annotations

from dataclasses import replace

from trainyard.errors import BootFailed, StoreError
from trainyard.leases import boot
from trainyard.leases.world import Control, OperationWorld
from trainyard.problems import Problem
from trainyard.runs.context import CommandContext
from trainyard.runs.life.bucketlink import BucketLink
from trainyard.runs.records.parts import NO_POD, RunPod
from trainyard.runs.records.pod import pod_of
from trainyard.runs.records.record import RunFolder, RunRecord
from trainyard.runs.signals import leave_if_asked
from trainyard.settings.reader import partly_at
from trainyard.stacks import facade
from trainyard.stacks.model import OperationOutcome


def await_container(context: CommandContext, record: RunRecord, folder: RunFolder, outcome: OperationOutcome) -> OperationOutcome:
    """Wait until a container without SSH tells something in the bucket; an up whose pod does not boot has failed by that."""
    names = ("boot_accepted_minutes", "boot_image_minutes", "boot_ssh_minutes", "image_gb")
    said = partly_at(folder.config, record.environment, *names)
    limits = boot.BootLimits(
        accepted=said.boot_accepted_minutes, image=said.boot_image_minutes, ssh=said.boot_ssh_minutes, image_gb=said.image_gb
    )
    record.pod = RunPod.of_outputs(facade.outputs(context.run_stack(record, folder)))
    link = BucketLink(context, record, folder, pod_of(context, record))
    cloud, pod_id = link.pod.cloud, link.pod.id
    world = OperationWorld(context.env, context.places, lambda _: cloud, Control(), lambda text, level: _say(context, text, level))

    def arrived() -> bool:
        leave_if_asked(context.ui.leaves)
        try:
            return link.heard() is not None
        except StoreError:
            return False  # the boot's own deadline holds

    try:
        boot.wait_for(world, cloud, pod_id, limits, arrived)
    except BootFailed as error:
        record.pod = NO_POD
        return replace(outcome, exit_code=1, errors=(str(error),), problems=(Problem("boot-failed", error.message, facts=error.facts),))
    return outcome


def _say(context: CommandContext, text: str, level: str) -> None:
    if level != "debug":
        context.ui.say(f"           {text}")
