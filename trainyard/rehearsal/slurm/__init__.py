"""A real Slurm of one node on this machine, with a login node: nothing of it is played."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from trainyard.clouds.slurm.login import REHEARSAL
from trainyard.rehearsal.kit import GpuFacts, OwnService
from trainyard.rehearsal.kit.machines import nvidia_smi
from trainyard.rehearsal.slurm.cluster import ClusterSize, serve
from trainyard.settings.table import StackSettings

_MEMORY_GB = 80.0
_DROPPED = ("partition", "account", "qos", "gres", "sbatch", "modules", "container", "volume", "nodes")
"""What only the real cluster has."""


@contextmanager
def _serve(folder: Path, settings: StackSettings) -> Iterator[tuple[Mapping[str, object], Mapping[str, str]]]:
    """Run a cluster with the stack's GPUs; give the settings that lead to it (None: without it), and the variables."""
    name = settings.gpu[0] if settings.gpu else "GPU"
    kind = "".join(letter for letter in name.lower() if letter.isalnum())
    count = settings.gpu_count if settings.gpu else 0
    files = {"nvidia-smi": nvidia_smi(GpuFacts(name, _MEMORY_GB, count))} if count else {}
    with serve(folder, ClusterSize(cpus=max(4, count), gpus=count, gpu=kind), files=files) as cluster:
        lead = {"login": REHEARSAL, "workspace": str(folder / "jobs"), "queue_hours": 1.0, **dict.fromkeys(_DROPPED)}
        yield lead, cluster.env


SLURM = OwnService("slurm", "Slurm", _serve)
