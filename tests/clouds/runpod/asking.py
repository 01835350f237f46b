"""What the tests of the RunPod client ask for again and again."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from trainyard.clouds.protocol import Offer, OfferQuery, PodSpec
from trainyard.clouds.runpod import RunPodCloud
from trainyard.rehearsal.kit import Emulator

Make = Callable[..., PodSpec]
WANTED = OfferQuery(gpus=("RTX 5090",))


def first(cloud: RunPodCloud, **query: object) -> Offer:
    return cloud.offers(replace(WANTED, **query))[0]  # type: ignore[arg-type]


def foreign(cloud: RunPodCloud, spec: Make, **env: str) -> PodSpec:
    return spec(name="someone-elses", fence_id="", lease_id="", stop=None, end=None, env=env)


def posts(rehearsal: Emulator) -> list[object]:
    return [r for r in rehearsal.requests() if (r["method"], r["path"]) == ("POST", "/v2/pods")]
