"""A run does not depend on how its surroundings are: the checkout's path, proxies, profiles of other tools."""

import shutil
import tempfile
from pathlib import Path

import pytest

from tests.e2e.yard import Yard

ODD = "a b+ä#c%20d'e&f"
PROXY = "http://127.0.0.1:9"  # nobody listens there
OTHERS = {
    "http_proxy": PROXY, "https_proxy": PROXY, "grpc_proxy": PROXY, "HTTP_PROXY": PROXY, "ALL_PROXY": "socks5://127.0.0.1:9",
    "AWS_PROFILE": "work-sso", "AWS_CONFIG_FILE": "/nowhere", "AWS_ENDPOINT_URL": PROXY, "AWS_CA_BUNDLE": "/nowhere",
    "no_proxy": "", "NO_PROXY": "",
}  # fmt: skip


@pytest.fixture
def odd():
    base = Path(tempfile.mkdtemp(prefix="ty", dir="/tmp"))
    (base / ODD).mkdir()
    made = Yard(base / ODD)
    yield made
    made.close()
    shutil.rmtree(base, ignore_errors=True)


def test_a_checkout_in_any_path_behind_any_proxy_trains_on_this_machine(odd):
    odd.extra = OTHERS

    done = odd.invoke(*odd.train("--name", "a", "--json", steps=2)).expect()

    summary = done.json()
    assert summary["success"] and summary["s3_url"]
    odd.invoke("download", "tester/a", str(odd.base / "got")).expect()
    assert list((odd.base / "got").rglob("*"))
    assert {path.name for path in odd.base.iterdir()} == {"w", "c", "o", "got"}
    odd.invoke("destroy", "--stack", "local", "--yes").expect()
