"""The pods of runs and environments as hosts of a playbook, each with the host key that is pinned for it."""

from __future__ import annotations

from collections.abc import Sequence

from trainyard.errors import UserError
from trainyard.playbook.hosts.inventory import Inventory
from trainyard.playbook.hosts.sources import add_outputs
from trainyard.runs.context import CommandContext
from trainyard.runs.records.parts import RunPod
from trainyard.runs.records.pod import reach
from trainyard.runs.records.record import RunRecord
from trainyard.stacks import facade


def pods_of(context: CommandContext, runs: Sequence[str], stack: str | None) -> Inventory:
    """Return the pods of runs and of an environment; raises UserError where there is none now, or it has no SSH."""
    inventory = Inventory()
    for reference in runs:
        record = context.folder(reference).load()
        if record.reached("ended") or not record.pod.pod_id:
            raise UserError(f"run {record.id} has no pod now (it is: {record.phase})")
        for rank, pod in enumerate(record.group):
            _add(inventory, context, record, pod, rank)
    if stack is not None:
        add_outputs(
            inventory,
            facade.outputs(context.stack(stack)),
            f"stack '{stack}'",
            "Pods of runs are named by their run: invoke play FILE RUN",
        )
    return inventory


def _add(inventory: Inventory, context: CommandContext, record: RunRecord, known: RunPod, rank: int) -> None:
    pod = reach(context, record, known)
    if pod.address is None:
        raise UserError(
            f"the pod of {record.id} has no SSH: what it tells goes through the run's bucket", hint=f"Its log: invoke logs {record.label}"
        )
    own = {"run": str(record.id), "rank": rank, "workspace": pod.workspace, "pod_id": pod.id}
    inventory.add_pod(known.pod_name or pod.id, pod.address, own, dial=lambda _: pod.connect())
