"""vLLM behind the server: a process of its own, on a port and with a key that nobody else knows."""

from __future__ import annotations

import contextlib
import gc
import http.client
import os
import secrets
import shutil
import socket
import subprocess
import sys
import threading
from typing import Any

from models import ADAPTER, load
from server import Upstream

_LAST = 30.0
_PROGRAM = "vllm"


class Vllm:
    """The engine, started on a folder with a whole model; an adapter is put into its base's weights first."""

    def __init__(self, folder: str, base: str, name: str, workspace: str) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        self.upstream = Upstream(port, secrets.token_urlsafe(32))
        whole = merged(folder, base, os.path.join(workspace, ".served")) if os.path.exists(os.path.join(folder, ADAPTER)) else folder
        found = shutil.which(_PROGRAM, path=f"{os.path.dirname(sys.executable)}{os.pathsep}{os.environ.get('PATH', '')}")
        if found is None:
            raise OSError("there is no vllm in this environment: engine transformers serves without it")
        argv = [found, "serve", whole, "--served-model-name", name, "--host", "127.0.0.1", "--port", str(port)]
        self._process = subprocess.Popen(argv, env={**os.environ, "VLLM_API_KEY": self.upstream.key})

    def wait(self, told: threading.Event) -> None:
        """Wait until it answers, or until told to stop; raises OSError where it has ended."""
        while not told.wait(1.0):
            self.check()
            link = http.client.HTTPConnection("127.0.0.1", self.upstream.port, timeout=5)
            with contextlib.closing(link), contextlib.suppress(OSError, http.client.HTTPException):
                link.request("GET", "/health")
                if link.getresponse().status == 200:
                    return

    def check(self) -> None:
        """Raise OSError where it has ended."""
        if (code := self._process.poll()) is not None:
            raise OSError(f"vLLM ended by itself (exit code {code}); its words stand above")

    def end(self) -> None:
        """End it."""
        self._process.terminate()
        try:
            self._process.wait(_LAST)
        except subprocess.TimeoutExpired:
            self._process.kill()


def merged(folder: str, base: str, target: str) -> str:
    """Return a folder with the model whose adapter is in its weights, as `invoke merge` makes it."""
    shutil.rmtree(target, ignore_errors=True)
    made: list[Any] = list(load(folder, base))
    for each in made:
        each.save_pretrained(target)
    made.clear()
    gc.collect()
    return target
