"""RunPod's GraphQL, only for what REST v2 lacks: spot pods, the balance, a second way to end a pod.

Values always travel as variables, never inside the query's text.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import httpx

from trainyard.clouds.http import Api
from trainyard.clouds.offers import affordable
from trainyard.clouds.protocol import Offer, OfferQuery
from trainyard.clouds.runpod.answers import say
from trainyard.clouds.values import json_object, mapping, number, price_of
from trainyard.errors import CloudError, CloudRefused, CloudUnknown, NoCapacity

_SPOT_PRICES = """query($input: GpuTypeFilter) { gpuTypes(input: $input) { id secureSpotPrice communitySpotPrice } }"""
_RENT = """mutation($input: PodRentInterruptableInput!) { podRentInterruptable(input: $input) { id } }"""
_TERMINATE = """mutation($input: PodTerminateInput!) { podTerminate(input: $input) }"""
_BALANCE = """query { myself { clientBalance currentSpendPerHr } }"""
_NO_CAPACITY = ("no longer any instances", "not enough", "no instances", "outbid", "bid is too low", "does not have the resources")
_REFUSED_CODES = ("GRAPHQL_VALIDATION_FAILED", "GRAPHQL_PARSE_FAILED", "BAD_USER_INPUT", "UNAUTHENTICATED", "FORBIDDEN")


class _Absent(CloudRefused):
    """What was asked for is not there."""


@dataclass(frozen=True, slots=True)
class GraphQlClient:
    """The GraphQL endpoint of one account."""

    api: Api

    def balance(self) -> tuple[float, float]:
        """Return (dollars left, dollars per hour being spent)."""
        myself = mapping(self._query(_BALANCE, {}).get("myself"))
        left, spending = number(myself.get("clientBalance")), number(myself.get("currentSpendPerHr"))
        if left is None:
            raise CloudUnknown("RunPod did not tell the balance")
        return left, spending or 0.0

    def spot_offers(self, query: OfferQuery, offers: list[Offer]) -> list[Offer]:
        """Return the offers as spot ones, at the spot price of their tier."""
        prices: dict[str, Mapping[str, object]] = {}
        matching = []
        for offer in offers:
            gpu = offer.gpu or ""
            if gpu not in prices:
                types = self._query(_SPOT_PRICES, {"input": {"id": gpu}}).get("gpuTypes")
                prices[gpu] = mapping(types[0]) if isinstance(types, list) and types else {}
            each = price_of(prices[gpu].get("secureSpotPrice" if offer.tier == "SECURE" else "communitySpotPrice"))
            spot = replace(offer, spot=True, price_per_hour=round((each or 0.0) * offer.gpu_count, 6))
            if each and affordable(query, spot):
                matching.append(spot)
        return matching

    def create_spot(self, variables: Mapping[str, object], *, limit: float) -> str:
        """Rent one interruptible pod; return its id."""
        response = self.api.create("", {"query": _RENT, "variables": {"input": dict(variables)}}, limit=limit)
        data = _data(response)
        pod_id = mapping(data.get("podRentInterruptable")).get("id")
        if not isinstance(pod_id, str) or not pod_id:
            raise CloudUnknown("RunPod accepted the spot request without telling the pod's id")
        return pod_id

    def terminate(self, pod_id: str) -> None:
        """End a pod; one that is already gone is success."""
        try:
            self._query(_TERMINATE, {"input": {"podId": pod_id}})
        except _Absent:
            return

    def _query(self, query: str, variables: Mapping[str, object]) -> Mapping[str, object]:
        return _data(self.api.ask("", {"query": query, "variables": dict(variables)}, urgent=query is _TERMINATE))


def _data(response: httpx.Response) -> Mapping[str, object]:
    """Return ``data``; an error arrives with HTTP 200 and a list of messages."""
    body = json_object(response)
    if body is None:
        raise CloudUnknown(f"RunPod's GraphQL: HTTP {response.status_code}, {say(response)}")
    errors = body.get("errors")
    if isinstance(errors, list) and errors:
        raise _error(response.status_code, [mapping(e) for e in errors])
    if response.status_code in (400, 401, 403, 404, 429):
        raise CloudRefused(f"RunPod's GraphQL: HTTP {response.status_code}", hint="Check RUNPOD_API_KEY and its rights.")
    data = body.get("data")
    if response.status_code != 200 or not isinstance(data, dict):
        raise CloudUnknown(f"RunPod's GraphQL: HTTP {response.status_code} without data")
    return data


def _error(code: int, errors: list[Mapping[str, object]]) -> CloudError:
    # Without a code for either, its words are all that it says of what is sold out or not there.
    text = "; ".join(str(error.get("message")) for error in errors)
    codes = {str(mapping(error.get("extensions")).get("code")) for error in errors}
    if any(words in text.lower() for words in _NO_CAPACITY):
        return NoCapacity(f"RunPod: {text}")
    if "not found" in text.lower():
        return _Absent(f"RunPod: {text}")
    if code in (400, 401, 403) or codes & set(_REFUSED_CODES):
        return CloudRefused(f"RunPod: {text}")
    return CloudUnknown(f"RunPod: {text}")
