"""Which bucket, with which keys, and the client settings that are right for that kind of store.

Knows nothing of runs, manifests or pods. The facts behind each setting: S3-compatible servers differ in
checksums, conditional writes, presigned URLs and lifecycle, so each kind says what it can do.
"""

from __future__ import annotations

import contextlib
import functools
import os
import re
import shlex
import threading
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from trainyard import network
from trainyard.errors import UserError
from trainyard.secret import Secret
from trainyard.settings.table import BUCKET_NAME
from trainyard.storage.groups import R2, RUNPOD

if TYPE_CHECKING:
    import botocore.loaders
    from botocore.config import Config

_BUILDING = threading.Lock()
Kind = Literal["local", "runpod", "aws", "r2", "s3"]
Checksums = Literal["full", "composite", "none", "probe"]
KINDS: tuple[Kind, ...] = ("local", "runpod", "aws", "r2", "s3")

THREADS = 16
CONNECT_TIMEOUT = 20.0
READ_TIMEOUT = 180.0
"""Seconds without a byte after which a store that has taken a request counts as silent (RunPod's long listings are slow)."""
_NO_PROFILES = {
    "profile": (None, None, None, None),
    "config_file": (None, None, os.devnull, None),
    "credentials_file": (None, None, os.devnull, None),
}
"""Session variables of botocore: (key in a file, variable, default, conversion)."""
_SERVICES = ("s3", "sts")
"""Those that a client is made for."""


@dataclass(frozen=True, slots=True)
class StoreSettings:
    """One bucket and how to speak to it. ``bucket`` may be empty until a command that needs one."""

    kind: Kind
    endpoint: str | None
    region: str
    bucket: str
    access_key: Secret
    secret_key: Secret
    session_token: Secret | None = None
    presign: bool = True
    lifecycle: bool = True
    conditional: bool = True
    checksums: Checksums = "full"
    attempts: int = 5
    data_dir: Path | None = None
    memory: Path | None = None
    """Folder that keeps for an hour what a canary has seen (canary.py)."""
    urls_until: float | None = None
    """When signed URLs end at the latest, as epoch seconds: with the lease of the pod they are for."""
    chain: str | None = None
    """The keys are of botocore's chain, which renews them: the profile's name, empty for the default one."""
    metadata: bool = False
    """The chain may ask the machine's metadata service."""
    keys_end: float | None = None
    """When the keys end, as epoch seconds; None: they do not, or it is not known."""
    keys_api: str | None = None
    """Another address of the API by which Backblaze B2 makes keys (a proxy, an emulator)."""

    @property
    def url(self) -> str:
        """The bucket as ``s3://name``."""
        return f"s3://{self.bucket}"


def with_bucket(settings: StoreSettings, bucket: str | None) -> StoreSettings:
    """Return the settings for a bucket (None keeps what the environment said); raises UserError for an impossible name."""
    name = bucket or settings.bucket
    # RunPod's bucket is the id of a network volume; the rules of bucket names still hold for it.
    if name and not re.fullmatch(BUCKET_NAME, name):
        raise UserError(f"'{name}' is no bucket name: 3 to 63 of a-z, 0-9, '.' and '-', beginning and ending with a letter or digit")
    return replace(settings, bucket=name)


def s3(settings: StoreSettings, *, read_timeout: float = READ_TIMEOUT) -> Any:
    """Return the botocore client of a store, the same one for all its buckets and all threads (building it costs 0.1 s)."""
    with _BUILDING:  # threads that begin together would each build one
        return _client(without_bucket(settings), read_timeout)


def without_bucket(settings: StoreSettings) -> StoreSettings:
    """Return what all buckets of a store have in common."""
    plain = replace(settings, bucket="", data_dir=None, memory=None, urls_until=None, keys_end=None)
    # Keys of the chain are renewed by it: they are no part of what a client is.
    return replace(plain, access_key=Secret(""), secret_key=Secret(""), session_token=None) if plain.chain is not None else plain


def patient(settings: StoreSettings) -> Any:
    """Return the client for Complete, which copies the object on some stores; RunPod documents up to two hours."""
    return s3(settings, read_timeout=7200.0 if settings.kind == "runpod" else 900.0)


def sts(settings: StoreSettings) -> Any:
    """Return the client for short-lived keys: Amazon's STS of the region, or the store itself where it is another's."""
    return _client(without_bucket(settings), READ_TIMEOUT, "sts")


