"""What the engine asks of any provider, and what it gets back. ``Plugin`` and ``CommandProvider`` answer it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

from trainyard.engine.hook import EngineError
from trainyard.engine.kinds import Properties


class ProviderError(EngineError):
    """A provider failed. ``maybe`` says that the call may have had an effect all the same."""

    def __init__(self, message: str, *, maybe: bool = False) -> None:
        super().__init__(message)
        self.maybe = maybe


@dataclass(frozen=True, slots=True)
class Checked:
    """Answer of a check: the inputs to use, or why they are wrong as (property, reason)."""

    inputs: Properties
    failures: list[tuple[str, str]] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class DiffAnswer:
    """Answer of a diff; ``changes`` None means that the provider cannot tell."""

    changes: bool | None
    replace_keys: list[str] = field(default_factory=list)
    changed_keys: list[str] = field(default_factory=list)
    detailed: Mapping[str, str] | None = None
    delete_before_replace: bool = False
    unavailable: bool = False

    @property
    def replaces(self) -> bool:
        """Whether the change needs another resource."""
        return bool(self.replace_keys) or any(kind.endswith("REPLACE") for kind in (self.detailed or {}).values())


@dataclass(frozen=True, slots=True)
class ResourceOutcome:
    """What a create, update or read left: with ``reasons`` it exists but is not as it should be."""

    id: str
    outputs: Properties
    inputs: Properties | None = None
    reasons: list[str] = field(default_factory=list)


class Provider(Protocol):
    """One configured provider."""

    @property
    def adopts_pending(self) -> bool:
        """Whether Read with an empty id finds what an interrupted Create left."""

    def check_config(self, urn: str, olds: Properties, news: Properties) -> Checked:
        """Check the settings of the provider itself."""

    def diff_config(self, urn: str, old_inputs: Properties, old_outputs: Properties, news: Properties, ignore: list[str]) -> DiffAnswer:
        """Compare the settings of the provider itself."""

    def configure(self, urn: str, identity: str, inputs: Properties) -> None:
        """Give the provider its settings."""

    def check(self, urn: str, olds: Properties | None, news: Properties, seed: bytes) -> Checked:
        """Check inputs and fill in defaults."""

    def diff(
        self, urn: str, identity: str, old_inputs: Properties, old_outputs: Properties, news: Properties, ignore: list[str]
    ) -> DiffAnswer:
        """Compare what there is with what is wanted."""

    def create(self, urn: str, inputs: Properties, timeout: float, preview: bool) -> ResourceOutcome:
        """Create a resource."""

    def update(
        self,
        urn: str,
        identity: str,
        old_inputs: Properties,
        old_outputs: Properties,
        inputs: Properties,
        timeout: float,
        ignore: list[str],
        preview: bool,
    ) -> ResourceOutcome:
        """Change a resource."""

    def read(self, urn: str, identity: str, inputs: Properties, outputs: Properties, timeout: float) -> ResourceOutcome:
        """Return what there is; an empty id means that there is nothing."""

    def delete(self, urn: str, identity: str, inputs: Properties, outputs: Properties, timeout: float) -> None:
        """Delete a resource; one that is gone already is no error."""

    def invoke(self, token: str, arguments: Properties, preview: bool) -> tuple[Properties, list[tuple[str, str]]]:
        """Call a function of the package; returns its result or its failures."""

    def cancel(self) -> None:
        """Ask the provider to end what it is doing soon."""

    def close(self) -> None:
        """Stop the provider."""
