"""REST v2 as RunPod's specification says it: routes, validation, answers. Knows nothing of sockets."""

from __future__ import annotations

import json
import re
import secrets
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from trainyard.clock import format_time, parse_time
from trainyard.clouds.volume import VOLUME_MARK
from trainyard.jsontext import uncollected
from trainyard.rehearsal.kit import ACTIONS, ErrorAnswer, Fleet, HttpProblem, NewPod, PodRecord, Reply, Request, Route
from trainyard.rehearsal.runpod import billing, schema, stock

TITLES = {
    400: "Bad Request", 401: "Unauthorized", 402: "Payment Required", 403: "Forbidden", 404: "Not Found",
    405: "Method Not Allowed", 409: "Conflict", 422: "Unprocessable Entity", 429: "Too Many Requests",
    500: "Internal Server Error", 502: "Bad Gateway", 503: "Service Unavailable",
}  # fmt: skip


def error_reply(error: ErrorAnswer) -> Reply:
    """Return an error in RunPod's form."""
    body: dict[str, object] = {"title": TITLES.get(error.status, "Error"), "status": error.status, "detail": error.detail}
    body |= {"errors": list(error.errors)} if error.errors else {}
    return Reply(error.status, body, content_type="application/problem+json")


@dataclass(frozen=True, slots=True)
class Rest:
    """The REST API over a fleet."""

    fleet: Fleet

    def list_all(self, request: Request) -> Reply:
        """GET /pods."""
        ahead = self.fleet.clock(0.0)
        with uncollected():
            return _checked("ListPodsResponse", {"pods": [self.show(record, ahead) for record in self.fleet.all()]})

    def get(self, request: Request) -> Reply:
        """GET /pods/ID."""
        return _checked("Pod", self.show(self.fleet.existing(request.id)))

    def delete(self, request: Request) -> Reply:
        """DELETE /pods/ID."""
        if not self.fleet.delete(request.id, f"deleted by {'its own key' if request.who == request.id else request.who}"):
            raise self.fleet.cloud.refuse("not found")
        return Reply(*self.fleet.cloud.deleted)

    def create(self, request: Request) -> Reply:
        """POST /pods."""
        body = _body(request, "CreatePodRequest")
        price, center = self.place(body)
        return _checked("Pod", self.show(self.fleet.create(new_pod(body, price, center))), 201)

    def place(self, body: dict[str, Any], *, spot: bool = False) -> tuple[float, str]:
        """Check the rules between fields and find room; return (price, data center). Completes ``body`` from its template."""
        self._apply_template(body)
        _check_rules(body)
        centers, tier = self._centers(body), body.setdefault("cloud", "SECURE")
        if "gpu" in body:
            type_id, kind = body["gpu"]["id"], stock.gpu(body["gpu"]["id"])
            if kind is None or body["gpu"].setdefault("count", 1) > kind.most:
                raise self.fleet.cloud.refuse("no capacity")
            price = stock.price(type_id, body["gpu"]["count"], tier, spot=spot)
            places = tuple(c for c in kind.centers if stock.carries(c, body["gpu"].get("minCudaVersion")))
        else:
            type_id, count = body["cpu"]["id"], body["cpu"]["vcpuCount"]
            if type_id not in stock.CPUS or count & (count - 1):
                raise HttpProblem(400, "invalid CPU flavor or vcpuCount")
            price, places = stock.CPUS[type_id][3] * count, stock.CPU_CENTERS
        out = self.fleet.sold_out()
        room = [c for c in places if (not centers or c in centers) and not stock.is_sold_out(out, type_id, c)]
        if not room:
            raise self.fleet.cloud.refuse("no capacity")
        if self._account().get("balance", 100.0) < price:
            raise self.fleet.cloud.refuse("no balance")
        return price, room[0]

    def show(self, record: PodRecord, ahead: float | None = None) -> dict[str, Any]:
        """Return a pod as the API shows it; ``ahead``: seconds of the cloud's clock, where the caller has asked for them."""
        ahead = self.fleet.clock(0.0) if ahead is None else ahead
        request, running = record["request"], record["status"] == "RUNNING"
        address = shown_port(self.fleet, record)
        shown: dict[str, Any] = {
            "id": record["id"], "name": record["name"], "image": request.get("image", ""), "args": request.get("args", ""),
            "disk": request.get("disk", 50), "ports": request.get("ports", []), "env": dict(request.get("env", {})),
            "registry": request.get("registry"), "status": record["status"], "actions": [*ACTIONS.get(record["status"], ()), "terminate"],
            "mounts": request.get("mounts", {}), "cloud": request.get("cloud", "SECURE"), "dataCenterId": record["place"],
            "cudaVersion": ".".join(map(str, stock.cuda(record["place"]))) if request.get("gpu") else None, "template": None,
            "ssh": {"proxy": None, "direct": None}, "locked": request.get("locked", False),
            "globalNetworking": {"enabled": False}, "runtime": {} if running else None,
            "cost": record["price"] if record["status"] not in ("EXITED", "TERMINATED") else 0.0,
            "createdAt": format_time(record["created"] + ahead),
            "startedAt": format_time(record["started"] + ahead) if record["started"] else None,
        }  # fmt: skip
        if "WORKSPACE" in shown["env"] and record.get("workspace"):
            shown["env"]["WORKSPACE"] = record["workspace"]
        for mount in request.get("mounts", {}).get("network", []):
            if VOLUME_MARK in shown["env"]:
                shown["env"][VOLUME_MARK] = str(self.fleet.machines.volume(mount["volumeId"]))
        if request.get("gpu"):
            shown["gpu"] = {"id": request["gpu"]["id"], "count": request["gpu"].get("count", 1)}
        else:
            shown["cpu"] = {**request["cpu"], "memory": max(1, int(stock.CPUS[request["cpu"]["id"]][2] * request["cpu"]["vcpuCount"]))}
        user = f"{record['id']}-64411eb2"
        shown["ssh"]["proxy"] = _endpoint("ssh.rehearsal.invalid", 22, user)
        if running and address is not None:
            shown["ssh"]["direct"] = _endpoint("127.0.0.1", address, record["user"])
            shown["runtime"] = {"uptime": int(self.fleet.now() - (record["started"] or 0.0)), "ports": _ports(request, address)}
        return shown

    def update(self, request: Request) -> Reply:
        """PATCH /pods/ID: a changed image or variable restarts the container."""
        self.fleet.existing(request.id)
        changes = _body(request, "UpdatePodRequest")
        record = self.fleet.update(request.id, changes, restart=bool({"env", "image", "args"} & changes.keys()))
        if record is None:
            raise self.fleet.cloud.refuse("not found")
        return _checked("Pod", self.show(record))

    def act(self, request: Request) -> Reply:
        """POST /pods/ID/action."""
        self.fleet.existing(request.id)
        action = _body(request, "PodActionRequest")["action"]
        if action == "terminate":
            return self.delete(request)
        record = self.fleet.act(request.id, action)
        if record is None:
            raise HttpProblem(409, f"action {action} is not valid for the current status")
        return _checked("Pod", self.show(record))

    def logs(self, request: Request) -> Reply:
        """GET /pods/ID/logs: server-sent events, until the client goes."""
        record, source = self.fleet.existing(request.id), request.param("source")
        lines = [("system", line) for line in record["system"]] if source != "container" else []
        if source != "system":
            lines += [("container", line) for line in self.fleet.log(record)]
        tail, stamp = int(request.param("tail") or 100), format_time(self.fleet.now())
        events = [json.dumps({"ts": stamp, "source": where, "line": line}) for where, line in (lines[-tail:] if tail else [])]
        chunks = [f"id: {stamp}/{number:012d}\ndata: {data}\n\n".encode() for number, data in enumerate(events)]
        return Reply(200, content_type="text/event-stream", chunks=chunks)

    def centers(self, request: Request) -> Reply:
        """GET /catalog/datacenters."""
        return _checked("ListDataCentersResponse", {"dataCenters": stock.center_rows(_words(request, "regions"))})

    def gpus(self, request: Request) -> Reply:
        """GET /catalog/gpus."""
        least = request.param("minCudaVersion")
        if least is not None and not re.fullmatch(r"\d+(\.\d+)?", least):
            raise HttpProblem(422, "Request validation failed.", errors=["minCudaVersion: does not match the pattern"])
        where = _words(request, "countryCodes")
        rows = stock.gpu_rows(self.fleet.sold_out(), availability=_availability(request), countries=where, least=least)
        return _checked("ListGpuTypesResponse", {"gpus": rows})

    def cpus(self, request: Request) -> Reply:
        """GET /catalog/cpus."""
        rows = stock.cpu_rows(self.fleet.sold_out(), availability=_availability(request))
        return _checked("ListCpuTypesResponse", {"cpus": rows})

    def volumes(self, request: Request) -> Reply:
        """GET /network-volumes."""
        return _checked("ListNetworkVolumesResponse", {"networkVolumes": self._account().get("volumes", [])})

    def create_volume(self, request: Request) -> Reply:
        """POST /network-volumes."""
        body = _body(request, "CreateNetworkVolumeRequest")
        if body["dataCenter"] not in stock.CENTERS:
            raise HttpProblem(400, f"unknown data center {body['dataCenter']!r}")
        volume = {"id": secrets.token_hex(5), "type": "STANDARD", **body}
        account = self._account()
        self.fleet.ledger.save_account({**account, "volumes": [*account.get("volumes", []), volume]})
        return _checked("NetworkVolume", volume, 201)

    def grow_volume(self, request: Request) -> Reply:
        """PATCH /network-volumes/ID: a size can only grow."""
        changes, account = _body(request, "UpdateNetworkVolumeRequest"), self._account()
        volume = next((one for one in account.get("volumes", []) if one["id"] == request.id), None)
        if volume is None:
            raise HttpProblem(404, "network volume not found")
        if changes.get("size", volume["size"]) < volume["size"]:
            raise HttpProblem(400, "network volume size cannot be reduced")
        others = [one for one in account["volumes"] if one["id"] != request.id]
        self.fleet.ledger.save_account({**account, "volumes": [*others, {**volume, **changes}]})
        return _checked("NetworkVolume", {**volume, **changes})

    def delete_volume(self, request: Request) -> Reply:
        """DELETE /network-volumes/ID."""
        account = self._account()
        kept = [volume for volume in account.get("volumes", []) if volume["id"] != request.id]
        if len(kept) == len(account.get("volumes", [])):
            raise HttpProblem(404, "network volume not found")
        self.fleet.ledger.save_account({**account, "volumes": kept})
        return Reply(204)

    def keys(self, request: Request) -> Reply:
        """GET /account/ssh-keys."""
        return _checked("SshKeys", {"keys": self._account().get("keys", [])})

    def put_keys(self, request: Request) -> Reply:
        """PUT /account/ssh-keys."""
        body = _body(request, "UpdateSshKeysRequest")
        self.fleet.ledger.save_account({**self._account(), "keys": body["keys"]})
        return _checked("SshKeys", body)

    def billing(self, request: Request) -> Reply:
        """GET /billing/pods."""
        if request.param("lastN") and (request.param("startTime") or request.param("endTime")):
            raise HttpProblem(400, "lastN excludes startTime and endTime")
        start, end = (moment.timestamp() if (moment := parse_time(request.param(name))) else None for name in ("startTime", "endTime"))
        last, bucket = int(request.param("lastN") or 0), request.param("bucketSize") or "day"
        asked = billing.BillQuery(bucket, request.param("podId"), start, end, last)
        answer = billing.report(self.fleet.ledger.paid(), self.fleet.now(), asked)
        return _checked("ListPodBillingResponse", answer)

    def _centers(self, body: Mapping[str, Any]) -> list[str]:
        centers: list[str] = body.get("dataCenterIds", [])
        for mount in body.get("mounts", {}).get("network", []):
            home = next((v["dataCenter"] for v in self._account().get("volumes", []) if v["id"] == mount["volumeId"]), None)
            if home is None:
                raise HttpProblem(400, "network volume not found")
            centers = [home] if not centers or home in centers else ["nowhere"]
        return centers

    def _apply_template(self, body: dict[str, Any]) -> None:
        if "templateId" not in body:
            if not body.get("image"):
                raise HttpProblem(422, "Request validation failed.", errors=["$: missing property 'image'"])
            return
        template = self._account().get("templates", {}).get(body.pop("templateId"))
        if template is None:
            raise HttpProblem(404, "template not found")
        env = {**template.get("env", {}), **body.get("env", {})}
        body |= {**template, **body, "env": env}

    def _account(self) -> dict[str, Any]:
        return self.fleet.ledger.account()


