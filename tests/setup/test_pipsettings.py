"""pip's own settings reach uv: files in pip's order, then PIP_*, and what the user set for uv stays."""

from __future__ import annotations

from pathlib import Path

import pytest

from trainyard.setup.console import WRONG_MACHINE, SetupError
from trainyard.setup.pipsettings import config_files, for_uv, read


def write(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return path


def test_a_later_file_and_then_the_environment_wins(tmp_path: Path) -> None:
    one = write(tmp_path / "one", "[global]\nindex-url = http://one/\ncert = /one.pem\ntimeout = 5\n")
    two = write(tmp_path / "two", "[global]\nindex_url = http://two/\n[install]\ntrusted-host = a\n    b\n")

    found = read({"PIP_TIMEOUT": "9", "PIP_EXTRA_INDEX_URL": "http://x/ http://y/"}, [one, tmp_path / "absent", two])

    assert found == {
        "index-url": "http://two/",
        "extra-index-url": "http://x/ http://y/",
        "cert": "/one.pem",
        "trusted-host": "a\nb",
        "timeout": "9",
    }


def test_the_section_of_install_wins_over_global_whichever_file_it_is_in(tmp_path: Path) -> None:
    one = write(tmp_path / "one", "[install]\nindex-url = http://install/\n")
    two = write(tmp_path / "two", "[global]\nindex-url = http://global/\n")

    assert read({}, [one, two])["index-url"] == "http://install/"


def test_pip_reads_no_file_at_all_when_told_so(tmp_path: Path) -> None:
    assert config_files({"PIP_CONFIG_FILE": "/dev/null"}, tmp_path) == []


def test_the_files_are_those_of_pip_in_pip_s_order(tmp_path: Path) -> None:
    env = {"PIP_CONFIG_FILE": "/named", "XDG_CONFIG_HOME": "/config", "VIRTUAL_ENV": "/venv", "XDG_CONFIG_DIRS": "/a:/b"}

    found = [str(path) for path in config_files(env, tmp_path)]

    assert found[:3] == ["/b/pip/pip.conf", "/a/pip/pip.conf", "/etc/pip.conf"]
    assert found[-3:] == ["/config/pip/pip.conf", "/venv/pip.conf", "/named"]


def test_a_file_that_is_no_pip_conf_is_named(tmp_path: Path) -> None:
    bad = write(tmp_path / "pip.conf", "index-url = without a section\n")

    with pytest.raises(SetupError, match=r"pip\.conf: not a pip\.conf") as caught:
        read({}, [bad])
    assert caught.value.exit_code == WRONG_MACHINE


def test_uv_gets_every_setting_in_its_own_words(tmp_path: Path) -> None:
    conf = write(
        tmp_path / "pip.conf",
        f"""[global]
index-url = http://index/
extra-index-url = http://x/ http://y/
find-links = {tmp_path} {tmp_path / "absent"} http://links/
cert = /ca.pem
client-cert = /me.pem
proxy = proxy:3128
trusted-host = a b:1
timeout = 7
""",
    )

    found, arguments = for_uv({"PATH": "/bin"}, [conf])

    assert found == {
        "PATH": "/bin",
        "UV_DEFAULT_INDEX": "http://index/",
        "UV_EXTRA_INDEX_URL": "http://x/ http://y/",
        "UV_INDEX_STRATEGY": "unsafe-best-match",
        "UV_FIND_LINKS": f"{tmp_path},http://links/",
        "SSL_CERT_FILE": "/ca.pem",
        "SSL_CLIENT_CERT": "/me.pem",
        "HTTPS_PROXY": "http://proxy:3128",
        "HTTP_PROXY": "http://proxy:3128",
        "UV_INSECURE_HOST": "a b:1",
        "UV_HTTP_TIMEOUT": "7",
    }
    assert arguments == []


@pytest.mark.parametrize(
    ("setting", "env"),
    [
        ("index-url = http://pip/", {"UV_DEFAULT_INDEX": "http://uv/"}),
        ("index-url = http://pip/", {"UV_INDEX_URL": "http://uv/"}),
        ("extra-index-url = http://pip/", {"UV_INDEX": "http://uv/"}),
        ("proxy = http://pip/", {"all_proxy": "http://uv/"}),
        ("cert = /pip.pem", {"SSL_CERT_FILE": "/uv.pem"}),
    ],
)
def test_what_the_user_set_for_uv_or_for_every_program_stays(tmp_path: Path, setting: str, env: dict[str, str]) -> None:
    found, _ = for_uv(env, [write(tmp_path / "pip.conf", f"[global]\n{setting}\n")])

    assert {name: value for name, value in found.items() if name != "UV_SYSTEM_CERTS"} == env


def test_what_would_weaken_the_pins_does_not_reach_uv() -> None:
    found, _ = for_uv({"UV_NO_VERIFY_HASHES": "1", "UV_PYTHON": "3.9", "UV_SYSTEM_PYTHON": "1", "UV_OFFLINE": "1"}, [])

    assert found == {"UV_OFFLINE": "1", "UV_SYSTEM_CERTS": "true"}


@pytest.mark.parametrize(("value", "arguments"), [("true", ["--no-index"]), ("1", ["--no-index"]), ("off", []), ("", [])])
def test_no_index_is_an_argument(value: str, arguments: list[str]) -> None:
    assert for_uv({"PIP_NO_INDEX": value}, [])[1] == arguments
