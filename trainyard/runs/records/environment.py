"""What an environment gives to the runs that stand on it, as its stack's outputs tell it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from trainyard.errors import EngineError
from trainyard.runs.records import codec
from trainyard.runs.records.parts import RunBucket
from trainyard.settings.table import NO_BUCKET


@dataclass(frozen=True, slots=True, kw_only=True)
class EnvironmentOutputs:
    """Fence, bucket and SSH key of an environment; secrets are in clear and never shown."""

    fence_id: str
    ssh_public_key: str
    ssh_key_file: str
    ssh_private_key: str | None = field(default=None, repr=False)
    """None: a person's own key, which is never copied."""
    host_key_seed: str = field(repr=False)
    results: RunBucket | None = None
    """The bucket of results; None where they come home over SSH."""

    @classmethod
    def of_outputs(cls, outputs: Mapping[str, Any]) -> EnvironmentOutputs:
        """Return them from a stack's outputs; raises EngineError where the program does not export them so."""
        with _as_exported():
            return codec.read(cls, {**outputs, "results": None if _no_bucket(outputs) else outputs})


def bucket_in(outputs: Mapping[str, Any]) -> RunBucket | None:
    """Return the bucket that a stack's outputs name, None where they name none; raises EngineError."""
    with _as_exported():
        return None if _no_bucket(outputs) else codec.read(RunBucket, outputs)


def _no_bucket(outputs: Mapping[str, Any]) -> bool:
    return outputs.get("bucket") in (None, "", NO_BUCKET)


@contextmanager
def _as_exported() -> Iterator[None]:
    try:
        yield
    except ValueError as error:
        hint = "The program in infra/ must export what trainyard.program.compose() exports."
        raise EngineError(f"the outputs of the environment are not as runs need them: {error}", hint=hint) from None
