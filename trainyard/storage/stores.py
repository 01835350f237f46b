"""Which store the settings and the environment name, with its keys, and what is known of each kind."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from urllib.parse import urlsplit

from trainyard.clock import parse_iso
from trainyard.config import Places, group, resolve_secret
from trainyard.errors import UserError
from trainyard.secret import Secret
from trainyard.settings.table import NO_BUCKET
from trainyard.storage import chain
from trainyard.storage.client import KINDS, StoreSettings, with_bucket
from trainyard.storage.groups import AWS, GCS, R2, RUNPOD, bare_address, runpod_endpoint


def store_settings(env: Mapping[str, str], kind: str | None, bucket: str | None, places: Places) -> StoreSettings | None:
    """Return the store that the settings and the environment name, None for ``bucket: none`` or no credentials.

    Kind ``local`` starts the local S3 server. Raises UserError for a group set by half, an unknown kind, a
    wrong endpoint, or when several groups are set and no kind chooses between them.
    """
    if bucket == NO_BUCKET:
        return None
    if kind is not None and kind not in KINDS:
        raise UserError(f"store: '{kind}' is not known", hint=f"It is one of: {', '.join(KINDS)}.")
    memory = places.home / "stores"
    if kind == "local":
        from trainyard.storage import local  # a controller of a real cloud never loads the server's code

        return replace(with_bucket(local.ensure(places), bucket), memory=memory)
    stores = [s for s in (_runpod(env), _r2(env), _aws(env)) if s is not None]
    stores = _of_kind(kind, stores) or _of_kind(kind, _by_chain(env, kind, bucket))
    if not stores:
        return None
    if len(stores) > 1:
        names = ", ".join(s.kind for s in stores)
        hint = "Choose one with `trainyard:store: KIND` in the stack's settings."
        raise UserError(f"credentials of several stores are set ({names})", hint=hint)
    return replace(with_bucket(stores[0], bucket), memory=memory)


def google_settings(env: Mapping[str, str], bucket: str) -> StoreSettings | None:
    """Return Google Cloud Storage as S3 clients speak to it, None without its HMAC keys; raises UserError for half of them."""
    values = group(env, GCS, optional=("GCS_ENDPOINT_URL",))
    if values is None:
        return None
    other = values.get("GCS_ENDPOINT_URL")
    settings = StoreSettings(
        kind="s3",
        endpoint=bare_address("GCS_ENDPOINT_URL", other) if other else "https://storage.googleapis.com",
        region="us-east-1" if other else "auto",
        bucket="",
        access_key=resolve_secret(values[GCS[0]], env, GCS[0]),
        secret_key=resolve_secret(values[GCS[1]], env, GCS[1]),
        lifecycle=False,
        conditional=False,
        checksums="none",
    )
    return with_bucket(settings, bucket)


def _of_kind(kind: str | None, stores: list[StoreSettings]) -> list[StoreSettings]:
    return [s for s in stores if kind is None or s.kind == kind or (kind == "s3" and s.kind == "aws" and s.endpoint)]


def _by_chain(env: Mapping[str, str], kind: str | None, bucket: str | None) -> list[StoreSettings]:
    """Return the store that Amazon's own chain of keys opens, where somebody asked for it (chain.py); nothing where it has none."""
    profile, named = env.get("AWS_PROFILE", ""), kind in ("aws", "s3")
    if not named and not (profile and kind is None and (bucket or env.get("AWS_BUCKET"))):
        return []
    keys = chain.keys_of(profile, metadata=named)
    if keys is None:
        return []
    address = _address(env) or keys.endpoint or ""
    region = env.get("AWS_DEFAULT_REGION") or env.get("AWS_REGION") or keys.region or "us-east-1"
    token = Secret(keys.session_token) if keys.session_token else None
    store = _at(env, address, region, Secret(keys.access_key), Secret(keys.secret_key), token)
    return [replace(store, chain=profile, metadata=named, keys_end=None if keys.renewed else keys.end)]


