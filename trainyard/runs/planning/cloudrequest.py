"""A pod's create request before there is a pod: what its cloud's adapter would send, with a reference for what nobody knows yet.

It is made twice, each time with other ids, keys, times and secrets. What differs is what is not known, or nobody's business: it
becomes a reference. So no secret can be in it, whatever an adapter makes of one.
"""

from __future__ import annotations

import json
import re
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from trainyard.clock import format_time
from trainyard.clouds.marker import PodName, budget_env, new_id, shortened
from trainyard.clouds.protocol import Cloud, Offer
from trainyard.clouds.rendering import PROGRAM, Renders, reference, text_of
from trainyard.errors import UserError
from trainyard.leases.podwish import PodWish
from trainyard.remote.keys import host_key
from trainyard.settings.clouds import CloudEntry, entry
from trainyard.settings.ofcloud import pod_inputs, wait_hours
from trainyard.settings.setting import is_secret
from trainyard.settings.table import StackSettings

REFERENCE = re.compile(r"\$\{TRAINYARD_[A-Z0-9_]+\}")
"""How a value is written that only a run knows, or that is a secret."""
_POD = "pod"
"""What a run's program calls its pod."""


@dataclass(frozen=True, slots=True)
class CloudRequest:
    """The create request of a pod, in its cloud's own form."""

    file: str
    document: Mapping[str, object]

    @property
    def text(self) -> str:
        """What its file holds."""
        return text_of(self.file, self.document)


@dataclass(frozen=True, slots=True)
class _StandIn:
    """One making of the request, and what stands in it for values that nobody knows yet, by the names of these."""

    document: Mapping[str, object]
    known: Mapping[str, str]


def row_that_renders(cloud: str) -> CloudEntry:
    """Return the row of a cloud that has a create request to be read; raises UserError for one that has none."""
    row = entry(cloud)
    if row is None or not row.request_file:
        raise UserError(f"cloud '{cloud}' is sent no create request that could be read or edited", hint="Its settings say everything.")
    return row


def cloud_request(cloud: Cloud, settings: StackSettings, offer: Offer, hours: float) -> CloudRequest:
    """Return what would be sent for a run's pod of such settings; raises UserError, and what the cloud's create() does."""
    row = row_that_renders(settings.cloud)
    if not isinstance(cloud, Renders):
        raise UserError(f"the adapter of cloud '{cloud.name}' cannot say what it sends", hint="It lacks `rendered` (clouds/rendering.py).")
    first, second = (_stand_in(cloud, row, settings, offer, hours, turn) for turn in (0, 1))
    merged = _merged(_with_references(first.document, first.known), _with_references(second.document, second.known), "")
    assert isinstance(merged, Mapping)
    return CloudRequest(row.request_file, merged)


def _stand_in(cloud: Renders, row: CloudEntry, settings: StackSettings, offer: Offer, hours: float, turn: int) -> _StandIn:
    name = PodName(new_id(), new_id(), shortened(_POD, row.logical_name), secrets.token_hex(4))
    # A minute apart: a cloud that sells whole hours is asked for the same.
    now = datetime.now(UTC)
    stop = now + timedelta(hours=hours, minutes=-turn)
    end = stop + timedelta(minutes=settings.rescue_minutes, hours=wait_hours(settings) or 0.0)
    seed, login = secrets.token_hex(32), host_key(secrets.token_bytes(32), "login").public
    sha256, private = secrets.token_hex(32), secrets.token_hex(32)
    said = pod_inputs(settings) | {"env": _variables(settings), "registry": _registry(settings)}
    wish = PodWish(
        lease_id=name.lease_id, fence_id=name.fence_id, stop=format_time(stop), end=format_time(end) or "", host_key_seed=seed,
        public_key=login, container_bundle=None if row.ssh else sha256, container_secrets=None if row.ssh else private,
        store=None, bucket=None, **said,
    )  # fmt: skip
    request = wish.request(str(name))
    price = offer.price_per_hour + turn / 1024
    known = {
        str(name): "NAME", name.fence_id: "FENCE_ID", name.lease_id: "LEASE_ID", wish.stop or "": "STOP", wish.end: "END",
        login: "PUBLIC_KEY", request.key.public: "HOST_KEY", request.key.private_pem: "PRIVATE_HOST_KEY", sha256: "BUNDLE_SHA256",
        private: "SECRETS", budget_env(price, None, {})["TRAINYARD_PRICE"]: "PRICE",
    }  # fmt: skip
    moment = now + timedelta(seconds=17 * turn)
    return _StandIn(cloud.rendered(request.query, request.spec_at(price), offer, moment), known)


def _variables(settings: StackSettings) -> dict[str, str]:
    variables = settings.pod_env if isinstance(settings.pod_env, Mapping) else {}
    return {name: secrets.token_hex(16) if is_secret(value) else str(value) for name, value in variables.items()}


def _registry(settings: StackSettings) -> str | None:
    """Return a login of the right form, of nobody."""
    who, token, where = (secrets.token_hex(8) for _ in range(3))
    return f"-u {who} -p {token} {where}.invalid" if is_secret(settings.registry) else str(settings.registry or "") or None


def _with_references(value: object, known: Mapping[str, str]) -> object:
    """Return a value with references for what is known to be unknown, also where JSON has written it into a text."""
    if isinstance(value, Mapping):
        return {str(_with_references(name, known)): _with_references(one, known) for name, one in value.items()}
    if isinstance(value, (list, tuple)):
        return [_with_references(one, known) for one in value]
    if not isinstance(value, str):
        return value
    for text, name in sorted(known.items(), key=lambda pair: -len(pair[0])):
        for form in {text, json.dumps(text)[1:-1]}:
            value = value.replace(form, reference(name))
    return value


def _merged(first: object, second: object, name: str) -> object:
    """Return what both makings have in common; what differs is a reference by the name of its field."""
    if isinstance(first, Mapping) and isinstance(second, Mapping) and set(first) == set(second):
        return {key: _merged(value, second[key], key if key != "value" else str(first.get("key", key))) for key, value in first.items()}
    if isinstance(first, list) and isinstance(second, list) and len(first) == len(second):
        return [_merged(one, other, name) for one, other in zip(first, second, strict=True)]
    if name == PROGRAM and isinstance(first, str) and isinstance(second, str) and first.count("\n") == second.count("\n"):
        return "\n".join(map(_merged_line, first.split("\n"), second.split("\n")))
    return first if first == second else reference(name)


def _merged_line(first: str, second: str) -> str:
    """Return what both makings of a program's line have in common: of an assignment the variable's name."""
    variable, equals, _ = first.partition("=")
    same = equals and second.startswith(variable + equals)
    return first if first == second else f"{variable}={reference(variable)}" if same else reference("line")
