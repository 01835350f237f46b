"""What a run's pod must be: the stack's settings, raised to what the recipe needs, less what did not boot lately."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Mapping, Sequence
from pathlib import PurePath
from typing import TYPE_CHECKING

from trainyard.clouds.protocol import Offer
from trainyard.errors import UserError
from trainyard.recipes.summaries import Values
from trainyard.runs.planning import fit
from trainyard.runs.planning.market import types_with
from trainyard.runs.records.identity import RunId
from trainyard.settings.ofcloud import pods_of_a_run
from trainyard.settings.table import StackSettings, clouds_that_know, known_to

if TYPE_CHECKING:
    from trainyard.ledger.ledger import Ledger
    from trainyard.recipes.contract import Recipe

REMEMBERED = 6 * 3600.0
"""Seconds for which an offer whose pod did not boot is not taken again, by any run of this checkout."""
TOGETHER = "launch.py"
"""The program that has processes of several pods train one model; a recipe that can has it."""
_OLD_GPU, _OLD_TEMPLATE = "RUNPOD_GPU_TYPE", "RUNPOD_TEMPLATE_ID"
_BOOT_FAILED = "boot failed"


def from_environment(settings: StackSettings, env: Mapping[str, str], cloud: str) -> tuple[StackSettings, list[str]]:
    """Return the settings with what variables of older guides say (they win over the file), and a line for each that counts."""
    lines = []
    gpu, template = (env.get(name) if cloud == "runpod" else None for name in (_OLD_GPU, _OLD_TEMPLATE))
    if gpu:
        settings = dataclasses.replace(settings, gpu=(gpu,))
        lines.append(f"gpu: {gpu}, as {_OLD_GPU} says")
    if template:
        settings = dataclasses.replace(settings, template=template, image=None)
        lines.append(f"template: {template}, as {_OLD_TEMPLATE} says")
    return settings, lines


def raised(settings: StackSettings, needs: Values, cloud: str) -> StackSettings:
    """Return the settings with driver, GPUs, their memory and disk of the pod at least as the recipe needs them, and its image.

    Nothing is raised on the local cloud: this machine is what it is, and pre-flight judges it. Raises UserError for an image where a
    cloud starts none.
    """
    if image := needs.get("image"):
        settings = _with_image(settings, str(image))
    if cloud == "local":
        return settings
    result = dataclasses.replace(settings, disk_gb=max(settings.disk_gb, _whole(needs.get("disk_gb"))))
    if not settings.gpu:
        return result
    versions = [str(value) for value in (settings.min_cuda, needs.get("cuda")) if value is not None]
    memory = max(settings.min_vram_gb or 0.0, float(_whole(needs.get("vram_gb"))))
    types = types_with(memory) if fit.is_auto(settings) else settings.gpu
    count = max(settings.gpu_count, _whole(needs.get("gpus")))
    return dataclasses.replace(
        result, gpu=types, gpu_count=count, min_cuda=max(versions, key=_version, default=None), min_vram_gb=memory or None
    )


def _with_image(settings: StackSettings, image: str) -> StackSettings:
    if not known_to("image", settings.cloud):
        known = f"Leave it out (--set image=none); clouds that start an image of yours: {', '.join(clouds_that_know('image'))}."
        raise UserError(f"image: cloud '{settings.cloud}' cannot start {image}", hint=known)
    return dataclasses.replace(settings, image=image, template=None)


def refuse_idle_nodes(settings: StackSettings, needs: Values, stack: str) -> None:
    """Raise UserError where a job would have nodes that its recipe leaves idle."""
    most = _whole(needs.get("nodes"))
    if most and settings.nodes > most:
        raise UserError(
            f"nodes: {settings.nodes}, and the recipe trains on {most}: the others would be taken from everybody and do nothing",
            hint=f"Say trainyard:nodes: 1. Your own code on several nodes: invoke train --stack {stack} -- COMMAND (docs/clouds/slurm.md)",
        )


def refuse_lone_pods(settings: StackSettings, recipe: Recipe, stack: str, *, detach: bool) -> None:
    """Raise UserError where several pods would not train together, or could not be left."""
    count = pods_of_a_run(settings)
    if count == 1:
        return
    if not any(PurePath(name).name == TOGETHER for name in recipe.files):
        raise UserError(
            f"nodes: {count}, and recipe {recipe.name} trains on one pod of {settings.cloud}; nothing was rented",
            hint=f"Say trainyard:nodes: 1 in Pulumi.{stack}.yaml",
        )
    if detach:
        raise UserError(
            f"--detach: {count} pods that train together need somebody who sees to them; nothing was rented",
            hint="Without --detach they are followed to their end.",
        )


def warnings(settings: StackSettings, shaped: StackSettings, needs: Values) -> list[str]:
    """Return what a person should know about the difference between settings and needs."""
    lines = []
    if "disk_gb" in settings.explicit and shaped.disk_gb > settings.disk_gb:
        lines.append(f"the recipe needs {shaped.disk_gb} GB of disk: that much is rented, not the {settings.disk_gb} GB set")
    if "gpu_count" in settings.explicit and shaped.gpu_count > settings.gpu_count:
        lines.append(f"the recipe needs {shaped.gpu_count} GPUs: so many are rented, not the {settings.gpu_count} set")
    have = shaped.gpu_count if shaped.gpu else 0
    gpus = _whole(needs.get("gpus"))
    if gpus > have:
        lines.append(f"the recipe says that it needs {gpus} GPU{'s' if gpus != 1 else ''}, this stack rents {have} (gpu, gpu_count)")
    return lines


def remember_failure(ledger: Ledger, run: RunId, cloud: str, offer: str, why: str) -> None:
    """Note that the pod of an offer did not boot."""
    ledger.add(run, _BOOT_FAILED, cloud=cloud, offer=offer, reason=why)


def failed_lately(ledger: Ledger, cloud: str, now: float | None = None) -> list[str]:
    """Return the offers of a cloud whose pods did not boot in the last hours, whichever run has met them."""
    since = (time.time() if now is None else now) - REMEMBERED
    failures = (event.data for event in ledger.events(kind=_BOOT_FAILED, since=since))
    return list(dict.fromkeys(str(data["offer"]) for data in failures if data.get("cloud") == cloud))


def avoidable(offers: Sequence[Offer], failed: Sequence[str]) -> list[str]:
    """Return which offers to avoid: those that failed lately, but none when nothing else is left."""
    ids = {offer.id for offer in offers}
    return [] if ids <= set(failed) else [offer for offer in failed if offer in ids]


def _version(text: str) -> tuple[int, ...]:
    try:
        return tuple(int(part) for part in text.split("."))
    except ValueError:
        raise UserError(f"needs.cuda must look like 13.0, not '{text}'") from None


def _whole(value: object) -> int:
    return int(value) if isinstance(value, int | float) else 0
