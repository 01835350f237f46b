"""Carry objects between a bucket and a host: signed here, moved by the host's curl or wget, and proven."""

from __future__ import annotations

import re
from dataclasses import replace

from trainyard import config
from trainyard.errors import PodFailed, UserError
from trainyard.playbook.actions import placement
from trainyard.playbook.actions.answers import fields
from trainyard.playbook.placing import run_script
from trainyard.playbook.steps import BucketObject, Outcome, Script
from trainyard.remote.protocol import Transport
from trainyard.shellscript import load
from trainyard.storage.bucket import Item, listing
from trainyard.storage.client import StoreSettings
from trainyard.storage.signing import signed_url
from trainyard.storage.stores import store_settings

_LARGEST = 5 << 30
"""Bytes that a store takes in one request."""
_LIFE = 6 * 3600.0


def carry(step: BucketObject, t: Transport, *, check: bool) -> Outcome:
    """Carry out one step between a bucket and a host. Raises StoreError for the store's refusals, PodFailed for the host's."""
    store = _store(step)
    if step.mode == "list":
        return {"changed": False, "s3_keys": [item.key for item in listing(store, step.key)]}
    item = next((item for item in listing(store, step.key) if item.key == step.key), None)
    if step.mode == "put":
        return _put(step, store, item, t, check=check)
    if item is None:
        raise UserError(f"there is no s3://{step.bucket}/{step.key}")
    return _get(step, store, item, t, check=check)


def _get(step: BucketObject, store: StoreSettings, item: Item, t: Transport, *, check: bool) -> Outcome:
    there = _facts(step, t)
    said = {"s3": f"s3://{step.bucket}/{step.key}", "size": item.size}
    known = step.sha256 or _md5(item)
    same = there.get("size") == item.size and known is not None and known in (there.get("md5"), there.get("sha256"))
    if "size" in there and (same or step.overwrite == "never") and not (same and step.overwrite == "always"):
        if not same or not step.to.owned.wished:
            return {"changed": False, "dest": there["path"], **said}
        return run_script(placement.place_from(str(there["path"]), step.to), t, check=check, diff=False) | said
    if check:
        return {"changed": True, "dest": there["path"], **said}
    url = signed_url(store, "get_object", {"Bucket": step.bucket, "Key": step.key}, most=_LIFE)
    got = run_script(
        _program("s3_get", step, size=item.size, md5=_md5(item) or "", sha256=step.sha256 or "", url=url), t, check=False, diff=False
    )
    outcome = run_script(placement.take(str(got["part"]), step.to, said), t, check=False, diff=False)
    return {**outcome, "changed": bool(outcome["changed"]) or step.overwrite == "always"}


def _put(step: BucketObject, store: StoreSettings, item: Item | None, t: Transport, *, check: bool) -> Outcome:
    there = _facts(step, t)
    said: Outcome = {"s3": f"s3://{step.bucket}/{step.key}", "src": step.to.path}
    if "size" not in there:
        if check:
            return {"changed": True, **said}
        raise PodFailed(f"there is no file {step.to.path} on the host")
    if step.sha256 is not None and there["sha256"] != step.sha256:
        raise PodFailed(f"{step.to.path} is not the file that was promised: its sha256 is {there['sha256']}")
    said |= {"size": there["size"], "sha256": there["sha256"]}
    if item is not None and (step.overwrite == "never" or (step.overwrite == "different" and _is(item, there))):
        return {"changed": False, **said}
    if int(str(there["size"])) > _LARGEST:
        raise UserError(
            f"{step.to.path} is too big for one request to the store: send it by a run's result, or by a program with keys of its own"
        )
    if check:
        return {"changed": True, **said}
    url = signed_url(store, "put_object", {"Bucket": step.bucket, "Key": step.key}, most=_LIFE)
    run_script(_program("s3_put", step, url=url), t, check=False, diff=False)
    arrived = next((item for item in listing(store, step.key) if item.key == step.key), None)
    if arrived is None or arrived.size != there["size"] or (_md5(arrived) or there["md5"]) != there["md5"]:
        raise PodFailed(f"{step.to.path} did not arrive in s3://{step.bucket}/{step.key} as it is on the host")
    return {"changed": True, **said, "proven": "size" if _md5(arrived) is None else "md5"}


def _facts(step: BucketObject, t: Transport) -> Outcome:
    return run_script(_program("s3_there", step), t, check=False, diff=False)


def _program(script: str, step: BucketObject, *, url: str = "", **values: object) -> Script:
    """Return a script; the address goes in by stdin, for everybody on the host reads the words of a command."""
    where = {"path": step.to.path, "name": step.to.name if step.mode == "get" else "", "into": int(step.to.into)}
    return Script(load("trainyard.playbook.actions", script), {**where, **values}, url.encode(), fields)


def _is(item: Item, there: Outcome) -> bool:
    return item.size == there["size"] and _md5(item) == there["md5"]


def _md5(item: Item) -> str | None:
    """Return an object's md5, None where its tag is something else (of parts, or encrypted)."""
    tag = item.etag.strip('"').lower()
    return tag if re.fullmatch("[0-9a-f]{32}", tag) else None


def _store(step: BucketObject) -> StoreSettings:
    places = config.places()
    store = store_settings(config.load_env(places.root), step.store, step.bucket, places)
    if store is None:
        hint = "Put them into .env or the environment: AWS_*, R2_* or RUNPOD_S3_*."
        raise UserError(f"s3://{step.bucket}: no credentials of its store are set", hint=hint)
    if not store.presign:
        raise UserError(f"{store.kind}'s S3 signs no addresses: the host cannot ask it without a key")
    return replace(store, bucket=step.bucket)
