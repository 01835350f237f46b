"""From settings to a pod: the settings of a run's own stack, and its up."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Mapping
from dataclasses import replace

from trainyard import yamlfile
from trainyard.clock import parse_time
from trainyard.clouds.local.hardware import REGION
from trainyard.config import PROJECT
from trainyard.errors import BootFailed, EngineError, NoCapacity, RefusedError, TrainyardError
from trainyard.network import free_port
from trainyard.runs.context import CommandContext
from trainyard.runs.life.modelcache import mount_cache
from trainyard.runs.planning.shape import remember_failure
from trainyard.runs.records.environment import EnvironmentOutputs
from trainyard.runs.records.movedlease import take_begun
from trainyard.runs.records.parts import RunPod
from trainyard.runs.records.pods import Deletions, note_deleted, take_known
from trainyard.runs.records.record import RunFolder, RunRecord
from trainyard.runs.records.stackresources import leases_in, pods_in, pods_with_address
from trainyard.runs.signals import leave_if_asked
from trainyard.settings.reader import as_written
from trainyard.settings.table import StackSettings, for_run
from trainyard.stacks import facade
from trainyard.stacks.model import OperationOutcome, Stack
from trainyard.stacks.settings import ensure_stack, salt_of

BOOT_TRIES = 3
"""How many pods are tried, each of another offer, before a run gives up."""


def write_run_settings(
    context: CommandContext, record: RunRecord, folder: RunFolder, outputs: EnvironmentOutputs, settings: StackSettings
) -> None:
    """Write the settings of the attempt's own stack: what shapes its pod, and the environment's outputs, secrets encrypted."""
    environment = context.stack(record.environment)
    config: dict[str, object] = {key: as_written(value) for key, value in for_run(settings).items()}
    config |= {
        "run": str(record.id), "hours": record.hours, "fence_id": outputs.fence_id,
        "ssh_public_key": outputs.ssh_public_key, "ssh_key_file": outputs.ssh_key_file,
    }  # fmt: skip
    if record.budget is not None:
        config["budget"] = record.budget
    if outputs.results is not None:
        config["fence_bucket"] = outputs.results.bucket
        config |= {"fence_store": outputs.results.store} if outputs.results.store else {}
    config["host_key_seed"] = {"secure": facade.encrypter(environment).encrypt(outputs.host_key_seed)}
    document = {"config": {f"{PROJECT}:{key}": value for key, value in config.items()}}
    folder.config.write_text(yamlfile.dump(document), encoding="utf-8")
    # A run's stack takes its environment's salt: one key derivation serves both.
    ensure_stack(context.run_stack(record, folder), salt=salt_of(environment))


def rent(context: CommandContext, record: RunRecord, folder: RunFolder) -> None:
    """Bring up the attempt's stack: lease, pod, endpoint, readiness; fills ``record.pod``.

    A pod that does not boot is replaced by one of the next offer, BOOT_TRIES pods in all. Raises an error of the
    failure's kind with the provider's words; what exists by then is in the state.
    """
    stack = context.run_stack(record, folder)
    mount_cache(context, record, folder)
    avoid, failures = _avoided(folder), list[str]()
    take_known(record, facade.resources(stack), context.places.intents)
    for attempt in range(BOOT_TRIES):
        leave_if_asked(context.ui.leaves)
        with context.ui.stage("up", "lease and pod"), folder.stage(record, "up"):
            outcome = _up(context, record, folder, stack)
        record.engine = outcome.engine
        if outcome.ok:
            break
        offer = _offer_that_did_not_boot(stack)
        boot = outcome.problem.kind == "boot-failed"
        other = not boot
        last = bool(boot and outcome.problem.facts.get("lease_over")) or attempt + 1 == BOOT_TRIES
        if not last and (_is_there_after_all(stack) or (offer is not None and other)):
            context.ui.warn(f"{outcome.reason()}\nthe pod is there: going on with it")
            continue
        if offer is not None:
            _remember(context, record, offer, outcome)
        if offer is None or offer in avoid or last:
            error = outcome.error("the pod could not be brought up: ", *failures)
            # Out of offers because their pods did not boot is a failed boot, not a cloud without capacity.
            raise BootFailed(error.message, facts=error.facts) if failures and isinstance(error, NoCapacity) else error
        avoid.append(offer)
        failures.append(f"before that, with {offer}: {outcome.reason()}")
        context.ui.warn(f"{outcome.reason()}\nthe next offer is tried; {offer} is avoided")
        _avoid(folder, avoid)
    _take_outputs(record, facade.outputs(stack))
    take_begun(context, record)
    record.phase = "up"
    folder.save(record)
    for pod in record.group:
        context.ui.say(f"rented     {_offer_line(pod)}")


def _take_outputs(record: RunRecord, outputs: Mapping[str, object]) -> None:
    peers = outputs.get("peers")
    record.peers = [RunPod.of_outputs(each) for each in peers] if isinstance(peers, list) else []
    record.pod = replace(RunPod.of_outputs(outputs), meeting=free_port() if record.peers else None)


def refuse_replaced(context: CommandContext, record: RunRecord) -> None:
    """Rent nothing for a run that was left lying until its key was given to another; raises RefusedError."""
    if record.key is None:
        return
    from trainyard.ledger.keys import holds_key

    if not holds_key(context.ledger().database, record.key, record.token):
        raise RefusedError(f"key '{record.key}' was used for another run since, as nothing was rented for this one; nothing is rented now")


def remember_lost(context: CommandContext, record: RunRecord) -> None:
    """Let the offer of a pod that the cloud has taken be left alone for a while, where there are others."""
    if record.pod.offer:
        with contextlib.suppress(OSError, TrainyardError):  # it only chooses among offers
            remember_failure(context.ledger(), record.id, context.cloud_of(record).name, record.pod.offer, record.error or "lost")


def created_of(record: RunRecord) -> float:
    """Return when a run's pod was created; where its cloud does not tell, when the run began. Raises EngineError for what is no time."""
    if record.pod.created_at is None:
        return record.created  # no later than the pod: what it costs is not reckoned too low
    moment = parse_time(record.pod.created_at)
    if moment is None:
        raise EngineError(f"the pod's creation time '{record.pod.created_at}' is not a time")
    # The cloud's clock may be wrong; the pod was rented after the run was prepared, and before now.
    return min(time.time(), max(record.created, moment.timestamp()))


