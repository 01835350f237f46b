"""Settings of a store from environment groups, and the client configuration that fits each kind."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.storage.conftest import places_at
from trainyard.config import Places
from trainyard.errors import UserError
from trainyard.secret import Secret
from trainyard.storage import local
from trainyard.storage.client import StoreSettings, _client, client_config, patient, s3, sync_command, with_bucket
from trainyard.storage.groups import stores_named
from trainyard.storage.stores import store_settings

RUNPOD = {
    "RUNPOD_S3_ACCESS_KEY": "user_1",
    "RUNPOD_S3_SECRET_KEY": "rps_1",
    "RUNPOD_S3_ENDPOINT": "https://s3api-eu-ro-1.runpod.io/",
    "RUNPOD_S3_BUCKET": "abc123vol",
}
R2_URL = "https://acc.r2.cloudflarestorage.com"
R2 = {"R2_ACCESS_KEY_ID": "k", "R2_SECRET_ACCESS_KEY": "s", "R2_ENDPOINT_URL": R2_URL, "R2_BUCKET_NAME": "models"}
AWS = {"AWS_ACCESS_KEY_ID": "k", "AWS_SECRET_ACCESS_KEY": "s", "AWS_DEFAULT_REGION": "eu-central-1"}


def settings(env: dict[str, str], kind: str | None = None, bucket: str | None = "my-bucket") -> StoreSettings:
    found = store_settings(env, kind, bucket, places_at(Path("/nowhere")))
    assert found is not None
    return found


def test_runpods_group_gives_its_endpoint_region_and_volume() -> None:
    found = settings(RUNPOD, bucket=None)
    assert (found.kind, found.endpoint, found.region, found.bucket) == ("runpod", "https://s3api-eu-ro-1.runpod.io", "EU-RO-1", "abc123vol")
    assert (found.presign, found.lifecycle, found.conditional, found.checksums) == (False, False, False, "none")


@pytest.mark.parametrize("endpoint", ["https://storage.runpod.io", "https://storage.runpod.io/", "https://s3.runpod.io"])
def test_an_outdated_runpod_endpoint_is_refused_with_the_right_form(endpoint: str) -> None:
    with pytest.raises(UserError, match="is not RunPod's S3 endpoint") as caught:
        settings({**RUNPOD, "RUNPOD_S3_ENDPOINT": endpoint})
    assert "https://s3api-<dc>.runpod.io/" in str(caught.value)


def test_r2s_group_has_its_own_names_and_region_auto() -> None:
    found = settings(R2, bucket=None)
    assert (found.kind, found.region, found.bucket, found.checksums) == ("r2", "auto", "models", "composite")


def test_amazons_group_needs_no_endpoint() -> None:
    found = settings(AWS)
    assert (found.kind, found.endpoint, found.region, found.checksums) == ("aws", None, "eu-central-1", "full")


def test_amazons_group_with_another_endpoint_is_an_unknown_store_that_is_probed() -> None:
    found = settings({**AWS, "AWS_ENDPOINT_URL": "https://s3.us-west-004.backblazeb2.com"})
    assert (found.kind, found.checksums, found.conditional) == ("s3", "probe", False)
    assert settings({**AWS, "AWS_ENDPOINT_URL": "https://s3.eu-central-1.amazonaws.com"}).kind == "aws"


@pytest.mark.parametrize(
    ("env", "missing"),
    [
        ({"RUNPOD_S3_ACCESS_KEY": "a"}, "RUNPOD_S3_SECRET_KEY, RUNPOD_S3_ENDPOINT"),
        ({"R2_ACCESS_KEY_ID": "a", "R2_SECRET_ACCESS_KEY": "b"}, "R2_ENDPOINT_URL"),
        ({"AWS_SECRET_ACCESS_KEY": "b"}, "AWS_ACCESS_KEY_ID"),
    ],
)
def test_a_group_set_by_half_names_what_is_missing(env: dict[str, str], missing: str) -> None:
    with pytest.raises(UserError, match=f"but not {missing}"):
        settings(env)


def test_what_the_environment_names_is_told_without_any_key() -> None:
    aws = {"AWS_ACCESS_KEY_ID": "id", "AWS_SECRET_ACCESS_KEY": "hidden"}
    r2 = {"R2_ACCESS_KEY_ID": "id", "R2_SECRET_ACCESS_KEY": "hidden", "R2_ENDPOINT_URL": "https://r2", "R2_BUCKET_NAME": "b"}
    assert stores_named({}) == []
    assert stores_named({**aws, **r2, "HOME": "/"}) == ["R2_ENDPOINT_URL=https://r2", "R2_BUCKET_NAME=b", "AWS_ACCESS_KEY_ID is set"]
    assert stores_named({**aws, "AWS_ENDPOINT_URL": "https://s"}) == ["AWS_ENDPOINT_URL=https://s"]
    with pytest.raises(UserError, match="R2_SECRET_ACCESS_KEY"):
        stores_named({"R2_ACCESS_KEY_ID": "id"})
    old = {"RUNPOD_S3_ACCESS_KEY": "a", "RUNPOD_S3_SECRET_KEY": "b", "RUNPOD_S3_ENDPOINT": "https://storage.runpod.io"}
    with pytest.raises(UserError, match="is not RunPod's S3 endpoint"):
        stores_named(old)


@pytest.mark.parametrize("kind", [None, "runpod", "r2", "aws"])
def test_no_credentials_or_bucket_none_mean_no_store(kind: str | None) -> None:
    assert store_settings({}, kind, "b-1", places_at(Path("/nowhere"))) is None
    assert store_settings({**RUNPOD, **AWS}, kind, "none", places_at(Path("/nowhere"))) is None


def test_several_groups_need_a_choice() -> None:
    with pytest.raises(UserError, match=r"several stores are set \(runpod, aws\)"):
        settings({**RUNPOD, **AWS})
    assert settings({**RUNPOD, **AWS}, "aws").kind == "aws"


def test_an_unknown_kind_and_an_impossible_bucket_are_refused() -> None:
    with pytest.raises(UserError, match="'gcs' is not known"):
        settings(AWS, "gcs")
    for name in ("A-bucket", "ab", "under_score", "-dash", "x" * 64):
        with pytest.raises(UserError, match="is no bucket name"):
            settings(AWS, bucket=name)


@pytest.mark.parametrize("value", ["s3api-eu-ro-1.runpod.io", "ftp://x", "https://acc.r2.cloudflarestorage.com/models"])
def test_an_endpoint_that_is_no_bare_address_is_refused(value: str) -> None:
    with pytest.raises(UserError, match="R2_ENDPOINT_URL"):
        settings({**R2, "R2_ENDPOINT_URL": value})


def test_a_secret_may_be_a_reference_and_is_never_shown(tmp_path: Path) -> None:
    (tmp_path / "key").write_text("hidden-word\n")
    found = settings({**AWS, "AWS_SECRET_ACCESS_KEY": f"file:{tmp_path / 'key'}"})
    assert found.secret_key.reveal() == "hidden-word"
    assert "hidden-word" not in repr(found) and "***" in repr(found)


def options(found: StoreSettings) -> Any:
    return client_config(found)


def test_every_store_is_signed_with_v4_and_custom_ones_by_path_without_chunked_trailers() -> None:
    for env in (RUNPOD, R2, {**AWS, "AWS_ENDPOINT_URL": "https://minio.example.org"}):
        config = options(settings(env))
        assert config.signature_version == "s3v4" and config.s3["addressing_style"] == "path"
        assert config.request_checksum_calculation == config.response_checksum_validation == "when_required"
    assert options(settings(AWS)).s3["addressing_style"] == "auto"


def test_the_body_is_signed_only_where_no_checksum_header_guards_it() -> None:
    assert options(settings(R2)).s3["payload_signing_enabled"] is False
    assert options(settings(AWS)).s3["payload_signing_enabled"] is False
    assert "payload_signing_enabled" not in options(settings(RUNPOD)).s3


def test_runpod_gets_the_time_and_the_tries_that_it_documents() -> None:
    config = options(settings(RUNPOD))
    assert config.retries["max_attempts"] == 10
    for env, seconds in ((RUNPOD, 7200), (R2, 900)):
        found = settings(env)
        assert found is not None and patient(found).meta.config.read_timeout == seconds


def test_a_store_that_has_gone_silent_is_given_up_in_minutes() -> None:
    assert options(settings(R2)).read_timeout <= 300


def test_the_region_is_always_set_and_buckets_share_a_client() -> None:
    one = settings(R2)
    assert s3(one).meta.region_name == "auto"
    assert s3(one) is s3(with_bucket(one, "another-bucket"))


def test_a_proxy_of_the_environment_never_sees_the_local_store(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")
    local = StoreSettings("local", "http://127.0.0.1:2", "us-east-1", "b-1", Secret("k"), Secret("s"))
    assert options(local).proxies == {}


OTHERS = {
    "AWS_PROFILE": "work-sso", "AWS_DEFAULT_PROFILE": "work-sso", "AWS_CONFIG_FILE": "{tmp}/config",
    "AWS_SHARED_CREDENTIALS_FILE": "{tmp}/none",
    "AWS_ENDPOINT_URL": "http://127.0.0.1:9", "AWS_ENDPOINT_URL_S3": "http://127.0.0.1:9", "AWS_USE_FIPS_ENDPOINT": "true",
    "AWS_USE_DUALSTACK_ENDPOINT": "true", "AWS_CA_BUNDLE": "/nowhere", "AWS_REGION": "eu-west-3", "AWS_ACCESS_KEY_ID": "x",
    "AWS_SECRET_ACCESS_KEY": "y", "AWS_SESSION_TOKEN": "z", "AWS_MAX_ATTEMPTS": "0", "AWS_RETRY_MODE": "adaptive",
    "AWS_REQUEST_CHECKSUM_CALCULATION": "when_supported", "AWS_DEFAULTS_MODE": "mobile", "AWS_EC2_METADATA_DISABLED": "false",
    "http_proxy": "http://127.0.0.1:9", "HTTP_PROXY": "http://127.0.0.1:9", "ALL_PROXY": "socks5://127.0.0.1:9",
}  # fmt: skip


@pytest.mark.parametrize("names", [(name,) for name in OTHERS] + [tuple(OTHERS)], ids=lambda names: names[0] if len(names) == 1 else "all")
def test_the_local_store_is_reached_whatever_variables_and_files_of_the_aws_cli_say(
    names: tuple[str, ...], store_places: Places, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "config").write_text("[default]\nregion = x\ns3 =\n  use_accelerate_endpoint = true\n  addressing_style = virtual\n")
    for name in names:
        monkeypatch.setenv(name, OTHERS[name].format(tmp=tmp_path))
    _client.cache_clear()
    try:
        assert "Buckets" in s3(local.ensure(store_places)).list_buckets()
    finally:
        _client.cache_clear()


def test_a_way_out_that_is_none_is_named_before_a_store_is_asked(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    _client.cache_clear()
    monkeypatch.setenv("HTTPS_PROXY", "socks5://u:pass-word@127.0.0.1:9")
    with pytest.raises(UserError, match="HTTPS_PROXY: a proxy of kind 'socks5'"):
        s3(settings(R2))
    monkeypatch.delenv("HTTPS_PROXY")
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "none.pem"))
    with pytest.raises(UserError, match="SSL_CERT_FILE"):
        s3(settings(R2))


def test_the_sync_command_is_exact_and_quoted() -> None:
    assert sync_command(settings(R2), "models/a/b/1/model/", "./my dir") == (
        'AWS_ACCESS_KEY_ID="$R2_ACCESS_KEY_ID" AWS_SECRET_ACCESS_KEY="$R2_SECRET_ACCESS_KEY" '
        "aws s3 sync s3://my-bucket/models/a/b/1/model/ './my dir' --endpoint-url https://acc.r2.cloudflarestorage.com"
    )
    assert sync_command(settings(AWS), "models/a/", ".") == "aws s3 sync s3://my-bucket/models/a/ . --region eu-central-1"
