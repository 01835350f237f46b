"""A rehearsal of a stack of one's own machines: a machine of its own on this one, never the person's."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from trainyard.clouds import gpus
from trainyard.clouds.local import LocalCloud
from trainyard.clouds.ssh import REHEARSAL
from trainyard.rehearsal.kit import GpuFacts, OwnService
from trainyard.rehearsal.ssh.host import block, play
from trainyard.settings.table import StackSettings

NAME = "rehearsal"


@contextmanager
def _serve(folder: Path, settings: StackSettings) -> Iterator[tuple[Mapping[str, object], Mapping[str, str]]]:
    """Play one machine with the stack's GPUs; its pods are ended at the end."""
    gpu = None
    if settings.gpu:
        kinds = gpus.find(settings.gpu[0])
        name, memory = (kinds[0].name, float(kinds[0].vram_gb)) if kinds else (settings.gpu[0], 80.0)
        gpu = GpuFacts(name, memory, settings.gpu_count, serial=f"rehearsal-{abs(hash(folder)):x}"[:24])
    host = play(settings.regions[0] if settings.regions else NAME, folder / "machine", gpu)
    there = LocalCloud(host.folder / "pods")
    config = folder / "ssh_config"
    config.write_text(host.ssh_config, encoding="utf-8")
    volume = folder / "volume" if settings.volume else None
    if volume is not None:
        volume.mkdir(exist_ok=True)
    try:
        lead = {"hosts": [block(host, config)], "volume": str(volume) if volume else None}
        yield lead, {REHEARSAL: "1"}
    finally:
        for pod in there.list():
            there.terminate(pod.id)
        host.stop()


SSH = OwnService("ssh", "machines of one's own", _serve, pods="machine/pods")
