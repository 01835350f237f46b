"""What RunPod's answers mean: JSON to our types, errors to the tree. Makes no request."""

from __future__ import annotations

from collections.abc import Mapping

import httpx

from trainyard.clock import parse_iso
from trainyard.clouds.protocol import PodInfo, PodStatus, SshAddress
from trainyard.clouds.values import json_object, mapping, number, price_of, text, with_marks
from trainyard.clouds.volume import VOLUME_MARK
from trainyard.errors import CloudError, CloudRefused, CloudUnknown, NoCapacity

GONE = "TERMINATED"
_NOT_NOW = (408, 409, 423, 425)
"""Refusals that pass: a pod that is just being moved, started or stopped."""
_STATUS: Mapping[str, PodStatus] = {
    "PROVISIONING": "accepted",
    "STARTING": "starting",
    "RUNNING": "running",
    "EXITED": "exited",
    "ERROR": "error",
    GONE: "terminating",
}


def problem(response: httpx.Response) -> Mapping[str, object] | None:
    """Return the API's own error object, None for anything else (a proxy's page, another API's envelope)."""
    body = json_object(response)
    return body if body is not None and "detail" in body and ("title" in body or "status" in body) else None


def told_gone(response: httpx.Response) -> bool:
    """Tell whether RunPod itself, not something in front of it, says that there is no such thing."""
    return response.status_code == 404 and problem(response) is not None


def create_error(response: httpx.Response) -> CloudError:
    """Return what an answer other than 201 to a create means for the next step."""
    code, body = response.status_code, problem(response)
    if body is None:
        return _foreign_answer(response)
    detail = say(response)
    if code in (400, 403):
        # 400 is both "no capacity" and "breaks a rule", with nothing to tell them apart: RunPod's own advice is to try
        # the next candidate and to read the last detail when all are refused. 403: this account may not use that pool.
        return NoCapacity(f"RunPod: {detail}")
    if code == 402:
        return CloudRefused(f"RunPod: {detail}", hint="The account's balance does not cover an hour of this pod.")
    if code == 401:
        return CloudRefused(f"RunPod: {detail}", hint="Check RUNPOD_API_KEY.")
    if code == 422:
        return CloudRefused(f"RunPod does not understand the request: {detail}")
    if code == 429:
        return CloudRefused(f"RunPod: {detail}", hint="Nothing was created; try again in a minute.")
    if 400 <= code < 500 and code not in (408, 499):
        return CloudRefused(f"RunPod: HTTP {code}: {detail}")
    return CloudUnknown(f"RunPod answered HTTP {code} to the create request: {detail}")


def refusal(response: httpx.Response, what: str) -> CloudError:
    """Return the error for an answer to anything but a create."""
    code = response.status_code
    if code in (401, 403) and problem(response) is not None:
        return CloudRefused(f"RunPod refuses to {what}: {say(response)}", hint="Check RUNPOD_API_KEY and its rights.")
    if problem(response) is not None and 400 <= code < 500 and code not in _NOT_NOW:
        return CloudRefused(f"RunPod refuses to {what}: HTTP {code}: {say(response)}")
    return CloudUnknown(f"RunPod gave no usable answer when asked to {what}: HTTP {code}: {say(response)}")


def say(response: httpx.Response) -> str:
    """Return what an answer says in a line: the detail and its list of errors, else the start of its text."""
    body = problem(response)
    if body is None:
        kind = response.headers.get("Content-Type", "no content type").partition(";")[0]
        return f"not RunPod's own answer ({kind}): {response.text[:120]!r}"
    errors = body.get("errors")
    more = "; ".join(str(e) for e in errors) if isinstance(errors, list) else ""
    request = response.headers.get("x-request-id")
    return str(body["detail"]) + (f" ({more})" if more else "") + (f" [request {request}]" if request else "")


def pod_info(pod: Mapping[str, object]) -> PodInfo:
    """Return one pod as the protocol knows it; only a missing id is an error."""
    if not isinstance(pod.get("id"), str) or not pod["id"]:
        raise CloudUnknown("RunPod listed a pod without an id")
    env, gpu, raw = mapping(pod.get("env")), mapping(pod.get("gpu")), str(pod.get("status") or "")
    info = PodInfo(
        id=str(pod["id"]),
        name=str(pod.get("name") or ""),
        status=_STATUS.get(raw.upper(), "unknown"),
        raw_status=raw,
        price_per_hour=price_of(pod.get("cost")),
        created=parse_iso(pod.get("createdAt")),
        ssh=ssh_address(pod),
        gpu=text(gpu.get("id")),
        gpu_count=int(number(gpu.get("count")) or (1 if gpu else 0)),
        region=text(pod.get("dataCenterId")),
        workspace=text(env.get("WORKSPACE")) or "/workspace",
        volume=_volume(pod, env),
    )
    return with_marks(info, env)


def ssh_address(pod: Mapping[str, object]) -> SshAddress | None:
    """Return where sshd answers: the live TCP mapping of port 22; the ``ssh`` block only when there is none.

    Other mappings of 22 (UDP, HTTP, without a public address) lead nowhere, and the proxy carries no files.
    """
    if str(pod.get("status")).upper() != "RUNNING":
        return None  # A stopped pod may still show its last address.
    direct = mapping(mapping(pod.get("ssh")).get("direct"))
    user = text(direct.get("username")) or "root"
    ports = mapping(pod.get("runtime")).get("ports")
    for port in ports if isinstance(ports, list) else []:
        entry = mapping(port)
        if entry.get("private") != 22 or str(entry.get("type")).lower() != "tcp":
            continue
        host, public = text(entry.get("ip")), number(entry.get("public"))
        if host and public:
            return SshAddress(host, int(public), user)
    host, public = text(direct.get("host")), number(direct.get("port"))
    if host and public:
        return SshAddress(host, int(public), user)
    return None


def _volume(pod: Mapping[str, object], env: Mapping[str, object]) -> str | None:
    """Return where the network volume is mounted, by our mark, else (a pod that others made) as the pod's mounts say."""
    mounts = mapping(pod.get("mounts")).get("network")
    first = mapping(mounts[0]) if isinstance(mounts, list) and mounts else {}
    return text(env.get(VOLUME_MARK)) or text(first.get("path"))


def _foreign_answer(response: httpx.Response) -> CloudError:
    body, code = json_object(response), response.status_code
    if body is not None and ("error" in body or "message" in body) and 400 <= code < 500:
        hint = "This is how RunPod's retired API v1 answers: check RUNPOD_API_URL."
        return CloudRefused(f"not API v2: HTTP {code}: {str(body)[:200]}", hint=hint)
    return CloudUnknown(f"HTTP {code} to the create request, {say(response)}")