def can_sign(settings: StoreSettings | None) -> str | None:
    """Return why a pod cannot commit alone into a store, None when it can."""
    if settings is None:
        return "no bucket is set"
    return None if settings.presign else f"{settings.kind}'s S3 signs no URLs"


def _runpod(env: Mapping[str, str]) -> StoreSettings | None:
    values = group(env, RUNPOD, optional=("RUNPOD_S3_BUCKET",))
    if values is None:
        return None
    endpoint, region = runpod_endpoint(values["RUNPOD_S3_ENDPOINT"])
    return StoreSettings(
        kind="runpod",
        endpoint=endpoint,
        region=region,
        bucket=values.get("RUNPOD_S3_BUCKET", ""),
        access_key=resolve_secret(values[RUNPOD[0]], env, RUNPOD[0]),
        secret_key=resolve_secret(values[RUNPOD[1]], env, RUNPOD[1]),
        presign=False,
        lifecycle=False,
        conditional=False,
        checksums="none",
        attempts=10,  # RunPod's own advice against its 502 answers
    )


def _r2(env: Mapping[str, str]) -> StoreSettings | None:
    values = group(env, R2, optional=("R2_BUCKET_NAME",))
    if values is None:
        return None
    return StoreSettings(
        kind="r2",
        endpoint=bare_address("R2_ENDPOINT_URL", values["R2_ENDPOINT_URL"]),
        region="auto",
        bucket=values.get("R2_BUCKET_NAME", ""),
        access_key=resolve_secret(values[R2[0]], env, R2[0]),
        secret_key=resolve_secret(values[R2[1]], env, R2[1]),
        checksums="composite",
    )


def _aws(env: Mapping[str, str]) -> StoreSettings | None:
    values = group(env, AWS, optional=("AWS_SESSION_TOKEN",))
    if values is None:
        return None
    region = env.get("AWS_DEFAULT_REGION") or env.get("AWS_REGION") or "us-east-1"
    token = values.get("AWS_SESSION_TOKEN")
    store = _at(
        env, _address(env), region, resolve_secret(values[AWS[0]], env, AWS[0]), resolve_secret(values[AWS[1]], env, AWS[1]),
        resolve_secret(token, env, "AWS_SESSION_TOKEN") if token else None,
    )  # fmt: skip
    return replace(store, keys_end=_end(env.get("AWS_CREDENTIAL_EXPIRATION"))) if token else store


def _address(env: Mapping[str, str]) -> str:
    return env.get("AWS_ENDPOINT_URL_S3") or env.get("AWS_ENDPOINT_URL") or ""


def _end(text: str | None) -> float | None:
    """Return when session keys end, as `aws configure export-credentials` says beside them; None where nobody says."""
    if not text:
        return None
    moment = parse_iso(text)
    if moment is None:
        raise UserError(f"AWS_CREDENTIAL_EXPIRATION: '{text}' is no time", hint="Like 2027-01-15T10:00:00Z.")
    return moment.timestamp()


def _at(env: Mapping[str, str], address: str, region: str, access: Secret, secret: Secret, token: Secret | None) -> StoreSettings:
    """Return Amazon's store, or the one of another endpoint."""
    endpoint = bare_address("AWS_ENDPOINT_URL", address) if address else None
    amazon = endpoint is None or (urlsplit(endpoint).hostname or "").endswith(".amazonaws.com")
    return StoreSettings(
        kind="aws" if amazon else "s3",
        endpoint=endpoint,
        region=region,
        bucket=env.get("AWS_BUCKET", ""),
        access_key=access,
        secret_key=secret,
        session_token=token,
        # Of an unknown store nothing is taken for granted: the canary finds out.
        conditional=amazon,
        checksums="full" if amazon else "probe",
        keys_api=env.get("B2_API_URL") or None,
    )
