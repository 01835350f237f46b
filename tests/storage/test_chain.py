"""Keys from Amazon's own chain on the controller: only where somebody asked for them, renewed, and ended URLs with them."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest

from tests.storage.conftest import places_at
from trainyard.errors import StoreError, UserError
from trainyard.storage import chain, keyprogram, signing
from trainyard.storage.client import StoreSettings, _client, s3, sync_command
from trainyard.storage.groups import refuse_keyless, stores_named
from trainyard.storage.stores import store_settings

AT = places_at(Path("/nowhere"))
FAR = "2099-01-01T00:00:00Z"


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A home without any file of the AWS CLI's, and no metadata service."""
    for name in ("AWS_PROFILE", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_CONTAINER_CREDENTIALS_FULL_URI"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "credentials"))
    monkeypatch.setenv("AWS_EC2_METADATA_SERVICE_ENDPOINT", "http://127.0.0.1:9")
    for cached in (chain.provider, chain._session, _client):
        cached.cache_clear()
    yield tmp_path
    for cached in (chain.provider, chain._session, _client):
        cached.cache_clear()


class KeyServer:
    """A metadata service of a machine, and of a container, on loopback; counts who asks."""

    def __init__(self) -> None:
        asked: list[str] = []
        self.asked = asked

        class Handler(BaseHTTPRequestHandler):
            def log_message(self, format: str, *args: object) -> None: ...

            def do_GET(self) -> None:
                asked.append(self.path)
                keys = {
                    "AccessKeyId": "ROLEKEY",
                    "SecretAccessKey": "rolesecret",
                    "Token": "roletoken",
                    "Expiration": FAR,
                    "Code": "Success",
                }
                listing = self.path.endswith("/security-credentials/")
                body = b"the-role" if listing else b"token" if self.command == "PUT" else json.dumps(keys).encode()
                self.send_response(200)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            do_PUT = do_GET

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.server.serve_forever, args=(0.02,), daemon=True).start()

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.server.server_address[1]}"


@pytest.fixture
def machine() -> Iterator[KeyServer]:
    running = KeyServer()
    yield running
    running.server.shutdown()
    running.server.server_close()


def profile(home: Path, settings: StoreSettings, expiry: str = FAR) -> Path:
    """Write a profile whose keys a command prints; returns the file that counts how often it ran."""
    count, keys = home / "count", home / "keys.json"
    told = {"Version": 1, "AccessKeyId": settings.access_key.reveal(), "SecretAccessKey": settings.secret_key.reveal()}
    keys.write_text(json.dumps({**told, "SessionToken": "", "Expiration": expiry}))
    script = home / "keys.sh"
    script.write_text(f"#!/bin/sh\necho x >> '{count}'\ncat '{keys}'\n")
    script.chmod(0o700)
    sso = "[profile sso]\nsso_start_url = https://x.test\nsso_region = eu-north-1\nsso_account_id = 1\nsso_role_name = r\n"
    text = f"[profile work]\ncredential_process = {script}\nregion = eu-north-1\nendpoint_url = {settings.endpoint}\n"
    (home / "config").write_text(text + sso)
    return count


def test_a_profile_s_command_gives_keys_region_and_endpoint_and_the_store_is_reached_with_them(home: Path, settings: StoreSettings) -> None:
    profile(home, settings)
    for kind, bucket in (("s3", settings.bucket), (None, settings.bucket)):
        found = store_settings({"AWS_PROFILE": "work"}, kind, bucket, AT)
        assert found is not None and (found.kind, found.region, found.endpoint) == ("s3", "eu-north-1", settings.endpoint)
        here = replace(found, region="us-east-1")
        assert s3(here).list_objects_v2(Bucket=here.bucket)["KeyCount"] == 0
        assert "--profile work" in sync_command(found, "models/", ".") and "AWS_" not in sync_command(found, "models/", ".")
    refuse_keyless({"AWS_PROFILE": "work"}, "s3", None)


