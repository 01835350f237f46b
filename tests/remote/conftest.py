"""A real SSH server for the module, and a proxy before it for the tests of bad links."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.remote import sshd
from tests.remote.proxy import Proxy
from trainyard.remote.transport import Address, LocalTransport, SshTransport, Transport, connect, dial


def pytest_report_header() -> str:
    return f"ssh server of the tests: {sshd.kind()}"


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[sshd.Server]:
    server = sshd.start(tmp_path_factory.mktemp("sshd"))
    yield server
    server.stop()


@pytest.fixture
def ssh(server: sshd.Server) -> Iterator[SshTransport]:
    with connect(server.address) as transport:
        yield transport


@pytest.fixture(params=["local", "ssh", "command"])
def transport(request: pytest.FixtureRequest, server: sshd.Server) -> Iterator[Transport]:
    """The same test over all transports."""
    by_command = Address("by command", command=("sh", "-c"))
    ways: dict[str, Callable[[], Transport]] = {
        "local": LocalTransport,
        "ssh": lambda: connect(server.address),
        "command": lambda: dial(by_command),
    }
    with ways[request.param]() as transport:
        yield transport


@pytest.fixture
def proxy(server: sshd.Server) -> Iterator[Proxy]:
    proxy = Proxy(server.address)
    yield proxy
    proxy.close()


@pytest.fixture
def pod(tmp_path: Path) -> Path:
    """A folder that plays $WORKSPACE on the pod."""
    folder = tmp_path / "pod"
    folder.mkdir()
    return folder