def new_pod(body: Mapping[str, Any], price: float, center: str, *, spot: bool = False) -> NewPod:
    """Return what a create of REST or GraphQL has been granted."""
    gpu, disks = bool(body.get("gpu")), stock.disk_price(body)
    return NewPod(body, body["name"], price, center, body.get("image", ""), gpu, spot, disks)


def shown_port(fleet: Fleet, record: PodRecord) -> int | None:
    """Return the public port of 22 that the API shows now, where the request has asked for one."""
    return fleet.port(record) if "22/tcp" in record["request"].get("ports", []) else None


def _of(handle: Callable[[Rest, Request], Reply]) -> Callable[[Fleet, Request], Reply]:
    return lambda fleet, request: handle(Rest(fleet), request)


ROUTES = (
    Route("GET", "/v2/pods", "list", _of(Rest.list_all)),
    Route("POST", "/v2/pods", "create", _of(Rest.create)),
    Route("GET", "/v2/pods/*", "get", _of(Rest.get), pods="own"),
    Route("PATCH", "/v2/pods/*", "update", _of(Rest.update)),
    Route("DELETE", "/v2/pods/*", "delete", _of(Rest.delete), pods="own"),
    Route("POST", "/v2/pods/*/action", "act", _of(Rest.act)),
    Route("GET", "/v2/pods/*/logs", "logs", _of(Rest.logs)),
    Route("GET", "/v2/catalog/gpus", "catalog", _of(Rest.gpus)),
    Route("GET", "/v2/catalog/cpus", "catalog", _of(Rest.cpus)),
    Route("GET", "/v2/catalog/datacenters", "catalog", _of(Rest.centers)),
    Route("GET", "/v2/network-volumes", "volumes", _of(Rest.volumes)),
    Route("POST", "/v2/network-volumes", "create", _of(Rest.create_volume)),
    Route("PATCH", "/v2/network-volumes/*", "volumes", _of(Rest.grow_volume)),
    Route("DELETE", "/v2/network-volumes/*", "delete", _of(Rest.delete_volume)),
    Route("GET", "/v2/account/ssh-keys", "keys", _of(Rest.keys)),
    Route("PUT", "/v2/account/ssh-keys", "keys", _of(Rest.put_keys)),
    Route("GET", "/v2/billing/pods", "billing", _of(Rest.billing)),
)


