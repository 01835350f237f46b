"""The part of RunPod's GraphQL that REST v2 lacks or that pods use to end themselves: errors come with HTTP 200."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from trainyard.rehearsal.runpod import stock
from trainyard.rehearsal.runpod.rest import Problem, Reply, Request, Rest, shown_address

_TOKEN = re.compile(r'"(?:[^"\\]|\\.)*"|[{}()\[\]:$!,]|[A-Za-z_]\w*|-?\d+(?:\.\d+)?')


class _Error(Exception):
    """A GraphQL error."""


@dataclass(frozen=True, slots=True)
class _Field:
    name: str
    arguments: Mapping[str, Any]
    fields: tuple[_Field, ...]


@dataclass(frozen=True, slots=True)
class GraphQl:
    """The GraphQL endpoint over the same fleet."""

    rest: Rest

    def answer(self, request: Request) -> Reply:
        """Answer one query or mutation."""
        try:
            body = json.loads(request.body)
            fields = _parse(str(body["query"]), body.get("variables") or {})
        except (ValueError, KeyError, TypeError, StopIteration):
            return _failed("Syntax Error", "GRAPHQL_PARSE_FAILED", 400)
        data: dict[str, Any] = {}
        try:
            for field in fields:
                data[field.name] = _select(self._resolve(field, request.who), field.fields)
        except _Error as error:
            return _failed(str(error))
        except Problem as problem:
            return _failed(str(problem))
        return Reply(200, {"data": data})

    def _resolve(self, field: _Field, who: str) -> Any:
        given = field.arguments.get("input") or {}
        fleet = self.rest.fleet
        if field.name in ("pod", "podTerminate", "podStop", "podResume"):
            pod_id = given.get("podId", "")
            record = fleet.get(pod_id)
            if who not in ("account", pod_id):
                raise _Error("Unauthorized")
            if record is None:
                if field.name == "pod":
                    return None
                raise _Error(f"pod not found: {pod_id}")
            if field.name == "podTerminate":
                fleet.delete(pod_id, f"deleted by {'its own key' if who == pod_id else who} over GraphQL")
                return None
            if field.name != "pod":
                fleet.act(pod_id, "stop" if field.name == "podStop" else "start")
            return self._pod(pod_id)
        if who != "account":
            raise _Error("Unauthorized")
        if field.name == "myself":
            account = fleet.ledger.account()
            spending = sum(r["price"] for r in fleet.all() if r["status"] not in ("EXITED", "TERMINATED"))
            pods = [self._pod(r["id"]) for r in fleet.all()]
            return {"clientBalance": account.get("balance", 100.0), "currentSpendPerHr": spending, "pods": pods}
        if field.name == "gpuTypes":
            return [_gpu_type(kind) for kind in stock.TYPES if not given.get("id") or kind.id == given["id"]]
        if field.name in ("podRentInterruptable", "podFindAndDeployOnDemand"):
            return self._create(given, spot=field.name == "podRentInterruptable")
        raise _Error(f'Cannot query field "{field.name}"')

    def _create(self, given: Mapping[str, Any], *, spot: bool) -> Any:
        if not given.get("name") or not given.get("gpuTypeId"):
            raise _Error("name and gpuTypeId are required")
        # stopAfter and terminateAfter are accepted and ignored, as in life.
        body: dict[str, Any] = {
            "name": given["name"],
            "gpu": {"id": given["gpuTypeId"], "count": given.get("gpuCount", 1)},
            "cloud": "COMMUNITY" if given.get("cloudType") == "COMMUNITY" else "SECURE",
            "disk": given.get("containerDiskInGb", 50),
            "ports": [port for port in given.get("ports", "").split(",") if port],
            "env": {pair["key"]: pair["value"] for pair in given.get("env", [])},
        }
        optional = {"image": "imageName", "args": "dockerArgs", "registry": "containerRegistryAuthId", "templateId": "templateId"}
        body |= {key: given[name] for key, name in optional.items() if given.get(name)}
        if given.get("allowedCudaVersions"):
            body["gpu"]["minCudaVersion"] = min(given["allowedCudaVersions"], key=lambda text: [int(part) for part in text.split(".")])
        if given.get("dataCenterId"):
            body["dataCenterIds"] = [given["dataCenterId"]]
        if given.get("networkVolumeId"):
            body["mounts"] = {"network": [{"volumeId": given["networkVolumeId"], "path": given.get("volumeMountPath", "/workspace")}]}
        elif given.get("volumeInGb"):
            body["mounts"] = {"persistent": {"size": given["volumeInGb"], "path": given.get("volumeMountPath", "/workspace")}}
        price, center = self.rest.place(body, spot=spot)
        bid = given.get("bidPerGpu")
        if spot and (bid is None or bid * body["gpu"]["count"] + 1e-9 < price):
            raise _Error("Your bid is too low for this GPU type.")
        return self._pod(self.rest.fleet.create(body, price=price, center=center, spot=spot)["id"])

    def _pod(self, pod_id: str) -> dict[str, Any]:
        record = self.rest.fleet.get(pod_id)
        if record is None:
            raise _Error(f"pod not found: {pod_id}")
        address, request = shown_address(record, self.rest.fleet.now()), record["request"]
        wanted = record["status"] if record["status"] in ("EXITED", "TERMINATED") else "RUNNING"
        ports = [{"ip": "127.0.0.1", "isIpPublic": True, "privatePort": 22, "publicPort": address, "type": "tcp"}]
        runtime = {"uptimeInSeconds": 1, "ports": ports} if address else None
        return {
            "id": pod_id,
            "name": record["name"],
            "desiredStatus": wanted,
            "costPerHr": record["price"],
            "imageName": request.get("image"),
            "env": [f"{key}={value}" for key, value in request.get("env", {}).items()],
            "machineId": "m" + pod_id[:11],
            "machine": {"podHostId": f"{pod_id}-64411eb2", "gpuDisplayName": request.get("gpu", {}).get("id")},
            "runtime": runtime,
        }


def _gpu_type(kind: stock.Type) -> dict[str, Any]:
    lowest = {"minimumBidPrice": kind.spot, "uninterruptablePrice": kind.community, "stockStatus": "High"}
    return {
        "id": kind.id,
        "displayName": kind.label,
        "memoryInGb": kind.memory,
        "securePrice": kind.secure,
        "communityPrice": kind.community,
        "secureSpotPrice": kind.spot,
        "communitySpotPrice": kind.spot,
        "lowestPrice": lowest,
    }


def _failed(message: str, code: str = "INTERNAL_SERVER_ERROR", status: int = 200) -> Reply:
    return Reply(status, {"errors": [{"message": message, "extensions": {"code": code}}], "data": None})


def _parse(query: str, variables: Mapping[str, Any]) -> tuple[_Field, ...]:
    """Return the fields of an operation with its variables put in."""
    tokens = iter(_TOKEN.findall(query.replace(",", " ")))
    for token in tokens:
        if token == "{":
            return _fields(tokens, variables)
        if token == "(":
            while next(tokens) != ")":
                continue
    raise ValueError("no selection")


def _fields(tokens: Iterator[str], variables: Mapping[str, Any]) -> tuple[_Field, ...]:
    found: list[_Field] = []
    for token in tokens:
        if token == "}":
            return tuple(found)
        if token == "{":
            last = found.pop()
            found.append(_Field(last.name, last.arguments, _fields(tokens, variables)))
        elif token == "(":
            last = found.pop()
            found.append(_Field(last.name, _object(tokens, variables, ")"), ()))
        else:
            found.append(_Field(token, {}, ()))
    raise ValueError("unbalanced")


def _object(tokens: Iterator[str], variables: Mapping[str, Any], closing: str) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name in tokens:
        if name == closing:
            return found
        if next(tokens) != ":":
            raise ValueError("expected ':'")
        found[name] = _value(next(tokens), tokens, variables)
    raise ValueError("unbalanced")


def _value(token: str, tokens: Iterator[str], variables: Mapping[str, Any]) -> Any:
    if token == "$":
        return variables.get(next(tokens))
    if token == "{":
        return _object(tokens, variables, "}")
    if token == "[":
        items = []
        while (item := next(tokens)) != "]":
            items.append(_value(item, tokens, variables))
        return items
    return json.loads(token) if token[0] in '"-0123456789tfn' and token not in ("type",) else token


def _select(value: Any, fields: tuple[_Field, ...]) -> Any:
    if not fields or value is None:
        return value
    if isinstance(value, list):
        return [_select(item, fields) for item in value]
    return {field.name: _select(value.get(field.name), field.fields) for field in fields}
