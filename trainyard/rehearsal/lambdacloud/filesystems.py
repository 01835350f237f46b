"""File systems of the played Lambda: folders of this machine. What lies in one is counted at once; Lambda takes hours for it."""

from __future__ import annotations

import re
import secrets
from typing import Any

from trainyard.clock import format_time
from trainyard.rehearsal.kit import Fleet, HttpProblem, Reply, Request
from trainyard.rehearsal.lambdacloud.stock import REGIONS, region

_NAME = re.compile(r"[a-zA-Z]+[0-9a-zA-Z-]*")
_INVALID, _ABSENT = "global/invalid-parameters", "global/object-does-not-exist"
_MOUNT = re.compile(r"(/home|/lambda/nfs|/data)[/a-zA-Z0-9-]*")


def listing(fleet: Fleet, request: Request) -> Reply:
    """GET /file-systems."""
    return Reply(200, {"data": [_show(fleet, system) for system in _systems(fleet)]})


def create(fleet: Fleet, request: Request) -> Reply:
    """POST /filesystems."""
    body = request.json()
    name, place = str(body.get("name", "")), body.get("region")
    if not _NAME.fullmatch(name) or len(name) > 60 or place not in REGIONS:
        raise HttpProblem(400, "invalid name or region", _INVALID)
    if any((system["name"], system["region"]) == (name, place) for system in _systems(fleet)):
        raise HttpProblem(400, "a file system of this name exists", "filesystems/duplicate")
    system = {"id": secrets.token_hex(16), "name": name, "region": place, "created": fleet.now()}
    _save(fleet, [*_systems(fleet), system])
    return Reply(200, {"data": _show(fleet, system)})


def delete(fleet: Fleet, request: Request) -> Reply:
    """DELETE /filesystems/ID: one that is mounted stays."""
    system = _find(fleet, request.id)
    if _show(fleet, system)["is_in_use"]:
        raise HttpProblem(400, "the file system is in use", "filesystems/filesystem-in-use")
    _save(fleet, [one for one in _systems(fleet) if one["id"] != request.id])
    return Reply(200, {"data": {"deleted_ids": [request.id]}})


def check_mounts(fleet: Fleet, body: dict[str, Any]) -> None:
    """Refuse a launch that mounts what is not there, lies elsewhere, or where nothing may be mounted."""
    for mount in body.get("file_system_mounts", []):
        if not _MOUNT.fullmatch(mount["mount_point"]):
            raise HttpProblem(400, "invalid mount point", _INVALID)
        if _find(fleet, mount["file_system_id"])["region"] != body["region_name"]:
            raise HttpProblem(400, "the file system lies elsewhere", "instance-operations/launch/file-system-in-wrong-region")


def names_of(fleet: Fleet, launch: dict[str, Any]) -> list[str]:
    """Return the names of what an instance mounts."""
    return [system["name"] for system in _systems(fleet) if system["id"] in _mounted(launch)]


def mounted_by(launch: dict[str, Any]) -> str | None:
    """Return the id of the file system that an instance mounts; None: it has none."""
    return next(iter(_mounted(launch)), None)


def _mounted(launch: dict[str, Any]) -> list[str]:
    return [mount["file_system_id"] for mount in launch.get("file_system_mounts", [])]


def _find(fleet: Fleet, system_id: str) -> dict[str, Any]:
    system = next((one for one in _systems(fleet) if one["id"] == system_id), None)
    if system is None:
        raise HttpProblem(404, "Filesystem was not found.", _ABSENT)
    return system


def _show(fleet: Fleet, system: dict[str, Any]) -> dict[str, Any]:
    folder = fleet.machines.volume(system["id"])
    return {
        "id": system["id"], "name": system["name"], "mount_point": f"/lambda/nfs/{system['name']}",
        "created": format_time(system["created"]),
        "created_by": {"id": "0" * 32, "email": "you@example.com", "status": "active"}, "region": region(system["region"]),
        "is_in_use": any(system["id"] in _mounted(record["request"]) for record in fleet.all()),
        "bytes_used": sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()),
    }  # fmt: skip


def _systems(fleet: Fleet) -> list[dict[str, Any]]:
    systems: list[dict[str, Any]] = fleet.ledger.account().get("file_systems", [])
    return systems


def _save(fleet: Fleet, systems: list[dict[str, Any]]) -> None:
    fleet.ledger.save_account({**fleet.ledger.account(), "file_systems": systems})
