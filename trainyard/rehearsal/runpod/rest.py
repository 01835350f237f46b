"""REST v2 as RunPod's specification says it: routes, validation, answers. Knows nothing of sockets."""

from __future__ import annotations

import re
import secrets
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qs

from trainyard.clock import format_time, parse_time
from trainyard.clouds.volume import VOLUME_MARK
from trainyard.jsontext import parse_json
from trainyard.rehearsal.runpod import billing, schema, stock
from trainyard.rehearsal.runpod.faults import CAPACITY
from trainyard.rehearsal.runpod.fleet import Fleet, actions
from trainyard.rehearsal.runpod.ledger import Record


@dataclass(frozen=True, slots=True)
class Request:
    """One request; ``who`` is ``account`` or the id of the pod whose key was used."""

    method: str
    path: str
    query: str
    body: bytes
    who: str

    def param(self, name: str) -> str | None:
        """Return a query parameter."""
        return parse_qs(self.query).get(name, [None])[0]

    def words(self, name: str) -> list[str]:
        """Return a comma-separated query parameter."""
        return [word for word in (self.param(name) or "").split(",") if word]


@dataclass(slots=True)
class Reply:
    """One answer; ``schema`` names what it must look like."""

    status: int
    body: Any = None
    schema: str | None = None
    headers: dict[str, str] = field(default_factory=dict)


class HttpProblem(Exception):
    """An error answer in RunPod's form."""

    def __init__(self, status: int, detail: str, errors: list[str] | None = None) -> None:
        super().__init__(detail)
        body: dict[str, object] = {"title": TITLES.get(status, "Error"), "status": status, "detail": detail}
        self.reply = Reply(status, body | ({"errors": errors} if errors else {}), "ErrorResponse")


