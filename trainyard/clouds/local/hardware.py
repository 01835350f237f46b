"""What this machine can offer as pods: itself, and its NVIDIA GPUs where it has any."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass

from trainyard.clouds.gpus import has_memory
from trainyard.clouds.protocol import Offer, OfferQuery
from trainyard.errors import UserError

REGION = "here"


@dataclass(frozen=True, slots=True)
class GpuDevice:
    """One real GPU of this machine."""

    index: int
    name: str
    vram_gb: float
    uuid: str = ""


def gpus() -> list[GpuDevice]:
    """Return this machine's NVIDIA GPUs, none where there is no device or no driver."""
    tool = shutil.which("nvidia-smi")
    if tool is None:
        return []
    command = [tool, "--query-gpu=index,name,memory.total,uuid", "--format=csv,noheader,nounits"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=20)
    except (OSError, subprocess.TimeoutExpired):
        return []
    return parse(done.stdout) if done.returncode == 0 else []


def parse(text: str) -> list[GpuDevice]:
    """Read what ``nvidia-smi --query-gpu=index,name,memory.total,uuid --format=csv,noheader,nounits`` prints."""
    rows = (re.match(r"\s*(\d+), (.+), ([\d.]+)(?:, ([\w-]+))?\s*$", line) for line in text.splitlines())
    return [GpuDevice(int(row[1]), row[2].strip(), round(float(row[3]) / 1024, 1), row[4] or "") for row in rows if row]


def price(env: Mapping[str, str] | None = None) -> float:
    """Return the price of an hour: nothing, or ``TRAINYARD_LOCAL_PRICE`` in dollars."""
    return _number("TRAINYARD_LOCAL_PRICE", "price per hour in dollars", os.environ if env is None else env)


def memory(env: Mapping[str, str] | None = None) -> int | None:
    """Return the bytes that a pod may use, None where only the machine's memory is the limit."""
    return round(1e9 * _number("TRAINYARD_LOCAL_MEMORY", "amount of memory in GB", os.environ if env is None else env)) or None


def offers(query: OfferQuery, have: list[GpuDevice], used: set[int]) -> list[Offer]:
    """Return the offers that fit the query, in its order of preference."""
    cost = price()
    if query.max_price is not None and cost > query.max_price:
        return []
    if query.spot or (query.regions and REGION not in query.regions) or query.tier:
        return []
    if not query.gpus:
        return [Offer(id="cpu", cloud="local", gpu=None, gpu_count=0, price_per_hour=cost, region=REGION)]
    matching: list[Offer] = []
    for asked_gpu in query.gpus:
        free = [gpu for gpu in have if gpu.index not in used and _fits(asked_gpu, gpu.name) and has_memory(gpu.vram_gb, query.min_vram_gb)]
        if len(free) >= query.gpu_count and not any(offer.gpu == free[0].name for offer in matching):
            gpu = free[0]
            matching.append(Offer(f"gpu:{gpu.name}", "local", gpu.name, query.gpu_count, cost, REGION))
    return matching


def _fits(asked_gpu: str, name: str) -> bool:
    """Compare in every cloud's spelling: ``RTX_4090`` is ``NVIDIA GeForce RTX 4090``, ``H100`` any H100."""
    words = re.findall(r"[a-z0-9]+", asked_gpu.lower())
    return set(words) - {"nvidia", "geforce"} <= set(re.findall(r"[a-z0-9]+", name.lower()))


def _number(name: str, what: str, env: Mapping[str, str]) -> float:
    text = env.get(name) or "0"
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value < 1e6:
        raise UserError(f"{name}: '{text}' is no {what}")
    return value
