"""Runs: their life, their records, the verbs about them. `trainyard.runs(...)` lists them: the call of that name and this room share it."""

from __future__ import annotations

import sys
from collections.abc import Callable
from types import ModuleType
from typing import TYPE_CHECKING, Any, cast

if TYPE_CHECKING:
    from inspect import Signature


class _CallableRoom(ModuleType):
    """This package, which Python puts where the API's call of its name would be as soon as it is loaded: so it can be called."""

    def __call__(self, *args: object, **kwargs: object) -> object:
        return _call()(*args, **kwargs)

    @property
    def __signature__(self) -> Signature:
        from inspect import signature

        return signature(_call())


def _call() -> Callable[..., Any]:
    import trainyard

    return cast(Callable[..., Any], trainyard.__getattr__("runs"))


sys.modules[__name__].__class__ = _CallableRoom
