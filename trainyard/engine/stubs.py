"""Import only the protocol of ``pulumi``, not the SDK: a destroy needs 0.3 s less then.

The SDK is imported only where a program runs in this process; ``pulumi.automation`` and ``pulumi.dynamic``,
which hardly any program uses, then come on demand.
"""

from __future__ import annotations

import importlib.machinery
import importlib.util
import os
import sys
import types
from typing import Any

os.environ.setdefault("GRPC_VERBOSITY", "NONE")  # "Got goaway" at every close says nothing to anybody


def protocol_only() -> None:
    """Make ``import pulumi.runtime.proto`` work without running ``pulumi/__init__.py``."""
    if "pulumi" in sys.modules:
        return
    spec = importlib.util.find_spec("pulumi")
    if spec is None or not spec.submodule_search_locations:
        return
    base = list(spec.submodule_search_locations)
    _stand_in("pulumi", base)
    _stand_in("pulumi.runtime", [os.path.join(path, "runtime") for path in base])


def whole_sdk(program_text: str) -> None:
    """Import the SDK; parts that the program does not name are loaded when somebody asks for them."""
    for name in ("pulumi", "pulumi.runtime"):
        module = sys.modules.get(name)
        if module is not None and getattr(module, "__stand_in__", False):
            del sys.modules[name]
    for part in ("automation", "dynamic"):
        if part not in program_text and f"pulumi.{part}" not in sys.modules:
            _lazy(f"pulumi.{part}")
    import pulumi  # noqa: F401


def _stand_in(name: str, path: list[str]) -> None:
    module = types.ModuleType(name)
    module.__path__ = path
    module.__dict__["__stand_in__"] = True
    module.__spec__ = importlib.machinery.ModuleSpec(name, None, is_package=True)
    module.__spec__.submodule_search_locations = path
    sys.modules[name] = module


def _lazy(name: str) -> None:
    """Put a module in place that becomes the real one at the first look inside."""
    module = types.ModuleType(name)

    def load(attribute: str) -> Any:
        if attribute.startswith("__"):
            raise AttributeError(attribute)
        sys.modules.pop(name, None)
        real = importlib.import_module(name)
        return getattr(real, attribute)

    module.__dict__["__getattr__"] = load
    sys.modules[name] = module
