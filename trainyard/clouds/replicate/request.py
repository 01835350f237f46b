"""What a pod is asked for with at Replicate. Makes no request."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from trainyard.clouds.marker import marker_env
from trainyard.clouds.protocol import SETTING, VALUE, Offer, PodSpec
from trainyard.clouds.values import mapping
from trainyard.errors import CloudRefused, UserError
from trainyard.pod.endings import ending_env

PUSH = "Push the wrapper once, and say its version: trainyard:template: you/trainyard:ID (docs/clouds/replicate.md)."
_VERSION = re.compile(r"([\w.-]+)/([\w.-]+):([0-9a-f]{64})")
_SHORTEST = 5


@dataclass(frozen=True, slots=True)
class ModelVersion:
    """A version of a model: what a run is a training of."""

    owner: str
    name: str
    id: str

    @property
    def path(self) -> str:
        """Where the API has it."""
        return f"/models/{self.owner}/{self.name}/versions/{self.id}"

    def __str__(self) -> str:
        return f"{self.owner}/{self.name}:{self.id}"


@dataclass(frozen=True, slots=True)
class JobRequest:
    """One create request: where it goes, its body, and after how long Replicate is to cancel what it made."""

    kind: str
    """``trainings`` or ``predictions``."""
    path: str
    body: Mapping[str, object] = field(repr=False)
    """As a person reads it: command and variables are no texts yet."""
    headers: Mapping[str, str]

    @property
    def sent(self) -> Mapping[str, object]:
        """The body as it is sent: cog's inputs are texts."""
        inputs = mapping(self.body["input"])
        return {**self.body, "input": {name: value if isinstance(value, str) else json.dumps(value) for name, value in inputs.items()}}


def parse_version(said: str | None) -> ModelVersion:
    """Return the version that the setting `template` names; raises UserError for what names none."""
    match = _VERSION.fullmatch(said or "")
    if match is None:
        what = f"'{said}' is no version of a model" if said else "no version of a model is said"
        raise UserError(f"{what}, and Replicate runs nothing else", hint=PUSH, facts={SETTING: "template", VALUE: said})
    return ModelVersion(*match.groups())


def job_request(spec: PodSpec, offer: Offer, now: datetime, longest: timedelta) -> JobRequest:
    """Return what is sent; ``longest``: what a prediction may take. Raises CloudRefused, with the reason, for what cannot be kept."""
    try:
        version = parse_version(spec.options.get("template") or spec.template)
    except UserError as error:
        raise CloudRefused(f"{error.message}; nothing was sent", hint=error.hint) from None
    if not spec.command or spec.end is None:
        raise CloudRefused("Replicate runs the command of a run until its lease ends, and one of both is missing; nothing was sent")
    left, destination = spec.end - now, spec.options.get("destination")
    try:
        refuse_long(destination, left, longest)
    except UserError as error:
        raise CloudRefused(f"{error.message}; nothing was sent", hint=error.hint) from None
    inputs = _input(spec, offer)
    headers = {"Cancel-After": f"{max(_SHORTEST, math.ceil(left.total_seconds()))}s"}
    if destination is None:
        return JobRequest("predictions", "/predictions", {"version": str(version), "input": inputs}, headers)
    return JobRequest("trainings", f"{version.path}/trainings", {"destination": destination, "input": inputs}, headers)


def refuse_long(destination: str | None, lease: timedelta, longest: timedelta) -> None:
    """Raise UserError for a lease that no prediction lives to the end of."""
    if destination is None and lease > longest:
        raise UserError(
            f"Replicate ends every prediction {longest.total_seconds() / 60:g} minutes after its start, and this lease is longer "
            f"({lease.total_seconds() / 60:g} minutes with its rescue time)",
            hint="Name a model for 'destination' (you/trained): a training has no such limit. Else say fewer 'hours' and 'rescue_minutes'.",
            facts={SETTING: "hours"},
        )  # fmt: skip


def hardware_text(offer: Offer) -> str:
    """Return what a job says of its hardware: for people, for the wrapper, which looks whether it is true, and for a list."""
    return f"{offer.gpu_count}x {offer.gpu} at ${offer.price_per_hour:.4f}/h"


def _input(spec: PodSpec, offer: Offer) -> dict[str, object]:
    """Return the inputs of docker/replicate/run.py, the secret ones in the one of type Secret."""
    env = {**spec.env, **marker_env(spec.fence_id, spec.lease_id, spec.stop, spec.end), **ending_env(())}
    return {
        "pod": spec.name, "hardware": hardware_text(offer), "command": list(spec.command), "env": env, "secrets": dict(spec.secret_env),
    }  # fmt: skip
