"""What Replicate's answers mean: JSON to our types, errors to the tree. Makes no request."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

import httpx

from trainyard.clock import parse_iso
from trainyard.clouds.protocol import PodInfo, PodStatus
from trainyard.clouds.replicate.request import PUSH
from trainyard.clouds.values import fastapi_detail, json_object, mapping, text, with_marks
from trainyard.errors import CloudError, CloudRefused, CloudUnknown
from trainyard.jsontext import parse_json

_STATUS: Mapping[str, PodStatus] = {"starting": "starting", "processing": "running", "succeeded": "exited", "failed": "exited"}
CANCELED = ("canceled", "aborted")
FINISHED = ("succeeded", "failed", *CANCELED)
_HARDWARE = re.compile(r"(\d{1,3})x (.{1,40}) at \$(\d{1,6}\.\d{4})/h")
_HINTS = {
    401: "Check REPLICATE_API_TOKEN.", 402: "Add credit at replicate.com/account/billing.", 403: "Check REPLICATE_API_TOKEN.",
    404: f"The model, its version or the destination is not there. {PUSH}",
}  # fmt: skip
_NOT_DONE = (400, 401, 402, 403, 404, 422)


@dataclass(frozen=True, slots=True)
class SaidHardware:
    """What a job's input says of its hardware: see request.hardware_text()."""

    count: int
    gpu: str
    per_hour: float


def parse_hardware(said: object) -> SaidHardware | None:
    """Return what such a text says, None for any other."""
    match = _HARDWARE.fullmatch(said) if isinstance(said, str) else None
    return SaidHardware(int(match[1]), match[2], float(match[3])) if match else None


def own_error(response: httpx.Response) -> str | None:
    """Return what the API itself says is wrong; None for anything else (a proxy's page)."""
    return fastapi_detail(json_object(response) or {})


def told_gone(response: httpx.Response) -> bool:
    """Tell whether the API itself says that there is no such thing."""
    return response.status_code == 404 and own_error(response) is not None


def create_error(response: httpx.Response) -> CloudError:
    """Return what an answer without a job means for the next step."""
    code, detail = response.status_code, own_error(response)
    if code == 429:
        return CloudRefused(f"Replicate: {say(response)}", hint="Nothing was created; try again in a minute.")
    if detail is not None and code in _NOT_DONE:
        return CloudRefused(f"Replicate: {detail}", hint=_HINTS.get(code))
    return CloudUnknown(f"Replicate answered HTTP {code} to the create request, which may have made something: {say(response)}")


def refusal(response: httpx.Response, what: str) -> CloudError:
    """Return the error for an answer to anything but a create."""
    code = response.status_code
    if own_error(response) is not None and code in _NOT_DONE:
        return CloudRefused(f"Replicate refuses to {what}: HTTP {code}: {say(response)}", hint=_HINTS.get(code))
    return CloudUnknown(f"Replicate gave no usable answer when asked to {what}: HTTP {code}: {say(response)}")


def say(response: httpx.Response) -> str:
    """Return what an answer says in a line."""
    return own_error(response) or f"not its own answer: {response.text[:120]!r}"


def is_finished(job: Mapping[str, object]) -> bool:
    """Tell whether a job has come to its end: by its status, and where that is no word that is known by the moment of its end."""
    status = job.get("status")
    return status in FINISHED or (status not in _STATUS and parse_iso(job.get("completed_at")) is not None)


def pod_info(job: Mapping[str, object]) -> PodInfo:
    """Return a training or a prediction as the protocol knows it; only a missing id is an error.

    All that makes it ours is among its inputs, and so is its price.
    """
    if not text(job.get("id")):
        raise CloudUnknown("Replicate showed a job without an id")
    inputs, raw = mapping(job.get("input")), str(job.get("status") or "")
    said, status = parse_hardware(inputs.get("hardware")), _STATUS.get(raw, "exited" if is_finished(job) else "unknown")
    info = PodInfo(
        id=str(job["id"]), name=text(inputs.get("pod")) or text(job.get("model")) or "", status=status, raw_status=raw,
        price_per_hour=said.per_hour if said else None, created=parse_iso(job.get("created_at")),
        finished=parse_iso(job.get("completed_at")),
        gpu=said.gpu if said else None, gpu_count=said.count if said else 0,
    )  # fmt: skip
    return with_marks(info, _object(inputs.get("env")))


def last_words(job: Mapping[str, object]) -> str | None:
    """Return why a job has failed: its last line, of the log or else of the error; None for one that has not."""
    if job.get("status") != "failed":
        return None
    lines = [line.strip() for part in (job.get("error"), job.get("logs")) for line in (text(part) or "").splitlines() if line.strip()]
    return f"its command has ended: {lines[-1][:300]}" if lines else None


def _object(value: object) -> Mapping[str, object]:
    """Return the JSON object in a text, nothing for anything else."""
    try:
        return mapping(parse_json(value)) if isinstance(value, str) else {}
    except ValueError:
        return {}
