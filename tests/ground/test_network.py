"""Proxies and certificates: what the environment names is used or refused in a sentence, and this machine is never asked through one."""

from __future__ import annotations

from pathlib import Path

import pytest

from trainyard import network
from trainyard.errors import UserError


@pytest.mark.parametrize(
    ("env", "found"),
    [
        ({}, None),
        ({"https_proxy": "http://p:1"}, "http://p:1"),
        ({"http_proxy": "http://p:1"}, None),
        ({"HTTPS_PROXY": "p:1", "https_proxy": ""}, "http://p:1"),
        ({"https_proxy": "http://a:1", "HTTPS_PROXY": "http://b:1"}, "http://a:1"),
        ({"HTTPS_PROXY": "http://p:1", "ALL_PROXY": "socks5://p:2"}, "http://p:1"),
        ({"HTTP_PROXY": "http://p:1", "all_proxy": "http://q:2"}, "http://q:2"),
    ],
)
def test_the_proxy_of_an_address(env: dict[str, str], found: str | None) -> None:
    assert network.proxy_for("https://cloud.example/v2", env) == found


@pytest.mark.parametrize(
    ("url", "exempt", "direct"),
    [
        ("https://api.cloud.example/v2", "cloud.example", True),
        ("https://api.cloud.example/v2", ".cloud.example", True),
        ("https://api.cloud.example/v2", "loud.example", False),
        ("https://cloud.example:8443", "other.example, cloud.example", True),
        ("https://cloud.example", "*", True),
        ("https://10.1.2.3", "10.1.2.3", True),
        ("https://[fd00::1]:8443/v2", "fd00::1", True),
        ("https://[fd00::1]:8443/v2", "[fd00::1]", True),
        ("https://[fd00::1]:8443/v2", "fd00::2", False),
        ("http://127.0.0.1:9000", "", True),
        ("http://localhost:9000", "", True),
        ("http://[::1]:9000", "", True),
    ],
)
def test_no_proxy_holds_and_this_machine_is_never_asked_through_one(url: str, exempt: str, direct: bool) -> None:
    assert (network.proxy_for(url, {"ALL_PROXY": "http://p:1", "NO_PROXY": exempt}) is None) is direct


@pytest.mark.parametrize(
    ("value", "says"),
    [
        ("socks5://u:pass-word@127.0.0.1:9", "a proxy of kind 'socks5' is not supported"),
        ("socks5h://127.0.0.1:9", "a proxy of kind 'socks5h' is not supported"),
        ("http://", "is no address of a proxy"),
        ("http://u:pass-word@p:port", "is no address of a proxy"),
        ("http://p:1\r", None),
        ("http://p :1", "is no address of a proxy"),
        ("http://[::1", "is no address of a proxy"),
    ],
)
def test_a_proxy_that_cannot_be_used_is_refused_by_name_without_its_password(value: str, says: str | None) -> None:
    if says is None:
        assert network.proxy_for("https://h", {"ALL_PROXY": value}) == value.strip()
        return
    with pytest.raises(UserError) as caught:
        network.proxy_for("https://h", {"ALL_PROXY": value})

    assert caught.value.message.startswith("ALL_PROXY: ") and says in caught.value.message
    assert "pass-word" not in str(caught.value)


def test_where_a_proxy_is_named_this_machine_is_excepted_for_every_client() -> None:
    assert network.loopback_direct({"PATH": "/bin"}) == {}
    hosts = "127.0.0.1,localhost,::1,corp.example"
    assert network.loopback_direct({"http_proxy": "http://p:1", "NO_PROXY": "corp.example"}) == {"no_proxy": hosts, "NO_PROXY": hosts}
    assert network.loopback_direct({"grpc_proxy": "http://p:1", "no_grpc_proxy": "x"})["no_grpc_proxy"] == "127.0.0.1,localhost,::1"


@pytest.mark.parametrize(("text", "says"), [(None, "cannot be read: No such file"), ("nothing\n", "holds no certificates")])
def test_a_bad_certificate_file_is_named(tmp_path: Path, text: str | None, says: str) -> None:
    path = tmp_path / "certs.pem"
    if text is not None:
        path.write_text(text)

    with pytest.raises(UserError) as caught:
        network.trust({"SSL_CERT_FILE": str(path)})

    assert caught.value.message.startswith(f"SSL_CERT_FILE: {path} {says}")


@pytest.mark.parametrize("value", ["api.runpod.io/v2", "https://", "https://h:x", "https://h\r", "https://u:pass-word@[::1"])
def test_what_is_no_address_is_refused_without_its_password(value: str) -> None:
    with pytest.raises(UserError, match="is no http address") as caught:
        network.web_address("RUNPOD_API_URL", value)

    assert "pass-word" not in str(caught.value)


def test_an_address_with_a_password_is_refused_without_showing_it() -> None:
    with pytest.raises(UserError, match="leave out the name and the password") as caught:
        network.web_address("R2_ENDPOINT_URL", "https://u:pass-word@h")

    assert "pass-word" not in str(caught.value)