def test_keys_that_end_soon_are_renewed_by_themselves_in_one_and_the_same_client(home: Path, settings: StoreSettings) -> None:
    soon = "2020-01-01T00:00:00Z"
    count = profile(home, settings, FAR)
    found = store_settings({"AWS_PROFILE": "work"}, "s3", settings.bucket, AT)
    assert found is not None and found.keys_end is None, "what is renewed has no end that a run must fear"
    client = s3(replace(found, region="us-east-1"))
    client.list_buckets()
    assert count.read_text().count("x") == 1
    credentials = chain.provider("work", metadata=True).load_credentials()
    assert credentials is not None
    credentials._expiry_time = chain.botocore.credentials.parse(soon)  # type: ignore[attr-defined]
    client.list_buckets()
    assert count.read_text().count("x") == 2 and s3(replace(found, region="us-east-1")) is client


def test_nothing_is_taken_by_surprise(home: Path, settings: StoreSettings, machine: KeyServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_EC2_METADATA_SERVICE_ENDPOINT", machine.address)
    count = profile(home, settings)
    assert store_settings({}, None, "my-bucket", AT) is None, "no store is named"
    assert store_settings({"AWS_PROFILE": "work"}, None, None, AT) is None, "a profile of other work, and no bucket is named"
    assert store_settings({"AWS_PROFILE": "work"}, "runpod", "my-bucket", AT) is None
    runpod = {"RUNPOD_S3_ACCESS_KEY": "a", "RUNPOD_S3_SECRET_KEY": "b", "RUNPOD_S3_ENDPOINT": "https://s3api-eu-ro-1.runpod.io"}
    both = store_settings({**runpod, "AWS_PROFILE": "work"}, None, "my-bucket", AT)
    assert both is not None and both.kind == "runpod", "a profile beside another store's keys chooses nothing"
    assert not count.exists() and not machine.asked
    (home / "config").write_text("[profile empty]\nregion = x\n")
    chain._session.cache_clear()
    assert store_settings({"AWS_PROFILE": "empty"}, None, "my-bucket", AT) is None and not machine.asked
    asked = store_settings({}, "aws", "my-bucket", AT)
    assert asked is not None and asked.access_key.reveal() == "ROLEKEY" and machine.asked, "store: aws asks the machine"
    assert asked.session_token is not None and asked.session_token.reveal() == "roletoken"


def test_a_container_s_role_opens_the_store_that_the_stack_names(machine: KeyServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_CONTAINER_CREDENTIALS_FULL_URI", f"{machine.address}/role")
    found = store_settings({}, "aws", "my-bucket", AT)
    assert found is not None and found.access_key.reveal() == "ROLEKEY" and machine.asked == ["/role"]


def test_what_gives_no_keys_says_what_to_do(home: Path, settings: StoreSettings) -> None:
    profile(home, settings)
    with pytest.raises(UserError, match="AWS_PROFILE: The config profile \\(nowhere\\) could not be found") as caught:
        store_settings({"AWS_PROFILE": "nowhere"}, "aws", "my-bucket", AT)
    assert "list-profiles" in str(caught.value.hint)
    with pytest.raises(StoreError, match="profile 'sso' gives no keys now") as over:
        store_settings({"AWS_PROFILE": "sso"}, "aws", "my-bucket", AT)
    assert over.value.hint == "Sign in again: aws sso login --profile sso" and over.value.code == "ExpiredToken"
    (home / "keys.sh").write_text("#!/bin/sh\nexit 3\n")
    with pytest.raises(StoreError, match="profile 'work' gives no keys now"):
        store_settings({"AWS_PROFILE": "work"}, "aws", "my-bucket", AT)
    with pytest.raises(UserError, match="none of its keys is set") as none:
        refuse_keyless({}, "aws", None)
    assert "AWS_PROFILE" in str(none.value.hint)


@pytest.mark.parametrize(
    ("script", "said"),
    [
        ("sleep 300", "its program has not answered in 0 s"),
        ("echo SECRET-WORDS >&2; exit 3", "its program ended with exit code 3"),
        ('echo \'{"SecretAccessKey": "SECRET-WORDS"\'', "its program printed no JSON object"),
        ("echo '[\"SECRET-WORDS\"]'", "its program printed no JSON object"),
        (
            'echo \'{"Version": 1, "AccessKeyId": "A", "SecretAccessKey": "S", "Expiration": "2020-01-01T00:00:00Z"}\'',
            "ended at 2020-01-01",
        ),
        ("", "No such file or directory"),
    ],
)
@pytest.mark.parametrize("name", ["work", "role"])
def test_a_program_that_gives_no_keys_is_waited_for_a_while_and_its_words_are_not_shown(
    home: Path, settings: StoreSettings, monkeypatch: pytest.MonkeyPatch, name: str, script: str, said: str
) -> None:
    monkeypatch.setattr(keyprogram, "LIMIT", 0.4)
    profile(home, settings)
    config = home / "config"
    config.write_text(config.read_text() + "[profile role]\nrole_arn = arn:aws:iam::123456789012:role/x\nsource_profile = work\n")
    (home / "keys.sh").write_text(f"#!/bin/sh\n{script}\n") if script else (home / "keys.sh").unlink()
    with pytest.raises(StoreError, match=f"profile '{name}' gives no keys now") as caught:
        store_settings({"AWS_PROFILE": name}, "s3", settings.bucket, AT)
    assert said in caught.value.message and "credential_process" in str(caught.value.hint)
    assert "SECRET-WORDS" not in str(caught.value)


def test_nobody_is_asked_for_the_code_of_a_device_where_nobody_is(home: Path) -> None:
    text = "[profile mfa]\nrole_arn = arn:aws:iam::123456789012:role/x\nsource_profile = k\nmfa_serial = arn:aws:iam::1:mfa/u\n"
    (home / "config").write_text(text + "[profile k]\naws_access_key_id = A\naws_secret_access_key = S\n")
    with pytest.raises(StoreError, match="the code of an MFA device is asked for, and nobody is there"):
        store_settings({"AWS_PROFILE": "mfa"}, "s3", "my-bucket", AT)


def test_keys_of_the_shell_win_over_a_profile_and_a_profile_is_part_of_what_needs_an_up(home: Path, settings: StoreSettings) -> None:
    count = profile(home, settings)
    keys = {"AWS_ACCESS_KEY_ID": "k", "AWS_SECRET_ACCESS_KEY": "s", "AWS_PROFILE": "work"}
    found = store_settings(keys, "aws", "my-bucket", AT)
    assert found is not None and found.chain is None and not count.exists()
    assert stores_named({"AWS_PROFILE": "work"}) == ["AWS_PROFILE=work"] and stores_named(keys) == ["AWS_ACCESS_KEY_ID is set"]


def session_keys(end: str | None) -> StoreSettings:
    env = {"AWS_ACCESS_KEY_ID": "k", "AWS_SECRET_ACCESS_KEY": "s", "AWS_SESSION_TOKEN": "t"}
    found = store_settings(env | ({"AWS_CREDENTIAL_EXPIRATION": end} if end else {}), "aws", "my-bucket", AT)
    assert found is not None
    return found


def test_a_url_ends_with_the_lease_with_its_keys_or_after_seven_days() -> None:
    now, day = 1_800_000_000.0, 24 * 3600
    plain = session_keys(None)
    assert signing.url_seconds(plain, now) == 12 * 3600
    assert signing.url_seconds(replace(plain, urls_until=now + 90), now) == 90
    assert signing.url_seconds(replace(plain, urls_until=now + 30 * day), now) == 7 * day
    assert signing.url_seconds(replace(plain, urls_until=now - 5), now) == 1
    assert signing.url_seconds(replace(plain, urls_until=now + 90), now, most=60) == 60
    assert signing.url_seconds(replace(plain, urls_until=now + day, keys_end=now + 300), now) == 300
    url = signing.signed_url(replace(plain, keys_end=now * 2, urls_until=now * 2), "get_object", {"Bucket": "my-bucket", "Key": "x"})
    assert parse_qs(urlsplit(url).query)["X-Amz-Expires"] == [str(7 * day)]


def test_session_keys_tell_their_end_where_the_shell_says_it() -> None:
    assert session_keys("2027-01-15T10:00:00+00:00").keys_end == 1_800_007_200.0
    assert session_keys(None).keys_end is None
    with pytest.raises(UserError, match="AWS_CREDENTIAL_EXPIRATION: 'soon' is no time"):
        session_keys("soon")
