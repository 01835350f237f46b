"""Bucket: adopted when it is there, created when it is not, never deleted by destroy. Results live in it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from trainyard.errors import TrainyardError, UserError
from trainyard.leases import environmentid
from trainyard.leases.store import settings_of
from trainyard.provider import model
from trainyard.provider.call import Call
from trainyard.provider.handler import Kind, ReadResult, ResourceDiff, ResourceHandler
from trainyard.provider.model import prop
from trainyard.provider.values import Properties, UnknownValue
from trainyard.settings.table import NO_BUCKET
from trainyard.sizes import human_size

if TYPE_CHECKING:
    from trainyard.storage.client import StoreSettings


@dataclass(frozen=True, slots=True, kw_only=True)
class BucketInputs:
    """Inputs of a bucket."""

    bucket: str | None = prop("Name of the bucket. None: trainyard-<env id>.", None, plain=True)
    store: str | None = prop("Kind of the store: local, runpod, aws, r2 or s3. None: the one whose credentials are set.", None, plain=True)
    env_id: str | None = prop("Id of the environment (8 hex characters). None: made once for this stack and user.", None, plain=True)


@dataclass(frozen=True, slots=True, kw_only=True)
class BucketOutputs:
    """Outputs of a bucket."""

    name: str = prop("Name of the bucket.")
    store: str = prop("Kind of the store.")
    endpoint: str | None = prop("Address of the store; None: Amazon's own.", None)
    region: str = prop("Region of the bucket.")
    adopted: bool = prop("It was there before this stack.")


def check(call: Call, olds: Properties | None, news: Properties) -> Properties:
    """Add the bucket's name: the setting's, else the state's, else the environment's."""
    values = model.normal(BucketInputs, news)
    bucket, store, env_id = values["bucket"], values["store"], values["env_id"]
    if any(isinstance(value, UnknownValue) for value in (bucket, store, env_id)):
        raise UserError("'bucket', 'store' and 'env_id' must be known before anything is created")
    if bucket:
        return {**news, "name": bucket}
    if env_id:
        return {**news, "name": environmentid.default_bucket(str(env_id))}
    kept = olds.get("name") if olds and olds.get("bucket") is None and olds.get("env_id") is None else None
    return {**news, "name": _own_name(call, str(store) if store else None, kept if isinstance(kept, str) and kept != NO_BUCKET else None)}


def diff(call: Call, outputs: Properties, olds: Properties, news: Properties, plain: ResourceDiff) -> ResourceDiff:
    """Only another name or another store is another bucket."""
    changes: dict[str, Kind] = {}
    if outputs.get("name") != news.get("name"):
        changes["name"] = "update-replace"
    store = model.normal(BucketInputs, news)["store"]
    if store is not None and store != outputs.get("store"):
        changes["store"] = "update-replace"
    return ResourceDiff(changes)


def create(call: Call, inputs: Properties) -> tuple[str, Properties]:
    """Adopt or create the bucket, and prove by a canary that it works."""
    if inputs.get("name") == NO_BUCKET:
        return NO_BUCKET, foresee(call, inputs)
    settings = _settings(call, inputs)
    from trainyard.storage import canary
    from trainyard.storage.bucket import adopt_or_create

    adopted = adopt_or_create(settings)
    canary.require(settings, stack=call.stack)
    return settings.bucket, _outputs(settings, adopted=adopted)


def foresee(call: Call, inputs: Properties) -> Properties:
    """Say that there will be no bucket, where that is known; what a store answers is known by a create alone."""
    if inputs.get("name") != NO_BUCKET:
        return {}
    so = "results are fetched over SSH before a pod ends, and a cloud without SSH can run nothing"
    call.world.warn(f"no S3 credentials are set: there is no bucket, {so}")
    return {"name": NO_BUCKET, "store": NO_BUCKET, "endpoint": None, "region": NO_BUCKET, "adopted": False}


def read(call: Call, id: str, outputs: Properties, inputs: Properties) -> ReadResult:
    """Say whether the bucket is there; gone only on the store's positive word."""
    if not id:
        return ReadResult("", {}, inputs)  # Create adopts what a lost create left
    if id == NO_BUCKET:
        return ReadResult(id, outputs, inputs)
    settings = _settings(call, inputs)
    from trainyard.storage.bucket import exists

    if not exists(settings):
        return ReadResult("", {}, inputs)
    return ReadResult(settings.bucket, _outputs(settings, adopted=bool(outputs.get("adopted", True))), inputs)


def update(call: Call, id: str, outputs: Properties, olds: Properties, news: Properties) -> Properties:
    """Nothing of a bucket changes in place; the address of the store may."""
    if call.preview or id == NO_BUCKET:
        return outputs
    return _outputs(_settings(call, news), adopted=bool(outputs.get("adopted")))


def delete(call: Call, id: str, outputs: Properties, inputs: Properties) -> None:
    """Keep the bucket; say what stays and how big it is."""
    if id == NO_BUCKET:
        return
    try:
        settings = _settings(call, inputs)
        from trainyard.storage.bucket import size

        content_size = size(settings)
        call.world.info(
            f"bucket {settings.bucket} stays, with {content_size.objects} objects ({human_size(content_size.bytes)}); up adopts it again"
        )
    except TrainyardError as error:
        call.world.info(f"bucket {id} stays; its size is not known now ({error.message})")


def _own_name(call: Call, store: str | None, kept: str | None) -> str:
    """Return the name where the settings give none: the credentials', else the state's, else the environment's."""
    if store != "local":  # asking for the local store would start its server, and it has no other name to offer
        from trainyard.storage.stores import store_settings

        settings = store_settings(call.world.env, store, None, call.world.places)
        if settings is None and kept is None:
            return NO_BUCKET
        if settings is not None and settings.bucket:
            return settings.bucket
    return kept or environmentid.default_bucket(environmentid.environment_id(call.world.places, call.stack))


def _settings(call: Call, inputs: Properties) -> StoreSettings:
    store = inputs.get("store")
    settings = settings_of(call.world, store if isinstance(store, str) else None, str(inputs.get("name")))
    if settings is None:
        raise UserError(
            f"there are no credentials for bucket '{inputs.get('name')}'",
            hint="Set them in .env (AWS_*, R2_* or RUNPOD_S3_*), or `bucket: none` to fetch results over SSH.",
        )
    return settings


def _outputs(settings: StoreSettings, *, adopted: bool) -> Properties:
    return {
        "name": settings.bucket,
        "store": settings.kind,
        "endpoint": settings.endpoint,
        "region": settings.region,
        "adopted": adopted,
    }


BUCKET = ResourceHandler(
    token="trainyard:index:Bucket",
    doc="The bucket that results are kept in: adopted or created, proven by a canary, never deleted.",
    inputs=BucketInputs,
    outputs=BucketOutputs,
    check=check,
    diff=diff,
    create=create,
    foresee=foresee,
    read=read,
    update=update,
    delete=delete,
)