TITLES = {
    400: "Bad Request", 401: "Unauthorized", 402: "Payment Required", 403: "Forbidden", 404: "Not Found",
    405: "Method Not Allowed", 409: "Conflict", 422: "Unprocessable Entity", 429: "Too Many Requests",
    500: "Internal Server Error", 502: "Bad Gateway", 503: "Service Unavailable",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Rest:
    """The REST API over a fleet."""

    fleet: Fleet

    def answer(self, request: Request) -> Reply:
        """Answer one request that has passed the door."""
        parts = request.path.strip("/").split("/")
        routes = self._routes()
        for (method, pattern), handle in routes.items():
            names = pattern.split("/")
            if method == request.method and len(names) == len(parts) and all(n in ("*", p) for n, p in zip(names, parts, strict=True)):
                rest = next((p for n, p in zip(names, parts, strict=True) if n == "*"), "")
                return handle(request, rest)
        if any(p.split("/")[0] == parts[0] for _, p in routes):
            raise HttpProblem(405 if len(parts) <= 2 else 404, "The requested method is not allowed for this path.")
        raise HttpProblem(404, "resource not found")

    def _routes(self) -> Mapping[tuple[str, str], Callable[[Request, str], Reply]]:
        return {
            ("GET", "pods"): self._list,
            ("POST", "pods"): self._create,
            ("GET", "pods/*"): self._get,
            ("PATCH", "pods/*"): self._update,
            ("DELETE", "pods/*"): self._delete,
            ("POST", "pods/*/action"): self._act,
            ("GET", "catalog/gpus"): self._gpus,
            ("GET", "catalog/cpus"): self._cpus,
            ("GET", "catalog/datacenters"): lambda r, _: Reply(
                200, {"dataCenters": stock.center_rows(r.words("regions"))}, "ListDataCentersResponse"
            ),
            ("GET", "network-volumes"): self._volumes,
            ("POST", "network-volumes"): self._create_volume,
            ("DELETE", "network-volumes/*"): self._delete_volume,
            ("GET", "account/ssh-keys"): lambda _, __: Reply(200, {"keys": self._account().get("keys", [])}, "SshKeys"),
            ("PUT", "account/ssh-keys"): self._put_keys,
            ("GET", "billing/pods"): self._billing,
        }

    def _list(self, request: Request, _: str) -> Reply:
        return Reply(200, {"pods": [self.show(record) for record in self.fleet.all()]}, "ListPodsResponse")

    def _get(self, request: Request, pod_id: str) -> Reply:
        return Reply(200, self.show(self._record(pod_id)), "Pod")

    def _delete(self, request: Request, pod_id: str) -> Reply:
        if not self.fleet.delete(pod_id, f"deleted by {'its own key' if request.who == pod_id else request.who}"):
            raise HttpProblem(404, "pod not found")
        return Reply(204)

    def _create(self, request: Request, _: str) -> Reply:
        body = _body(request, "CreatePodRequest")
        place = self.place(body)
        dearer = self.fleet.faults.met("price")
        price = place[0] * (dearer["factor"] if dearer else 1.0)
        return Reply(201, self.show(self.fleet.create(body, price=price, center=place[1])), "Pod")

    def place(self, body: dict[str, Any], *, spot: bool = False) -> tuple[float, str]:
        """Check the rules between fields and find room; return (price, data center). Completes ``body`` from its template."""
        self._apply_template(body)
        _check_rules(body)
        centers, tier = self._centers(body), body.setdefault("cloud", "SECURE")
        if "gpu" in body:
            type_id, kind = body["gpu"]["id"], stock.gpu(body["gpu"]["id"])
            if kind is None or body["gpu"].setdefault("count", 1) > kind.most:
                raise HttpProblem(400, CAPACITY)
            price = stock.price(type_id, body["gpu"]["count"], tier, spot=spot)
            places = tuple(c for c in kind.centers if stock.carries(c, body["gpu"].get("minCudaVersion")))
        else:
            type_id, count = body["cpu"]["id"], body["cpu"]["vcpuCount"]
            if type_id not in stock.CPUS or count & (count - 1):
                raise HttpProblem(400, "invalid CPU flavor or vcpuCount")
            price, places = stock.CPUS[type_id][3] * count, stock.CPU_CENTERS
        out = self.sold_out()
        room = [c for c in places if (not centers or c in centers) and not stock.is_sold_out(out, type_id, c)]
        if not room:
            raise HttpProblem(400, CAPACITY)
        if self._account().get("balance", 100.0) < price:
            raise HttpProblem(402, "insufficient balance")
        return price, room[0]

    def sold_out(self) -> frozenset[str]:
        """Return what is sold out now."""
        fault = self.fleet.faults.met("stock")
        return frozenset(fault["what"]) if fault else frozenset()

    def show(self, record: Record) -> dict[str, Any]:
        """Return a pod as the API shows it."""
        request, running = record["request"], record["status"] == "RUNNING"
        address = shown_address(record, self.fleet.now())
        shown: dict[str, Any] = {
            "id": record["id"], "name": record["name"], "image": request.get("image", ""), "args": request.get("args", ""),
            "disk": request.get("disk", 50), "ports": request.get("ports", []), "env": dict(request.get("env", {})),
            "registry": request.get("registry"), "status": record["status"], "actions": actions(record),
            "mounts": request.get("mounts", {}), "cloud": request.get("cloud", "SECURE"), "dataCenterId": record["center"],
            "cudaVersion": ".".join(map(str, stock.cuda(record["center"]))) if request.get("gpu") else None, "template": None,
            "ssh": {"proxy": None, "direct": None}, "locked": request.get("locked", False),
            "globalNetworking": {"enabled": False}, "runtime": {} if running else None,
            "cost": record["price"] if record["status"] not in ("EXITED", "TERMINATED") else 0.0,
            "createdAt": self._time(record["created"]), "startedAt": self._time(record["started"]) if record["started"] else None,
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
            shown["runtime"] = {"uptime": int(self.fleet.now() - record["started"]), "ports": _ports(request, address)}
        return shown

    def _record(self, pod_id: str) -> Record:
        record = self.fleet.get(pod_id)
        if record is None:
            raise HttpProblem(404, "pod not found")
        return record

    def _update(self, request: Request, pod_id: str) -> Reply:
        self._record(pod_id)
        record = self.fleet.update(pod_id, _body(request, "UpdatePodRequest"))
        if record is None:
            raise HttpProblem(404, "pod not found")
        return Reply(200, self.show(record), "Pod")

    def _act(self, request: Request, pod_id: str) -> Reply:
        self._record(pod_id)
        action = _body(request, "PodActionRequest")["action"]
        if action == "terminate":
            return self._delete(request, pod_id)
        record = self.fleet.act(pod_id, action)
        if record is None:
            raise HttpProblem(409, f"action {action} is not valid for the current status")
        return Reply(200, self.show(record), "Pod")

    def _gpus(self, request: Request, _: str) -> Reply:
        least = request.param("minCudaVersion")
        if least is not None and not re.fullmatch(r"\d+(\.\d+)?", least):
            raise HttpProblem(422, "Request validation failed.", ["minCudaVersion: does not match the pattern"])
        where = request.words("countryCodes")
        rows = stock.gpu_rows(self.sold_out(), availability=_availability(request), countries=where, least=least)
        return Reply(200, {"gpus": rows}, "ListGpuTypesResponse")

    def _cpus(self, request: Request, _: str) -> Reply:
        return Reply(200, {"cpus": stock.cpu_rows(self.sold_out(), availability=_availability(request))}, "ListCpuTypesResponse")

    def _volumes(self, request: Request, _: str) -> Reply:
        return Reply(200, {"networkVolumes": self._account().get("volumes", [])}, "ListNetworkVolumesResponse")

    def _create_volume(self, request: Request, _: str) -> Reply:
        body = _body(request, "CreateNetworkVolumeRequest")
        if body["dataCenter"] not in stock.CENTERS:
            raise HttpProblem(400, f"unknown data center {body['dataCenter']!r}")
        volume = {"id": secrets.token_hex(5), "type": "STANDARD", **body}
        account = self._account()
        self.fleet.ledger.save_account({**account, "volumes": [*account.get("volumes", []), volume]})
        return Reply(201, volume, "NetworkVolume")

    def _delete_volume(self, request: Request, volume_id: str) -> Reply:
        account = self._account()
        kept = [volume for volume in account.get("volumes", []) if volume["id"] != volume_id]
        if len(kept) == len(account.get("volumes", [])):
            raise HttpProblem(404, "network volume not found")
        self.fleet.ledger.save_account({**account, "volumes": kept})
        return Reply(204)

    def _put_keys(self, request: Request, _: str) -> Reply:
        body = _body(request, "UpdateSshKeysRequest")
        self.fleet.ledger.save_account({**self._account(), "keys": body["keys"]})
        return Reply(200, body, "SshKeys")

    def _billing(self, request: Request, _: str) -> Reply:
        if request.param("lastN") and (request.param("startTime") or request.param("endTime")):
            raise HttpProblem(400, "lastN excludes startTime and endTime")
        start, end = (moment.timestamp() if (moment := parse_time(request.param(name))) else None for name in ("startTime", "endTime"))
        last, bucket = int(request.param("lastN") or 0), request.param("bucketSize") or "day"
        asked = billing.BillQuery(bucket, request.param("podId"), start, end, last)
        answer = billing.report(self.fleet.ledger.paid(), self.fleet.now(), asked)
        return Reply(200, answer, "ListPodBillingResponse")

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
                raise HttpProblem(422, "Request validation failed.", ["$: missing property 'image'"])
            return
        template = self._account().get("templates", {}).get(body.pop("templateId"))
        if template is None:
            raise HttpProblem(404, "template not found")
        env = {**template.get("env", {}), **body.get("env", {})}
        body |= {**template, **body, "env": env}

    def _account(self) -> Record:
        return self.fleet.ledger.account()

    def _time(self, moment: float) -> str:
        clock = self.fleet.faults.met("clock")
        return format_time(moment + (clock["seconds"] if clock else 0))


def shown_address(record: Mapping[str, Any], now: float) -> int | None:
    """Return the public port of 22 that the API shows now: none yet, the last one for a while, the real one."""
    asked = "22/tcp" in record["request"].get("ports", [])
    if record["status"] != "RUNNING" or not asked or record["boot"].get("ports") is False or now < record["ports_at"]:
        return None
    stale = record.get("stale_port")
    port: int | None = stale if stale and now < record.get("stale_until", 0) else record["port"]
    return port


def _body(request: Request, name: str) -> dict[str, Any]:
    try:
        value = parse_json(request.body or b"null")
    except ValueError:
        raise HttpProblem(400, "the body is no JSON") from None
    errors = schema.check(name, value)
    if errors:
        raise HttpProblem(422, "Request validation failed.", errors)
    body: dict[str, Any] = value
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
    with_availability = "AVAILABILITY" in request.words("include")
    if with_availability and not request.words("product"):
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
