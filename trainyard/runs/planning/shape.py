"""What a run's pod must be: the stack's settings, raised to what the recipe needs, less what did not boot lately."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any

from trainyard.clouds.protocol import Offer
from trainyard.errors import UserError
from trainyard.recipes.values import Values
from trainyard.runs.records.identity import RunId
from trainyard.runs.records.ledger import Ledger

DISK_GB = 100
"""What a pod gets unless the settings say otherwise."""
REMEMBERED = 6 * 3600.0
"""Seconds for which an offer whose pod did not boot is not taken again, by any run of this checkout."""
NAMES_OF: Mapping[str, tuple[tuple[str, str, tuple[str, ...]], ...]] = {
    "runpod": (("RUNPOD_GPU_TYPE", "gpu", ()), ("RUNPOD_TEMPLATE_ID", "template", ("image",)))
}
"""Cloud -> variable, the setting that it stands for, the settings that it replaces."""
_BOOT_FAILED = "boot failed"


def from_environment(settings: Mapping[str, Any], env: Mapping[str, str], cloud: str) -> tuple[dict[str, Any], list[str]]:
    """Return the settings with what variables of older guides say (they win over the file), and a line for each that counts."""
    result, told = dict(settings), []
    for name, key, instead_of in NAMES_OF.get(cloud, ()):
        if env.get(name):
            result[key] = [env[name]] if key == "gpu" else env[name]
            result |= dict.fromkeys(instead_of)
            told.append(f"{key}: {env[name]}, as {name} says")
    return result, told


def raised(settings: Mapping[str, Any], needs: Values, cloud: str) -> dict[str, Any]:
    """Return the settings with driver, GPU memory and disk of the pod at least as the recipe needs them.

    Nothing is raised on the local cloud: this machine is what it is, and pre-flight judges it.
    """
    result = dict(settings)
    if cloud == "local":
        return result
    result["disk_gb"] = max(int(settings.get("disk_gb") or DISK_GB), _whole(needs.get("disk_gb")))
    if settings.get("gpu"):
        versions = [str(value) for value in (settings.get("min_cuda"), needs.get("cuda")) if value is not None]
        memory = max(float(settings.get("min_vram_gb") or 0), float(_whole(needs.get("vram_gb"))))
        result |= {"min_cuda": max(versions, key=_version)} if versions else {}
        result |= {"min_vram_gb": memory} if memory else {}
    return result


def warnings(settings: Mapping[str, Any], shaped: Mapping[str, Any], needs: Values) -> list[str]:
    """Return what a person should know about the difference between settings and needs."""
    told = []
    if settings.get("disk_gb") and int(shaped["disk_gb"]) > int(settings["disk_gb"]):
        told.append(f"the recipe needs {shaped['disk_gb']} GB of disk: that much is rented, not the {settings['disk_gb']} GB set")
    have = int(settings.get("gpu_count") or 1) if settings.get("gpu") else 0
    if _whole(needs.get("gpus")) > have:
        told.append(f"the recipe says that it needs {_whole(needs.get('gpus'))} GPUs, this stack rents {have} (gpu, gpu_count)")
    return told


def remember_failure(ledger: Ledger, run: RunId, cloud: str, offer: str, why: str) -> None:
    """Note that the pod of an offer did not boot."""
    ledger.add(run, _BOOT_FAILED, cloud=cloud, offer=offer, reason=why)


def failed_lately(ledger: Ledger, cloud: str, now: float | None = None) -> list[str]:
    """Return the offers of a cloud whose pods did not boot in the last hours, whichever run has met them."""
    since = (time.time() if now is None else now) - REMEMBERED
    found = (event.data for event in ledger.events(kind=_BOOT_FAILED, since=since))
    return list(dict.fromkeys(str(data["offer"]) for data in found if data.get("cloud") == cloud))


def avoidable(offers: Sequence[Offer], failed: Sequence[str]) -> list[str]:
    """Return which offers to avoid: those that failed lately, but none when nothing else is left."""
    ids = {offer.id for offer in offers}
    return [] if ids <= set(failed) else [offer for offer in failed if offer in ids]


def _version(text: str) -> tuple[int, ...]:
    try:
        return tuple(int(part) for part in text.split("."))
    except ValueError:
        raise UserError(f"min_cuda must look like 13.0, not '{text}'") from None


def _whole(value: object) -> int:
    return int(value) if isinstance(value, int | float) else 0
