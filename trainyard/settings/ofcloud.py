"""What a stack's cloud makes of its settings, as its row in the table of clouds says."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from trainyard.config import stack_names
from trainyard.errors import UserError
from trainyard.settings import reader
from trainyard.settings.clouds import LONGEST_LOGICAL_NAME, CloudEntry, entry
from trainyard.settings.table import SETTINGS, StackSettings, known_to


def options_of(settings: StackSettings) -> dict[str, str]:
    """Return what means something to the settings' cloud alone, as texts: lists with a line an item; what is as ever is left out."""
    row = entry(settings.cloud)
    values = {name: getattr(settings, name) for name in (row.options if row else ())}
    set_ones = {name: value for name, value in values.items() if value is not None and value != SETTINGS[name].default}
    return {name: "\n".join(value) if isinstance(value, tuple) else _text(value) for name, value in set_ones.items()}


def pod_inputs(settings: StackSettings) -> dict[str, Any]:
    """Return what the settings alone say of a run's pod, by the names of the provider's inputs."""
    return {
        "budget": settings.budget, "heartbeat_minutes": settings.heartbeat_minutes,
        "idle_minutes": settings.idle_minutes or None, "stall_minutes": settings.stall_minutes or None,
        "gpus": settings.gpu, "gpu_count": settings.gpu_count, "disk_gb": settings.disk_gb, "max_price": settings.max_price,
        "regions": settings.regions, "tier": settings.tier, "spot": settings.spot, "image": settings.image, "template": settings.template,
        "volume": settings.volume, "ports": settings.ports, "min_cuda": settings.min_cuda, "min_vram_gb": settings.min_vram_gb,
        "reliability": settings.reliability, "inet_down": settings.inet_down, "env": settings.pod_env, "registry": settings.registry,
        "options": options_of(settings) or None, "only_offers": settings.only_offers,
        "avoid_offers": settings.avoid_offers or None,  # as ever: another value would be another pod
    }  # fmt: skip


def unsaid(root: Path, cloud: CloudEntry) -> tuple[str, ...]:
    """Return the settings that a cloud needs before it can be asked anything, where no stack of the repository says them."""
    if not cloud.needs or any(_says(root, stack, cloud) for stack in stack_names(root)):
        return ()
    return cloud.needs


def unmade(settings: StackSettings) -> str | None:
    """Return what a person has to make first, where a stack's settings hold the shipped stand-in for it; None where they do not."""
    row = entry(settings.cloud)
    for name, ending in row.unmade if row else ():
        if str(getattr(settings, name)).endswith(ending):
            return f"trainyard:{name} is still the shipped file's, which stands for what you make first"
    return None


def _says(root: Path, stack: str, cloud: CloudEntry) -> bool:
    try:
        settings = reader.partly(root, stack, *cloud.needs)
    except UserError:
        return True  # it is asked then, and says what is wrong in that file
    return settings.cloud == cloud.name and all(getattr(settings, name) for name in cloud.needs)


def wait_hours(settings: StackSettings) -> float | None:
    """Return how long a pod may wait for its machine before the hours of its lease begin; None where they begin at once."""
    return settings.queue_hours if known_to("queue_hours", settings.cloud) else None


def starts_watchdog(cloud: str) -> bool:
    """Tell whether a cloud's create request starts the watchdog, and brings the pod's host key."""
    row = entry(cloud)
    return row is None or row.starts


def pods_of_a_run(settings: StackSettings) -> int:
    """Return how many pods of its cloud a run has at once."""
    row = entry(settings.cloud)
    return settings.nodes if row is not None and row.groups else 1


def longest_logical_name(cloud: str) -> int:
    """Return how many characters a pod's name on a cloud may have of what a program calls the pod."""
    row = entry(cloud)
    return row.logical_name if row else LONGEST_LOGICAL_NAME


def dials_pods(cloud: str) -> bool:
    """Tell whether the pods of a cloud have addresses that this machine dials itself."""
    row = entry(cloud)
    return row is None or row.direct


def _text(value: object) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)