def _offer_line(pod: RunPod) -> str:
    """Say what was taken, at the price of the create's answer: the estimate may have named several."""
    gpu = f"{pod.gpu_count}x {pod.gpu}" if pod.gpu else "CPU"
    price = "price unknown" if pod.price_per_hour is None else f"${pod.price:.2f}/h"
    where = f" in {pod.pod_region}" if pod.pod_region not in (None, "", REGION) else ""
    return f"{gpu} at {price}{where}: pod {pod.pod_id}, its lease ends {pod.end}"


def _up(context: CommandContext, record: RunRecord, folder: RunFolder, stack: Stack) -> OperationOutcome:
    """Bring the stack up; each pod that was accepted is noted, also the one that makes room for the next."""
    events = Deletions(context.ui.engine_event)
    try:
        outcome = facade.operate(stack, "up", events)
    finally:
        resources = facade.readable_resources(stack)
        note_deleted(record, events.at, resources)
        take_known(record, resources, context.places.intents)
    if outcome.ok and record.container is not None:
        from trainyard.runs.life.containerboot import await_container

        return await_container(context, record, folder, outcome)
    return outcome


def _is_there_after_all(stack: Stack) -> bool:
    """Tell whether the create was answered unclearly and the pod was found on the list: it is in the state, with that error."""
    return any(pod.half for pod in pods_in(facade.resources(stack)))


def _offer_that_did_not_boot(stack: Stack) -> str | None:
    """Return the offer of a pod that exists without an address, None when something else failed."""
    resources = facade.resources(stack)
    if pods_with_address(resources):
        return None
    offers = [pod.offer for pod in pods_in(resources)]
    return offers[-1] if offers else None


def _remember(context: CommandContext, record: RunRecord, offer: str, outcome: OperationOutcome) -> None:
    if outcome.problem.facts.get("hosts_fault"):
        remember_failure(context.ledger(), record.id, context.cloud_of(record).name, offer, outcome.reason())


def _avoided(folder: RunFolder) -> list[str]:
    config = yamlfile.load_map(folder.config)["config"]
    assert isinstance(config, dict)
    offers = config.get(f"{PROJECT}:avoid_offers")
    return [str(offer) for offer in offers] if isinstance(offers, list) else []


def _avoid(folder: RunFolder, offers: list[str]) -> None:
    document = yamlfile.load_map(folder.config)
    config = document["config"]
    assert isinstance(config, dict)
    config[f"{PROJECT}:avoid_offers"] = list(offers)
    folder.config.write_text(yamlfile.dump(document), encoding="utf-8")


def isolation_of(context: CommandContext, record: RunRecord) -> str | None:
    """Return how the local cloud contains this pod ("namespace" or "process"); None on other clouds."""
    cloud = context.cloud_of(record)
    pod = cloud.get(str(record.pod.pod_id)) if cloud.name == "local" else None
    return pod.raw_status.partition("(")[2].rstrip(")") or None if pod else None


def remember_pod(context: CommandContext, record: RunRecord, folder: RunFolder) -> None:
    """Take what a failed up has left in the state, so that the teardown can name it and prove it gone."""
    resources = facade.resources(context.run_stack(record, folder))
    for lease in leases_in(resources, replaced=True):
        record.pod = replace(record.pod, lease_id=lease.lease_id)
    for pod in pods_in(resources, replaced=True):
        record.pod = replace(record.pod, pod_id=pod.id, price_per_hour=pod.price_per_hour, created_epoch=record.created)
