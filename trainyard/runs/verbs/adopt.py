"""A run whose controller is lost: another machine with the cloud's key and the SSH key takes it over by its pod.

What it needs lies on the pod: the run's name and what was asked (``.trainyard/run.json``, written when the
training was started) and the bundle with the recipe's declarations.
"""

from __future__ import annotations

import re
import time
from pathlib import Path

from trainyard.clock import format_time
from trainyard.clouds.protocol import Cloud, PodInfo
from trainyard.errors import CloudError, PodFailed, Unreachable, UserError
from trainyard.jsontext import parse_json
from trainyard.remote.protocol import quote
from trainyard.remote.transport import Address, dial
from trainyard.runs.context import CommandContext
from trainyard.runs.records.acts import record_act
from trainyard.runs.records.foreign import read_foreign, take_over
from trainyard.runs.records.identity import RunId, shown
from trainyard.runs.records.notes import note
from trainyard.runs.records.onpod import RUN_FILE
from trainyard.runs.records.parts import RunPod
from trainyard.runs.records.pods import take_from_cloud
from trainyard.runs.records.record import RunFolder, RunRecord

_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.@-]{0,190}")


def find_pod(cloud: Cloud, reference: str) -> PodInfo:
    """Return the pod of ours that a person means by its id or name; UserError when there is none.

    A list may miss a pod, or not be readable now: an id is asked for by itself, too.
    """
    problem: CloudError | None = None
    ours: list[PodInfo] = []
    try:
        ours = [pod for pod in cloud.list() if pod.lease_id is not None]
    except CloudError as error:
        problem = error
    for pod in ours:
        if reference in (pod.id, pod.name):
            return pod
    info = cloud.get(reference) if _ID.fullmatch(reference) else None
    if info is not None and info.lease_id is not None:
        return info
    if problem is not None:
        raise problem
    known = ", ".join(pod.id for pod in ours) or "none"
    raise UserError(
        f"{cloud.name} knows no pod of ours {shown(reference)}",
        hint=f"Pods of ours: {known}. Those of all clouds: invoke reap --all-stacks --dry-run",
    )


def adopt(context: CommandContext, environment: str, reference: str, key_file: Path) -> RunFolder:
    """Make a record here for a run that lives on a pod; return its folder, ready to be driven.

    Raises UserError when the key is missing or the run is known here already, PodFailed when no training was
    started on the pod, Unreachable when it does not answer or nothing tells its host key.
    """
    cloud = context.cloud(environment)
    pod = find_pod(cloud, reference)
    if not cloud.capabilities.ssh:
        finishes = "With the settings and keys of its bucket this finishes its run: invoke recover"
        ends = f"This ends it, and saves nothing: invoke end {pod.id} --stack {environment}"
        raise UserError(
            f"pods of {cloud.name} have no SSH, so {pod.id} is not taken over: it commits alone, into its bucket, what its training leaves",
            hint=f"{finishes}\n{ends}",
        )
    if pod.ssh is None and (alone := cloud.get(pod.id)) is not None and alone.lease_id == pod.lease_id:
        pod = alone  # a list tells less of an address than the pod by itself
    if pod.ssh is None:
        raise UserError(f"pod {pod.id} has no SSH address (it is: {pod.raw_status})", hint=_end_it(pod, environment))
    if not key_file.is_file():
        raise UserError(f"{key_file}: there is no such SSH key")
    door = pod.ssh
    if pod.host_key is None and not door.command:
        sentence = f"{cloud.name} does not tell the host key of pod {pod.id}: only the machine that has its record knows who answers there"
        raise Unreachable(sentence, hint=_end_it(pod, environment))
    address = Address(door.host, door.port, door.user, pod.host_key, key_file.resolve(), door.command, door.through)
    with dial(address, timeout=20) as transport:
        answer = transport.exec(f"cat {quote('/'.join((pod.workspace, *RUN_FILE)))}", timeout=30)
    if answer.rc:
        raise PodFailed(f"no training was started on pod {pod.id}", hint=_end_it(pod, environment))
    record = _record(_json(answer.stdout), environment, pod, address, cloud)
    folder = RunFolder(RunId(record.user, record.label, record.attempt).folder(context.places.runs))
    _refuse_known(context, folder, record)
    folder.path.mkdir(parents=True, exist_ok=True)
    folder.save(record)
    hours = (pod.end - pod.created).total_seconds() / 3600 if pod.end and pod.created else record.hours
    record_act(context, "adopt", f"{record.id}/{record.attempt}", pod=pod.id, stack=environment)
    note(context, record, "adopted", pod=pod.id, stack=record.environment, estimate=hours * (pod.price_per_hour or 0.0))
    return folder


def _refuse_known(context: CommandContext, folder: RunFolder, record: RunRecord) -> None:
    """Raise UserError where the run, or another one of its name, has a record here; a damaged one is written anew."""
    if not folder.path.exists():
        return
    try:
        here = folder.load()
    except UserError as error:
        context.ui.warn(f"{error.message}; it is written anew from what the pod keeps")
        return
    if here.token != record.token:
        hint = "Adopt it in another repository or clone: each run's files need a place of their own."
        raise UserError(f"{folder.path} holds another run that is called {record.id}, too (another token)", hint=hint)
    raise UserError(f"run {record.id} is known here already", hint=f"Use: invoke attach {record.id}")


def _end_it(pod: PodInfo, environment: str) -> str:
    return f"End it with: invoke end {pod.id} --stack {environment}"


def _json(text: bytes) -> object:
    """Return what a file holds; one that a crash of the pod has cut is no record, and says so when it is read."""
    try:
        return parse_json(text)
    except ValueError:
        return None


def _record(content: object, environment: str, pod: PodInfo, address: Address, cloud: Cloud) -> RunRecord:
    created = pod.created.timestamp() if pod.created else time.time()
    try:
        record = read_foreign(content)
    except ValueError as error:
        raise PodFailed(f"what pod {pod.id} keeps of its run cannot be read: {error}", hint=_end_it(pod, environment)) from None
    take_over(record)
    record.phase, record.cloud = "started", cloud.name
    record.pod = RunPod(
        pod_id=pod.id, pod_name=pod.name, lease_id=pod.lease_id, fence_id=pod.fence_id, price_per_hour=pod.price_per_hour,
        gpu=pod.gpu, gpu_count=pod.gpu_count, host=address.host, port=address.port, user=address.user,
        login_command=address.command or None, send_command=(pod.ssh.sending if pod.ssh else ()) or None,
        through=address.through, workspace=pod.workspace, host_key=address.host_key,
        ssh_key_file=str(address.key_file), created_epoch=created,
        end=format_time(pod.end), volume_path=pod.volume, simulated=cloud.simulated, api_address=cloud.address,
    )  # fmt: skip
    take_from_cloud(record, pod)
    return record