def _checked(name: str, body: Any, status: int = 200) -> Reply:
    """Return an answer of this form."""
    if errors := schema.check(name, body):
        # The rehearsal must not teach wrong forms: such an answer is a bug of the rehearsal, and loud.
        raise HttpProblem(500, f"the rehearsal's own answer breaks the schema: {errors}")
    return Reply(status, body)


def _words(request: Request, name: str) -> list[str]:
    """Return a comma-separated query parameter."""
    return [word for word in (request.param(name) or "").split(",") if word]


def _body(request: Request, name: str) -> dict[str, Any]:
    body: dict[str, Any] = request.json()
    if errors := schema.check(name, body):
        raise HttpProblem(422, "Request validation failed.", errors=errors)
    return body


def _check_rules(body: Mapping[str, Any]) -> None:
    """Refuse what fits the schema and breaks a rule between fields."""
    mounts = body.get("mounts", {})
    if ("gpu" in body) == ("cpu" in body):
        raise HttpProblem(400, "exactly one of gpu or cpu must be set")
    if "persistent" in mounts and "network" in mounts:
        raise HttpProblem(400, "mounts.persistent and mounts.network are mutually exclusive")
    if "cpu" in body and "persistent" in mounts:
        raise HttpProblem(400, "mounts.persistent is not supported on CPU pods")
    if len(body.get("env", {})) > 50:
        raise HttpProblem(400, "at most 50 environment variables")
    for port in body.get("ports", []):
        number, _, protocol = port.partition("/")
        if not number.isdigit() or protocol not in ("tcp", "http"):
            raise HttpProblem(400, f"invalid port {port!r}")


