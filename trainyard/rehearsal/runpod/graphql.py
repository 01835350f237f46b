"""The part of RunPod's GraphQL that REST v2 lacks or that pods use to end themselves: errors come with HTTP 200."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from graphql import GraphQLError, GraphQLResolveInfo, GraphQLSchema, GraphQLSyntaxError, build_schema, execute_sync, parse, validate

from trainyard.jsontext import parse_json
from trainyard.rehearsal.kit import ACCOUNT, Action, Fleet, Reply, Request, Route
from trainyard.rehearsal.runpod import stock
from trainyard.rehearsal.runpod.rest import Rest, new_pod, shown_port

Info = GraphQLResolveInfo


def answer(fleet: Fleet, request: Request) -> Reply:
    """Answer one query or mutation over the same fleet."""
    try:
        body = parse_json(request.body)
        document = parse(str(body["query"]))
    except (GraphQLSyntaxError, ValueError, KeyError, TypeError) as error:
        return _failed([str(error)], "GRAPHQL_PARSE_FAILED", 400)
    if wrong := validate(_schema(), document):
        return _failed([error.message for error in wrong], "GRAPHQL_VALIDATION_FAILED", 400)
    done = execute_sync(_schema(), document, _Root(Rest(fleet), request.who), variable_values=body.get("variables") or {})
    if done.errors:
        return _failed([error.message for error in done.errors])
    return Reply(200, {"data": done.data})


ROUTE = Route("POST", "/graphql", "graphql", answer, pods="all")
"""A pod's own key may come in: what it may ask is looked at for each field."""


@functools.cache
def _schema() -> GraphQLSchema:
    return build_schema((Path(__file__).parent / "schema.graphql").read_text(encoding="utf-8"))


@dataclass(frozen=True, slots=True)
class _Root:
    """The fields of Query and Mutation; ``who`` asks: ``account``, or a pod by its own key."""

    rest: Rest
    who: str

    def pod(self, info: Info, input: Mapping[str, Any]) -> dict[str, Any] | None:
        return self._pod(pod_id) if self._may(pod_id := input["podId"]) else None

    def podTerminate(self, info: Info, input: Mapping[str, Any]) -> None:
        pod_id = self._existing(input["podId"])
        self.rest.fleet.delete(pod_id, f"deleted by {'its own key' if self.who == pod_id else self.who} over GraphQL")

    def podStop(self, info: Info, input: Mapping[str, Any]) -> dict[str, Any]:
        return self._act(input["podId"], "stop")

    def podResume(self, info: Info, input: Mapping[str, Any]) -> dict[str, Any]:
        return self._act(input["podId"], "start")

    def myself(self, info: Info) -> dict[str, Any]:
        self._only_account()
        fleet = self.rest.fleet
        spending = sum(r["price"] for r in fleet.all() if r["status"] not in ("EXITED", "TERMINATED"))
        pods = [self._pod(r["id"]) for r in fleet.all()]
        return {"clientBalance": fleet.ledger.account().get("balance", 100.0), "currentSpendPerHr": spending, "pods": pods}

    def gpuTypes(self, info: Info, input: Mapping[str, Any] | None = None) -> list[dict[str, Any]]:
        self._only_account()
        type_id = (input or {}).get("id")
        return [_gpu_type(kind) for kind in stock.TYPES if not type_id or kind.id == type_id]

    def podFindAndDeployOnDemand(self, info: Info, input: Mapping[str, Any]) -> dict[str, Any]:
        return self._create(input, spot=False)

    def podRentInterruptable(self, info: Info, input: Mapping[str, Any]) -> dict[str, Any]:
        return self._create(input, spot=True)

    def _only_account(self) -> None:
        if self.who != ACCOUNT:
            raise GraphQLError("Unauthorized")

    def _may(self, pod_id: str) -> bool:
        """Tell whether a pod exists; raises GraphQLError for another pod's key."""
        if self.who != pod_id:
            self._only_account()
        return self.rest.fleet.get(pod_id) is not None

    def _existing(self, pod_id: str) -> str:
        if not self._may(pod_id):
            raise GraphQLError(f"pod not found: {pod_id}")
        return pod_id

    def _act(self, pod_id: str, action: Action) -> dict[str, Any]:
        self.rest.fleet.act(self._existing(pod_id), action)
        return self._pod(pod_id)

    def _create(self, request: Mapping[str, Any], *, spot: bool) -> dict[str, Any]:
        self._only_account()
        # stopAfter and terminateAfter are accepted and ignored, as in life.
        body: dict[str, Any] = {
            "name": request["name"],
            "gpu": {"id": request["gpuTypeId"], "count": request.get("gpuCount", 1)},
            "cloud": "COMMUNITY" if request.get("cloudType") == "COMMUNITY" else "SECURE",
            "disk": request.get("containerDiskInGb", 50),
            "ports": [port for port in (request.get("ports") or "").split(",") if port],
            "env": {pair["key"]: pair["value"] for pair in request.get("env") or ()},
        }
        optional = {"image": "imageName", "args": "dockerArgs", "registry": "containerRegistryAuthId", "templateId": "templateId"}
        body |= {key: request[name] for key, name in optional.items() if request.get(name)}
        if request.get("allowedCudaVersions"):
            body["gpu"]["minCudaVersion"] = min(request["allowedCudaVersions"], key=lambda text: [int(part) for part in text.split(".")])
        if request.get("dataCenterId"):
            body["dataCenterIds"] = [request["dataCenterId"]]
        if request.get("networkVolumeId"):
            body["mounts"] = {"network": [{"volumeId": request["networkVolumeId"], "path": request.get("volumeMountPath", "/workspace")}]}
        elif request.get("volumeInGb"):
            body["mounts"] = {"persistent": {"size": request["volumeInGb"], "path": request.get("volumeMountPath", "/workspace")}}
        price, center = self.rest.place(body, spot=spot)
        if spot and request["bidPerGpu"] * body["gpu"]["count"] + 1e-9 < price:
            raise GraphQLError("Your bid is too low for this GPU type.")
        return self._pod(self.rest.fleet.create(new_pod(body, price, center, spot=spot))["id"])

    def _pod(self, pod_id: str) -> dict[str, Any]:
        record = self.rest.fleet.get(pod_id)
        if record is None:
            raise GraphQLError(f"pod not found: {pod_id}")
        address, request = shown_port(self.rest.fleet, record), record["request"]
        status = record["status"] if record["status"] in ("EXITED", "TERMINATED") else "RUNNING"
        ports = [{"ip": "127.0.0.1", "isIpPublic": True, "privatePort": 22, "publicPort": address, "type": "tcp"}]
        runtime = {"uptimeInSeconds": 1, "ports": ports} if address else None
        return {
            "id": pod_id,
            "name": record["name"],
            "desiredStatus": status,
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


def _failed(messages: list[str], code: str = "INTERNAL_SERVER_ERROR", status: int = 200) -> Reply:
    return Reply(status, {"errors": [{"message": message, "extensions": {"code": code}} for message in messages], "data": None})
