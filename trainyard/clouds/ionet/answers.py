"""What io.net's answers mean: JSON to our types, errors to the tree. Makes no request."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

import httpx

from trainyard.clock import parse_iso
from trainyard.clouds.marker import parse_name, parse_timed_name, timed_name
from trainyard.clouds.protocol import PodInfo, PodSpec, PodStatus
from trainyard.clouds.values import fastapi_detail, json_object, mapping, number, text
from trainyard.errors import CloudError, CloudRefused, CloudUnknown

NAME_MARK = "TRAINYARD_POD_NAME"
"""Alone, a deployment does not tell its name: a container's variables do, and the name of a machine's SSH key."""
_STATUS: Mapping[str, PodStatus] = {
    "deployment requested": "accepted",
    "running": "running",
    "completed": "exited",
    "failed": "error",
    "termination requested": "terminating",
}
_GONE = "destroyed"
_BOUGHT = re.compile(r"^(.+)-(\d{1,4})h$")


@dataclass(frozen=True, slots=True)
class BoughtName:
    """What a deployment is called here: the pod's name, its stop and end, and the hours that were paid for it at first."""

    name: str
    stop: datetime | None
    end: datetime | None
    hours: int

    def hours_now(self, deployment: Mapping[str, object], gpus: int) -> int:
        """Return the hours that are paid for by now: those of an extension, too.

        Whether minutes are a deployment's or each GPU's is written nowhere: what makes fewer hours of them counts, or a
        lease would seem longer than it is.
        """
        minutes = _minutes(deployment)
        counts = sorted({round(minutes / 60), round(minutes / 60 / max(1, gpus))})
        return next((hours for hours in counts if hours >= self.hours), self.hours)


def bought_name(spec: PodSpec, hours: int) -> str:
    """Return what a deployment is called."""
    return f"{timed_name(spec.name, spec.stop, spec.end)}-{hours}h"


def parse_bought(shown: str) -> BoughtName | None:
    """Return the parts of a name of ours; None for any other. One that lacks its times is ours, and cannot be read."""
    match = _BOUGHT.match(shown.lower())
    name, stop, end = parse_timed_name(match[1] if match else shown)
    parsed = parse_name(name)
    return BoughtName(str(parsed), stop, end, int(match[2]) if match else 0) if parsed else None


def over(deployment: Mapping[str, object]) -> bool:
    """Tell whether a deployment is history: destroyed, or at its end with no minute left that was paid for."""
    status = deployment.get("status")
    return status == _GONE or (status in ("completed", "failed") and number(deployment.get("compute_minutes_remaining")) == 0)


def own_error(response: httpx.Response) -> str | None:
    """Return what the API itself says is wrong; None for anything else (a proxy's page)."""
    return fastapi_detail(json_object(response) or {})


def told_gone(response: httpx.Response) -> bool:
    """Tell whether the API itself says that there is no such thing."""
    return response.status_code == 404 and own_error(response) is not None


def create_error(response: httpx.Response) -> CloudError:
    """Return what an answer without a deployment means for the next step.

    No code is documented for "nothing left" or "no credits", so only what never came to the deed counts as a no.
    """
    code, detail = response.status_code, own_error(response)
    if code == 429:
        return CloudRefused(f"io.net: {say(response)}", hint="Nothing was created; try again in a minute.")
    if detail is not None and code in (401, 403):
        return CloudRefused(f"io.net: {detail}", hint="Check IOCLOUD_API_KEY: it must be made for the project io-cloud.")
    if detail is not None and code == 422:
        return CloudRefused(f"io.net does not understand the request: {detail}")
    hint = "If it is about credits, add some in io.net's console." if detail is not None and 400 <= code < 500 else None
    return CloudUnknown(f"io.net answered HTTP {code} to the create request, which may have made something: {say(response)}", hint=hint)


def refusal(response: httpx.Response, what: str) -> CloudError:
    """Return the error for an answer to anything but a create."""
    code = response.status_code
    if own_error(response) is not None and 400 <= code < 500 and code not in (408, 409, 423, 425, 429):
        hint = "Check IOCLOUD_API_KEY." if code in (401, 403) else None
        return CloudRefused(f"io.net refuses to {what}: HTTP {code}: {say(response)}", hint=hint)
    return CloudUnknown(f"io.net gave no usable answer when asked to {what}: HTTP {code}: {say(response)}")


def say(response: httpx.Response) -> str:
    """Return what an answer says in a line."""
    return own_error(response) or f"not its own answer: {response.text[:120]!r}"


def pod_info(deployment: Mapping[str, object]) -> PodInfo:
    """Return one deployment as the protocol knows it, of a list or alone; only a missing id is an error.

    All its marks are in its name; hours that were bought since move its stop and end.
    """
    if not text(deployment.get("id")):
        raise CloudUnknown("io.net listed a deployment without an id")
    shown, raw = _name(deployment), str(deployment.get("status") or "")
    gpus = int(number(deployment.get("total_gpus")) or number(deployment.get("hardware_quantity")) or 0)
    bought = parse_bought(shown)
    parsed = parse_name(bought.name) if bought else None
    hours = bought.hours_now(deployment, gpus) if bought else 0
    added = timedelta(hours=hours - bought.hours) if bought else timedelta()
    paid = number(deployment.get("amount_paid"))
    hours = hours or round(_minutes(deployment) / 60)
    places = deployment.get("locations")
    place = mapping(places[0]) if isinstance(places, list) and places else {}
    return PodInfo(
        id=str(deployment["id"]),
        name=bought.name if bought else shown,
        status=_STATUS.get(raw, "terminating" if raw == _GONE else "unknown"),
        raw_status=raw,
        price_per_hour=round(paid / hours, 6) if paid is not None and paid > 0 and hours else None,
        created=parse_iso(deployment.get("created_at")),
        fence_id=parsed.fence_id if parsed else None,
        lease_id=parsed.lease_id if parsed else None,
        stop=bought.stop + added if bought and bought.stop else None,
        end=bought.end + added if bought and bought.end else None,
        end_unreadable=bought is not None and bought.end is None,
        gpu=text(deployment.get("hardware_name")),
        gpu_count=gpus,
        region=text(place.get("iso2")),
    )


def _name(deployment: Mapping[str, object]) -> str:
    """Return a deployment's name: as a list tells it, or where ours is found in one that is shown alone."""
    variables = mapping(mapping(deployment.get("container_config")).get("env_variables"))
    shown = (deployment.get("name"), variables.get(NAME_MARK), *mapping(deployment.get("ssh_keys")))
    names = [name for one in shown if (name := text(one)) is not None]
    return next((name for name in names if parse_bought(name)), next(iter(names), ""))


def _minutes(deployment: Mapping[str, object]) -> float:
    return sum(number(deployment.get(f"compute_minutes_{part}")) or 0.0 for part in ("served", "remaining"))