def _availability(request: Request) -> bool:
    with_availability = "AVAILABILITY" in _words(request, "include")
    if with_availability and not _words(request, "product"):
        raise HttpProblem(400, "product is required with include=AVAILABILITY")
    if not with_availability and any(request.param(name) for name in ("product", "count", "cloud", "countryCodes", "minCudaVersion")):
        raise HttpProblem(400, "valid only with include=AVAILABILITY")
    return with_availability


def _endpoint(host: str, port: int, user: str) -> dict[str, object]:
    where = f" -p {port}" if port != 22 else ""
    return {"host": host, "port": port, "username": user, "command": f"ssh {user}@{host}{where}"}


def _ports(request: Mapping[str, Any], address: int) -> list[dict[str, object]]:
    """Return the live mappings: the UDP twin of 22 first, as seen in the wild, and HTTP ports without a public address."""
    ports: list[dict[str, object]] = [
        {"private": 22, "public": address + 1, "type": "udp", "ip": "127.0.0.1"},
        {"private": 22, "public": address, "type": "tcp", "ip": "127.0.0.1"},
    ]
    http = [int(port.partition("/")[0]) for port in request.get("ports", []) if port.endswith("/http")]
    return [{"private": number, "public": 60000 + number % 5000, "type": "http", "ip": "100.65.0.7"} for number in http] + ports
