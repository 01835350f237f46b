"""Defects that the fault matrices have found, each as a case of its own."""

from __future__ import annotations

import socket
import time
from types import SimpleNamespace

import pytest

from trainyard.engine.plugin import Plugin
from trainyard.engine.provider import ProviderError


def test_a_plugin_that_dies_between_its_port_and_its_handshake_is_not_waited_for() -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{unused.getsockname()[1]}"
    began = time.monotonic()

    with pytest.raises(ProviderError, match="died during Handshake"):
        Plugin("toy", address, SimpleNamespace(exit_code=-9), None, "127.0.0.1:1", lambda *_: None)  # type: ignore[arg-type]

    assert time.monotonic() - began < 20