@functools.lru_cache(maxsize=16)
def _client(settings: StoreSettings, read_timeout: float, service: str = "s3") -> Any:
    import botocore.session  # botocore costs 0.1 s and most commands need none of it

    # Where the store is and how it is spoken to is said by our settings alone: a profile of the user's, or a file of
    # the AWS CLI's, is about something else.
    session = botocore.session.Session(session_vars=_NO_PROFILES)
    session.register_component("data_loader", _loader())
    if settings.chain is not None:
        from trainyard.storage import chain

        session.register_component("credential_provider", chain.provider(settings.chain, metadata=settings.metadata))
    else:
        token = settings.session_token.reveal() if settings.session_token else None
        session.set_credentials(settings.access_key.reveal(), settings.secret_key.reveal(), token)
    return session.create_client(
        service,
        region_name=settings.region,
        endpoint_url=settings.endpoint,
        config=client_config(settings, read_timeout),
        verify=certificates(settings),
    )


@functools.cache
def _loader() -> botocore.loaders.Loader:
    """Return what reads the descriptions of services: shared, a second client need not parse a megabyte of JSON again."""
    import botocore.loaders

    loader = botocore.loaders.create_loader()
    loader.list_available_services = lambda type_name: _SERVICES  # it would look through the folders of 400, twice
    return loader


def certificates(settings: StoreSettings) -> str | None:
    """Return the file of certificates that the environment names, None for the usual ones; raises UserError for a proxy of no use."""
    if (settings.endpoint or "https:").startswith("http:"):
        return None
    network.proxy_for(settings.endpoint or "https://amazonaws.com", os.environ)
    network.trust(os.environ)
    return os.environ.get("AWS_CA_BUNDLE") or os.environ.get("SSL_CERT_FILE") or None


def client_config(settings: StoreSettings, read_timeout: float = READ_TIMEOUT) -> Config:
    """Return the client configuration for a kind of store."""
    from botocore.config import Config

    style: dict[str, object] = {"addressing_style": "path" if settings.endpoint else "auto"}
    # Over https the body's checksum is ours (CRC32) and the hash of the whole body would cost 2.4 CPU-seconds a GB.
    # Where the store knows no checksum header, the signed hash of the body is the only check in transit: keep it.
    if settings.checksums in ("full", "composite") and not (settings.endpoint or "https:").startswith("http:"):
        style["payload_signing_enabled"] = False
    options: dict[str, Any] = {
        "signature_version": "s3v4",
        "s3": style,
        "max_pool_connections": 2 * THREADS,
        "connect_timeout": CONNECT_TIMEOUT,
        "read_timeout": read_timeout,
        "retries": {"mode": "standard", "max_attempts": settings.attempts},
    }
    if settings.endpoint:
        # What variables of the AWS CLI say of Amazon's own addresses is not meant for this one.
        options |= {"use_fips_endpoint": False, "use_dualstack_endpoint": False, "ignore_configured_endpoint_urls": True}
        style["use_accelerate_endpoint"] = False
        # botocore adds aws-chunked trailers otherwise, which several stores refuse.
        options["request_checksum_calculation"] = "when_required"
        options["response_checksum_validation"] = "when_required"
    if settings.kind == "local":
        options["proxies"] = {}  # a proxy of the outside world must never see the loopback address
    return Config(**options)


def sync_command(settings: StoreSettings, key: str, dest: str) -> str:
    """Return the exact ``aws s3 sync`` command that fetches everything below a key; it names the keys, it never holds them."""
    words = ["aws", "s3", "sync", f"{settings.url}/{key}", dest]
    if settings.endpoint:
        words += ["--endpoint-url", settings.endpoint]
    if settings.region not in ("", "auto"):
        words += ["--region", settings.region]
    if settings.chain:
        words += ["--profile", settings.chain]
    if settings.kind == "local":
        words += ["--profile", "default"]  # named, it wins over keys and profiles of the user's own variables
    return _where_keys_are(settings) + shlex.join(words)


def _where_keys_are(settings: StoreSettings) -> str:
    """The AWS CLI knows only its own names for keys: point it at ours."""
    if settings.kind == "local" and settings.data_dir is not None:
        return f"AWS_SHARED_CREDENTIALS_FILE={_as_typed(settings.data_dir.parent / 'credentials')} "
    names = {"runpod": RUNPOD, "r2": R2}.get(settings.kind)
    return f'AWS_ACCESS_KEY_ID="${names[0]}" AWS_SECRET_ACCESS_KEY="${names[1]}" ' if names else ""


def _as_typed(path: Path) -> str:
    """Return a path as a shell takes it, the home folder as the ``~`` that it expands."""
    with contextlib.suppress(ValueError, RuntimeError):  # elsewhere, or without a home
        return f"~/{shlex.quote(path.relative_to(Path.home()).as_posix())}"
    return shlex.quote(str(path))
