"""Before the pod is rented: its model cache is made, found or enlarged, and written into the settings of the run's stack."""

from __future__ import annotations

import contextlib
from dataclasses import replace

from trainyard import yamlfile
from trainyard.clouds.protocol import Cloud
from trainyard.clouds.volumes import volumes_of
from trainyard.config import PROJECT
from trainyard.errors import CloudError, TrainyardError
from trainyard.files import write_atomic
from trainyard.leases.cachevolume import CacheMaker, CacheOrder
from trainyard.runs.context import CommandContext
from trainyard.runs.records.cacheplan import CACHE_USED, CachePlan
from trainyard.runs.records.record import RunFolder, RunRecord

_VOLUME = f"{PROJECT}:volume"


def cache_maker(context: CommandContext, cloud: Cloud) -> CacheMaker | None:
    """Return what sees to the caches of a cloud; None where it has no volumes."""
    volumes = volumes_of(cloud)
    folder = context.places.home / "caches"
    return None if volumes is None else CacheMaker(volumes, cloud.capabilities, folder, lambda text: context.ui.say(f"cache      {text}"))


def mount_cache(context: CommandContext, record: RunRecord, folder: RunFolder) -> None:
    """See to a run's cache and let its pod mount it. Once decided it stays so: another volume would be another pod.

    A cache that cannot be had costs a download and no run: it then goes without, and that is said.
    """
    plan = record.cache
    if plan is None:
        return
    document = yamlfile.load_map(folder.config)
    config = document["config"]
    assert isinstance(config, dict)
    cloud = context.cloud_of(record)
    maker = cache_maker(context, cloud)
    if maker is None or _VOLUME in config:
        return
    try:
        with context.ui.stage("cache", plan.name):
            volume = maker.ensure(CacheOrder(plan.name, plan.place, plan.size_gb))
    except CloudError as error:
        context.ui.warn(f"model cache: {error}; this run goes without it")
        record.cache = None
        folder.save(record)
        return
    config[_VOLUME] = volume.id
    write_atomic(folder.config, yamlfile.dump(document), durable=True)
    record.cache = replace(plan, volume=volume.id, size_gb=volume.size_gb or plan.size_gb)
    folder.save(record)
    _note(context, record, cloud.name, record.cache, new=plan.volume is None)


def _note(context: CommandContext, record: RunRecord, cloud: str, plan: CachePlan, *, new: bool) -> None:
    with contextlib.suppress(OSError, TrainyardError):  # it only tells sizes and ages
        context.ledger().add(
            record.id, CACHE_USED, cloud=cloud, name=plan.name, volume=plan.volume, size_gb=plan.size_gb, base=plan.base,
            base_gb=plan.base_gb, new=new,
        )  # fmt: skip
