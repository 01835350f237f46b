"""Runs: their life, their records, the verbs about them. `trainyard.runs(...)` lists them: the call of that name and this room share it."""

from __future__ import annotations

import sys
from collections.abc import Callable
from types import ModuleType
from typing import TYPE_CHECKING, Any, cast

if TYPE_CHECKING:
    from inspect import Signature


class _CallableRoom(ModuleType):
    """This package, which Python puts where the API's call of its name would be as soon as it is loaded: so it can be called.

    In a pickle (a task of a process pool, say) it is a reference, as a function is.
    """

    def __call__(self, *args: object, **kwargs: object) -> object:
        return _call()(*args, **kwargs)

    def __reduce__(self) -> tuple[Callable[[str], ModuleType], tuple[str]]:
        from importlib import import_module

        return import_module, (self.__name__,)

    @property
    def __signature__(self) -> Signature:
        from inspect import signature

        return signature(_call())


def _call() -> Callable[..., Any]:
    from importlib import import_module

    return cast(Callable[..., Any], import_module("trainyard.api.calls").runs)


sys.modules[__name__].__class__ = _CallableRoom
