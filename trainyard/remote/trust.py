"""Host keys of pods whose image is not ours: taken at the first meeting, written down, refused when they change."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from trainyard.errors import UserError
from trainyard.remote.keys import fingerprint
from trainyard.remote.protocol import Address
from trainyard.remote.ssh import SshTransport, connect


class RecordedKeys:
    """The keys seen so far, by pod, in one file of the run (or environment) that they belong to."""

    def __init__(self, path: Path, say: Callable[[str], object]) -> None:
        self._path, self._say = path, say

    def connect(self, pod_id: str, address: Address, *, timeout: float = 20.0) -> SshTransport:
        """Connect to a pod: pinned when its key is known, else its key is recorded and said aloud.

        Raises HostKeyChanged when the pod shows another key than the one known.
        """
        known = address.host_key or self.known(pod_id)
        if known is not None:
            return connect(replace(address, host_key=known), timeout=timeout)
        return connect(address, timeout=timeout, on_new_host_key=lambda public: self._record(pod_id, public))

    def known(self, pod_id: str) -> str | None:
        """Return the recorded key of a pod."""
        return self._load().get(pod_id)

    def _record(self, pod_id: str, public: str) -> None:
        keys = {**self._load(), pod_id: public}
        part = self._path.with_name(f".{self._path.name}.{os.getpid()}")
        self._path.parent.mkdir(parents=True, exist_ok=True)
        part.write_text(json.dumps(keys, indent=2) + "\n")
        part.replace(self._path)
        self._say(f"pod {pod_id}: host key {fingerprint(public)} taken on trust and recorded; another one will be refused")

    def _load(self) -> dict[str, str]:
        try:
            found = json.loads(self._path.read_text())
        except FileNotFoundError:
            return {}
        except (OSError, ValueError) as error:
            raise UserError(f"{self._path}: the recorded host keys cannot be read ({error})") from None
        return {str(pod): str(key) for pod, key in found.items()}
