"""The program that a profile's ``credential_process`` names: it may hang, fail, or print what nobody must see."""

from __future__ import annotations

import subprocess
from datetime import UTC, datetime
from typing import Any

from botocore.credentials import CredentialProvider, ProcessProvider
from botocore.exceptions import CredentialRetrievalError

from trainyard.clock import parse_iso
from trainyard.jsontext import parse_json

LIMIT = 120.0
"""Seconds in which it must have answered; a person may have to touch a device, or to sign in."""


def limit(link: CredentialProvider) -> None:
    """Let what a link of botocore's chain starts end in time, and show nothing of its words: botocore itself waits for ever."""
    if isinstance(link, ProcessProvider):
        link._popen = _start
    builder = getattr(link, "_profile_provider_builder", None)  # of a role's source_profile
    if builder is not None:
        make = builder._create_process_provider

        def limited(profile_name: str) -> ProcessProvider:
            provider: ProcessProvider = make(profile_name)
            limit(provider)
            return provider

        builder._create_process_provider = limited


def _start(words: list[str], **pipes: Any) -> subprocess.Popen[bytes]:
    try:
        return _KeyProgram(words, **pipes)
    except OSError as error:
        raise _trouble(f"{words[0]}: {error.strerror}") from None


class _KeyProgram(subprocess.Popen[bytes]):
    """A program that is waited for no longer than LIMIT, and whose answer is keys that hold now."""

    def communicate(self, input: bytes | None = None, timeout: float | None = None) -> tuple[bytes, bytes]:
        """Return what it printed; raises CredentialRetrievalError for anything else than keys."""
        try:
            answer, said = super().communicate(input, LIMIT if timeout is None else timeout)
        except subprocess.TimeoutExpired:
            self.kill()
            self.wait()
            for pipe in (self.stdout, self.stderr):  # a child of it may hold the other ends for ever
                if pipe is not None:
                    pipe.close()
            raise _trouble(f"its program has not answered in {LIMIT:.0f} s") from None
        if self.returncode:
            raise _trouble(f"its program ended with exit code {self.returncode}; its words may hold a secret and are not shown here")
        try:
            keys = parse_json(answer)
        except ValueError:
            keys = None
        if not isinstance(keys, dict):
            raise _trouble("its program printed no JSON object")
        end = parse_iso(keys.get("Expiration"))
        if end is not None and end.astimezone(UTC) <= datetime.now(UTC):
            raise _trouble(f"the keys that its program printed ended at {keys['Expiration']:.40}")
        return answer, said


def _trouble(what: str) -> CredentialRetrievalError:
    return CredentialRetrievalError(provider=ProcessProvider.METHOD, error_msg=what)
