"""Which groups of variables name a store, and where it is. Light: loads no client, and resolves no secret."""

from __future__ import annotations

import re
from collections.abc import Mapping
from urllib.parse import urlsplit

from trainyard.config import group
from trainyard.errors import Location, StoreError, UserError
from trainyard.network import web_address
from trainyard.settings.variables import groups, store

_RUNPOD_HOST = re.compile(r"^s3api-([a-z0-9-]+)\.runpod\.io$")
RUNPOD, R2, AWS, GCS = ((*group.keys, *group.needed) for group in map(store, ("runpod", "r2", "aws", "gcs")))
"""What each store needs, all of it: two keys, then its address where it has no own."""
_OF_KEYS = ("AWS_PROFILE", "AWS_CREDENTIAL_EXPIRATION")
"""They say where keys come from and how long they hold, not where the store is."""


def stores_named(env: Mapping[str, str]) -> list[str]:
    """Return which stores the environment's variables name and where they are, without any key.

    Raises UserError for a group set by half and for an endpoint that RunPod has no more.
    """
    lines: list[str] = []
    for one in groups("store"):
        places = tuple(name for name in (*one.usual, *one.more) if name not in _OF_KEYS)
        values = group(env, (*one.keys, *one.needed), optional=places)
        if values is not None:
            lines += [f"{name}={values[name]}" for name in (*one.needed, *places) if name in values] or [f"{one.keys[0]} is set"]
    if not env.get(AWS[0]) and env.get("AWS_PROFILE"):
        lines.append(f"AWS_PROFILE={env['AWS_PROFILE']}")
    if env.get("RUNPOD_S3_ENDPOINT"):
        runpod_endpoint(env["RUNPOD_S3_ENDPOINT"])
    return lines


def refuse_keyless(env: Mapping[str, str], kind: str, where: Location | None) -> None:
    """Raise UserError for a store that settings name and that the environment's variables do not open."""
    variables = store("aws" if kind == "s3" else kind)
    needed = (*variables.keys, *variables.needed)
    address = env.get("AWS_ENDPOINT_URL_S3") or env.get("AWS_ENDPOINT_URL")
    if group(env, needed) is None:
        keys = _in_chain(env) if kind in ("aws", "s3") else None
        if keys is None:
            ways = ", or name a profile with AWS_PROFILE" if kind in ("aws", "s3") else ""
            hint = f"Put {', '.join(needed)} into .env beside Pulumi.yaml, or export them{ways}; or leave trainyard:store out."
            raise UserError(f"trainyard:store is {kind}, and none of its keys is set", where=where, hint=hint)
        address = address or keys
    if kind == "s3" and not address:
        raise UserError("trainyard:store is s3, and AWS_ENDPOINT_URL does not say where it is", where=where, hint="For Amazon's: aws.")


def _in_chain(env: Mapping[str, str]) -> str | None:
    """Return the endpoint that Amazon's own chain of keys names (empty: none), None where it has no keys at all."""
    from trainyard.storage import chain  # loads botocore, which only this case needs

    try:
        keys = chain.keys_of(env.get("AWS_PROFILE", ""), metadata=True)
    except StoreError:
        return "unknown"  # a session that is over is told where the store is asked
    return None if keys is None else keys.endpoint or ""


def runpod_endpoint(value: str) -> tuple[str, str]:
    """Return endpoint and region; raises UserError for the address that older guides give."""
    endpoint = bare_address("RUNPOD_S3_ENDPOINT", value)
    host = urlsplit(endpoint).hostname or ""
    match = _RUNPOD_HOST.match(host)
    if host == "storage.runpod.io" or (host.endswith(".runpod.io") and not match):
        raise UserError(
            f"RUNPOD_S3_ENDPOINT: {endpoint} is not RunPod's S3 endpoint (any more)",
            hint="It is one per data centre: https://s3api-<dc>.runpod.io/ with the network volume's data centre, e.g. "
            "https://s3api-eu-ro-1.runpod.io/; the bucket is the volume's id.",
        )
    return endpoint, match[1].upper() if match else "us-east-1"


def bare_address(name: str, value: str) -> str:
    """Return the address of a store without its last slash; raises UserError for what is none."""
    parts = web_address(name, value)
    if parts.path.strip("/") or parts.query:
        raise UserError(f"{name}: leave out '{parts.path}': the bucket is a setting of its own")
    return f"{parts.scheme}://{parts.netloc}"
